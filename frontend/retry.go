package frontend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/moby/buildkit/frontend/dockerfile/linter"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

// RuleBuiltAgain is the warning for a target that was built again with a stage on the target that had been moved in vain.
const RuleBuiltAgain = "BuiltAgainUnderEmulation"

// There is one rule for trying again. Where something fails, or is refused, the stages at and behind it that the plan has moved, or has told their
// target, are put back as the Dockerfile has them, and the target is built once more: moving must not make a build fail, or differ, that
// would have passed. It is the user's own error only if the same step is seen to fail on the build platform without any of the plan's doing.

// runTarget builds one target, again as often as stages are put back.
func (b *build) runTarget(ctx context.Context, t *target, warn bool) built {
	end, err := b.whole.start(ctx, t)
	if err != nil {
		return built{err: err}
	}
	defer end()
	for {
		out, back := b.attempt(ctx, t, warn)
		warn = false
		if len(back) == 0 || ctx.Err() != nil {
			return out
		}
		was := t.steps()
		if err := b.putBack(ctx, t, back); err != nil {
			// The node cannot run the stages on the target, so what happened first is what there is to say.
			if out.err != nil {
				return out
			}
			return built{err: errors.Join(errors.New(back[0].Reason), err)}
		}
		for _, r := range back {
			t.warnAgain(ctx, r, was)
		}
	}
}

// putBack plans a target with stages left where they were, and looks for an emulator if it takes one that the node does not
// report.
func (b *build) putBack(ctx context.Context, t *target, back []dockerfile.PutBack) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := t.group
	g.planner.PutBack(back...)
	plan, err := g.planner.Plan()
	if foreign := cannotRun(ofTarget(err, t)); len(foreign) > 0 && b.findEmulators(ctx, foreign) {
		plan, err = g.planner.Plan()
	}
	if own := ofTarget(err, t); len(own) > 0 && b.hostKnown {
		return own[0]
	}
	t.plan = plan
	return t.write()
}

// stale lists the targets whose text is no longer what they were built from. Those that failed or cannot be planned otherwise stay as they are.
func (b *build) stale(done []built) []*target {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*target
	for i, t := range b.targets {
		if !t.planned || done[i].err != nil {
			continue
		}
		plan, err := t.group.planner.Plan()
		text, textErr := t.group.planner.Text(t.platform)
		if len(ofTarget(err, t)) > 0 || textErr != nil || bytes.Equal(text, t.text) {
			continue
		}
		t.plan, t.text = plan, text
		out = append(out, t)
	}
	return out
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

// ofTarget lists the parts of a plan's error that are about a target.
func ofTarget(err error, t *target) []*dockerfile.StageError {
	return slices.DeleteFunc(stageErrors(err), func(se *dockerfile.StageError) bool { return se.Target != t.platform })
}

// warnAgain says that a stage is run on the target after all, or without other compilers, and why.
func (t *target) warnAgain(ctx context.Context, r dockerfile.PutBack, was []dockerfile.Step) {
	s := t.group.file.Stages[r.Stage]
	how := fmt.Sprintf("is run on %s after all", t.platform)
	if slices.ContainsFunc(was, func(step dockerfile.Step) bool {
		return step.Index() == r.Stage && step.Strategy == platforms.Accelerate
	}) {
		how = fmt.Sprintf("is compiled for %s under emulation after all (if it passes, please report the line)", t.platform)
	}
	msg := fmt.Sprintf("stage %s %s: %s", s.Title(), how, r.Reason)
	t.group.src.Warn(ctx, linter.LintFormatShort(RuleBuiltAgain, msg, s.Line), warnOpts(lineRange(s.Line), nil, ""))
}

// attempt builds a target as planned, and looks at what is taken from its moved stages meanwhile. It returns the stages to put back.
func (b *build) attempt(ctx context.Context, t *target, warn bool) (built, []dockerfile.PutBack) {
	end, err := b.solves.start(ctx, t)
	if err != nil {
		return built{err: err}, nil
	}
	checks := t.checks()
	found := make([]*dockerfile.PutBack, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() { found[i] = b.check(ctx, t, c) })
	}
	out := b.solveTarget(ctx, t, warn)
	wg.Wait()
	end()
	var back []dockerfile.PutBack
	for _, r := range found {
		if r != nil {
			back = append(back, *r)
		}
	}
	if len(back) > 0 {
		return out, back
	}
	if out.err == nil {
		out.judgement, out.err = b.judge(ctx, t, out)
	}
	if out.err != nil {
		back = b.inVain(ctx, t, out)
	}
	return out, back
}

// checks are those of the target's plan.
func (t *target) checks() []dockerfile.Check {
	var out []dockerfile.Check
	for _, c := range t.plan.Checks {
		if c.Target == t.platform && t.strategy == platforms.Auto {
			out = append(out, c)
		}
	}
	return out
}

// inVain lists the stages to put back after a failure.
func (b *build) inVain(ctx context.Context, t *target, out built) []dockerfile.PutBack {
	if !t.planned || t.strategy != platforms.Auto && t.strategy != platforms.Accelerate || ctx.Err() != nil {
		return nil
	}
	if gate, ok := errors.AsType[*GateError](out.err); ok {
		return b.refusedInVain(t, gate)
	}
	test, tested := errors.AsType[*TestError](out.err)
	at, ok := errors.AsType[*TargetError](targetError(t.platform, t.group.file, out.err))
	if !ok || at.stage < 0 && !tested {
		return nil // no step of the file: a registry or a node that is down would be as down after a slower build
	}
	changed := b.changed(func() []int {
		if tested {
			return t.group.planner.ChangedAt(t.platform, "")
		}
		return t.group.planner.Changed(t.platform, at.stage)
	})
	if len(changed) == 0 {
		return nil
	}
	if tested {
		if b.failsNatively(ctx, t, -1, 0, test.Command) {
			return nil
		}
		return putBacks(t, changed, fmt.Sprintf("test %q failed", test.Command))
	}
	if b.failsNatively(ctx, t, at.stage, at.Line, "") {
		return nil
	}
	return putBacks(t, changed, fmt.Sprintf("line %d failed, and passes on %s where nothing is moved", at.Line, b.node().Native))
}

// changed asks a planner while nobody changes it.
func (b *build) changed(ask func() []int) []int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return ask()
}

func putBacks(t *target, stages []int, reason string) []dockerfile.PutBack {
	var out []dockerfile.PutBack
	for _, i := range stages {
		out = append(out, dockerfile.PutBack{Stage: i, Target: t.platform, Reason: reason})
	}
	return out
}

// refusedInVain lists the stages that what the gate refused for being the build platform's code may have come from. Whatever else is wrong with an image
// would be as wrong after a slower build.
func (b *build) refusedInVain(t *target, gate *GateError) []dockerfile.PutBack {
	var out []dockerfile.PutBack
	for _, f := range gate.Report.Refused {
		if f.Machine != b.node().Native.Architecture || f.Base {
			continue
		}
		changed := b.changed(func() []int { return t.group.planner.ChangedAt(t.platform, f.Path) })
		for _, back := range putBacks(t, changed, "the image is refused: "+f.String()) {
			if !slices.ContainsFunc(out, func(o dockerfile.PutBack) bool { return o.Stage == back.Stage }) {
				out = append(out, back)
			}
		}
	}
	return out
}

// failsNatively reports whether the same step fails on the build platform, with the Dockerfile as it is written: the instruction at a line of a stage,
// or a test of the whole image.
func (b *build) failsNatively(ctx context.Context, t *target, stageIndex, line int, test string) bool {
	own := &target{platform: b.node().Native, group: t.group, strategy: platforms.Native, planned: true, text: nil}
	planner := t.group.file.Open(dockerfile.PlanRequest{Host: b.node(), Targets: []dockerfile.Target{b.planTarget(own)}})
	if _, err := planner.Plan(); err != nil {
		return false
	}
	if test != "" {
		var err error
		if own.text, err = planner.Text(own.platform); err != nil {
			return false
		}
		out := b.solveTarget(ctx, own, false)
		return out.err == nil && b.runTest(ctx, own, out, test, own.platform.OCI()) != nil
	}
	text, err := planner.TextUntil(own.platform, stageIndex, line)
	if err != nil {
		return false
	}
	_, _, err = b.solveText(ctx, t.group, text, own.platform)
	at, ok := errors.AsType[*TargetError](targetError(own.platform, t.group.file, err))
	return ok && at.Line == line
}
