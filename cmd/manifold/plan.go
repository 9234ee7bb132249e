package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

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
		Use:   "plan [flags] CONTEXT",
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
			if form == formatJSON {
				err = printJSON(s.out, plan)
			} else {
				_, err = s.out.Write(plan.Table())
			}
			if err == nil && len(plan.Problems) > 0 {
				return errors.New("the node cannot carry out the plan")
			}
			return err
		},
	}
	f.registerInput(cmd.Flags())
	cmd.Flags().Var(&form, "format", "print a table or JSON")
	return cmd
}

// plan asks the node or, where nobody named one and none is there, plans without.
func (f *buildFlags) plan(ctx context.Context, s streams, dir string) (plan frontend.Plan, err error) {
	r, err := f.request(dir)
	if err != nil {
		return plan, err
	}
	node, err := dial(ctx, f.builder)
	if cmp.Or(f.builder, os.Getenv("BUILDKIT_HOST")) == "" && errors.Is(err, builder.ErrNoBuildKit) {
		fmt.Fprintf(s.err, "no BuildKit at %s: planning without a node, open questions stay open\n", builder.DefaultAddress)
		return builder.PlanOffline(r, platforms.FromOCI(ctdplatforms.DefaultSpec()))
	}
	if err != nil {
		return plan, err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	if err := f.local(&r, node); err != nil {
		return plan, err
	}
	if f.progress == "" {
		f.progress = "quiet"
	}
	b := builder.Builder{Node: node, Accelerator: accelerator()}
	err = f.display(ctx, s, func(progress func(*client.SolveStatus)) (err error) {
		r.Progress = progress
		plan, err = b.Plan(ctx, r)
		return err
	})
	missAccelerator(s, b, plan.Steps)
	return plan, err
}
