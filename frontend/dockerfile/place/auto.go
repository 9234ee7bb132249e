package place

import (
	"fmt"
	"slices"

	ctdplatforms "github.com/containerd/platforms"

	"github.com/manifold-build/manifold/frontend/dockerfile/effect"
	"github.com/manifold-build/manifold/frontend/dockerfile/stage"
	"github.com/manifold-build/manifold/platforms"
)

// Decide decides for every needed stage what becomes of it for this target alone; see [Agree].
func (g *Graph) Decide() {
	g.NotMoved = nil
	for _, n := range g.nodes {
		n.Move = Move{}
	}
	switch {
	case g.Target.Strategy == platforms.Auto:
		g.auto()
	case g.Target.Strategy == platforms.Cross && g.Foreign():
		g.cross()
	case g.Target.Strategy == platforms.Accelerate:
		g.accelerate()
	}
	for _, n := range g.nodes {
		n.decided = n.Move
	}
}

// PutBack takes note that a stage was moved, or accelerated, in vain for this target.
func (g *Graph) PutBack(stageIndex int, reason string) {
	if _, again := g.putBack[stageIndex]; again || g.nodes[stageIndex].Move.Accelerated {
		g.emulated[stageIndex] = reason
		return
	}
	g.putBack[stageIndex] = effect.Reason{Line: g.nodes[stageIndex].Line, Why: effect.PutBack, Clause: reason}
}

// auto decides what strategy=auto may move, and says of the other stages why not. Stages of one FROM chain run on one platform, so they move
// together or not at all.
func (g *Graph) auto() {
	if g.global["BUILDPLATFORM"] != ctdplatforms.Format(g.Build().OCI()) {
		return // the user gave it another meaning, and it is what the rewritten FROM lines say
	}
	decided := map[*Node]bool{}
	for _, n := range g.needed {
		root := n.Root()
		if decided[root] {
			continue
		}
		decided[root] = true
		chain := g.chain(n)
		switch {
		case slices.Contains(chain, g.Export):
			g.stayWithExport(chain)
		case root.Platform != "" || !slices.ContainsFunc(chain, (*Node).Executes):
		default:
			g.moveChain(chain)
		}
	}
	g.tellShared()
}

// moveChain moves a chain of stages, if all of them can be moved and nothing is taken from them that must not be.
func (g *Graph) moveChain(chain []*Node) {
	why := map[*Node]effect.Reason{}
	for _, n := range chain {
		if r := g.obstacle(n); r.Clause != "" {
			why[n] = r
			continue
		}
		if !slices.ContainsFunc(g.Reading(n).Questions, func(q stage.Question) bool { return q.Kind == effect.Make }) {
			if r := g.taken(n); r.Clause != "" {
				why[n] = r
			}
		}
	}
	var cause *Node
	for _, n := range chain {
		if _, stays := why[n]; stays {
			cause = n
			break
		}
	}
	for _, n := range chain {
		if cause != nil {
			n.Move = Move{Stays: g.stays(n, cause, why)}
			continue
		}
		r := g.Reading(n)
		n.Move.Moved, n.Move.Strategy = true, platforms.Shared
		n.Move.Edits, n.Move.Questions, n.Move.Inputs = r.Edits, r.Questions, r.Inputs
		if len(r.Told) > 0 || n.Declares.Name != "" {
			n.Move.Strategy = platforms.Cross
		}
		n.Move.Because = g.because(n, n.Move.Because.suspect)
	}
}

// obstacle is why a stage cannot be moved, as far as that is known before what is taken from it; its clause is empty if it can.
func (g *Graph) obstacle(n *Node) effect.Reason {
	r := g.Reading(n)
	if put, ok := g.putBack[n.Index]; ok {
		return put
	}
	if _, elsewhere := g.replaced(n.Name); elsewhere {
		return effect.Reason{Line: n.Line, Why: effect.Stage, Clause: "a build context for another platform replaces stage " + n.Name}
	}
	if r.Blocked.Clause != "" {
		return r.Blocked
	}
	if len(r.Runs) > 0 && !g.Host.RunsForeign(g.Target.Platform) {
		run := r.Runs[0]
		clause := fmt.Sprintf("runs %q, which the stage makes for %s, and the node does not run its programs", run.What, g.Target.Platform)
		if run.Perhaps {
			clause = fmt.Sprintf("runs %q, which may run programs that the stage makes for %s, and the node does not run those", run.What, g.Target.Platform)
		}
		return effect.Reason{Line: run.Line, Why: effect.Machine, Clause: clause}
	}
	return effect.Reason{}
}

// because says why a stage can be moved.
func (g *Graph) because(n *Node, s *suspect) Because {
	r := g.Reading(n)
	b := Because{declares: n.Declares, tools: r.Tools, executes: n.Executes(), suspect: s}
	if len(r.Told) > 0 {
		b.told = r.Told[0].Told
	}
	for _, run := range r.Runs {
		if !run.Perhaps {
			b.runs = run
			break
		}
	}
	return b
}

// stayWithExport says of the stages that begin with the same image as the exported one, but are not part of it, why they stay.
func (g *Graph) stayWithExport(chain []*Node) {
	for _, n := range chain {
		root := n.Root()
		if g.Exported(n) || root.Platform != "" {
			continue
		}
		n.Move = Move{Stays: Stays{With: root.Title(), WithLine: root.Line}}
	}
}

// stays says why a stage is run on its target, because of itself or of another one of its chain.
func (g *Graph) stays(n, cause *Node, why map[*Node]effect.Reason) Stays {
	s := Stays{Reason: why[cause]}
	if own, ok := why[n]; ok {
		s.Reason = own
	} else if n != cause {
		s.Stage = cause.Title()
	}
	if why[cause].Why != effect.Named && (len(g.Reading(n).Told) > 0 || n.Declares.Name != "") {
		s.Advice = n.Root().Line
	}
	return s
}

// tellShared calls those stages cross whose input is the target's own: what they copy comes from a stage that is.
func (g *Graph) tellShared() {
	for changed := true; changed; {
		changed = false
		for _, n := range g.nodes {
			if !n.Move.Moved || n.Move.Strategy != platforms.Shared {
				continue
			}
			for _, s := range append(slices.Clone(n.sources), n.Parent) {
				if s == nil || !g.dependsOnTarget(s) {
					continue
				}
				n.Move.Strategy, n.Move.Because.uses = platforms.Cross, s.Title()
				changed = true
				break
			}
		}
	}
}

// dependsOnTarget reports whether what a stage holds differs between targets.
func (g *Graph) dependsOnTarget(n *Node) bool {
	if n.Move.Moved {
		return n.Move.Strategy == platforms.Cross
	}
	return n.Root().Platform == "" && !n.Replaced
}

// taken looks at everything that is copied or mounted from a stage. It returns the first thing that
// must not be taken from it if it ran on the build platform; what only a look at the files can tell becomes a check.
func (g *Graph) taken(n *Node) effect.Reason {
	made := g.Reading(n).Files
	check := Check{}
	for _, user := range g.needed {
		if !slices.Contains(user.sources, n) {
			continue
		}
		for _, t := range g.Reading(user).Takes {
			if t.Stage != n.Index {
				continue
			}
			class, why := made.ClassOf(t.Path)
			switch {
			case class == stage.Foreign:
				return effect.Reason{Line: t.Line, Why: effect.Taken, Clause: fmt.Sprintf("takes %s from it, which %s", t.Path, why)}
			case class == stage.Suspected && n.Move.Because.suspect == nil:
				n.Move.Because.suspect = &suspect{t.Path, why, t.Line}
			case class == stage.Own && made.IsProven(t.Path):
				continue
			}
			if !slices.Contains(check.Paths, t.Path) {
				check.Paths = append(check.Paths, t.Path)
			}
			check.Line = t.Line
		}
	}
	if len(check.Paths) > 0 {
		n.Move.Check = &check
	}
	return effect.Reason{}
}

// Origins lists the stages that what lies at a path of the exported image may have come from, those that they begin with and take from
// included: for an empty path, or one that nobody can place, all that the exported image needs.
func (g *Graph) Origins(p string) []*Node {
	seen := map[*Node]bool{}
	placed := false
	for _, n := range g.needed {
		if !g.Exported(n) {
			continue
		}
		for _, t := range g.Reading(n).Takes {
			if p != "" && t.Covers(p) {
				placed = true
				g.reach(g.nodes[t.Stage], seen)
			}
		}
	}
	if !placed {
		return g.needed
	}
	var out []*Node
	for _, n := range g.needed {
		if seen[n] {
			out = append(out, n)
		}
	}
	return out
}

// Behind lists a stage and the ones that it begins with or takes from.
func (g *Graph) Behind(stageIndex int) []*Node {
	seen := map[*Node]bool{}
	g.reach(g.nodes[stageIndex], seen)
	var out []*Node
	for _, n := range g.nodes {
		if seen[n] {
			out = append(out, n)
		}
	}
	return out
}
