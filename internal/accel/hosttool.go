package accel

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// hostDir is the folder of the names below Bin by which the twin's own C compiler links what rustc itself loads.
const hostDir = "host"

// hostTools are those names.
var hostTools = []string{"cc", "collect2", linker}

// hostTool runs the twin's C compiler, and what that runs.
func (m machine) hostTool(name string, args []string) error {
	for _, v := range []string{"COMPILER_PATH", "LIBRARY_PATH", "GCC_EXEC_PREFIX", "LD_LIBRARY_PATH", "LD_RUN_PATH"} {
		if v == "COMPILER_PATH" && name != "cc" {
			continue // the driver's own
		}
		if err := os.Unsetenv(v); err != nil {
			return err
		}
	}
	driver, err := m.first("/usr/local/bin/gcc", "/usr/bin/gcc", "/usr/bin/cc")
	if err != nil {
		return err
	}
	program := driver
	switch name {
	case "cc":
		args = slices.Concat([]string{"-B" + filepath.Join(m.Bin, hostDir) + "/", "--sysroot=" + m.Twin, "-fno-use-linker-plugin"}, args)
	case linker:
		program, err = m.first("/usr/local/bin/ld", "/usr/bin/ld")
	default:
		program, err = m.subprogram(driver, name)
	}
	if err != nil {
		return err
	}
	run := m.running(program)
	if run == nil {
		return fmt.Errorf("%s has no loader in its image", program)
	}
	return execve(run[0], slices.Concat(run, args))
}

// subprogram is a program that the twin's C compiler runs.
func (m machine) subprogram(driver, name string) (string, error) {
	run := m.running(driver)
	if run == nil {
		return "", fmt.Errorf("%s has no loader in its image", driver)
	}
	cmd := exec.Command(run[0], append(run[1:], "-print-prog-name="+name)...) //nolint:noctx // the driver that runs this program
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "COMPILER_PATH=") || strings.HasPrefix(v, "COLLECT_") })
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}
