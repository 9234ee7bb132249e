package frontend

import (
	"context"
	"slices"
	"sync"

	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/gateway/client"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

// maxAnswer bounds what is read of a probe's answer, in bytes.
const maxAnswer = 1 << 20

// ask makes the open probes of every group's plan, in parallel, and reports whether there was any.
func (b *build) ask(ctx context.Context) bool {
	type asked struct {
		group  *group
		answer dockerfile.Answer
	}
	var all []asked
	for _, g := range b.planned() {
		for _, p := range g.plan(b).Probes {
			all = append(all, asked{g, dockerfile.Answer{Probe: p}})
		}
	}
	var wg sync.WaitGroup
	for i := range all {
		a := &all[i]
		wg.Go(func() { a.answer.Text, a.answer.Failed = b.askOne(ctx, a.group, a.answer.Probe) })
	}
	wg.Wait()
	for _, a := range all {
		a.group.planner.Answer(a.answer)
	}
	return len(all) > 0
}

// askOne makes one probe.
func (b *build) askOne(ctx context.Context, g *group, p dockerfile.Probe) (text string, failed bool) {
	if p.Kind == dockerfile.ProbeScript {
		return b.script(ctx, g, p)
	}
	src, err := g.planner.ProbeText(p)
	if err != nil {
		return "", true
	}
	res, _, err := b.solveText(ctx, g, src, p.Target)
	if err != nil {
		return "", true
	}
	ref, err := res.SingleRef()
	if err != nil || ref == nil {
		return "", true
	}
	out, err := ref.ReadFile(ctx, client.ReadRequest{Filename: dockerfile.AnswerPath, Range: &client.FileRange{Length: maxAnswer}})
	if err != nil || len(out) == maxAnswer {
		return "", true
	}
	return string(out), false
}

// solveText builds the last stage of a text for a platform.
func (b *build) solveText(ctx context.Context, g *group, text []byte, p platforms.Platform) (*client.Result, *dockerfile2llb.Result, error) {
	opt := g.convertOpt(ctx, b.client, false)
	opt.Target = ""
	oci := p.OCI()
	opt.TargetPlatform = &oci
	converted, err := dockerfile2llb.Dockerfile2LLB(ctx, text, opt)
	if err != nil {
		return nil, nil, err
	}
	def, err := converted.State.Marshal(ctx)
	if err != nil {
		return nil, nil, err
	}
	res, err := b.client.Solve(ctx, client.SolveRequest{
		Definition: def.ToPB(), CacheImports: slices.Clone(g.ui.CacheImports), Evaluate: true,
	})
	return res, converted, err
}
