package frontend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/gateway/client"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

// maxRounds bounds how often a plan is completed by answers that raise new questions: an emulator, the base images, make, and what
// make compiles.
const maxRounds = 6

// plan decides how every stage is run and writes each target's text. The targets' plans are valid even if it fails.
func (b *build) plan(ctx context.Context) error {
	for i := range maxRounds {
		refused := b.planFiles()
		if i == 0 {
			b.fetchAhead(ctx)
		}
		foreign := cannotRun(refused)
		switch {
		case len(foreign) > 0 && b.findEmulators(ctx, foreign):
		case b.lookAtBases(ctx):
		case !b.outline && b.ask(ctx):
		default:
			return b.finishPlan(ctx, refused)
		}
	}
	// What is still open is taken to be answered badly.
	b.planFiles()
	for _, g := range b.planned() {
		for _, p := range g.plan(b).Probes {
			g.planner.Answer(dockerfile.Answer{Probe: p, Failed: true})
		}
	}
	return b.finishPlan(ctx, b.planFiles())
}

// finishPlan writes the targets' texts, shows the findings, and returns what the node cannot do.
func (b *build) finishPlan(ctx context.Context, refused []*dockerfile.StageError) error {
	warned := map[*group]bool{}
	errs := TargetsError{Targets: len(b.targets)}
	for _, t := range b.targets {
		if err := t.write(); err != nil {
			return err
		}
		if !t.planned {
			continue
		}
		if !warned[t.group] {
			t.group.warn(ctx, t.plan.Findings)
		}
		warned[t.group] = true
		for _, se := range refused {
			if se.Target == t.platform {
				errs.Errs = append(errs.Errs, t.group.refusal(se))
			}
		}
	}
	return errs.asError()
}

// write writes the text that a target is built from.
func (t *target) write() (err error) {
	t.text = t.group.src.Data
	if t.planned {
		t.text, err = t.group.planner.Text(t.platform)
	}
	return err
}

// steps lists how every stage is run, by target.
func (b *build) steps() []dockerfile.Step {
	var out []dockerfile.Step
	for _, t := range b.targets {
		out = append(out, t.steps()...)
	}
	return out
}

// steps lists how the target's stages are run.
func (t *target) steps() []dockerfile.Step {
	var out []dockerfile.Step
	for _, s := range t.plan.Steps {
		if s.Target == t.platform {
			out = append(out, s)
		}
	}
	return out
}

// planned lists the groups whose file is planned, each once.
func (b *build) planned() []*group {
	var out []*group
	for _, t := range b.targets {
		if t.group.planner != nil && !slices.Contains(out, t.group) {
			out = append(out, t.group)
		}
	}
	return out
}

// plan is the latest plan of the group's file.
func (g *group) plan(b *build) dockerfile.Plan {
	for _, t := range b.targets {
		if t.group == g {
			return t.plan
		}
	}
	return dockerfile.Plan{}
}

// planFiles plans every file for its targets, and returns what the node cannot do. A file that does not parse has no plan: the
// converter says what is wrong with it.
func (b *build) planFiles() []*dockerfile.StageError {
	var refused []*dockerfile.StageError
	for _, t := range b.targets {
		if g := t.group; g.file != nil && g.planner == nil {
			g.planner = g.file.Open(dockerfile.PlanRequest{Host: b.node(), Targets: b.targetsOf(g), Images: b.images})
			g.inputs.add(g.planner.Twins())
			g.inputs.addToolchains(b.toolchainsOf(g))
		}
	}
	for _, g := range b.planned() {
		refused = append(refused, b.planGroup(g)...)
	}
	return refused
}

// planGroup plans a file for its targets with what is known, and returns what the node cannot do.
func (b *build) planGroup(g *group) []*dockerfile.StageError {
	plan, err := g.planner.Plan()
	for _, t := range b.targets {
		if t.group == g {
			t.plan, t.planned = plan, true
		}
	}
	if !b.hostKnown {
		return nil
	}
	return stageErrors(err)
}

// targetsOf lists the targets that are built from a file.
func (b *build) targetsOf(g *group) []dockerfile.Target {
	var out []dockerfile.Target
	for _, t := range b.targets {
		if t.group == g {
			out = append(out, b.planTarget(t))
		}
	}
	return out
}

// cannotRun lists the platforms that stages have to run on and the node is not known to execute, each once.
func cannotRun(refused []*dockerfile.StageError) []platforms.Platform {
	var out []platforms.Platform
	for _, se := range refused {
		if p := se.CannotRun; !p.IsZero() && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// lookAtBases reads the configs of the images that moved stages begin with, and reports whether any is new. The converter asks for
// the same ones later. An image that cannot be read is left for it to report.
func (b *build) lookAtBases(ctx context.Context) bool {
	var refs []string
	for _, t := range b.targets {
		for _, ref := range t.plan.Bases {
			if _, ok := b.images[ref]; !ok && !slices.Contains(refs, ref) && ref != "scratch" {
				refs = append(refs, ref)
			}
		}
	}
	found := make([]dockerfile.BaseImage, len(refs))
	ok := make([]bool, len(refs))
	var wg sync.WaitGroup
	for i, ref := range refs {
		wg.Go(func() { found[i], ok[i] = b.baseImage(ctx, ref) })
	}
	wg.Wait()
	var fresh []string
	images := maps.Clone(b.images)
	for i, ref := range refs {
		if ok[i] {
			images[ref] = found[i]
			fresh = append(fresh, ref)
		}
	}
	b.images = images
	for _, g := range b.planned() {
		g.planner.Look(b.images, fresh)
	}
	return len(fresh) > 0
}

// baseImage reads what a plan has to know of an image.
func (b *build) baseImage(ctx context.Context, ref string) (dockerfile.BaseImage, bool) {
	dt, err := b.imageConfig(ctx, "[internal]", ref, b.node().Native)
	if lacks(err) {
		return dockerfile.BaseImage{NotFor: "is not there for " + b.node().Native.String()}, true
	}
	if err != nil {
		return dockerfile.BaseImage{}, false
	}
	var image dockerspec.DockerOCIImage
	if err := json.Unmarshal(dt, &image); err != nil {
		return dockerfile.BaseImage{}, false
	}
	c := image.Config
	out := dockerfile.BaseImage{Env: c.Env, WorkingDir: c.WorkingDir, User: c.User, Shell: c.Shell, OnBuild: c.OnBuild}
	if own := platforms.FromOCI(image.Platform); own.OS != b.node().Native.OS || own.Architecture != b.node().Native.Architecture {
		out.NotFor = "is for " + own.String()
	}
	return out, true
}

// fetchAhead asks for the configs of all base images at once and for the .dockerignore file, while the plan is made: the converter
// asks for one after the other of a target's. What it finds is in the client's memory; errors are the converter's to report.
func (b *build) fetchAhead(ctx context.Context) {
	if !b.builds || len(b.targets) < 2 {
		return
	}
	type image struct {
		name     string
		platform platforms.Platform
	}
	seen := map[image]bool{}
	files := map[*group]bool{}
	for _, t := range b.targets {
		if !files[t.group] {
			files[t.group] = true
			b.ahead.Go(func() { _, _ = t.group.ui.DockerIgnorePatterns(ctx) })
		}
		if len(t.group.contexts()) > 0 {
			continue // some of the names may be no images
		}
		for _, i := range t.plan.Images {
			wanted := image{i.Name, i.Platform}
			if i.Target != t.platform || i.Name == "scratch" || seen[wanted] {
				continue
			}
			seen[wanted] = true
			prefix := "[" + i.Platform.String() + " internal]"
			if slices.Contains(t.plan.Bases, i.Name) && i.Platform == b.node().Native {
				prefix = "[internal]" // the plan asks for it too
			}
			b.ahead.Go(func() { _, _ = b.imageConfig(ctx, prefix, i.Name, i.Platform) })
		}
	}
}

// imageConfig reads an image's config for a platform, as the converter will. The prefix is for the progress.
func (b *build) imageConfig(ctx context.Context, prefix, ref string, p platforms.Platform) ([]byte, error) {
	_, _, dt, err := b.resolveImage(ctx, prefix, ref, p)
	return dt, err
}

// resolveImage finds out what a name stands for on a platform.
func (b *build) resolveImage(ctx context.Context, prefix, ref string, p platforms.Platform) (string, digest.Digest, []byte, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", "", nil, err
	}
	platform := p.OCI()
	return b.client.ResolveImageConfig(ctx, reference.TagNameOnly(named).String(), sourceresolver.Opt{
		LogName:  prefix + " load metadata for " + reference.TagNameOnly(named).String(),
		ImageOpt: &sourceresolver.ResolveImageOpt{Platform: &platform, ResolveMode: b.resolveMode().String()},
	})
}

// resolveMode says where images are looked for, as the request has it.
func (b *build) resolveMode() llb.ResolveMode {
	switch b.rest["image-resolve-mode"] {
	case "pull":
		return llb.ResolveModeForcePull
	case "local":
		return llb.ResolveModePreferLocal
	}
	return llb.ResolveModeDefault
}

// lacks reports whether an error says that an image is not there for a platform.
func lacks(err error) bool {
	return err != nil && strings.Contains(err.Error(), "no match for platform")
}

// lacking finds the base images that are not there for a target.
func (b *build) lacking(ctx context.Context, g *group, plan dockerfile.Plan) []dockerfile.Finding {
	found := make([]*dockerfile.Finding, len(plan.Images))
	var wg sync.WaitGroup
	for i, image := range plan.Images {
		if image.Name == "scratch" || len(g.contexts()) > 0 {
			continue
		}
		wg.Go(func() {
			if _, err := b.imageConfig(ctx, "[internal]", image.Name, image.Platform); lacks(err) {
				found[i] = &dockerfile.Finding{
					Target: image.Target, Line: image.Line, Rule: dockerfile.RuleBaseLacksTarget,
					Message: fmt.Sprintf("the base image %s is not there for %s", image.Name, image.Platform),
				}
			}
		})
	}
	wg.Wait()
	var out []dockerfile.Finding
	for _, f := range found {
		if f != nil {
			out = append(out, *f)
		}
	}
	return out
}

// announce shows the plan in the build's progress: a line for each target of which a stage was moved.
func (b *build) announce(ctx context.Context) error {
	st := llb.Scratch()
	lines := 0
	for _, t := range b.targets {
		line, moved := t.summary()
		if !moved {
			continue
		}
		lines++
		st = st.File(llb.Mkfile("/plan", 0o644, []byte(line)), llb.WithCustomName("[manifold] "+line))
	}
	if lines == 0 {
		return nil
	}
	def, err := st.Marshal(ctx, llb.Platform(b.node().Native.OCI()))
	if err != nil {
		return err
	}
	_, err = b.client.Solve(ctx, client.SolveRequest{Definition: def.ToPB(), Evaluate: true})
	return err
}

// summary is a target's plan in one line, and whether any stage of it was moved or is accelerated.
func (t *target) summary() (string, bool) {
	moved := false
	var parts []string
	for _, s := range t.steps() {
		if !s.Executes {
			continue
		}
		moved = moved || s.Strategy == platforms.Cross || s.Strategy == platforms.Shared || s.Strategy == platforms.Accelerate
		parts = append(parts, s.Stage+" "+s.Strategy.String()+" ("+s.Reason+")")
	}
	return t.platform.String() + ": " + strings.Join(parts, "; "), moved
}

// refusal turns a plan's stage error into a target error with its source lines.
func (g *group) refusal(se *dockerfile.StageError) *TargetError {
	return &TargetError{
		Target: se.Target, Stage: se.Stage, File: se.File, Line: se.Line,
		Err: withSource(errors.New(se.Problem), g.src.SourceMap, lineRange(se.Line)),
	}
}

func unjoin(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}
