package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/manifold-build/manifold/index"
)

// diagnosis is what "manifold doctor --format json" prints.
type diagnosis struct {
	index.Diagnosis

	Ref string `json:"ref"`
}

func doctorCommand(s streams) *cobra.Command {
	var r registryFlags
	form := formatTable
	cmd := &cobra.Command{
		Use:     "doctor REF",
		Example: `  manifold doctor ghcr.io/app/app`,
		Short:   "Check that an index is whole and says the same everywhere, and what to do if not",
		Long: "Check that every image and blob of an index is there with its size and digest, that media types and platforms agree with the\n" +
			"configs, that attestations attest something, and that some host gets each image. What the images hold is for manifold verify.\n" +
			"The exit code is 0 only if nothing is broken.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := r.client(s).Doctor(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if form == formatJSON {
				err = printJSON(s.out, diagnosis{d, args[0]})
			} else {
				err = printDiagnosis(s, args[0], d)
			}
			if err != nil {
				return err
			}
			for _, p := range d.Problems {
				if p.Severity == index.Broken {
					return errors.New("the index is broken")
				}
			}
			return nil
		},
	}
	cmd.Flags().Var(&form, "format", "print a table or JSON")
	r.register(cmd.Flags())
	return cmd
}

func printDiagnosis(s streams, ref string, d index.Diagnosis) error {
	if len(d.Problems) == 0 {
		fmt.Fprintf(s.out, "%s is sound: %d manifests and %d blobs are there, and agree\n", ref, d.Manifests, d.Blobs)
		return nil
	}
	rows := make([][]string, len(d.Problems))
	for i, p := range d.Problems {
		platform := "-"
		if !p.Platform.IsZero() {
			platform = p.Platform.String()
		}
		rows[i] = []string{strconv.Itoa(i + 1), p.Severity.String(), platform, p.Digest.String()}
	}
	if err := printTable(s.out, []string{"#", "SEVERITY", "PLATFORM", "DIGEST"}, rows); err != nil {
		return err
	}
	fmt.Fprintln(s.out)
	for i, p := range d.Problems {
		fmt.Fprintf(s.out, "%d. %s\n   %s\n", i+1, printable(p.Problem), printable(p.Advice))
	}
	return nil
}
