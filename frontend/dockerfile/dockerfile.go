package dockerfile

import (
	"fmt"

	"github.com/manifold-build/manifold/frontend/dockerfile/place"
	"github.com/manifold-build/manifold/frontend/dockerfile/planner"
	"github.com/manifold-build/manifold/frontend/dockerfile/source"
	"github.com/manifold-build/manifold/frontend/dockerfile/stage"
	"github.com/manifold-build/manifold/platforms"
)

// The types of a plan.
type (
	// Target is one target of a plan and what was asked for it.
	Target = place.Target
	// PlanRequest is what a plan is made for.
	PlanRequest = planner.Request
	// Planner plans one file for some targets, and keeps what it knows from one plan to the next.
	Planner = planner.Planner
	// Plan is how every stage that a target needs is run.
	Plan = planner.Plan
	// Step says how one stage is run for one target.
	Step = planner.Step
	// Finding is something in the Dockerfile that the user should know of.
	Finding = planner.Finding
	// StageImage is an image that a stage is built FROM for a target.
	StageImage = planner.StageImage
	// BaseImage is what a planner may know of an image.
	BaseImage = stage.BaseImage
	// Probe is a question to a node.
	Probe = planner.Probe
	// ProbeKind is what a question is about.
	ProbeKind = planner.ProbeKind
	// Answer is what a node said.
	Answer = planner.Answer
	// Check is a look at what is taken out of a moved stage.
	Check = planner.Check
	// Toolchain is a tool chain that a text may take compilers from.
	Toolchain = planner.Toolchain
	// PutBack is why a stage that was moved for a target has to stay on it after all.
	PutBack = planner.PutBack
	// StageError is a stage that cannot be run for a target as planned.
	StageError = planner.StageError
	// HeaderOption is one option of the Dockerfile's header.
	HeaderOption = source.HeaderOption
	// HeaderError is a line of options in a Dockerfile's header that cannot be read.
	HeaderError = source.HeaderError
)

// What probes are about.
const (
	ProbeCgo    = planner.ProbeCgo
	ProbeMake   = planner.ProbeMake
	ProbeScript = planner.ProbeScript
	ProbeCode   = planner.ProbeCode
)

// The rules of findings.
const (
	RuleArchInDownload  = planner.RuleArchInDownload
	RuleTargetDefault   = planner.RuleTargetDefault
	RuleExportedPinned  = planner.RuleExportedPinned
	RuleCompilerNotTold = planner.RuleCompilerNotTold
	RulePrebuiltForOne  = planner.RulePrebuiltForOne
	RuleBaseLacksTarget = planner.RuleBaseLacksTarget
	RuleTargetSet       = planner.RuleTargetSet
	RuleNotMoved        = planner.RuleNotMoved
)

// AnswerPath is the file in which the instruction of a probe leaves its answer.
const AnswerPath = planner.AnswerPath

// Predefined returns the arguments that Manifold gives, besides BuildKit's TARGETARCH and its kin, to every stage that
// declares them; see [place.Predefined].
func Predefined(build, target platforms.Platform) map[string]string {
	return place.Predefined(build, target)
}

// Accelerator is the name under which texts take the program that calls compilers of the build platform in the place of a stage's own.
const Accelerator = stage.Accelerator

// ToolchainArch is what a target's tool chains are called by: "arm64", "arm-v7".
func ToolchainArch(target platforms.Platform) string { return stage.ToolchainArch(target) }

// Unaccelerated is what people are to read of an accelerated instruction; see [planner.Unaccelerated].
func Unaccelerated(text string) string { return planner.Unaccelerated(text) }

// File is a parsed Dockerfile. It is immutable.
type File struct {
	*source.File
}

// Parse reads a Dockerfile. The name is what errors call it. An error of the Dockerfile language is BuildKit's own,
// with its location.
func Parse(name string, src []byte) (*File, error) {
	f, err := source.Parse(name, src)
	if err != nil {
		return nil, err
	}
	return &File{f}, nil
}

// Open begins to plan the file.
func (f *File) Open(req PlanRequest) *Planner { return planner.Open(f.File, req) }

// Plan decides how each stage is run for each target, once. Errors are of type [*StageError], joined in target order.
func (f *File) Plan(req PlanRequest) (Plan, error) { return f.Open(req).Plan() }

// For returns the text that the target is built from, by a plan of this file. A target that is not in the
// plan is an error.
func (f *File) For(target platforms.Platform, plan Plan) ([]byte, error) {
	p := plan.Planner()
	if p == nil {
		return nil, fmt.Errorf("%s: %s is not a target of the plan", f.Name, target)
	}
	return p.Text(target)
}

// StageTitle returns the name of the stage that holds the line, counted from 1, or its index where it has no name. It
// is empty for a line before the first FROM.
func (f *File) StageTitle(line int) string {
	if i := f.StageAt(line); i >= 0 {
		return f.Stages[i].Title()
	}
	return ""
}

// Inputs lists the images that instructions of the file take files from, by the name that a text has for one where a moved stage takes it for the
// build platform (see [Plan.Inputs]).
func (f *File) Inputs() map[string]string {
	out := map[string]string{}
	for _, s := range f.Stages {
		for _, name := range s.Uses {
			if f.FindSource(name) < 0 {
				out[stage.InputName(name)] = name
			}
		}
	}
	return out
}
