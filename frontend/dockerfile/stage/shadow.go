package stage

import (
	"path"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/effect"
	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// Commands are known by their names. A file of the build context that is put before them in PATH is another program.

// placed is where an instruction puts files of the build context: at one path, or with names that nobody knows at or below a folder.
type placed struct {
	at   string
	name string // a pattern; empty means any
	line int
}

// place notes that sources of the build context are put at a destination.
func (f *fold) place(dest string, sources []string, slash bool, line int) {
	if !strings.HasPrefix(dest, "/") {
		return // nobody knows where
	}
	for _, src := range sources {
		src = f.req.word(f.w.Env, src)
		if path.Clean(src) == "." && (dest == "/" || dest == "/go") {
			continue // a whole project in a folder that PATH is made of: it would have to hold usr/bin or bin with that name
		}
		base, p := path.Base(src), placed{at: path.Clean(dest), line: line}
		isFile := path.Ext(base) != "" && base != "." && base != ".." && !strings.HasSuffix(src, "/")
		switch {
		case isFile && (slash || len(sources) > 1 || effect.IsSystemDir(dest) || strings.ContainsAny(base, "*?[")):
			p.name = base
		case isFile, !slash && len(sources) == 1 && path.Base(dest) == base && !strings.ContainsAny(src, "*?["):
			p.at, p.name = path.Dir(p.at), path.Base(p.at) // COPY tools/go /usr/bin/go
		}
		f.w.placed = append(slices.Clip(f.w.placed), p)
	}
}

// mayBe reports whether what lies at a path may be what was put there.
func (p placed) mayBe(file string) bool {
	if !within(file, p.at) {
		return false
	}
	if p.name == "" || strings.Contains(p.name, script.Unknown) {
		return true
	}
	ok, err := path.Match(p.name, path.Base(file))
	return path.Dir(file) == p.at && (ok || err != nil)
}

// usualPath is PATH in most images.
const usualPath = "/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// shadowed returns the line that may have put a file of the build context where a command is found before the program that its name is known by; 0 if none did.
func (f *fold) shadowed(c script.Command) int {
	if len(f.w.placed) == 0 || !effect.IsKnown(effect.NameOf(c.Words[0])) {
		return 0
	}
	if strings.Contains(c.Words[0], "/") {
		if p := c.Path(c.Words[0]); effect.IsSystemBin(path.Dir(p)) {
			return f.placedAt(p)
		}
		return 0 // known by its name wherever it lies: ./mvnw
	}
	list, set := c.Getenv("PATH")
	if !set {
		list = usualPath
	}
	if !script.Known(list) {
		return 0 // a stage whose PATH is not known is not read
	}
	for _, dir := range f.reached(list) {
		if line := f.placedAt(path.Join(effect.Resolve(c.Dir, dir), c.Words[0])); line > 0 {
			return line
		}
	}
	return 0
}

// reached are the folders of PATH, up to the last of the system's, in which files of the build context may lie.
func (f *fold) reached(list string) []string {
	if f.paths.list == list && f.paths.placed == len(f.w.placed) {
		return f.paths.folders
	}
	folders := strings.Split(list, ":")
	last := -1
	for i, dir := range folders {
		if effect.IsSystemBin(path.Clean(dir)) {
			last = i
		}
	}
	f.paths = searched{list: list, placed: len(f.w.placed)}
	for _, dir := range folders[:last+1] {
		dir = path.Clean(dir)
		if strings.HasSuffix(dir, "node_modules/.bin") {
			continue // what npm puts there is named for packages
		}
		if !path.IsAbs(dir) || slices.ContainsFunc(f.w.placed, func(p placed) bool { return within(dir, p.at) }) {
			f.paths.folders = append(f.paths.folders, dir)
		}
	}
	return f.paths.folders
}

// searched is what was found of a PATH.
type searched struct {
	list    string
	placed  int
	folders []string
}

// placedAt returns the line that may have put a file of the build context at a path; 0 if none did.
func (f *fold) placedAt(file string) int {
	for _, p := range f.w.placed {
		if p.mayBe(file) {
			return p.line
		}
	}
	return 0
}
