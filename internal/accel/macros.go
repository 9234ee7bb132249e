package accel

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A proc-macro is a library that rustc loads while it compiles (The Rust Reference, Procedural Macros), so a twin needs one of its own machine's. The crate
// is compiled for the target, as ever, and once more for the build platform, with all that it is made of: see crates.go. The second library is given the first
// one's hash, by which rustc tells crates apart, so whatever uses it is compiled as if it had loaded the first: see cratehash.go.
//
// A macro that was compiled in an earlier instruction has no second library; what is compiled beside it is emulated.

// withMacros are the arguments of a unit with the macros of this machine's in the place of the target's. It is an error if there is none for one that may be
// loaded.
func (m machine) withMacros(u unit) ([]string, error) {
	needs, known := m.macrosOf(u)
	out := make([]string, 0, len(u.args))
	for _, o := range u.options {
		value := o.value
		switch o.name {
		case "-L":
			if dir, ok := strings.CutPrefix(value, dependency); ok {
				mirror, err := m.mirror(dir, func(file string) bool { return !known || needs[file] })
				if err != nil {
					return nil, err
				}
				value = dependency + mirror
			}
		case "--extern":
			if name, file, ok := strings.Cut(value, "="); ok && strings.HasSuffix(file, ".so") {
				macro, is, err := m.macroFor(file)
				if err != nil {
					return nil, err
				}
				if is {
					value = name + "=" + macro
				}
			}
		}
		out = append(out, o.with(value)...)
	}
	return out, nil
}

// macrosOf are the libraries that a unit names and that what it names consists of; not known if something of that was compiled before this instruction.
func (m machine) macrosOf(u unit) (libraries map[string]bool, known bool) {
	libraries = map[string]bool{}
	left, seen := slices.Clone(u.crates), map[string]bool{}
	for len(left) > 0 {
		file := left[0]
		left = left[1:]
		ext := filepath.Ext(file)
		stem := strings.TrimSuffix(file, ext)
		if seen[stem] {
			continue
		}
		seen[stem] = true
		if ext == ".so" {
			libraries[file] = true
			if symbols, err := macroSymbols(file); err == nil && len(symbols) > 0 {
				continue // what a macro consists of is not loaded
			}
		}
		how, err := m.recorded(stem)
		if err != nil {
			return nil, false
		}
		of, ok := readUnit(how.Args)
		if !ok {
			return nil, false
		}
		left = append(left, of.crates...)
	}
	return libraries, true
}

// mirror is a folder like one of cargo's with the macros of this machine's in the place of the target's, and without those that are not needed: the folder
// itself if it holds none.
func (m machine) mirror(dir string, needed func(file string) bool) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return dir, nil //nolint:nilerr // the compiler looks for itself
	}
	links, found := map[string]string{}, []string{}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		links[e.Name()] = name
		if !strings.HasPrefix(e.Name(), "lib") || !strings.HasSuffix(e.Name(), ".so") {
			continue
		}
		if !needed(name) {
			if symbols, err := macroSymbols(name); err != nil || len(symbols) > 0 { // perhaps not whole yet
				delete(links, e.Name())
				found = append(found, "")
			}
			continue
		}
		macro, is, err := m.macroFor(name)
		if err != nil {
			return "", err
		}
		if is {
			links[e.Name()] = macro
			found = append(found, macro)
		}
	}
	if len(found) == 0 {
		return dir, nil
	}
	to, err := m.crates(dir)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(strings.Join(found, "\n"))) // units that need other macros have another mirror
	to = filepath.Join(to, "mirror-"+hex.EncodeToString(sum[:8]))
	if err := os.MkdirAll(to, 0o700); err != nil {
		return "", err
	}
	for name, file := range links {
		if at, err := os.Readlink(filepath.Join(to, name)); err == nil && at == file {
			continue
		}
		if err := link(file, filepath.Join(to, name)); err != nil {
			return "", err
		}
	}
	return to, nil
}

// link puts a link in the place of what may be there.
func link(file, at string) error {
	if !filepath.IsAbs(file) {
		abs, err := filepath.Abs(file)
		if err != nil {
			return err
		}
		file = abs
	}
	tmp := fmt.Sprintf("%s.%d", at, os.Getpid())
	if err := os.Symlink(file, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, at)
}

// macroFor is the library of this machine's for one of the target's; not is if that is no macro.
func (m machine) macroFor(file string) (macro string, is bool, _ error) {
	dir, ok := m.ownFolder()
	if !ok {
		return "", false, errors.New("there is no room for macros")
	}
	macro = m.macroPath(dir, file)
	if _, err := os.Stat(macro); err == nil {
		return macro, true, nil
	}
	symbols, err := macroSymbols(file)
	if err != nil || len(symbols) == 0 {
		return "", false, nil //nolint:nilerr // no library of rustc's
	}
	if _, err := os.Stat(macro + refused); err == nil {
		return "", true, fmt.Errorf("it uses the macros of %s, which are not loaded", filepath.Base(file))
	}
	return "", true, fmt.Errorf("it uses the macros of %s, compiled before this instruction; to have them for the build platform too, compile both in one RUN", filepath.Base(file))
}

// refused is what a macro's path ends in where the library is, by then, known not to be there.
const refused = ".refused"

// macroPath is where the library of this machine's for one of the target's lies.
func (m machine) macroPath(dir, file string) string {
	if abs, err := filepath.Abs(file); err == nil {
		file = abs
	}
	sum := sha256.Sum256([]byte(identity(file)))
	return filepath.Join(dir, "macros", hex.EncodeToString(sum[:8]), filepath.Base(file))
}

// procMacro compiles a macro for the target, and once more for this machine.
func (m machine) procMacro(r rust, u unit, args []string) error {
	cmd := exec.Command(args[0]) //nolint:noctx // as cargo would have
	cmd.Args, cmd.Stdin, cmd.Stdout, cmd.Stderr = args, os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.Exited() {
			os.Exit(exit.ExitCode())
		}
		return err
	}
	if u.outDir == "" || u.target != "" {
		return nil
	}
	if err := m.hostMacro(r, u); err != nil {
		m.refuse(filepath.Join(u.outDir, u.stem()+".so"))
		m.sayOnce(fmt.Sprintf("what uses the macros of %s is emulated: %v", u.crate, err))
	}
	return nil
}

// refuse notes that there is no library of this machine's for one of the target's, and why that is has been said.
func (m machine) refuse(own string) {
	dir, ok := m.ownFolder()
	if !ok {
		return
	}
	at := m.macroPath(dir, own) + refused
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err == nil {
		_ = os.WriteFile(at, nil, 0o600)
	}
}

// hostMacro makes the library of this machine's for a macro that was compiled for the target.
func (m machine) hostMacro(r rust, u unit) error {
	own := filepath.Join(u.outDir, u.stem()+".so")
	if err := asksForMachine(filepath.Join(u.outDir, u.crate+u.extra+".d")); err != nil {
		return err
	}
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	dir, err := m.crates(u.outDir)
	if err != nil {
		return err
	}
	if err := m.compileHere(r, u, recorded{u.args, os.Environ(), cwd}, dir); err != nil {
		return err
	}
	dt, hash, err := withHashOf(r, own, filepath.Join(dir, u.stem()+".so"))
	if err != nil {
		return err
	}
	state, ok := m.ownFolder()
	if !ok {
		return errors.New("there is no room for macros")
	}
	to := m.macroPath(state, own)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	made := filepath.Join(filepath.Dir(to), "new", filepath.Base(to))
	if err := os.MkdirAll(filepath.Dir(made), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(made, dt, 0o700); err != nil {
		return err
	}
	if err := m.holds(r, u, made, hash); err != nil {
		return err
	}
	return os.Rename(made, to)
}

// machineTerms is what a macro's source says where what it makes may depend on the machine that it runs on.
var machineTerms = regexp.MustCompile(`\btarget_(arch|pointer_width|endian|feature|has_atomic|abi)\b|\bconsts::ARCH\b|\b[ui]size::(BITS|MAX|MIN)\b|\bsize_of::<[ui]size>`)

// asksForMachine is an error if a macro may do something else on another machine: its sources are those of the file that tells what it depends on.
func asksForMachine(deps string) error {
	dt, err := os.ReadFile(deps)
	if err != nil {
		return err
	}
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(dt)) {
		file, ok := strings.CutSuffix(strings.TrimSpace(line), ":")
		if !ok || !strings.HasSuffix(file, ".rs") {
			continue
		}
		file = strings.ReplaceAll(file, `\ `, " ")
		if !filepath.IsAbs(file) {
			file = filepath.Join(cwd, file)
		}
		src, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if found := machineTerms.Find(src); found != nil {
			return fmt.Errorf("%s asks for its machine (%s)", file, found)
		}
	}
	return nil
}
