package frontend

import (
	"context"
	"errors"
	"slices"

	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/subrequests/convertllb"
	"github.com/moby/buildkit/frontend/subrequests/lint"
	"github.com/moby/buildkit/frontend/subrequests/outline"
	"github.com/moby/buildkit/frontend/subrequests/targets"
	"github.com/moby/buildkit/solver/pb"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

// Config is a frontend. The zero value behaves as the published image.
type Config struct {
	// Planned is called once, before anything is run, with the targets that the request or the Dockerfile's header named
	// (none if neither did) and how each stage is going to be run for each. Nil means nobody asks. It is not called for
	// a subrequest or where another frontend is asked.
	Planned func(targets []platforms.Platform, steps []dockerfile.Step)
}

// Build answers one gateway request: it builds every target and returns one result for all of them, or answers a
// subrequest (describe, outline, targets, lint, convertllb). It has the type of a gateway BuildFunc.
//
// Where targets fail, all the others are still built to their end, so that one run reports everything; the error is
// then of type [TargetsError]. A Dockerfile whose syntax line names a frontend other than this one or the reference
// is passed on to that frontend whole.
func (cfg Config) Build(ctx context.Context, c client.Client) (*client.Result, error) {
	b, err := newBuild(newResolveCache(c))
	if err != nil {
		return nil, err
	}
	forwardable, capsErr := checkCaps(b.rest["frontend.caps"])
	if capsErr != nil && !forwardable {
		return nil, capsErr
	}
	first, err := b.openFirst(ctx)
	if err != nil {
		return nil, err
	}
	if s, ok := foreignSyntax(b.rest, first.src.Data); ok {
		if err := b.refuseOwnOptions(s, first); err != nil {
			return nil, err
		}
		return forward(ctx, withOpts{b.client, b.rest}, s, first.src)
	}
	if capsErr != nil {
		return nil, capsErr
	}
	if err := b.resolve(ctx, first); err != nil {
		return nil, err
	}
	if res, ok, err := b.subrequest(ctx); ok || err != nil {
		return res, err
	}
	steps, err := b.plan(ctx)
	if cfg.Planned != nil {
		cfg.Planned(b.named(), steps)
	}
	if err != nil {
		return nil, err
	}
	return b.run(ctx)
}

// subrequest answers a question about the Dockerfile instead of building it. Lint and convertllb see the text that the
// build platform is built from; outline and targets see the file. Where targets have files of their own, lint reads them
// all, and the other questions are about the first target's.
func (b *build) subrequest(ctx context.Context) (*client.Result, bool, error) {
	if _, ok := b.rest["requestid"]; !ok {
		return nil, false, nil
	}
	first := b.targets[0].group
	opt := first.convertOpt(ctx, b.client, true)
	return first.ui.HandleSubrequest(ctx, dockerui.RequestHandler{
		Outline: func(ctx context.Context) (*outline.Outline, error) {
			return dockerfile2llb.Dockerfile2Outline(ctx, first.src.Data, opt)
		},
		ListTargets: func(ctx context.Context) (*targets.List, error) {
			return dockerfile2llb.ListTargets(ctx, first.src.Data)
		},
		Lint: func(ctx context.Context) (*lint.LintResults, error) { return b.lint(ctx) },
		ConvertLLB: func(ctx context.Context) (*convertllb.Result, error) {
			text, err := b.onBuildPlatform(b.targets[0])
			if err != nil {
				return nil, err
			}
			return dockerfile2llb.DockerfileConvertLLB(ctx, text, opt)
		},
	})
}

// onBuildPlatform is the text of a target's file as the build platform is built from it.
func (b *build) onBuildPlatform(t *target) ([]byte, error) {
	if t.group.file == nil {
		return t.group.src.Data, nil // the converter says what is wrong with it
	}
	on := b.planTarget(&target{platform: b.host.Native, group: t.group, strategy: t.strategy})
	// A plan that cannot be carried out is no obstacle to asking questions.
	plan, _ := t.group.file.Plan(dockerfile.PlanRequest{Host: b.host, Targets: []dockerfile.Target{on}})
	return t.group.file.For(on.Platform, plan)
}

// lint checks every file of the build.
func (b *build) lint(ctx context.Context) (*lint.LintResults, error) {
	all := &lint.LintResults{Warnings: []lint.Warning{}}
	seen := map[string]bool{}
	for _, t := range b.targets {
		if seen[t.group.src.Filename] {
			continue
		}
		seen[t.group.src.Filename] = true
		text, err := b.onBuildPlatform(t)
		if err != nil {
			return nil, err
		}
		one, err := dockerfile2llb.DockerfileLint(ctx, text, t.group.convertOpt(ctx, b.client, true))
		if err != nil {
			return nil, err
		}
		add(all, one)
	}
	return all, nil
}

// add appends one file's lint results to those of others.
func add(all, one *lint.LintResults) {
	offset := int32(len(all.Sources)) //nolint:gosec // as many as there are Dockerfiles
	move := func(l *pb.Location) {
		if l.GetSourceIndex() >= 0 && l != nil {
			l.SourceIndex += offset
		}
	}
	for _, w := range one.Warnings {
		move(w.Location)
		all.Warnings = append(all.Warnings, w)
	}
	all.Sources = append(all.Sources, one.Sources...)
	if all.Error == nil && one.Error != nil {
		move(&one.Error.Location)
		all.Error = one.Error
	}
}

// plan decides how every stage is run and writes each target's text. Its steps are valid even if the error is not nil.
func (b *build) plan(ctx context.Context) ([]dockerfile.Step, error) {
	plans, refused := b.planFiles()
	if foreign := cannotRun(refused); len(foreign) > 0 && b.probe(ctx, foreign) {
		plans, refused = b.planFiles()
	}
	warned := map[*group]bool{}
	var steps []dockerfile.Step
	errs := TargetsError{Targets: len(b.targets)}
	for _, t := range b.targets {
		plan, ok := plans[t.group]
		t.text = t.group.src.Data
		if !ok {
			continue
		}
		if !warned[t.group] {
			t.group.warn(ctx, plan.Findings)
		}
		warned[t.group] = true
		text, err := t.group.file.For(t.platform, plan)
		if err != nil {
			return nil, err
		}
		t.text = text
		for _, s := range plan.Steps {
			if s.Target == t.platform {
				steps = append(steps, s)
			}
		}
		for _, se := range refused {
			if se.Target == t.platform {
				errs.Errs = append(errs.Errs, t.group.refusal(se))
			}
		}
	}
	return steps, errs.asError()
}

// planFiles plans every file for its targets, and returns with the plans what the node cannot do. A file that does not
// parse has no plan: the converter says what is wrong with it.
func (b *build) planFiles() (map[*group]dockerfile.Plan, []*dockerfile.StageError) {
	byGroup := map[*group][]dockerfile.Target{}
	for _, t := range b.targets {
		byGroup[t.group] = append(byGroup[t.group], b.planTarget(t))
	}
	plans := map[*group]dockerfile.Plan{}
	var refused []*dockerfile.StageError
	for g, targets := range byGroup {
		if g.file == nil {
			continue
		}
		plan, err := g.file.Plan(dockerfile.PlanRequest{Host: b.host, Targets: targets})
		for _, err := range unjoin(err) {
			if se, ok := errors.AsType[*dockerfile.StageError](err); ok && b.hostKnown {
				refused = append(refused, se)
			}
		}
		plans[g] = plan
	}
	return plans, refused
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
