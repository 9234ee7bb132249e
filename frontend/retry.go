package frontend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/moby/buildkit/frontend/dockerfile/linter"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

// RuleBuiltAgain is the warning for a target that was built again with a stage under emulation that had been moved in vain.
const RuleBuiltAgain = "BuiltAgainUnderEmulation"

// runTarget builds one target. Where a stage was moved to the build platform in vain, the target is built once more with that
// stage on the target itself: moving must not make a build fail, or differ, that would have passed.
func (b *build) runTarget(ctx context.Context, t *target, warn bool) built {
	end, err := b.whole.start(ctx, t)
	if err != nil {
		return built{err: err}
	}
	defer end()
	var refused []dockerfile.Refusal
	for {
		out, more := b.attempt(ctx, t, warn && len(refused) == 0)
		more = slices.DeleteFunc(more, func(r dockerfile.Refusal) bool {
			return slices.ContainsFunc(refused, func(o dockerfile.Refusal) bool { return o.Stage == r.Stage })
		})
		if len(more) == 0 || ctx.Err() != nil {
			return out
		}
		refused = append(refused, more...)
		if err := b.planAgain(ctx, t, refused); err != nil {
			// The node cannot emulate the target, so what happened first is what there is to say.
			if out.err != nil {
				return out
			}
			return built{err: errors.Join(errors.New(more[0].Reason), err)}
		}
		for _, r := range more {
			t.warnAgain(ctx, r)
		}
	}
}

// planAgain plans one target with stages left where they were, and looks for an emulator if it takes one that the node does not
// report.
func (b *build) planAgain(ctx context.Context, t *target, refused []dockerfile.Refusal) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	req := b.planRequest(t.group, []dockerfile.Target{b.planTarget(t)}, refused)
	plan, err := t.group.file.Plan(req)
	if foreign := cannotRun(stageErrors(err)); len(foreign) > 0 && b.probe(ctx, foreign) {
		req.Host = b.host
		plan, err = t.group.file.Plan(req)
	}
	if err != nil && b.hostKnown {
		return err
	}
	t.plan = plan
	return t.write()
}

// stageErrors lists the parts of a plan's error.
func stageErrors(err error) []*dockerfile.StageError {
	var out []*dockerfile.StageError
	for _, err := range unjoin(err) {
		if se, ok := errors.AsType[*dockerfile.StageError](err); ok {
			out = append(out, se)
		}
	}
	return out
}

// warnAgain says that a stage is run on the target after all, and why.
func (t *target) warnAgain(ctx context.Context, r dockerfile.Refusal) {
	line := 0
	for _, s := range t.steps() {
		if s.Stage == r.Stage {
			line = s.Line
		}
	}
	msg := fmt.Sprintf("stage %s is run on %s after all: %s", r.Stage, t.platform, r.Reason)
	t.group.src.Warn(ctx, linter.LintFormatShort(RuleBuiltAgain, msg, line), warnOpts(lineRange(line), nil, ""))
}

// attempt builds a target as planned, and looks at what is taken from its moved stages meanwhile. It returns the stages that were
// moved in vain.
func (b *build) attempt(ctx context.Context, t *target, warn bool) (built, []dockerfile.Refusal) {
	var wg sync.WaitGroup
	var checks []dockerfile.Probe
	for _, p := range t.plan.Checks {
		if p.Target == t.platform && t.strategy == platforms.Auto {
			checks = append(checks, p)
		}
	}
	end, err := b.solves.start(ctx, t)
	if err != nil {
		return built{err: err}, nil
	}
	refusals := make([]*dockerfile.Refusal, len(checks))
	for i, p := range checks {
		wg.Go(func() { refusals[i] = b.refuse(ctx, t, p) })
	}
	out := b.solveTarget(ctx, t, warn)
	wg.Wait()
	end()
	var refused []dockerfile.Refusal
	for _, r := range refusals {
		if r != nil {
			refused = append(refused, *r)
		}
	}
	if out.err == nil && len(refused) == 0 {
		out.judgement, out.err = b.judge(ctx, t, out)
		refused = b.inVain(t, out.err)
		if out.err != nil {
			return out, refused
		}
	}
	if out.err != nil && len(refused) == 0 {
		if r := b.movedInVain(ctx, t, out.err); r != nil {
			refused = append(refused, *r)
		}
	}
	return out, refused
}

// refuse makes a check, and refuses the stage if it finds machine code or cannot look. A stage that fails is no matter of the check's.
func (b *build) refuse(ctx context.Context, t *target, p dockerfile.Probe) *dockerfile.Refusal {
	found, err := b.check(ctx, t.group, p, t.plan)
	switch {
	case errors.Is(err, errStage), err == nil && found == "":
		return nil // the target's own build says what is wrong with the stage
	case err != nil:
		found = "what is taken from it could not be looked at"
	}
	return &dockerfile.Refusal{Stage: p.Stage, Target: t.platform, Reason: found}
}

// movedInVain decides whether a failure is one of moving: the step failed for a foreign target, in a moved stage, and the same
// stage passes for the build platform itself. Anything else is the Dockerfile's own fault.
func (b *build) movedInVain(ctx context.Context, t *target, err error) *dockerfile.Refusal {
	var at *TargetError
	if t.strategy != platforms.Auto || !errors.As(targetError(t.platform, t.group.file, err), &at) || at.Stage == "" {
		return nil
	}
	moved := slices.ContainsFunc(t.steps(), func(s dockerfile.Step) bool {
		return s.Stage == at.Stage && s.Moved && s.Strategy == platforms.Cross
	})
	if !moved {
		return nil
	}
	own := b.planTarget(&target{platform: b.host.Native, group: t.group, noMounts: t.noMounts})
	own.Strategy = platforms.Native
	plan, planErr := t.group.file.Plan(b.planRequest(t.group, []dockerfile.Target{own}, nil))
	if planErr != nil {
		return nil
	}
	src, planErr := t.group.file.StageText(at.Stage, b.host.Native, plan)
	if planErr != nil {
		return nil
	}
	if _, _, nativeErr := b.solveText(ctx, t.group, src, b.host.Native); nativeErr != nil {
		return nil
	}
	return &dockerfile.Refusal{
		Stage: at.Stage, Target: t.platform,
		Reason: fmt.Sprintf("line %d failed for %s on %s and passes for %s itself", at.Line, t.platform, b.host.Native, b.host.Native),
	}
}
