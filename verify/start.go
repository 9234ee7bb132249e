package verify

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// What an image starts is followed: the program that its config names, what that runs of which nobody has to guess (a wrapper's command, the certain commands of
// a shell's script, a script's interpreter), and the libraries that each of them needs.

// start is the following of what one image starts.
type start struct {
	*inspection

	c      config
	what   string // "entrypoint" or "command"
	judged map[string]bool
}

// checkCommands judges what the image starts, and returns the paths of the files it has judged.
func (in *inspection) checkCommands(c config) map[string]bool {
	s := &start{inspection: in, c: c, what: "entrypoint", judged: map[string]bool{}}
	argv := slices.Concat(c.entrypoint, c.cmd)
	if len(c.entrypoint) == 0 {
		s.what = "command"
	}
	if len(argv) == 0 || argv[0] == "" {
		return s.judged
	}
	if in.want.Platform.OS == "windows" {
		s.windows(argv[0])
		return s.judged
	}
	at, ok := in.tree.program(c, argv[0])
	if !ok {
		s.broken("", fmt.Sprintf("its %s %q is not in the image, or is not executable", s.what, argv[0]))
		return s.judged
	}
	s.file(at, s.what)
	s.commands(argv)
	s.loaded()
	return s.judged
}

// broken notes that what the image starts cannot be started. That is a warning where it is not held to it: in an image in which nothing can be started at all, which is data and whose
// command is there for tools that want one, and by [Want.Inherited].
func (s *start) broken(at, message string) {
	f := Finding{Path: at, Message: message, Started: true}
	data := true
	for _, e := range s.tree {
		if e.code != nil || e.kind == file && e.executable {
			data = false
			break
		}
	}
	if s.want.Inherited || data {
		s.report.Warnings = append(s.report.Warnings, f)
		s.report.Broken = !data
		return
	}
	s.report.Refused = append(s.report.Refused, f)
}

// commands follows what is run by what the image starts, as far as that is certain.
func (s *start) commands(argv []string) {
	vars := map[string]string{}
	for _, kv := range s.c.env {
		if name, value, ok := strings.Cut(kv, "="); ok {
			vars[name] = value
		}
	}
	if vars["PATH"] == "" {
		vars["PATH"] = defaultPath
	}
	texts := map[string]string{}
	for name, e := range s.tree {
		if e.text != "" && e.executable {
			texts["/"+name] = e.text
		}
	}
	if at, ok := s.tree.program(s.c, argv[0]); ok && s.tree[at].text != "" {
		argv = append([]string{"/" + at}, argv[1:]...) // a script is read where it lies
	}
	read := script.ReadArgs(argv, script.Options{Vars: vars, Dir: s.c.dir, Files: texts, Open: true})
	sure := len(read.Problems) == 0 && len(read.Files) == 0 // that what is not there is missed
	shell := slices.ContainsFunc(argv, isShell)
	for _, c := range read.Commands {
		if c.Certain && c.Through == "" && script.Known(c.Words[0]) && c.Words[0] != ":" {
			if slices.Equal(c.Words, argv) {
				s.handed(c.Words) // it is what the image starts itself
			} else {
				s.command(c, sure && (!shell || strings.Contains(c.Words[0], "/"))) // busybox need have no links
			}
		}
		sure = sure && slices.Contains(makesNothing, path.Base(c.Words[0])) && len(c.Writes) == 0
	}
}

// makesNothing are commands behind which the same programs are found, and the same variables, as before.
var makesNothing = strings.Fields("cd export set unset umask ulimit echo printf test [ : true false sleep mkdir chmod chown rm date id hostname cat ls wait trap exec env read shift")

// command judges one that is run by what the image starts. sure: it has to be there.
func (s *start) command(c script.Command, sure bool) {
	config := s.c
	if list, ok := c.Getenv("PATH"); ok {
		if !script.Known(list) {
			return
		}
		config.env = append(slices.Clip(config.env), "PATH="+list)
	}
	if config.dir = c.Dir; !script.Known(c.Dir) && !strings.HasPrefix(c.Words[0], "/") {
		return
	}
	at, ok := s.tree.program(config, c.Words[0])
	switch {
	case ok:
		s.file(at, "command")
		if len(s.c.cmd) > 0 && slices.Equal(c.Words[1:], s.c.cmd) { // as tini hands it on
			s.handed(c.Words)
		}
	case slices.Contains(ofTheShell, c.Words[0]) || !sure:
	default:
		s.broken("", fmt.Sprintf("its command %q is not in the image, or is not executable", c.Words[0]))
	}
}

// ofTheShell are commands that a shell carries out itself.
var ofTheShell = strings.Fields(". : [ alias bg bind break builtin caller cd command compgen complete continue declare dirs disown echo enable eval exec exit export false fc fg getopts hash help " +
	"history jobs kill let local logout mapfile popd printf pushd pwd read readarray readonly return set shift shopt source suspend test times trap true type typeset ulimit umask unalias unset wait")

// handed judges the program that another one is handed as its first argument, where that is machine code: most such programs run it. An emulator, and a
// language's own run time, is for what it is handed.
func (s *start) handed(words []string) {
	if len(words) < 2 || runsOthers(path.Base(words[0])) { //nolint:mnd // a program and its argument
		return
	}
	word := words[1]
	if strings.HasPrefix(path.Base(words[0]), "ld-") || strings.HasPrefix(path.Base(words[0]), "ld.so") {
		for _, w := range words[1:] { // ld.so PROGRAM
			if !strings.HasPrefix(w, "-") {
				word = w
				break
			}
		}
	} else if !strings.HasPrefix(word, "/") && !slices.Contains(s.c.cmd[:min(len(s.c.cmd), 1)], word) {
		return
	}
	if at, ok := s.tree.program(s.c, word); ok && s.tree[at].code != nil {
		s.file(at, "command")
	}
}

// runsOthers reports whether a program is one that runs the code of other machines, or of none.
func runsOthers(name string) bool {
	for _, prefix := range []string{"qemu-", "box64", "box86", "wine", "mono", "dotnet", "java", "python", "node", "ruby", "perl", "FEX"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// file judges a file that is started. No base image excuses it.
func (s *start) file(at, what string) {
	for range maxLinks { // a script's interpreter may be a script
		if s.judged[at] {
			return
		}
		s.judged[at] = true
		e := s.tree[at]
		name := fmt.Sprintf("(%s) ", what)
		switch {
		case e.code != nil:
			s.machineCode(e, name)
			return
		case e.script == "":
			// The kernel runs no text; a shell that is told to run it reads it itself.
			if what == s.what && !strings.HasPrefix(what, "interpreter") {
				s.broken("/"+at, name+notRunnable(e))
			}
			return
		}
		program, arg := interpreter(e.script)
		next, ok := s.tree.find(program)
		if !ok || !next.executable {
			s.broken("/"+at, fmt.Sprintf("%sis a script for %s, which is not in the image%s", name, printed(program), carriage(program)))
			return
		}
		if path.Base(program) == "env" && arg != "" {
			s.judged[next.path] = true
			if next.code != nil {
				s.machineCode(next, "(interpreter of the "+what+") ")
			}
			word := envProgram(arg)
			if word == "" {
				return
			}
			found, ok := s.tree.program(s.c, word)
			if !ok {
				s.broken("/"+at, fmt.Sprintf("%sis a script for %s by env, which is not in the image%s", name, printed(word), carriage(word)))
				return
			}
			next = s.tree[found]
		}
		at, what = next.path, "interpreter of the "+what
	}
}

// envProgram is the program that env starts for a script; empty if that is not read. Without -S the rest of the line is one word.
func envProgram(arg string) string {
	rest, split := strings.CutPrefix(arg, "-S")
	if !split {
		if strings.HasPrefix(arg, "-") || strings.Contains(arg, "=") {
			return ""
		}
		return arg
	}
	for word := range strings.FieldsSeq(rest) {
		switch {
		case strings.HasPrefix(word, "-"), strings.ContainsAny(word, `"'$\`):
			return ""
		case !strings.Contains(word, "="):
			return word
		}
	}
	return ""
}

func printed(s string) string { return strings.ReplaceAll(s, "\r", `\r`) }

// carriage explains what is wrong with most names that are not there for a reason nobody sees.
func carriage(name string) string {
	if strings.HasSuffix(name, "\r") {
		return ": its lines end as Windows has them; save it with line feeds alone"
	}
	return ""
}

// notRunnable says why the kernel runs no such file.
func notRunnable(e entry) string {
	if e.empty {
		return "is an empty file"
	}
	return `is no program, and no script that says by "#!" what runs it`
}

// machineCode judges a program that is started.
func (s *start) machineCode(e entry, name string) {
	s.count(*e.code)
	if s.report.Interpreter == "" {
		s.report.Interpreter = e.code.Interp
	}
	switch problem := s.loader(*e.code); {
	case e.code.Object, !e.code.Fits(s.want.Platform):
		s.sort(e, true, true, "/"+e.path, name+mismatch(*e.code, s.want.Platform))
	case problem != "":
		s.lacks(e, name+problem)
	default:
		s.report.Fitting++
		if lacks, found := s.libs.of(e); found {
			by := ""
			if lacks.by != "/"+e.path {
				by = " (by " + lacks.by + ")"
			}
			s.lacks(e, name+lacks.String()+by)
		}
	}
}

// lacks notes what a program that is started lacks. An exception allows it as it does code for another machine.
func (s *start) lacks(e entry, message string) {
	if allowed, err := s.except.MatchesOrParentMatches(e.path); err == nil && allowed {
		s.sort(e, true, true, "/"+e.path, message)
		return
	}
	s.broken("/"+e.path, message)
}

// loaded judges the libraries that a loader puts before every program: LD_PRELOAD and /etc/ld.so.preload.
func (s *start) loaded() {
	list := strings.FieldsFunc(s.c.variable("LD_PRELOAD")+" "+s.tree["etc/ld.so.preload"].text, func(r rune) bool { return strings.ContainsRune(" :\t\n", r) })
	for _, name := range list {
		if e, ok := s.tree.find(name); ok && strings.Contains(name, "/") && e.code != nil && !e.code.fitsMachine(s.want.Platform) {
			s.judged[e.path] = true
			s.sort(e, true, true, "/"+e.path, "(loaded before every program) "+mismatch(*e.code, s.want.Platform))
		}
	}
}

// windows judges the program of an image for Windows: its layers hold files below Files, and names are the same in any case.
func (s *start) windows(program string) {
	clean := strings.ToLower(strings.ReplaceAll(program, `\`, "/"))
	clean = strings.Trim(strings.TrimPrefix(clean, "c:"), `"/`)
	var names []string
	for _, dir := range append([]string{"", strings.ToLower(strings.ReplaceAll(s.c.dir, `\`, "/"))}, strings.Split(strings.ToLower(strings.ReplaceAll(s.c.variable("PATH"), `\`, "/")), ";")...) {
		p := strings.Trim(path.Join(strings.TrimPrefix(strings.Trim(dir, "/"), "c:"), clean), "/")
		names = append(names, p, p+".exe", "files/"+p, "files/"+p+".exe")
	}
	for at, e := range s.tree {
		if e.code == nil || !slices.Contains(names, strings.ToLower(at)) {
			continue
		}
		s.judged[at] = true
		s.count(*e.code)
		if e.code.Fits(s.want.Platform) {
			s.report.Fitting++
			return
		}
		s.sort(e, true, true, "/"+at, fmt.Sprintf("(%s) %s", s.what, mismatch(*e.code, s.want.Platform)))
		return
	}
	s.warn("", fmt.Sprintf("its %s %q was not found in it", s.what, program))
}
