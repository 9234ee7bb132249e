package stage

import (
	"path"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/effect"
	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// Class is what is known of a file of a stage that runs on the build platform.
type Class uint8

const (
	// Foreign files are not made in the stage, or put aside from what was not. They may be the machine's own.
	Foreign Class = iota + 1
	// Suspected files are made in the stage by a tool that may leave machine code of the machine.
	Suspected
	// Own files are made in the stage, and the same wherever that runs, or the target's.
	Own
)

// Files is what a stage is known to make.
type Files struct {
	marks []mark
	// unproven: what makes its programs is not read, so they are looked at.
	unproven bool
}

// mark says what lies at and below a path.
type mark struct {
	path    string
	class   Class
	why     string // of a foreign or Suspected one
	program bool   // what is at the path is a program of the target
	implied bool   // the path is only the directory above something that is made
	tool    bool   // copied from another stage, to where programs are found
	line    int
}

// usualMarks is how many marks most stages have at most.
const usualMarks = 8

func (f *Files) clone() *Files { return &Files{marks: slices.Clone(f.marks), unproven: f.unproven} }

func (f *Files) add(m mark) {
	if strings.HasPrefix(m.path, script.Unknown) || m.path == "" {
		if m.class == Foreign {
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

// copiedTool returns the line that copied a program, by its name or one of the paths at which it is looked up, from another stage, and whether it is certain that it
// did; 0 if none did.
func (f *Files) copiedTool(name string, lookedUp func() []string) (line int, certain bool) {
	if !slices.ContainsFunc(f.marks, func(m mark) bool { return m.tool }) {
		return 0, false
	}
	paths := lookedUp()
	for _, m := range f.marks {
		named := name != "" && effect.OnPath(path.Dir(m.path)) && path.Base(m.path) == name || slices.Contains(paths, m.path)
		folder := name != "" && (effect.OnPath(m.path) || effect.IsSystemDir(m.path) && path.Base(m.path) == "local")
		if m.tool && (named || folder || slices.ContainsFunc(paths, func(p string) bool { return within(p, m.path) })) {
			return m.line, named
		}
	}
	return 0, false
}

// make notes that the stage makes what lies at a path.
func (f *Files) make(p string, line int) {
	f.add(mark{path: p, class: Own, line: line})
	f.imply(p, line)
}

// imply notes that with a file at a path the stage makes the directory at the top that it lies in, if that is its own.
func (f *Files) imply(p string, line int) {
	if first, _, ok := strings.Cut(strings.TrimPrefix(effect.Stem(p), "/"), "/"); ok && !effect.IsSystemDir("/"+first) {
		f.add(mark{path: "/" + first, class: Own, implied: true, line: line})
	}
}

// program notes that the stage makes a program of the target at a path.
func (f *Files) program(p string, line int) {
	f.add(mark{path: p, class: Own, program: true, line: line})
	f.imply(p, line)
}

// programs notes that the stage makes programs of the target in a directory, whose names are not known.
func (f *Files) programs(dir string, line int) {
	f.program(path.Join(dir, script.Unknown), line)
	f.add(mark{path: dir, class: Own, implied: true, line: line})
}

// spoil notes that what lies at a path may be the machine's.
func (f *Files) spoil(p string, line int, why string) {
	f.add(mark{path: p, class: Foreign, why: why, line: line})
}

// suspect notes that what lies at a path may hold machine code of the machine.
func (f *Files) suspect(p string, line int, tool string) {
	f.add(mark{path: p, class: Suspected, why: tool, line: line})
}

// isProgram reports whether a path, or a name looked up in PATH, is a program that the stage made.
func (f *Files) isProgram(p, name string) bool {
	for _, m := range f.marks {
		switch {
		case !m.program:
		case name == "" || strings.Contains(name, "/"):
			if m.path == p {
				return true
			}
		case path.Base(m.path) == name && effect.OnPath(path.Dir(m.path)):
			return true
		}
	}
	return false
}

// HoldsProgram reports whether a program that the stage made lies at or below a path.
func (f *Files) HoldsProgram(p string) bool {
	return slices.ContainsFunc(f.marks, func(m mark) bool {
		return m.program && (within(effect.Stem(m.path), effect.Stem(p)) || fitsPattern(p, m.path))
	})
}

// ofTarget reports whether what lies at a path was fetched for the target, or copied from a stage of it.
func (f *Files) ofTarget(p string) bool {
	return slices.ContainsFunc(f.marks, func(m mark) bool { return m.tool && m.path == p })
}

// holdsProgramOnPath reports whether the stage made a program that is found by its name.
func (f *Files) holdsProgramOnPath() bool {
	return slices.ContainsFunc(f.marks, func(m mark) bool { return m.program && effect.OnPath(path.Dir(m.path)) })
}

// isMade reports whether what lies at a path is made in the stage.
func (f *Files) isMade(p string) bool {
	c, _ := f.ClassOf(p)
	return c != Foreign
}

// ClassOf tells what a path that is taken out of the stage holds: the worst of what is known to lie at, below or above it.
func (f *Files) ClassOf(p string) (Class, string) {
	pattern, several := p, strings.ContainsAny(p, "*?[")
	p = effect.Stem(p)
	best, why := Foreign, "is not made in the stage and may be the machine's own"
	if f.isData(p) {
		best = Own
	}
	worst, worstWhy := Own, ""
	for _, m := range f.marks {
		at := effect.Stem(m.path)
		above := within(p, at) && (m.class == Foreign || !effect.IsSystemDir(m.path))
		switch {
		case m.class == Own:
			if above || several && fitsPattern(pattern, m.path) {
				best = Own
			}
		case within(p, at) || within(at, p):
			if m.class < worst {
				worst, worstWhy = m.class, m.why
			}
			if m.class == Suspected && within(p, at) {
				best = Own
			}
		}
	}
	if best == Foreign {
		return Foreign, why
	}
	return worst, worstWhy
}

// IsProven reports whether what is taken out of the stage at a path is known to hold no machine code but the target's: data, or
// one program that the stage made for the target.
func (f *Files) IsProven(p string) bool {
	if f.isData(p) && !strings.HasPrefix(p, "/tmp") && !strings.HasPrefix(p, "/home") {
		return true
	}
	return !f.unproven && slices.ContainsFunc(f.marks, func(m mark) bool { return m.program && m.path == p })
}

// within reports whether p is dir or lies below it.
func within(p, dir string) bool {
	rest, ok := strings.CutPrefix(p, dir)
	return dir == "/" || ok && (rest == "" || rest[0] == '/')
}

// fitsPattern reports whether a pattern of file names was meant for a path: it matches, by more than a star.
func fitsPattern(pattern, p string) bool {
	if strings.IndexAny(path.Base(pattern), "*?[") < 2 {
		return false
	}
	ok, err := path.Match(pattern, p)
	return err == nil && ok
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
func (f *Files) isData(p string) bool {
	p = effect.Stem(p)
	for _, d := range dataPaths {
		if within(p, d) {
			return true
		}
	}
	for _, gopath := range []string{"/go", "/root/go"} {
		if within(p, gopath+"/pkg") || within(p, gopath+"/src") {
			return true
		}
	}
	return false
}

// Unproven reports whether what makes the stage's programs is not read.
func (f *Files) Unproven() bool { return f.unproven }
