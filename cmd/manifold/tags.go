package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// tagList is what "manifold tags --format json" prints.
type tagList struct {
	Name string   `json:"name"`
	Tags []string `json:"tags"`
}

func tagsCommand(s streams) *cobra.Command {
	var r registryFlags
	form := formatTable
	cmd := &cobra.Command{
		Use:     "tags NAME",
		Example: `  manifold tags ghcr.io/app/app`,
		Short:   "List the tags of a repository",
		Long:    "List the tags of a repository, one in a line, as its registry orders them. All pages of the list are read.",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			tags, err := r.client(s).Tags(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if form == formatJSON {
				return printJSON(s.out, tagList{args[0], tags})
			}
			for _, tag := range tags {
				fmt.Fprintln(s.out, printable(tag))
			}
			return nil
		},
	}
	cmd.Flags().Var(&form, "format", "print a list or JSON")
	r.register(cmd.Flags())
	return cmd
}
