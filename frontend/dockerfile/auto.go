package dockerfile

import (
	"fmt"
	"path"
	"slices"
	"strings"

	ctdplatforms "github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/manifold-build/manifold/platforms"
)

// move is what becomes of one stage of a target.
type move struct {
	// moved: the stage runs on the build platform. strategy is then Cross or Shared.
	moved    bool
	strategy platforms.Strategy
	reason   string
	probes   []Probe
	checks   []Probe
	suspect  bool          // what is taken from it is suspected to hold machine code of the build platform
	edits    map[int]*edit // of its RUN instructions, by line
}

// autoMoves decides for every needed stage that strategy=auto may move, and says of the others why not. Stages of one
// FROM chain run on one platform, so they move together or not at all.
func (g *graph) autoMoves() map[int]move {
	out := map[int]move{}
	if g.global["BUILDPLATFORM"] != ctdplatforms.Format(g.build.OCI()) {
		return out // the user gave it another meaning, and it is what the rewritten FROM lines say
	}
	decided := map[*node]bool{}
	for _, n := range g.needed() {
		root := g.root(n)
		if decided[root] {
			continue
		}
		decided[root] = true
		family := g.family(n)
		if slices.Contains(family, g.export) {
			g.stayWithExport(family, out)
			continue
		}
		if !root.pin.IsZero() || !slices.ContainsFunc(family, runs) {
			continue
		}
		g.moveFamily(family, out)
	}
	g.tellShared(out)
	return out
}

// refuse takes note of stages of this target that were moved in vain.
func (g *graph) refuse(refused []Refusal) {
	g.refused = map[string]string{}
	for _, r := range refused {
		if r.Target == g.target.Platform {
			g.refused[r.Stage] = r.Reason
		}
	}
}

// moveFamily moves a chain of stages, if all of them can be moved and nothing is taken from them that must not be.
func (g *graph) moveFamily(family []*node, out map[int]move) {
	for _, n := range family {
		v := g.verdictOf(n)
		if reason, ok := g.refused[n.title()]; ok {
			v.blocked, v.line = reason, n.line
		}
		if v.blocked == "" && !v.openMake() {
			if line, why := g.taken(n); why != "" {
				v.blocked, v.line = why, line
			}
		}
	}
	for _, n := range family {
		v := n.verdict
		for _, m := range family {
			if m.verdict.blocked != "" {
				out[n.index] = move{reason: g.stays(n, m)}
				break
			}
		}
		if out[n.index].reason != "" {
			continue
		}
		m := move{moved: true, strategy: platforms.Shared, edits: v.edits, probes: v.probes, checks: v.checks, suspect: v.suspect != ""}
		if len(v.told) > 0 || n.told.name != "" {
			m.strategy = platforms.Cross
		}
		m.reason = v.reason(n)
		out[n.index] = m
	}
}

// stayWithExport says of the stages that begin with the same image as the exported one, but are not part of it, why they stay.
func (g *graph) stayWithExport(family []*node, out map[int]move) {
	for _, n := range family {
		root := g.root(n)
		if n == g.export || g.ancestor(n, g.export) || !root.pin.IsZero() {
			continue
		}
		out[n.index] = move{reason: fmt.Sprintf("the exported stage begins with stage %s (line %d) too; begin this one with its own FROM --platform=$BUILDPLATFORM to move it",
			root.title(), root.line)}
	}
}

// stays says why a stage is run on its target, because of itself or of another one of its chain.
func (g *graph) stays(n, cause *node) string {
	why := cause.verdict.blocked
	if n != cause && n.verdict.blocked != "" {
		why = n.verdict.blocked
	} else if n != cause {
		why = fmt.Sprintf("stage %s, of one chain with it, has to: %s", cause.title(), why)
	}
	if cause.verdict.named || len(n.verdict.told) == 0 && n.told.name == "" {
		return why // on another machine it would make the wrong thing
	}
	return why + adviceToMove + fmt.Sprintf("line %d or strategy=cross to move it", g.root(n).line)
}

// adviceToMove is what comes between why a stage stays and how to move it.
const adviceToMove = "; write --platform=$BUILDPLATFORM on "

// reason says why a stage can be moved.
func (v *verdict) reason(n *node) string {
	var out string
	switch {
	case len(v.told) > 0:
		t := v.told[0]
		out = fmt.Sprintf("%s: %s at line %d", t.name, t.how, t.line)
	case n.told.name != "":
		out = fmt.Sprintf("declares %s on line %d", n.told.name, n.told.line)
	case len(v.tools) > 0:
		out = strings.Join(v.tools, ", ") + " output does not depend on the target"
	case runs(n):
		out = "its output does not depend on the target"
	default:
		out = "nothing is run in it"
	}
	if v.suspect != "" {
		out += "; " + v.suspect + ", and is looked at for machine code first"
	}
	if v.executes != "" {
		out += "; " + v.executes + ", which is emulated"
	}
	return out
}

// tellShared calls those stages cross whose input is the target's own: what they copy comes from a stage that is.
func (g *graph) tellShared(moves map[int]move) {
	for changed := true; changed; {
		changed = false
		for _, n := range g.nodes {
			m, ok := moves[n.index]
			if !ok || !m.moved || m.strategy != platforms.Shared {
				continue
			}
			for _, s := range append(slices.Clone(n.sources), n.parent) {
				if s == nil || !g.dependsOnTarget(s, moves) {
					continue
				}
				m.strategy = platforms.Cross
				m.reason += fmt.Sprintf("; it uses stage %s, which does", s.title())
				moves[n.index], changed = m, true
				break
			}
		}
	}
}

// dependsOnTarget reports whether what a stage holds differs between targets.
func (g *graph) dependsOnTarget(n *node, moves map[int]move) bool {
	if m, ok := moves[n.index]; ok && m.moved {
		return m.strategy == platforms.Cross
	}
	return g.root(n).pin.IsZero() && !n.replaced
}

// taken looks at everything that is copied or mounted from a stage. It returns the line and the reason of the first thing that
// must not be taken from it if it ran on the build platform; what only a look at the files can tell becomes a check.
func (g *graph) taken(n *node) (int, string) {
	made := n.verdict.files
	var paths []string
	last := 0
	for _, user := range g.needed() {
		for _, t := range g.takes(user, n) {
			class, why := made.classOf(t.path)
			switch {
			case class == foreign:
				return t.line, fmt.Sprintf("line %d takes %s from it, which %s", t.line, t.path, why)
			case class == suspected && n.verdict.suspect == "":
				n.verdict.suspect = fmt.Sprintf("%s, which line %d takes, is what %s installed", t.path, t.line, why)
			case class == own && made.isProven(t.path):
				continue
			}
			paths, last = appendNew(paths, t.path), t.line
		}
	}
	if len(paths) > 0 {
		n.verdict.checks = []Probe{{
			Kind: ProbeCode, Stage: n.title(), stage: n.index, Line: last, Target: g.target.Platform, Paths: paths,
		}}
	}
	return 0, ""
}

// take is a path that an instruction takes from another stage.
type take struct {
	from *node
	path string
	line int
}

// takes lists what one stage takes from another, variables expanded.
func (g *graph) takes(user, from *node) []take {
	if !slices.Contains(user.sources, from) {
		return nil
	}
	if !user.looked {
		user.taken, user.looked = g.findTakes(user), true
	}
	var out []take
	for _, t := range user.taken {
		if t.from == from {
			out = append(out, t)
		}
	}
	return out
}

// findTakes lists what a stage takes from others.
func (g *graph) findTakes(user *node) []take {
	var out []take
	w := g.worldOf(user)
	add := func(from, source string, c instructions.Command) {
		if i := g.file.findSource(g.word(w.env, from)); from != "" && i >= 0 {
			out = append(out, take{g.nodes[i], path.Join("/", g.word(w.env, source)), lineOf(c)})
		}
	}
	for _, c := range user.body {
		switch c := c.(type) {
		case *instructions.CopyCommand:
			for _, src := range c.SourcePaths {
				add(c.From, src, c)
			}
		case *instructions.RunCommand:
			for _, m := range user.runAt[c].mounts {
				add(m.from, m.source, c)
			}
		}
		g.advance(&w, c)
	}
	return out
}
