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
	"runtime"
	"slices"
	"strings"
	"sync"
)

// A proc-macro is a library that rustc loads while it compiles (The Rust Reference, Procedural Macros), so a twin needs one of its own machine's. The crate
// is compiled for the target, as ever, and once more for the build platform, with all that it is made of: see crates.go. The second library is given the first
// one's hash, by which rustc tells crates apart, so whatever uses it is compiled as if it had loaded the first: see cratehash.go.
//
// A macro that was compiled in an earlier instruction gets its second library when something is to load it, from what cargo says of how it was compiled: see
// replay.go.

// withMacros are the arguments of a unit with the macros of this machine's in the place of the target's. It is an error if there is none for one that may be
// loaded.
func (m machine) withMacros(r rust, u unit) ([]string, error) {
	if !usesMacros(u) {
		return u.args, nil
	}
	needs, known := m.macrosOf(u)
	out := make([]string, 0, len(u.args))
	for _, o := range u.options {
		value := o.value
		switch o.name {
		case "-L":
			if dir, ok := strings.CutPrefix(value, dependency); ok {
				mirror, err := m.mirror(r, dir, func(file string) bool { return !known || needs[file] })
				if err != nil {
					return nil, err
				}
				value = dependency + mirror
			}
		case "--extern":
			if name, file, ok := strings.Cut(value, "="); ok && strings.HasSuffix(file, ".so") {
				macro, is, err := m.macroFor(r, file)
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

// usesMacros reports whether there are macros among the crates that a unit names, or where it looks for others.
func usesMacros(u unit) bool {
	if slices.ContainsFunc(u.crates, isMacro) {
		return true
	}
	for _, dir := range u.deps {
		entries, err := os.ReadDir(dir)
		if err == nil && slices.ContainsFunc(entries, func(e os.DirEntry) bool {
			return isLibraryName(e.Name()) && isMacro(filepath.Join(dir, e.Name()))
		}) {
			return true
		}
	}
	return false
}

// isMacro reports whether a file is a library of macros, or not yet a whole one.
func isMacro(file string) bool {
	if filepath.Ext(file) != ".so" {
		return false
	}
	symbols, err := macroSymbols(file)
	return err != nil || len(symbols) > 0
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
		how, err := m.recordOf(stem)
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
func (m machine) mirror(r rust, dir string, needed func(file string) bool) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return dir, nil //nolint:nilerr // the compiler looks for itself
	}
	m.makeAll(r, dir, entries, needed)
	links, found := map[string]string{}, []string{}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		links[e.Name()] = name
		if !isLibraryName(e.Name()) {
			continue
		}
		if !needed(name) {
			if isMacro(name) {
				delete(links, e.Name())
				found = append(found, "")
			}
			continue
		}
		macro, is, err := m.macroFor(r, name)
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

func isLibraryName(name string) bool {
	return strings.HasPrefix(name, "lib") && strings.HasSuffix(name, ".so")
}

// makeAll makes the libraries of this machine's that are not there yet for the macros of a folder, as many at once as there are processors. What is wrong is
// found again when they are used.
func (m machine) makeAll(r rust, dir string, entries []os.DirEntry, needed func(file string) bool) {
	var wait sync.WaitGroup
	defer wait.Wait()
	free := make(chan struct{}, runtime.NumCPU())
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if !isLibraryName(e.Name()) || !needed(name) {
			continue
		}
		wait.Go(func() {
			free <- struct{}{}
			_, _, _ = m.macroFor(r, name)
			<-free
		})
	}
}

// link puts a link in the place of what may be there.
func link(file, at string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	tmp := fmt.Sprintf("%s.%d", at, os.Getpid())
	if err := os.Symlink(file, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, at)
}

// macroFor is the library of this machine's for one of the target's; not is if that is no macro.
func (m machine) macroFor(r rust, file string) (macro string, is bool, _ error) {
	dir, ok := m.ownFolder()
	if !ok {
		return "", false, errors.New("there is no room for macros")
	}
	macro = m.macroPath(dir, file)
	if exists(macro) {
		return macro, true, nil
	}
	symbols, err := macroSymbols(file)
	if err != nil || len(symbols) == 0 {
		return "", false, nil //nolint:nilerr // no library of rustc's
	}
	if err := os.MkdirAll(filepath.Dir(macro), 0o700); err != nil {
		return "", true, err
	}
	return macro, true, locked(macro+".lock", func() error {
		if exists(macro) {
			return nil
		}
		why, err := os.ReadFile(macro + refused)
		if err != nil {
			err := m.earlierMacro(r, file)
			if err == nil {
				return nil
			}
			why = []byte(err.Error())
			m.refuse(file, why)
		}
		return fmt.Errorf("it uses the macros of %s, which are not loaded: %s", filepath.Base(file), why)
	})
}

// earlierMacro makes the library of this machine's for a macro that was compiled before this instruction.
func (m machine) earlierMacro(r rust, file string) error {
	how, err := m.recordOf(strings.TrimSuffix(file, filepath.Ext(file)))
	if err != nil {
		return err
	}
	u, ok := readUnit(how.Args)
	if !ok || !u.is("proc-macro") {
		return fmt.Errorf("%s has a record that is not read", filepath.Base(file))
	}
	return m.hostMacro(r, u, how)
}

// refused is what a macro's path ends in where it is known that there is no library; the file says why.
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
	cwd, err := os.Getwd()
	if err == nil {
		err = m.hostMacro(r, u, recorded{Args: u.args, Env: os.Environ(), Dir: cwd})
	}
	if err != nil {
		m.refuse(filepath.Join(u.outDir, u.stem()+".so"), []byte("see above"))
		m.sayOnce(fmt.Sprintf("what uses the macros of %s is emulated: %v", u.crate, err))
	}
	return nil
}

// refuse notes that there is no library of this machine's for one of the target's, and why that is.
func (m machine) refuse(own string, why []byte) {
	dir, ok := m.ownFolder()
	if !ok {
		return
	}
	at := m.macroPath(dir, own) + refused
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err == nil {
		_ = os.WriteFile(at, why, 0o600)
	}
}

// hostMacro makes the library of this machine's for a macro that was compiled for the target.
func (m machine) hostMacro(r rust, u unit, how recorded) error {
	outDir := below(how.Dir, u.outDir)
	own := filepath.Join(outDir, u.stem()+".so")
	if err := asksForMachine(filepath.Join(outDir, u.crate+u.extra+".d"), how.Dir); err != nil {
		return err
	}
	dir, err := m.crates(outDir)
	if err != nil {
		return err
	}
	if err := m.compileHere(r, u, how, dir); err != nil {
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

// below is a path as a program finds it that runs in a folder.
func below(cwd, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(cwd, path)
}

// machineTerms is what a macro's source says where what it makes may depend on the machine that it runs on.
var machineTerms = regexp.MustCompile(`\btarget_(arch|pointer_width|endian|feature|has_atomic|abi)\b|\bconsts::ARCH\b|\b[ui]size::(BITS|MAX|MIN)\b|\bsize_of::<[ui]size>`)

// asksForMachine is an error if a macro may do something else on another machine: its sources are those of the file that tells what it depends on.
func asksForMachine(deps, cwd string) error {
	dt, err := os.ReadFile(deps)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(dt)) {
		file, ok := strings.CutSuffix(strings.TrimSpace(line), ":")
		if !ok || !strings.HasSuffix(file, ".rs") {
			continue
		}
		file = strings.ReplaceAll(file, `\ `, " ")
		src, err := os.ReadFile(below(cwd, file))
		if err != nil {
			return err
		}
		if found := machineTerms.Find(src); found != nil {
			return fmt.Errorf("%s asks for its machine (%s)", file, found)
		}
	}
	return nil
}
