package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/buildkit/client"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/builder"
)

func duCommand(s streams) *cobra.Command {
	var builders []string
	form := formatTable
	cmd := &cobra.Command{
		Use:     "du",
		Short:   "Show what the cache of the private BuildKit, or of other nodes, holds",
		Example: "  manifold du\n  manifold du --builder mybuilder",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return onNodes(cmd.Context(), s, builders, func(nodes []*builder.Node) error { return printUsage(cmd.Context(), s, form, nodes) })
		},
	}
	cmd.Flags().StringArrayVar(&builders, "builder", nil, builderUsage)
	cmd.Flags().Var(&form, "format", "print a table or JSON")
	return cmd
}

// onNodes does something with the nodes that are named, or with the private one.
func onNodes(ctx context.Context, s streams, builders []string, do func([]*builder.Node) error) (err error) {
	nodes, err := dialOrStart(ctx, s, builders)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll(nodes)) }()
	return do(nodes)
}

// usage is a node's cache as "manifold du --format json" prints it.
type usage struct {
	Node    string              `json:"node"`
	Records []*client.UsageInfo `json:"records"`
	// Total and Reclaimable are in bytes.
	Total       int64 `json:"total"`
	Reclaimable int64 `json:"reclaimable"`
}

func printUsage(ctx context.Context, s streams, form format, nodes []*builder.Node) error {
	var all []usage
	for _, n := range nodes {
		records, err := n.DiskUsage(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		u := usage{Node: n.Name, Records: records}
		for _, r := range records {
			u.Total += r.Size
			if !r.InUse {
				u.Reclaimable += r.Size
			}
		}
		all = append(all, u)
	}
	if form == formatJSON {
		return printJSON(s.out, all)
	}
	var rows [][]string
	for _, u := range all {
		slices.SortStableFunc(u.Records, func(a, b *client.UsageInfo) int { return cmp.Compare(b.Size, a.Size) })
		for _, r := range u.Records {
			used := "-"
			if r.LastUsedAt != nil {
				used = units.HumanDuration(time.Since(*r.LastUsedAt)) + " ago"
			}
			rows = append(rows, []string{u.Node, r.ID, size(r.Size), strconv.FormatBool(!r.InUse), used, string(r.RecordType)})
		}
		rows = append(rows, []string{u.Node, "total", size(u.Total), size(u.Reclaimable), "", ""})
	}
	return printTable(s.out, []string{"NODE", "ID", "SIZE", "RECLAIMABLE", "LAST USED", "TYPE"}, rows)
}

// pruneFlags are the flags of "manifold prune". Those of docker buildx prune keep its names and meaning.
type pruneFlags struct {
	builders                []string
	all, force              bool
	filters                 []string
	reserved, most, minFree string
	keep                    time.Duration
}

func pruneCommand(s streams) *cobra.Command {
	var f pruneFlags
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Take away what the cache of the private BuildKit, or of other nodes, holds and nobody uses",
		Long: "Take away what the cache of the private BuildKit, or of other nodes, holds and nobody uses. Of nodes that are named it is taken\n" +
			"away only with --force: others may build there.",
		Example: "  manifold prune\n  manifold prune --all --max-used-space 20gb\n  manifold prune --force --builder mybuilder",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), s) },
	}
	fs := cmd.Flags()
	fs.BoolVarP(&f.all, "all", "a", false, "internal images too, such as frontends")
	fs.BoolVarP(&f.force, "force", "f", false, "also of nodes that are not private")
	fs.StringArrayVar(&f.filters, "filter", nil, "take away only what matches, as type=exec.cachemount")
	fs.DurationVar(&f.keep, "keep-duration", 0, "keep what was used within this time")
	fs.StringVar(&f.reserved, "reserved-space", "", "keep as much as this, for example 10gb")
	fs.StringVar(&f.most, "max-used-space", "", "take away until no more than this is used")
	fs.StringVar(&f.minFree, "min-free-space", "", "take away until this is free on the disk")
	fs.StringArrayVar(&f.builders, "builder", nil, builderUsage)
	return cmd
}

func (f *pruneFlags) run(ctx context.Context, s streams) error {
	var sizes [3]int64
	for i, text := range []string{f.reserved, f.most, f.minFree} {
		if text == "" {
			continue
		}
		n, err := units.RAMInBytes(text)
		if err != nil {
			return fmt.Errorf("--%s %s: %w", []string{"reserved-space", "max-used-space", "min-free-space"}[i], text, err)
		}
		sizes[i] = n
	}
	opts := []client.PruneOption{client.WithKeepOpt(f.keep, sizes[0], sizes[1], sizes[2]), client.WithFilter(f.filters)}
	if f.all {
		opts = append(opts, client.PruneAll)
	}
	return onNodes(ctx, s, f.builders, func(nodes []*builder.Node) error {
		for _, n := range nodes {
			if n.Keeps() == "" && !f.force {
				return fmt.Errorf("%s is not private, others may build there: --force takes away what its cache holds all the same", n.Name)
			}
		}
		total := int64(0)
		for _, n := range nodes {
			freed := make(chan client.UsageInfo)
			var eg errgroup.Group
			eg.Go(func() error {
				for r := range freed {
					total += r.Size
				}
				return nil
			})
			err := n.Prune(ctx, freed, opts...)
			close(freed)
			_ = eg.Wait()
			if err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
		}
		fmt.Fprintf(s.out, "%s taken away\n", size(total))
		return nil
	})
}
