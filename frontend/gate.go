package frontend

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/distribution/reference"
	"github.com/google/shlex"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
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
	// otherBase: the base image is for another platform. BuildKit warns of it, so its files need no warnings of their own.
	otherBase bool
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
	for _, h := range e.Hints {
		parts = append(parts, fmt.Sprintf("line %d: %s", h.Line, h.Message))
	}
	if i := slices.IndexFunc(e.Report.Refused, func(f verify.Finding) bool { return f.Path != "" && f.Machine != "" && !f.Started }); i >= 0 {
		parts = append(parts, fmt.Sprintf("if it is meant to be there, --verify-except %s allows it", e.Report.Refused[i].Path))
	}
	return "the image is refused: " + strings.Join(parts, "; ")
}

// maxRefusals is how many files an error names.
const maxRefusals = 5

// judge holds a target's image against its platform, and runs its tests.
func (b *build) judge(ctx context.Context, t *target, out built) (Judgement, error) {
	j := Judgement{Report: verify.Report{Platform: t.platform}}
	if t.verify != verifyOff {
		report, err := b.verify(ctx, t, out)
		if err != nil {
			var warned bool
			if report, warned = t.unverified(err); !warned {
				return j, fmt.Errorf("verifying the image: %w", err)
			}
		}
		j.Report = report
		j.otherBase = out.otherBase(report.Platform)
		allowed := t.pinnedByHand() || j.otherBase && onlyBase(report, out)
		if report.Verdict == verify.Refused && t.verify == verifyStrict && !allowed {
			return j, t.gateError(report)
		}
	}
	return j, b.test(ctx, t, out, &j)
}

// unverified is the report of an image that is too large to be looked at to its end, where that is a warning.
func (t *target) unverified(err error) (_ verify.Report, warned bool) {
	limit, ok := errors.AsType[*verify.LimitError](err)
	if !ok || t.verify != verifyWarn {
		return verify.Report{}, false
	}
	return verify.Report{
		Platform: t.platform, Verdict: verify.Excepted, Broken: true,
		Warnings: []verify.Finding{{Path: "/", Message: "was not looked at to its end: it holds " + limit.Error()}},
	}, true
}

// verify looks at the root filesystem of a target's image.
func (b *build) verify(ctx context.Context, t *target, out built) (verify.Report, error) {
	image := out.converted.Image.Image
	image.Config = out.converted.Image.Config.ImageConfig // Docker's config is beside that of the OCI, which stays empty
	want := verify.Want{Platform: t.platform, Except: t.except, Likely: true, Inherited: t.implicit || out.inheritsStart()}
	if t.implicit {
		want.Platform = platforms.FromOCI(image.Platform) // the base image decides
	}
	if image.OS == "" || image.Architecture == "" {
		image.Platform, want.Platform = t.platform.OCI(), t.platform // as the exporter fills it in
	}
	if out.result.Reference == nil {
		return verify.FS(nothing{}, image, want)
	}
	report, err := b.look(ctx, t, out, image, want)
	if err == nil && len(report.Refused) > 0 {
		report.Excuse(b.fromBase(ctx, t, out))
	}
	return report, err
}

// look finds out what is in an image. In the frontend's own image that is one exec; elsewhere files are asked for one by one, which is the less work
// unless they are in very many folders.
func (b *build) look(ctx context.Context, t *target, out built, image ocispec.Image, want verify.Want) (verify.Report, error) {
	own, err := b.ownScanner()
	if err != nil {
		return verify.Report{}, err
	}
	if own != nil {
		if report, ok, err := b.scan(ctx, own, t, out, image, want); ok || err != nil {
			return report, err
		}
	}
	most := 0
	sent := b.sentScanner()
	if sent != nil {
		most = maxFolders
	}
	files, err := b.files(ctx, out, most)
	if errors.Is(err, errManyFolders) {
		if report, ok, err := b.scan(ctx, sent, t, out, image, want); ok || err != nil {
			return report, err
		}
		files, err = b.files(ctx, out, 0)
	}
	if err != nil {
		return verify.Report{}, err
	}
	return files.Report(image, want)
}

// fromBase tells what came with the base image of a target. The image is only looked at if it is asked.
func (b *build) fromBase(ctx context.Context, t *target, out built) func(string) bool {
	base := sync.OnceValue(func() client.Reference {
		ref, err := b.baseOf(ctx, t, out)
		if err != nil {
			return nil // nothing is excused
		}
		return ref
	})
	return func(name string) bool {
		same, err := sameFile(ctx, out.result.Reference, base(), name)
		return err == nil && same
	}
}

// baseOf is the image that a target's exported image begins with; nil if there is none.
func (b *build) baseOf(ctx context.Context, t *target, out built) (client.Reference, error) {
	i := slices.IndexFunc(t.plan.Images, func(i dockerfile.StageImage) bool { return i.Exported && i.Target == t.platform })
	if i < 0 || t.plan.Images[i].Name == "scratch" {
		return nil, errors.New("it has no base image")
	}
	def, err := out.converted.State.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	source, err := imageSource(def.ToPB(), t.plan.Images[i])
	if err != nil {
		return nil, err
	}
	res, err := b.client.Solve(ctx, client.SolveRequest{Definition: source, Evaluate: true})
	if err != nil {
		return nil, err
	}
	return res.SingleRef()
}

// imageSource is the part of a definition that fetches an image.
func imageSource(def *pb.Definition, image dockerfile.StageImage) (*pb.Definition, error) {
	want, err := reference.ParseNormalizedNamed(image.Name)
	if err != nil {
		return nil, err
	}
	for _, dt := range def.GetDef() {
		var op pb.Op
		if err := op.UnmarshalVT(dt); err != nil {
			return nil, err
		}
		name, ok := strings.CutPrefix(op.GetSource().GetIdentifier(), "docker-image://")
		if !ok {
			continue
		}
		got, err := reference.ParseNormalizedNamed(name)
		if err != nil || !sameImage(got, want) || platforms.FromOCI(op.GetPlatform().Spec()) != image.Platform {
			continue
		}
		return vertex(def, dt)
	}
	return nil, fmt.Errorf("%s is not fetched", image.Name)
}

// sameImage compares repository and tag, and the digest where both have one: BuildKit adds it.
func sameImage(a, b reference.Named) bool {
	tag := func(n reference.Named) string {
		if t, ok := reference.TagNameOnly(n).(reference.Tagged); ok {
			return t.Tag()
		}
		return ""
	}
	da, okA := a.(reference.Digested)
	db, okB := b.(reference.Digested)
	return a.Name() == b.Name() && tag(a) == tag(b) && (!okA || !okB || da.Digest() == db.Digest())
}

// otherBase reports whether the base image is for another platform, as its own config says. BuildKit warns of that (InvalidBaseImagePlatform).
func (out built) otherBase(p platforms.Platform) bool {
	base := out.converted.BaseImage
	return base != nil && platforms.FromOCI(base.Platform) != p
}

// inheritsStart reports whether the image starts what its base image starts, and nothing else is said of it.
func (out built) inheritsStart() bool {
	base := out.converted.BaseImage
	if base == nil {
		return false
	}
	config := out.converted.Image.Config
	return slices.Equal(config.Entrypoint, base.Config.Entrypoint) && slices.Equal(config.Cmd, base.Config.Cmd)
}

// onlyBase reports whether all that is refused came with the base image, and the image starts nothing but the shell that its base starts: data
// on a base image, which BuildKit builds.
func onlyBase(report verify.Report, out built) bool {
	config := out.converted.Image.Config
	if len(config.Entrypoint) > 0 || len(config.Cmd) != 1 || !slices.Equal(config.Cmd, out.converted.BaseImage.Config.Cmd) {
		return false
	}
	return slices.Contains([]string{"sh", "ash", "bash"}, path.Base(config.Cmd[0])) &&
		!slices.ContainsFunc(report.Refused, func(f verify.Finding) bool { return !f.Base })
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

// moved lists the stages that were moved to the build platform.
func (t *target) moved() []string {
	var out []string
	for _, s := range t.steps() {
		if s.Moved {
			out = append(out, s.Stage)
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
	var list []verify.Finding
	for _, f := range j.Report.Refused { // by verify=warn, or by the user's own word
		if !f.Base || !j.otherBase {
			list = append(list, f)
		}
	}
	for _, f := range j.Report.Warnings {
		if f.Path != "" && !j.otherBase {
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
	// Moved are the stages of the image that ran on the build platform instead of the target. Nil means none.
	Moved []string
	// Err is what happened.
	Err error
}

// Error names the command.
func (e *TestError) Error() string {
	how := ""
	if e.Emulated {
		how = " (under emulation)"
	}
	out := fmt.Sprintf("test %q%s: %v", e.Command, how, e.Err)
	if len(e.Moved) > 0 {
		out += fmt.Sprintf("; if it passes with --strategy=emulate, moving %s was at fault", strings.Join(e.Moved, ", "))
	}
	return out
}

// Unwrap returns what happened.
func (e *TestError) Unwrap() error { return e.Err }

// test runs a target's tests in its own image, as its own user, with the config's environment and directory; the entrypoint is ignored.
func (b *build) test(ctx context.Context, t *target, out built, j *Judgement) error {
	platform := out.converted.Image.Platform
	emulated := !b.node().RunsNatively(platforms.FromOCI(platform))
	for _, command := range t.tests {
		if err := b.runTest(ctx, t, out, command, platform); err != nil {
			return &TestError{Command: command, Emulated: emulated, Moved: t.moved(), Err: err}
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
	_, err = b.client.Solve(ctx, client.SolveRequest{Definition: again(def), CacheImports: t.group.ui.CacheImports, Evaluate: true})
	return err
}
