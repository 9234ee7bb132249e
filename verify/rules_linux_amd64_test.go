package verify

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestLibraries takes a program of this machine with all the libraries that its loader finds for it, and then without each of them.
func TestLibraries(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "ldd", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	root := fstest.MapFS{}
	put := func(name string) string {
		target, err := filepath.EvalSymlinks(name)
		if err != nil {
			t.Fatal(err)
		}
		dt, err := os.ReadFile(target)
		if err != nil {
			t.Fatal(err)
		}
		root[strings.TrimPrefix(name, "/")] = &fstest.MapFile{Data: dt, Mode: 0o755}
		return strings.TrimPrefix(name, "/")
	}
	var libs []string
	for line := range strings.Lines(string(out)) {
		for word := range strings.FieldsSeq(line) {
			if strings.HasPrefix(word, "/") {
				libs = append(libs, put(word))
			}
		}
	}
	put(program)
	image := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, Config: ocispec.ImageConfig{Cmd: []string{program}}}
	want := Want{Platform: parsed(t, "linux/amd64")}
	report, err := FS(root, image, want)
	if err != nil || report.Verdict != Verified {
		t.Fatal(report.Verdict, report.Err(), err)
	}
	for _, lib := range libs {
		without := fstest.MapFS{}
		for name, f := range root {
			if name != lib {
				without[name] = f
			}
		}
		report, err := FS(without, image, want)
		if err != nil || report.Verdict != Refused || len(report.Refused) != 1 || !strings.Contains(report.Refused[0].Message, filepath.Base(lib)) {
			t.Errorf("without %s: %v %v %v", lib, report.Verdict, report.Refused, err)
		}
	}
}
