package frontend

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

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

func TestReadHeads(t *testing.T) {
	listing := bytes.Join([][]byte{
		[]byte("==> /app/a b.node <==\n"), elfHead(machineAMD64), []byte("\n==> /app/text <==\nhello\n\n==> /app/lib.so <==\n"), elfHead(machineARM64),
		[]byte("\n==> /app/short <==\n\x7fELF\n"),
	}, nil)
	want := []code{{"/app/a b.node", "amd64"}, {"/app/lib.so", "arm64"}}
	if diff := cmp.Diff(want, readHeads(listing), cmp.AllowUnexported(code{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

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

// TestZipCode: machine code is found in an archive, and in an archive in it.
func TestZipCode(t *testing.T) {
	inner := archive(t, map[string][]byte{"META-INF/native/lib.so": elfHead(machineAMD64), "a/B.class": elfHead(machineAMD64)})
	outer := archive(t, map[string][]byte{"BOOT-INF/lib/netty.jar": inner, "lib/x.so": elfHead(machineARM64), "filter.o": elfHead(machineBPF)})
	got, err := zipCode(bytes.NewReader(outer), int64(len(outer)), "app.jar", maxArchiveDeep)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, c := range got {
		found[c.file] = c.arch
	}
	want := map[string]string{"app.jar!BOOT-INF/lib/netty.jar!META-INF/native/lib.so": "amd64", "app.jar!lib/x.so": "arm64", "app.jar!filter.o": ""}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got, err := zipCode(bytes.NewReader([]byte("no archive")), 10, "x.zip", 1); got != nil || err != nil {
		t.Errorf("a file that is no archive: %v, %v", got, err)
	}
}

func archive(t *testing.T, files map[string][]byte) []byte {
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

// FuzzCode holds the readers of foreign bytes to end without a panic.
func FuzzCode(f *testing.F) {
	f.Add([]byte("==> /a <==\n\x7fELF"))
	f.Add(elfHead(machineAMD64))
	f.Fuzz(func(_ *testing.T, dt []byte) {
		readHeads(dt)
		elfArch(dt)
		_, _ = zipCode(bytes.NewReader(dt), int64(len(dt)), "x", maxArchiveDeep)
	})
}
