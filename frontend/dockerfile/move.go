package dockerfile

import (
	"fmt"
	"slices"

	"github.com/manifold-build/manifold/platforms"
)

// RuleNotMoved is the finding for a stage that declares its target under strategy=cross and still has to run on it.
const RuleNotMoved = "CrossStageNotMoved"

// crossMoves decides what strategy=cross moves: the stages that are told their target by an argument they declare, unless the
// user pinned them, the exported image inherits from them, or a stage that is not told its target shares their beginning (a
// FROM chain runs on one platform); and besides those what auto would move, and stages that compile with Go or run make.
func (g *graph) crossMoves() map[int]move {
	moved := map[int]move{}
	for _, n := range g.needed() {
		if n.told.name == "" || len(n.runs) == 0 || !g.root(n).pin.IsZero() || g.ancestor(n, g.export) {
			continue // nobody expects a part of the exported image to be made elsewhere
		}
		if obstacle := g.obstacle(n); obstacle != "" {
			g.found = append(g.found, Finding{
				Target: g.target.Platform, Line: n.line, Rule: RuleNotMoved,
				Message: fmt.Sprintf("stage %s declares %s and still runs on %s: %s", n.title(), n.told.name, g.target.Platform, obstacle),
			})
			continue
		}
		for _, m := range g.family(n) {
			reason := fmt.Sprintf("stage %s, which inherits from it, declares %s on line %d", n.title(), n.told.name, n.told.line)
			if m.told.name != "" {
				reason = fmt.Sprintf("declares %s on line %d", m.told.name, m.told.line)
			} else if moved[m.index].moved {
				continue
			}
			moved[m.index] = move{moved: true, strategy: platforms.Cross, reason: reason}
		}
	}
	g.crossUntold(moved)
	return moved
}

// crossUntold adds the chains in which no stage declares its target.
func (g *graph) crossUntold(moved map[int]move) {
	auto := g.autoMoves()
	for _, n := range g.needed() {
		m, ok := auto[n.index]
		family := g.family(n)
		declares := slices.ContainsFunc(family, func(n *node) bool { return n.told.name != "" })
		if _, done := moved[n.index]; done || !ok || declares {
			continue
		}
		compiles := slices.ContainsFunc(family, func(n *node) bool { return n.verdict != nil && len(n.verdict.told) > 0 })
		if m.moved || compiles && !g.root(n).fixed {
			v := n.verdict
			moved[n.index] = move{moved: true, strategy: platforms.Cross, reason: v.reason(n), edits: v.edits}
			if m.moved {
				m.probes = nil
				moved[n.index] = m
			}
		}
	}
}

// obstacle says why a stage cannot run on the build platform, or is empty.
func (g *graph) obstacle(n *node) string {
	for _, m := range g.family(n) {
		switch {
		case g.root(n).fixed:
			return "its FROM line is written in a way that is not read"
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
