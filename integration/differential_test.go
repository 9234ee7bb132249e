package integration

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// TestMovedIsWhatEmulationMakes builds cases of testdata/differential both ways, moved and emulated, and compares the
// root filesystems: the same paths, types, modes, owners and links, and the same bytes but for what a Go compiler wrote. That has to be
// for the same architecture, of the same modules and with the same settings, cgo's apart. A fifth of the cases is built, another one each day, but for
// those whose comment says "slow:", which minutes of emulation take; MANIFOLD_DIFFERENTIAL=all builds them all, and a name that one alone.
//
// A case's comment may say "expect: stays" (no stage is moved) "expect: back" (a stage is moved in vain and put back), "expect: pinned" (the
// user has put a stage on the build platform), or "expect: accelerated" (a stage stays, and other compilers are called in it): then what Go's
// compilers wrote has to be the same to the last byte too.
func TestMovedIsWhatEmulationMakes(t *testing.T) {
	sb := sandbox.Start(t)
	files, err := filepath.Glob("testdata/differential/*.txtar")
	if err != nil || len(files) < 40 {
		t.Fatal("too few cases", len(files), err)
	}
	chosen := os.Getenv("MANIFOLD_DIFFERENTIAL")
	for i, name := range files {
		base := strings.TrimSuffix(filepath.Base(name), ".txtar")
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		slow := strings.Contains(string(archive.Comment), "slow: ")
		if chosen != "all" && chosen != base && (chosen != "" || slow || i%parts != time.Now().YearDay()%parts) {
			continue
		}
		t.Run(base, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range archive.Files {
				// The standard library is compiled there, for the emulated compiler would take minutes for it.
				write(t, dir, f.Name, strings.ReplaceAll(string(f.Data), "golang:1.26 ", "golang:1.26-warm "))
			}
			_, expect, _ := strings.Cut(string(archive.Comment), "expect: ")
			expect = strings.TrimSpace(expect)
			moved := exported(t, sb, dir, "auto", expect)
			switch expect {
			case "pinned":
			case "accelerated":
				expect = "emulated"
			default:
				expect = "stays"
			}
			emulated := exported(t, sb, dir, "emulate", expect)
			if diff := cmp.Diff(emulated, moved); diff != "" {
				t.Errorf("(-emulated +moved)\n%s", diff)
			}
		})
	}
}

// parts is how many days it takes to build all cases.
const parts = 5

// movedStage matches what a build says of a stage that it moves.
var movedStage = regexp.MustCompile(`\[manifold\] linux/arm64:.* (cross|shared) \(`)

// exported builds a folder for linux/arm64 and describes each file of the result. What becomes of the stages has to be as expected: "stays", "back", "pinned", "accelerated", "emulated" or moved.
func exported(t *testing.T, sb *sandbox.Sandbox, dir, strategy, expect string) map[string]string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "rootfs.tar")
	args := []string{"manifold", "build", "--progress=plain", "--strategy", strategy, "--platform", "linux/arm64", "-o", "type=tar,dest=" + out, "."}
	if dt, err := os.ReadFile(filepath.Join(dir, "Dockerfile")); err != nil {
		t.Fatal(err)
	} else if bytes.Contains(dt, []byte("--from=crates ")) {
		crates, err := sandbox.Crates(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, "--build-context", "crates="+crates)
	}
	res, err := sb.Exec(t.Context(), dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	if res.Code != 0 {
		t.Fatalf("%s: exit code %d\n%s", strategy, res.Code, res.Stderr)
	}
	moved, back := movedStage.MatchString(res.Stderr), strings.Contains(res.Stderr, "after all")
	accelerated, exact := strings.Contains(res.Stderr, " accelerate ("), expect == "accelerated" || expect == "emulated"
	if moved != (expect != "stays" && !exact) || back != (expect == "back") || exact && accelerated != (expect == "accelerated") {
		t.Fatalf("%s, expected %q: moved %v, put back %v, accelerated %v\n%s", strategy, expect, moved, back, accelerated, res.Stderr)
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
		is := describe(t, content)
		if exact {
			is = fmt.Sprintf("%s\nsha256 %x", is, sha256.Sum256(content))
		}
		files[h.Name] = fmt.Sprintf("%c %o %d:%d %s %v\n%s", h.Typeflag, h.Mode, h.Uid, h.Gid, h.Linkname, h.PAXRecords, is)
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
