package planner

import (
	"fmt"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/effect"
	"github.com/manifold-build/manifold/frontend/dockerfile/source"
	"github.com/manifold-build/manifold/frontend/dockerfile/stage"
	"github.com/manifold-build/manifold/platforms"
)

// ProbeKind is what a probe finds out.
type ProbeKind uint8

const (
	// ProbeCgo asks which packages outside the standard library a compilation would build with cgo.
	ProbeCgo = ProbeKind(effect.Cgo)
	// ProbeMake asks what make would run.
	ProbeMake = ProbeKind(effect.Make)
	// ProbeCode stands in a step for a [Check] of what is suspected to hold machine code.
	ProbeCode = ProbeMake + 1
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

	stage    int
	question stage.Question
}

// Answer is what a probe found.
type Answer struct {
	Probe Probe
	// Text is what the probe's instruction left in [AnswerPath].
	Text string
	// Failed says that the probe could not be made.
	Failed bool
}

// AnswerPath is the file in which the instruction of [Planner.ProbeText] leaves its answer.
const AnswerPath = "/tmp/.manifold/answer"

// Check is a look at what is taken out of a moved stage, when that has run: it must hold no machine code of the build platform.
type Check struct {
	// Stage is the stage's index, Title its name or index for people.
	Stage int
	Title string
	// Line is that of the last instruction that takes one of the paths, Target what the stage is run for.
	Line   int
	Target platforms.Platform
	// Paths are absolute, shell patterns allowed.
	Paths []string
}

// ProbeText returns the text to build for a probe: the stage up to the line, as the plan moves it, and then an instruction that
// leaves the answer in [AnswerPath]. The text's last stage is the one to build.
func (p *Planner) ProbeText(probe Probe) ([]byte, error) {
	if probe.stage < 0 || probe.stage >= len(p.file.Stages) {
		return nil, fmt.Errorf("%s: no stage %d", p.file.Name, probe.stage)
	}
	r := p.file.Stages[probe.stage].RunAt(probe.Line)
	if r == nil {
		return nil, fmt.Errorf("%s:%d: no RUN instruction", p.file.Name, probe.Line)
	}
	text, err := p.until(probe.Target, probe.Line-1)
	if err != nil {
		return nil, err
	}
	e := &stage.Edit{}
	for _, t := range p.list {
		if t.target.Platform == probe.Target && t.graph != nil {
			if have := t.graph.Node(probe.stage).Move.Edits[probe.Line]; have != nil {
				e = have
			}
		}
	}
	return []byte(string(text) + "RUN " + r.Flags + "<<" + probeEnd + "\n" + probeScript(probe, r, e) + probeEnd + "\n"), nil
}

// probeEnd ends the here-document of a probe's instruction.
const probeEnd = "MANIFOLD_PROBE"

// probeScript is what a probe's instruction runs: programs called go and make that say what they would do, found before the
// real ones, and then the RUN's own text up to the command that is asked about.
func probeScript(p Probe, r *source.Run, e *stage.Edit) string {
	text, q := r.Text, p.question
	switch {
	case r.Form == source.ExecForm:
		text = effect.Quote(r.Argv...)
	case q.Commands != "":
		text = text[:q.Before] + "\n" + q.Commands
	case q.Before > 0:
		text = text[:q.Before]
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Manifold asks %s of line %d for %s\n", probeTopics[p.Kind], p.Line, p.Target)
	b.WriteString("mkdir -p /tmp/.manifold/bin\ncat >/tmp/.manifold/bin/go <<'MANIFOLD'\n" + goProbe + "MANIFOLD\n")
	b.WriteString("cat >/tmp/.manifold/shell <<'MANIFOLD'\n" + shellProbe + "MANIFOLD\ncat >/tmp/.manifold/bin/make <<'MANIFOLD'\n" + makeProbe + "MANIFOLD\n")
	b.WriteString("cp /tmp/.manifold/bin/make /tmp/.manifold/bin/gmake\nchmod +x /tmp/.manifold/bin/* /tmp/.manifold/shell\n: >/tmp/.manifold/answer\n")
	fmt.Fprintf(&b, "MANIFOLD_PROBE=%s\nMANIFOLD_REST=$PATH\nPATH=/tmp/.manifold/bin:$PATH\nexport PATH MANIFOLD_PROBE MANIFOLD_REST\n", p.Kind)
	b.WriteString(prefix(e))
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
