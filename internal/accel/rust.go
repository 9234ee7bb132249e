package accel

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
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
	if _, ok := m.ownFolder(); !ok {
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
	if m.preloads() {
		return nil, errors.New("LD_PRELOAD or LD_AUDIT is set")
	}
	m.record(u)
	args, err := m.withMacros(r, u)
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
