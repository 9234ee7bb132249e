package builder

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tonistiigi/fsutil"
)

// TestOneFile: of a folder with secrets the program is served, and nothing else.
func TestOneFile(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a[b]*", "secret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("a[b]*", link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "a[b]*"), link} {
		folder, err := fsutil.NewFilterFS(oneFile(path), &fsutil.FilterOpt{IncludePatterns: []string{"**"}})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		err = folder.Walk(t.Context(), "/", func(name string, d fs.DirEntry, err error) error {
			names = append(names, name)
			if info, e := d.Info(); e != nil || info.Size() != int64(len("a[b]*")) || !info.Mode().IsRegular() {
				t.Errorf("%s is %v, %v", name, info, e)
			}
			return err
		})
		if diff := cmp.Diff([]string{programName}, names); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got)\n%s", path, err, diff)
		}
		f, err := folder.Open(programName)
		if err != nil {
			t.Fatal(err)
		}
		if dt, err := io.ReadAll(f); string(dt) != "a[b]*" || errors.Join(err, f.Close()) != nil {
			t.Errorf("it holds %q, %v", dt, err)
		}
		for _, name := range []string{"secret", "../secret", "a[b]*", "."} {
			if f, err := oneFile(path).Open(name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is served, %v, %v", name, f, err)
			}
		}
	}
	if err := oneFile(filepath.Join(dir, "missing")).Walk(t.Context(), "", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing program: %v", err)
	}
}
