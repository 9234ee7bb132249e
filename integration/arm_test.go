package integration

import (
	"debug/buildinfo"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// eabi is the version of the ABI in the flags of an ARM program's header, and its place in them (ELF for the Arm Architecture, e_flags).
const (
	eabi      = 5
	eabiShift = 24
	// flagsAt is where a 32-bit header has its flags.
	flagsAt = 0x24
)

// TestEachVariantOfARM builds Go programs in moved stages for two variants of ARM that share a golang image of other platforms, each in a way that
// has told it its variant or left it to us, and reads what the programs themselves say. Each also runs on its target.
func TestEachVariantOfARM(t *testing.T) {
	sb := sandbox.Start(t)
	dir := t.TempDir()
	write(t, dir, "go.mod", "module example.com/app\n\ngo 1.26\n")
	write(t, dir, "main.go", "package main\n\nimport \"runtime\"\n\nfunc main() { println(runtime.GOARCH) }\n")
	write(t, dir, "Makefile", "app:\n\tCGO_ENABLED=0 go build -o /out/make .\n")
	write(t, dir, "Dockerfile", `FROM golang:1.26-warm AS build
ARG TARGETVARIANT
WORKDIR /src
COPY . .
RUN go build -o /out/plain .
RUN GOARM=${TARGETVARIANT#v} && export GOARM && go build -o /out/exported .
RUN make app
RUN go install . && mv /go/bin/app /out/installed
FROM busybox:1.35
COPY --from=build /out /out
RUN for p in /out/*; do $p || exit 1; done
`)
	out := t.TempDir()
	res, err := sb.Exec(t.Context(), dir, "manifold", "build", "--progress=plain", "--platform", "linux/arm/v6,linux/arm/v7", "-o", "type=local,dest="+out, ".")
	if err != nil {
		t.Fatal(err)
	}
	if res.Code != 0 || strings.Contains(res.Stderr, "after all") {
		t.Fatalf("exit code %d\n%s", res.Code, res.Stderr)
	}
	for folder, goarm := range map[string]string{"linux_arm_v6": "6", "linux_arm_v7": "7"} {
		for _, name := range []string{"plain", "exported", "make", "installed"} {
			checkARM(t, filepath.Join(out, folder, "out", name), goarm)
		}
	}
}

// checkARM reads a program's variant where Go's tools write it, and its ABI where a kernel looks.
func checkARM(t *testing.T, path, goarm string) {
	t.Helper()
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	said := map[string]string{}
	for _, s := range info.Settings {
		said[s.Key] = s.Value
	}
	if said["GOARCH"] != "arm" || said["GOARM"] != goarm || said["CGO_ENABLED"] != "0" {
		t.Errorf("%s: built with %v, and the target is arm/v%s", path, said, goarm)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	program, err := elf.NewFile(strings.NewReader(string(content)))
	if err != nil {
		t.Fatal(err)
	}
	flags := binary.LittleEndian.Uint32(content[flagsAt:])
	if program.Machine != elf.EM_ARM || program.Class != elf.ELFCLASS32 || flags>>eabiShift != eabi {
		t.Errorf("%s: %s %s with flags %#x", path, program.Machine, program.Class, flags)
	}
}
