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
		var edit stage.Edit
		holders := g.CompilersFrom(n)
		if i := slices.IndexFunc(holders, g.hasCompilers); i >= 0 {
			edit.Twin = stage.InputName(holders[i])
			n.Move.Inputs = []stage.Input{{Name: holders[i]}}
		}
		if g.mayHoldGCC(n) {
			edit.Toolchain = stage.ToolchainName(n.Root().Image, g.Target.Platform)
		}
		if !edit.Accelerates() {
			continue
		}
		n.Move.Accelerated = true
		n.Move.Edits = map[int]*stage.Edit{}
		for _, line := range g.Reading(n).Compiles {
			n.Move.Edits[line] = &edit
		}
	}
}

// mayHoldGCC reports whether a stage may hold a gcc that there is a tool chain for. Which of Debian's it is, if any, is read from the image when the
// stage is run.
func (g *Graph) mayHoldGCC(n *Node) bool {
	name, tag, _ := strings.Cut(path.Base(n.Root().Image), ":")
	return g.Target.Toolchains && n.Root().Image != "scratch" && name != "alpine" && name != "busybox" && !strings.Contains(tag, "alpine")
}

// Installs reports whether a stage, or one that it is built FROM, installs packages of Debian's.
func (g *Graph) Installs(n *Node) bool {
	for m := n; m != nil; m = m.Parent {
		if g.Reading(m).Installs {
			return true
		}
	}
	return false
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

// hasCompilers reports whether an image may hold compilers whose twins are used, for the build platform too: it is called for them, or its environment
// names them, as that of Docker's official images does.
func (g *Graph) hasCompilers(image string) bool {
	name, _, _ := strings.Cut(image, "@")
	name, _, _ = strings.Cut(path.Base(name), ":")
	base, known := g.images[image]
	if known && base.NotFor != "" {
		return false
	}
	return name == "rust" || name == "golang" && !known || known && slices.ContainsFunc(base.Env, func(v string) bool {
		name, value, _ := strings.Cut(v, "=")
		return name == "GOLANG_VERSION" || name == "RUST_VERSION" || name == "PATH" && slices.ContainsFunc(strings.Split(value, ":"), func(dir string) bool {
			return strings.HasSuffix(dir, "/go/bin") || strings.HasSuffix(dir, "/cargo/bin") || strings.HasSuffix(dir, "/.cargo/bin")
		})
	})
}
