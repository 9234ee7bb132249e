package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/manifold-build/manifold/builder"
	"github.com/manifold-build/manifold/platforms"
)

const builderUsage = "address of the BuildKit to use, as buildctl's --addr (default $BUILDKIT_HOST, or " + builder.DefaultAddress + ")"

// dial connects to the node that the flag, the environment or the default names.
func dial(ctx context.Context, address string) (*builder.Node, error) {
	if address == "" {
		address = os.Getenv("BUILDKIT_HOST")
	}
	return builder.Dial(ctx, address)
}

// nodeInfo is a node as "manifold nodes --format json" prints it.
type nodeInfo struct {
	Address  string               `json:"address"`
	BuildKit string               `json:"buildkit,omitempty"`
	Native   []platforms.Platform `json:"native"`
	Emulated []platforms.Platform `json:"emulated"`
}

func nodesCommand(s streams) *cobra.Command {
	var address string
	form := formatTable
	cmd := &cobra.Command{
		Use:   "nodes",
		Short: "List the nodes and what each runs natively and through emulation",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			node, err := dial(cmd.Context(), address)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, node.Close()) }()
			info := nodeInfo{node.Address, node.Version, node.Host.NativePlatforms(), node.Host.Emulated}
			if form == formatJSON {
				return printJSON(s.out, []nodeInfo{info})
			}
			return printTable(s.out, []string{"NODE", "BUILDKIT", "NATIVE", "EMULATED"}, [][]string{{
				info.Address, orDash(info.BuildKit), orDash(list(info.Native)), orDash(list(info.Emulated)),
			}})
		},
	}
	cmd.Flags().StringVar(&address, "builder", "", builderUsage)
	cmd.Flags().Var(&form, "format", "print a table or JSON")
	return cmd
}

func list(ps []platforms.Platform) string {
	return strings.ReplaceAll(platforms.Format(ps), ",", ", ")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
