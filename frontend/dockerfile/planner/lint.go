package planner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/effect"
	"github.com/manifold-build/manifold/frontend/dockerfile/place"
	"github.com/manifold-build/manifold/frontend/dockerfile/source"
	"github.com/manifold-build/manifold/frontend/dockerfile/stage"
	"github.com/manifold-build/manifold/platforms"
)

// What goes wrong only when a Dockerfile is built for several platforms.
const (
	// RuleArchInDownload: an architecture is written out in what is downloaded or added, and it is not the target's.
	RuleArchInDownload = effect.RuleArchInDownload
	// RuleTargetDefault: ARG TARGETARCH=amd64; the default beats the value that every target has of its own.
	RuleTargetDefault = "TargetArgumentDefault"
	// RuleExportedPinned: the exported stage is FROM --platform=linux/amd64, or of the build platform.
	RuleExportedPinned = "ExportedStagePinned"
	// RuleCompilerNotTold: a stage on the build platform compiles, and nothing tells the compiler the target.
	RuleCompilerNotTold = "CompilerNotToldTarget"
	// RulePrebuiltForOne: a file is copied from the context whose name says that it is for another architecture.
	RulePrebuiltForOne = stage.RulePrebuiltForOne
	// RuleBaseLacksTarget: a base image is not there for a target. Only a node can tell.
	RuleBaseLacksTarget = "BaseImageLacksTarget"
	// RuleTargetSet: a compiler is told another target than the image's by a literal.
	RuleTargetSet = effect.RuleTargetSet
	// RuleNotMoved: a stage declares its target under strategy=cross and still has to run on it.
	RuleNotMoved = "CrossStageNotMoved"
)

// linter looks for what is wrong with the file for one target.
type linter struct {
	*place.Graph

	out []Finding
}

// lint looks for what is wrong with the file for this target.
func (p *Planner) lint(g *place.Graph) []Finding {
	l := &linter{Graph: g}
	for _, not := range g.NotMoved {
		l.addf(not.Node.Line, RuleNotMoved, "stage %s declares %s and still runs on %s: %s", not.Node.Title(), not.Node.Declares.Name, g.Target.Platform, not.Obstacle)
	}
	l.arguments(g.File.Args)
	for _, n := range g.Needed() {
		l.arguments(n.Args)
		l.pin(n)
		l.compiler(n)
		root := n.Root()
		onTarget := root.Platform == "" || root.Pin == g.Target.Platform
		for _, f := range g.Reading(n).Findings {
			if onTarget || f.Rule != RuleArchInDownload {
				l.addf(f.Line, f.Rule, "%s", f.Message)
			}
		}
	}
	slices.SortStableFunc(l.out, func(a, b Finding) int { return a.Line - b.Line })
	return slices.Compact(l.out)
}

func (l *linter) addf(line int, rule, format string, args ...any) {
	l.out = append(l.out, Finding{Target: l.Target.Platform, Line: line, Rule: rule, Message: fmt.Sprintf(format, args...)})
}

// arguments finds defaults that defeat the automatic platform arguments.
func (l *linter) arguments(args []source.Argument) {
	for _, a := range args {
		if _, passed := l.Target.BuildArgs[a.Name]; a.Value == nil || passed || !strings.HasPrefix(a.Name, "TARGET") {
			continue
		}
		want, known := l.automatic()[a.Name]
		if v := l.Word(*a.Value); known && v != "" && v != want {
			l.addf(a.Line, RuleTargetDefault, "the default of ARG %s=%s beats the target's own value, %q for %s; write ARG %s",
				a.Name, v, want, l.Target.Platform, a.Name)
		}
	}
}

// automatic are the target's automatic arguments as BuildKit would set them.
func (l *linter) automatic() map[string]string {
	p := l.Target.Platform
	return map[string]string{
		"TARGETPLATFORM": p.String(), "TARGETOS": p.OS, "TARGETARCH": p.Architecture, "TARGETVARIANT": p.Variant,
	}
}

// pin finds an exported stage that does not run on its target. One of nothing, FROM scratch, runs nowhere.
func (l *linter) pin(n *place.Node) {
	root := n.Root()
	if n != l.Export || root.Image == "scratch" || root.Pin.IsZero() || sameMachine(root.Pin, l.Target.Platform) {
		return
	}
	what := "is for " + root.Pin.String()
	if strings.Contains(root.Platform, "BUILDPLATFORM") {
		what = "is of the build platform"
	}
	l.addf(root.Line, RuleExportedPinned, "the image of %s is built FROM --platform=%s and so %s; leave the flag out", l.Target.Platform, root.Platform, what)
}

// sameMachine compares operating system and architecture.
func sameMachine(a, b platforms.Platform) bool {
	return a.OS == b.OS && a.Architecture == b.Architecture
}

// compiler finds a stage that the user put on the build platform, that compiles with Go without being told the target, and whose
// program goes into a stage of the target.
func (l *linter) compiler(n *place.Node) {
	root := n.Root()
	if root.Pin != l.Build() || sameMachine(l.Build(), l.Target.Platform) || n == l.Export || l.Reading(n).Files.Unproven() {
		return
	}
	for _, t := range l.Reading(n).Told {
		if t.How != effect.ByPlan || t.Enough || !l.programTaken(n, t) {
			continue
		}
		l.addf(t.Line, RuleCompilerNotTold, "%s makes a program for %s, and the target is %s; write ARG TARGETOS TARGETARCH and GOOS=$TARGETOS GOARCH=$TARGETARCH",
			t.Name, l.Build(), l.Target.Platform)
		return
	}
}

// programTaken reports whether a stage of the target takes a program that a command of n makes.
func (l *linter) programTaken(n *place.Node, by stage.Told) bool {
	made := l.Reading(n).Made(by)
	for _, user := range l.Needed() {
		if root := user.Root(); !root.Pin.IsZero() && root.Pin == l.Build() {
			continue
		}
		for _, t := range l.Reading(user).Takes {
			if t.Stage == n.Index && made.HoldsProgram(t.Path) {
				return true
			}
		}
	}
	return false
}
