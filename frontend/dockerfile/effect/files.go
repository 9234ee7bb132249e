package effect

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// plainFiles tells what a plain command makes and looks at.
func plainFiles(c Call, a arguments, e *Effect) {
	args := a.operands
	if c.Name == "[" && len(args) > 0 {
		args = args[:len(args)-1]
	}
	if !slices.Contains(changesNames, c.Name) {
		for _, p := range args {
			if path.IsAbs(p) {
				e.Files = append(e.Files, File{Kind: Looks, Path: c.Path(p), By: p, names: slices.Contains(asksNames, c.Name)})
			}
		}
	}
	switch c.Name {
	case "mkdir", "touch", "tee":
		for _, p := range args {
			e.file(Makes, c.Path(p))
		}
	case "ln":
		link(c, a, e)
	case "git":
		if len(args) > 2 && args[0] == "clone" {
			e.file(Makes, c.Path(args[len(args)-1]))
		} else if len(args) == 2 && args[0] == "clone" {
			e.file(Makes, c.Path(strings.TrimSuffix(path.Base(args[1]), ".git")))
		}
	case "dd":
		for _, p := range args {
			if of, ok := strings.CutPrefix(p, "of="); ok {
				e.file(Makes, c.Path(of))
			}
		}
	}
}

// changesNames are the plain commands that do not look at what files hold.
var changesNames = strings.Fields("rm rmdir mkdir chmod chown chgrp touch ln tee echo printf install unlink true false cd export test_ locale-gen setcap")

// asksNames are the plain commands that look at names and not at content.
var asksNames = strings.Fields("[ test which find ls stat")

// readCompressor follows a file that is packed or unpacked in its place.
func readCompressor(c Call, a arguments, e *Effect) {
	for _, p := range a.operands {
		if a.has("-c", "--stdout", "--to-stdout") || strings.HasSuffix(c.Name, "cat") {
			continue
		}
		to := p
		for _, ending := range []string{".gz", ".bz2", ".xz", ".zst", ".lz4", ".br"} {
			to = strings.TrimSuffix(to, ending)
		}
		kind := Packs
		if to != p {
			kind = Unpacks
		} else {
			to = p + "*"
		}
		e.Files = append(e.Files, File{Kind: kind, From: []string{c.Path(p)}, Path: c.Path(to)})
	}
}

// link tells what ln makes: a symbolic link is nothing but a name.
func link(c Call, a arguments, e *Effect) {
	args := a.operands
	if dir, ok := a.get("-t", "--target-directory"); ok {
		args = append(slices.Clone(args), dir)
	}
	if len(args) < 2 {
		return
	}
	to := c.Path(args[len(args)-1])
	if a.has("-s", "--symbolic") {
		e.file(Makes, to)
		return
	}
	moveFiles(c, args[:len(args)-1], to, e)
}

// copyFiles tells what a command puts elsewhere.
func copyFiles(c Call, a arguments, e *Effect) {
	args := a.operands
	switch c.Name {
	case "tar":
		tar(c, e)
	case "zip":
		if len(args) > 0 {
			pack(args[1:], c.Dir, c.Path(args[0]), e)
		}
	case "unzip", "7z", "7za", "7zr":
		unzip(c, a, e)
	case "install", "cp", "mv", "rsync":
		if c.Name == "install" && a.has("-d", "--directory") {
			for _, p := range args {
				e.file(Makes, c.Path(p))
			}
			return
		}
		switch dir, ok := a.get("-t", "--target-directory"); {
		case ok:
			moveFiles(c, args, c.Path(dir), e)
		case len(args) > 1:
			moveFiles(c, args[:len(args)-1], c.Path(args[len(args)-1]), e)
		case c.Through != "":
			e.Files = append(e.Files, File{Kind: Spoils, Path: path.Join(c.Dir, script.Unknown), By: "is put there by line " + strconv.Itoa(c.Line)})
		}
	}
}

func moveFiles(c Call, from []string, to string, e *Effect) {
	f := File{Kind: Moves, Path: to}
	for _, name := range from {
		f.From = append(f.From, c.Path(name))
	}
	e.Files = append(e.Files, f)
}

// pack notes what goes into an archive, its names as seen from a directory.
func pack(names []string, dir, archive string, e *Effect) {
	f := File{Kind: Packs, Path: archive}
	for _, name := range names {
		f.From = append(f.From, Resolve(dir, name))
	}
	e.Files = append(e.Files, f)
}

func unzip(c Call, a arguments, e *Effect) {
	args, to := a.operands, c.Dir
	if c.Name != "unzip" {
		if len(args) == 0 {
			return
		}
		if args[0] == "a" || args[0] == "u" {
			if len(args) > 1 {
				pack(args[2:], c.Dir, c.Path(args[1]), e)
			}
			return
		}
		args = args[1:]
		for _, f := range c.Words[1:] {
			if dir, ok := strings.CutPrefix(f, "-o"); ok && dir != "" {
				to = c.Path(dir)
			}
		}
	}
	if dir, ok := a.get("-d"); ok && dir != "" {
		to = c.Path(dir)
	}
	f := File{Kind: Unpacks, Path: to}
	if len(args) > 0 {
		f.From = []string{c.Path(args[0])}
	}
	e.Files = append(e.Files, f)
}

// tarFlags are those of tar without the dash of its oldest form.
var tarLetters = regexp.MustCompile(`^[a-zA-Z]+$`)

// tar tells what is packed or unpacked. -C changes the directory for the names that follow.
func tar(c Call, e *Effect) {
	words := slices.Clone(c.Words[1:])
	if len(words) > 0 && tarLetters.MatchString(words[0]) {
		words = oldForm(words)
	}
	dir, archive, packs := c.Dir, "", false
	table := rows["tar"].table
	var from []string
	a := table.parse(words)
	// The order of -C and of names matters, so that the words are taken one after the other.
	for i := 0; i < len(words); i++ {
		one := table.parse(words[i:])
		if len(one.flags) == 0 || !strings.HasPrefix(words[i], "-") || words[i] == "-" {
			from = append(from, Resolve(dir, words[i]))
			continue
		}
		used := 1
		name, _, cut := strings.Cut(words[i], "=")
		if table[name] && !cut || !strings.HasPrefix(words[i], "--") && table["-"+words[i][len(words[i])-1:]] {
			used = 2
		}
		this := table.parse(words[i:min(i+used, len(words))])
		if v, ok := this.get("-C", "--directory"); ok {
			dir = Resolve(dir, v)
		}
		i += used - 1
	}
	for _, f := range a.flags {
		switch f.name {
		case "-c", "--create", "-r", "--append", "-u", "--update", "-A", "--concatenate":
			packs = true
		case "-f", "--file":
			archive = f.value
		case "-T", "--files-from":
			e.dependsf(c, "packs files that the Dockerfile does not name")
		case "-I", "--use-compress-program":
			if r, ok := rows[firstField(f.value)]; !ok || r.nature != plain {
				e.dependsf(c, "runs tar with %s, which runs a program", Shown(f.value))
			}
		}
	}
	if archive != "" && archive != "-" {
		archive = c.Path(archive)
	}
	switch {
	case packs && archive != "-" && archive != "":
		e.Files = append(e.Files, File{Kind: Packs, Path: archive, From: from, By: "tar"})
	case packs:
		e.Files = append(e.Files, File{Kind: Packs, Path: "", From: from, By: "tar"})
	case a.has("-t", "--list"):
	default:
		f := File{Kind: Unpacks, Path: dir}
		if archive != "" && archive != "-" {
			f.From = []string{archive}
		}
		e.Files = append(e.Files, f)
	}
}

// oldForm writes tar xzfC ARCHIVE DIR as tar -x -z -f ARCHIVE -C DIR.
func oldForm(words []string) []string {
	var out []string
	rest := words[1:]
	for _, letter := range words[0] {
		name := "-" + string(letter)
		out = append(out, name)
		if rows["tar"].table[name] && len(rest) > 0 {
			out, rest = append(out, rest[0]), rest[1:]
		}
	}
	return append(out, rest...)
}

func firstField(s string) string {
	if f := strings.Fields(s); len(f) > 0 {
		return f[0]
	}
	return ""
}
