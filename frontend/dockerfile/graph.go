package dockerfile

import (
	"fmt"
	"strings"

	"github.com/manifold-build/manifold/platforms"
)

// graph is the file's stages as one target sees them, variables expanded.
type graph struct {
	file   *File
	target Target
	build  platforms.Platform
	nodes  []*node
	export *node

	host       platforms.Host
	global     values            // of the ARG instructions before the first FROM, and the automatic ones
	predefined map[string]string // Manifold's own
	images     map[string]BaseImage
	answers    map[string]Answer
	refused    map[string]string // stages that were moved in vain, and why
	need       []*node           // see needed
	moves      map[int]move      // what becomes of the stages, nil if nothing is moved
	found      []Finding
	findings   []Finding // see lint
}

// node is a stage of a graph.
type node struct {
	*stage

	parent   *node              // the stage it is built FROM, nil if that is an image
	pin      platforms.Platform // its own --platform, zero if there is none
	sources  []*node            // stages it copies or mounts from
	replaced bool               // by a build context
	told     argument           // the first argument by which it or an ancestor is told the target; zero if none is
	image    string             // what it is built FROM, variables expanded; a stage's name or an image's

	taken   []take   // what it takes from other stages, nil until it is asked for
	looked  bool     // taken is known
	end     *world   // what holds at its end, nil until it is asked for
	verdict *verdict // nil until it is asked for
}

// graphFor expands every FROM line for a target. The error is for the converter to report again, with more of the
// context that only it has.
func (f *File) graphFor(req PlanRequest, t Target) (*graph, error) {
	v, err := f.globalValues(req.Host.Native, t)
	if err != nil {
		return nil, err
	}
	g := &graph{
		file: f, target: t, build: req.Host.Native, host: req.Host, images: req.Images,
		global: v, predefined: Predefined(req.Host.Native, t.Platform), answers: map[string]Answer{},
	}
	for _, a := range req.Answers {
		g.answers[a.Probe.key()] = a
	}
	for i, s := range f.stages {
		n := &node{stage: s, replaced: s.name != "" && containsFold(t.Contexts, s.name)}
		base, err := f.expand(s.base, v)
		if err != nil {
			return nil, err
		}
		if s.platform != "" {
			word, err := f.expand(s.platform, v)
			if err != nil {
				return nil, err
			}
			if n.pin, err = platforms.Parse(word); err != nil {
				return nil, err
			}
		}
		n.image = base
		if p := f.find(base, i); p >= 0 && !n.replaced {
			n.parent = g.nodes[p]
		}
		n.told = firstTold(n)
		g.nodes = append(g.nodes, n)
	}
	for _, n := range g.nodes {
		for _, use := range n.uses {
			if i := f.findSource(use); i >= 0 {
				n.sources = append(n.sources, g.nodes[i])
			}
		}
	}
	g.export = g.nodes[len(g.nodes)-1]
	if t.Stage != "" {
		i := f.find(t.Stage, len(f.stages))
		if i < 0 {
			return nil, fmt.Errorf("no stage is named %q", t.Stage)
		}
		g.export = g.nodes[i]
	}
	return g, nil
}

// firstTold finds the argument by which a stage is told its target: its parent's, or the first of its own.
func firstTold(n *node) argument {
	if n.parent != nil && n.parent.told.name != "" {
		return n.parent.told
	}
	for _, a := range n.args {
		if tellsTarget[a.name] {
			return a
		}
	}
	return argument{}
}

// needed lists the stages that the exported one needs, itself included, as written. A stage that a build context
// replaces is not built and needs nothing.
func (g *graph) needed() []*node {
	if g.need == nil {
		g.need = g.findNeeded()
	}
	return g.need
}

func (g *graph) findNeeded() []*node {
	need := map[*node]bool{}
	var visit func(*node)
	visit = func(n *node) {
		if n == nil || need[n] || n.replaced {
			return
		}
		need[n] = true
		visit(n.parent)
		for _, s := range n.sources {
			visit(s)
		}
	}
	visit(g.export)
	var out []*node
	for _, n := range g.nodes {
		if need[n] {
			out = append(out, n)
		}
	}
	return out
}

// root is the stage at the beginning of n's FROM chain, which names an image.
func (g *graph) root(n *node) *node {
	for n.parent != nil {
		n = n.parent
	}
	return n
}

// runsOn is the platform a stage is run on.
func (g *graph) runsOn(n *node, t targetPlan) platforms.Platform {
	root := g.root(n)
	switch {
	case !root.pin.IsZero():
		return root.pin
	case t.moved(n.index):
		return g.build
	default:
		return g.target.Platform
	}
}

// family lists the needed stages that begin with the same image as n, which therefore all run on one platform.
func (g *graph) family(n *node) []*node {
	var out []*node
	for _, m := range g.needed() {
		if g.root(m) == g.root(n) {
			out = append(out, m)
		}
	}
	return out
}

func containsFold(list []string, s string) bool {
	for _, e := range list {
		if strings.EqualFold(e, s) {
			return true
		}
	}
	return false
}
