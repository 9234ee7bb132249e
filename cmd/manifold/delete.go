package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/manifold-build/manifold/index"
)

func deleteCommand(s streams) *cobra.Command {
	var r registryFlags
	var req index.DeleteRequest
	form := formatTable
	cmd := &cobra.Command{
		Use:     "delete NAME…",
		Aliases: []string{"rm"},
		Short:   "Delete a tag, or a manifest by its digest",
		Long: "Delete a tag, or a manifest by its digest, and say what that leaves behind.\n\n" +
			"A tag goes alone: what it named stays under its digest. A manifest goes with every tag that names it; one that a tag names, that an\n" +
			"index of the repository lists or that a signature refers to is deleted only with --force. Blobs are left to the registry to collect.",
		Example: "  manifold delete ghcr.io/app/app:pr-12\n  manifold delete --dry-run ghcr.io/app/app@sha256:…",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client := r.client(s)
			all := []index.Deleted{}
			var errs []error
			for _, name := range args {
				req.Ref = name
				d, err := client.Delete(cmd.Context(), req)
				if err != nil {
					errs = append(errs, hinted(err))
				} else {
					all = append(all, d)
				}
			}
			if form == formatJSON {
				errs = append(errs, printJSON(s.out, all))
			} else {
				for _, d := range all {
					printDeleted(s, d)
				}
			}
			return errors.Join(errs...)
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&req.Force, "force", false, "delete a manifest although something names it, lists it or refers to it")
	fs.BoolVar(&req.DryRun, "dry-run", false, "delete nothing, say what would be left behind")
	fs.Var(&form, "format", "print a line for each name, or JSON")
	r.register(fs)
	return cmd
}

// hinted says how a deletion is done all the same.
func hinted(err error) error {
	if dangling, ok := errors.AsType[*index.DanglingError](err); ok {
		return fmt.Errorf("%w: --force deletes it all the same", dangling)
	}
	return err
}

func printDeleted(s streams, d index.Deleted) {
	byDigest := strings.Contains(d.Ref, "@")
	if d.Done {
		fmt.Fprintln(s.out, "deleted", printable(d.Ref))
	} else {
		fmt.Fprintln(s.out, "would delete", printable(d.Ref))
	}
	note := func(format string, args ...any) {
		fmt.Fprintln(s.err, "note:", printable(fmt.Sprintf(format, args...)))
	}
	switch tags := strings.Join(d.Tags, ", "); {
	case byDigest && tags != "":
		note("with it goes the tag %s", tags)
	case !byDigest && tags != "":
		note("%s is still tagged %s", d.Digest, tags)
	case !byDigest && d.Unseen == 0:
		note("%s has no tag now", d.Digest)
	}
	if len(d.Indexes) > 0 {
		note("%s lists it and is broken without it", strings.Join(d.Indexes, ", "))
	}
	if len(d.Referrers) > 0 {
		note("%d manifests refer to it", len(d.Referrers))
	}
	if d.Unseen > 0 {
		note("%d tags were not looked at, or not all of them: which others name it is not known", d.Unseen)
	}
}
