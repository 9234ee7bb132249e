package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/manifold-build/manifold/builder"
	"github.com/manifold-build/manifold/frontend"
	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

const builderUsage = "address of the BuildKit to use, as buildctl's --addr (default $BUILDKIT_HOST, or " + builder.DefaultAddress + ")"

// dial connects to the node that the flag, the environment or the default names.
func dial(ctx context.Context, address string) (*builder.Node, error) {
	return builder.Dial(ctx, cmp.Or(address, os.Getenv("BUILDKIT_HOST")))
}

// dialOrStart is dial; but where nobody named a node and nobody listens at the default address, a buildkitd on PATH is
// started for this command. Its cache is kept.
func dialOrStart(ctx context.Context, s streams, address string) (*builder.Node, error) {
	node, err := dial(ctx, address)
	if cmp.Or(address, os.Getenv("BUILDKIT_HOST")) != "" || !errors.Is(err, builder.ErrNoBuildKit) {
		return node, err
	}
	if _, lookErr := exec.LookPath("buildkitd"); lookErr != nil {
		return nil, err
	}
	dir, err := stateDir()
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(s.err, "no BuildKit at %s: using a private one, its cache is in %s\n", builder.DefaultAddress, dir)
	return builder.StartPrivate(ctx, dir)
}

// ownProgram is this program's file, which BuildKit may run for the gate; empty if it is not known.
func ownProgram() string {
	name, err := os.Executable()
	if err != nil {
		return ""
	}
	return name
}

// accelerator is where the command manifold-accel lies, if it is installed: beside this program.
func accelerator() string { return filepath.Join(filepath.Dir(ownProgram()), "manifold-accel") }

// missAccelerator says that there is no accelerator for the node, where a stage is emulated that it might have accelerated.
func missAccelerator(s streams, b builder.Builder, steps []dockerfile.Step) {
	emulated := slices.ContainsFunc(steps, func(step dockerfile.Step) bool { return step.Executes && step.Strategy == platforms.Emulate })
	if emulated && !b.Accelerates() {
		native := b.Node.Host.Native
		fmt.Fprintf(s.err, "note: no manifold-accel for the node (%s) beside manifold, so no stage is accelerated: GOOS=%s GOARCH=%s go install github.com/manifold-build/manifold/cmd/manifold-accel@latest\n",
			native, native.OS, native.Architecture)
	}
}

// scanCommand is how BuildKit runs this program for the gate.
func scanCommand() *cobra.Command {
	return &cobra.Command{
		Use: frontend.ScanCommand + " REQUEST", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return frontend.Scan(args[0]) },
	}
}

// cacheDir is where is kept what may be deleted at any time; empty if the user has no such folder.
func cacheDir() string {
	base, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(base, "manifold", "bases")
}

// stateDir is where a private BuildKit's cache is kept, by the XDG Base Directory Specification.
func stateDir() (string, error) {
	if base := os.Getenv("XDG_STATE_HOME"); base != "" {
		return filepath.Join(base, "manifold", "buildkit"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "state", "manifold", "buildkit"), nil
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
