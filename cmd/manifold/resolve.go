package main

import (
	"fmt"
	"strconv"

	ctdplatforms "github.com/containerd/platforms"
	"github.com/spf13/cobra"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/platforms"
)

// resolution is what "manifold resolve --format json" prints.
type resolution struct {
	Ref   string             `json:"ref"`
	Host  platforms.Platform `json:"host"`
	Tools []choice           `json:"tools"`
}

// choice is what one tool pulls.
type choice struct {
	Matcher    index.Matcher     `json:"matcher"`
	Digest     string            `json:"digest,omitempty"`
	Platform   string            `json:"platform,omitempty"`
	Problem    string            `json:"problem,omitempty"`
	Candidates []index.Candidate `json:"candidates"`
}

func resolveCommand(s streams) *cobra.Command {
	var r registryFlags
	var host string
	form := formatTable
	cmd := &cobra.Command{
		Use:     "resolve REF --for PLATFORM",
		Example: `  manifold resolve --platform linux/arm64 ghcr.io/app/app:1.0`,
		Short:   "Show which image of an index a host pulls, and why",
		Long: "Show which image of an index a host of a platform pulls, the others in the order in which they would be taken, and why.\n\n" +
			"The rule is containerd's. Where Docker's classic image store takes another one, that is shown too. Standard output is the\n" +
			"image's reference with its digest.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := hostPlatform(host)
			if err != nil {
				return err
			}
			source, err := r.client(s).OpenPartial(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			x := source.Index
			if err := source.Close(); err != nil {
				return err
			}
			out := resolution{Ref: args[0], Host: p}
			var failed error
			for _, m := range []index.Matcher{index.Containerd, index.DockerClassic} {
				image, candidates, err := x.ResolveWith(m, p)
				c := choice{Matcher: m, Candidates: candidates}
				if err != nil {
					c.Problem = err.Error()
				} else {
					c.Digest, c.Platform = image.Descriptor.Digest.String(), image.Platform.String()
				}
				if m == index.Containerd && err != nil {
					failed = fmt.Errorf("%s: %w", args[0], err)
				}
				out.Tools = append(out.Tools, c)
			}
			if form == formatJSON {
				if err := printJSON(s.out, out); err != nil {
					return err
				}
				return failed
			}
			if err := printResolution(s, out); err != nil {
				return err
			}
			return failed
		},
	}
	cmd.Flags().StringVar(&host, "for", "host", "platform of the host, or \"host\" for this machine")
	cmd.Flags().Var(&form, "format", "print a table or JSON")
	r.register(cmd.Flags())
	return cmd
}

// hostPlatform reads --for.
func hostPlatform(name string) (platforms.Platform, error) {
	if name == "host" {
		return platforms.FromOCI(ctdplatforms.DefaultSpec()), nil
	}
	p, err := platforms.Parse(name)
	if err != nil {
		return p, fmt.Errorf("--for: %w", err)
	}
	return p, nil
}

func printResolution(s streams, out resolution) error {
	ctd := out.Tools[0]
	rows := make([][]string, len(ctd.Candidates))
	for i, c := range ctd.Candidates {
		rank := "-"
		if c.Rank > 0 {
			rank = strconv.Itoa(c.Rank)
		}
		rows[i] = []string{rank, c.Image.Platform.String(), c.Image.Descriptor.Digest.String(), printable(c.Reason)}
	}
	if err := printTable(s.err, []string{"RANK", "PLATFORM", "DIGEST", "REASON"}, rows); err != nil {
		return err
	}
	for _, c := range out.Tools[1:] {
		switch {
		case c.Digest != ctd.Digest && c.Digest != "":
			fmt.Fprintf(s.err, "%s takes another one: %s %s (%s)\n", c.Matcher, c.Platform, c.Digest, c.Candidates[0].Reason)
		case c.Digest != ctd.Digest:
			fmt.Fprintf(s.err, "%s takes none\n", c.Matcher)
		}
	}
	if ctd.Digest != "" {
		fmt.Fprintln(s.out, pinned(index.Receipt{Ref: out.Ref, Digest: ctd.Candidates[0].Image.Descriptor.Digest}))
	}
	return nil
}
