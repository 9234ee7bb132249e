package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/manifold-build/manifold/builder"
	"github.com/manifold-build/manifold/frontend"
	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

const builderUsage = "a BuildKit: the name of a builder of docker buildx ls, an address as buildctl's --addr takes it, or NAME=ADDRESS with\nsettings behind commas (platforms=, max=, ca=, cert=, key=, servername=); may be repeated (default $BUILDX_BUILDER,\n$BUILDKIT_HOST, what docker buildx use selected, " + builder.DefaultAddress + ", or a private one)"

// find explains builders. A name that nobody knows is a fault of the command line; a builder none of whose pods is there is not.
func find(ctx context.Context, names []string) ([]builder.NodeConfig, error) {
	configs, err := builder.FindNodes(ctx, names)
	if err != nil && !errors.Is(err, builder.ErrUnreachable) {
		err = misused(err)
	}
	return configs, err
}

// dial connects to the nodes that the flag, the environment or docker buildx names, else to the one at the default address. Of several, those that do not
// answer are left out with a warning, as long as one does.
func dial(ctx context.Context, s streams, names []string) ([]*builder.Node, error) {
	configs, err := find(ctx, names)
	if err != nil {
		return nil, err
	}
	if len(configs) == 0 {
		configs = []builder.NodeConfig{{}}
	}
	nodes, errs := dialAll(ctx, configs)
	sound := slices.DeleteFunc(slices.Clone(nodes), func(n *builder.Node) bool { return n == nil })
	if err := errors.Join(errs...); len(sound) == 0 {
		return nil, err
	}
	for _, err := range errs {
		if err != nil {
			fmt.Fprintf(s.err, "warning: %v; going on without it\n", err)
		}
	}
	return sound, nil
}

// dialAll connects to nodes at once. For each there is the node or an error.
func dialAll(ctx context.Context, configs []builder.NodeConfig) ([]*builder.Node, []error) {
	nodes, errs := make([]*builder.Node, len(configs)), make([]error, len(configs))
	var wg sync.WaitGroup
	for i, c := range configs {
		wg.Go(func() { nodes[i], errs[i] = builder.DialNode(ctx, c) })
	}
	wg.Wait()
	return nodes, errs
}

// closeAll closes nodes.
func closeAll(nodes []*builder.Node) error {
	var errs []error
	for _, n := range nodes {
		errs = append(errs, n.Close())
	}
	return errors.Join(errs...)
}

// isNamed reports whether anybody named a builder.
func isNamed(ctx context.Context, names []string) bool {
	configs, err := builder.FindNodes(ctx, names)
	return err != nil || len(configs) > 0
}

// dialOrStart is dial; but where nobody named a node and nobody listens at the default address, a private BuildKit is started, whose cache is kept.
func dialOrStart(ctx context.Context, s streams, names []string) ([]*builder.Node, error) {
	nodes, err := dial(ctx, s, names)
	if !errors.Is(err, builder.ErrNoBuildKit) || isNamed(ctx, names) {
		return nodes, err
	}
	dir, err := stateDir()
	if err != nil {
		return nil, err
	}
	node, err := builder.StartPrivate(ctx, dir)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(s.err, "no BuildKit at %s: using a private one, its cache is in %s\n", builder.DefaultAddress, node.Keeps())
	return []*builder.Node{node}, nil
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
	node := b.Nodes[0]
	if i := slices.IndexFunc(b.Nodes, func(n *builder.Node) bool { return !b.Accelerates(n) }); i >= 0 {
		node = b.Nodes[i]
	}
	if emulated && !b.Accelerates(node) {
		native := node.Host.Native
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
	Name     string               `json:"name"`
	Address  string               `json:"address"`
	BuildKit string               `json:"buildkit,omitempty"`
	Native   []platforms.Platform `json:"native,omitempty"`
	Emulated []platforms.Platform `json:"emulated,omitempty"`
	// Running is how many builds it runs; Disk and Reclaimable are what its cache holds, in bytes.
	Running     int   `json:"running"`
	Disk        int64 `json:"disk"`
	Reclaimable int64 `json:"reclaimable"`
	// Error is why it cannot be used.
	Error string `json:"error,omitempty"`
}

func nodesCommand(s streams) *cobra.Command {
	var builders []string
	form := formatTable
	cmd := &cobra.Command{
		Use:     "nodes",
		Aliases: []string{"ls"},
		Short:   "List the nodes and what each runs natively and through emulation",
		Example: "  manifold nodes --builder mybuilder\n  manifold nodes --builder arm=tcp://10.0.0.2:1234,ca=ca.pem,cert=me.pem,key=me.key --builder ssh://me@bigbox",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			infos, err := lookAtNodes(cmd.Context(), builders)
			if err != nil {
				return err
			}
			if form == formatJSON {
				err = printJSON(s.out, infos)
			} else {
				err = printNodes(s, infos)
			}
			if sound := slices.ContainsFunc(infos, func(n nodeInfo) bool { return n.Error == "" }); err == nil && !sound {
				return fmt.Errorf("no node can be used: %w", builder.ErrUnreachable)
			}
			return err
		},
	}
	cmd.Flags().StringArrayVar(&builders, "builder", nil, builderUsage)
	cmd.Flags().Var(&form, "format", "print a table or JSON")
	return cmd
}

// lookAtNodes asks every node what it is and what it is doing.
func lookAtNodes(ctx context.Context, builders []string) ([]nodeInfo, error) {
	configs, err := find(ctx, builders)
	if err != nil {
		return nil, err
	}
	if len(configs) == 0 {
		configs = []builder.NodeConfig{{}}
	}
	infos := make([]nodeInfo, len(configs))
	var wg sync.WaitGroup
	for i, c := range configs {
		wg.Go(func() { infos[i] = lookAtNode(ctx, c) })
	}
	wg.Wait()
	return infos, nil
}

func lookAtNode(ctx context.Context, c builder.NodeConfig) nodeInfo {
	node, err := builder.DialNode(ctx, c)
	if err != nil {
		return nodeInfo{Name: cmp.Or(c.Name, c.Address, builder.DefaultAddress), Address: c.Address, Error: err.Error()}
	}
	out := nodeInfo{Name: node.Name, Address: node.Address, BuildKit: node.Version, Native: node.Host.NativePlatforms(), Emulated: node.Host.Emulated}
	status, err := node.Status(ctx)
	out.Running, out.Disk, out.Reclaimable = status.Running, status.Disk, status.Reclaimable
	if err := errors.Join(err, node.Close()); err != nil {
		out.Error = err.Error()
	}
	return out
}

func printNodes(s streams, infos []nodeInfo) error {
	var rows [][]string
	for _, n := range infos {
		if n.Error != "" {
			rows = append(rows, []string{n.Name, orDash(n.BuildKit), "-", "-", "-", "-"})
			continue
		}
		rows = append(rows, []string{n.Name, orDash(n.BuildKit), orDash(list(n.Native)), orDash(list(n.Emulated)), strconv.Itoa(n.Running), size(n.Disk)})
	}
	if err := printTable(s.out, []string{"NODE", "BUILDKIT", "NATIVE", "EMULATED", "RUNNING", "DISK"}, rows); err != nil {
		return err
	}
	for _, n := range infos {
		if n.Error != "" {
			fmt.Fprintf(s.err, "%s cannot be used: %s\n", n.Name, n.Error)
		}
	}
	return nil
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
