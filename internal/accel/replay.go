package accel

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Crates that were compiled before an instruction have no record of how: those of an earlier RUN, as cargo-chef's, or of a target folder that a cache mount keeps.
// cargo knows, so it is run once more, into a folder of the instruction's: what it calls in rustc's place records what it is asked for and compiles nothing, and
// what it runs in a build script's place says what the script has said before. Nothing is fetched, and nothing is written below the target folder.

// replayed is the variable that names the target folder that has been filled before, in what cargo runs then.
const replayed = "MANIFOLD_REPLAYED_TARGET"

// rustInfo is where cargo keeps what the compiler has said of itself, in a target folder.
const rustInfo = ".rustc_info.json"

// targetTag lies in each target folder (cargo writes it for backup programs; the Cache Directory Tagging Specification).
const targetTag = "CACHEDIR.TAG"

// inOneRun is what to do for crates whose record there is no other way to.
const inOneRun = "to have them for the build platform too, compile both in one RUN"

// recordOf is how a crate was compiled, in this instruction or before.
func (m machine) recordOf(stem string) (recorded, error) {
	how, err := m.recorded(stem)
	if err == nil {
		return how, nil
	}
	if more := m.replay(filepath.Dir(stem)); more != nil {
		return recorded{}, fmt.Errorf("%w, and cargo does not say how (%w); %s", err, more, inOneRun)
	}
	return m.recorded(stem)
}

// replay has the cargo that this program was called by say how it compiles, once in an instruction.
func (m machine) replay(outDir string) error {
	target, err := targetFolder(outDir)
	if err != nil {
		return err
	}
	dir, ok := m.ownFolder()
	if !ok {
		return errors.New("there is no room for macros")
	}
	words, env, cwd, err := callingCargo()
	if err != nil {
		return err
	}
	words, err = buildCommand(words)
	if err != nil {
		return err
	}
	words[0] = m.Getenv("CARGO")
	key := strings.Join(slices.Concat([]string{"replay", target, cwd}, words), "\n")
	return locked(filepath.Join(dir, "replay.lock"), func() error {
		answer, err := m.remember(key, func() (string, error) {
			if err := m.runCargo(words, env, cwd, target, filepath.Join(dir, "replay")); err != nil {
				return err.Error(), nil //nolint:nilerr // it is remembered too
			}
			return "", nil
		})
		if err == nil && answer != "" {
			err = errors.New(answer)
		}
		return err
	})
}

// targetFolder is the target folder that cargo's folders of crates lie in.
func targetFolder(outDir string) (string, error) {
	outDir, err := filepath.Abs(outDir)
	if err != nil {
		return "", err
	}
	for d := outDir; d != "/"; d = filepath.Dir(d) {
		if exists(filepath.Join(d, targetTag)) {
			return d, nil
		}
	}
	return "", fmt.Errorf("%s lies in no target folder", outDir)
}

// callingCargo are the words, the environment and the folder of the process that this one was started by.
func callingCargo() (words, env []string, cwd string, _ error) {
	proc := fmt.Sprintf("/proc/%d", os.Getppid())
	cmdline, err := os.ReadFile(proc + "/cmdline")
	environ, err2 := os.ReadFile(proc + "/environ")
	cwd, err3 := os.Readlink(proc + "/cwd")
	list := func(dt []byte) []string { return strings.Split(strings.TrimSuffix(string(dt), "\x00"), "\x00") }
	return list(cmdline), list(environ), cwd, errors.Join(err, err2, err3)
}

// buildFlags are options of cargo build that choose what is compiled or how, and whether they have a value (The Cargo Book, cargo build).
var buildFlags = map[string]bool{
	"--package": true, "-p": true, "--workspace": false, "--all": false, "--exclude": true, "--lib": false, "--bin": true, "--bins": false, "--example": true,
	"--examples": false, "--test": true, "--tests": false, "--bench": true, "--benches": false, "--all-targets": false, "--features": true, "-F": true,
	"--all-features": false, "--no-default-features": false, "--target": true, "--release": false, "-r": false, "--profile": true, "--manifest-path": true,
	"--locked": false, "--offline": false, "--frozen": false, "--config": true,
}

// otherFlags are options of cargo's that have a value and are left out.
var otherFlags = []string{"--jobs", "-j", "--target-dir", "--message-format", "--color", "--artifact-dir", "--out-dir", "--root", "--index", "--registry"}

// compiles are cargo's commands that compile, and what cargo build has to be told for the same.
var compiles = map[string][]string{
	"build": nil, "b": nil, "rustc": nil, "run": nil, "r": nil, "install": {"--release"}, "test": {"--tests"}, "t": {"--tests"}, "bench": {"--benches", "--release"},
}

// buildCommand is cargo build for what a command line of cargo's compiles. An emulator's own words may stand before it.
func buildCommand(words []string) ([]string, error) {
	at := slices.IndexFunc(words, func(w string) bool { _, ok := compiles[w]; return ok })
	if at < 1 || !slices.ContainsFunc(words[:at], func(w string) bool { return filepath.Base(w) == "cargo" }) {
		return nil, fmt.Errorf("%q is no command of cargo's that is known to compile", strings.Join(words, " "))
	}
	command := words[at]
	out := []string{"cargo", "build"}
	for left := words[at+1:]; len(left) > 0 && left[0] != "--"; left = left[1:] {
		name, value, joined := left[0], "", false
		if strings.HasPrefix(name, "--") {
			name, value, joined = strings.Cut(name, "=")
		} else if len(name) > 2 && name[0] == '-' && name[1] != 'v' { // -pname, -j4
			name, value, joined = name[:2], name[2:], true
		}
		has, known := buildFlags[name]
		takes := known && has || slices.Contains(otherFlags, name) || command == "install" && name == "--path"
		if takes && !joined && len(left) > 1 {
			value, left = left[1], left[1:]
		}
		switch {
		case name == "--path" && takes:
			out = append(out, "--manifest-path", filepath.Join(value, "Cargo.toml"))
		case known && has:
			out = append(out, name, value)
		case known:
			out = append(out, name)
		}
	}
	for _, more := range compiles[command] {
		chosen := func(w string) bool { return w == more || more == "--release" && (w == "--profile" || w == "-r") }
		if debug := command == "install" && slices.Contains(words, "--debug"); !debug && !slices.ContainsFunc(out, chosen) {
			out = append(out, more)
		}
	}
	return out, nil
}

// ofCargo are variables of the running cargo's own: its tokens for jobs, and folders for what is built.
var ofCargo = []string{"MAKEFLAGS", "MFLAGS", "CARGO_MAKEFLAGS", "RUSTC_WRAPPER", "CARGO_BUILD_RUSTC_WRAPPER", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_BUILD_BUILD_DIR", "CARGO_NET_OFFLINE"}

func (m machine) runCargo(words, env []string, cwd, target, to string) error {
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(ofCargo, name)
	})
	cmd := exec.Command(words[0], words[1:]...) //nolint:noctx // the cargo that this program was called by
	cmd.Dir = cwd
	cmd.Env = slices.Concat(env, []string{"RUSTC_WRAPPER=" + filepath.Join(m.Bin, rustWrapper), "CARGO_TARGET_DIR=" + to, "CARGO_BUILD_BUILD_DIR=" + to, "CARGO_NET_OFFLINE=true", replayed + "=" + target})
	if dt, err := os.ReadFile(filepath.Join(target, rustInfo)); err == nil && os.MkdirAll(to, 0o700) == nil {
		_ = os.WriteFile(filepath.Join(to, rustInfo), dt, 0o600) // else cargo asks again
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, lastLine(out))
	}
	return os.RemoveAll(to)
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// rustRecord stands in rustc's place while cargo says how it compiles: a crate whose library there is from before is recorded.
func (m machine) rustRecord(words []string) error {
	if len(words) == 0 {
		return errors.New("no compiler to run")
	}
	u, ok := readUnit(words[1:])
	if !ok || u.outDir == "" {
		return become(words[0], words)
	}
	before, now := m.Getenv(replayed), m.Getenv("CARGO_TARGET_DIR")
	there, err := inOther(u.outDir, now, before)
	if err != nil {
		return err
	}
	if u.isLibrary() && (exists(filepath.Join(there, u.stem()+".rlib")) || exists(filepath.Join(there, u.stem()+".rmeta")) || exists(filepath.Join(there, u.stem()+".so"))) {
		if err := m.recordEarlier(u, there, now, before); err != nil {
			return err
		}
	}
	return m.answer(u)
}

// inOther is a path in one folder as a path in another.
func inOther(path, from, to string) (string, error) {
	rel, err := filepath.Rel(from, path)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("%s is not in %s", path, from)
	}
	return filepath.Join(to, rel), nil
}

// recordEarlier keeps how a crate was compiled before this instruction. What was recorded in it is left as it is.
func (m machine) recordEarlier(u unit, outDir, now, before string) error {
	dir, err := m.crates(outDir)
	if err != nil {
		return err
	}
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	how := recorded{Dir: cwd, Earlier: true}
	for _, a := range u.args {
		how.Args = append(how.Args, strings.ReplaceAll(a, now, before))
	}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if name != replayed && !slices.Contains(ofCargo, name) {
			how.Env = append(how.Env, strings.ReplaceAll(v, now, before))
		}
	}
	dt, err := json.Marshal(how)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "new-")
	if err != nil {
		return err
	}
	_, err = f.Write(dt)
	if err = errors.Join(err, f.Close()); err == nil {
		if err = os.Link(f.Name(), filepath.Join(dir, u.stem()+".json")); errors.Is(err, os.ErrExist) {
			err = nil
		}
	}
	return errors.Join(err, os.Remove(f.Name()))
}

// answer leaves the files that cargo looks for when a crate has been compiled.
func (m machine) answer(u unit) error {
	names := []string{u.crate + u.extra + ".d"}
	if u.isLibrary() {
		for _, ext := range []string{".rmeta", ".rlib", ".so"} {
			names = append(names, u.stem()+ext)
		}
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(u.outDir, name), nil, 0o600); err != nil {
			return err
		}
	}
	if u.is("bin") && strings.HasPrefix(u.crate, "build_script_") {
		return link(filepath.Join(m.Bin, Name), filepath.Join(u.outDir, u.crate+u.extra))
	}
	return nil
}

// buildScript is what build scripts are called.
const buildScript = "build-script-"

// replayScript says what a build script has said before, whose place it has.
func (m machine) replayScript(out io.Writer) error {
	dir, err := inOther(m.Getenv("OUT_DIR"), m.Getenv("CARGO_TARGET_DIR"), m.Getenv(replayed))
	if err != nil {
		return err
	}
	was, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "root-output"))
	if err != nil {
		return err
	}
	if filepath.Clean(string(bytes.TrimSpace(was))) != dir {
		return fmt.Errorf("the build script has run for %s, not for %s", was, dir)
	}
	said, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "output"))
	if err != nil {
		return err
	}
	_, err = out.Write(said)
	return err
}

// locked does something while no other process does.
func locked(name string, do func() error) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := lock(f); err != nil {
		return err
	}
	return do()
}

// published reports whether a package's files are what a registry, a repository or a vendored folder gave, and so the same as when it was compiled.
func (how recorded) published() bool {
	for _, v := range how.Env {
		if dir, ok := strings.CutPrefix(v, "CARGO_MANIFEST_DIR="); ok {
			return exists(filepath.Join(dir, ".cargo-ok")) || exists(filepath.Join(dir, ".cargo-checksum.json"))
		}
	}
	return false
}

// unchanged is an error if a crate's sources may not be those that it was compiled from: they do not make the same library for the target.
func (m machine) unchanged(r rust, u unit, how recorded) error {
	dir, ok := m.ownFolder()
	if !ok {
		return errors.New("there is no room for macros")
	}
	dir, err := os.MkdirTemp(dir, "again-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var args []string
	for _, o := range u.options {
		switch {
		case o.name == "--out-dir":
			args = append(args, o.with(dir)...)
		case o.key() == "incremental":
			args = append(args, "-Cincremental="+filepath.Join(dir, "incremental"))
		default:
			args = append(args, o.words...)
		}
	}
	again, ok := readUnit(args)
	if !ok {
		return fmt.Errorf("%s: a record that is not read", u.crate)
	}
	words, err := m.compilation(r, again)
	if err != nil {
		return err
	}
	cmd := exec.Command(words[0], words[1:]...) //nolint:noctx // as cargo would have
	cmd.Env, cmd.Dir = how.Env, how.Dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s, compiled before this instruction, is compiled again: %w %s", u.crate, err, firstError(out))
	}
	name := u.stem() + ".rlib"
	if u.is("proc-macro") {
		name = u.stem() + ".so"
	}
	is, err := digestOf(filepath.Join(dir, name))
	was, err2 := digestOf(filepath.Join(below(how.Dir, u.outDir), name))
	if err := errors.Join(err, err2); err != nil || is != was {
		return errors.Join(fmt.Errorf("%s was compiled before this instruction from other sources than are there now; %s", u.crate, inOneRun), err)
	}
	return nil
}
