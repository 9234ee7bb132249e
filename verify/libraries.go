package verify

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// maxLibraries bounds the libraries of one program that are looked for.
const maxLibraries = 2000

// libraries looks for what programs of one image are linked with, as the dynamic loaders of glibc and musl do (ld.so(8); musl, ldso/dynlink.c).
type libraries struct {
	in *inspection
	// preset are the folders of LD_LIBRARY_PATH, standard those where the loader looks last.
	preset, standard []string
	configured       []string // by /etc/ld.so.conf, and read when first asked for
	read             bool
}

func (in *inspection) newLibraries(c config) *libraries {
	ls := &libraries{in: in}
	for dir := range strings.SplitSeq(c.variable("LD_LIBRARY_PATH"), ":") {
		if dir != "" {
			ls.preset = append(ls.preset, dir)
		}
	}
	ls.standard = loaderDirs(in.want.Platform)
	return ls
}

// missing is a library that cannot be loaded.
type missing struct {
	name string
	by   string // the file that needs it
	why  string // "is not in the image", "is for amd64"
}

func (m missing) String() string {
	return fmt.Sprintf("needs the library %s, which %s", m.name, m.why)
}

// of returns the first library that a program lacks, directly or by another library; not found means that it lacks none, or that this cannot be told.
func (ls *libraries) of(program entry) (_ missing, found bool) {
	c := program.code
	if c.Interp == "" {
		return missing{}, false
	}
	loader, ok := ls.in.tree.find(c.Interp)
	if !ok || loader.code == nil || strings.HasPrefix(c.Interp, "/system/") {
		return missing{}, false
	}
	musl := strings.Contains(path.Base(loader.path), "musl") || strings.Contains(path.Base(c.Interp), "musl")
	type task struct {
		file    entry
		inherit []string // DT_RPATH of what loads it
	}
	seen := map[string]bool{}
	todo := []task{{program, nil}}
	for len(todo) > 0 && len(seen) < maxLibraries {
		t := todo[0]
		todo = todo[1:]
		if t.file.code.Unread {
			return missing{}, false
		}
		origin := "/" + parent(t.file.path)
		rpath := t.inherit
		if len(t.file.code.RunPath) == 0 {
			rpath = append(expand(t.file.code.RPath, origin), t.inherit...)
		}
		for _, name := range t.file.code.Needs {
			if seen[name] || musl && reserved(name) {
				continue
			}
			seen[name] = true
			lib, problem := ls.find(name, c, slices.Concat(rpath, ls.preset, expand(t.file.code.RunPath, origin)), musl)
			if problem != "" {
				return missing{name, "/" + t.file.path, problem}, true
			}
			if lib.code != nil {
				todo = append(todo, task{lib, rpath})
			}
		}
	}
	return missing{}, false
}

// expand replaces what a loader replaces in the folders of a file. A folder that holds something else is left out.
func expand(list []string, origin string) []string {
	var out []string
	for _, dir := range list {
		dir = strings.NewReplacer("$ORIGIN", origin, "${ORIGIN}", origin).Replace(dir)
		if strings.Contains(dir, "$LIB") || strings.Contains(dir, "${LIB}") {
			for _, lib := range []string{"lib", "lib64"} {
				out = append(out, strings.NewReplacer("$LIB", lib, "${LIB}", lib).Replace(dir))
			}
			continue
		}
		out = append(out, dir)
	}
	return out
}

// find looks for one library. A file for another machine is passed over, as loaders do; it is named if there is no other.
func (ls *libraries) find(name string, c *Code, first []string, musl bool) (_ entry, problem string) {
	fits := func(e entry) bool {
		return e.code != nil && e.code.Invalid == "" && e.code.Arch == c.Arch && e.code.Format == ELF && !e.code.Object && c.fitsFloat(*e.code)
	}
	if strings.Contains(name, "/") {
		switch e, ok := ls.in.tree.find(name); {
		case !path.IsAbs(name) || ok && fits(e):
			return e, "" // one that is relative to where the program is started
		case ok && e.code != nil && !c.fitsFloat(*e.code):
			return entry{}, otherFloat
		case ok && e.code != nil:
			return entry{}, "is for " + e.code.String()
		}
		return entry{}, "is not in the image"
	}
	other := ""
	for _, dir := range slices.Concat(first, ls.conf(musl), ls.standard) {
		e, ok := ls.in.tree.find(path.Join("/", dir, name))
		switch {
		case ok && fits(e):
			return e, ""
		case ok && e.code != nil && other == "":
			other = e.code.String()
			if e.code.Arch == c.Arch && !c.fitsFloat(*e.code) {
				other = "programs that pass floating-point numbers in another way"
			}
		}
	}
	if other != "" {
		return entry{}, "is there for " + other + " alone"
	}
	return entry{}, "is not in the image"
}

const otherFloat = "passes floating-point numbers in another way"

// misplaced reports whether a library of arm lies in a folder for those that pass floating-point numbers in another way, as Debian names them.
func misplaced(name string, c Code) bool {
	hard := strings.Contains(name, "/arm-linux-gnueabihf/")
	soft := strings.Contains(name, "/arm-linux-gnueabi/")
	return c.Arch == "arm" && c.Interp == "" && (hard && c.SoftFloat || soft && c.HardFloat)
}

// reserved reports whether musl's loader is that library itself.
func reserved(name string) bool {
	for _, prefix := range []string{"libc.", "libpthread.", "librt.", "libm.", "libdl.", "libutil.", "libxnet."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// conf lists the folders of /etc/ld.so.conf and of what that includes, or of musl's own file.
func (ls *libraries) conf(musl bool) []string {
	if ls.read {
		return ls.configured
	}
	ls.read = true
	if musl {
		for name, e := range ls.in.tree {
			if e.text != "" && strings.HasPrefix(name, "etc/ld-musl-") {
				ls.configured = strings.FieldsFunc(e.text, func(r rune) bool { return r == ':' || r == '\n' })
			}
		}
		return ls.configured
	}
	ls.include("/etc/ld.so.conf", 0)
	return ls.configured
}

func (ls *libraries) include(pattern string, deep int) {
	const most = 4
	if deep > most {
		return
	}
	for name, e := range ls.in.tree {
		if ok, err := path.Match(pattern, "/"+name); !ok || err != nil || e.text == "" {
			continue
		}
		for line := range strings.Lines(e.text) {
			line, _, _ = strings.Cut(line, "#")
			words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\r\n:,", r) })
			switch {
			case len(words) == 2 && words[0] == "include":
				if !path.IsAbs(words[1]) {
					words[1] = path.Join("/etc", words[1])
				}
				ls.include(words[1], deep+1)
			case len(words) > 0 && words[0] != "hwcap":
				ls.configured = append(ls.configured, words...)
			}
		}
	}
}
