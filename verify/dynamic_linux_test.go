package verify

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// streamed is a reader that can do nothing else.
type streamed struct{ io.Reader }

// TestNeedsOfThisMachine holds what is read of every program and library of this machine against debug/elf, as a stream and as a file.
func TestNeedsOfThisMachine(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, root := range []string{"/usr/bin", "/usr/sbin", "/usr/lib"} {
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || seen >= 500 {
				return nil
			}
			info, err := d.Info()
			if err != nil || info.Size() > 16<<20 || info.Size() < headSize {
				return nil
			}
			f, err := os.Open(name)
			if err != nil {
				return nil
			}
			defer func() { _ = f.Close() }()
			want, err := elf.NewFile(f)
			if err != nil || want.Type != elf.ET_DYN && want.Type != elf.ET_EXEC {
				return nil
			}
			libs, err := want.ImportedLibraries()
			if err != nil {
				return nil
			}
			dt, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			seen++
			for kind, r := range map[string]io.Reader{"stream": streamed{bytes.NewReader(dt)}, "file": bytes.NewReader(dt)} {
				e, _, err := readFile(r, name, info.Size(), true)
				if err != nil {
					t.Fatal(err)
				}
				switch c := e.code; {
				case c == nil:
					t.Errorf("%s (%s): no machine code", name, kind)
				case c.Object: // for debuggers
				case c.Invalid != "":
					t.Errorf("%s (%s): %s", name, kind, c.Invalid)
				case c.Unread:
					t.Errorf("%s (%s): not read", name, kind)
				default:
					if diff := cmp.Diff(libs, c.Needs); diff != "" && len(libs)+len(c.Needs) > 0 {
						t.Errorf("%s (%s): needs (-want +got)\n%s", name, kind, diff)
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Log(seen, "files")
	if seen == 0 {
		t.Error("no ELF files on this machine")
	}
}

// TestGoLevels reads the level that Go's compiler was told, of programs that it makes.
func TestGoLevels(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/m\n\ngo 1.22\n", "main.go": "package main\n\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		env   []string
		level string
		built bool
	}{
		{env: []string{"GOARCH=arm", "GOARM=7"}, level: "v7", built: true},
		{env: []string{"GOARCH=amd64", "GOAMD64=v3"}, level: "v3", built: true},
		{env: []string{"GOARCH=arm64"}},
	} {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-trimpath", "-o", "app", ".")
		cmd.Dir, cmd.Env = dir, append(append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false"), tc.env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", tc.env, err, out)
		}
		dt, err := os.ReadFile(filepath.Join(dir, "app"))
		if err != nil {
			t.Fatal(err)
		}
		for kind, r := range map[string]io.Reader{"stream": streamed{bytes.NewReader(dt)}, "file": bytes.NewReader(dt)} {
			e, _, err := readFile(r, "app", int64(len(dt)), true)
			if err != nil {
				t.Fatal(err)
			}
			if e.code.Level != tc.level || e.code.Built != tc.built {
				t.Errorf("%v (%s): level %q, built %v, want %q, %v", tc.env, kind, e.code.Level, e.code.Built, tc.level, tc.built)
			}
		}
		cut := dt[:len(dt)/2]
		if e, _, err := readFile(streamed{bytes.NewReader(cut)}, "app", int64(len(cut)), true); err != nil || e.code.Invalid == "" {
			t.Errorf("%v: half of it is taken for a program: %v", tc.env, err)
		}
	}
}

// TestHeadersAtTheEnd moves the program headers of a program of this machine behind all else, as tools do that add to programs: Linux runs it.
func TestHeadersAtTheEnd(t *testing.T) {
	t.Parallel()
	dt, err := os.ReadFile("/bin/true")
	if err != nil || !bytes.HasPrefix(dt, []byte("\x7fELF\x02\x01")) {
		t.Fatal("/bin/true is no ELF file of 64 bits", err)
	}
	const offset, size, count = 32, 54, 56 // e_phoff, e_phentsize, e_phnum of ELF64
	at, n := binary.LittleEndian.Uint64(dt[offset:]), uint64(binary.LittleEndian.Uint16(dt[size:]))*uint64(binary.LittleEndian.Uint16(dt[count:]))
	for len(dt)%8 != 0 {
		dt = append(dt, 0)
	}
	binary.LittleEndian.PutUint64(dt[offset:], uint64(len(dt)))
	dt = append(dt, dt[at:][:n]...)
	program := filepath.Join(t.TempDir(), "true")
	if err := os.WriteFile(program, dt, 0o755); err != nil {
		t.Fatal(err)
	}
	for kind, r := range map[string]io.Reader{"stream": streamed{bytes.NewReader(dt)}, "file": bytes.NewReader(dt)} {
		e, _, err := readFile(r, "true", int64(len(dt)), true)
		if err != nil || e.code.Invalid != "" || e.code.Interp == "" || len(e.code.Needs) == 0 {
			t.Errorf("%s: %+v %v", kind, e.code, err)
		}
	}
}

// TestFloat: a loader takes no library that passes floating-point numbers in another way, as glibc's looks at it.
func TestFloat(t *testing.T) {
	t.Parallel()
	hard, soft, silent := Code{Arch: "arm", HardFloat: true}, Code{Arch: "arm", SoftFloat: true}, Code{Arch: "arm"}
	for interp, want := range map[string][3]bool{"/lib/ld-linux-armhf.so.3": {true, false, true}, "/lib/ld-linux.so.3": {false, true, true}, "/lib/ld-musl-armhf.so.1": {true, false, true}} {
		program := Code{Arch: "arm", Interp: interp}
		if got := [3]bool{program.fitsFloat(hard), program.fitsFloat(soft), program.fitsFloat(silent)}; got != want {
			t.Errorf("%s: %v, want %v", interp, got, want)
		}
	}
}
