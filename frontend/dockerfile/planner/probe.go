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
	// ProbeScript asks for the text of a script in the build context, which a RUN instruction runs, to know whether it may compile: see [Probe.Files].
	ProbeScript = ProbeKind(effect.Script)
	// ProbeCode stands in a step for a [Check] of what is suspected to hold machine code.
	ProbeCode = ProbeScript + 1
)

var probeNames = [...]string{ProbeCgo: "cgo", ProbeMake: "make", ProbeScript: "script", ProbeCode: "code"}

// String returns the probe's name: cgo, make, script or code.
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

// Files are the paths in the build context of which a [ProbeScript] asks for the first that exists; nil for other probes. The answer is the file's text, and
// has failed if there is none or if it is no text.
func (p Probe) Files() []string {
	if p.Kind != ProbeScript {
		return nil
	}
	return strings.Split(p.question.Commands, "\n")
}

// Answer is what a probe found.
type Answer struct {
	Probe Probe
	// Text is what the probe's instruction left in [AnswerPath], or the text of a script.
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
	// Last reports whether no stage that is moved as well begins with this one or takes files from it: the paths are all that is needed of it.
	Last bool
}

// ProbeText returns the text to build for a probe: the stage up to the line, as the plan moves it, and then an instruction that
// leaves the answer in [AnswerPath]. The text's last stage is the one to build.
func (p *Planner) ProbeText(probe Probe) ([]byte, error) {
	if probe.Kind == ProbeScript {
		return nil, fmt.Errorf("%s:%d: the build context is asked for a script, and no node", p.file.Name, probe.Line)
	}
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
// real ones, and then the RUN's own text up to the command that is asked about. What installs packages or fetches modules is put off until something
// misses what it brings: the real instruction runs it, and once is enough.
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
	b.WriteString("mkdir -p /tmp/.manifold/bin\n")
	for _, f := range []struct{ name, text string }{
		{"shell", shellProbe}, {"settle", settleProbe}, {"later", laterProbe}, {"installer", installerProbe}, {"bin/go", goProbe}, {"bin/make", makeProbe},
	} {
		b.WriteString("cat >/tmp/.manifold/" + f.name + " <<'MANIFOLD'\n" + f.text + "MANIFOLD\n")
	}
	b.WriteString("cp /tmp/.manifold/bin/make /tmp/.manifold/bin/gmake\nfor i in " + installers + "; do cp /tmp/.manifold/installer /tmp/.manifold/bin/$i; done\n")
	b.WriteString("chmod +x /tmp/.manifold/bin/* /tmp/.manifold/shell /tmp/.manifold/settle /tmp/.manifold/later\n: >/tmp/.manifold/answer\n")
	fmt.Fprintf(&b, "MANIFOLD_PROBE=%s\nMANIFOLD_REST=$PATH\nPATH=/tmp/.manifold/bin:$PATH\nexport PATH MANIFOLD_PROBE MANIFOLD_REST\n", p.Kind)
	b.WriteString(prefix(e))
	again := "\n(\n" + text + "\n)\n"
	b.WriteString(again + "status=$?\nif [ $status != 0 ] && [ ! -s /tmp/.manifold/answer ] && [ -s /tmp/.manifold/installs ]; then\n/tmp/.manifold/settle || exit 1" + again +
		"status=$?\nfi\n" + probeDone)
	return b.String()
}

// probeDone ends a probe. One that did not come to what it asks about, or met trouble with the network, fails, so that BuildKit does not keep its answer.
const probeDone = `[ ! -e /tmp/.manifold/failed ] || exit 1
if [ $status != 0 ] && [ ! -s /tmp/.manifold/answer ]; then exit 1; fi
if grep -v '^go: downloading' /tmp/.manifold/error 2>/dev/null | grep -qiE '(dial|lookup|timeout|timed out|connection|tls|x509|unexpected eof|no such host|proxy|i/o)' &&
	grep -qE '^e' /tmp/.manifold/answer; then cat /tmp/.manifold/error >&2; exit 1; fi
exit 0
`

// probeTopics are what probes ask, for people.
var probeTopics = map[ProbeKind]string{ProbeCgo: "what needs cgo", ProbeMake: "what make would run"}
