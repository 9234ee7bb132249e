package frontend

import (
	"context"
	"sync"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"

	"github.com/manifold-build/manifold/platforms"
)

// trialPath is where the trial program lies in its own root filesystem.
const trialPath = "/trial"

// findEmulators finds out which of the platforms the node can execute although its worker does not report them, and adds them to
// the host. A worker reports what the kernel runs; the emulators that come with a BuildKit image, buildkit-qemu-*, are found
// only when a step needs one. So each platform gets a step: a program of a few bytes that ends at once. It reports
// whether there was any such platform.
func (b *build) findEmulators(ctx context.Context, candidates []platforms.Platform) bool {
	runs := make([]bool, len(candidates))
	var wg sync.WaitGroup
	for i, p := range candidates {
		wg.Go(func() { runs[i] = b.executes(ctx, p) })
	}
	wg.Wait()
	found := false
	for i, p := range candidates {
		if runs[i] {
			b.hostMu.Lock()
			b.host, found = b.host.WithEmulated(p), true
			b.hostMu.Unlock()
		}
	}
	for _, g := range b.planned() {
		if found {
			g.planner.CanRun(b.node())
		}
	}
	return found
}

// executes runs the trial program of a platform on the node.
func (b *build) executes(ctx context.Context, p platforms.Platform) bool {
	program, ok := trialProgram(p)
	if !ok {
		return false
	}
	st := llb.Scratch().File(llb.Mkfile(trialPath, 0o755, program), llb.WithCustomName("[manifold] a trial for "+p.String())).Run(
		llb.Args([]string{trialPath}),
		llb.Platform(p.OCI()),
		llb.Network(llb.NetModeNone),
		llb.IgnoreCache, // an emulator may have gone since
		llb.WithCustomName("[manifold] whether the node can run "+p.String()),
	).Root()
	def, err := st.Marshal(ctx, llb.Platform(b.node().Native.OCI()))
	if err != nil {
		return false
	}
	_, err = b.client.Solve(ctx, client.SolveRequest{Definition: def.ToPB(), Evaluate: true})
	return err == nil
}
