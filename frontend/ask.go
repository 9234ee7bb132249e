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

// answer is what a probe found in one file.
type answer struct {
	dockerfile.Answer

	group *group
}

// ask makes the open probes of every target's plan, in parallel, and reports whether there was any.
func (b *build) ask(ctx context.Context) bool {
	var asked []answer
	plans := []dockerfile.Plan{}
	seen := map[*group]bool{}
	for _, t := range b.targets {
		if seen[t.group] {
			continue
		}
		seen[t.group] = true
		for _, p := range t.plan.Probes {
			asked = append(asked, answer{dockerfile.Answer{Probe: p}, t.group})
			plans = append(plans, t.plan)
		}
	}
	var wg sync.WaitGroup
	for i := range asked {
		wg.Go(func() { asked[i].Text, asked[i].Failed = b.askOne(ctx, asked[i].group, asked[i].Probe, plans[i]) })
	}
	wg.Wait()
	b.answers = append(b.answers, asked...)
	return len(asked) > 0
}

// askOne makes one probe.
func (b *build) askOne(ctx context.Context, g *group, p dockerfile.Probe, plan dockerfile.Plan) (text string, failed bool) {
	src, err := g.file.ProbeText(p, plan)
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
