package builder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/platforms"
)

// leaveOutUnable leaves out targets that may be missing and that no node can build.
func (f *fleet) leaveOutUnable() {
	for i := 0; i < len(f.placing.jobs); {
		j := f.placing.jobs[i]
		if _, err := f.placing.choices(j); err != nil && len(f.placing.jobs) > 1 && f.mayMiss(j.target) {
			f.leaveOut(j.target, err)
			f.placing.jobs = slices.Delete(f.placing.jobs, i, i+1)
			f.targets = slices.DeleteFunc(slices.Clone(f.targets), func(t platforms.Platform) bool { return t == j.target })
			continue
		}
		i++
	}
}

func (f *fleet) mayMiss(t platforms.Platform) bool {
	return slices.ContainsFunc(f.request.Optional, func(p platforms.Pattern) bool { return p.Match(t) })
}

// leaveOut notes that a target is missing.
func (f *fleet) leaveOut(t platforms.Platform, err error) {
	f.missing = append(f.missing, t)
	f.result.note("", 0, []platforms.Platform{t}, err)
	for i := range f.result.Targets {
		f.result.Targets[i].Missing = f.result.Targets[i].Missing || f.result.Targets[i].Target == t
	}
	_ = f.watch.step(fmt.Sprintf("%s is missing from the result, as it may be: %v", t, err), func() error { return nil })
}

// elsewhere places targets anew whose node was lost, once each.
func (f *fleet) elsewhere(n int, targets []platforms.Platform, lost error) ([]int, []job) {
	p := f.placing
	p.jobs = nil
	for i := range f.placing.jobs {
		j := &f.placing.jobs[i]
		j.fits = slices.Clone(j.fits)
		j.fits[n] = unable
		if !slices.Contains(targets, j.target) {
			continue
		}
		f.tried[j.target] = append(f.tried[j.target], lost)
		_, none := f.placing.choices(*j)
		if len(f.tried[j.target]) <= 1 && !f.wroteToStdout() && none == nil {
			p.jobs = append(p.jobs, *j)
			continue
		}
		if f.mayMiss(j.target) && len(f.missing)+1 < len(f.targets) {
			f.leaveOut(j.target, f.lostError(n, j.target))
			continue
		}
		f.failed[j.target] = f.lostError(n, j.target)
		if f.request.FailFast {
			f.stop()
		}
	}
	if len(p.jobs) == 0 {
		return nil, nil
	}
	at, err := p.place()
	if err != nil {
		f.fatal = err
		return nil, nil
	}
	_ = f.watch.step(fmt.Sprintf("%v: %s", lost, p.describe(at)), func() error { return nil })
	return at, p.jobs
}

// wroteToStdout reports whether the result goes to standard output, of which nothing can be taken back.
func (f *fleet) wroteToStdout() bool {
	return f.parts == nil && slices.ContainsFunc(f.exports.archives, func(a *archive) bool { return !a.whole && a.opened })
}

// lostError is the error of a target that no node is left for.
func (f *fleet) lostError(n int, t platforms.Platform) error {
	return &TargetError{Target: t, Node: f.Nodes[n].Name, Err: fmt.Errorf("%s: %w; no other node is left that can build it", t, errors.Join(f.tried[t]...))}
}

// fail notes that targets failed on a node that is sound. None is tried elsewhere: each was placed where it is done best, natively if a node can.
func (f *fleet) fail(ctx context.Context, node *Node, err error) {
	var own []error
	if several, ok := errors.AsType[*TargetsError](err); ok {
		own = several.Errs
	} else {
		own = []error{err}
	}
	for _, e := range own {
		one, ok := errors.AsType[*TargetError](e)
		switch {
		case ctx.Err() != nil && !ok:
		case !ok && f.fatal == nil:
			f.fatal = fmt.Errorf("on %s: %w", node.Name, err)
			f.stop()
		case ok && f.mayMiss(one.Target) && len(f.missing)+1 < len(f.targets):
			f.leaveOut(one.Target, e)
		case ok:
			f.failed[one.Target] = e
			if f.request.FailFast {
				f.stop()
			}
		}
	}
}

// joinTargets is the error of several targets; what failed alike is one.
func joinTargets(errs []error) error {
	var lines []string
	for _, err := range errs {
		if !slices.Contains(lines, err.Error()) {
			lines = append(lines, err.Error())
		}
	}
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return &TargetsError{Message: strings.Join(lines, "\n"), Errs: errs}
}

func names(nodes []*Node) string {
	out := make([]string, len(nodes))
	for i, n := range nodes {
		out[i] = n.Name
	}
	return strings.Join(out, ", ")
}
