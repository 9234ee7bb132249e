package planner

import (
	"fmt"
	"slices"

	"github.com/manifold-build/manifold/frontend/dockerfile/place"
	"github.com/manifold-build/manifold/platforms"
)

// step describes how a stage is run.
func (p *Planner) step(g *place.Graph, n *place.Node) Step {
	root, m := n.Root(), n.Move
	s := Step{
		Stage: n.Title(), Line: n.Line, Target: g.Target.Platform, Platform: g.RunsOn(n),
		Executes: len(n.RunLines) > 0, index: n.Index, root: root.Line, exported: g.Exported(n), Told: m.Told,
	}
	if s.Executes {
		s.RunLine = n.RunLines[0]
	}
	switch {
	case root.Platform != "":
		s.Strategy = pinnedStrategy(s.Platform, s.Target, p.host)
		s.Reason = fmt.Sprintf("--platform=%s on line %d", root.Platform, root.Line)
		s.accelerated(g, m)
	case m.Moved:
		s.Strategy, s.Reason, s.Moved = m.Strategy, m.Because.String(), true
		s.Probes = openKinds(m)
	case p.host.RunsNatively(s.Target):
		s.Strategy = platforms.Native
		s.Reason = "the node runs " + s.Target.String() + " itself"
		s.Probes = openKinds(m)
	default:
		s.Strategy = platforms.Emulate
		switch {
		case !m.Stays.IsZero():
			s.Reason = m.Stays.String()
		case s.exported && g.Target.Strategy == platforms.Auto:
			s.Reason = "what it makes is part of the exported image"
		default:
			s.Reason = "runs on " + s.Target.String()
		}
		s.accelerated(g, m)
	}
	if !s.Executes {
		s.Reason = "nothing is run in it"
	}
	return s
}

// whose says which compilers an accelerated stage calls.
func whose(m place.Move, build platforms.Platform) string {
	for _, e := range m.Edits {
		if e.Twin == "" {
			return "if its gcc is Debian's, compilers of " + build.String() + " make its code; "
		}
	}
	return "compilers of " + build.String() + " make its code; "
}

// accelerated says of a stage on an emulated target that it compiles by other means.
func (s *Step) accelerated(g *place.Graph, m place.Move) {
	if m.Accelerated {
		s.Strategy, s.Reason = platforms.Accelerate, whose(m, g.Build())+s.Reason
	}
}

// openKinds lists what is still to be found out about a stage, each kind once.
func openKinds(m place.Move) []ProbeKind {
	var out []ProbeKind
	for _, q := range m.Questions {
		if k := ProbeKind(q.Kind); !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	if m.Because.Suspected() {
		out = append(out, ProbeCode)
	}
	return out
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
func (p *Planner) check(s Step, t place.Target, stays place.Stays) *StageError {
	if !s.Executes {
		return nil
	}
	host := p.host
	fail := func(format string, args ...any) *StageError {
		return &StageError{File: p.file.Name, Line: s.RunLine, Stage: s.Stage, Target: s.Target, Problem: fmt.Sprintf(format, args...)}
	}
	if host.CannotRun(s.Platform) {
		why := ", which the node cannot execute: it"
		if s.Strategy == platforms.Emulate && !stays.IsZero() {
			why = fmt.Sprintf(", for %s; the node cannot execute %s: it", stays.Why(), s.Platform)
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
