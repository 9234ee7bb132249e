package dockerfile

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// tool judges a command by its row of the table.
func (j *judge) tool(t tool, name string, c script.Command, line int) {
	shown := strings.Join(short(c.Words), " ")
	if t.refuse != nil {
		for _, word := range c.Words[1:] {
			if t.refuse.MatchString(word) {
				j.blockf(line, "line %d runs %q with %s, which depends on the machine", line, name, word)
			}
		}
	}
	switch t.nature {
	case asks:
		j.blockf(line, "line %d runs %q, which %s", line, shown, firstSet(t.why, "asks about the machine"))
	case fetches:
		j.fetch(c, line)
	case installs:
		for _, word := range c.Words[1:] {
			if arch := findArchWord(word); arch != "" {
				j.blockf(line, "line %d installs %s, which is named for %s", line, word, arch)
			}
		}
	case builds:
		if !j.host.RunsForeign(j.g.target.Platform) && slices.ContainsFunc(j.v.files.marks, func(m mark) bool { return m.program && onPath(path.Dir(m.path)) }) {
			j.blockf(line, "line %d runs %q, which may run programs that the stage makes for %s, and the node does not run those", line, shown, j.g.target.Platform)
		}
		j.v.tools = appendNew(j.v.tools, firstSet(t.family, name))
		j.outputs(c, line)
		for dir := range strings.FieldsSeq(t.leaves) {
			j.v.files.suspect(c.Path(dir), line, firstSet(t.family, name))
		}
	case copies:
		j.copies(c, line)
	case plain:
		j.plain(c, line)
	}
}

// outputs notes the directories that a builder is told by absolute paths.
func (j *judge) outputs(c script.Command, line int) {
	for _, word := range c.Words[1:] {
		if _, value, ok := strings.Cut(word, "="); ok {
			word = value
		}
		if path.IsAbs(word) && !isSystemDir(word) && !isSystemDir(path.Dir(word)) || path.Dir(word) == "/" && !isSystemDir(word) {
			j.v.files.make(path.Clean(word), line)
		}
	}
}

// fetch judges a download: an architecture in its address makes it the machine's, or the target's, own.
func (j *judge) fetch(c script.Command, line int) {
	var to string
	for i, word := range c.Words[1:] {
		before := c.Words[i]
		if outputFlag.MatchString(before) && !strings.Contains(word, "://") || contains([]string{"--output", "--output-document", "-P", "--output-dir", "--directory-prefix"}, before) && !strings.Contains(word, "://") {
			to = word
			continue
		}
		if arch := findArchWord(word); arch != "" && !strings.HasPrefix(word, "-H") {
			word = strings.ReplaceAll(word, script.Unknown, "…")
			if c.Certain {
				j.lintDownload(line, word)
			}
			j.blockf(line, "line %d fetches %s, which is named for %s", line, word, arch)
			return
		}
	}
	switch {
	case to != "" && to != "-":
		j.v.files.make(c.Path(to), line)
	case to == "":
		for _, word := range operands(c.Words[1:]) {
			j.v.files.make(c.Path(path.Base(word)), line)
		}
	}
}

// outputFlag matches the short flags of curl and wget that name a file to write, alone or behind others.
var outputFlag = regexp.MustCompile(`^-[a-zA-Z]*[oOP]$`)

// plain notes what a plain command makes.
func (j *judge) plain(c script.Command, line int) {
	args := operands(c.Words[1:])
	j.readsMachine(c, args, line)
	switch c.Name() {
	case "mkdir", "touch", "tee":
		for _, a := range args {
			j.v.files.make(c.Path(a), line)
		}
	case "ln":
		j.link(c, args, line)
	case "git":
		if len(args) > 2 && args[0] == "clone" {
			j.v.files.make(c.Path(args[len(args)-1]), line)
		} else if len(args) == 2 && args[0] == "clone" {
			j.v.files.make(c.Path(strings.TrimSuffix(path.Base(args[1]), ".git")), line)
		}
	case "dd":
		for _, a := range args {
			if of, ok := strings.CutPrefix(a, "of="); ok {
				j.v.files.make(c.Path(of), line)
			}
		}
	}
}

// changesNames are the plain commands that do not look at what files hold.
var changesNames = strings.Fields("rm rmdir mkdir chmod chown chgrp touch ln tee echo printf install unlink true false cd export test_ locale-gen setcap")

// readsMachine refuses commands that look at files that the base image or a package put there for the machine.
func (j *judge) readsMachine(c script.Command, args []string, line int) {
	if contains(changesNames, c.Name()) {
		return
	}
	for _, a := range args {
		p := stem(c.Path(a))
		lib := strings.HasPrefix(p, "/lib") || strings.HasPrefix(p, "/usr/lib")
		bin := contains([]string{"/bin", "/sbin", "/usr/bin", "/usr/sbin"}, path.Dir(p)) && !contains([]string{"[", "test", "which", "find", "ls", "stat"}, c.Name())
		if (lib || bin) && path.IsAbs(a) && !j.v.files.isData(p) && !j.v.files.isMade(p) {
			j.blockf(line, "line %d looks at %s, which is the machine's own", line, a)
		}
	}
}

// link notes a link: a symbolic one is nothing but a name.
func (j *judge) link(c script.Command, args []string, line int) {
	if len(args) < 2 {
		return
	}
	to := c.Path(args[len(args)-1])
	if hasShortFlag(c.Words[1:], 's') || contains(c.Words, "--symbolic") {
		j.v.files.make(to, line)
		return
	}
	j.moveFiles(c, args[:len(args)-1], to, line)
}

// copies judges what puts files of the stage elsewhere: a system file that is put aside is still the machine's.
func (j *judge) copies(c script.Command, line int) {
	args := operands(c.Words[1:])
	switch c.Name() {
	case "tar":
		j.tar(c, line)
	case "zip":
		j.zip(c, args, line)
	case "unzip", "7z":
		for i, word := range c.Words[1:] {
			if c.Words[i] == "-d" {
				j.v.files.make(c.Path(word), line)
			}
		}
		j.v.files.make(path.Join(c.Dir, script.Unknown), line)
	case "install":
		if hasShortFlag(c.Words[1:], 'd') || contains(c.Words, "--directory") {
			for _, a := range args {
				j.v.files.make(c.Path(a), line)
			}
			return
		}
		fallthrough
	case "cp", "mv", "rsync":
		if dir, ok := targetDirectory(c.Words); ok {
			j.moveFiles(c, args, c.Path(dir), line)
		} else if len(args) > 1 {
			j.moveFiles(c, args[:len(args)-1], c.Path(args[len(args)-1]), line)
		} else if c.Through != "" {
			j.v.files.spoil(path.Join(c.Dir, script.Unknown), line, "is put there by line "+strconv.Itoa(line))
		}
	}
}

// zip notes the archive that is made, and what goes into it.
func (j *judge) zip(c script.Command, args []string, line int) {
	if len(args) == 0 {
		return
	}
	for _, a := range args[1:] {
		if class, why := j.v.files.classOf(c.Path(a)); class == foreign {
			j.v.files.spoil(c.Path(args[0]), line, fmt.Sprintf("line %d packs from %s, which %s", line, a, why))
			return
		}
	}
	j.v.files.make(c.Path(args[0]), line)
}

// tar notes what is unpacked; what is packed has to be made in the stage.
func (j *judge) tar(c script.Command, line int) {
	dir, packs := c.Dir, false
	var names []string
	archive := ""
	for i, word := range c.Words[1:] {
		before := c.Words[i]
		switch {
		case before == "-C" || before == "--directory":
			dir = c.Path(word)
		case word == "-T" || strings.HasPrefix(word, "--files-from"):
			j.blockf(line, "line %d packs files that the Dockerfile does not name", line)
		case (i == 0 || strings.HasPrefix(word, "-")) && word != "-C" && !strings.HasPrefix(word, "--") && strings.Contains(word, "c"), word == "--create":
			packs = true
		case i > 0 && strings.HasSuffix(before, "f") && (i == 1 || strings.HasPrefix(before, "-")):
			archive = c.Path(word)
		case strings.HasPrefix(word, "-"), i == 0:
		default:
			names = append(names, word)
		}
	}
	if !packs {
		j.v.files.make(path.Join(dir, script.Unknown), line)
		j.v.files.make(dir, line)
		return
	}
	for _, name := range names {
		if !j.v.files.isMade(resolveIn(dir, name)) {
			j.blockf(line, "line %d packs %s, which the stage does not make itself", line, name)
		}
	}
	if archive != "" {
		j.v.files.make(archive, line)
	}
}

// moveFiles notes that files of the stage are put elsewhere.
func (j *judge) moveFiles(c script.Command, from []string, to string, line int) {
	for _, name := range from {
		src := c.Path(name)
		switch class, why := j.v.files.classOf(src); class {
		case foreign:
			j.v.files.spoil(to, line, fmt.Sprintf("is put there by line %d from %s, which %s", line, strings.ReplaceAll(name, script.Unknown, "…"), why))
			return
		case suspected:
			j.v.files.suspect(to, line, "line "+strconv.Itoa(line))
		case own:
		}
		if j.v.files.isProgram(src, "") {
			j.v.files.program(to, line)
			j.v.files.program(path.Join(to, path.Base(src)), line)
		}
		if isSystemDir(to) {
			j.v.files.make(path.Join(to, path.Base(name)), line)
		}
	}
	if !isSystemDir(to) {
		j.v.files.make(to, line)
	}
}

// operands are the arguments that are no flags.
func operands(args []string) []string {
	var out []string
	for i, a := range args {
		if a == "--" {
			return append(out, args[i+1:]...)
		}
		if !strings.HasPrefix(a, "-") || a == "-" {
			out = append(out, a)
		}
	}
	return out
}

func hasShortFlag(args []string, flag rune) bool {
	for _, a := range args {
		if strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "--") && strings.ContainsRune(a, flag) {
			return true
		}
	}
	return false
}

func targetDirectory(words []string) (string, bool) {
	for i, word := range words {
		if (word == "-t" || word == "--target-directory") && i+1 < len(words) {
			return words[i+1], true
		}
		if dir, ok := strings.CutPrefix(word, "--target-directory="); ok {
			return dir, true
		}
	}
	return "", false
}

func contains(list []string, s string) bool { return slices.Contains(list, s) }

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}
