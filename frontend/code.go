package frontend

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/platforms"
)

// What is taken from a stage that ran on the build platform must hold no machine code of the build platform: a native add-on that a
// package manager chose for the machine it ran on. Only ELF is looked for: a Linux node chooses nothing else for itself.

// headSize is up to and with e_machine of an ELF header, in bytes.
const headSize = 20

// code is machine code that was found.
type code struct {
	File string `json:"file"`
	// Arch is as in platforms, empty if it is of no architecture there.
	Arch string `json:"arch"`
}

// chosenHere returns the first piece of code that is for the build platform and not for the target, and has no twin of the
// same name, but for the architecture in it, for the target: a package that brings the code of every platform is no choice of the machine's.
func (b *build) chosenHere(all []code, target platforms.Platform) string {
	here := architecturesOf(b.node().Native)
	wanted := architecturesOf(target)
	twins := map[string]bool{}
	for _, c := range all {
		if slices.Contains(wanted, c.Arch) {
			twins[twinName(c)] = true
		}
	}
	for _, c := range all {
		if slices.Contains(here, c.Arch) && !slices.Contains(wanted, c.Arch) && !twins[twinName(c)] {
			return fmt.Sprintf("%s is machine code for %s", c.File, c.Arch)
		}
	}
	return ""
}

// architecturesOf lists the architectures whose code belongs to a platform.
func architecturesOf(p platforms.Platform) []string {
	switch p.Architecture {
	case "amd64":
		return []string{"amd64", "386"}
	case "arm64":
		return []string{"arm64"}
	default:
		return []string{p.Architecture}
	}
}

// twinName is a file's name without what tells architectures apart in it.
func twinName(c code) string {
	name := c.File
	for _, word := range []string{"x86_64", "x86-64", "amd64", "x64", "aarch_64", "aarch64", "arm64", "armv7", "armhf", "arm", "ppc64le", "ppcle_64", "s390x", "s390_64", "riscv64", "i386", "386"} {
		name = strings.ReplaceAll(name, word, "")
	}
	return name
}

// elfArch returns the architecture of an ELF file, by its first bytes. It is empty for machines that no image is built for.
func elfArch(head []byte) (string, bool) {
	if len(head) < headSize || !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		return "", false
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	switch elf.Machine(order.Uint16(head[18:])) {
	case elf.EM_X86_64:
		return "amd64", true
	case elf.EM_386:
		return "386", true
	case elf.EM_AARCH64:
		return "arm64", true
	case elf.EM_ARM:
		return "arm", true
	case elf.EM_S390:
		return "s390x", true
	case elf.EM_RISCV:
		return "riscv64", true
	case elf.EM_PPC64:
		if order == binary.LittleEndian {
			return "ppc64le", true
		}
		return "ppc64", true
	case elf.EM_LOONGARCH:
		return "loong64", true
	default:
		return "", true
	}
}
