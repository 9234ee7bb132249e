package place

import (
	"fmt"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/source"
	"github.com/manifold-build/manifold/platforms"
)

// NotMoved is a stage that declares its target under strategy=cross and still has to run on it.
type NotMoved struct {
	Node *Node
	// Obstacle says why, as a clause.
	Obstacle string
}

// cross decides what strategy=cross moves: the stages that are told their target by an argument they declare, unless the
// user pinned them, the exported image inherits from them, or a stage that is not told its target shares their beginning (a
// FROM chain runs on one platform); and besides those what auto would move, and stages that compile with Go or run make.
func (g *Graph) cross() {
	moved := map[*Node]Move{}
	for _, n := range g.needed {
		if n.Declares.Name == "" || len(n.RunLines) == 0 || n.Root().Platform != "" || n != g.Export && g.Exported(n) {
			continue // nobody expects a part of the exported image to be made elsewhere
		}
		if obstacle := g.crossObstacle(n); obstacle != "" {
			g.NotMoved = append(g.NotMoved, NotMoved{n, obstacle})
			continue
		}
		for _, m := range g.chain(n) {
			b := Because{declares: n.Declares, inherited: n.Title()}
			if m.Declares.Name != "" {
				b = Because{declares: m.Declares}
			} else if moved[m].Moved {
				continue
			}
			moved[m] = Move{Moved: true, Strategy: platforms.Cross, Because: b, Kin: true, Inputs: g.Reading(m).Inputs}
		}
	}
	g.auto()
	for _, n := range g.needed {
		if m, ok := moved[n]; ok {
			n.Move = m
			continue
		}
		n.Move = g.crossUntold(n)
	}
}

// crossUntold is what becomes of a stage in whose chain no stage declares its target.
func (g *Graph) crossUntold(n *Node) Move {
	m, chain := n.Move, g.chain(n)
	if slices.ContainsFunc(chain, func(n *Node) bool { return n.Declares.Name != "" }) || !m.Moved && m.Stays.IsZero() {
		return Move{}
	}
	if m.Moved {
		m.Questions, m.Check, m.Kin = nil, nil, true
		return m
	}
	compiles := slices.ContainsFunc(chain, func(n *Node) bool { return len(g.Reading(n).Told) > 0 })
	if compiles && !n.Root().Fixed {
		r := g.Reading(n)
		return Move{Moved: true, Strategy: platforms.Cross, Because: g.because(n, nil), Edits: r.Edits, Kin: true, Inputs: r.Inputs}
	}
	return Move{}
}

// crossObstacle says why a stage cannot run on the build platform, or is empty.
func (g *Graph) crossObstacle(n *Node) string {
	for _, m := range g.chain(n) {
		root := n.Root()
		switch {
		case root.Fixed:
			return "its FROM line is written in a way that is not read"
		case n == g.Export:
			return "it is the exported stage, whose files are the target's own"
		case m == g.Export:
			return fmt.Sprintf("the exported stage inherits from %s (line %d)", root.Title(), root.Line)
		case m.Declares.Name == "" && !n.inherits(m):
			return fmt.Sprintf("stage %s (line %d) inherits from %s too and declares no target argument; declare ARG TARGETARCH in it",
				m.Title(), m.Line, root.Title())
		case g.copiedFrom(m) && (m.Declares.Name == "" || !m.Executes()):
			// What such a stage holds is the base image's own, and has to stay the target's.
			return fmt.Sprintf("stage %s (line %d), which is of one chain with it, is copied from and makes nothing for the target",
				m.Title(), m.Line)
		}
	}
	return ""
}

// copiedFrom reports whether a needed stage copies or mounts from m.
func (g *Graph) copiedFrom(m *Node) bool {
	return slices.ContainsFunc(g.needed, func(n *Node) bool { return slices.Contains(n.sources, m) })
}

// Kin lists Go's variables that a moved stage needs besides those it declares, with the target's values: a stage
// that says only ARG GOARCH means GOOS and GOARM too, and one that says only ARG TARGETARCH must not run a bare go build
// for the build platform. What the stage or one of its ancestors sets stays theirs.
// TARGETPLATFORM, which BuildKit fills in, is among them because BuildKit's progress reads it to show what a step on
// the build platform is for ("linux/amd64->arm64").
func (g *Graph) Kin(n *Node) []string {
	set := map[string]bool{}
	for m := n; m != nil; m = m.Parent {
		for _, a := range m.Args {
			set[a.Name] = true
		}
		for k := range m.Env {
			set[k] = true
		}
	}
	var out []string
	for _, v := range g.Target.Platform.Names().Go.Env() {
		if _, passed := g.Target.BuildArgs[v.Name]; passed {
			return nil // the user speaks for the whole family
		}
		if v.Value != "" && !set[v.Name] && !g.File.GlobalDefault(v.Name) {
			out = append(out, v.Name+"="+v.Value)
		}
	}
	if !set[targetPlatform] {
		out = append(out, targetPlatform)
	}
	return out
}

// targetPlatform is BuildKit's automatic argument for the whole of the target's name.
const targetPlatform = "TARGETPLATFORM"

// DeclaresTarget reports whether an ARG instruction declares an argument by which a stage is told its target.
func DeclaresTarget(a source.ArgLine) bool {
	return slices.ContainsFunc(a.Words, func(w string) bool {
		name, _, _ := strings.Cut(w, "=")
		return TellsTarget[name]
	})
}
