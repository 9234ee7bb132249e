package dockerfile

import (
	"path"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// class is what is known of a file of a stage that runs on the build platform.
type class uint8

const (
	// foreign: not made in the stage, or put aside from what was not. It may be the machine's own.
	foreign class = iota + 1
	// suspected: made in the stage by a tool that may leave machine code of the machine.
	suspected
	// own: made in the stage, and the same wherever that runs, or the target's.
	own
)

// files is what a stage is known to make.
type files struct {
	marks []mark
	// unproven: what makes its programs is not read, so they are looked at.
	unproven bool
}

// mark says what lies at and below a path.
type mark struct {
	path    string
	class   class
	why     string // of a foreign or suspected one
	program bool   // what is at the path is a program of the target
	implied bool   // the path is only the directory above something that is made
	tool    bool   // copied from another stage, to where programs are found
	line    int
}

// usualMarks is how many marks most stages have at most.
const usualMarks = 16

func (f *files) clone() *files { return &files{marks: slices.Clone(f.marks), unproven: f.unproven} }

func (f *files) add(m mark) {
	if strings.HasPrefix(m.path, script.Unknown) || m.path == "" {
		if m.class == foreign {
			m.path = "/"
			f.marks = append(f.marks, m)
		}
		return
	}
	if n := len(f.marks); n > 0 && f.marks[n-1] == m {
		return
	}
	if len(f.marks) < maxMarks || !slices.Contains(f.marks, m) {
		f.marks = append(f.marks, m)
	}
}

// maxMarks is how many marks are kept without a look for repeats.
const maxMarks = 64

// copiedTool returns the line that copied a program, by its name or path, from another stage; 0 if none did.
func (f *files) copiedTool(name, p string) int {
	for _, m := range f.marks {
		byName := name != "" && onPath(path.Dir(m.path)) && path.Base(m.path) == name || name != "" && (onPath(m.path) || isSystemDir(m.path) && path.Base(m.path) == "local")
		if m.tool && (m.path == p || byName || within(p, m.path)) {
			return m.line
		}
	}
	return 0
}

// make notes that the stage makes what lies at a path.
func (f *files) make(p string, line int) {
	f.add(mark{path: p, class: own, line: line})
	f.imply(p, line)
}

// imply notes that with a file at a path the stage makes the directory at the top that it lies in, if that is its own.
func (f *files) imply(p string, line int) {
	if first, _, ok := strings.Cut(strings.TrimPrefix(stem(p), "/"), "/"); ok && !isSystemDir("/"+first) {
		f.add(mark{path: "/" + first, class: own, implied: true, line: line})
	}
}

// program notes that the stage makes a program of the target at a path.
func (f *files) program(p string, line int) {
	f.add(mark{path: p, class: own, program: true, line: line})
	f.imply(p, line)
}

// programs notes that the stage makes programs of the target in a directory, whose names are not known.
func (f *files) programs(dir string, line int) {
	f.program(path.Join(dir, script.Unknown), line)
	f.add(mark{path: dir, class: own, implied: true, line: line})
}

// spoil notes that what lies at a path may be the machine's.
func (f *files) spoil(p string, line int, why string) {
	f.add(mark{path: p, class: foreign, why: why, line: line})
}

// suspect notes that what lies at a path may hold machine code of the machine.
func (f *files) suspect(p string, line int, tool string) {
	f.add(mark{path: p, class: suspected, why: tool, line: line})
}

// isProgram reports whether a path, or a name looked up in PATH, is a program that the stage made.
func (f *files) isProgram(p, name string) bool {
	for _, m := range f.marks {
		switch {
		case !m.program:
		case name == "" || strings.Contains(name, "/"):
			if m.path == p {
				return true
			}
		case path.Base(m.path) == name && onPath(path.Dir(m.path)):
			return true
		}
	}
	return false
}

// holdsProgram reports whether a program that the stage made lies at or below a path.
func (f *files) holdsProgram(p string) bool {
	return slices.ContainsFunc(f.marks, func(m mark) bool {
		return m.program && (within(stem(m.path), stem(p)) || fitsPattern(p, m.path))
	})
}

// onPath reports whether programs in a directory are found by their names.
func onPath(dir string) bool {
	return contains(systemBins, dir) || strings.HasSuffix(dir, "/bin")
}

// isMade reports whether what lies at a path is made in the stage.
func (f *files) isMade(p string) bool {
	c, _ := f.classOf(p)
	return c != foreign
}

// classOf tells what a path that is taken out of the stage holds: the worst of what is known to lie at, below or above it.
func (f *files) classOf(p string) (class, string) {
	pattern := p
	p = stem(p)
	best, why := foreign, "is not made in the stage and may be the machine's own"
	if f.isData(p) {
		best = own
	}
	worst, worstWhy := own, ""
	for _, m := range f.marks {
		at := stem(m.path)
		above := within(p, at) && (m.class == foreign || !isSystemDir(m.path))
		switch {
		case m.class == own:
			if above || fitsPattern(pattern, m.path) {
				best = own
			}
		case within(p, at) || within(at, p):
			if m.class < worst {
				worst, worstWhy = m.class, m.why
			}
			if m.class == suspected && within(p, at) {
				best = own
			}
		}
	}
	if best == foreign {
		return foreign, why
	}
	return worst, worstWhy
}

// isProven reports whether what is taken out of the stage at a path is known to hold no machine code but the target's: data, or
// one program that the stage made for the target.
func (f *files) isProven(p string) bool {
	if f.isData(p) && !strings.HasPrefix(p, "/tmp") && !strings.HasPrefix(p, "/home") {
		return true
	}
	return !f.unproven && slices.ContainsFunc(f.marks, func(m mark) bool { return m.program && m.path == p })
}

// stem is the part of a path before what is not known of it or matches several names.
func stem(p string) string {
	known, _, unknown := strings.Cut(p, script.Unknown)
	if i := strings.IndexAny(known, "*?["); i >= 0 {
		known, unknown = known[:i], true
	}
	if !unknown {
		return path.Clean(p)
	}
	return path.Dir(path.Clean(known + "x"))
}

// within reports whether p is dir or lies below it.
func within(p, dir string) bool {
	rest, ok := strings.CutPrefix(p, dir)
	return dir == "/" || ok && (rest == "" || rest[0] == '/')
}

// fitsPattern reports whether a pattern of file names was meant for a path: it matches, by more than a star.
func fitsPattern(pattern, p string) bool {
	base := path.Base(pattern)
	i := strings.IndexAny(base, "*?[")
	ok, err := path.Match(pattern, p)
	return i >= 2 && err == nil && ok
}

// isSystemDir reports whether a directory is one that every image has, so that being told to make it says nothing about
// what it holds.
func isSystemDir(p string) bool {
	p = stem(p)
	return systemDirs[p] || strings.HasPrefix(p, "/lib") || strings.HasPrefix(p, "/usr/lib")
}

var systemDirs = set(
	"/", "/bin", "/boot", "/dev", "/etc", "/home", "/media", "/mnt", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp",
	"/usr", "/usr/bin", "/usr/sbin", "/usr/include", "/usr/libexec", "/usr/share", "/usr/src", "/usr/local", "/usr/local/bin",
	"/usr/local/sbin", "/usr/local/etc", "/usr/local/include", "/usr/local/lib", "/usr/local/lib64", "/usr/local/share",
	"/usr/local/src", "/usr/local/go", "/usr/local/go/bin", "/usr/local/cargo", "/usr/local/cargo/bin", "/var", "/var/lib", "/var/cache", "/var/log", "/var/run",
	"/go",
)

func set(list ...string) map[string]bool {
	out := map[string]bool{}
	for _, s := range list {
		out[s] = true
	}
	return out
}

// dataPaths hold what is the same for every machine although a package or the base image put it there.
var dataPaths = []string{
	"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/etc/ca-certificates.conf",
	"/usr/share/zoneinfo", "/etc/localtime", "/etc/timezone", "/usr/local/go/lib/time", "/usr/lib/go/lib/time", "/usr/local/go/misc/wasm", "/usr/local/go/lib/wasm",
	"/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/nsswitch.conf", "/etc/hosts", "/etc/protocols", "/etc/services", "/etc/mime.types",
	"/usr/share/licenses", "/usr/share/common-licenses", "/usr/share/doc", "/usr/share/fonts", "/usr/share/man", "/usr/share/locale", "/usr/share/i18n", "/usr/share/dict",
	"/etc/fonts", "/tmp", "/home", "/var/empty",
}

// isData reports whether what lies at a path is the same for every machine.
func (f *files) isData(p string) bool {
	p = stem(p)
	for _, d := range dataPaths {
		if within(p, d) {
			return true
		}
	}
	for _, gopath := range []string{"/go", "/root/go"} {
		if within(p, gopath+"/pkg/mod") || within(p, gopath+"/src") {
			return true
		}
	}
	return false
}
