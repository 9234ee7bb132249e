package accel

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// cargo calls rustc through the program that RUSTC_WRAPPER names (The Cargo Book, Environment Variables), which is this one. It runs the build
// platform's rustc of the same release from the twin, told the target and the stage's own sysroot, so that the standard library, the linker and all that the
// crates bring are the stage's. cargo itself, build scripts and what they run stay the target's. What rustc loads while it compiles, proc-macros, has to
// be of the build platform's as well: see macros.go.

// rustWrapper is the name that RUSTC_WRAPPER has.
const rustWrapper = "rustc-wrapper"

// wrapperVariables name a wrapper of the user's, or say that there is to be none.
var wrapperVariables = []string{"RUSTC_WRAPPER", "CARGO_BUILD_RUSTC_WRAPPER"}

// rustcWrapper is what RUSTC_WRAPPER is to be; not ok if there is nothing to wrap, or that is not to be changed.
func (m machine) rustcWrapper() (string, bool) {
	command, err := exec.LookPath("rustc")
	if err != nil {
		return "", false
	}
	if _, err := m.resolve(command); err != nil {
		return "", false
	}
	if _, ok := m.state(); !ok {
		return "", false
	}
	for _, name := range wrapperVariables {
		if m.isSet(name) {
			m.sayf("rustc is emulated: %s is set", name)
			return "", false
		}
	}
	m.noteLog()
	return filepath.Join(m.Bin, rustWrapper), true
}

// isSet reports whether a variable is in the environment, be it empty.
func (m machine) isSet(name string) bool {
	_, set := os.LookupEnv(name)
	return set || m.Getenv(name) != ""
}

// rustc runs the compiler that cargo asks for, whose path is the first word, by its twin if that is the same and does the same.
func (m machine) rustc(words []string) error {
	if len(words) == 0 {
		return errors.New("no compiler to run")
	}
	if wrapper, ok := m.configuredWrapper(); ok { // the variable has taken its place
		return become(wrapper, slices.Concat([]string{wrapper}, words))
	}
	if filepath.Base(words[0]) != "rustc" { // RUSTC_WORKSPACE_WRAPPER
		return become(words[0], words)
	}
	u, ok := readUnit(words[1:])
	if !ok {
		return become(words[0], words)
	}
	r, err := m.sameRust(words[0])
	if err != nil {
		m.sayOnce("rustc is emulated: " + err.Error())
		return become(words[0], words)
	}
	args, err := m.compilation(r, u)
	if err != nil {
		m.sayOnce("rustc is emulated for " + u.crate + ": " + err.Error())
		return become(words[0], words)
	}
	if u.is("proc-macro") {
		return m.procMacro(r, u, args)
	}
	return execve(args[0], args)
}

// compilation are the words that run the twin in the place of the stage's own compiler.
func (m machine) compilation(r rust, u unit) ([]string, error) {
	if u.links() && (r.linksOtherwise() || u.lld || u.target != "" && !strings.Contains(u.target, "-linux-")) {
		return nil, errors.New("it links with the linker beside it")
	}
	m.record(u)
	args, err := m.withMacros(u)
	if err != nil {
		return nil, err
	}
	more := []string{"--sysroot", r.sysroot}
	if u.target == "" {
		more = append(more, "--target", r.target)
	}
	return slices.Concat(m.running(r.twin), more, args), nil
}

// rust is a compiler and its twin.
type rust struct {
	target, host string // triples: aarch64-unknown-linux-gnu
	sysroot      string // of the stage's own
	twin         string // the program
	twinSysroot  string
}

// sameRust compares the stage's compiler with the build platform's in the same place.
func (m machine) sameRust(command string) (rust, error) {
	file, err := lookPath(command)
	if err != nil {
		return rust{}, err
	}
	answer, err := m.remember("rustc\n"+identity(file)+"\n"+m.Getenv("RUSTUP_TOOLCHAIN"), func() (string, error) {
		r, err := m.compareRust(file)
		if err != nil {
			return "\n" + err.Error(), nil //nolint:nilerr // it is remembered too
		}
		return strings.Join([]string{r.target, r.host, r.sysroot, r.twin, r.twinSysroot}, "\n"), nil
	})
	if err != nil {
		return rust{}, err
	}
	f := strings.Split(answer, "\n")
	const fields = 5
	if len(f) != fields || f[0] == "" {
		return rust{}, errors.New(strings.TrimSpace(answer))
	}
	return rust{target: f[0], host: f[1], sysroot: f[2], twin: f[3], twinSysroot: f[4]}, nil
}

func (m machine) compareRust(file string) (rust, error) {
	own, err := m.withoutProxy(file)
	if err != nil {
		return rust{}, err
	}
	said, err := versionOf([]string{own})
	if err != nil {
		return rust{}, err
	}
	r := rust{target: said["host"], sysroot: filepath.Dir(filepath.Dir(own))}
	if r.host, err = hostTriple(r.target); err != nil {
		return rust{}, err
	}
	there := strings.ReplaceAll(own, r.target, r.host) // a folder of rustup's is named for its machine
	if r.twin, err = m.resolve(there); err != nil || !isOurs(r.twin) {
		return rust{}, errors.Join(fmt.Errorf("the image for the build platform has no %s", there), err)
	}
	r.twinSysroot = filepath.Dir(filepath.Dir(r.twin))
	run := m.running(r.twin)
	if run == nil {
		return rust{}, fmt.Errorf("%s has no loader in its image", there)
	}
	twin, err := versionOf(run)
	if err != nil {
		return rust{}, err
	}
	if twin["host"] != r.host {
		return rust{}, fmt.Errorf("the image for the build platform has a rustc of %s, not of %s", twin["host"], r.host)
	}
	for _, name := range []string{"", "release", "commit-hash", "LLVM version"} {
		if said[name] != twin[name] || said[name] == "" {
			return rust{}, fmt.Errorf("it says %q, and the build platform's %q", said[name], twin[name])
		}
	}
	if err := m.samePackages(); err != nil {
		return rust{}, err
	}
	for sysroot, triple := range map[string]string{r.sysroot: r.target, r.twinSysroot: r.host} {
		if info, err := os.Stat(filepath.Join(sysroot, "lib/rustlib", triple, "lib")); err != nil || !info.IsDir() {
			return rust{}, fmt.Errorf("%s has no standard library for %s", sysroot, triple)
		}
	}
	return r, nil
}

// withoutProxy is the compiler itself where a command is rustup's, which has been told the tool chain when it ran cargo (The rustup book, Environment
// variables; Proxies).
func (m machine) withoutProxy(file string) (string, error) {
	own, err := filepath.EvalSymlinks(file)
	if err != nil || filepath.Base(own) == "rustc" && !sameFile(own, filepath.Join(filepath.Dir(own), "rustup")) {
		return own, err
	}
	chain, home := m.Getenv("RUSTUP_TOOLCHAIN"), m.Getenv("RUSTUP_HOME")
	if home == "" {
		home = filepath.Join(m.Getenv("HOME"), ".rustup")
	}
	if chain == "" {
		return "", fmt.Errorf("%s is another program, and no tool chain of rustup's is named", file)
	}
	if !filepath.IsAbs(chain) {
		chain = filepath.Join(home, "toolchains", chain)
	}
	return filepath.EvalSymlinks(filepath.Join(chain, "bin/rustc"))
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	y, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// versionOf is what a compiler says of itself: the first line has no name.
func versionOf(run []string) (map[string]string, error) {
	cmd := exec.Command(run[0], append(run[1:], "-vV")...) //nolint:noctx // the compiler in whose place this program runs, or its twin
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s -vV: %w", run[len(run)-1], err)
	}
	said := map[string]string{}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if name, value, ok := strings.Cut(line, ": "); ok {
			said[name] = value
		} else if said[""] == "" {
			said[""] = line
		}
	}
	return said, nil
}

// hostTriple is the name that this machine has where another's is given: the same vendor and C library.
func hostTriple(target string) (string, error) {
	machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64", "s390x": "s390x", "ppc64le": "powerpc64le", "riscv64": "riscv64gc"}[runtime.GOARCH]
	f := strings.SplitN(target, "-", 3) //nolint:mnd // machine, vendor, the rest
	if machine == "" || len(f) < 3 || !strings.HasPrefix(f[2], "linux-") {
		return "", fmt.Errorf("no twin is known of %q", target)
	}
	libc := "gnu"
	if strings.HasPrefix(f[2], "linux-musl") {
		libc = "musl"
	}
	return strings.Join([]string{machine, f[1], "linux", libc}, "-"), nil
}

// rustPackages are those that a compiler consists of where it is a distribution's; the name ends there, or goes on as given.
var rustPackages = regexp.MustCompile(`^(rustc(-[0-9.]+)?|libstd-rust-.*|libllvm[0-9.]*|rust|llvm[0-9]+-libs)$`)

// samePackages compares the packages that a compiler consists of with those of the twin: Debian's release has a revision of its own that no compiler says.
func (m machine) samePackages() error {
	own, twin := packagesBelow(m.Root), packagesBelow(m.Twin)
	for name, v := range own {
		if twin[name] != v {
			return fmt.Errorf("the package %s is %s, and %q in the image for the build platform", name, v, twin[name])
		}
	}
	return nil
}

// packagesBelow are the versions of the packages of a compiler that dpkg or apk has installed below a root. Rebuilds of the same source (+b1) are equal.
func packagesBelow(root string) map[string]string {
	out := map[string]string{}
	for file, keys := range map[string][2]string{"var/lib/dpkg/status": {"Package: ", "Version: "}, "lib/apk/db/installed": {"P:", "V:"}} {
		dt, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			continue
		}
		name := ""
		for line := range bytes.Lines(dt) {
			line := strings.TrimSpace(string(line))
			if v, ok := strings.CutPrefix(line, keys[0]); ok {
				name = v
			} else if v, ok := strings.CutPrefix(line, keys[1]); ok && rustPackages.MatchString(name) {
				out[name] = rebuilt.ReplaceAllString(v, "")
			}
		}
	}
	return out
}

var rebuilt = regexp.MustCompile(`\+b[0-9]+$`)

// linksOtherwise reports whether a compiler brings a linker that it uses by default and looks for beside its own machine's libraries.
func (r rust) linksOtherwise() bool {
	_, err := os.Stat(filepath.Join(r.sysroot, "lib/rustlib", r.target, "bin/gcc-ld"))
	return err == nil && strings.HasPrefix(r.target, "x86_64-")
}

// resolve is where a path of the container's lies in the twin, its links followed inside of the twin as if that were the root.
func (m machine) resolve(path string) (string, error) {
	at, left := "/", strings.Split(filepath.Clean(path), "/")
	for hops := 0; len(left) > 0; {
		next := filepath.Join(at, left[0])
		left = left[1:]
		info, err := os.Lstat(filepath.Join(m.Twin, next))
		if err != nil {
			return "", err
		}
		if info.Mode()&os.ModeSymlink == 0 {
			at = next
			continue
		}
		to, err := os.Readlink(filepath.Join(m.Twin, next))
		if hops++; err != nil || hops > maxLinks {
			return "", errors.Join(fmt.Errorf("%s: too many links", path), err)
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		left = slices.Concat(strings.Split(to, "/"), left)
	}
	return filepath.Join(m.Twin, at), nil
}

const maxLinks = 40

// running are the words that run a program of the twin's, loaded by the twin's own loader with the twin's libraries; nil if there is no loader.
func (m machine) running(program string) []string {
	f, err := elf.Open(program)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(p.Open())
		if err != nil {
			return nil
		}
		loader, err := m.resolve(strings.TrimRight(string(name), "\x00"))
		if err != nil || !isOurs(loader) {
			return nil
		}
		return []string{loader, "--library-path", m.libraries(), program}
	}
	return []string{program}
}

// libraries is where the twin's libraries lie, as a list.
func (m machine) libraries() string {
	multi := map[string]string{"amd64": "x86_64", "arm64": "aarch64", "ppc64le": "powerpc64le"}[runtime.GOARCH]
	if multi == "" {
		multi = runtime.GOARCH
	}
	multi += "-linux-gnu"
	var out []string
	for _, d := range []string{"/usr/local/lib", "/lib/" + multi, "/usr/lib/" + multi, "/lib64", "/usr/lib64", "/lib", "/usr/lib"} {
		if at, err := m.resolve(d); err == nil && !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	return strings.Join(out, ":")
}

// unit is what a compiler is asked to compile.
type unit struct {
	args   []string
	crate  string
	types  []string
	target string // named by the user; empty means the compiler's own
	outDir string
	extra  string // what the file names end in
	emits  bool
	lld    bool     // perhaps linked by the linker that rustc brings, and looks for in a folder that is named for its own machine
	deps   []string // the folders that crates are looked for in
	crates []string // the files of those that it names
}

func (u unit) is(kind string) bool { return slices.Contains(u.types, kind) }

// links reports whether a linker is run.
func (u unit) links() bool {
	return len(u.types) == 0 || slices.ContainsFunc(u.types, func(t string) bool { return t != "lib" && t != "rlib" && t != "staticlib" })
}

// stem is what the unit's file is called, without its suffix.
func (u unit) stem() string { return "lib" + u.crate + u.extra }

// notRust are options with which a twin does something else: it is another machine's, or has the answer in itself.
var notRust = []string{"--print", "--sysroot", "-V", "-v", "--version", "--help", "-h", "--explain", "-Z", "@", "-W help", "-C help"}

// readUnit reads the arguments of a compiler; not ok if the twin may not do the same with them.
func readUnit(args []string) (u unit, ok bool) {
	u = unit{args: args}
	for i := 0; i < len(args); i++ {
		a := args[i]
		if slices.ContainsFunc(notRust, func(o string) bool {
			return a == o || strings.HasPrefix(a, o) && (o == "-Z" || o == "@" || strings.HasPrefix(a, o+"="))
		}) {
			return u, false
		}
		name, value := a, ""
		switch {
		case strings.HasPrefix(a, "--"):
			var has bool
			if name, value, has = strings.Cut(a, "="); !has && takesValue(name) && i+1 < len(args) {
				i++
				value = args[i]
			}
		case len(a) > 1 && a[0] == '-' && strings.ContainsRune("CLloWADFZ", rune(a[1])):
			if name, value = a[:2], a[2:]; value == "" && i+1 < len(args) {
				i++
				value = args[i]
			}
		}
		if !u.take(name, value) {
			return u, false
		}
	}
	return u, u.crate != "" && u.emits && !strings.HasSuffix(u.target, ".json")
}

// takesValue reports whether the word after an option is its value.
func takesValue(name string) bool {
	return !slices.Contains([]string{"--test", "--verbose"}, name)
}

// take takes an option; not ok if the twin may do something else with it.
func (u *unit) take(name, value string) bool {
	switch name {
	case "--crate-name":
		u.crate = value
	case "--crate-type":
		u.types = append(u.types, strings.Split(value, ",")...)
	case "--target":
		u.target = value
	case "--out-dir":
		u.outDir = value
	case "--emit":
		u.emits = true
	case "--extern":
		if _, file, ok := strings.Cut(value, "="); ok {
			u.crates = append(u.crates, file)
		}
	case "-L":
		if dir, ok := strings.CutPrefix(value, "dependency="); ok {
			u.deps = append(u.deps, dir)
		}
	case "-C", "--codegen":
		key, set, _ := strings.Cut(value, "=")
		switch strings.ReplaceAll(key, "_", "-") {
		case "extra-filename":
			u.extra = set
		case "target-cpu", "tune-cpu":
			return set != "native"
		case "linker", "linker-flavor":
			u.lld = u.lld || strings.Contains(set, "lld")
		case "link-self-contained":
			u.lld = true
		case "help":
			return false
		}
	}
	return true
}

// configuredWrapper is the wrapper that cargo's configuration names, which the variable has taken the place of (The Cargo Book, Configuration).
func (m machine) configuredWrapper() (string, bool) {
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", os.Getppid())) // cargo's, which runs the compiler elsewhere
	if err != nil {
		return "", false
	}
	home := m.Getenv("CARGO_HOME")
	if home == "" {
		home = filepath.Join(m.Getenv("HOME"), ".cargo")
	}
	dirs := []string{}
	for d := cwd; ; d = filepath.Dir(d) {
		dirs = append(dirs, filepath.Join(d, ".cargo"))
		if d == "/" {
			break
		}
	}
	for _, d := range append(dirs, home) {
		for _, name := range []string{"config", "config.toml"} {
			dt, err := os.ReadFile(filepath.Join(d, name))
			if err != nil {
				continue
			}
			if found := wrapperSetting.FindSubmatch(dt); found != nil && len(found[2]) > 0 {
				return string(found[2]), true
			}
		}
	}
	return "", false
}

var wrapperSetting = regexp.MustCompile(`(?m)^\s*(build\.)?rustc-wrapper\s*=\s*["']([^"']*)["']`)

// log is where the instruction's first process writes what the step's log shows: what cargo's compilers say goes where a script may read it.
const log = "/proc/1/fd/2"

// noteLog notes which file the step's log is when the instruction begins: a shell may have another there for as long as a command runs.
func (m machine) noteLog() {
	if dir, ok := m.state(); ok {
		_ = os.WriteFile(filepath.Join(dir, "log"), []byte(fileOf("/proc/self/fd/2")), 0o600)
	}
}

// fileOf tells a file apart from all others of the machine.
func fileOf(name string) string {
	var st syscall.Stat_t
	if err := syscall.Stat(name, &st); err != nil {
		return ""
	}
	return fmt.Sprintf("%d %d", st.Dev, st.Ino)
}

// sayOnce says something once in an instruction, if its log can be written to.
func (m machine) sayOnce(what string) {
	dir, ok := m.state()
	if !ok {
		return
	}
	noted, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil || string(noted) == "" || string(noted) != fileOf(log) {
		return
	}
	sum := sha256.Sum256([]byte(what))
	f, err := os.OpenFile(filepath.Join(dir, "said-"+hex.EncodeToString(sum[:8])), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	_ = f.Close()
	if out, err := os.OpenFile(log, os.O_WRONLY, 0); err == nil {
		fmt.Fprintf(out, "manifold: %s\n", what)
		_ = out.Close()
	}
}
