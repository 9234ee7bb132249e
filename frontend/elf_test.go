package frontend

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/manifold-build/manifold/platforms"
)

// TestProbePrograms: every program is an ELF executable of its machine, and the ones that this kernel can execute, by
// itself or through a handler, end with 0.
func TestProbePrograms(t *testing.T) {
	machines := map[string]elf.Machine{
		"amd64": elf.EM_X86_64, "386": elf.EM_386, "arm64": elf.EM_AARCH64, "arm": elf.EM_ARM, "riscv64": elf.EM_RISCV,
		"ppc64le": elf.EM_PPC64, "ppc64": elf.EM_PPC64, "s390x": elf.EM_S390, "loong64": elf.EM_LOONGARCH,
	}
	for arch := range exitPrograms {
		t.Run(arch, func(t *testing.T) {
			program, ok := trialProgram(platforms.Platform{OS: "linux", Architecture: arch})
			if !ok {
				t.Fatal("there is none")
			}
			f, err := elf.NewFile(bytes.NewReader(program))
			if err != nil {
				t.Fatal(err)
			}
			if f.Machine != machines[arch] || f.Type != elf.ET_EXEC || len(f.Progs) != 1 {
				t.Errorf("%v %v with %d segments", f.Machine, f.Type, len(f.Progs))
			}
			path := filepath.Join(t.TempDir(), "probe")
			if err := os.WriteFile(path, program, 0o700); err != nil {
				t.Fatal(err)
			}
			switch err := exec.CommandContext(t.Context(), path).Run(); {
			case errors.Is(err, syscall.ENOEXEC):
				t.Logf("not executed: this kernel has no handler for %s", arch)
			case err != nil:
				t.Error(err)
			}
		})
	}
	if _, ok := trialProgram(platforms.Platform{OS: "windows", Architecture: "amd64"}); ok {
		t.Error("a program for Windows")
	}
}
