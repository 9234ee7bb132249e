package stage

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/manifold-build/manifold/frontend/dockerfile/effect"
	"github.com/manifold-build/manifold/frontend/dockerfile/script"
	"github.com/manifold-build/manifold/frontend/dockerfile/source"
	"github.com/manifold-build/manifold/platforms"
)

// runFold reads one RUN instruction, or what a make in it would run.
type runFold struct {
	*fold

	run  *source.Run
	text string
	env  Values
	dir  string
	read script.Reading
	edit *Edit
	// files are the texts of scripts in files that it runs, by their paths, and whole is what is read of the RUN with them.
	files map[string]string
	whole script.Reading
	// behind says that the commands are what a make, or go generate, would run; compiles are those of them that a node has to be asked about.
	behind   bool
	compiles []effect.GoCommand
	// exported is what the makefile at hand exports to what it runs.
	exported []platforms.NameValue
	// makes counts the makes of the RUN.
	makes int
	// asked is how many commands of the RUN a node has to be asked about at least, askedLast the last of them.
	asked     int
	askedLast *effect.GoCommand
	// pipe says that what is piped to the next command was fetched by this name, for the target.
	pipe bool
	// caches are the directories of Go's build cache that commands use.
	caches []string
}

// run reads a RUN instruction.
func (f *fold) run(r *source.Run, c *instructions.RunCommand) {
	switch {
	case r.Tied != "":
		f.blockf(r.Line, "is tied to the machine by %s", r.Tied)
		return
	case r.Problem != "":
		f.blockf(r.Line, "%s", r.Problem)
		return
	case !f.readable(r):
		return
	}
	in := &runFold{fold: f, run: r, text: r.Text, env: f.w.Env, dir: f.w.Dir, edit: &Edit{}}
	in.readFiles()
	in.read = in.whole
	if len(in.files) > 0 {
		in.read = in.reading(f.w.Env, nil)
	}
	in.mounts(c)
	for _, p := range in.read.Problems {
		f.blockf(r.LineOf(p.Offset), "%s", p.What)
	}
	for i, c := range in.read.Commands {
		if i > maxJudged && len(in.read.Problems) > 0 {
			break // it stays anyhow
		}
		in.command(i, c)
	}
	if what := noted(r, "what is not read", func() string { return findAny(notRead, r.Text, hard) }); what != "" {
		f.blockf(r.Line, "uses %q, which is not read", effect.Shown(strings.TrimSpace(what)))
	} else if what := noted(r, "paths of the machine", func() string { return findAny(machinePaths, r.Text, places) }); what != "" {
		f.blockf(r.Line, "looks for %q, which tells the machine", effect.Shown(strings.TrimSpace(what)))
	}
	in.noteCompilers()
	if g := in.askedLast; g != nil {
		q := Question{Kind: effect.Cgo, Line: r.Line}
		if g.Chain {
			q.Before = g.End
		}
		in.ask(q, g.Call, *g)
	}
	in.finish()
}

// noteCompilers notes a RUN instruction in which compilers may be called.
func (f *runFold) noteCompilers() {
	f.out.Installs = f.out.Installs || len(f.whole.Problems) > 0 || slices.ContainsFunc(f.whole.Commands, func(c script.Command) bool {
		name := effect.NameOf(c.Words[0])
		return name == "apt-get" || name == "apt" || name == "aptitude"
	})
	may := len(f.whole.Problems) > 0 || slices.ContainsFunc(f.whole.Commands, func(c script.Command) bool {
		return effect.Call{Command: c, Name: effect.NameOf(c.Words[0])}.MayCompile()
	})
	again := slices.ContainsFunc(f.run.Mounts, func(m source.Mount) bool { return m.From == Accelerator }) // in a text that was made here
	if may && !again && f.run.Editable() && !slices.Contains(f.out.Compiles, f.run.Line) {
		f.out.Compiles = append(f.out.Compiles, f.run.Line)
	}
}

// maxJudged is how many commands of a script are judged that cannot be read to its end.
const maxJudged = 256

// readable reports whether the shell that runs the text is one whose language is read.
func (f *fold) readable(r *source.Run) bool {
	shell := f.w.Shell
	if r.Form == source.ExecForm || len(shell) == 0 || source.IsShell(shell[:1]) && takesCommand(shell[1:]) {
		return true
	}
	f.blockf(r.Line, "is run by the shell %q, whose language is not read", strings.Join(shell, " "))
	return false
}

// takesCommand reports whether a shell with these options runs the argument that follows: -c is among them, and behind a word with o stands the name of an
// option (POSIX, sh).
func takesCommand(options []string) bool {
	takes := false
	for i := 0; i < len(options); i++ {
		word := options[i]
		if len(word) < 2 || word[0] != '-' && word[0] != '+' {
			return false
		}
		takes = takes || strings.Contains(word, "c")
		i += strings.Count(word, "o")
	}
	return takes
}

// reading reads the script, or the words of the exec form, with variables.
func (f *runFold) reading(env Values, files map[string]string) script.Reading {
	opt := script.Options{Vars: env, Dir: f.w.Dir, Files: files, Output: f.prints, Bash: f.bash(), Errexit: slices.ContainsFunc(f.w.Shell, func(s string) bool {
		return strings.HasPrefix(s, "-") && strings.Contains(s, "e")
	})}
	if f.run.Form == source.ExecForm {
		return script.ReadArgs(f.run.Argv, opt)
	}
	return f.run.Script.Read(opt)
}

// bash reports whether the shell that runs the text is known to be bash.
func (f *runFold) bash() bool {
	if shell, _, ok := script.Interpreter(f.run.Interpreter + "\n"); f.run.Interpreter != "" && ok {
		return shell == "bash"
	}
	return f.run.Form != source.ExecForm && len(f.w.Shell) > 0 && path.Base(f.w.Shell[0]) == "bash"
}

// prints is what a command in a substitution is known to print.
func (f *runFold) prints(c script.Command) (string, bool) { return effect.Prints(c, f.req.Target) }

// mounts notes what the RUN mounts from stages and images.
func (f *runFold) mounts(c *instructions.RunCommand) {
	for _, m := range f.run.Mounts {
		if m.From == "" || m.Cache {
			continue
		}
		from := f.req.word(f.w.Env, m.From)
		target := effect.Resolve(f.w.Dir, f.req.word(f.w.Env, m.Target))
		i := f.req.File.FindSource(from)
		switch {
		case i >= 0:
			src := path.Join("/", f.req.word(f.w.Env, m.Source))
			f.programsOf(i, src, target, f.run.Line)
			for _, p := range f.mountedPaths(m, src, target) {
				f.out.Takes = append(f.out.Takes, Take{Stage: i, Path: p, To: script.Unknown, Line: f.run.Line})
			}
		case f.req.Replaced(from):
			f.toolsOfTarget(target, f.run.Line)
		case from != m.From:
			f.blockf(f.run.Line, "mounts an image whose name holds a variable")
		default:
			f.input(c, from, f.run.Line)
			f.out.Files.spoil(target, f.run.Line, "is mounted from the image "+from+" on line "+strconv.Itoa(f.run.Line))
		}
	}
}

// mountedPaths are the paths that the RUN takes from a stage that is mounted whole: those that its commands name, if every command is one that looks at
// nothing else.
func (f *runFold) mountedPaths(m source.Mount, src, target string) []string {
	whole := []string{src}
	if m.Source != "" || target == "/" || !path.IsAbs(target) || !m.Bind || len(f.read.Problems) > 0 {
		return whole
	}
	var out []string
	for _, c := range f.read.Commands {
		if within(c.Dir, target) || !script.Known(c.Dir) || !slices.Contains(namesAll, c.Words[0]) || c.Through != "" || c.Document != nil {
			return whole
		}
		for _, word := range slices.Concat(c.Words[1:], c.Reads) {
			p := c.Path(word)
			switch {
			case strings.HasPrefix(word, "-"):
				if strings.Contains(word, target) {
					return whole
				}
			case !script.Known(p) || within(target, effect.Stem(p)) && effect.Stem(p) != p || within(target, p):
				return whole
			case within(p, target):
				out = append(out, path.Join("/", strings.TrimPrefix(p, target)))
			}
		}
	}
	return out
}

// namesAll are commands that look at no files but those that their words name.
var namesAll = strings.Fields("cp mv install mkdir ln cat echo printf chmod chown touch test [ : true ls rm sha256sum sed grep head tail cd")

// command reads one command.
func (f *runFold) command(i int, c script.Command) {
	c.Words = effect.WrapperScript(c.Words)
	call := effect.Call{
		Command: c, Name: effect.NameOf(c.Words[0]), Line: f.run.LineOf(c.Offset), Target: f.req.Target, Build: f.req.Build,
		Later: f.read.Commands[i+1:], Text: f.text, Exec: f.run.Argv, Begin: f.env, Behind: f.behind,
	}
	files := f.out.Files
	known := script.Known(c.Words[0])
	if known && files.isProgram(c.Path(c.Words[0]), c.Words[0]) {
		f.apply(call, f.out.tools.Executes(call, effect.Short(c.Words)))
		return
	}
	if strings.HasPrefix(call.Name, "xx-") {
		files.unproven = true
	}
	if line, certain := files.copiedTool(call.Name, func() []string { return lookedUp(c) }); known && line > 0 {
		puts := "may put"
		if certain {
			puts = "puts"
		}
		name := call.Name
		if name == "" {
			name = effect.Short(c.Words)
		}
		f.blockf(call.Line, "runs %s, which line %d %s there for the target", name, line, puts)
	}
	if line := f.shadowed(c); known && line > 0 {
		f.blockf(call.Line, "runs %s, which may be a file of the build context that line %d puts before it in PATH", call.Name, line)
	}
	if known && call.Name == "" && slices.ContainsFunc(f.out.Questions, func(q Question) bool { return q.Kind == effect.Make }) {
		return // perhaps make makes it; the answer will tell
	}
	f.apply(call, f.out.tools.Effect(call))
}

// lookedUp are the paths at which a command's program may lie: its own, or the command's name in the folders of PATH. Where those are not known, that may be
// the one that the command runs in.
func lookedUp(c script.Command) []string {
	if strings.Contains(c.Words[0], "/") {
		return []string{c.Path(c.Words[0])}
	}
	list, set := c.Getenv("PATH")
	if !set {
		return nil // the image's own, which are known by their names
	}
	if !script.Known(list) {
		return []string{c.Path(c.Words[0])}
	}
	var out []string
	for dir := range strings.SplitSeq(list, ":") {
		out = append(out, path.Join(effect.Resolve(c.Dir, dir), c.Words[0]))
	}
	return out
}

// apply folds what a command does.
func (f *runFold) apply(c effect.Call, e effect.Effect) {
	for _, r := range e.Depends {
		f.block(r)
	}
	before := len(f.out.Files.marks)
	f.applyFiles(c, e)
	f.applyEnv(c, e)
	if e.Told != nil {
		f.out.Told = append(f.out.Told, Told{Told: *e.Told, first: before, last: len(f.out.Files.marks)})
	}
	if e.Tool != "" && !slices.Contains(f.out.Tools, e.Tool) {
		f.out.Tools = append(f.out.Tools, e.Tool)
	}
	if r := e.Runs; r != nil && (!r.Perhaps || f.out.Files.holdsProgramOnPath()) {
		f.out.Runs = append(f.out.Runs, *r)
	}
	f.out.Findings = append(f.out.Findings, e.Findings...)
	f.out.Files.unproven = f.out.Files.unproven || e.Unproven
	if e.GoCache != "" {
		f.caches = append(f.caches, e.GoCache)
	}
	if q := e.Asks; q != nil {
		f.question(c, *q)
	}
}

// applyEnv notes what a command needs of its environment.
func (f *runFold) applyEnv(c effect.Call, e effect.Effect) {
	for _, v := range e.Env {
		if !slices.Contains(f.edit.Env, v.NameValue) {
			f.edit.Env = append(f.edit.Env, v.NameValue)
		}
		f.edit.GoEnv = f.edit.GoEnv || v.Emptied
		f.out.PureByPlan = f.out.PureByPlan || v.Name == "CGO_ENABLED"
	}
	for _, name := range e.Unset {
		if !slices.Contains(f.edit.Unset, name) {
			f.edit.Unset = append(f.edit.Unset, name)
		}
	}
	if in := e.Install; in != nil {
		if had := f.edit.Install; had != nil && had.Bin != in.Bin {
			f.blockf(c.Line, "sets GOPATH for go install to what is not known")
		}
		f.edit.Install = in
	}
	if e.Cargo != "" {
		f.edit.Cargo = e.Cargo
	}
}

// question notes what a node has to be asked.
func (f *runFold) question(c effect.Call, q effect.Question) {
	switch {
	case q.Kind == effect.Make:
		f.ask(Question{Kind: effect.Make, Line: f.run.Line, Before: c.End}, c, q.Go)
	case f.behind:
		f.compiles = append(f.compiles, q.Go)
	default:
		if q.Certain {
			f.asked++
		}
		f.askedLast = &q.Go
	}
}

// finish keeps what is to be put into the RUN instruction.
func (f *runFold) finish() {
	e := f.edit
	f.mountCache()
	if e.IsZero() {
		return
	}
	line := f.run.Line
	if !f.run.Editable() {
		f.blockf(line, "is written in a way that nothing can be put before")
		return
	}
	exec := f.run.Form == source.ExecForm
	switch {
	case (e.Install != nil || e.GoEnv || e.Cargo != "") && exec:
		f.blockf(line, "is in exec form, and needs a shell around it to be told the target")
		return
	case e.Install != nil && f.showsLink():
		f.blockf(line, "takes all that is in the folder of go install's programs, in which a link is put")
		return
	case e.Install != nil && f.read.Traps:
		f.blockf(line, "sets a trap or leaves its shell by exec, and go install needs something put behind it")
		return
	}
	f.confirm()
	f.out.Edits[line] = e
}

// showsLink reports whether the RUN handles the folder as a whole in which the plan puts a link beside go install's programs.
func (f *runFold) showsLink() bool {
	return slices.ContainsFunc(f.read.Commands, func(c script.Command) bool {
		bin := path.Join(effect.GoPath(c), "bin")
		if gobin, ok := c.Getenv("GOBIN"); ok && gobin != "" {
			bin = gobin
		}
		if name := effect.NameOf(c.Words[0]); name == "mkdir" || name == "cd" || name == "export" || name == "echo" || name == "rm" || name == "chmod" || name == "chown" || name == "go" {
			return false
		}
		if within(bin, c.Dir) && c.Dir != "/" && effect.NameOf(c.Words[0]) == "tar" {
			return true
		}
		if strings.Contains(f.text, bin+"/*") {
			return true
		}
		return slices.ContainsFunc(c.Words[1:], func(w string) bool {
			w = strings.TrimPrefix(w, "-C")
			if w == "" || strings.HasPrefix(w, "-") {
				return false
			}
			p := c.Path(w)
			return script.Known(p) && effect.Stem(p) != "/" && (effect.Stem(p) == bin && (p == bin || effect.Stem(p) != p) || within(bin, effect.Stem(p)))
		})
	})
}

// GoEnvPath is where Go's configuration is put for the time of one RUN. The folder is in memory and no part of any layer.
const GoEnvPath = "/dev/shm/manifold-goenv"

// mountCache gives the RUN a mount for Go's build cache, unless the user sees to it or something in the RUN would notice.
func (f *runFold) mountCache() {
	if len(f.caches) == 0 || f.req.NoCacheMounts || f.w.User != "" && f.w.User != "root" && f.w.User != "0" {
		return
	}
	dir := f.caches[0]
	if slices.ContainsFunc(f.caches, func(s string) bool { return s != dir }) {
		return
	}
	for _, m := range f.run.Mounts {
		if t := effect.Resolve(f.w.Dir, f.req.word(f.w.Env, m.Target)); t == script.Unknown || within(t, dir) || within(dir, t) {
			return
		}
	}
	for _, c := range f.read.Commands {
		name := effect.NameOf(c.Words[0])
		if name == "go" && len(c.Words) > 1 && c.Words[1] == "clean" {
			return
		}
		if !slices.Contains(handlesFolders, name) {
			continue
		}
		for _, a := range c.Words[1:] {
			if strings.HasPrefix(a, "-") {
				continue
			}
			if p := effect.Stem(c.Path(a)); !path.IsAbs(p) || p == "/" || within(dir, p) || within(p, dir) {
				return
			}
		}
	}
	f.edit.CacheDir = dir
}

// handlesFolders are commands that handle whole folders, and would meet a mount in one.
var handlesFolders = strings.Fields("rm chown chmod chgrp mv cp find tar rsync rmdir ln du ls zip")
