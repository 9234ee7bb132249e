package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/manifold-build/manifold/index"
)

// inspection is an index as "manifold inspect --format json" prints it.
type inspection struct {
	Ref         string             `json:"ref"`
	Descriptor  ocispec.Descriptor `json:"descriptor"`
	Annotations map[string]string  `json:"annotations,omitempty"`
	Images      []index.Image      `json:"images"`
}

func inspectCommand(s streams) *cobra.Command {
	var raw bool
	form := formatTable
	cmd := &cobra.Command{
		Use:   "inspect REF",
		Short: "Show what an index in a registry holds",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			x, err := index.Pull(cmd.Context(), index.Registry{}, args[0])
			switch {
			case err != nil:
				return err
			case raw:
				_, err := s.out.Write(x.Raw)
				return err
			case form == formatJSON:
				return printJSON(s.out, inspection{args[0], x.Descriptor, x.Annotations, x.Images})
			}
			return printIndex(s, args[0], x)
		},
	}
	cmd.Flags().BoolVar(&raw, "raw", false, "print the manifest's own bytes")
	cmd.Flags().Var(&form, "format", "print a table or JSON")
	return cmd
}

func printIndex(s streams, ref string, x index.Index) error {
	fmt.Fprintf(s.out, "Name:       %s\nMediaType:  %s\nDigest:     %s\n", ref, x.Descriptor.MediaType, x.Descriptor.Digest)
	for _, k := range slices.Sorted(maps.Keys(x.Annotations)) {
		fmt.Fprintf(s.out, "Annotation: %s=%s\n", printable(k), printable(x.Annotations[k]))
	}
	fmt.Fprintln(s.out)
	rows := make([][]string, len(x.Images))
	for i, image := range x.Images {
		rows[i] = []string{
			image.Platform.String(), image.Descriptor.Digest.String(), size(image.Size), strconv.Itoa(len(image.Layers)),
			orDash(attestations(image)),
		}
	}
	return printTable(s.out, []string{"PLATFORM", "DIGEST", "SIZE", "LAYERS", "ATTESTATIONS"}, rows)
}

// printable quotes a string of someone else's that would not print as one line of text.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

func attestations(image index.Image) string {
	out := make([]string, len(image.Attestations))
	for i, a := range image.Attestations {
		out[i] = a.Digest.String()
	}
	return strings.Join(out, ", ")
}

// size formats a number of bytes for people.
func size(bytes int64) string { return units.HumanSizeWithPrecision(float64(bytes), 3) }
