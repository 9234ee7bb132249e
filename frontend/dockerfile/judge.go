package dockerfile

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
	"github.com/manifold-build/manifold/platforms"
)

// verdict is what the planner makes of one stage for one target, were it run on the build platform.
type verdict struct {
	// blocked says why the stage has to run on its target; empty if it need not.
	blocked string
	// line is where the blocking command stands.
	line int
	// named: its base image is for one architecture, so running it elsewhere is no way out.
	named bool
	// told are the commands that take their target from the environment, and tools those that need none.
	told  []toldCommand
	tools []string
	// edits are what is to be put into RUN instructions, by their first line.
	edits map[int]*edit
	// probes are still to be made; checks are to be made when the stage has run.
	probes, checks []Probe
	// suspect says what is taken from the stage although it may hold machine code; empty if nothing is.
	suspect string
	files   *files
	// rustTargets are the targets that rustup has installed.
	rustTargets []string
	// goEnv is what "go env -w" has set.
	goEnv map[string]string
	// executes is the first command that runs what the stage itself made.
	executes string
	// compilesGo says that it compiles with Go.
	compilesGo bool
	findings   []Finding
}

// openMake reports whether it is still to be asked what make would run.
func (v *verdict) openMake() bool {
	return slices.ContainsFunc(v.probes, func(p Probe) bool { return p.Kind == ProbeMake })
}

// toldCommand is a command that is told its target.
type toldCommand struct {
	name, how string
	enough    bool // what it is told by the Dockerfile is enough where it runs on the build platform
	line      int
	// first and last bound what it makes among the marks of the stage's files.
	first, last int
}

// edit is what a RUN instruction gets so that it works for the target on the build platform.
type edit struct {
	env      []platforms.NameValue // variables to export
	unset    []string              // variables to remove
	goenv    bool                  // also as Go's own configuration, for values that the script empties
	bin      string                // GOPATH/bin, where go install puts programs
	binDir   string                // GOOS_GOARCH, the directory in it that a cross-compiling go install uses; empty means none is needed
	binInto  string                // where they go instead; empty means bin
	cacheDir string                // Go's build cache
	cargo    string                // Rust target that a plain cargo build is told; empty means none is needed
}

// judge reads one stage.
type judge struct {
	g    *graph
	n    *node
	w    world
	v    *verdict
	r    *run
	read script.Reading
	edit *edit
	host platforms.Host
	// inMake: the commands are what a make would run; behindMake are those of them that a probe has to ask about.
	inMake     bool
	behindMake []goCommand
	// makes counts the makes of the RUN.
	makes int
	// asked is how many commands of the RUN a probe has to ask about at least, askedLast the last of them.
	asked     int
	askedLast goCommand
}

// verdictOf judges a stage, after the one it is built FROM.
func (g *graph) verdictOf(n *node) *verdict {
	if n.verdict != nil {
		return n.verdict
	}
	j := &judge{g: g, n: n, host: g.host, v: &verdict{edits: map[int]*edit{}, files: &files{marks: make([]mark, 0, usualMarks)}, goEnv: map[string]string{}}}
	n.verdict = j.v
	if n.parent != nil {
		parent := g.verdictOf(n.parent)
		j.v.files, j.v.goEnv = parent.files.clone(), maps.Clone(parent.goEnv)
		j.v.rustTargets = parent.rustTargets
	}
	j.w = g.worldOf(n)
	if len(j.w.onBuild) > 0 {
		j.blockf(n.line, "its base has ONBUILD instructions (line %d), which run in it", j.w.onLine)
	}
	if n.parent == nil {
		if word := findArchWord(n.image); word != "" {
			j.blockf(n.line, "its base image %s is named for %s", n.image, word)
			j.v.named = true
		}
		if containsFold(g.target.Contexts, n.image) {
			j.blockf(n.line, "a build context replaces its base image %s", n.image)
		}
		if not := g.images[n.image].NotFor; not != "" {
			j.blockf(n.line, "its base image %s %s", n.image, not)
		}
		if n.fixed && n.platform == "" {
			j.blockf(n.line, "its FROM line is written in a way that is not read")
		}
	}
	for _, c := range n.body {
		j.instruction(c)
		g.advance(&j.w, c)
	}
	return j.v
}

// block notes why the stage cannot move; the first reason stays.
func (j *judge) blockf(line int, format string, args ...any) {
	if j.v.blocked == "" {
		j.v.blocked, j.v.line = fmt.Sprintf(format, args...), line
	}
}

func (j *judge) findf(line int, rule, format string, args ...any) {
	j.v.findings = append(j.v.findings, Finding{
		Target: j.g.target.Platform, Line: line, Rule: rule, Message: fmt.Sprintf(format, args...),
	})
}

func (j *judge) instruction(c instructions.Command) {
	switch c := c.(type) {
	case *instructions.WorkdirCommand:
		after := j.w.clone()
		j.g.advance(&after, c)
		j.v.files.make(after.dir, lineOf(c))
	case *instructions.CopyCommand:
		j.copy(c)
	case *instructions.AddCommand:
		j.add(c)
	case *instructions.OnbuildCommand:
		// It runs in the stages built from this one.
	case *instructions.RunCommand:
		j.instructionRun(j.n.runAt[c])
	}
}

// copy notes where a COPY puts files.
func (j *judge) copy(c *instructions.CopyCommand) {
	line := lineOf(c)
	j.lintCopy(c)
	defer j.copyTools(c, line)
	from := j.g.word(j.w.env, c.From)
	dest := j.destination(c.DestPath)
	if c.From != "" && j.g.file.findSource(from) < 0 && !containsFold(j.g.target.Contexts, from) {
		// BuildKit takes it for the platform the stage runs on.
		for _, src := range c.SourcePaths {
			if !j.v.files.isData(path.Join("/", j.g.word(j.w.env, src))) {
				j.v.files.spoil(dest, line, "is copied from the image "+from+" on line "+strconv.Itoa(line))
				return
			}
		}
	}
	j.made(dest, c.SourcePaths, line)
}

// copyTools notes programs that are copied from another stage to where programs are found: if that stage stays on the target,
// they are the target's. What a stage makes with Go runs either way, under emulation.
func (j *judge) copyTools(c *instructions.CopyCommand, line int) {
	i := j.g.file.findSource(j.g.word(j.w.env, c.From))
	dest := j.destination(c.DestPath)
	if c.From == "" || i < 0 || j.g.nodes[i] == j.n || !isSystemDir(dest) && !isSystemDir(path.Dir(dest)) && !within(dest, "/usr/local") {
		return
	}
	made := j.g.verdictOf(j.g.nodes[i])
	for _, src := range c.SourcePaths {
		src = path.Join("/", j.g.word(j.w.env, src))
		to := dest
		if isSystemDir(dest) && !strings.ContainsAny(src, "*?[") {
			to = path.Join(dest, path.Base(src))
		}
		switch {
		case made.files.isData(src):
		case !j.g.root(j.g.nodes[i]).pin.IsZero():
			// Its programs are unknown, and so is what runs them.
		case made.files.isProgram(src, "") && made.blocked == "":
			j.v.files.program(to, line)
		default:
			j.v.files.add(mark{path: to, class: own, tool: true, line: line})
		}
	}
}

func (j *judge) add(c *instructions.AddCommand) {
	line := lineOf(c)
	for _, src := range c.SourcePaths {
		if word := findArchWord(j.g.word(j.w.env, src)); word != "" && strings.Contains(src, "://") {
			j.lintDownload(line, j.g.word(j.w.env, src))
			j.blockf(line, "line %d adds %s, which is named for %s", line, src, word)
		}
	}
	j.made(j.destination(c.DestPath), c.SourcePaths, line)
}

// made notes that sources are put at a destination: into it if it is a directory.
func (j *judge) made(dest string, sources []string, line int) {
	if !isSystemDir(dest) {
		j.v.files.make(dest, line)
		return
	}
	for _, src := range sources {
		j.v.files.make(path.Join(dest, path.Base(j.g.word(j.w.env, src))), line)
	}
}

// destination is the absolute path that an instruction copies to.
func (j *judge) destination(word string) string {
	dest := j.g.word(j.w.env, word)
	switch {
	case strings.HasPrefix(dest, script.Unknown):
		return script.Unknown
	case path.IsAbs(dest):
		return path.Clean(dest)
	default:
		return path.Join(j.w.dir, dest)
	}
}

// instructionRun judges a RUN instruction.
func (j *judge) instructionRun(r *run) {
	j.r, j.edit = r, &edit{}
	j.asked, j.askedLast, j.makes = 0, goCommand{}, 0
	switch {
	case r.tied != "":
		j.blockf(r.line, "line %d is tied to the machine by %s", r.line, r.tied)
		return
	case r.problem != "":
		j.blockf(r.line, "line %d %s", r.line, r.problem)
		return
	case !j.readable():
		return
	}
	for _, m := range r.mounts {
		if m.from != "" && j.g.file.findSource(m.from) < 0 && !m.cache {
			j.blockf(r.line, "line %d mounts the image %s, whose programs are the machine's", r.line, m.from)
		}
	}
	j.read = r.read(j)
	for _, p := range j.read.Problems {
		j.blockf(r.lineOf(p.Offset), "line %d %s", r.lineOf(p.Offset), p.What)
	}
	for i, c := range j.read.Commands {
		if i > maxJudged && len(j.read.Problems) > 0 {
			break // it stays anyhow
		}
		j.command(c)
	}
	if g := j.askedLast; g.sub != "" {
		p := Probe{Kind: ProbeCgo, Line: r.line}
		if g.Chain {
			p.before = g.End
		}
		j.probe(p, g)
	}
	j.finishRun()
}

// maxJudged is how many commands of a script are judged that cannot be read to its end.
const maxJudged = 256

// readable reports whether the shell that runs the text is one whose language is read.
func (j *judge) readable() bool {
	if j.r.form == execForm || len(j.w.shell) == 0 {
		return true
	}
	if isShell(j.w.shell[:1]) && strings.HasSuffix(j.w.shell[len(j.w.shell)-1], "c") {
		return true
	}
	j.blockf(j.r.line, "line %d is run by the shell %q, whose language is not read", j.r.line, strings.Join(j.w.shell, " "))
	return false
}

// read reads the script, or the words of the exec form, with what holds where it stands.
func (r *run) read(j *judge) script.Reading {
	opt := script.Options{Vars: j.w.env, Dir: j.w.dir, Output: j.output}
	if r.form == execForm {
		return script.ReadArgs(r.argv, opt)
	}
	return r.script.Read(opt)
}

// output is what a command in a substitution is known to print: go env with the target's values, paths.
func (j *judge) output(c script.Command) (string, bool) {
	switch {
	case slices.Equal(c.Words, []string{"go", "env", "GOARCH"}):
		return firstSet(envOf(c, "GOARCH"), j.g.target.Platform.Names().Go.GOARCH), true
	case slices.Equal(c.Words, []string{"go", "env", "GOOS"}):
		return firstSet(envOf(c, "GOOS"), j.g.target.Platform.Names().Go.GOOS), true
	case slices.Equal(c.Words, []string{"go", "env", "GOPATH"}):
		return j.goPath(c), true
	case slices.Equal(c.Words, []string{"go", "env", "GOROOT"}) && strings.Contains(envOf(c, "PATH"), "/usr/local/go/bin"):
		return "/usr/local/go", true
	case slices.Equal(c.Words, []string{"npm", "bin"}):
		return c.Path("node_modules/.bin"), true
	case c.Name() == "basename" && len(c.Words) == 2:
		return path.Base(c.Words[1]), true
	case c.Name() == "dirname" && len(c.Words) == 2:
		return path.Dir(c.Words[1]), true
	default:
		return "", false
	}
}

func firstSet(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// envOf is the value of a command's variable, empty if it is unset.
func envOf(c script.Command, name string) string {
	v, _ := c.Getenv(name)
	return v
}

// command judges a simple command.
func (j *judge) command(c script.Command) {
	line := j.r.lineOf(c.Offset)
	for _, f := range slices.Concat(c.Words[1:], c.Reads) {
		if asksKernel(f) {
			j.blockf(line, "line %d reads %s, which tells the machine", line, f)
		}
	}
	for _, f := range c.Writes {
		j.v.files.make(c.Path(f), line)
	}
	if strings.HasPrefix(c.Words[0], script.Unknown) || !script.Known(c.Words[0]) {
		j.blockf(line, "line %d runs a program whose name is only known when it runs", line)
		return
	}
	if j.v.files.isProgram(c.Path(c.Words[0]), c.Words[0]) {
		j.executes(c, strings.Join(short(c.Words), " "))
		return
	}
	if script := operands(c.Words[1:]); contains([]string{"sh", "bash"}, commandName(c.Words[0])) && len(script) > 0 && contains(wrapperScripts, path.Base(script[0])) {
		c.Words = c.Words[slices.Index(c.Words, script[0]):]
	}
	name := commandName(c.Words[0])
	if strings.HasPrefix(name, "xx-") {
		j.v.files.unproven = true
	}
	if line := j.v.files.copiedTool(name, c.Path(c.Words[0])); line > 0 {
		j.blockf(j.r.lineOf(c.Offset), "line %d runs %s, which line %d copies from a stage of the target", j.r.lineOf(c.Offset), name, line)
	}
	t, ok := toolNamed(name)
	if !ok && name == "" && j.v.openMake() {
		return // perhaps make makes it; the answer will tell
	}
	if !ok {
		j.blockf(line, "line %d runs %q, which may depend on the machine", line, strings.Join(short(c.Words), " "))
		return
	}
	if t.driver != nil {
		t.driver(j, c)
		return
	}
	j.tool(t, name, c, line)
}

// short is a command's beginning, for people.
func short(words []string) []string {
	out := slices.Clone(words[:min(len(words), 2)])
	for i, w := range out {
		out[i] = strings.ReplaceAll(w, script.Unknown, "…")
		if len(out[i]) > 40 {
			out[i] = out[i][:40] + "…"
		}
	}
	if len(out) == 2 && strings.HasPrefix(out[0], "/") {
		return out[:1]
	}
	return out
}

// executes notes that the stage runs what it made: it is the target's, and runs under emulation.
func (j *judge) executes(c script.Command, what string) {
	line := j.r.lineOf(c.Offset)
	if j.v.executes == "" {
		j.v.executes = fmt.Sprintf("line %d runs %q", line, what)
	}
	j.needEnv(goCommand{Command: c, sub: "run", dir: c.Dir, line: line})
	switch v, set := j.goVar(c, "CGO_ENABLED"); {
	case v == "0" || v == "1":
	case buildTool.MatchString(c.Words[0]):
		j.blockf(line, "line %d runs %q, which may build with cgo", line, what)
	default:
		j.export("CGO_ENABLED", "0", set)
	}
	if !j.host.RunsForeign(j.g.target.Platform) {
		j.blockf(line, "line %d runs %q, which the stage makes for %s, and the node does not run its programs", line, what, j.g.target.Platform)
	}
}

// finishRun keeps what is to be put into the RUN instruction.
func (j *judge) finishRun() {
	e := j.edit
	if len(e.env) == 0 && len(e.unset) == 0 && e.binDir == "" && e.cacheDir == "" && e.cargo == "" {
		return
	}
	if j.r.column < 0 {
		j.blockf(j.r.line, "line %d is written in a way that nothing can be put before", j.r.line)
		return
	}
	switch {
	case (e.binDir != "" || e.goenv) && j.r.form == execForm:
		j.blockf(j.r.line, "line %d is in exec form, and needs a shell around it to be told the target", j.r.line)
		return
	case e.binDir != "" && j.read.Traps:
		j.blockf(j.r.line, "line %d sets a trap or leaves its shell by exec, and go install needs something put behind it", j.r.line)
		return
	}
	j.confirm(e)
	j.v.edits[j.r.line] = e
}

// takesAway matches what a script must hold to take away a variable that was put before it.
var takesAway = regexp.MustCompile(`GO|CGO_|unset|env|sudo|\bsu\b|export|declare`)

// confirm reads the RUN again with what is put before it, and sees to it that every command of go still finds it there.
func (j *judge) confirm(e *edit) {
	if len(e.env) == 0 || !j.r.takesAway && j.r.form != execForm {
		return
	}
	env := maps.Clone(j.w.env)
	for _, v := range e.env {
		env[v.Name] = v.Value
	}
	if e.goenv {
		env["GOENV"] = goenvPath
	}
	opt := script.Options{Vars: env, Dir: j.w.dir, Output: j.output}
	read := script.ReadArgs(j.r.argv, opt)
	if j.r.form != execForm {
		read = j.r.script.Read(opt)
	}
	for _, c := range read.Commands {
		if commandName(c.Words[0]) != "go" && !j.v.files.isProgram(c.Path(c.Words[0]), c.Words[0]) {
			continue
		}
		for _, v := range e.env {
			if is, _ := c.Getenv(v.Name); is == "" && (!e.goenv || envOf(c, "GOENV") != goenvPath) {
				line := j.r.lineOf(c.Offset)
				j.blockf(line, "line %d runs %q without %s, which the script takes away", line, strings.Join(short(c.Words), " "), v.Name)
			}
		}
	}
}

func asksKernel(file string) bool {
	if contains([]string{"/etc/apk/arch", "/var/lib/dpkg/arch", "/var/lib/dpkg/status"}, file) {
		return true
	}
	return (strings.HasPrefix(file, "/proc/") || strings.HasPrefix(file, "/sys/")) && !strings.Contains(file, "/fd/") && file != "/proc/meminfo"
}
