package verify

import (
	"errors"
	"fmt"
	"hash/maphash"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Bounds of what is kept of an image.
const (
	maxEntries = 1_250_000
	maxKept    = 500_000
	maxNames   = 64 << 20 // bytes
	maxLinks   = 40       // followed for one path, as Linux does
)

// kind is what an entry of a root filesystem is.
type kind uint8

const (
	file kind = iota + 1
	symlink
	hardlink // only in a layer
	whiteout // only in a layer
	opaque   // only in a layer
)

// entry is what is kept of a file: links, and files that can be run or hold machine code.
type entry struct {
	path string // clean, without a leading slash
	kind kind
	// link is a link's target; script the #! line of a script without these two characters; text what a script of a shell holds, or a loader's configuration.
	link, script, text string
	executable         bool
	empty              bool // it has no bytes
	code               *Code
}

// tree is a root filesystem.
type tree map[string]entry

// layer is what one layer does to the filesystem below it.
type layer struct {
	entries []entry
	names   int // bytes of them
	diffID  digest.Digest
	// others and dirs are hashes of the names of all files that are not kept, and of all directories: they hide what lies below.
	others, dirs map[uint64]struct{}
	seed         maphash.Seed
	count        int
}

func newLayer() *layer {
	return &layer{others: map[uint64]struct{}{}, dirs: map[uint64]struct{}{}, seed: maphash.MakeSeed()}
}

// LimitError says that an image is larger than what is looked at.
type LimitError struct {
	// What was counted, and the most that is accepted.
	What string
	Most int64
}

// Error says what is too large.
func (e *LimitError) Error() string { return fmt.Sprintf("more than %d %s", e.Most, e.What) }

func (l *layer) tick() error {
	if l.count++; l.count > maxEntries {
		return &LimitError{"entries in a layer", maxEntries}
	}
	return nil
}

func (l *layer) add(e entry) error {
	l.names += len(e.path) + len(e.link) + len(e.script) + len(e.text)
	switch {
	case len(l.entries) >= maxKept:
		return &LimitError{"links and programs in a layer", maxKept}
	case l.names > maxNames:
		return &LimitError{"bytes of names in a layer", maxNames}
	}
	l.entries = append(l.entries, e)
	return nil
}

func (l *layer) hash(name string) uint64 { return maphash.String(l.seed, name) }

// hides reports whether the layer has something else by a name, or a file where a directory of it was.
func (l *layer) hides(name string) bool {
	if len(l.others)+len(l.dirs) == 0 {
		return false
	}
	h := l.hash(name)
	if _, ok := l.others[h]; ok {
		return true
	}
	if _, ok := l.dirs[h]; ok {
		return true
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, ok := l.others[l.hash(dir)]; ok {
			return true
		}
	}
	return false
}

// apply puts a layer on top of a filesystem: first what it hides (OCI image spec, "Whiteouts": they apply to the layers below only), then what it
// brings. Links among the directories of a name are followed as whoever unpacks the layer does: the lower layers' links that this one does not replace, and its own.
func (t tree) apply(l *layer) error {
	hidden := map[string]bool{} // whole, with all below
	emptied := map[string]bool{}
	for _, e := range l.entries {
		switch e.kind {
		case whiteout:
			hidden[t.place(e.path)] = true
		case opaque:
			emptied[t.dir(e.path)] = true
		case symlink, file, hardlink:
		}
	}
	t.remove(hidden, emptied)
	for name, e := range t { // a directory takes the place of a link, and a link that of a directory
		if _, dir := l.dirs[l.hash(name)]; dir && e.kind == symlink {
			delete(t, name)
		}
	}
	brought := map[string]bool{}
	for _, e := range l.entries {
		if e.kind == symlink {
			brought[t.place(e.path)] = true
		}
	}
	t.remove(brought, nil)
	for _, e := range l.entries {
		if e.kind == symlink {
			e.path = t.place(e.path)
			t[e.path] = e
		}
	}
	clear(hidden)
	for _, e := range l.entries {
		if e.kind == file || e.kind == hardlink {
			hidden[t.place(e.path)] = true
		}
	}
	links := t.linksTo(l)
	for name := range t {
		if !brought[name] && (hidden[name] || below(name, hidden) || l.hides(name)) || hiddenThrough(name, links, l) {
			delete(t, name)
		}
	}
	for _, e := range l.entries {
		at := t.place(e.path)
		switch e.kind {
		case whiteout, opaque, symlink:
			continue
		case hardlink:
			target, ok := t[t.place(e.link)]
			if !ok {
				continue // a file that is not kept
			}
			e = target
		case file:
		}
		e.path = at
		t[at] = e
	}
	if len(t) > maxKept {
		return &LimitError{"links and programs", maxKept}
	}
	return nil
}

// remove takes away what is in a set, and what is below a path of either.
func (t tree) remove(whole, emptied map[string]bool) {
	if len(whole)+len(emptied) == 0 {
		return
	}
	for name := range t {
		if whole[name] || emptied[""] || below(name, whole) || below(name, emptied) {
			delete(t, name)
		}
	}
}

// linksTo are the links that lead to directories, by where they lead: what a layer writes through one lies there. There is nothing to find if the layer has no files that are not kept.
func (t tree) linksTo(l *layer) map[string][]string {
	if len(l.others) == 0 {
		return nil
	}
	out := map[string][]string{}
	for name, e := range t {
		if e.kind != symlink {
			continue
		}
		to, err := t.resolve(name)
		if _, isFile := t[to]; err != nil || isFile || to == "" {
			continue
		}
		out[to] = append(out[to], name)
	}
	return out
}

// hiddenThrough reports whether the layer has something else by a name of a file that leads through a link to one of its directories.
func hiddenThrough(name string, links map[string][]string, l *layer) bool {
	if len(links) == 0 {
		return false
	}
	for dir := parent(name); dir != ""; dir = parent(dir) {
		for _, link := range links[dir] {
			if _, other := l.others[l.hash(link+name[len(dir):])]; other {
				return true
			}
		}
	}
	return false
}

// below reports whether one of a path's directories is in a set.
func below(name string, set map[string]bool) bool {
	if len(set) == 0 {
		return false
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if set[dir] {
			return true
		}
	}
	return false
}

// place is where an entry lands: links among its directories are followed, as whoever unpacks the layer does.
func (t tree) place(name string) string {
	dir, base := path.Split(name)
	return path.Join(t.dir(strings.TrimSuffix(dir, "/")), base)
}

// dir follows every link of a directory's path. One that leads nowhere is left as it is.
func (t tree) dir(name string) string {
	if name == "" {
		return ""
	}
	if to, err := t.resolve(name); err == nil {
		return to
	}
	return name
}

var errLoop = errors.New("too many links")

// resolve follows the links of a path within the root, and returns where it leads. Nothing need be there: directories and plain files are
// not kept.
func (t tree) resolve(name string) (string, error) { return t.resolveBy(name, func(string) {}) }

// resolveBy is resolve and reports every path on the way.
func (t tree) resolveBy(name string, visit func(at string)) (string, error) {
	todo := strings.Split(strings.Trim(path.Clean("/"+name), "/"), "/")
	at, links := "", 0
	for len(todo) > 0 {
		next := todo[0]
		todo = todo[1:]
		switch next {
		case "", ".":
			continue
		case "..":
			at = parent(at)
			continue
		}
		to := path.Join(at, next)
		visit(to)
		e, ok := t[to]
		if !ok || e.kind != symlink {
			at = to
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("/%s: %w", name, errLoop)
		}
		if path.IsAbs(e.link) {
			at = ""
		}
		// Not cleaned first: what is before a ".." may be a link.
		todo = append(strings.Split(e.link, "/"), todo...)
		if len(todo) > maxParts {
			return "", fmt.Errorf("/%s: %w", name, errLoop)
		}
	}
	return at, nil
}

// maxParts bounds the parts of a path whose links are followed.
const maxParts = 4096

func parent(at string) string {
	if dir := path.Dir(at); dir != "." {
		return dir
	}
	return ""
}

// find returns the file that a path leads to.
func (t tree) find(name string) (entry, bool) {
	at, err := t.resolve(name)
	if err != nil {
		return entry{}, false
	}
	e, ok := t[at]
	return e, ok && e.kind == file
}

// cleanName is an entry's name in a layer as a path below the root. Not ok means the root itself, or a name that leads out of it:
// nothing is ever written, so that is harmless, and whoever unpacks it refuses it or does the same.
func cleanName(name string) (string, bool) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	return name, name != "" && !strings.ContainsRune(name, 0)
}
