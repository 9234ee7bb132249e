package accel

import (
	"debug/elf"
	"runtime"
)

// ownMachine is the machine that this program was built for.
var ownMachine = map[string]elf.Machine{
	"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "ppc64le": elf.EM_PPC64, "s390x": elf.EM_S390, "riscv64": elf.EM_RISCV, "arm": elf.EM_ARM,
}[runtime.GOARCH]
