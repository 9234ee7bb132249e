package accel

import (
	"slices"
	"strings"
)

// option is an option of a compiler, or another word of its command line, whose name that is.
type option struct {
	name, value string
	words       []string // as it was written
}

// with is the option with another value, as words.
func (o option) with(value string) []string {
	if value == o.value {
		return o.words
	}
	out := slices.Clone(o.words)
	last := len(out) - 1
	out[last] = strings.TrimSuffix(out[last], o.value) + value
	return out
}

// key is what a value of -C sets, as rustc compares it.
func (o option) key() string {
	if o.name != "-C" && o.name != "--codegen" {
		return ""
	}
	key, _, _ := strings.Cut(o.value, "=")
	return strings.ReplaceAll(key, "_", "-")
}

// readOptions reads the arguments of rustc (The rustc book, Command-line Arguments).
func readOptions(args []string) []option {
	out := make([]option, 0, len(args))
	for i := 0; i < len(args); i++ {
		o := option{name: args[i], words: args[i : i+1]}
		takes := false
		switch {
		case strings.HasPrefix(o.name, "--"):
			var has bool
			o.name, o.value, has = strings.Cut(o.name, "=")
			takes = !has && !slices.Contains([]string{"--test", "--verbose", "--version", "--help"}, o.name)
		case len(o.name) > 1 && o.name[0] == '-' && strings.ContainsRune("CLloWADFZ", rune(o.name[1])):
			o.name, o.value = o.name[:2], o.name[2:]
			takes = o.value == ""
		}
		if takes && i+1 < len(args) {
			i++
			o.value, o.words = args[i], args[i-1:i+1]
		}
		out = append(out, o)
	}
	return out
}

// unit is what a compiler is asked to compile.
type unit struct {
	args    []string
	options []option
	crate   string
	types   []string
	target  string // named by the user; empty means the compiler's own
	outDir  string
	extra   string // what the file names end in
	emits   bool
	lld     bool     // perhaps linked by the linker that rustc brings, and looks for in a folder that is named for its own machine
	deps    []string // the folders that crates are looked for in
	crates  []string // the files of those that it names
}

func (u unit) is(kind string) bool { return slices.Contains(u.types, kind) }

// isLibrary reports whether other crates may consist of the unit, or load it.
func (u unit) isLibrary() bool {
	return slices.ContainsFunc([]string{"lib", "rlib", "dylib", "proc-macro"}, u.is)
}

// links reports whether a linker is run.
func (u unit) links() bool {
	return len(u.types) == 0 || slices.ContainsFunc(u.types, func(t string) bool { return t != "lib" && t != "rlib" && t != "staticlib" })
}

// stem is what the unit's file is called, without its suffix.
func (u unit) stem() string { return "lib" + u.crate + u.extra }

// notRust are options with which a twin does something else: it is another machine's, or has the answer in itself.
var notRust = []string{"--print", "--sysroot", "-V", "-v", "-vV", "--version", "--verbose", "--help", "-h", "--explain", "-Z"}

// readUnit reads the arguments of a compiler; not ok if the twin may not do the same with them.
func readUnit(args []string) (u unit, ok bool) {
	u = unit{args: args, options: readOptions(args)}
	for _, o := range u.options {
		if slices.Contains(notRust, o.name) || strings.HasPrefix(o.name, "@") || !u.take(o) {
			return u, false
		}
	}
	return u, u.crate != "" && u.emits && !strings.HasSuffix(u.target, ".json")
}

// take takes an option; not ok if the twin may do something else with it.
func (u *unit) take(o option) bool {
	switch o.name {
	case "--crate-name":
		u.crate = o.value
	case "--crate-type":
		u.types = append(u.types, strings.Split(o.value, ",")...)
	case "--target":
		u.target = o.value
	case "--out-dir":
		u.outDir = o.value
	case "--emit":
		u.emits = true
	case "--extern":
		if _, file, ok := strings.Cut(o.value, "="); ok {
			u.crates = append(u.crates, file)
		}
	case "-L":
		if dir, ok := strings.CutPrefix(o.value, dependency); ok {
			u.deps = append(u.deps, dir)
		}
	}
	_, set, _ := strings.Cut(o.value, "=")
	switch o.key() {
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
	return true
}

// dependency is what a folder of -L begins with where crates are that others consist of.
const dependency = "dependency="
