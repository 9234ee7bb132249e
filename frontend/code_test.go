package frontend

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/manifold-build/manifold/platforms"
)

// elfHead is the beginning of an ELF file of a machine, by its number in the ELF specification.
func elfHead(machine uint16) []byte {
	head := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 11)...)
	return binary.LittleEndian.AppendUint16(head, machine)
}

const (
	machineAMD64 = 62
	machineARM64 = 183
	machineBPF   = 247
)

func TestChosenHere(t *testing.T) {
	amd64, arm64 := platforms.Platform{OS: "linux", Architecture: "amd64"}, platforms.Platform{OS: "linux", Architecture: "arm64"}
	b := &build{host: platforms.Host{Native: amd64}}
	for _, test := range []struct {
		name string
		code []code
		want string
	}{
		{"nothing", nil, ""},
		{"the target's", []code{{"/app/x", "arm64"}}, ""},
		{"the build platform's", []code{{"/app/x", "amd64"}}, "/app/x is machine code for amd64"},
		{"of the same processor", []code{{"/app/x", "386"}}, "/app/x is machine code for 386"},
		{"of no image's machine", []code{{"/app/x.o", ""}}, ""},
		{"of a third machine", []code{{"/app/x", "s390x"}}, ""},
		{"with a twin", []code{{"/p/linux-x64/a.node", "amd64"}, {"/p/linux-arm64/a.node", "arm64"}}, ""},
		{"with another's twin", []code{{"/p/linux-x64/a.node", "amd64"}, {"/q/a.node", "arm64"}}, "/p/linux-x64/a.node is machine code for amd64"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := b.chosenHere(test.code, arm64); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestArchives: machine code is found in archives of every kind that is read, and in those in them; one that is not read is an error.
func TestArchives(t *testing.T) {
	add := elfHead(machineAMD64)
	inner := zipped(t, map[string][]byte{"META-INF/native/lib.so": add, "a/B.class": add})
	for _, test := range []struct {
		name    string
		content []byte
		want    []code
		problem string
	}{
		{"program", add, []code{{"/program", "amd64"}}, ""},
		{"text", []byte(strings.Repeat("no archive ", 10)), nil, ""},
		{"app.jar", zipped(t, map[string][]byte{"lib/netty.jar": inner}), []code{{"/app.jar!lib/netty.jar!META-INF/native/lib.so", "amd64"}}, ""},
		{"b.tgz", gzipped(t, tarred(t, "node_modules/a.node", add)), []code{{"/b.tgz!node_modules/a.node", "amd64"}}, ""},
		{"b.tar", tarred(t, "x.o", elfHead(machineBPF)), []code{{"/b.tar!x.o", ""}}, ""},
		{"b.tar.zst", zstandard(t, tarred(t, "a.so", elfHead(machineARM64))), []code{{"/b.tar.zst!a.so", "arm64"}}, ""},
		{"c.gem", tarred(t, "data.tar.gz", gzipped(t, tarred(t, "lib/c.so", add))), []code{{"/c.gem!data.tar.gz!lib/c.so", "amd64"}}, ""},
		{"d.deb", arred(t, "data.tar.gz", gzipped(t, tarred(t, "usr/bin/d", add))), []code{{"/d.deb!data.tar.gz!usr/bin/d", "amd64"}}, ""},
		{"page.html.gz", gzipped(t, []byte(strings.Repeat("text", 100))), nil, ""},
		{"program.gz", gzipped(t, add), []code{{"/program.gz", "amd64"}}, ""},
		{"e.tar.xz", append([]byte("\xfd7zXZ\x00"), make([]byte, 40)...), nil, "/e.tar.xz: /e.tar.xz is compressed in a way that is not read (xz)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, test.name), test.content, 0o600); err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(lookReport{test.want, test.problem}, lookIn(root, []string{"/" + test.name})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestLookIn: patterns and links of the root filesystem are followed inside it, and what is not there is no error.
func TestLookIn(t *testing.T) {
	dir := t.TempDir()
	for name, link := range map[string]string{"srv/app/bin/x": "", "app": "/srv/app", "srv/rel": "../srv/app/bin", "etc/a.conf": "", "out": "/../../../etc"} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if link != "" {
			err = os.Symlink(link, name)
		} else {
			err = os.WriteFile(name, elfHead(machineAMD64), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]code{
		"/app/bin":    {{"/srv/app/bin/x", "amd64"}},
		"/app":        {{"/srv/app/bin/x", "amd64"}},
		"/app/bin/*":  {{"/srv/app/bin/x", "amd64"}},
		"/srv/rel/x":  {{"/srv/app/bin/x", "amd64"}},
		"/out/a.conf": {{"/etc/a.conf", "amd64"}},
		"/nothing":    nil,
	} {
		if diff := cmp.Diff(lookReport{Code: want}, lookIn(root, []string{path})); diff != "" {
			t.Errorf("%s (-want +got)\n%s", path, diff)
		}
	}
}

func zipped(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, content := range files {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarred(t *testing.T, name string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Typeflag: tar.TypeReg, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func arred(t *testing.T, name string, content []byte) []byte {
	t.Helper()
	out := fmt.Appendf([]byte("!<arch>\n"), "%-16s%-12d%-6d%-6d%-8s%-10d`\n", "debian-binary", 0, 0, 0, "100644", 4)
	out = append(out, "2.0\n"...)
	out = fmt.Appendf(out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(content))
	return append(out, content...)
}

func gzipped(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstandard(t *testing.T, content []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(content, nil)
}

// FuzzCode holds the readers of foreign bytes to end without a panic.
func FuzzCode(f *testing.F) {
	f.Add(elfHead(machineAMD64))
	f.Add([]byte("!<arch>\nx"))
	f.Add([]byte("PK\x03\x04"))
	f.Fuzz(func(_ *testing.T, dt []byte) {
		elfArch(dt)
		a := archive{left: 1 << 20}
		_ = a.file(io.NewSectionReader(bytes.NewReader(dt), 0, int64(len(dt))), "x", maxArchiveDeep)
	})
}
