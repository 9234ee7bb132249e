package dockerfile

import (
	"fmt"

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
}

// PlanRequest is what a plan is made for.
type PlanRequest struct {
	// Host is what the node can execute. Its native platform is the build platform.
	Host platforms.Host
	// Targets are planned in this order.
	Targets []Target
}

// Step says how one stage is run for one target.
type Step struct {
	// Stage is the stage's name, or its index where it has none; Line is its FROM line, counted from 1.
	Stage string
	Line  int
	// Target is what the stage is run for, Platform what it is run on.
	Target, Platform platforms.Platform
	Strategy         platforms.Strategy
	// Reason is one line for people.
	Reason string
	// root is the line of the chain's first FROM, exported whether the exported image is built FROM the stage.
	root     int
	exported bool
	// Executes reports whether the stage has a RUN instruction at all; RunLine is the first one's line.
	Executes bool
	RunLine  int
}

// Finding is something in the Dockerfile that the user should know of.
type Finding struct {
	// Target is the target it was found for.
	Target platforms.Platform
	// Line is where, counted from 1.
	Line int
	// Rule is the finding's name, in the style of BuildKit's lint rules.
	Rule string
	// Message says what is wrong and what to write instead.
	Message string
}

// Plan is how every stage that a target needs is run. It is made by [File.Plan] and belongs to that file.
type Plan struct {
	// Steps are ordered by target as requested, then by stage as written. Stages that the exported one does not need
	// have no step, and neither do stages that a build context replaces.
	Steps []Step
	// Findings are in the same order.
	Findings []Finding

	targets map[platforms.Platform]targetPlan
}

// targetPlan is what the rewriting of one target needs to know.
type targetPlan struct {
	target Target
	build  platforms.Platform
	moved  map[int]string // stages moved to the build platform, and why
}

// Plan decides how each stage is run for each target.
//
// A stage that cannot be planned (a FROM line whose variables do not expand, a target stage that does not exist) is left
// as it is written, for the converter to report. Errors are of type [*StageError], joined in target order: a stage
// that the node cannot execute for its target, or a strategy that cannot be had.
func (f *File) Plan(req PlanRequest) (Plan, error) {
	plan := Plan{targets: map[platforms.Platform]targetPlan{}}
	var errs stageErrors
	for _, t := range req.Targets {
		g, err := f.graphFor(req.Host.Native, t)
		if err != nil {
			plan.targets[t.Platform] = targetPlan{target: t, build: req.Host.Native}
			continue
		}
		moved, findings := g.moves()
		plan.targets[t.Platform] = targetPlan{target: t, build: req.Host.Native, moved: moved}
		plan.Findings = append(plan.Findings, findings...)
		for _, n := range g.needed() {
			step := g.step(n, moved, req.Host)
			plan.Steps = append(plan.Steps, step)
			if err := check(f.name, step, t, req.Host); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return plan, errs.join()
}

// step describes how a stage is run.
func (g *graph) step(n *node, moved map[int]string, host platforms.Host) Step {
	s := Step{
		Stage: n.title(), Line: n.line, Target: g.target.Platform, Platform: g.runsOn(n, moved),
		Executes: len(n.runs) > 0, root: g.root(n).line, exported: n == g.export || g.ancestor(n, g.export),
	}
	if s.Executes {
		s.RunLine = n.runs[0]
	}
	root := g.root(n)
	switch {
	case root.platform != "":
		s.Strategy = pinnedStrategy(s.Platform, s.Target, host)
		s.Reason = fmt.Sprintf("--platform=%s on line %d", root.platform, root.line)
	case moved[n.index] != "":
		s.Strategy = platforms.Cross
		s.Reason = moved[n.index]
	case host.RunsNatively(s.Target):
		s.Strategy = platforms.Native
		s.Reason = "the node runs " + s.Target.String() + " itself"
	default:
		s.Strategy = platforms.Emulate
		s.Reason = "runs on " + s.Target.String()
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
		err := fail("it has to run on %s, which the node cannot execute: it runs %s%s. Install QEMU on the node "+
			"(docker run --privileged --rm tonistiigi/binfmt --install %s), or %s",
			s.Platform, host.Native, emulated(host), s.Platform.Architecture, otherWay(s))
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
