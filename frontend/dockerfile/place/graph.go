package place

import (
	"fmt"
	"slices"

	"github.com/manifold-build/manifold/frontend/dockerfile/effect"
	"github.com/manifold-build/manifold/frontend/dockerfile/source"
	"github.com/manifold-build/manifold/frontend/dockerfile/stage"
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
	// Contexts are the names of build contexts, which replace stages and images of that name: NAME, or NAME::PLATFORM for one that is for that
	// platform only. Nil means none.
	Contexts []string
	// NoCacheMounts leaves moved Go stages without a cache mount for Go's build cache (cache-mounts=off).
	NoCacheMounts bool
	// NoAccelerate leaves the compilers of stages that run on the target emulated (accelerate=off, or a node that cannot do otherwise).
	NoAccelerate bool
	// Toolchains says that there are compilers of the build platform's which make the target's code, for gcc's of Debian.
	Toolchains bool
}

// Graph is a file's stages as one target sees them, variables expanded.
type Graph struct {
	File   *source.File
	Target Target
	Host   platforms.Host
	Export *Node

	nodes      []*Node
	target     *effect.Target
	global     stage.Values      // of the ARG instructions before the first FROM, and the automatic ones
	predefined map[string]string // Manifold's own
	images     map[string]stage.BaseImage
	contexts   []context
	answers    map[int]map[stage.Question]stage.Answer // by stage
	putBack    map[int]effect.Reason                   // stages that were moved in vain, and why
	emulated   map[int]string                          // stages that were accelerated in vain, and why
	needed     []*Node
	shared     *Shared
	agreed     []agreed // see agreesAnew
	// NotMoved are stages that strategy=cross was to move and cannot.
	NotMoved []NotMoved
}

// Node is a stage of a graph.
type Node struct {
	*source.Stage

	// Parent is the stage it is built FROM, nil if that is an image. Image is what it is built FROM, variables expanded.
	Parent *Node
	Image  string
	// Pin is its own --platform, zero if there is none.
	Pin platforms.Platform
	// Replaced reports whether a build context replaces it: it is never run.
	Replaced bool
	// Declares is the first argument by which it or an ancestor is told the target; its name is empty if none is.
	Declares source.Argument
	// Move is what becomes of it.
	Move Move

	decided Move           // what becomes of it for this target alone
	sources []*Node        // stages it copies or mounts from
	reading *stage.Reading // nil until it is asked for
}

// Open expands every FROM line for a target. The error is for the converter to report again, with more of the
// context that only it has.
func Open(f *source.File, host platforms.Host, t Target, images map[string]stage.BaseImage, shared *Shared) (*Graph, error) {
	g := &Graph{
		shared: shared, target: effect.NewTarget(t.Platform),
		File: f, Target: t, Host: host, images: images, predefined: Predefined(host.Native, t.Platform), contexts: contextsOf(t.Contexts),
		answers: map[int]map[stage.Question]stage.Answer{}, putBack: map[int]effect.Reason{}, emulated: map[int]string{},
	}
	var err error
	if g.global, err = globalValues(f, host.Native, t, g.predefined); err != nil {
		return nil, err
	}
	for i, s := range f.Stages {
		n := &Node{Stage: s}
		n.Replaced, _ = g.replaced(s.Name)
		if n.Image, err = expand(f, s.Base, g.global); err != nil {
			return nil, err
		}
		if s.Platform != "" {
			word, err := expand(f, s.Platform, g.global)
			if err != nil {
				return nil, err
			}
			if n.Pin, err = platforms.Parse(word); err != nil {
				return nil, err
			}
		}
		if p := f.Find(n.Image, i); p >= 0 && !n.Replaced {
			n.Parent = g.nodes[p]
		}
		n.Declares = declares(n)
		g.nodes = append(g.nodes, n)
	}
	for _, n := range g.nodes {
		for _, use := range n.Uses {
			if i := f.FindSource(use); i >= 0 {
				n.sources = append(n.sources, g.nodes[i])
			}
		}
	}
	g.Export = g.nodes[len(g.nodes)-1]
	if t.Stage != "" {
		i := f.Find(t.Stage, len(f.Stages))
		if i < 0 {
			return nil, fmt.Errorf("no stage is named %q", t.Stage)
		}
		g.Export = g.nodes[i]
	}
	g.needed = g.findNeeded()
	return g, nil
}

// declares finds the argument by which a stage is told its target: its parent's, or the first of its own.
func declares(n *Node) source.Argument {
	if n.Parent != nil && n.Parent.Declares.Name != "" {
		return n.Parent.Declares
	}
	for _, a := range n.Args {
		if TellsTarget[a.Name] {
			return a
		}
	}
	return source.Argument{}
}

// Node returns a stage by its index.
func (g *Graph) Node(i int) *Node { return g.nodes[i] }

// Build is the build platform.
func (g *Graph) Build() platforms.Platform { return g.Host.Native }

// Needed lists the stages that the exported one needs, itself included, as written. A stage that a build context
// replaces is not built and needs nothing.
func (g *Graph) Needed() []*Node { return g.needed }

func (g *Graph) findNeeded() []*Node {
	need := map[*Node]bool{}
	g.reach(g.Export, need)
	var out []*Node
	for _, n := range g.nodes {
		if need[n] {
			out = append(out, n)
		}
	}
	return out
}

// reach collects a stage and those that it needs.
func (g *Graph) reach(n *Node, seen map[*Node]bool) {
	if n == nil || seen[n] || n.Replaced {
		return
	}
	seen[n] = true
	g.reach(n.Parent, seen)
	for _, s := range n.sources {
		g.reach(s, seen)
	}
}

// Root is the stage at the beginning of n's FROM chain, which names an image.
func (n *Node) Root() *Node {
	for n.Parent != nil {
		n = n.Parent
	}
	return n
}

// Executes reports whether the stage or one that it inherits from has a RUN.
func (n *Node) Executes() bool {
	for ; n != nil; n = n.Parent {
		if len(n.RunLines) > 0 {
			return true
		}
	}
	return false
}

// Exported reports whether the exported image is the stage, or is built FROM it.
func (g *Graph) Exported(n *Node) bool {
	for p := g.Export; p != nil; p = p.Parent {
		if p == n {
			return true
		}
	}
	return false
}

// IsLastMoved reports whether no needed stage begins with n, and none that is moved takes files from it.
func (g *Graph) IsLastMoved(n *Node) bool {
	return !slices.ContainsFunc(g.needed, func(m *Node) bool {
		return m.Parent == n || m.Move.Moved && slices.Contains(m.sources, n)
	})
}

// inherits reports whether n is built FROM m, directly or through other stages.
func (n *Node) inherits(m *Node) bool {
	for p := n.Parent; p != nil; p = p.Parent {
		if p == m {
			return true
		}
	}
	return false
}

// RunsOn is the platform a stage is run on.
func (g *Graph) RunsOn(n *Node) platforms.Platform {
	root := n.Root()
	switch {
	case !root.Pin.IsZero():
		return root.Pin
	case n.Move.Moved:
		return g.Build()
	default:
		return g.Target.Platform
	}
}

// chain lists the needed stages that begin with the same image as n, which therefore all run on one platform.
func (g *Graph) chain(n *Node) []*Node {
	var out []*Node
	for _, m := range g.needed {
		if m.Root() == n.Root() {
			out = append(out, m)
		}
	}
	return out
}

// Predefined are the arguments that Manifold gives to a stage.
func (g *Graph) Predefined(n *Node) map[string]string {
	s := g.Target.Strategy
	if n != nil && !n.Root().Pin.IsZero() || n != nil && n.Root().Platform != "" || s == platforms.Emulate || s == platforms.Native {
		return withoutGo(g.predefined)
	}
	return g.predefined
}

// Reading is what a stage is, were it run on the build platform.
func (g *Graph) Reading(n *Node) *stage.Reading {
	if n.reading != nil {
		return n.reading
	}
	if r := g.shared.find(g, n); r != nil {
		n.reading = r
		return r
	}
	n.reading = &stage.Reading{Files: &stage.Files{}} // a circle of stages is the converter's to report
	req := stage.Request{
		File: g.File, Stage: n.Stage, Target: g.target.Unasked(), Build: g.Build(), BuildArgs: g.Target.BuildArgs, Global: g.global,
		Predefined: g.Predefined(n), Image: n.Image, Images: g.images, Answers: g.answers[n.Index], NoCacheMounts: g.Target.NoCacheMounts,
		Other: func(i int) *stage.Reading {
			if o := g.nodes[i]; o != n && o.Root().Platform == "" {
				return g.Reading(o)
			}
			return nil
		},
		Replaced: func(name string) bool {
			here, elsewhere := g.replaced(name)
			return here || elsewhere
		},
	}
	if n.Parent != nil {
		req.Parent = g.Reading(n.Parent)
	}
	n.reading = stage.Read(req)
	g.shared.keep(g, n)
	return n.reading
}

// Answer takes note of what a node said to a question of a stage. What was read of the stage, and of those that depend on it, is forgotten.
func (g *Graph) Answer(stageIndex int, q stage.Question, a stage.Answer) {
	if g.answers[stageIndex] == nil {
		g.answers[stageIndex] = map[stage.Question]stage.Answer{}
	}
	g.answers[stageIndex][q] = a
	g.forget(func(n *Node) bool { return n.Index == stageIndex })
}

// Look takes note of images that somebody looked at: what was read of the stages that use them is forgotten.
func (g *Graph) Look(images map[string]stage.BaseImage, fresh []string) {
	g.images = images
	g.shared.forget()
	g.forget(func(n *Node) bool {
		return n.Parent == nil && slices.Contains(fresh, n.Image) || slices.ContainsFunc(n.Uses, func(s string) bool { return slices.Contains(fresh, s) })
	})
}

// forget forgets what was read of stages, and of those that begin with or copy from them.
func (g *Graph) forget(these func(*Node) bool) {
	for changed := true; changed; {
		changed = false
		for _, n := range g.nodes {
			if n.reading == nil {
				continue
			}
			stale := func(m *Node) bool { return m != nil && m != n && m.reading == nil }
			if these(n) || stale(n.Parent) && n.Parent != nil || slices.ContainsFunc(n.sources, stale) {
				n.reading, changed = nil, true
			}
		}
	}
}

// Foreign reports whether the node does not execute the target itself.
func (g *Graph) Foreign() bool { return !g.Host.RunsNatively(g.Target.Platform) }
