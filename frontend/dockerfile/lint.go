package dockerfile

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/manifold-build/manifold/platforms"
)

// What goes wrong only when a Dockerfile is built for several platforms.
const (
	// RuleArchInDownload: an architecture is written out in what is downloaded or added, and it is not the target's.
	RuleArchInDownload = "ArchitectureInDownload"
	// RuleTargetDefault: ARG TARGETARCH=amd64; the default beats the value that every target has of its own.
	RuleTargetDefault = "TargetArgumentDefault"
	// RuleExportedPinned: the exported stage is FROM --platform=linux/amd64, or of the build platform.
	RuleExportedPinned = "ExportedStagePinned"
	// RuleCompilerNotTold: a stage on the build platform compiles, and nothing tells the compiler the target.
	RuleCompilerNotTold = "CompilerNotToldTarget"
	// RulePrebuiltForOne: a file is copied from the context whose name says that it is for another architecture.
	RulePrebuiltForOne = "PrebuiltForOneArchitecture"
	// RuleBaseLacksTarget: a base image is not there for a target. Only a node can tell.
	RuleBaseLacksTarget = "BaseImageLacksTarget"
)

// lint looks for what is wrong with the file for this target.
func (g *graph) lint() []Finding {
	out := slices.Clone(g.found)
	add := func(line int, rule, format string, args ...any) {
		out = append(out, Finding{Target: g.target.Platform, Line: line, Rule: rule, Message: fmt.Sprintf(format, args...)})
	}
	g.lintArguments(g.file.args, add)
	for _, n := range g.needed() {
		g.lintArguments(n.args, add)
		g.lintPin(n, add)
		g.lintCompiler(n, add)
		onTarget := g.root(n).pin.IsZero() || g.root(n).pin == g.target.Platform
		for _, f := range g.verdictOf(n).findings {
			if onTarget || f.Rule != RuleArchInDownload {
				out = append(out, f)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return a.Line - b.Line })
	return slices.Compact(out)
}

type addFinding func(line int, rule, format string, args ...any)

// lintArguments finds defaults that defeat the automatic platform arguments.
func (g *graph) lintArguments(args []argument, add addFinding) {
	for _, a := range args {
		if _, passed := g.target.BuildArgs[a.name]; a.value == nil || passed || !strings.HasPrefix(a.name, "TARGET") {
			continue
		}
		want, known := g.automatic()[a.name]
		if v := g.word(g.global, *a.value); known && v != "" && v != want {
			add(a.line, RuleTargetDefault, "the default of ARG %s=%s beats the target's own value, %q for %s; write ARG %s",
				a.name, v, want, g.target.Platform, a.name)
		}
	}
}

// automatic are the target's automatic arguments as BuildKit would set them.
func (g *graph) automatic() map[string]string {
	p := g.target.Platform
	return map[string]string{
		"TARGETPLATFORM": p.String(), "TARGETOS": p.OS, "TARGETARCH": p.Architecture, "TARGETVARIANT": p.Variant,
	}
}

// lintPin finds an exported stage that does not run on its target. One of nothing, FROM scratch, runs nowhere.
func (g *graph) lintPin(n *node, add addFinding) {
	root := g.root(n)
	if n != g.export || root.image == "scratch" || root.pin.IsZero() || sameMachine(root.pin, g.target.Platform) {
		return
	}
	what := "is for " + root.pin.String()
	if strings.Contains(root.platform, "BUILDPLATFORM") {
		what = "is of the build platform"
	}
	add(root.line, RuleExportedPinned, "the image of %s is built FROM --platform=%s and so %s; leave the flag out", g.target.Platform, root.platform, what)
}

// sameMachine compares operating system and architecture.
func sameMachine(a, b platforms.Platform) bool {
	return a.OS == b.OS && a.Architecture == b.Architecture
}

// lintCompiler finds a stage that the user put on the build platform, that compiles with Go without being told the target, and whose
// program goes into a stage of the target.
func (g *graph) lintCompiler(n *node, add addFinding) {
	root := g.root(n)
	if g.verdictOf(n).files.unproven || root.pin != g.build || sameMachine(g.build, g.target.Platform) || n == g.export {
		return
	}
	v := g.verdictOf(n)
	for _, t := range v.told {
		if t.how != howSet || t.enough || !g.programTaken(n, t) {
			continue
		}
		add(t.line, RuleCompilerNotTold, "%s makes a program for %s, and the target is %s; write ARG TARGETOS TARGETARCH and GOOS=$TARGETOS GOARCH=$TARGETARCH",
			t.name, g.build, g.target.Platform)
		return
	}
}

// programTaken reports whether a stage of the target takes a program that a command of n makes.
func (g *graph) programTaken(n *node, by toldCommand) bool {
	made := files{marks: g.verdictOf(n).files.marks[by.first:by.last]}
	for _, user := range g.needed() {
		if !g.root(user).pin.IsZero() && g.root(user).pin == g.build {
			continue
		}
		for _, t := range g.takes(user, n) {
			if made.holdsProgram(t.path) {
				return true
			}
		}
	}
	return false
}

// foreignWord returns the architecture written in a name, if it is not the target's.
func (g *graph) foreignWord(name string) string {
	word := findArchWord(name)
	if word == "" || slices.Contains(archNames(g.target.Platform), strings.ToLower(word)) {
		return ""
	}
	return word
}

// archNames are the spellings of a platform's architecture in names of files.
func archNames(p platforms.Platform) []string {
	n := p.Names()
	out := []string{p.Architecture, strings.ToLower(n.Uname), n.Debian, n.Alpine, p.Architecture + p.Variant}
	switch p.Architecture {
	case "amd64":
		out = append(out, "x64", "x86-64", "x86_64")
	case "386":
		out = append(out, "i386", "i586", "i686", "x86")
	case "arm64":
		out = append(out, "arm64v8", "aarch64", "armv8")
	case "arm":
		out = append(out, "arm32"+p.Variant, "arm"+p.Variant, "arm"+p.Variant+"l", "armhf", "armel")
	}
	return out
}

// lintCopy finds a prebuilt file for one architecture.
func (j *judge) lintCopy(c *instructions.CopyCommand) {
	if c.From != "" {
		return
	}
	for _, src := range c.SourcePaths {
		src = j.g.word(j.w.env, src)
		if word := j.g.foreignWord(path.Base(src)); word != "" && !j.copiesForTarget() {
			j.findf(lineOf(c), RulePrebuiltForOne, "%s is named for %s, and the target is %s; name it by a variable such as $TARGETARCH", src, word, j.g.target.Platform)
		}
	}
}

// copiesForTarget reports whether the stage copies a file that is named for the target: then it brings one for each.
func (j *judge) copiesForTarget() bool {
	for _, c := range j.n.body {
		c, ok := c.(*instructions.CopyCommand)
		if !ok {
			continue
		}
		for _, src := range c.SourcePaths {
			if word := findArchWord(src); word != "" && j.g.foreignWord(src) == "" {
				return true
			}
		}
	}
	return false
}

// lintDownload finds a download that is named for another architecture than the target's.
func (j *judge) lintDownload(line int, what string) {
	if word := j.g.foreignWord(what); word != "" {
		j.findf(line, RuleArchInDownload, "%s is named for %s, and the target is %s; name it by a variable such as $TARGETARCH", what, word, j.g.target.Platform)
	}
}
