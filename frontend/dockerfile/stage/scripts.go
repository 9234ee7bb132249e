package stage

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/manifold-build/manifold/frontend/dockerfile/effect"
	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// A RUN instruction may run a script that was copied from the build context. Its text is asked for, and read where it is run as the RUN's own is, for one purpose:
// to know whether it may compile. To move a stage for what a script does would take more certainty than there is: nobody may have changed the file, and a
// script may do all that shells can.

// origin says where the files below a path come from.
type origin struct {
	to string
	// from are the sources in the build context; nil means that they come from elsewhere, or nobody knows.
	from []string
}

// origins are in the order in which files were put there.
type origins []origin

// anywhere is what holds when any file may have been changed.
var anywhere = origins{{to: "/"}}

// copied notes that sources of the build context are copied to a destination.
func (f *fold) copied(dest string, sources []string, plain bool) {
	o := origin{to: dest}
	for _, s := range sources {
		s = f.req.word(f.w.Env, s)
		if !plain || !script.Known(s) || strings.ContainsAny(s, "*?[") || strings.Contains(s, "://") {
			o.from = nil
			break
		}
		o.from = append(o.from, strings.TrimPrefix(path.Join("/", s), "/"))
	}
	f.w.origins = f.w.origins.with(o)
}

func (list origins) with(o origin) origins {
	switch {
	case strings.HasPrefix(o.to, script.Unknown) || o.to == "":
		return anywhere
	case o.from == nil && list.nowhere():
		return list
	}
	return append(list, o)
}

// nowhere reports whether no file is known to come from the build context.
func (list origins) nowhere() bool {
	return len(list) == 0 || list[len(list)-1].to == "/" && list[len(list)-1].from == nil
}

// candidates are the files of the build context that a path may be a copy of: the first one that exists is it. There are none if it may be another file.
func (list origins) candidates(p string) []string {
	var out []string
	for _, o := range slices.Backward(list) {
		if o.to != "/" && !within(p, o.to) {
			continue
		}
		if o.from == nil {
			return nil
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(p, o.to), "/")
		for _, s := range slices.Backward(o.from) {
			out = append(out, path.Join(s, rel))
			if rel == path.Base(s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// plainCopy reports whether a COPY copies what its sources name, as it is.
func plainCopy(c *instructions.CopyCommand) bool {
	return c.From == "" && len(c.SourceContents) == 0 && !c.Parents && len(c.ExcludePatterns) == 0
}

// plainAdd reports whether an ADD does the same as a COPY: archives are unpacked, and addresses fetched.
func plainAdd(c *instructions.AddCommand) bool {
	return len(c.SourceContents) == 0 && len(c.ExcludePatterns) == 0 && !slices.ContainsFunc(c.SourcePaths, func(s string) bool { return notPlain.MatchString(s) })
}

var notPlain = regexp.MustCompile(`://|@|\.(tar|tgz|gz|xz|txz|bz2|tbz2?|zst)\b`)

// maxFiles bounds how often a RUN is read again with the scripts that it runs.
const maxFiles = 16

// readFiles reads the RUN with the scripts in files that it runs.
func (f *runFold) readFiles() {
	barred := map[string]bool{}
	f.files = nil
	for range maxFiles {
		f.whole = f.reading(f.w.Env, f.files)
		more, after := f.scripts(barred)
		if !more {
			f.w.origins = after
			return
		}
	}
	f.files, f.w.origins = nil, anywhere
	f.whole = f.reading(f.w.Env, nil)
}

// scripts looks for scripts in files among what the RUN runs, and whether those that were read are what they were taken for. It reports whether there is more to
// read, and returns where files come from afterwards.
func (f *runFold) scripts(barred map[string]bool) (more bool, after origins) {
	after = slices.Clip(f.w.origins)
	now := f.mounted(after)
	if now.nowhere() {
		return false, after
	}
	left := f.whole.Files
	for i := 0; i <= len(f.whole.Commands); i++ {
		for ; len(left) > 0 && left[0].Before <= i; left = left[1:] {
			p := left[0].Path
			if text, ok := f.textOf(now, p); !ok || text != f.files[p] {
				barred[p], more = true, true
				delete(f.files, p)
			}
		}
		if i == len(f.whole.Commands) {
			break
		}
		c := f.whole.Commands[i]
		if p := scriptOf(c); p != "" && !barred[p] && f.files[p] == "" {
			if text, ok := f.textOf(now, p); ok && text != "" {
				if f.files == nil {
					f.files = map[string]string{}
				}
				f.files[p], more = text, true
			}
		}
		if len(f.run.Mounts) == 0 {
			now = now.after(c)
			after = now
			continue
		}
		now, after = now.after(c), after.after(c)
	}
	return more, after
}

// mounted is where files come from in the RUN, what it mounts included.
func (f *runFold) mounted(list origins) origins {
	list = slices.Clip(list)
	for _, m := range f.run.Mounts {
		o := origin{to: effect.Resolve(f.w.Dir, f.req.word(f.w.Env, m.Target))}
		if src := f.req.word(f.w.Env, m.Source); m.Bind && m.From == "" && script.Known(src) {
			o.from = []string{strings.TrimPrefix(path.Join("/", src), "/")}
		}
		list = list.with(o)
	}
	return list
}

// scriptOf is the path of the file that a command runs, if that may be a script: a program that has no name, or what a shell is given.
func scriptOf(c script.Command) string {
	if c.Through != "" || !script.Known(c.Words[0]) {
		return ""
	}
	words := effect.WrapperScript(c.Words)
	name := ""
	switch base := path.Base(words[0]); {
	case base == "." || base == "source":
		if len(words) > 1 {
			name = words[1]
		}
	case runners[base]:
		if i := slices.IndexFunc(words[1:], func(w string) bool { return !strings.HasPrefix(w, "-") }); i >= 0 && words[i] != "-o" {
			name = words[i+1]
		}
	case strings.Contains(words[0], "/") && !effect.IsKnown(effect.NameOf(words[0])) && !effect.IsKnown(base):
		name = words[0]
	}
	if p := c.Path(name); name != "" && script.Known(p) {
		return p
	}
	return ""
}

// runners are shells whose language is read.
var runners = setOf("sh bash ash dash ksh")

// textOf is the text of a script in a file, which the build context is asked for. It is not ok if that is not known, or if it is no script.
func (f *runFold) textOf(list origins, p string) (string, bool) {
	names := list.candidates(p)
	if len(names) == 0 {
		return "", false
	}
	q := Question{Kind: effect.Script, Line: f.run.Line, Commands: strings.Join(names, "\n")}
	answer, ok := f.req.Answers[q]
	if !ok && !slices.Contains(f.out.Scripts, q) {
		f.out.Scripts = append(f.out.Scripts, q)
	}
	return answer.Text, ok && !answer.Failed
}

func setOf(names string) map[string]bool {
	out := map[string]bool{}
	for name := range strings.FieldsSeq(names) {
		out[name] = true
	}
	return out
}

// leaving are commands that write no files but those that they are redirected to, or none that may be a script: what packages bring, folders, times.
var leaving = setOf("echo printf cat ls test [ : true false cd pwd export set unset umask grep egrep fgrep awk cut tr head tail sort uniq wc uname arch id whoami date dirname basename " +
	"readlink realpath which type command hash sleep env nproc chmod chown chgrp mkdir touch stat du df sha256sum sha512sum md5sum apk apt-get apt dnf microdnf yum tdnf zypper update-ca-certificates " +
	"ldd file getconf dpkg dpkg-architecture expr seq rm rmdir gcc cc g++ c++ strip")

// putting are commands that write below the last of their operands, or the folder that they run in.
var putting = setOf("cp mv ln install tar unzip curl wget")

// goLeaving are the commands of go that change no sources, gitLeaving those of git.
var (
	goLeaving  = setOf("build install env version list vet mod")
	gitLeaving = setOf("config describe rev-parse log status show diff rev-list")
)

// after is where files come from when a command has run.
func (list origins) after(c script.Command) origins {
	name := path.Base(c.Words[0])
	sub := ""
	if len(c.Words) > 1 {
		sub = c.Words[1]
	}
	switch {
	case list.nowhere():
		return list
	case c.Through != "" || !script.Known(c.Words[0]):
		return anywhere
	case leaving[name], name == "go" && goLeaving[sub], name == "git" && gitLeaving[sub]:
	case name == "sed" && !slices.ContainsFunc(c.Words[1:], func(w string) bool { return strings.HasPrefix(w, "-") && strings.Contains(w, "i") }):
	case putting[name]:
		list = list.with(origin{to: c.Dir})
		for _, w := range c.Words[1:] {
			if _, value, ok := strings.Cut(w, "="); ok && strings.HasPrefix(w, "--") {
				w = value
			}
			if !strings.HasPrefix(w, "-") && !strings.Contains(w, "://") {
				list = list.with(origin{to: c.Path(w)})
			}
		}
	default:
		return anywhere
	}
	for i, w := range c.Words {
		if name == "go" && i > 0 && c.Words[i-1] == "-o" {
			list = list.with(origin{to: c.Path(w)})
		}
	}
	for _, w := range c.Writes {
		if w != "/dev/null" {
			list = list.with(origin{to: c.Path(w)})
		}
	}
	return list
}
