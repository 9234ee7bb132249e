package place

import (
	"fmt"
	"maps"
	"slices"

	"github.com/manifold-build/manifold/frontend/dockerfile/effect"
	"github.com/manifold-build/manifold/frontend/dockerfile/stage"
	"github.com/manifold-build/manifold/platforms"
)

// Agree sees to it that the targets of one file are told the same, after each has decided for itself. Targets that the node executes
// itself are told what the same stage is told for others, so that one index never holds a program that Go built with C beside one that it built
// without, and the bytes do not depend on the node that built them; and a stage that is shared by the others is shared by them. Where the plan's
// CGO_ENABLED=0 cannot be had for one of the targets, it is had for none. It returns the graphs that others may have changed.
func Agree(graphs []*Graph) map[*Graph]bool {
	changed := map[*Graph]bool{}
	var auto []*Graph
	for _, g := range graphs {
		if g == nil || g.Target.Strategy != platforms.Auto {
			continue
		}
		auto = append(auto, g)
		for _, n := range g.nodes {
			n.Move = n.decided
		}
	}
	for _, g := range auto {
		if !g.Foreign() {
			g.keepReadings()
		}
	}
	for g := unlike(auto); g != nil; g = unlike(auto) {
		changed[g] = true
	}
	for _, g := range auto {
		if !g.Foreign() {
			g.agreeNative(auto)
			changed[g] = g.agreesAnew() || changed[g]
		}
		g.accelerate()
	}
	return changed
}

// agreed is what a target that the node executes itself has taken over for one stage, as far as others decide it.
type agreed struct {
	moved, told      bool
	edits, questions int
	because          string
}

// agreesAnew reports whether what such a target has taken over differs from the last time.
func (g *Graph) agreesAnew() bool {
	now := make([]agreed, len(g.nodes))
	for i, n := range g.nodes {
		m := n.Move
		if now[i] = (agreed{moved: m.Moved, told: m.Told, edits: len(m.Edits), questions: len(m.Questions)}); m.Moved {
			now[i].because = m.Because.String()
		}
	}
	same := slices.Equal(now, g.agreed)
	g.agreed = now
	return !same
}

// keepReadings puts aside what a target that the node executes itself would be told, and moves nothing for it.
func (g *Graph) keepReadings() {
	for _, n := range g.nodes {
		n.Move.Told = n.Move.Moved
		n.Move.Moved = false
	}
}

// unlike puts back the first stage that the plan tells to do without C for some of the targets that need it and not for others. It returns
// the graph that it was put back for; nil if there is no such stage.
func unlike(graphs []*Graph) *Graph {
	for _, g := range graphs {
		for _, n := range g.needed {
			if !n.Move.Moved && !n.Move.Told || !g.Reading(n).PureByPlan {
				continue
			}
			for _, other := range graphs {
				o := other.nodes[n.Index]
				if !slices.Contains(other.needed, o) || o.Move.Moved || o.Move.Told {
					continue
				}
				g.stayAs(n, other, o)
				return g
			}
		}
	}
	return nil
}

// stayAs keeps the chain of a stage where it is, because another target's stays.
func (g *Graph) stayAs(n *Node, other *Graph, o *Node) {
	reason := o.Move.Stays.Reason
	switch {
	case reason.Why == effect.Unlike:
	case reason.Clause == "":
		reason = effect.Reason{Line: n.Line, Why: effect.Unlike, Clause: fmt.Sprintf("for %s it runs where it may be compiled with cgo, and one index holds one kind", other.Target.Platform)}
	default:
		reason = effect.Reason{Line: n.Line, Why: effect.Unlike, Clause: fmt.Sprintf("for %s it may be compiled with cgo (%s), and one index holds one kind", other.Target.Platform, reason)}
	}
	for _, m := range g.chain(n) {
		m.Move = Move{Stays: Stays{Reason: reason}}
	}
	g.tellShared()
}

// agreeNative has a target that the node executes itself take over what is common with the others.
func (g *Graph) agreeNative(graphs []*Graph) {
	for _, n := range g.nodes {
		m := n.Move
		n.Move = Move{}
		other := movedElsewhere(graphs, n.Index)
		if !m.Told || other == nil {
			continue
		}
		if m.Strategy == platforms.Shared && other.nodes[n.Index].Move.Strategy == platforms.Shared && other.allShared(other.nodes[n.Index]) {
			n.Move = Move{Moved: true, Strategy: platforms.Shared, Because: other.nodes[n.Index].Move.Because}
			continue
		}
		n.Move = Move{Told: true, Edits: nativeEdits(m.Edits), Questions: m.Questions}
	}
}

// nativeEdits are what RUN instructions get where the stage runs on its target: the same variables and mounts; go install puts its programs where they
// belong by itself.
func nativeEdits(edits map[int]*stage.Edit) map[int]*stage.Edit {
	out := maps.Clone(edits)
	for line, e := range out {
		out[line] = &stage.Edit{Env: e.Env, GoEnv: e.GoEnv, CacheDir: e.CacheDir}
	}
	return out
}

// movedElsewhere returns a graph of a target that the node does not execute itself and for which a stage is moved; nil if there is none.
func movedElsewhere(graphs []*Graph, stageIndex int) *Graph {
	for _, g := range graphs {
		if g.Foreign() && g.nodes[stageIndex].Move.Moved {
			return g
		}
	}
	return nil
}

// allShared reports whether every stage of a chain is shared.
func (g *Graph) allShared(n *Node) bool {
	return !slices.ContainsFunc(g.chain(n), func(m *Node) bool { return m.Move.Strategy != platforms.Shared })
}
