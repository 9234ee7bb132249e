package frontend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/subrequests"
	"github.com/moby/buildkit/frontend/subrequests/convertllb"
	"github.com/moby/buildkit/frontend/subrequests/lint"
	"github.com/moby/buildkit/frontend/subrequests/outline"
	"github.com/moby/buildkit/frontend/subrequests/targets"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

// RequestPlan is the subrequest that answers with the plan: docker buildx build --call=plan.
const RequestPlan = "frontend.plan"

var planDefinition = subrequests.Request{
	Name: RequestPlan, Version: "1.0.0", Type: subrequests.TypeRPC,
	Description: "List how every stage would be run for every target, and why",
	Metadata:    []subrequests.Named{{Name: "result.json"}, {Name: "result.txt"}},
}

// Plan is the answer to the subrequest frontend.plan.
type Plan struct {
	// Targets are in the order in which they were asked for.
	Targets []platforms.Platform `json:"targets"`
	// Steps are by target, then by stage as written.
	Steps []dockerfile.Step `json:"steps"`
	// Findings are what is wrong with the Dockerfile for a multi-platform build.
	Findings []dockerfile.Finding `json:"findings,omitempty"`
	// Problems are what the node cannot do, and Unable the targets that it cannot build for that.
	Problems []string             `json:"problems,omitempty"`
	Unable   []platforms.Platform `json:"unable,omitempty"`
}

// Table formats the plan for people.
func (p Plan) Table() []byte {
	var b bytes.Buffer
	tw := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tw, "STAGE\tLINE\tTARGET\tSTRATEGY\tREASON")
	for _, s := range p.Steps {
		reason := s.Reason
		if len(s.Probes) > 0 {
			reason += fmt.Sprintf(" (open: %v)", s.Probes)
		}
		strategy := s.Strategy.String()
		if !s.Executes {
			strategy = "-"
		}
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%s\n", s.Stage, s.Line, s.Target, strategy, reason)
	}
	_ = tw.Flush()
	for _, f := range p.Findings {
		fmt.Fprintf(&b, "warning: line %d: %s: %s\n", f.Line, f.Rule, f.Message)
	}
	for _, problem := range p.Problems {
		fmt.Fprintf(&b, "error: %s\n", problem)
	}
	return b.Bytes()
}

// answerPlan plans, its probes included, and builds nothing.
func (b *build) answerPlan(ctx context.Context) (*client.Result, error) {
	for _, t := range b.targets {
		if t.group.parseErr != nil {
			return nil, withLocations(t.group.parseErr, t.group.src.SourceMap)
		}
	}
	out := b.answer(b.plan(ctx))
	seen := map[*group]bool{}
	for _, t := range b.targets {
		if !seen[t.group] {
			out.Findings = append(out.Findings, t.group.wanted(append(slices.Clone(t.plan.Findings), b.lacking(ctx, t.group, t.plan)...))...)
		}
		seen[t.group] = true
	}
	dt, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, err
	}
	res := client.NewResult()
	res.AddMeta("result.json", dt)
	res.AddMeta("result.txt", out.Table())
	res.AddMeta("version", []byte(planDefinition.Version))
	return res, nil
}

// answer puts the targets' plans together; the error says what the node cannot do.
func (b *build) answer(err error) Plan {
	out := Plan{Steps: b.steps()}
	for _, e := range unjoin(err) {
		out.Problems = append(out.Problems, e.Error())
		if te, ok := errors.AsType[*TargetError](e); ok && !slices.Contains(out.Unable, te.Target) {
			out.Unable = append(out.Unable, te.Target)
		}
	}
	for _, t := range b.targets {
		out.Targets = append(out.Targets, t.platform)
	}
	return out
}

// describe lists the subrequests.
func describe() (*client.Result, error) {
	all := []subrequests.Request{
		outline.SubrequestsOutlineDefinition, targets.SubrequestsTargetsDefinition, lint.SubrequestLintDefinition,
		convertllb.SubrequestConvertLLBDefinition, planDefinition, subrequests.SubrequestsDescribeDefinition,
	}
	dt, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := subrequests.PrintDescribe(dt, &text); err != nil {
		return nil, err
	}
	res := client.NewResult()
	res.AddMeta("result.txt", text.Bytes())
	res.AddMeta("result.json", dt)
	res.AddMeta("version", []byte(subrequests.SubrequestsDescribeDefinition.Version))
	return res, nil
}
