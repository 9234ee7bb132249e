package verify

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Files is what counts in a root filesystem: its links, and the files that can be run or hold machine code. It may be kept as JSON. The zero value
// is an empty root filesystem; a Files is never changed.
type Files struct{ tree tree }

// Scan reads a root filesystem that is unpacked, as [FS] does. likely is as in [Want]. The error is the file system's, or a [*LimitError].
func Scan(root fs.FS, likely bool) (Files, error) {
	t, err := scanFS(root, likely, ".")
	return Files{t}, err
}

// Report judges an image that has the files. The error is about a pattern in want.Except.
func (f Files) Report(image ocispec.Image, want Want) (Report, error) {
	return f.tree.inspect(readConfig(image), want)
}

// Copied returns the files of a root filesystem that was made of this one by copying, in order, to some paths: a file to the path or into the
// directory there, a directory's content into the directory there. Links of the path itself are followed, those below it never: a directory is not
// copied onto a link, a file takes the link's place. So BuildKit copies, and Docker before it. Only what is at those paths is read.
//
// Not ok means that it cannot be told so, as where one path is below another: then everything has to be read. The error is as that of [Scan].
func (f Files) Copied(root fs.FS, likely bool, paths []string) (_ Files, ok bool, _ error) {
	places, ok := f.tree.places(paths)
	if !ok {
		return Files{}, false, nil
	}
	out := tree{}
	replaced := map[string]bool{}
	for _, at := range places {
		replaced[at] = true
	}
	for name, e := range f.tree {
		if !replaced[name] && !below(name, replaced) {
			out[name] = e
		}
	}
	for at := range replaced {
		found, ok, err := scanAt(root, likely, at)
		if !ok || err != nil {
			return Files{}, false, err
		}
		maps.Copy(out, found)
	}
	return Files{out}, true, nil
}

// places are where copies to some paths land. Not ok means that it depends on what was copied before.
func (t tree) places(paths []string) (_ []string, ok bool) {
	out := make([]string, len(paths))
	ok = true
	for i, p := range paths {
		at, err := t.resolveBy(p, func(at string) {
			first, _, _ := strings.Cut(at, "/")
			ok = ok && !mounted[first] // nothing is known of links there
		})
		name, _ := cleanName(p)
		// Through a link, which a copy may have led elsewhere meanwhile.
		ok = ok && err == nil && at != "" && (at == name || len(paths) == 1)
		out[i] = at
	}
	for i, at := range out {
		for _, other := range out[:i] {
			ok = ok && !below(at, map[string]bool{other: true}) && !below(other, map[string]bool{at: true})
		}
	}
	return out, ok
}

// scanAt reads what is at one path. Not ok means that nothing is, or something that nobody copies there.
func scanAt(root fs.FS, likely bool, at string) (_ tree, ok bool, _ error) {
	info, err := fs.Stat(root, at)
	switch {
	case err != nil:
		return nil, false, nil //nolint:nilerr // reading everything tells what is wrong
	case info.IsDir():
		t, err := scanFS(root, likely, at)
		return t, true, err
	case !info.Mode().IsRegular():
		return nil, false, nil
	}
	d := fs.FileInfoToDirEntry(info)
	if likely && !isLikely(named{d, path.Base(at)}) && !isConfig(at) {
		return nil, true, nil
	}
	e, keep, err := lookAt(root, at, d)
	if !keep || err != nil {
		return nil, true, prefixed(at, err)
	}
	return tree{at: e}, true, nil
}

// named is a directory entry by the name that was asked for.
type named struct {
	fs.DirEntry

	name string
}

// Name is that name.
func (n named) Name() string { return n.name }

// keptFile is an entry as it is kept.
type keptFile struct {
	Path       string `json:"p"`
	Link       string `json:"l,omitempty"` // of a symbolic link
	Script     string `json:"s,omitempty"`
	Text       string `json:"t,omitempty"`
	Executable bool   `json:"x,omitempty"`
	Code       *Code  `json:"c,omitempty"`
}

// MarshalJSON writes what [Files.UnmarshalJSON] reads. JSON holds no names that are not UTF-8; that is an error.
func (f Files) MarshalJSON() ([]byte, error) {
	out := make([]keptFile, 0, len(f.tree))
	for _, name := range slices.Sorted(maps.Keys(f.tree)) {
		e := f.tree[name]
		interp := ""
		if e.code != nil {
			interp = e.code.Interp
		}
		if !utf8.ValidString(e.path + "/" + e.link + "/" + e.script + e.text + "/" + interp) {
			return nil, fmt.Errorf("%q is not UTF-8, or leads to what is not", e.path)
		}
		out = append(out, keptFile{e.path, e.link, e.script, e.text, e.executable, e.code})
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what [Files.MarshalJSON] wrote in the same version of this package.
func (f *Files) UnmarshalJSON(dt []byte) error {
	var in []keptFile
	if err := json.Unmarshal(dt, &in); err != nil {
		return err
	}
	f.tree = make(tree, len(in))
	for _, k := range in {
		e := entry{path: k.Path, kind: file, link: k.Link, script: k.Script, text: k.Text, executable: k.Executable, code: k.Code}
		if k.Link != "" {
			e.kind = symlink
		}
		f.tree[k.Path] = e
	}
	return nil
}
