package builder

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tonistiigi/fsutil"

	"github.com/manifold-build/manifold/platforms"
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

// TestLauncher takes the accelerator that is the node's machine's: of several, that which is named for it.
func TestLauncher(t *testing.T) {
	dir := t.TempDir()
	for name, machine := range map[string]elf.Machine{
		"accel": elf.EM_X86_64, "accel-linux-riscv64": elf.EM_RISCV, "accel-linux-arm64": elf.EM_X86_64, "linux_arm64/accel": elf.EM_AARCH64, "accel-linux-amd64": elf.EM_X86_64,
	} {
		header := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 57)...)
		binary.LittleEndian.PutUint16(header[16:], uint16(elf.ET_EXEC))
		binary.LittleEndian.PutUint16(header[18:], uint16(machine))
		binary.LittleEndian.PutUint32(header[20:], uint32(elf.EV_CURRENT))
		binary.LittleEndian.PutUint16(header[52:], 64)
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), header, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for native, want := range map[string]string{
		"linux/amd64": "accel-linux-amd64", "linux/riscv64": "accel-linux-riscv64", "linux/arm64": "linux_arm64/accel", "linux/s390x": "", "linux/ppc64le": "", "windows/amd64": "",
	} {
		p, err := platforms.Parse(native)
		if err != nil {
			t.Fatal(err)
		}
		b := worker{Builder{Accelerator: filepath.Join(dir, "accel")}, &Node{Host: platforms.Host{Native: p}}}
		if want != "" {
			want = filepath.Join(dir, want)
		}
		if got := b.launcher(); got != want || b.Accelerates(b.node) != (want != "") {
			t.Errorf("%s: %q, want %q", native, got, want)
		}
	}
	if got := (worker{node: new(Node)}).launcher(); got != "" {
		t.Errorf("%q without any", got)
	}
}
