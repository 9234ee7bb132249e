package dockerfile

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
	"github.com/manifold-build/manifold/platforms"
)

// ProbeKind is what a probe finds out.
type ProbeKind uint8

const (
	// ProbeCgo asks which packages outside the standard library a compilation would build with cgo.
	ProbeCgo ProbeKind = iota + 1
	// ProbeMake asks what make would run.
	ProbeMake
	// ProbeCode asks what machine code lies at the paths that are taken out of a stage, after the stage has run.
	ProbeCode
)

var probeNames = [...]string{ProbeCgo: "cgo", ProbeMake: "make", ProbeCode: "code"}

// String returns the probe's name: cgo, make or code.
func (k ProbeKind) String() string {
	if int(k) < len(probeNames) && k > 0 {
		return probeNames[k]
	}
	return fmt.Sprintf("probe(%d)", uint8(k))
}

// MarshalText returns the probe's name.
func (k ProbeKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (k *ProbeKind) UnmarshalText(text []byte) error {
	for i, name := range probeNames {
		if name == string(text) && i > 0 {
			*k = ProbeKind(i)
			return nil
		}
	}
	return fmt.Errorf("unknown probe %q", text)
}

// Probe is a question that the text of a Dockerfile leaves open, and that a small exec on the build platform, in the stage's
// own tree at that line, can answer. A plan with open probes is what holds if all are answered well.
type Probe struct {
	Kind ProbeKind
	// Stage is the stage's name or index, Line where the question arises, Target what the stage is run for.
	Stage  string
	Line   int
	Target platforms.Platform
	// Paths are what a ProbeCode looks at: absolute, shell patterns allowed. Nil for the other kinds.
	Paths []string

	stage    int
	commands string // the go commands that a ProbeCgo behind a make asks about, as a script
	before   int    // how much of the RUN's text is run before them
}

// key tells probes apart.
func (p Probe) key() string {
	return fmt.Sprintf("%d %s %d %d ", p.Kind, p.Target, p.stage, p.Line) + p.commands
}

// Answer is what a probe found.
type Answer struct {
	Probe Probe
	// Text is what the probe's instruction left in [AnswerPath].
	Text string
	// Failed says that the probe could not be made.
	Failed bool
}

// AnswerPath is the file in which the instruction of [File.ProbeText] leaves its answer.
const AnswerPath = "/tmp/.manifold/answer"

// probe asks a question about a RUN, or judges the answer if there is one.
func (j *judge) probe(p Probe, g goCommand) {
	p.Stage, p.stage, p.Target = j.n.title(), j.n.index, j.g.target.Platform
	answer, ok := j.g.answers[p.key()]
	switch {
	case !ok:
		if !slices.ContainsFunc(j.v.probes, func(q Probe) bool { return q.key() == p.key() }) {
			j.v.probes = append(j.v.probes, p)
		}
	case answer.Failed:
		j.blockf(g.line, "line %d: the %s probe did not succeed", g.line, p.Kind)
	case p.Kind == ProbeCgo:
		j.answerCgo(answer.Text, g)
	case p.Kind == ProbeMake:
		j.answerMake(answer.Text, g)
	}
}

// answerCgo judges what a cgo probe found: for each command a line "pure", "cgo PACKAGE", "run LINE" (what go generate would run) or
// anything else. At least as many commands have to be answered as are certain to run.
func (j *judge) answerCgo(text string, g goCommand) {
	found, noCompiler, generated := 0, false, false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "":
			continue
		case "generate":
			found++
			generated = true
			continue
		case "pure":
			found++
			continue
		case "nocc":
			noCompiler = true
			continue
		case "run":
			j.makeLines(rest, g.dir, g)
			continue
		case "cgo":
			j.blockf(g.line, "line %d builds %s, which needs cgo", g.line, rest)
		default:
			j.blockf(g.line, "line %d: the cgo probe said %q", g.line, line)
		}
		return
	}
	if generated && len(j.behindMake) > 0 && !noCompiler {
		j.blockf(g.line, "line %d: what go generate compiles may need cgo", g.line)
	}
	if found == 0 || found < j.asked {
		j.blockf(g.line, "line %d: the cgo probe saw %d of %d compilations", g.line, found, max(j.asked, 1))
	}
}

// makeSays matches what make says of itself.
var makeSays = regexp.MustCompile(`^[^ ]*make(\[\d+\])?: (Entering directory ['\x60](.*)'|Leaving directory .*|Nothing to be done .*|.* is up to date\.)$`)

// answerMake judges what make would run. The answer holds, each line with a letter in front: "p", printed by make -n;
// "s", run by make itself while it read its files; "v", a variable of Go's as the makefiles leave it.
func (j *judge) answerMake(text string, g goCommand) {
	parts := map[byte]*strings.Builder{'p': {}, 's': {}, 'v': {}}
	for line := range strings.Lines(j.section(text)) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		if b := parts[line[0]]; b != nil {
			b.WriteString(line[1:])
		} else {
			j.blockf(g.line, "line %d: the make probe said %q", g.line, strings.TrimSpace(line))
			return
		}
	}
	j.makeVariables(parts['v'].String(), g)
	j.makeScript(parts['s'].String(), g)
	j.makeScript(parts['p'].String(), g)
	j.askBehindMake(g)
}

// section is the part of an answer that is about the make at hand: each begins with a line "m".
func (j *judge) section(text string) string {
	sections := strings.Split("\n"+text, "\nm\n")
	if len(sections) == 1 {
		return text
	}
	j.makes++
	if j.makes >= len(sections) {
		return "eit was not reached"
	}
	return sections[j.makes] + "\n"
}

// askBehindMake has what make compiles asked about, each command in its directory.
func (j *judge) askBehindMake(g goCommand) {
	if len(j.behindMake) == 0 {
		return
	}
	p := Probe{Kind: ProbeCgo, Line: j.r.line, before: g.Offset}
	for _, c := range j.behindMake {
		words := slices.DeleteFunc(slices.Clone(c.Words), func(w string) bool { return !script.Known(w) && strings.HasPrefix(w, "-") })
		if !script.Known(c.Dir) || slices.ContainsFunc(words, func(w string) bool { return !script.Known(w) && !strings.Contains(w, " ") }) {
			j.blockf(g.line, "line %d: make compiles what is only known when it runs", g.line)
			return
		}
		p.commands += "(cd " + quoteAll([]string{c.Dir}) + " && " + quoteAll(words) + ")\n"
	}
	asked := j.asked
	j.asked = len(j.behindMake)
	j.probe(p, g)
	j.asked = asked
}

// makeVariables refuses makefiles that give Go's variables values of their own: make exports those that came from
// the environment.
func (j *judge) makeVariables(text string, g goCommand) {
	want := j.makeEnv(g)
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && value != want[name] {
			j.blockf(g.line, "line %d: a makefile sets %s to %q", g.line, name, value)
		}
	}
}

// makeEnv is the environment that make runs in: the RUN's own, and what is put before it.
func (j *judge) makeEnv(g goCommand) map[string]string {
	env := map[string]string{}
	for _, name := range append(slices.Clone(goTargetNames), "CGO_ENABLED", "GOFLAGS", "GOBIN", "GOPATH", "CC", "CXX", "GOCACHE", "HOME", "PATH") {
		if v, ok := g.Getenv(name); ok {
			env[name] = v
		}
	}
	for _, v := range j.edit.env {
		env[v.Name] = v.Value
	}
	return env
}

// makeScript judges commands that make runs, in the directories it says it is in. Make gives every line a shell of its own.
func (j *judge) makeScript(text string, g goCommand) {
	dir := g.dir
	line := ""
	for part := range strings.Lines(text) {
		part = strings.TrimSuffix(part, "\n")
		if m := makeSays.FindStringSubmatch(part); m != nil && line == "" {
			if m[3] != "" {
				dir = m[3]
			}
			continue
		}
		line += part
		if strings.HasSuffix(part, "\\") {
			line += "\n"
			continue
		}
		j.makeLines(line, dir, g)
		line = ""
	}
	if line != "" {
		j.makeLines(line, dir, g)
	}
}

// makeLines judges a script that is run in a directory with the RUN's environment.
func (j *judge) makeLines(text, dir string, g goCommand) {
	s, err := script.Parse(text)
	if err != nil {
		j.blockf(g.line, "line %d: what is run behind it is not read (%v)", g.line, err)
		return
	}
	env := maps.Clone(j.w.env)
	maps.Copy(env, j.makeEnv(g))
	if v, _ := g.Getenv("CGO_ENABLED"); v == "" {
		delete(env, "CGO_ENABLED") // what is put there is not the user's word
	}
	r := &run{line: g.line, form: shellForm, text: text}
	inner := &judge{g: j.g, n: j.n, host: j.host, v: j.v, w: j.w.clone(), r: r, edit: &edit{}, inMake: true, behindMake: j.behindMake}
	inner.w.env, inner.w.dir = env, dir
	inner.read = s.Read(script.Options{Vars: env, Dir: dir, Output: inner.output})
	for _, p := range inner.read.Problems {
		j.blockf(g.line, "line %d: what is run behind it %s", g.line, p.What)
	}
	for _, c := range inner.read.Commands {
		if base := commandName(c.Words[0]); base == "make" || base == "gmake" {
			continue // its own lines follow
		}
		inner.command(c)
	}
	j.behindMake = inner.behindMake
	j.adopt(inner, g)
}

// adopt takes over what commands behind a make need. What they set themselves is in the lines that make prints.
func (j *judge) adopt(inner *judge, g goCommand) {
	e := inner.edit
	if e.goenv || e.binDir != "" && len(e.unset) > 0 {
		j.blockf(g.line, "line %d: make empties a variable of Go's", g.line)
	}
	for _, v := range e.env {
		if !slices.Contains(j.edit.env, v) {
			j.edit.env = append(j.edit.env, v)
		}
	}
	if e.binDir != "" {
		j.edit.bin, j.edit.binDir = e.bin, e.binDir
	}
}

// ProbeText returns the text to build for a probe: the stage up to the line, as the plan moves it, and then an instruction that
// leaves the answer in [AnswerPath]. For a ProbeCode it is the whole stage. The text's last stage is the one to build.
func (f *File) ProbeText(p Probe, plan Plan) ([]byte, error) {
	text, err := f.For(p.Target, plan)
	if err != nil {
		return nil, err
	}
	if p.stage < 0 || p.stage >= len(f.stages) {
		return nil, fmt.Errorf("%s: no stage %d", f.name, p.stage)
	}
	s := f.stages[p.stage]
	if p.Kind == ProbeCode {
		return f.StageText(p.Stage, p.Target, plan)
	}
	rows := strings.SplitAfter(string(text), "\n")
	r := s.runAtLine(p.Line)
	if r == nil {
		return nil, fmt.Errorf("%s:%d: no RUN instruction", f.name, p.Line)
	}
	t := plan.targets[p.Target]
	e := t.edits[p.Line]
	if e == nil {
		e = &edit{}
	}
	script := probeScript(p, r, e)
	return []byte(strings.Join(rows[:p.Line-1], "") + "RUN " + r.flags + "<<" + probeEnd + "\n" + script + probeEnd + "\n"), nil
}

// probeEnd ends the here-document of a probe's instruction.
const probeEnd = "MANIFOLD_PROBE"

// StageText returns the text to build for one stage of a target alone, by the stage's name or index as in [Step]: everything up
// to its last line. The text's last stage is the one to build.
func (f *File) StageText(stage string, target platforms.Platform, plan Plan) ([]byte, error) {
	text, err := f.For(target, plan)
	if err != nil {
		return nil, err
	}
	rows := strings.SplitAfter(string(text), "\n")
	for _, s := range f.stages {
		if s.title() == stage {
			return []byte(strings.Join(rows[:min(s.lastLine, len(rows))], "")), nil
		}
	}
	return nil, fmt.Errorf("%s: no stage %s", f.name, stage)
}

// probeScript is what a probe's instruction runs: programs called go and make that say what they would do, found before the
// real ones, and then the RUN's own text up to the command that is asked about.
func probeScript(p Probe, r *run, e *edit) string {
	text := r.text
	switch {
	case r.form == execForm:
		text = quoteAll(r.argv)
	case p.commands != "":
		text = text[:p.before] + "\n" + p.commands
	case p.before > 0:
		text = text[:p.before]
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Manifold asks %s of line %d for %s\n", probeTopics[p.Kind], p.Line, p.Target)
	b.WriteString("mkdir -p /tmp/.manifold/bin\ncat >/tmp/.manifold/bin/go <<'MANIFOLD'\n" + goProbe + "MANIFOLD\n")
	b.WriteString("cat >/tmp/.manifold/shell <<'MANIFOLD'\n" + shellProbe + "MANIFOLD\ncat >/tmp/.manifold/bin/make <<'MANIFOLD'\n" + makeProbe + "MANIFOLD\n")
	b.WriteString("cp /tmp/.manifold/bin/make /tmp/.manifold/bin/gmake\nchmod +x /tmp/.manifold/bin/* /tmp/.manifold/shell\n: >/tmp/.manifold/answer\n")
	fmt.Fprintf(&b, "MANIFOLD_PROBE=%s\nMANIFOLD_REST=$PATH\nPATH=/tmp/.manifold/bin:$PATH\nexport PATH MANIFOLD_PROBE MANIFOLD_REST\n", p.Kind)
	b.WriteString(e.prefix())
	b.WriteString("\n(\n" + text + "\n)\n" + probeDone)
	return b.String()
}

// probeDone ends a probe. One that met trouble with the network fails, so that BuildKit does not keep its answer.
const probeDone = `if grep -qiE '(dial|lookup|timeout|timed out|connection|tls|x509|unexpected eof|no such host|proxy|i/o)' /tmp/.manifold/error 2>/dev/null &&
	grep -qE '^e' /tmp/.manifold/answer; then cat /tmp/.manifold/error >&2; exit 1; fi
exit 0
`

// probeTopics are what probes ask, for people.
var probeTopics = map[ProbeKind]string{ProbeCgo: "what needs cgo", ProbeMake: "what make would run"}

// quoteAll quotes words for the shell.
func quoteAll(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.Join(out, " ")
}

// goProbe stands in for go: what compiles it does not run but asks about, everything else is go's own.
const goProbe = `#!/bin/sh
PATH=$MANIFOLD_REST
export PATH
[ "$MANIFOLD_PROBE" = cgo ] || exec go "$@"
dir=
if [ "$1" = -C ]; then dir=$2; cd "$2" || exit 1; shift 2; fi
sub=$1
say() { printf '%s\n' "$1" >>/tmp/.manifold/answer; }
case "$sub" in
build|install|run|test) shift ;;
generate)
	shift
	if go generate -n "$@" >/tmp/.manifold/generate 2>/tmp/.manifold/error; then
		say generate
		cc=$(go env CC)
		command -v "${cc%% *}" >/dev/null 2>&1 || say nocc
		sed 's/^/run /' /tmp/.manifold/generate >>/tmp/.manifold/answer
		exec go generate "$@"
	fi
	say "error $(head -n 1 /tmp/.manifold/error)"
	exit 1 ;;
*) if [ -n "$dir" ]; then exec go -C . "$@"; else exec go "$@"; fi ;;
esac
# Later commands may look for what this one would have made.
stub() {
	case "$1" in */) mkdir -p "$1"; set -- "$1$2" ;; esac
	if [ -d "$1" ]; then set -- "$1/$2"; fi
	mkdir -p "$(dirname "$1")" && [ -e "$1" ] || { printf '#!/bin/sh\n' >"$1"; chmod +x "$1"; }
}
test=
[ "$sub" = test ] && test=-test
keep=
out=
while [ $# -gt 0 ]; do
	case "$1" in
	-tags=*|-mod=*|-modfile=*|-overlay=*|--tags=*|--mod=*|--modfile=*|--overlay=*) keep="$keep $1" ;;
	-tags|-mod|-modfile|-overlay|--tags|--mod|--modfile|--overlay) keep="$keep $1=$(printf %s "$2" | tr ' ' ,)"; shift ;;
	-C) cd "$2" || exit 1; shift ;;
	-o=*) out=${1#-o=} ;;
	-o) out=$2; shift ;;
	-p|-asmflags|-buildmode|-compiler|-gccgoflags|-gcflags|-installsuffix|-ldflags|-pgo|-pkgdir|-toolexec|-exec) shift ;;
	-covermode|-coverpkg|-coverprofile|-run|-bench|-benchtime|-count|-cpu|-parallel|-timeout|-skip|-shuffle|-list|-fuzz|-fuzztime|-vet|-outputdir) shift ;;
	-*) ;;
	*) break ;;
	esac
	shift
done
name=$(basename "${1:-$PWD}")
name=${name%@*}
[ "$name" = . ] && name=$(basename "$PWD")
[ "$name" = ... ] && name=all
case "$sub" in
build) stub "${out:-./}" "$name" ;;
install) stub "${GOBIN:-$(go env GOPATH)/bin}/" "$name" ;;
esac
cc=$(go env CC)
if ! command -v "${cc%% *}" >/dev/null 2>&1; then
	say pure
	[ "$sub" != run ] || exec go run $keep "$@"
	exit 0
fi
CGO_ENABLED=1
export CGO_ENABLED
if [ "$sub" = run ]; then
	case "$1" in
	*.go) files=; for a in "$@"; do case "$a" in *.go) files="$files $a" ;; *) break ;; esac; done; set -- $files ;;
	*) set -- "$1" ;;
	esac
fi
case "$1" in
*@*)
	work=$(mktemp -d) && cd "$work" && go mod init probe >/dev/null 2>&1 && go get "$@" >/dev/null 2>&1 || { say "error go get $*"; exit 0; }
	for a in "$@"; do set -- "$@" "${a%@*}"; shift; done ;;
esac
if found=$(go list $test -deps $keep -f '{{if and .CgoFiles (not .Standard)}}{{.ImportPath}}{{end}}' -- "$@" 2>/tmp/.manifold/error); then
	if [ -z "$found" ]; then say pure; else say "cgo $(printf '%s\n' "$found" | head -n 1)"; fi
else
	say "error $(head -n 1 /tmp/.manifold/error)"
fi
`

// makeProbe stands in for make: it prints what make would run, and how make leaves Go's variables. What make runs all the
// same, because a makefile's $(shell) says so, goes through shellProbe.
const makeProbe = `#!/bin/sh
PATH=$MANIFOLD_REST
export PATH
[ "$MANIFOLD_PROBE" = make ] || exec make "$@"
echo m >>/tmp/.manifold/answer
if out=$(make -nw SHELL=/tmp/.manifold/shell "$@" 2>/tmp/.manifold/error); then
	printf '%s\n' "$out" | sed 's/^/p/' >>/tmp/.manifold/answer
else
	printf 'e%s\n' "$(head -n 1 /tmp/.manifold/error)" >>/tmp/.manifold/answer
fi
make -npq SHELL=/tmp/.manifold/shell "$@" 2>/dev/null | grep -v '^	' |
	sed -nE 's/^(# *|[^=#]*[ :])?(GOOS|GOARCH|GOARM|GOAMD64|GO386|GOMIPS|GOMIPS64|GOPPC64|GORISCV64|CGO_ENABLED|GOFLAGS|GOBIN|CC|CXX|GOCACHE) *[:+?]*= *(.*)$/v\2=\3/p' |
	sed -E '/^vCC=(cc|gcc)$/d;/^vCXX=(c|g)[+][+]$/d' >>/tmp/.manifold/answer
exit 0
`

// shellProbe stands in for the shell that make uses: it notes what it is given and runs it.
const shellProbe = `#!/bin/sh
for last; do :; done
printf '%s\n' "$last" | sed 's/^/s/' >>/tmp/.manifold/answer
if command -v bash >/dev/null 2>&1; then exec bash "$@"; fi
exec /bin/sh "$@"
`
