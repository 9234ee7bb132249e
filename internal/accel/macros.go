package accel

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// A proc-macro is a library that rustc loads while it compiles (The Rust Reference, Procedural Macros), so a twin needs one of its own machine's. The crate
// is compiled for the target, as ever, and once more for the build platform, with all that it is made of: for that each library's arguments are recorded. The
// second library is given the first one's hash, by which rustc tells crates apart, so whatever uses it is compiled as if it had loaded the first.
//
// All this lies in a file system of the instruction's own that is part of no layer. A macro that was compiled in an earlier instruction has no
// second library; what is compiled beside it is emulated.

// State is where a file system of the instruction's own is mounted that is part of no layer.
const State = root + "/state"

// state is this user's own folder for what lives as long as the instruction; not ok if there is none.
func (m machine) state() (string, bool) {
	for _, parent := range []string{m.State, m.Memory} {
		dir := filepath.Join(parent, fmt.Sprintf("rust-%d", os.Getuid()))
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			continue
		}
		if isOwn(dir) {
			return dir, true
		}
	}
	return "", false
}

// isOwn reports whether nobody else can write to a folder.
func isOwn(dir string) bool {
	var st syscall.Stat_t
	err := syscall.Lstat(dir, &st)
	return err == nil && st.Mode&syscall.S_IFMT == syscall.S_IFDIR && int(st.Uid) == os.Getuid() && st.Mode&0o077 == 0
}

// recorded is how a crate was compiled.
type recorded struct {
	Args []string `json:"args"`
	Env  []string `json:"env"`
	Dir  string   `json:"dir"`
}

// crates is the folder of what belongs to a folder of cargo's.
func (m machine) crates(outDir string) (string, error) {
	dir, ok := m.state()
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
	if !u.is("lib") && !u.is("rlib") && !u.is("dylib") || u.outDir == "" {
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
	dt, err := json.Marshal(recorded{u.args, os.Environ(), cwd})
	if err != nil {
		return
	}
	_ = os.Remove(filepath.Join(dir, u.stem()+".rlib"))
	_ = os.WriteFile(filepath.Join(dir, u.stem()+".json"), dt, 0o600)
}

// withMacros are the arguments of a unit with the macros of this machine's in the place of the target's. It is an error if there is none for one that may be
// loaded.
func (m machine) withMacros(u unit) ([]string, error) {
	needs, known := m.macrosOf(u)
	mirrors := map[string]string{}
	for _, dir := range u.deps {
		to, err := m.mirror(dir, func(file string) bool { return !known || needs[file] })
		if err != nil {
			return nil, err
		}
		mirrors[dir] = to
	}
	out := slices.Clone(u.args)
	for i, a := range out {
		prev := ""
		if i > 0 {
			prev = out[i-1]
		}
		if dir, ok := strings.CutPrefix(a, "dependency="); ok && prev == "-L" {
			out[i] = "dependency=" + mirrors[dir]
		} else if dir, ok := strings.CutPrefix(a, "-Ldependency="); ok {
			out[i] = "-Ldependency=" + mirrors[dir]
		}
		option, value := "", a
		if prev != "--extern" {
			var ok bool
			if value, ok = strings.CutPrefix(a, "--extern="); !ok {
				continue
			}
			option = "--extern="
		}
		name, file, ok := strings.Cut(value, "=")
		if !ok || !strings.HasSuffix(file, ".so") {
			continue
		}
		macro, is, err := m.macroFor(file)
		if err != nil {
			return nil, err
		}
		if is {
			out[i] = option + name + "=" + macro
		}
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

// recorded is how the crate was compiled whose file is called so, without its suffix.
func (m machine) recorded(stem string) (recorded, error) {
	dir, err := m.crates(filepath.Dir(stem))
	if err != nil {
		return recorded{}, err
	}
	dt, err := os.ReadFile(filepath.Join(dir, filepath.Base(stem)+".json"))
	if err != nil {
		return recorded{}, fmt.Errorf("%s was compiled before this instruction", strings.TrimPrefix(filepath.Base(stem), "lib"))
	}
	var how recorded
	return how, json.Unmarshal(dt, &how)
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
	dir, ok := m.state()
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
	return "", true, fmt.Errorf("the macros of %s are not there for the build platform", filepath.Base(file))
}

// macroPath is where the library of this machine's for one of the target's lies.
func (m machine) macroPath(dir, file string) string {
	if abs, err := filepath.Abs(file); err == nil {
		file = abs
	}
	sum := sha256.Sum256([]byte(identity(file)))
	return filepath.Join(dir, "macros", hex.EncodeToString(sum[:8]), filepath.Base(file))
}

// macroSymbols are the names by which rustc finds the macros of a library.
func macroSymbols(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, s := range symbols {
		if s.Section != elf.SHN_UNDEF && strings.HasPrefix(s.Name, "__rustc_proc_macro_decls_") {
			out = append(out, s.Name)
		}
	}
	return out, nil
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
		m.sayOnce(fmt.Sprintf("what uses the macros of %s is emulated: %v", u.crate, err))
	}
	return nil
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
	if err := m.compileHere(r, recorded{u.args, os.Environ(), cwd}, u, dir); err != nil {
		return err
	}
	dt, hash, err := withHashOf(r, own, filepath.Join(dir, u.stem()+".so"))
	if err != nil {
		return err
	}
	state, ok := m.state()
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

// compileHere compiles a crate for this machine into a folder, and what it consists of first.
func (m machine) compileHere(r rust, how recorded, u unit, dir string) error {
	args := make([]string, 0, len(how.Args))
	for i := 0; i < len(how.Args); i++ {
		a, next := how.Args[i], ""
		if i+1 < len(how.Args) {
			next = how.Args[i+1]
		}
		joined := a
		separate := (a == "-C" || a == "-L" || a == "--codegen") && next != ""
		if separate {
			joined = "-" + strings.TrimLeft(a, "-")[:1] + next
			joined = strings.Replace(joined, "-c", "-C", 1)
		}
		key, value, _ := strings.Cut(joined, "=")
		switch strings.ReplaceAll(key, "_", "-") {
		case "-Cincremental", "-Ctarget-cpu", "-Ctune-cpu", "-Ctarget-feature", "-Clinker", "-Clinker-flavor": // the target's
			if separate {
				i++
			}
			continue
		case "-Ldependency":
			to, err := m.crates(value)
			if err != nil {
				return err
			}
			args = append(args, "-Ldependency="+to)
			if separate {
				i++
			}
			continue
		}
		switch {
		case a == "--out-dir":
			args = append(args, a, dir)
			i++
		case strings.HasPrefix(a, "--out-dir="):
			args = append(args, "--out-dir="+dir)
		case a == "--extern" && next != "":
			to, err := m.externHere(r, next)
			if err != nil {
				return err
			}
			args = append(args, a, to)
			i++
		default:
			args = append(args, a)
		}
	}
	cmd := exec.Command(m.running(r.twin)[0]) //nolint:noctx // as cargo would have
	cmd.Args = slices.Concat(m.running(r.twin), []string{"--target", r.host, "--sysroot", r.twinSysroot, "-Clinker=" + filepath.Join(m.Bin, hostDir, "cc"), "-Clinker-flavor=gcc"}, args)
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
		_, err := os.Stat(to)
		return name + "=" + to, err
	}
	to := filepath.Join(dir, stem+".rlib")
	return name + "=" + to, m.ensure(r, dir, stem)
}

// ensure compiles a recorded library for this machine, once.
func (m machine) ensure(r rust, dir, stem string) error {
	lock, err := os.OpenFile(filepath.Join(dir, stem+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, stem+".rlib")); err == nil {
		return nil
	}
	dt, err := os.ReadFile(filepath.Join(dir, stem+".json"))
	if err != nil {
		return fmt.Errorf("%s was compiled before this instruction", strings.TrimPrefix(stem, "lib"))
	}
	var how recorded
	if err := json.Unmarshal(dt, &how); err != nil {
		return err
	}
	u, ok := readUnit(how.Args)
	if !ok {
		return fmt.Errorf("%s: a record that is not read", stem)
	}
	return m.compileHere(r, how, u, dir)
}

// metadataSection holds what rustc reads of a library.
const metadataSection = ".rustc"

// withHashOf is a library of this machine's with the hash of the target's. It is an error if the two do not hold the same macros.
func withHashOf(r rust, own, here string) (dt, hash []byte, _ error) {
	a, err := macroSymbols(own)
	b, err2 := macroSymbols(here)
	if err := errors.Join(err, err2); err != nil {
		return nil, nil, err
	}
	if len(a) == 0 || !slices.Equal(a, b) {
		return nil, nil, fmt.Errorf("%s has the macros %q, and %q for the build platform", filepath.Base(own), a, b)
	}
	ownBytes, at, err := crateHash(own, r.target)
	if err != nil {
		return nil, nil, err
	}
	hash = ownBytes[at : at+hashSize]
	if dt, at, err = crateHash(here, r.host); err != nil {
		return nil, nil, err
	}
	copy(dt[at:], hash)
	return dt, hash, nil
}

// hashSize is the length of a crate's hash, in bytes.
const hashSize = 16

// crateHash reads a library, and finds the hash of the crate in it: rustc writes it behind the name of the target, which is the string behind a zero that
// begins with its length and ends in 0xC1 (rustc_metadata, CrateHeader; rustc_serialize, opaque).
func crateHash(file, target string) (dt []byte, at int, _ error) {
	dt, err := os.ReadFile(file)
	if err != nil {
		return nil, 0, err
	}
	f, err := elf.NewFile(bytes.NewReader(dt))
	if err != nil {
		return nil, 0, err
	}
	section := f.Section(metadataSection)
	if section == nil || section.Offset+section.Size > uint64(len(dt)) || section.Offset+section.Size < section.Offset {
		return nil, 0, fmt.Errorf("%s has no metadata", file)
	}
	const terminator = 0xC1
	name := slices.Concat([]byte{0, byte(len(target))}, []byte(target), []byte{terminator})
	metadata := dt[section.Offset : section.Offset+section.Size]
	i := bytes.Index(metadata, name)
	if i < 0 || i != bytes.LastIndex(metadata, name) || i+len(name)+hashSize > len(metadata) {
		return nil, 0, fmt.Errorf("%s has metadata of another form", file)
	}
	return dt, int(section.Offset) + i + len(name), nil
}

// holds is an error if a crate that uses a library of macros does not note this hash of it.
func (m machine) holds(r rust, u unit, library string, hash []byte) error {
	dir := filepath.Dir(library)
	run := m.running(r.twin)
	cmd := exec.Command(run[0], slices.Concat(run[1:], []string{ //nolint:noctx // as cargo would have
		"--target", r.target, "--sysroot", r.sysroot, "--edition=2021", "--crate-name", "probe", "--crate-type", "lib",
		"--emit", "metadata=" + filepath.Join(dir, "probe"), "--extern", u.crate + "=" + library, "-",
	})...)
	cmd.Stdin = strings.NewReader("extern crate " + u.crate + " as _;\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s is not loaded: %w: %s", filepath.Base(library), err, firstError(out))
	}
	dt, err := os.ReadFile(filepath.Join(dir, "probe"))
	if err != nil {
		return err
	}
	if !bytes.Contains(dt, hash) {
		return fmt.Errorf("%s has a hash in another place", filepath.Base(library))
	}
	return os.Remove(filepath.Join(dir, "probe"))
}

// hostDir is the folder of the names below Bin by which the twin's own C compiler links what rustc itself loads.
const hostDir = "host"

// hostTools are those names.
var hostTools = []string{"cc", "collect2", linker}

// hostTool runs the twin's C compiler, and what that runs.
func (m machine) hostTool(name string, args []string) error {
	for _, v := range []string{"COMPILER_PATH", "LIBRARY_PATH", "GCC_EXEC_PREFIX", "LD_LIBRARY_PATH", "LD_RUN_PATH", "LD_PRELOAD"} {
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

// first is the first program of these that the twin has.
func (m machine) first(paths ...string) (string, error) {
	var errs []error
	for _, p := range paths {
		at, err := m.resolve(p)
		if err == nil {
			return at, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}
