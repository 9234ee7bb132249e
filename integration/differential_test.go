package integration

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// quickDifferential are the cases that every test run builds; MANIFOLD_DIFFERENTIAL=all builds them all.
var quickDifferential = []string{"go-install", "static", "node-modules"}

// TestMovedIsWhatEmulationMakes builds each case of testdata/differential both ways, moved and emulated, and compares the
// root filesystems: the same paths, types, modes, owners and links, and the same bytes but for what a Go compiler wrote. That has to be
// for the same architecture, of the same modules and with the same settings, cgo's apart.
func TestMovedIsWhatEmulationMakes(t *testing.T) {
	sb := sandbox.Start(t)
	files, err := filepath.Glob("testdata/differential/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, name := range files {
		base := strings.TrimSuffix(filepath.Base(name), ".txtar")
		if os.Getenv("MANIFOLD_DIFFERENTIAL") != "all" && !slices.Contains(quickDifferential, base) {
			continue
		}
		t.Run(base, func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			for _, f := range archive.Files {
				write(t, dir, f.Name, string(f.Data))
			}
			moved := exported(t, sb, dir, "auto")
			emulated := exported(t, sb, dir, "emulate")
			if diff := cmp.Diff(emulated, moved); diff != "" {
				t.Errorf("(-emulated +moved)\n%s", diff)
			}
		})
	}
}

// exported builds a folder for linux/arm64 and describes each file of the result. A stage has to be moved under auto, and none otherwise.
func exported(t *testing.T, sb *sandbox.Sandbox, dir, strategy string) map[string]string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "rootfs.tar")
	res, err := sb.Exec(t.Context(), dir, "manifold", "build", "--progress=plain", "--strategy", strategy, "--platform", "linux/arm64", "-o", "type=tar,dest="+out, ".")
	if err != nil {
		t.Fatal(err)
	}
	if res.Code != 0 {
		t.Fatalf("%s: exit code %d\n%s", strategy, res.Code, res.Stderr)
	}
	if moved := strings.Contains(res.Stderr, "[manifold] linux/arm64:") && !strings.Contains(res.Stderr, "after all"); moved != (strategy == "auto") {
		t.Fatalf("%s: a stage was moved: %v\n%s", strategy, moved, res.Stderr)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	files := map[string]string{}
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = fmt.Sprintf("%c %o %d:%d %s %v\n%s", h.Typeflag, h.Mode, h.Uid, h.Gid, h.Linkname, h.PAXRecords, describe(t, content))
	}
}

// describe returns a file's content, or for a program of Go's what has to be equal of it.
func describe(t *testing.T, content []byte) string {
	t.Helper()
	info, err := buildinfo.Read(bytes.NewReader(content))
	if err != nil {
		return string(content)
	}
	program, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	info.Settings = slices.DeleteFunc(info.Settings, func(s debug.BuildSetting) bool { return strings.HasPrefix(s.Key, "CGO_") })
	return fmt.Sprintf("%s %s\n%s", program.Machine, program.Class, info)
}
