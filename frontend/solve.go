package frontend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	ctdplatforms "github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/attestations/sbom"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/result"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

// built is one target's outcome.
type built struct {
	result    *dockerui.BuildResult
	converted *dockerfile2llb.Result
	judgement Judgement
	err       error
}

// run builds every target, in parallel, each to its end whatever becomes of the others, and returns one result.
func (b *build) run(ctx context.Context) (*client.Result, error) {
	ui := b.targets[0].group.ui
	scanner, err := b.sbomScanner(ctx, ui)
	if err != nil {
		return nil, err
	}
	b.setBounds()
	done := b.runAll(ctx)
	for i, t := range b.targets {
		t.judgement = done[i].judgement
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	done = b.leaveOut(ctx, done)
	if err := b.failures(done); err != nil {
		return nil, err
	}
	if len(b.missing) > 0 {
		ui.TargetPlatforms = nil
		for _, t := range b.targets {
			ui.TargetPlatforms = append(ui.TargetPlatforms, t.platform.OCI())
		}
	}
	for _, t := range b.targets {
		t.warnJudgement(ctx, t.judgement)
	}
	if b.targets[0].implicit {
		// Without this dockerui would label the result with the platform of the process it runs in, which need not be
		// the node's.
		ui.TargetPlatforms = []ocispec.Platform{b.node().Native.OCI()}
	}
	rb, err := ui.Build(ctx, func(_ context.Context, _ *ocispec.Platform, i int) (*dockerui.BuildResult, error) {
		return done[i].result, nil
	})
	if err != nil {
		return nil, err
	}
	if scanner != nil {
		if err := b.scanSBOM(ctx, rb, scanner, done); err != nil {
			return nil, err
		}
	}
	res, err := rb.Finalize()
	if err == nil && len(b.missing) > 0 {
		res.AddMeta(exptypes.AnnotationIndexKey(AnnotationMissing), []byte(platforms.Format(b.missing)))
	}
	return res, err
}

// leaveOut takes the targets out that failed and may be missing, with a warning for each; the last one that is left may not be.
func (b *build) leaveOut(ctx context.Context, done []built) []built {
	var left []built
	failed := map[platforms.Platform]error{}
	for i, t := range b.targets {
		if done[i].err == nil || !b.mayMiss(t.platform) {
			left = append(left, done[i])
			continue
		}
		failed[t.platform] = done[i].err
	}
	if !b.without(ctx, failed) {
		return done
	}
	return left
}

// leaveOutUnable takes the targets out that the node cannot build and that may be missing. The error is that of the others.
func (b *build) leaveOutUnable(ctx context.Context, err error) error {
	failed := map[platforms.Platform]error{}
	left := TargetsError{Targets: len(b.targets)}
	for _, e := range unjoin(err) {
		te, ok := errors.AsType[*TargetError](e)
		if !ok {
			return err
		}
		if b.mayMiss(te.Target) {
			failed[te.Target] = te
			continue
		}
		left.Errs = append(left.Errs, te)
	}
	if len(failed) == 0 || !b.without(ctx, failed) {
		return err
	}
	return left.asError()
}

// without goes on without targets that failed, if others are left, with a warning for each.
func (b *build) without(ctx context.Context, failed map[platforms.Platform]error) bool {
	if len(failed) == 0 || len(failed) == len(b.targets) {
		return false
	}
	b.targets = slices.DeleteFunc(slices.Clone(b.targets), func(t *target) bool {
		err, gone := failed[t.platform]
		if gone {
			b.missing = append(b.missing, t.platform)
			msg := fmt.Sprintf("%s is missing from the result, as it may be: %v", t.platform, err)
			t.group.src.Warn(ctx, linter.LintFormatShort(RuleTargetMissing, msg, 1), warnOpts(nil, nil, ""))
		}
		return gone
	})
	return true
}

// RuleTargetMissing is the warning for a target that failed and is left out: see [Config.Optional].
const RuleTargetMissing = "OptionalTargetMissing"

// mayMiss reports whether a target may be missing from the result.
func (b *build) mayMiss(p platforms.Platform) bool {
	return slices.ContainsFunc(b.optional, func(o platforms.Pattern) bool { return o.Match(p) })
}

// runAll builds the targets, and those again that were built from a text that is no longer theirs, because a stage was put back for
// another target that had to be told the same.
func (b *build) runAll(ctx context.Context) []built {
	done := make([]built, len(b.targets))
	todo := b.targets
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for first := true; len(todo) > 0 && ctx.Err() == nil; first = false {
		warned := map[string]bool{}
		var wg sync.WaitGroup
		for i, t := range b.targets {
			if !slices.Contains(todo, t) {
				continue
			}
			// Warnings are the same for every target of a file; the first one's are shown.
			warn := first && !warned[t.group.src.Filename]
			warned[t.group.src.Filename] = true
			wg.Go(func() {
				out := b.runTarget(ctx, t, warn)
				if out.err != nil && errors.Is(context.Cause(ctx), errEnough) {
					out.err = errEnough
				}
				if done[i] = out; out.err != nil && b.failFast && !b.mayMiss(t.platform) {
					stop(errEnough)
				}
			})
		}
		wg.Wait()
		todo = b.stale(done)
	}
	return done
}

// errEnough ends the other targets when one has failed: see [Config.FailFast].
var errEnough = errors.New("another target has failed")

// customName is the key of a step's name in the description of its vertex (llb.WithCustomName).
const customName = "llb.customname"

// solveTarget converts one target's text and solves it.
func (b *build) solveTarget(ctx context.Context, t *target, warn bool) built {
	opt := t.group.convertOpt(ctx, b.client, warn)
	if !t.implicit {
		p := t.platform.OCI()
		opt.TargetPlatform = &p
	}
	converted, err := dockerfile2llb.Dockerfile2LLB(ctx, t.text, opt)
	if err != nil {
		return built{err: withLocations(err, t.group.src.SourceMap)}
	}
	for i, h := range converted.Image.History {
		converted.Image.History[i].CreatedBy = dockerfile.Unaccelerated(h.CreatedBy)
	}
	def, err := converted.State.Marshal(ctx)
	if err != nil {
		return built{err: fmt.Errorf("marshalling the LLB definition: %w", err)}
	}
	for _, m := range def.Metadata {
		if name, ok := m.Description[customName]; ok {
			m.Description[customName] = dockerfile.Unaccelerated(name)
		}
	}
	// Without Evaluate the target would only be run by the exporter, whose first failure hides all others, or by the gate, without cache imports.
	res, err := b.client.Solve(ctx, client.SolveRequest{
		Definition: def.ToPB(), CacheImports: t.group.ui.CacheImports, Evaluate: !t.implicit || t.verify != verifyOff || len(t.tests) > 0,
	})
	if err != nil {
		return built{err: err}
	}
	ref, err := res.SingleRef()
	if err != nil {
		return built{err: err}
	}
	return built{converted: converted, result: &dockerui.BuildResult{
		Reference: ref, Image: converted.Image, BaseImage: converted.BaseImage, Epoch: converted.Epoch,
	}}
}

// failures returns the errors of all targets that failed, in target order. The only target of a build that named no
// platform fails with the error alone, as with the reference frontend.
func (b *build) failures(done []built) error {
	errs := TargetsError{Targets: len(b.targets)}
	for i, t := range b.targets {
		if errors.Is(done[i].err, errEnough) {
			continue // it was given up
		}
		err := targetError(t.platform, t.group.file, t.crash(done[i].err))
		if t.implicit {
			return done[i].err
		}
		if te, ok := errors.AsType[*TargetError](err); ok {
			errs.Errs = append(errs.Errs, te)
		}
	}
	return errs.asError()
}

// sbomScanner makes the SBOM scanner that the request asks for, or nil.
func (b *build) sbomScanner(ctx context.Context, ui *dockerui.Client) (sbom.Scanner, error) {
	if ui.SBOM == nil {
		return nil, nil //nolint:nilnil // no scanner was asked for
	}
	platform := ui.BuildPlatforms[0]
	return sbom.CreateSBOMScanner(ctx, b.client, ui.SBOM.Generator, platform, sourceresolver.Opt{
		ImageOpt: &sourceresolver.ResolveImageOpt{ResolveMode: b.rest["image-resolve-mode"], Platform: &platform},
	}, ui.SBOM.Parameters)
}

// scanSBOM adds an SBOM attestation to every target.
func (b *build) scanSBOM(ctx context.Context, rb *dockerui.ResultBuilder, scanner sbom.Scanner, done []built) error {
	byID := map[string]*dockerfile2llb.Result{}
	for i, t := range b.targets {
		byID[ctdplatforms.FormatAll(ctdplatforms.Normalize(t.platform.OCI()))] = done[i].converted
	}
	var mu sync.Mutex
	return rb.EachPlatform(ctx, func(ctx context.Context, id string, _ ocispec.Platform) error {
		target, ok := byID[id]
		if !ok {
			return fmt.Errorf("%s: nothing to make an SBOM of", id)
		}
		var opts []llb.ConstraintsOpt
		if target.IsIgnoreCache {
			opts = append(opts, llb.IgnoreCache)
		}
		att, err := scanner(ctx, id, target.SBOM.Core, target.SBOM.Extras, opts...)
		if err != nil {
			return err
		}
		solved, err := result.ConvertAttestation(&att, func(st *llb.State) (client.Reference, error) {
			def, err := st.Marshal(ctx)
			if err != nil {
				return nil, err
			}
			r, err := b.client.Solve(ctx, client.SolveRequest{Definition: def.ToPB()})
			if err != nil {
				return nil, err
			}
			return r.Ref, nil
		})
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		rb.AddAttestation(id, *solved)
		return nil
	})
}
