package place

import (
	"path"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/stage"
	"github.com/manifold-build/manifold/platforms"
)

// accelerate has the compilers of stages that run on a target which the node emulates be those of the build platform. What that takes is in the image
// that the stage begins with, for the build platform; whether the two hold the same release is found out where they are called.
func (g *Graph) accelerate() {
	for _, n := range g.needed {
		if _, vain := g.emulated[n.Index]; vain || !g.Compiles(n) {
			continue
		}
		holders := g.CompilersFrom(n)
		i := slices.IndexFunc(holders, g.hasCompilers)
		if i < 0 {
			continue
		}
		image := holders[i]
		n.Move.Accelerated = true
		n.Move.Inputs = []stage.Input{{Name: image}}
		n.Move.Edits = map[int]*stage.Edit{}
		for _, line := range g.Reading(n).Compiles {
			n.Move.Edits[line] = &stage.Edit{Twin: stage.InputName(image)}
		}
	}
}

// Compiles reports whether a stage runs on a target that the node emulates, and may call compilers there that could be the build platform's.
func (g *Graph) Compiles(n *Node) bool {
	t := g.Target
	if t.NoAccelerate || t.Strategy != platforms.Auto && t.Strategy != platforms.Accelerate || !g.Foreign() || !g.Host.RunsForeign(t.Platform) {
		return false
	}
	root := n.Root()
	if n.Move.Moved || n.Replaced || root.Replaced || g.RunsOn(n) != t.Platform || root.Fixed && root.Platform == "" {
		return false
	}
	if here, elsewhere := g.replaced(root.Image); here || elsewhere {
		return false
	}
	return len(n.RunLines) > 0 && len(g.Reading(n).Compiles) > 0
}

// CompilersFrom lists the images that the compilers of a stage may come from: the one that it begins with, and those that it and the stages that it is
// built FROM copy files from.
func (g *Graph) CompilersFrom(n *Node) []string {
	out := []string{n.Root().Image}
	for m := n; m != nil; m = m.Parent {
		for _, in := range g.Reading(m).Inputs {
			if !slices.Contains(out, in.Name) {
				out = append(out, in.Name)
			}
		}
	}
	return out
}

// hasCompilers reports whether an image may hold compilers whose twins are used, for the build platform too.
func (g *Graph) hasCompilers(image string) bool {
	base, known := g.images[image]
	if !known {
		name, _, _ := strings.Cut(image, "@")
		name, _, _ = strings.Cut(path.Base(name), ":")
		return name == "golang"
	}
	return base.NotFor == "" && slices.ContainsFunc(base.Env, func(v string) bool {
		name, value, _ := strings.Cut(v, "=")
		return name == "GOLANG_VERSION" || name == "PATH" && slices.ContainsFunc(strings.Split(value, ":"), func(dir string) bool {
			return strings.HasSuffix(dir, "/go/bin")
		})
	})
}
