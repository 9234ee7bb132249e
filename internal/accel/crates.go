package accel

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// What a macro consists of is compiled for the build platform from the arguments that each library was compiled with for the target, which are recorded. All that
// lies in a folder of the instruction's that is part of no layer.

// recorded is how a crate was compiled.
type recorded struct {
	Args []string `json:"args"`
	Env  []string `json:"env"`
	Dir  string   `json:"dir"`
	// Earlier means before this instruction: what its sources are now is not what they were then, unless they are published.
	Earlier bool `json:"earlier,omitempty"`
}

// crates is the folder of what belongs to a folder of cargo's.
func (m machine) crates(outDir string) (string, error) {
	dir, ok := m.ownFolder()
	if !ok {
		return "", errors.New("there is no room for macros")
	}
	if abs, err := filepath.Abs(outDir); err == nil {
		outDir = abs
	}
	sum := sha256.Sum256([]byte(outDir))
	dir = filepath.Join(dir, hex.EncodeToString(sum[:8]))
	return dir, os.MkdirAll(dir, 0o700)
}

// record keeps how a library is compiled, since a macro may consist of it. One that cannot be kept is missed later.
func (m machine) record(u unit) {
	if !u.isLibrary() || u.outDir == "" {
		return
	}
	dir, err := m.crates(u.outDir)
	if err != nil {
		return
	}
	cwd, err := os.Getwd()
	if err != nil {
		return
	}
	dt, err := json.Marshal(recorded{Args: u.args, Env: os.Environ(), Dir: cwd})
	if err != nil {
		return
	}
	_ = os.Remove(filepath.Join(dir, u.stem()+".rlib"))
	_ = os.WriteFile(filepath.Join(dir, u.stem()+".json"), dt, 0o600)
}

// recorded is how the crate was compiled whose file is called so, without its suffix.
func (m machine) recorded(stem string) (recorded, error) {
	dir, err := m.crates(filepath.Dir(stem))
	if err != nil {
		return recorded{}, err
	}
	return readRecord(dir, filepath.Base(stem))
}

func readRecord(dir, stem string) (recorded, error) {
	dt, err := os.ReadFile(filepath.Join(dir, stem+".json"))
	if err != nil {
		return recorded{}, fmt.Errorf("%s was compiled before this instruction", strings.TrimPrefix(stem, "lib"))
	}
	var how recorded
	return how, json.Unmarshal(dt, &how)
}

// targets are what -C sets for the target alone: its processor, its linker, and a folder of what is compiled for it.
var targets = []string{"incremental", "target-cpu", "tune-cpu", "target-feature", "linker", "linker-flavor"}

// compileHere compiles a crate for this machine into a folder, and what it consists of first.
func (m machine) compileHere(r rust, u unit, how recorded, dir string) error {
	if how.Earlier && !how.published() {
		if err := m.unchanged(r, u, how); err != nil {
			return err
		}
	}
	args := slices.Concat(m.running(r.twin), []string{"--target", r.host, "--sysroot", r.twinSysroot, "-Clinker=" + filepath.Join(m.Bin, hostDir, "cc"), "-Clinker-flavor=gcc"})
	for _, o := range u.options {
		value := o.value
		var err error
		switch {
		case slices.Contains(targets, o.key()):
			continue
		case o.name == "-L" && strings.HasPrefix(value, dependency):
			value, err = m.crates(strings.TrimPrefix(value, dependency))
			value = dependency + value
		case o.name == "--out-dir":
			value = dir
		case o.name == "--extern":
			value, err = m.externHere(r, value)
		}
		if err != nil {
			return err
		}
		args = append(args, o.with(value)...)
	}
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // as cargo would have
	cmd.Env, cmd.Dir = how.Env, how.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s cannot be compiled for the build platform: %w %s", u.crate, err, firstError(out))
	}
	return nil
}

// firstError is the message of the first error among those of a compiler, which cargo has told to write JSON.
func firstError(out []byte) string {
	for line := range bytes.Lines(out) {
		var msg struct {
			Level   string `json:"level"`
			Message string `json:"message"`
		}
		if json.Unmarshal(line, &msg) == nil && msg.Level == "error" {
			return firstLine([]byte(msg.Message))
		}
	}
	return firstLine(out)
}

// externHere is a crate that another consists of, compiled for this machine.
func (m machine) externHere(r rust, extern string) (string, error) {
	name, file, ok := strings.Cut(extern, "=")
	if !ok { // the sysroot's
		return extern, nil
	}
	dir, err := m.crates(filepath.Dir(file))
	if err != nil {
		return "", err
	}
	stem := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	if filepath.Ext(file) == ".so" {
		to := filepath.Join(dir, stem+".so")
		if _, err := os.Stat(to); err == nil {
			return name + "=" + to, nil
		}
		_, _, err := m.macroFor(r, file) // compiled before
		return name + "=" + to, err
	}
	to := filepath.Join(dir, stem+".rlib")
	return name + "=" + to, m.ensure(r, dir, stem)
}

// ensure compiles a recorded library for this machine, once.
func (m machine) ensure(r rust, dir, stem string) error {
	return locked(filepath.Join(dir, stem+".lock"), func() error {
		if _, err := os.Stat(filepath.Join(dir, stem+".rlib")); err == nil {
			return nil
		}
		how, err := readRecord(dir, stem)
		if err != nil {
			return err
		}
		u, ok := readUnit(how.Args)
		if !ok {
			return fmt.Errorf("%s: a record that is not read", stem)
		}
		return m.compileHere(r, u, how, dir)
	})
}
