// Package accel is what runs inside a RUN instruction of a stage that is accelerated: a small static program of the build platform's, in a
// container of another one. It stands where the container's compilers are called, and runs the build platform's build of the same release
// instead, which makes the same code for the container's platform and needs no emulation. Where it is not certain that the two are the same it runs
// the container's own.
//
// It is the whole of the command manifold-accel and depends on the standard library alone: it is started for every file that is compiled.
package accel

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Where a RUN instruction finds what it is given. The folder lies in a file system of the container's own that is part of no layer, as BuildKit's emulator does.
const (
	root = "/dev/.manifold"
	// Bin holds the program under each of its names.
	Bin = root + "/bin"
	// Twin is the build platform's copy of the image that the stage begins with.
	Twin = root + "/twin"
	// Toolchain holds programs of the build platform's that make code for the container's: compilers that no image holds for two machines.
	Toolchain = root + "/toolchain"
	// memory is a file system of the container's that is part of no layer and can be written to by all.
	memory = "/dev/shm"
)

// Names are those that the program is called by, below Bin: as itself, and in the place of other programs.
func Names() []string {
	out := []string{Name, goTool, rustWrapper, filepath.Join(linkerDir, linker)}
	for _, name := range hostTools {
		out = append(out, filepath.Join(hostDir, name))
	}
	for _, name := range gccTools {
		out = append(out, filepath.Join(gccDir, name))
	}
	return out
}

// Name is the program's own.
const Name = "accel"

// Main does what the arguments ask for, the first of which is the name that the program was called by. It returns the exit code, if it did not become
// another program.
func Main(args []string, stderr io.Writer) int {
	m := machine{Root: "/", Twin: Twin, Bin: Bin, Toolchain: Toolchain, State: State, Memory: memory, Log: stepLog, Getenv: os.Getenv, Stderr: stderr}
	var err error
	switch name := filepath.Base(args[0]); {
	case name == goTool:
		err = m.goTool(args[1:])
	case name == rustWrapper && m.isSet(replayed):
		err = m.rustRecord(args[1:])
	case name == rustWrapper:
		err = m.rustc(args[1:])
	case strings.HasPrefix(name, buildScript) && m.isSet(replayed):
		err = m.replayScript(os.Stdout)
	case filepath.Base(filepath.Dir(args[0])) == hostDir:
		err = m.hostTool(name, args[1:])
	case name == linker || slices.Contains(gccTools, name):
		err = m.gccTool(name, args[1:])
	default:
		err = m.own(args[1:])
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "manifold-accel:", err)
	return failed
}

// failed is the exit code of a program that could not be run, as env and timeout have it.
const failed = 125

// machine is where the program runs.
type machine struct {
	Root, Twin, Bin, Toolchain, State, Memory, Log string

	Getenv func(string) string
	Stderr io.Writer
}

// own is the program by its own name: "env" prints what a shell has to be told, "exec" runs a command with it.
func (m machine) own(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "env":
		var b strings.Builder
		for _, v := range m.environment() {
			fmt.Fprintf(&b, "export %s=%s\n", v.name, quote(v.value))
		}
		_, err := os.Stdout.WriteString(b.String())
		return err
	case len(args) > 1 && args[0] == "exec":
		for _, v := range m.environment() {
			if err := os.Setenv(v.name, v.value); err != nil {
				return err
			}
		}
		return become(args[1], args[1:])
	}
	return errors.New("it is run by Manifold inside a build (env, or exec COMMAND)")
}

type variable struct{ name, value string }

// environment is what has the stage's compilers be called through this program. cargo starts many programs from several threads, at which an emulator before QEMU
// 8.1 may hang for ever unless GLib allocates as the C library does (QEMU issue 285; GLib, Running and debugging GLib applications).
func (m machine) environment() []variable {
	var out []variable
	if v, ok := m.goFlags(); ok {
		out = append(out, variable{"GOFLAGS", v})
	}
	if v, ok := m.compilerPath(); ok {
		out = append(out, variable{"COMPILER_PATH", v})
	}
	if v, ok := m.rustcWrapper(); ok {
		out = append(out, variable{"RUSTC_WRAPPER", v})
		if !m.isSet("G_SLICE") {
			out = append(out, variable{"G_SLICE", "always-malloc"})
		}
	}
	return out
}

// sayf says something once, where the log of the step shows it and no script reads it.
func (m machine) sayf(format string, args ...any) {
	fmt.Fprintf(m.Stderr, "manifold: "+format+"\n", args...)
}

// become is the program from now on: a name is looked up as a shell would.
func become(name string, args []string) error {
	file, err := lookPath(name)
	if err != nil {
		return err
	}
	return execve(file, args)
}

func execve(file string, args []string) error {
	if err := syscall.Exec(file, args, os.Environ()); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// quote is a word for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
