package accel

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// gcc's driver is a small program that runs others: it looks for them in the folders of COMPILER_PATH before its own, and collect2 looks for the linker
// there (GCC manual, Environment Variables; Collect2). So the driver, its specs, the headers and the libraries stay the stage's, and this program is found
// where the driver would have found the compiler, the assembler and the linker. It asks the driver which program that would have been. The tool chain
// image (see [Toolchain]) lists by its digest each program of the target's that it has a twin of: the same source, built for the build platform.

// gccTools are the programs that the driver runs, as this program is called in their place; the linker is called by collect2 alone, and has a folder of
// its own: build systems ask the driver for the linker's path and write it down.
var gccTools = []string{"cc1", "cc1plus", "lto1", "as", "collect2"}

const linker = "ld"

// gccDir and linkerDir are the folders of those names below Bin.
const gccDir, linkerDir = "gcc", "linker"

// compilerPath is COMPILER_PATH with the folder of ours behind the user's own; not ok if there is no tool chain.
func (m machine) compilerPath() (string, bool) {
	list, err := readPrograms(m.Toolchain)
	if err != nil || len(list) == 0 {
		return "", false
	}
	m.sayOtherGCC(list)
	return joined(m.Getenv("COMPILER_PATH"), filepath.Join(m.Bin, gccDir)), true
}

func joined(list, dir string) string {
	if list == "" {
		return dir
	}
	return list + string(filepath.ListSeparator) + dir
}

// sayOtherGCC says which compilers of the stage the tool chain has no twin of. Whoever runs them reads what they print, so it is said before.
func (m machine) sayOtherGCC(list []twinned) {
	for _, dir := range []string{"usr/libexec", "usr/lib", "usr/local/libexec", "usr/local/lib"} {
		found, err := filepath.Glob(filepath.Join(m.Root, dir, "gcc/*/*/cc1"))
		if err != nil {
			continue
		}
		for _, f := range found {
			info, err := os.Stat(f)
			if err == nil && !slices.ContainsFunc(list, func(p twinned) bool { return p.size == info.Size() }) {
				m.sayf("gcc is emulated: %s is of another build than those that there are tool chains for", f)
			}
		}
	}
}

// gccTool runs a program of gcc's or its twin.
func (m machine) gccTool(name string, args []string) error {
	if name == linker {
		return m.link(args)
	}
	own, called, err := m.ownTool(name)
	if err != nil {
		return err
	}
	twin, ok := m.toolTwin(own)
	if !ok {
		return execve(own, slices.Concat([]string{called}, args))
	}
	more, ok := m.suits(name, own, twin, args)
	if !ok {
		return execve(own, slices.Concat([]string{called}, args))
	}
	if name == "collect2" {
		m.setLinker()
	}
	for _, v := range includeVariables(name) {
		_ = os.Unsetenv(v)
	}
	return execve(m.loader(), m.loading(called, twin, slices.Concat(args, more)))
}

// loader is the program that loads the tool chain's programs with its own libraries: the container's are another machine's.
func (m machine) loader() string { return filepath.Join(m.Toolchain, "lib/ld.so") }

// loading are the words that run a twin under the name that its own program is called by.
func (m machine) loading(called, twin string, args []string) []string {
	lib := filepath.Join(m.Toolchain, "lib")
	return slices.Concat([]string{m.loader(), "--inhibit-cache", "--library-path", lib, "--argv0", called, twin}, args)
}

// ownTool is the program that the driver would have run, and the name that it would have called it by.
func (m machine) ownTool(name string) (own, called string, _ error) {
	driver := m.Getenv("COLLECT_GCC")
	if driver == "" { // called by its path
		own, err := exec.LookPath(name)
		return own, name, err
	}
	driver, err := lookPath(driver)
	if err != nil {
		return "", "", err
	}
	key := strings.Join([]string{"tool", name, identity(driver), m.Getenv("PATH"), m.Getenv("COMPILER_PATH"), m.Getenv("GCC_EXEC_PREFIX")}, "\n")
	called, err = m.remember(key, func() (string, error) {
		cmd := exec.Command(driver, "-print-prog-name="+name) //nolint:noctx // the driver that runs this program
		cmd.Env = m.withoutOurs()
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("%s -print-prog-name=%s: %w", driver, name, err)
		}
		called := strings.TrimSpace(string(out))
		if _, err := lookPath(called); err != nil { // it may be installed yet, so that is not remembered
			return "", fmt.Errorf("%s: cannot execute %q: %w", filepath.Base(driver), name, err)
		}
		return called, nil
	})
	if err != nil {
		return "", "", err
	}
	own, err = lookPath(called)
	return own, called, err
}

// lookPath looks a program up as the driver does, which obeys a dot in PATH.
func lookPath(name string) (string, error) {
	file, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrDot) {
		err = nil
	}
	return file, err
}

// withoutOurs is the environment without the folder that this program is found in, and without what the driver has told its subprograms.
func (m machine) withoutOurs() []string {
	out := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "COMPILER_PATH=") || strings.HasPrefix(v, "COLLECT_") })
	dirs := slices.DeleteFunc(filepath.SplitList(m.Getenv("COMPILER_PATH")), func(d string) bool { return filepath.Clean(d) == filepath.Join(m.Bin, gccDir) })
	if len(dirs) > 0 {
		out = append(out, "COMPILER_PATH="+strings.Join(dirs, string(filepath.ListSeparator)))
	}
	return out
}

// setLinker has collect2 find this program as the linker, after the folders that the user has named.
func (m machine) setLinker() {
	dirs := filepath.SplitList(m.Getenv("COMPILER_PATH"))
	for i, d := range dirs {
		if filepath.Clean(d) == filepath.Join(m.Bin, gccDir) {
			dirs[i] = filepath.Join(m.Bin, linkerDir)
		}
	}
	_ = os.Setenv("COMPILER_PATH", strings.Join(dirs, string(filepath.ListSeparator)))
}

// ownLinker is the linker that collect2 would have found.
func (m machine) ownLinker() (string, error) {
	for _, d := range filepath.SplitList(m.Getenv("COMPILER_PATH")) {
		if filepath.Clean(d) == filepath.Join(m.Bin, linkerDir) {
			continue
		}
		if own, err := exec.LookPath(filepath.Join(d, linker)); err == nil {
			return own, nil
		}
	}
	return exec.LookPath(linker)
}

// link runs the twin of the linker, and the stage's own where that fails or has something to say: a linker for another machine does not read the
// container's ld.so.conf (ld manual, -rpath-link).
func (m machine) link(args []string) error {
	own, err := m.ownLinker()
	if err != nil {
		return err
	}
	if twin, ok := m.toolTwin(own); ok {
		if with, ok := m.withPlugin(args); ok {
			var said bytes.Buffer
			run := m.loading(own, twin, with)
			cmd := exec.Command(run[0]) //nolint:noctx // as collect2 would have
			cmd.Args, cmd.Stdin, cmd.Stdout, cmd.Stderr = run, os.Stdin, &said, &said
			if err := cmd.Run(); err == nil && said.Len() == 0 {
				return nil
			}
		}
	}
	return execve(own, slices.Concat([]string{own}, args)) // collect2 calls it by its path
}

// withPlugin is the linker's arguments with the twin of gcc's plugin in its place; not ok if they ask for what the twin would do otherwise.
func (m machine) withPlugin(args []string) ([]string, bool) {
	out := slices.Clone(args)
	for i, a := range args {
		switch {
		case a == "-plugin" && i+1 < len(args):
			twin, ok := m.toolTwin(args[i+1])
			if !ok {
				return nil, false
			}
			out[i+1] = twin
		case strings.HasPrefix(a, "-plugin=") || strings.HasPrefix(a, "--plugin"):
			return nil, false
		case strings.HasPrefix(a, "@"):
			dt, err := os.ReadFile(a[1:])
			if err != nil || bytes.Contains(dt, []byte("-plugin")) {
				return nil, false
			}
		}
	}
	return out, true
}

// notTwins are options of the compiler that mean something else, or print something else, when its twin runs: programs of the stage's that are loaded, files that
// hold the compiler's own memory, other folders of headers, other character sets than the C library itself knows, what it says of itself.
var notTwins = map[string][]string{
	"cc1": {"-fplugin", "-isysroot", "--sysroot", "-iwithprefix", "-iprefix", "--output-pch", "-fmodule", "-fdeps", "-finput-charset", "-fexec-charset", "-fwide-exec-charset", "-fself-test",
		"-ftime-report", "-fmem-report", "-fcompare-debug", "-version", "--version", "--help", "-fhelp", "--target-help", "-fpch", "-Winvalid-pch", "@"},
	"lto1":     {"-fplugin", "-version", "--version", "--help", "--target-help", "-ftime-report", "-fmem-report", "@"},
	"as":       {"-version", "--version", "--help", "--target-help", "--dump-config"},
	"collect2": {"-fuse-ld", "-debug", "--help", "--version"},
}

// suits reports whether the twin does what a program of gcc's does with these arguments, and what it has to be told more.
func (m machine) suits(name, own, twin string, args []string) (more []string, ok bool) {
	options := notTwins[name]
	if name == "cc1plus" {
		options = notTwins["cc1"]
	}
	for _, a := range args {
		if a == "-v" || a == "-Q" || slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(a, o) }) {
			return nil, false
		}
	}
	if m.preloads() || m.Getenv("GCC_COMPARE_DEBUG") != "" {
		return nil, false
	}
	if name != "cc1" && name != "cc1plus" {
		return nil, true
	}
	if precompiled(args) {
		return nil, false
	}
	return m.headers(name, own, twin, args)
}

// precompiled reports whether a header may be taken from a file that holds a compiler's memory.
func precompiled(args []string) bool {
	dirs := []string{"."}
	for i, a := range args {
		prev := ""
		if i > 0 {
			prev = args[i-1]
		}
		switch {
		case prev == "-o" && strings.HasSuffix(a, ".gch"), prev == "-include" && exists(a+".gch"):
			return true
		case prev == "-I" || prev == "-iquote" || prev == "-include":
			dirs = append(dirs, a)
		case strings.HasPrefix(a, "-I"):
			dirs = append(dirs, a[2:])
		case !strings.HasPrefix(a, "-") && strings.Contains(filepath.Base(a), "."):
			dirs = append(dirs, filepath.Dir(a))
		}
	}
	slices.Sort(dirs)
	for _, d := range slices.Compact(dirs) {
		if found, err := filepath.Glob(filepath.Join(d, "*.gch")); err != nil || len(found) > 0 {
			return true
		}
	}
	return false
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// includeVariables name folders of headers that come before the compiler's own (GCC manual, Environment Variables): the twin gets them as arguments.
func includeVariables(name string) []string {
	switch name {
	case "cc1":
		return []string{"C_INCLUDE_PATH"}
	case "cc1plus":
		return []string{"CPLUS_INCLUDE_PATH"}
	default:
		return nil
	}
}

// headers are the arguments that give the twin the stage's folders of headers in the order that its own compiler has: it is asked for them.
func (m machine) headers(name, own, twin string, args []string) (more []string, ok bool) {
	query := []string{"-E", "-quiet", "-v"}
	preprocesses, objective := false, false
	for i, a := range args {
		switch a {
		case "-nostdinc":
			return nil, true
		case "-imultiarch", "-imultilib":
			if i+1 < len(args) {
				query = append(query, a, args[i+1])
			}
		case "-nostdinc++":
			query = append(query, a)
		case "-E":
			preprocesses = true
		}
		objective = objective || strings.HasPrefix(a, "-lang-obj")
	}
	if objective {
		return nil, false
	}
	key := strings.Join(slices.Concat([]string{"headers", identity(own), m.Getenv("GCC_EXEC_PREFIX")}, query), "\n")
	list, err := m.remember(key, func() (string, error) { return m.sameFolders(name, own, twin, query) })
	if err != nil {
		return nil, false
	}
	dirs := strings.Split(list, "\n")
	// Of headers below /usr/local/include the compiler says in preprocessed text that they know C++; of folders that it is told it does not.
	if preprocesses && (name == "cc1plus" || slices.ContainsFunc(dirs, func(d string) bool { return strings.HasPrefix(d, "/usr/local/") && holdsFiles(d) })) {
		return nil, false
	}
	for _, v := range includeVariables(name) {
		if list := m.Getenv(v); list != "" {
			for _, d := range filepath.SplitList(list) {
				if d == "" {
					d = "."
				}
				more = append(more, "-isystem", d)
			}
		}
	}
	for _, d := range dirs {
		more = append(more, "-isystem", d)
	}
	return more, true
}

// sameFolders asks a compiler where it looks for headers, and its twin, when it is told so, whether it looks in the same folders and in no others.
func (m machine) sameFolders(name, own, twin string, query []string) (string, error) {
	dirs, err := m.folders(append([]string{own}, query...))
	if err != nil {
		return "", err
	}
	for _, d := range dirs {
		query = append(query, "-isystem", d)
	}
	again, err := m.folders(m.loading(name, twin, query))
	if err != nil {
		return "", err
	}
	if !slices.Equal(dirs, again) {
		return "", fmt.Errorf("%s looks for headers in %q, and its twin in %q", own, dirs, again)
	}
	return strings.Join(dirs, "\n"), nil
}

// folders are those that a compiler says it looks for headers in.
func (m machine) folders(command []string) ([]string, error) {
	cmd := exec.Command(command[0], append(command[1:], os.DevNull)...) //nolint:noctx // the compiler in whose place this program runs, or its twin
	cmd.Env = slices.DeleteFunc(m.withoutOurs(), func(v string) bool {  // what adds folders, writes files and translates
		return strings.Contains(v, "_PATH=") || strings.HasPrefix(v, "CPATH=") || strings.Contains(v, "DEPENDENCIES") || strings.HasPrefix(v, "LC_") || strings.HasPrefix(v, "LANG")
	})
	cmd.Env = append(cmd.Env, "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, err
	}
	dirs, ok := searchList(string(out))
	if !ok {
		return nil, fmt.Errorf("%s does not say where it looks for headers", command[0])
	}
	return dirs, nil
}

func holdsFiles(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err != nil || len(entries) > 0
}

// searchList reads the folders that a compiler says it looks for headers in.
func searchList(out string) (dirs []string, ok bool) {
	in := false
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "#include <...> search starts here:"):
			in = true
		case in && line == "End of search list.":
			return dirs, len(dirs) > 0
		case in:
			dirs = append(dirs, strings.TrimSpace(line))
		}
	}
	return nil, false
}
