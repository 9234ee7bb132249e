package dockerfile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/manifold-build/manifold/platforms"
)

// Target is one target of a plan and what was asked for it.
type Target struct {
	// Platform is the target itself.
	Platform platforms.Platform
	// Strategy is what the user asked for; the zero value, auto, leaves the choice to the planner.
	Strategy platforms.Strategy
	// Stage is the stage to export; empty means the last one.
	Stage string
	// BuildArgs are the arguments the user passed. Nil means none.
	BuildArgs map[string]string
	// Contexts names the stages that a build context replaces: they are never run. Nil means none.
	Contexts []string
	// NoCacheMounts leaves moved Go stages without a cache mount for Go's build cache (cache-mounts=off).
	NoCacheMounts bool
}

// PlanRequest is what a plan is made for.
type PlanRequest struct {
	// Host is what the node can execute. Its native platform is the build platform.
	Host platforms.Host
	// Targets are planned in this order.
	Targets []Target
	// Images are what is known of base images, by name as FROM lines have it after expansion (see [File.Bases]). Of those that
	// are not in it the planner assumes what is common. Nil means nobody looked.
	Images map[string]BaseImage
	// Answers are what the probes of an earlier plan of the same request found. Nil means none was made.
	Answers []Answer
	// Refused are stages that an earlier plan of the same request moved in vain: they stay on their targets. Nil means none.
	Refused []Refusal
}

// Refusal is why a stage that was moved for a target has to stay on it after all.
type Refusal struct {
	// Stage is the stage's name or index, as in [Step].
	Stage  string
	Target platforms.Platform
	// Reason is one line for people.
	Reason string
}

// Step says how one stage is run for one target.
type Step struct {
	// Stage is the stage's name, or its index where it has none; Line is its FROM line, counted from 1.
	Stage string `json:"stage"`
	Line  int    `json:"line"`
	// Target is what the stage is run for, Platform what it is run on.
	Target   platforms.Platform `json:"target"`
	Platform platforms.Platform `json:"platform"`
	Strategy platforms.Strategy `json:"strategy"`
	// Reason is one line for people.
	Reason string `json:"reason"`
	// Moved reports whether the stage runs on the build platform because the plan says so, not the Dockerfile.
	Moved bool `json:"moved"`
	// Probes are open: the step is as it says if they are answered well, and emulate otherwise. Nil means none is.
	Probes []ProbeKind `json:"probes,omitempty"`
	// root is the line of the chain's first FROM, exported whether the exported image is built FROM the stage.
	root     int
	exported bool
	// why is why the planner left the stage on its target; empty if it had no choice.
	why string
	// Executes reports whether the stage has a RUN instruction at all; RunLine is the first one's line.
	Executes bool `json:"executes"`
	RunLine  int  `json:"runLine,omitempty"`
}

// Finding is something in the Dockerfile that the user should know of.
type Finding struct {
	// Target is the target it was found for.
	Target platforms.Platform `json:"target"`
	// Line is where, counted from 1.
	Line int `json:"line"`
	// Rule is the finding's name, in the style of BuildKit's lint rules.
	Rule string `json:"rule"`
	// Message says what is wrong and what to write instead.
	Message string `json:"message"`
}

// Plan is how every stage that a target needs is run. It is made by [File.Plan] and belongs to that file.
type Plan struct {
	// Steps are ordered by target as requested, then by stage as written. Stages that the exported one does not need
	// have no step, and neither do stages that a build context replaces.
	Steps []Step
	// Findings are in the same order.
	Findings []Finding
	// Probes are the questions to ask before anything is built, in the same order. While they are open, the plan is what holds if
	// all are answered well.
	Probes []Probe
	// Checks are the questions to ask when the moved stages have been run: what is taken from them must hold no machine code
	// of the build platform. A stage of which one does is to be planned again as a [Refusal].
	Checks []Probe
	// Images are the base images of all stages that are needed, by target and stage.
	Images []StageImage
	// Bases are the images that moved stages are built FROM, as [PlanRequest.Images] names them.
	Bases []string

	targets map[platforms.Platform]targetPlan
}

// StageImage is an image that a stage is built FROM for a target.
type StageImage struct {
	// Name is as the FROM line has it after expansion, Line where that is.
	Name string
	Line int
	// Target is what the stage is run for, Platform that of the image.
	Target, Platform platforms.Platform
	// Exported reports whether the exported image begins with it. Pin is the word of the FROM line's --platform, empty if there is
	// none.
	Exported bool
	Pin      string
}

// targetPlan is what the rewriting of one target needs to know.
type targetPlan struct {
	target Target
	build  platforms.Platform
	moves  map[int]move  // by stage
	edits  map[int]*edit // of RUN instructions, by line
	kin    bool          // a stage that declares its target is told all of it there (strategy=cross)
}

// moved reports whether a stage runs on the build platform because the plan says so.
func (t targetPlan) moved(stage int) bool { return t.moves[stage].moved }

// Plan decides how each stage is run for each target.
//
// A stage that cannot be planned (a FROM line whose variables do not expand, a target stage that does not exist) is left
// as it is written, for the converter to report. Errors are of type [*StageError], joined in target order: a stage
// that the node cannot execute for its target, or a strategy that cannot be had.
func (f *File) Plan(req PlanRequest) (Plan, error) {
	plan := Plan{targets: map[platforms.Platform]targetPlan{}, Steps: make([]Step, 0, len(req.Targets)*len(f.stages))}
	graphs := make([]*graph, len(req.Targets))
	var wg sync.WaitGroup
	for i, t := range req.Targets {
		plan.targets[t.Platform] = targetPlan{target: t, build: req.Host.Native}
		wg.Go(func() { graphs[i] = f.decide(req, t) })
	}
	wg.Wait()
	elsewhere := map[int]move{} // stages that are moved for a foreign target
	for _, g := range graphs {
		if g != nil && g.foreign() {
			plan.moveForeign(g, elsewhere)
		}
	}
	var errs stageErrors
	for i, t := range req.Targets {
		if g := graphs[i]; g != nil {
			if !g.foreign() {
				plan.moveNative(g, elsewhere)
			}
			errs = append(errs, plan.addSteps(g, t, req)...)
		}
	}
	return plan, errs.join()
}

// decide makes a target's graph and, for one that the node would have to emulate, decides what to move. It is nil if the
// file does not expand for the target.
func (f *File) decide(req PlanRequest, t Target) *graph {
	g, err := f.graphFor(req, t)
	if err != nil {
		return nil
	}
	switch {
	case t.Strategy == platforms.Auto:
		g.refuse(req.Refused)
		g.moves = g.autoMoves()
	case t.Strategy == platforms.Cross && g.foreign():
		g.moves = g.crossMoves()
	}
	if g.foreign() || len(req.Targets) > 1 {
		g.findings = g.lint()
	}
	return g
}

// foreign reports whether the node does not execute the target itself.
func (g *graph) foreign() bool { return !g.host.RunsNatively(g.target.Platform) }

// moveForeign takes note of what is moved for a target that the node would have to emulate.
func (p *Plan) moveForeign(g *graph, elsewhere map[int]move) {
	t := p.targets[g.target.Platform]
	t.moves, t.kin = g.moves, g.target.Strategy == platforms.Cross
	t.edits = map[int]*edit{}
	for _, n := range g.nodes {
		m := t.moves[n.index]
		if !m.moved {
			continue
		}
		elsewhere[n.index] = m
		maps.Copy(t.edits, m.edits)
		p.Probes = append(p.Probes, m.probes...)
		p.Checks = append(p.Checks, m.checks...)
		if n.parent == nil {
			p.Bases = appendNew(p.Bases, n.image)
		}
	}
	p.targets[g.target.Platform] = t
}

// moveNative takes over, for a target that the node executes itself, what is common with the others: shared stages, and
// the mounts of Go's build cache.
func (p *Plan) moveNative(g *graph, elsewhere map[int]move) {
	if g.target.Strategy != platforms.Auto || len(elsewhere) == 0 {
		return
	}
	t := p.targets[g.target.Platform]
	t.moves, t.edits = map[int]move{}, map[int]*edit{}
	for i, m := range g.moves {
		other, ok := elsewhere[i]
		if !m.moved || !ok {
			continue
		}
		if m.strategy == platforms.Shared && other.strategy == platforms.Shared && g.allShared(g.nodes[i], elsewhere) {
			t.moves[i] = move{moved: true, strategy: platforms.Shared, reason: other.reason}
		}
		for line, e := range m.edits {
			if e.cacheDir != "" {
				t.edits[line] = &edit{cacheDir: e.cacheDir}
			}
		}
	}
	p.targets[g.target.Platform] = t
}

// allShared reports whether every stage of a chain is shared.
func (g *graph) allShared(n *node, moves map[int]move) bool {
	return !slices.ContainsFunc(g.family(n), func(m *node) bool { return moves[m.index].strategy != platforms.Shared })
}

// addSteps describes how each stage is run for one target, and returns what the node cannot do.
func (p *Plan) addSteps(g *graph, t Target, req PlanRequest) []*StageError {
	var errs []*StageError
	for _, n := range g.needed() {
		step := g.step(n, p.targets[t.Platform], req.Host)
		if n.parent == nil {
			p.Images = append(p.Images, StageImage{
				Name: n.image, Line: n.line, Target: step.Target, Platform: step.Platform, Exported: step.exported, Pin: n.platform,
			})
		}
		p.Steps = append(p.Steps, step)
		if err := check(g.file.name, step, t, req.Host); err != nil {
			errs = append(errs, err)
		}
	}
	p.Findings = append(p.Findings, g.findings...)
	return errs
}

// step describes how a stage is run.
func (g *graph) step(n *node, t targetPlan, host platforms.Host) Step {
	s := Step{
		Stage: n.title(), Line: n.line, Target: g.target.Platform, Platform: g.runsOn(n, t),
		Executes: len(n.runs) > 0, root: g.root(n).line, exported: n == g.export || g.ancestor(n, g.export),
	}
	if s.Executes {
		s.RunLine = n.runs[0]
	}
	root := g.root(n)
	m := t.moves[n.index]
	switch {
	case root.platform != "":
		s.Strategy = pinnedStrategy(s.Platform, s.Target, host)
		s.Reason = fmt.Sprintf("--platform=%s on line %d", root.platform, root.line)
	case m.moved:
		s.Strategy, s.Reason, s.Moved = m.strategy, m.reason, true
		for _, q := range m.probes {
			if !slices.Contains(s.Probes, q.Kind) {
				s.Probes = append(s.Probes, q.Kind)
			}
		}
		if m.suspect {
			s.Probes = append(s.Probes, ProbeCode)
		}
	case host.RunsNatively(s.Target):
		s.Strategy = platforms.Native
		s.Reason = "the node runs " + s.Target.String() + " itself"
	default:
		s.Strategy = platforms.Emulate
		s.Reason = firstSet(m.reason, "runs on "+s.Target.String())
		s.why, _, _ = strings.Cut(m.reason, adviceToMove)
		if m.reason == "" && s.exported && g.target.Strategy == platforms.Auto {
			s.Reason = "what it makes is part of the exported image"
		}
	}
	if !s.Executes {
		s.Reason = "nothing is run in it"
	}
	return s
}

// pinnedStrategy names what the user chose by a --platform of their own.
func pinnedStrategy(runsOn, target platforms.Platform, host platforms.Host) platforms.Strategy {
	switch {
	case runsOn != target && host.RunsNatively(runsOn):
		return platforms.Cross
	case host.RunsNatively(runsOn):
		return platforms.Native
	default:
		return platforms.Emulate
	}
}

// check refuses a step that the node cannot carry out, or not in the way that was asked for.
func check(file string, s Step, t Target, host platforms.Host) *StageError {
	if !s.Executes {
		return nil
	}
	fail := func(format string, args ...any) *StageError {
		return &StageError{File: file, Line: s.RunLine, Stage: s.Stage, Target: s.Target, Problem: fmt.Sprintf(format, args...)}
	}
	if host.CannotRun(s.Platform) {
		why := ", which the node cannot execute: it"
		if s.why != "" {
			why = fmt.Sprintf(", for %s; the node cannot execute %s: it", s.why, s.Platform)
		}
		err := fail("it has to run on %s%s runs %s%s. Install QEMU on the node "+
			"(docker run --privileged --rm tonistiigi/binfmt --install %s), or %s",
			s.Platform, why, host.Native, emulated(host), s.Platform.Architecture, otherWay(s))
		err.CannotRun = s.Platform
		return err
	}
	if t.Strategy == platforms.Native && s.Strategy == platforms.Emulate {
		return fail("strategy=native was asked for, and the node runs only %s natively; it could emulate %s: "+
			"ask for strategy=emulate, or use a node of that platform", host.Native, s.Platform)
	}
	return nil
}

// otherWay is what can be done besides installing QEMU. A part of the exported image cannot be made on another platform.
func otherWay(s Step) string {
	if s.exported {
		return "use a node of that platform, or move its RUN into a stage that is only copied from"
	}
	return fmt.Sprintf("let the stage cross-compile: declare ARG TARGETARCH in it and ask for strategy=cross, "+
		"or write FROM --platform=$BUILDPLATFORM on line %d", s.root)
}

func emulated(host platforms.Host) string {
	if len(host.Emulated) == 0 {
		return " natively and emulates nothing"
	}
	return " natively and emulates " + platforms.Format(host.Emulated)
}
