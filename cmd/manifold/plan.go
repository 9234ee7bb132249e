package main

import (
	"context"
	"errors"
	"fmt"

	ctdplatforms "github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	"github.com/spf13/cobra"

	"github.com/manifold-build/manifold/builder"
	"github.com/manifold-build/manifold/frontend"
	"github.com/manifold-build/manifold/platforms"
)

func planCommand(s streams) *cobra.Command {
	var f buildFlags
	form := formatTable
	cmd := &cobra.Command{
		Use: "plan [flags] CONTEXT",
		Example: `  manifold plan --platform linux/amd64,linux/arm64 .
  manifold plan --builder mybuilder --format json .`,
		Short: "Show what would run where, and why; build nothing",
		Long: "Show for every stage and target with which strategy it would be run, and why. Nothing is built.\n\n" +
			"With a node, what the text of the Dockerfile leaves open (does make know its target? does a package need cgo?) is\n" +
			"asked there. Without one it is shown as open.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			plan, err := f.plan(cmd.Context(), s, args[0])
			if err != nil {
				return err
			}
			return f.printPlan(s, form, plan)
		},
	}
	f.registerInput(cmd.Flags())
	cmd.Flags().Var(&form, "format", "print a table or JSON")
	return cmd
}

// placedPlan is a plan and, where there are several nodes, which of them builds what.
type placedPlan struct {
	frontend.Plan

	Nodes []builder.Place `json:"nodes,omitempty"`
}

// printPlan prints a plan; the error says that it cannot be carried out.
func (f *buildFlags) printPlan(s streams, form format, plan placedPlan) (err error) {
	if form == formatJSON {
		err = printJSON(s.out, plan)
	} else {
		_, err = s.out.Write(plan.Table())
		var rows [][]string
		for _, p := range plan.Nodes {
			rows = append(rows, []string{p.Target.String(), p.Node})
		}
		if len(rows) > 0 && err == nil {
			fmt.Fprintln(s.out)
			err = printTable(s.out, []string{"TARGET", "NODE"}, rows)
		}
	}
	if err == nil && len(plan.Problems) > 0 {
		return errors.New("the node cannot carry out the plan")
	}
	return err
}

// plan asks the node or, where nobody named one and none is there, plans without.
func (f *buildFlags) plan(ctx context.Context, s streams, dir string) (plan placedPlan, err error) {
	r, err := f.request(dir)
	if err != nil {
		return plan, misused(err)
	}
	nodes, err := dial(ctx, s, f.builders)
	if errors.Is(err, builder.ErrNoBuildKit) && !isNamed(ctx, f.builders) {
		fmt.Fprintf(s.err, "no BuildKit at %s: planning without a node, open questions stay open\n", builder.DefaultAddress)
		plan.Plan, err = builder.PlanOffline(r, platforms.FromOCI(ctdplatforms.DefaultSpec()))
		return plan, err
	}
	if err != nil {
		return plan, err
	}
	defer func() { err = errors.Join(err, closeAll(nodes)) }()
	if err := f.local(&r, nodes[0]); err != nil {
		return plan, err
	}
	if f.progress == "" {
		f.progress = "quiet"
	}
	b := builder.Builder{Nodes: nodes, Placement: f.placement, CacheDir: cacheDir(), Accelerator: accelerator()}
	err = f.display(ctx, s, func(progress func(*client.SolveStatus)) (err error) {
		r.Progress = progress
		plan.Plan, plan.Nodes, err = b.PlanOnNodes(ctx, r)
		return err
	})
	missAccelerator(s, b, plan.Steps)
	return plan, err
}
