package dockerfile

import (
	"fmt"
	"slices"

	"github.com/manifold-build/manifold/platforms"
)

// RuleNotMoved is the finding for a stage that declares its target under strategy=cross and still has to run on it.
const RuleNotMoved = "CrossStageNotMoved"

// moves decides which stages run on the build platform although nothing in the Dockerfile pins them there.
//
// Under strategy=cross these are the stages that are told their target by an argument they declare, unless the user
// pinned them, the exported image inherits from them, or a stage that is not told its target shares their beginning:
// a FROM chain runs on one platform. The map's values are the reasons.
func (g *graph) moves() (map[int]string, []Finding) {
	moved := map[int]string{}
	if !g.movable() {
		return moved, nil
	}
	var findings []Finding
	for _, n := range g.needed() {
		if n.told.name == "" || len(n.runs) == 0 || !g.root(n).pin.IsZero() {
			continue
		}
		if g.ancestor(n, g.export) {
			continue // nobody expects a part of the exported image to be made elsewhere
		}
		if obstacle := g.obstacle(n); obstacle != "" {
			findings = append(findings, Finding{
				Target: g.target.Platform, Line: n.line, Rule: RuleNotMoved,
				Message: fmt.Sprintf("stage %s declares %s and still runs on %s: %s", n.title(), n.told.name, g.target.Platform, obstacle),
			})
			continue
		}
		moved[n.index] = fmt.Sprintf("declares %s on line %d", n.told.name, n.told.line)
		for _, m := range g.family(n) {
			switch {
			case moved[m.index] != "":
			case m.told.name != "":
				moved[m.index] = fmt.Sprintf("declares %s on line %d", m.told.name, m.told.line)
			default:
				moved[m.index] = fmt.Sprintf("stage %s, which inherits from it, declares %s on line %d", n.title(), n.told.name, n.told.line)
			}
		}
	}
	return moved, findings
}

// obstacle says why a stage cannot run on the build platform, or is empty.
func (g *graph) obstacle(n *node) string {
	for _, m := range g.family(n) {
		switch {
		case n == g.export:
			return "it is the exported stage, whose files are the target's own"
		case m == g.export:
			return fmt.Sprintf("the exported stage inherits from %s (line %d)", g.root(n).title(), g.root(n).line)
		case m.told.name == "" && !g.ancestor(m, n):
			return fmt.Sprintf("stage %s (line %d) inherits from %s too and declares no target argument; declare ARG TARGETARCH in it",
				m.title(), m.line, g.root(n).title())
		case g.copiedFrom(m) && (m.told.name == "" || !runs(m)):
			// What such a stage holds is the base image's own, and has to stay the target's.
			return fmt.Sprintf("stage %s (line %d), which is of one chain with it, is copied from and makes nothing for the target",
				m.title(), m.line)
		}
	}
	return ""
}

// copiedFrom reports whether a needed stage copies or mounts from m.
func (g *graph) copiedFrom(m *node) bool {
	for _, n := range g.needed() {
		if slices.Contains(n.sources, m) {
			return true
		}
	}
	return false
}

// runs reports whether a stage or one that it inherits from has a RUN.
func runs(n *node) bool {
	for ; n != nil; n = n.parent {
		if len(n.runs) > 0 {
			return true
		}
	}
	return false
}

// ancestor reports whether n is built FROM m, directly or through other stages.
func (g *graph) ancestor(m, n *node) bool {
	for p := n.parent; p != nil; p = p.parent {
		if p == m {
			return true
		}
	}
	return false
}

// movable reports whether the target's strategy asks for stages to be moved, and there is somewhere else to run them.
func (g *graph) movable() bool {
	return g.target.Strategy == platforms.Cross && g.target.Platform != g.build
}
