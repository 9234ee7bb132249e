package builder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/manifold-build/manifold/frontend"
	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/platforms"
)

// fleet is a build on several nodes.
type fleet struct {
	Builder

	request  Request
	exports  *exportPlan
	parts    *parts // nil where one target is built, whose node writes the result
	watch    *watcher
	ready    func() error
	targets  []platforms.Platform
	outlines []outline
	placing  placing
	pins     *frontend.Pins

	mu      sync.Mutex
	result  Result
	groups  int
	tried   map[platforms.Platform][]error // what happened to a target on nodes that were lost
	failed  map[platforms.Platform]error
	missing []platforms.Platform
	built   map[platforms.Platform]int // by which node
	fatal   error                      // ends the build, whatever its targets are
	stop    func()                     // ends all that runs
	caches  int                        // groups that write a cache

	carried    []*carried
	carriedDir string
	wg         sync.WaitGroup // of all that runs
}

// buildOnMany builds each target on one of the nodes, on another one if that is lost, and puts together what they made. What is joined is nil where one
// node wrote the result; the caller closes it.
func (b Builder) buildOnMany(ctx context.Context, r Request, exports *exportPlan, watch *watcher, ready func() error) (_ Result, _ *index.Draft, err error) {
	done, err := r.keepStdin()
	if err != nil {
		return Result{}, nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	watch.times = &timings{}
	f := &fleet{
		Builder: b, request: r, exports: exports, watch: watch, ready: ready, pins: new(frontend.Pins),
		tried: map[platforms.Platform][]error{}, failed: map[platforms.Platform]error{}, built: map[platforms.Platform]int{},
	}
	f.request.pins = f.pins
	at, err := f.place(ctx)
	if err != nil {
		return f.result, nil, err
	}
	if len(f.targets)+len(f.missing) > 1 {
		if f.parts, err = newParts(exports); err != nil {
			return f.result, nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(f.parts.dir)) }()
	}
	if err := f.build(ctx, at); err != nil {
		return f.result, nil, err
	}
	f.remember()
	if f.parts == nil {
		return f.result, nil, nil
	}
	left := slices.DeleteFunc(slices.Clone(f.targets), func(t platforms.Platform) bool { return slices.Contains(f.missing, t) })
	f.result.targets = left
	var more map[string]string
	if len(f.missing) > 0 {
		more = map[string]string{frontend.AnnotationMissing: platforms.Format(f.inOrder(f.missing))}
	}
	f.sort()
	draft, err := f.parts.join(ctx, b.Registry, left, more)
	if err == nil && draft != nil {
		err = f.result.take(draft.Index, "what the nodes made")
	}
	return f.result, draft, err
}

// inOrder sorts targets as they were asked for.
func (f *fleet) inOrder(list []platforms.Platform) []platforms.Platform {
	all := f.request.Targets
	if len(all) == 0 {
		all = f.targets
	}
	return slices.SortedStableFunc(slices.Values(list), func(a, b platforms.Platform) int { return slices.Index(all, a) - slices.Index(all, b) })
}

// sort puts what the nodes said into the targets' order.
func (f *fleet) sort() {
	at := func(p platforms.Platform) int { return slices.Index(f.targets, p) }
	slices.SortStableFunc(f.result.Steps, func(a, b dockerfile.Step) int { return at(a.Target) - at(b.Target) })
	slices.SortStableFunc(f.result.Gate, func(a, b frontend.Judgement) int { return at(a.Report.Platform) - at(b.Report.Platform) })
	slices.SortStableFunc(f.result.Targets, func(a, b TargetResult) int { return at(a.Target) - at(b.Target) })
}

// PlanOnNodes is [Builder.Plan], with where each target would be built (see [Placement]), nil where there is one node. Every target's steps are those
// of its node; what only a step there could answer is then open.
func (b Builder) PlanOnNodes(ctx context.Context, r Request) (plan frontend.Plan, _ []Place, err error) {
	if len(b.Nodes) < 2 {
		plan, err = b.Plan(ctx, r)
		return plan, nil, err
	}
	done, err := r.keepStdin()
	if err != nil {
		return plan, nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	f := &fleet{Builder: b, request: r, watch: &watcher{call: r.Progress}, pins: new(frontend.Pins)}
	f.watch.times = &timings{}
	at, err := f.place(ctx)
	if err != nil {
		return plan, nil, err
	}
	var out []Place
	plan.Targets = f.targets
	for i, t := range f.targets {
		out = append(out, Place{t, b.Nodes[at[i]].Name})
		its := f.outlines[at[i]].plan
		for _, s := range its.Steps {
			if s.Target == t {
				plan.Steps = append(plan.Steps, s)
			}
		}
		for _, found := range its.Findings {
			if found.Target == t {
				plan.Findings = append(plan.Findings, found)
			}
		}
	}
	return plan, out, nil
}

// place finds out what the targets are and which node builds each. Nothing has been run when it fails.
func (f *fleet) place(ctx context.Context) ([]int, error) {
	if err := f.checkPins(); err != nil {
		return nil, err
	}
	loads := f.loads(ctx) // before this build is one of them
	f.outlines = f.Builder.outlines(ctx, f.request, f.pins, f.watch)
	var errs []error
	for _, o := range f.outlines {
		switch {
		case o.err == nil && f.targets == nil:
			f.targets = o.plan.Targets
		case o.err != nil && !o.other:
			errs = append(errs, o.err)
			_ = f.watch.step(fmt.Sprintf("%s is not asked to build: %v", o.node.Name, o.err), func() error { return nil })
		}
	}
	if len(f.request.Targets) > 0 {
		f.targets = f.request.Targets
	}
	if len(errs) == len(f.Nodes) {
		return nil, errs[0] // the Dockerfile's own fault, or the network's
	}
	if len(f.targets) == 0 {
		f.targets = []platforms.Platform{f.Nodes[0].Host.Native}
	}
	if err := f.lackingBases(); err != nil {
		return nil, err
	}
	f.placing = f.Builder.placing(f.request, f.targets, f.outlines, loads)
	f.leaveOutUnable()
	f.result.targets = f.targets
	at, err := f.placing.place()
	if err != nil {
		return nil, err
	}
	return at, f.watch.step(f.placing.describe(at), func() error { return nil })
}

// lackingBases is an error if a base image is not there for a target: no node could help.
func (f *fleet) lackingBases() error {
	var errs []error
	for _, o := range f.outlines {
		for _, finding := range o.plan.Findings {
			if finding.Rule == dockerfile.RuleBaseLacksTarget && !f.mayMiss(finding.Target) {
				errs = append(errs, &TargetError{Target: finding.Target, Line: finding.Line, Err: fmt.Errorf("%s: line %d: %s", finding.Target, finding.Line, finding.Message)})
			}
		}
		if len(errs) > 0 {
			break // they all say the same
		}
	}
	return errors.Join(errs...)
}

// build builds every target where it was placed, and again elsewhere those whose node was lost.
func (f *fleet) build(ctx context.Context, at []int) error {
	if err := f.ready(); err != nil {
		return err
	}
	f.request.CacheFrom = f.cacheUnion(ctx, f.request.CacheFrom, f.targets)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	f.stop = stop
	if err := f.carry(ctx, at); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(f.carriedDir) }()
	var start func(at []int, jobs []job)
	start = func(at []int, jobs []job) {
		byNode := map[int][]platforms.Platform{}
		for i, j := range jobs {
			byNode[at[i]] = append(byNode[at[i]], j.target)
		}
		f.caches += len(byNode)
		for _, n := range slices.Sorted(maps.Keys(byNode)) {
			f.wg.Go(func() {
				if again, jobs := f.group(ctx, n, byNode[n]); again != nil {
					f.mu.Lock()
					defer f.mu.Unlock()
					start(again, jobs)
				}
			})
		}
	}
	f.mu.Lock()
	start(at, f.placing.jobs)
	f.mu.Unlock()
	f.wg.Wait()
	if f.fatal != nil {
		return f.fatal
	}
	var errs []error
	for _, t := range f.targets {
		if err := f.failed[t]; err != nil {
			errs = append(errs, err)
		}
	}
	if ctx.Err() != nil && len(errs) == 0 {
		return context.Cause(ctx)
	}
	for _, t := range f.targets {
		if _, ok := f.built[t]; !ok && len(errs) == 0 && !slices.Contains(f.missing, t) {
			return &TargetError{Target: t, Err: fmt.Errorf("%s: no node has built it, and none says why: please report this", t)}
		}
	}
	return joinTargets(errs)
}

// group builds targets on a node. If that is lost, it returns where they are to be built instead.
func (f *fleet) group(ctx context.Context, n int, targets []platforms.Platform) ([]int, []job) {
	node := f.Nodes[n]
	r, entries, keep := f.prepare(n, targets)
	living, done := node.alive(ctx)
	begun := time.Now()
	watch := f.watch.on(node.Name)
	result, err := f.solve(living, worker{f.Builder, node}, r, entries, watch)
	took := time.Since(begun)
	done()
	lost := node.lost(ctx, watch, err, f.request.writes()...)
	f.mu.Lock()
	defer f.mu.Unlock()
	if lost != nil && ctx.Err() == nil {
		f.result.note(node.Name, took, targets, lost)
		return f.elsewhere(n, targets, lost)
	}
	f.result.note(node.Name, took, targets, err)
	f.result.Steps = append(f.result.Steps, result.Steps...)
	f.result.Gate = append(f.result.Gate, result.Gate...)
	if err != nil {
		f.fail(ctx, node, err)
		return nil, nil
	}
	for _, t := range targets {
		if !slices.Contains(result.targets, t) && len(result.targets) > 0 {
			f.leaveOut(t, errors.New("it failed, see the warnings"))
			continue
		}
		f.built[t] = n
	}
	if f.parts == nil {
		f.result.Descriptor, f.result.Exporter = result.Descriptor, result.Exporter
		return nil, nil
	}
	keep(result.Descriptor.Digest.String())
	return nil, nil
}

// prepare is the request for some of the targets, and what they export.
func (f *fleet) prepare(n int, targets []platforms.Platform) (r Request, entries []client.ExportEntry, keep func(string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r = f.request
	r.Targets = targets
	if most := f.Nodes[n].config.Max; most > 0 && (r.MaxParallelism == 0 || most < r.MaxParallelism) {
		r.MaxParallelism = most
	}
	r.CacheTo = tolerant(r.CacheTo)
	if f.caches > 1 {
		r.CacheTo = cacheOf(r.CacheTo, targets[0])
	}
	if f.parts == nil {
		return r, f.exports.entries, func(string) {}
	}
	r.Options = maps.Clone(r.Options)
	if r.Options == nil {
		r.Options = map[string]string{}
	}
	r.Options["multi-platform"] = "true" // an index also of one target: a part of the whole
	f.groups++
	entries, keep = f.parts.entries(f.groups, targets)
	return r, entries, keep
}

// remember keeps how long everything took, for the next time.
func (f *fleet) remember() {
	h := f.history(f.request)
	var shared []string
	for _, j := range f.placing.jobs {
		for _, s := range j.shared {
			if !slices.Contains(shared, s) {
				shared = append(shared, s)
				h.stage(s, f.watch.times.stage(s))
			}
		}
	}
	for _, j := range f.placing.jobs {
		if n, ok := f.built[j.target]; ok {
			h.target(j.target, f.outlines[n].fitOf(j.target), f.watch.times.of(j.target, shared))
		}
	}
	h.write()
}
