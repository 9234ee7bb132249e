package frontend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/shlex"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/gateway/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
	"github.com/manifold-build/manifold/verify"
)

// RuleForeignCode is the warning for machine code that does not fit the image's platform, where that does not refuse the image.
const RuleForeignCode = "ForeignMachineCode"

// Judgement is what the gate found for one target.
type Judgement struct {
	// Report is what was found in the image. It is the zero Report if the target was not looked at (verify=off).
	Report verify.Report `json:"report"`
	// Tested says how the image's tests were run: "tested" or "tested under emulation"; empty if there are none.
	Tested string `json:"tested,omitempty"`
}

// GateError says that an image is not what it says.
type GateError struct {
	// Report is what was found.
	Report verify.Report
	// Hints are what in the Dockerfile may be the reason. Nil means that nothing is known.
	Hints []dockerfile.Finding
}

// Error lists what is refused, and the likely reasons.
func (e *GateError) Error() string {
	var parts []string
	for i, f := range e.Report.Refused {
		if i == maxRefusals {
			parts = append(parts, fmt.Sprintf("and %d more", len(e.Report.Refused)-i))
			break
		}
		parts = append(parts, f.String())
	}
	out := "the image is refused: " + strings.Join(parts, "; ")
	for _, h := range e.Hints {
		out += fmt.Sprintf("; line %d: %s", h.Line, h.Message)
	}
	return out
}

// maxRefusals is how many files an error names.
const maxRefusals = 5

// judge holds a target's image against its platform, and runs its tests.
func (b *build) judge(ctx context.Context, t *target, out built) (Judgement, error) {
	j := Judgement{Report: verify.Report{Platform: t.platform}}
	if t.verify != verifyOff {
		report, err := b.verify(ctx, t, out)
		if err != nil {
			return j, fmt.Errorf("verifying the image: %w", err)
		}
		j.Report = report
		if report.Verdict == verify.Refused && t.verify == verifyStrict && !t.pinnedByHand() {
			return j, t.gateError(report)
		}
	}
	return j, b.test(ctx, t, out, &j)
}

// verify looks at the root filesystem of a target's image.
func (b *build) verify(ctx context.Context, t *target, out built) (verify.Report, error) {
	image := out.converted.Image.Image
	want := verify.Want{Platform: t.platform, Except: t.except, Likely: true}
	if t.implicit {
		want.Platform = platforms.FromOCI(image.Platform) // the base image decides
	}
	ref := out.result.Reference
	if ref == nil {
		return verify.FS(nothing{}, image, want)
	}
	want.Base = b.fromBase(ctx, t, ref)
	return verify.FS(refFS{ctx, ref}, image, want)
}

// fromBase tells what came with the base image of a target. The image is only looked at if it is asked.
func (b *build) fromBase(ctx context.Context, t *target, ref client.Reference) func(string) bool {
	var base client.Reference
	asked := false
	return func(name string) bool {
		if !asked {
			asked = true
			base, _ = b.baseOf(ctx, t) // without one nothing came with it
		}
		same, err := sameFile(ctx, ref, base, name)
		return err == nil && same
	}
}

// baseOf is the image that a target's exported image begins with; nil if there is none.
func (b *build) baseOf(ctx context.Context, t *target) (client.Reference, error) {
	i := slices.IndexFunc(t.plan.Images, func(i dockerfile.StageImage) bool { return i.Exported && i.Target == t.platform })
	if i < 0 || t.plan.Images[i].Name == "scratch" {
		return nil, errors.New("it has no base image")
	}
	p := t.plan.Images[i].Platform.OCI()
	def, err := llb.Image(t.plan.Images[i].Name, llb.Platform(p)).Marshal(ctx, llb.Platform(p))
	if err != nil {
		return nil, err
	}
	res, err := b.client.Solve(ctx, client.SolveRequest{Definition: def.ToPB(), Evaluate: true})
	if err != nil {
		return nil, err
	}
	return res.SingleRef()
}

// pinnedByHand reports whether the user wrote another platform out for the exported image: that is their word.
func (t *target) pinnedByHand() bool {
	return slices.ContainsFunc(t.plan.Images, func(i dockerfile.StageImage) bool {
		return i.Exported && i.Target == t.platform && i.Pin != "" && !strings.Contains(i.Pin, "$") && i.Platform != t.platform
	})
}

// hintRules are the findings that explain a foreign program.
var hintRules = []string{
	dockerfile.RuleTargetDefault, dockerfile.RuleCompilerNotTold, dockerfile.RuleTargetSet, dockerfile.RuleExportedPinned,
	dockerfile.RulePrebuiltForOne, dockerfile.RuleArchInDownload,
}

// gateError is the refusal of a target's image, with the lines that may be the reason.
func (t *target) gateError(report verify.Report) error {
	e := &GateError{Report: report}
	for _, f := range t.plan.Findings {
		if f.Target == t.platform && slices.Contains(hintRules, f.Rule) && !slices.Contains(e.Hints, f) {
			e.Hints = append(e.Hints, f)
		}
	}
	if len(e.Hints) == 0 {
		return e
	}
	return withSource(e, t.group.src.SourceMap, lineRange(e.Hints[0].Line))
}

// inVain lists the stages that were moved for a target whose image is refused: it is built again without the move.
func (t *target) inVain(err error) []dockerfile.Refusal {
	reason := ""
	if gate, ok := errors.AsType[*GateError](err); ok {
		reason = "the image is refused: " + gate.Report.Refused[0].String()
	} else if test, ok := errors.AsType[*TestError](err); ok {
		reason = fmt.Sprintf("test %q fails", test.Command)
	}
	if reason == "" || t.strategy != platforms.Auto {
		return nil
	}
	var out []dockerfile.Refusal
	for _, s := range t.steps() {
		if s.Moved {
			out = append(out, dockerfile.Refusal{Stage: s.Stage, Target: t.platform, Reason: reason})
		}
	}
	return out
}

// warnJudgement shows what does not refuse an image and is worth a look all the same.
func (t *target) warnJudgement(ctx context.Context, j Judgement) {
	line := 0
	for _, s := range t.steps() {
		line = s.Line
	}
	list := j.Report.Refused // by verify=warn, or by the user's own word
	for _, f := range j.Report.Warnings {
		if f.Path != "" {
			list = append(list, f)
		}
	}
	for i, f := range list {
		msg := fmt.Sprintf("%s: %s", t.platform, f)
		if i == maxRefusals {
			msg = fmt.Sprintf("%s: and %d more files", t.platform, len(list)-i)
		}
		t.group.src.Warn(ctx, linter.LintFormatShort(RuleForeignCode, msg, line), warnOpts(lineRange(line), nil, ""))
		if i == maxRefusals {
			return
		}
	}
}

// splitCommand splits a test as a shell would, without expanding anything.
func splitCommand(s string) ([]string, error) {
	var out []string
	for line := range strings.Lines(s) {
		words, err := shlex.Split(line)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", strings.TrimSpace(line), err)
		}
		out = append(out, words...)
	}
	if len(out) == 0 {
		return nil, errors.New("it is empty")
	}
	return out, nil
}

// TestError is a test of an image that failed.
type TestError struct {
	// Command is the test as it was written.
	Command string
	// Emulated reports whether it ran under emulation.
	Emulated bool
	// Err is what happened.
	Err error
}

// Error names the command.
func (e *TestError) Error() string {
	how := ""
	if e.Emulated {
		how = " (under emulation)"
	}
	return fmt.Sprintf("test %q%s: %v", e.Command, how, e.Err)
}

// Unwrap returns what happened.
func (e *TestError) Unwrap() error { return e.Err }

// test runs a target's tests in its own image, as its own user, with the config's environment and directory; the entrypoint is ignored.
func (b *build) test(ctx context.Context, t *target, out built, j *Judgement) error {
	platform := out.converted.Image.Platform
	emulated := !b.host.RunsNatively(platforms.FromOCI(platform))
	for _, command := range t.tests {
		if err := b.runTest(ctx, t, out, command, platform); err != nil {
			return &TestError{Command: command, Emulated: emulated, Err: err}
		}
		if j.Tested = "tested"; emulated {
			j.Tested = "tested under emulation"
		}
	}
	return nil
}

func (b *build) runTest(ctx context.Context, t *target, out built, command string, platform ocispec.Platform) error {
	words, err := splitCommand(command)
	if err != nil {
		return err
	}
	config := out.converted.Image.Config
	dir := config.WorkingDir
	if dir == "" {
		dir = "/"
	}
	opts := []llb.RunOption{
		llb.Args(words), llb.Dir(dir), llb.WithCustomName(fmt.Sprintf("[%s] test %s", t.platform, command)),
	}
	if config.User != "" {
		opts = append(opts, llb.User(config.User))
	}
	for _, kv := range config.Env {
		name, value, _ := strings.Cut(kv, "=")
		opts = append(opts, llb.AddEnv(name, value))
	}
	def, err := out.converted.State.Run(opts...).Root().Marshal(ctx, llb.Platform(platform))
	if err != nil {
		return err
	}
	_, err = b.client.Solve(ctx, client.SolveRequest{Definition: def.ToPB(), Evaluate: true})
	return err
}
