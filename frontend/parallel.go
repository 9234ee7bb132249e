package frontend

import (
	"context"
	"os"
	"runtime"

	"golang.org/x/sync/semaphore"

	"github.com/manifold-build/manifold/platforms"
)

// labelHostname is a worker's label with the name of the machine that its buildkitd runs on.
const labelHostname = "org.mobyproject.buildkit.worker.hostname"

// leastParallel is how many targets are built at once even by one CPU: while one of them fetches, the other compiles.
const leastParallel = 2

// bound is how many targets are built at once. Nil counts no target.
type bound struct {
	*semaphore.Weighted

	// some are the targets that are counted; nil means all.
	some map[*target]bool
}

// setBounds bounds the build: what max-parallelism says holds for every target until it has passed the gate; without it, targets that compile on
// the build platform are solved as many at a time as the machine has CPUs. Compilers use every CPU by themselves; more of them at once only
// take the caches from each other. Where this process does not run on the node's machine, nobody knows how many CPUs that has, and BuildKit is
// given everything at once.
func (b *build) setBounds() {
	switch {
	case b.most > 0:
		b.whole = &bound{semaphore.NewWeighted(int64(b.most)), nil}
	case b.onNode():
		b.solves = &bound{semaphore.NewWeighted(int64(max(runtime.GOMAXPROCS(0), leastParallel))), b.compiling()}
	}
}

// start waits until a target may be built and returns what to call when it is. The error is the context's.
func (n *bound) start(ctx context.Context, t *target) (done func(), err error) {
	if n == nil || n.some != nil && !n.some[t] {
		return func() {}, nil
	}
	if err := n.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return func() { n.Release(1) }, nil
}

// onNode reports whether this process runs on the machine of the node.
func (b *build) onNode() bool {
	if self, err := b.image(); err == nil && self != nil {
		return true // in a container of the node
	}
	workers := b.started.BuildOpts().Workers
	if len(workers) == 0 {
		return false
	}
	name, err := os.Hostname()
	return err == nil && name != "" && workers[0].Labels[labelHostname] == name
}

// compiling are the targets that a stage is cross-compiled for, and those that the same stage is run for natively.
func (b *build) compiling() map[*target]bool {
	type stage struct{ file, name string }
	crossed := map[stage]bool{}
	for _, t := range b.targets {
		for _, s := range t.steps() {
			if s.Strategy == platforms.Cross && s.Executes {
				crossed[stage{t.group.src.Filename, s.Stage}] = true
			}
		}
	}
	out := map[*target]bool{}
	for _, t := range b.targets {
		for _, s := range t.steps() {
			if s.Platform == b.node().Native && crossed[stage{t.group.src.Filename, s.Stage}] {
				out[t] = true
			}
		}
	}
	return out
}
