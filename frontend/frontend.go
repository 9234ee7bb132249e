package frontend

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/subrequests"
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
	// Planned is called, before anything is built, with the targets that the request or the Dockerfile's header named
	// (none if neither did) and how each stage is going to be run for each; and again if a target has to be built in another way.
	// Its error is the build's; after the first call, nothing is built then. Nil means nobody asks. It is not called for a subrequest or where another
	// frontend is asked.
	Planned func(targets []platforms.Platform, steps []dockerfile.Step) error
	// Judged is called, when all targets have been built, with what the gate found for each, in the order of the targets; also if some of them
	// failed. Nil means nobody asks.
	Judged func([]Judgement)
	// CacheDir is a folder in which is remembered what base images hold, by their digests, so that the gate need not read them again. It is
	// made if need be. Empty means that nothing is remembered; the image's own gate needs nothing. What one node says of an image is believed for all
	// nodes, and a build whose source policy replaces images must not share the folder.
	CacheDir string
	// Program is what the gate may run on the node to read an image, where this process was not started from the frontend's image. The zero value
	// means that every image is read through the gateway.
	Program Program
	// Launcher is the command manifold-accel for the build platform, linked statically, where this process was not started from the frontend's
	// image. The zero value means that nothing is accelerated.
	Launcher Program
	// Outline leaves what only steps on the node could answer open in a plan: see [RequestPlan]. It is then made in no time, and is what holds if all
	// is answered well.
	Outline bool
	// Carry is the name of a stage that several targets share. The result is then no image of the Dockerfile's, but one that holds what stages that run
	// on their target take from it, for a node that builds another target of the same image: as named build context in the stage's place it makes that
	// node take the same files. The error is [ErrNotCarried] where there is nothing of the kind. Empty means that the Dockerfile is built.
	Carry string
	// Pins are what names stand for, found out once for several builds. Nil means that this build finds out for itself.
	Pins *Pins
	// FailFast ends the build when the first target has failed. Otherwise the others are built to their end, and all that failed is reported.
	FailFast bool
	// Optional are targets that may be missing from the result if they fail, which then says so: see [AnnotationMissing]. One has to be left. Nil means
	// none.
	Optional []platforms.Pattern
}

// AnnotationMissing is the index's annotation that lists targets which were asked for, may be missing (see [Config.Optional]) and are.
const AnnotationMissing = "io.github.manifold-build.missing"

// ErrOtherFrontend is wrapped by the error for an outline of a Dockerfile whose syntax line asks for another frontend, which has no plan.
var ErrOtherFrontend = errors.New("another frontend is asked for, which does not plan")

// Program is a file of the client's that is run on the node without any other one, so it has to be linked statically, for the build platform. The one that
// answers [ScanCommand] by [Scan] is asked for only if this process is on the node's machine: elsewhere sending it may take longer than it saves.
type Program struct {
	// Folder is the name of the client's local folder that holds it, and Path where it is in there.
	Folder, Path string
}

// Build answers one gateway request: it builds every target and returns one result for all of them, or answers a
// subrequest (describe, outline, targets, lint, convertllb, plan). It has the type of a gateway BuildFunc.
//
// Where targets fail, all the others are still built to their end, so that one run reports everything; the error is
// then of type [TargetsError]. A Dockerfile whose syntax line names a frontend other than this one or the reference
// is passed on to that frontend whole.
func (cfg Config) Build(ctx context.Context, c client.Client) (*client.Result, error) {
	b, err := newBuild(newResolveCache(c, cfg.Pins))
	if err != nil {
		return nil, err
	}
	b.outline, b.failFast, b.optional = cfg.Outline, cfg.FailFast, cfg.Optional
	b.started, b.cacheDir, b.program, b.launcher = c, cfg.CacheDir, cfg.Program, cfg.Launcher
	forwardable, capsErr := checkCaps(b.rest["frontend.caps"])
	if capsErr != nil && !forwardable {
		return nil, capsErr
	}
	first, err := b.openFirst(ctx)
	if err != nil {
		return nil, err
	}
	if s, ok := foreignSyntax(b.rest, first.src.Data); ok {
		if cfg.Outline {
			return nil, fmt.Errorf("%s: %w", s.ref, ErrOtherFrontend)
		}
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
	b.builds = true
	defer b.ahead.Wait()
	if cfg.Carry != "" {
		if err := b.plan(ctx); err != nil {
			return nil, err
		}
		return b.carry(ctx, cfg.Carry)
	}
	err = b.leaveOutUnable(ctx, b.plan(ctx))
	if cfg.Planned != nil {
		if refused := cfg.Planned(b.named(), b.steps()); err == nil {
			err = refused
		}
	}
	if err != nil {
		return nil, err
	}
	if err := b.announce(ctx); err != nil {
		return nil, err
	}
	before := b.steps()
	res, err := b.run(ctx)
	if after := b.steps(); cfg.Planned != nil && !reflect.DeepEqual(before, after) {
		if refused := cfg.Planned(b.named(), after); err == nil {
			err = refused
		}
	}
	if cfg.Judged != nil {
		cfg.Judged(b.judgements())
	}
	return res, err
}

// judgements lists what the gate found, by target.
func (b *build) judgements() []Judgement {
	out := make([]Judgement, len(b.targets))
	for i, t := range b.targets {
		out[i] = t.judgement
	}
	return out
}

// subrequest answers a question about the Dockerfile instead of building it. Lint and convertllb see the text that the
// build platform is built from; outline and targets see the file. Where targets have files of their own, lint reads them
// all, and the other questions are about the first target's.
func (b *build) subrequest(ctx context.Context) (*client.Result, bool, error) {
	switch b.rest["requestid"] {
	case "":
		return nil, false, nil
	case RequestPlan:
		res, err := b.answerPlan(ctx)
		return res, true, err
	case subrequests.RequestSubrequestsDescribe:
		res, err := describe()
		return res, true, err
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
	on := b.planTarget(&target{platform: b.node().Native, group: t.group, strategy: t.strategy})
	// A plan that cannot be carried out is no obstacle to asking questions.
	plan, _ := t.group.file.Plan(dockerfile.PlanRequest{Host: b.node(), Targets: []dockerfile.Target{on}})
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
		if g := t.group; g.file != nil {
			plan, _ := g.file.Plan(dockerfile.PlanRequest{Host: b.node(), Targets: b.targetsOf(g), Images: b.images})
			for _, f := range g.wanted(append(plan.Findings, b.lacking(ctx, g, plan)...)) {
				one.AddWarning(f.Rule, ruleDescription, "", f.Message, one.AddSource(g.src.SourceMap), lineRange(f.Line))
			}
		}
		add(all, one)
	}
	return all, nil
}

// ruleDescription describes Manifold's own rules.
const ruleDescription = "What goes wrong only when a Dockerfile is built for several platforms"

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
