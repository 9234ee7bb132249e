package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/platforms"
)

func copyCommand(s streams) *cobra.Command {
	var r registryFlags
	var wanted []string
	var referrers, digestTags, quiet bool
	var progress string
	form := formatTable
	cmd := &cobra.Command{
		Use: "copy SOURCE NAME…",
		Example: `  manifold copy ghcr.io/app/app:1.0 registry.example.com/app:1.0
  manifold copy ghcr.io/app/app:1.0 oci-archive:app.tar`,
		Short: "Copy an index or an image between registries, layouts and archives",
		Long: "Copy an index or an image, with its attestations and what refers to it (signatures, SBOMs), byte for byte.\n\n" +
			"SOURCE is a reference in a registry, oci-layout:DIR[:NAME], oci-archive:FILE[:NAME] or docker-archive:FILE; NAME is a tag in a registry,\n" +
			"oci-layout:DIR[:NAME], oci-archive:FILE[:NAME] or, for one image, docker-archive:FILE[:NAME]. FILE may be \"-\": standard input and output.\n" +
			"What is there already is not sent again: a copy that broke off goes on\n" +
			"where it stopped. The names move last.",
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := platforms.ParseList(strings.Join(wanted, ","))
			if err != nil {
				return err
			}
			var out index.Copied
			req := index.CopyRequest{Source: args[0], Names: args[1:], Platforms: list, WithoutReferrers: !referrers, DigestTags: digestTags}
			result, err := s.result(req.Names)
			if err != nil {
				return err
			}
			mode := progress
			if quiet {
				mode = "quiet"
			}
			err = showTransfers(cmd.Context(), s, mode, func(p index.Progress) (err error) {
				req.Progress = p
				out, err = r.client(s).Copy(cmd.Context(), req)
				return err
			})
			if err != nil {
				return err
			}
			if form == formatJSON {
				return printJSON(result, out)
			}
			for _, note := range out.Notes {
				fmt.Fprintln(s.err, "note:", printable(note))
			}
			if !quiet {
				tags := ""
				if out.DigestTags > 0 {
					tags = fmt.Sprintf(", %d tags named for digests", out.DigestTags)
				}
				fmt.Fprintf(s.err, "copied %s: %d manifests (%d referrers), %d blobs, %s%s\n",
					out.Descriptor.Digest, out.Manifests, out.Referrers, out.Blobs, size(out.Size), tags)
			}
			for _, t := range out.Tags {
				fmt.Fprintln(result, pinned(t))
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.StringSliceVar(&wanted, "platform", nil, "copy only these platforms; one alone is copied without an index around it")
	fs.BoolVar(&referrers, "referrers", true, "copy what refers to the source too")
	fs.BoolVar(&digestTags, "digest-tags", false, "copy the tags that are named for a manifest's digest too (cosign's .sig, .att and .sbom), between registries")
	fs.BoolVarP(&quiet, "quiet", "q", false, "print only the result")
	fs.StringVar(&progress, "progress", os.Getenv("BUILDKIT_PROGRESS"), "progress: auto, tty, plain, rawjson or quiet")
	fs.Var(&form, "format", "print the result as a line for each name, or as JSON")
	r.register(fs)
	return cmd
}
