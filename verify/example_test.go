package verify_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"testing/fstest"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/platforms"
	"github.com/manifold-build/manifold/verify"
)

// program is the smallest program for a machine, a static one.
func program(machine elf.Machine) []byte {
	var b bytes.Buffer
	header := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
	}
	_ = binary.Write(&b, binary.LittleEndian, header)
	_ = binary.Write(&b, binary.LittleEndian, elf.Prog64{Type: uint32(elf.PT_LOAD)})
	return b.Bytes()
}

// An image for arm64 whose entrypoint was compiled for amd64.
func ExampleFS() {
	arm64, err := platforms.Parse("linux/arm64")
	if err != nil {
		fmt.Println(err)
		return
	}
	root := fstest.MapFS{
		"usr/bin/app":    {Data: program(elf.EM_X86_64), Mode: 0o755},
		"usr/bin/helper": {Data: program(elf.EM_AARCH64), Mode: 0o755},
	}
	image := ocispec.Image{Platform: arm64.OCI(), Config: ocispec.ImageConfig{Entrypoint: []string{"app"}}}
	report, err := verify.FS(root, image, verify.Want{Platform: arm64})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(report.Verdict)
	fmt.Println(report.Err())
	// Output:
	// refused
	// linux/arm64: /usr/bin/app (entrypoint) is for amd64
}

// What came with the base image is a warning.
func ExampleReport_Excuse() {
	report := verify.Report{
		Fitting: 1,
		Refused: []verify.Finding{{Path: "/usr/bin/odd", Message: "is for amd64", Machine: "amd64"}},
	}
	report.Excuse(func(path string) bool { return path == "/usr/bin/odd" })
	fmt.Println(report.Verdict)
	fmt.Println(report.Warnings[0])
	// Output:
	// verified
	// /usr/bin/odd is for amd64; it came with the base image
}

// What a base image holds is read once; of an image that was made by a copy, only what was copied.
func ExampleFiles_Copied() {
	base := fstest.MapFS{"bin/sh": {Data: program(elf.EM_AARCH64), Mode: 0o755}}
	files, err := verify.Scan(base, true)
	if err != nil {
		fmt.Println(err)
		return
	}
	image := fstest.MapFS{"app": {Data: program(elf.EM_X86_64), Mode: 0o755}}
	files, ok, err := files.Copied(image, true, []string{"/app"})
	if err != nil || !ok {
		fmt.Println(ok, err)
		return
	}
	arm64 := platforms.Platform{OS: "linux", Architecture: "arm64"}
	report, err := files.Report(ocispec.Image{Platform: arm64.OCI(), Config: ocispec.ImageConfig{Entrypoint: []string{"/app"}}}, verify.Want{Platform: arm64})
	fmt.Println(report.Verdict, report.Refused, report.Fitting, err)
	// Output: refused [/app (entrypoint) is for amd64] 1 <nil>
}
