package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/platforms"
)

// inspection is an index as "manifold inspect --format json" prints it, and what a template is given.
type inspection struct {
	Ref         string             `json:"ref"`
	Descriptor  ocispec.Descriptor `json:"descriptor"`
	Annotations map[string]string  `json:"annotations,omitempty"`
	Images      []index.Image      `json:"images"`
	// Referrers are what refers to the index and its images, if --referrers asks for them.
	Referrers []index.Referrer `json:"referrers,omitempty"`
}

type inspectFlags struct {
	registryFlags

	platform  string
	raw       bool
	referrers bool
	format    string
}

func inspectCommand(s streams) *cobra.Command {
	var f inspectFlags
	cmd := &cobra.Command{
		Use: "inspect REF",
		Example: `  manifold inspect alpine:3.20
  manifold inspect --format json oci-archive:app.tar`,
		Short: "Show what an index holds",
		Long: "Show what an index holds: each image with its platform, size, layers, age and attestations.\n\n" +
			"REF is a reference in a registry, oci-layout:DIR[:NAME], oci-archive:FILE[:NAME] or docker-archive:FILE.\n" +
			"With --platform the config of one image is shown, with --raw the bytes of the manifest. --format is table, json or a Go template,\n" +
			"for example '{{range .Images}}{{.Platform}} {{.Descriptor.Digest}}{{\"\\n\"}}{{end}}'; {{json .}} prints a value as JSON.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), s, args[0])
		},
	}
	cmd.Flags().StringVar(&f.platform, "platform", "", "show the config of this platform's image")
	cmd.Flags().BoolVar(&f.raw, "raw", false, "print the manifest's own bytes")
	cmd.Flags().BoolVar(&f.referrers, "referrers", false, "show what refers to the index and to its images too: signatures, SBOMs")
	cmd.Flags().StringVar(&f.format, "format", "table", "print a table, json or a Go template")
	f.register(cmd.Flags())
	return cmd
}

func (f *inspectFlags) run(ctx context.Context, s streams, ref string) (err error) {
	var tmpl *template.Template
	if f.format != string(formatTable) && f.format != string(formatJSON) {
		if !strings.Contains(f.format, "{{") {
			return fmt.Errorf("--format %s: it is table, json or a Go template", f.format)
		}
		if tmpl, err = template.New("--format").Funcs(template.FuncMap{"json": toJSON}).Parse(f.format); err != nil {
			return err
		}
	}
	source, err := f.client(s).OpenPartial(ctx, ref)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	x := source.Index
	if f.platform != "" {
		return f.one(ctx, s, ref, source, tmpl)
	}
	all := inspection{ref, x.Descriptor, x.Annotations, x.Images, nil}
	if f.referrers && !f.raw {
		if all.Referrers, err = source.Referrers(ctx); err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
	}
	switch {
	case f.raw:
		_, err := s.out.Write(x.Raw)
		return err
	case tmpl != nil:
		return execute(s, tmpl, all)
	case f.format == string(formatJSON):
		return printJSON(s.out, all)
	}
	if err := printIndex(s, ref, x); err != nil || !f.referrers {
		return err
	}
	return printReferrers(s, x, all.Referrers)
}

// printReferrers prints what refers to an index and to its images.
func printReferrers(s streams, x index.Index, list []index.Referrer) error {
	rows := make([][]string, len(list))
	for i, r := range list {
		subject := "index"
		for _, image := range x.Images {
			if image.Descriptor.Digest == r.Subject {
				subject = image.Platform.String()
			}
		}
		rows[i] = []string{subject, r.Descriptor.Digest.String(), orDash(printable(r.Descriptor.ArtifactType))}
	}
	fmt.Fprintln(s.out)
	if len(rows) == 0 {
		fmt.Fprintln(s.out, "nothing refers to it")
		return nil
	}
	return printTable(s.out, []string{"REFERS TO", "DIGEST", "ARTIFACT TYPE"}, rows)
}

func toJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// execute prints a template, and a line's end after it, as docker inspect does.
func execute(s streams, tmpl *template.Template, v any) error {
	if err := tmpl.Execute(s.out, v); err != nil {
		return err
	}
	fmt.Fprintln(s.out)
	return nil
}

// one shows the image of one platform.
func (f *inspectFlags) one(ctx context.Context, s streams, ref string, source *index.Source, tmpl *template.Template) error {
	p, err := platforms.Parse(f.platform)
	if err != nil {
		return fmt.Errorf("--platform: %w", err)
	}
	found := source.Index.Select(p)
	switch len(found) {
	case 0:
		return fmt.Errorf("%s: there is no image for %s in it; manifold resolve shows which one a host of that platform takes", ref, p)
	case 1:
	default:
		return fmt.Errorf("%s: there are %d images for %s in it: say which OS version, as in %s", ref, len(found), p, found[0].Platform)
	}
	image := found[0]
	desc := image.Config
	if f.raw {
		desc = image.Descriptor
	}
	rc, err := source.Fetch(ctx, desc)
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(rc)
	if err = errors.Join(err, rc.Close()); err != nil {
		return err
	}
	switch {
	case f.raw:
		_, err := s.out.Write(raw)
		return err
	case tmpl != nil:
		var config ocispec.Image
		if err := json.Unmarshal(raw, &config); err != nil {
			return err
		}
		return execute(s, tmpl, config)
	}
	return printJSON(s.out, json.RawMessage(raw))
}

func printIndex(s streams, ref string, x index.Index) error {
	fmt.Fprintf(s.out, "Name:       %s\nMediaType:  %s\nDigest:     %s\n", ref, x.Descriptor.MediaType, x.Descriptor.Digest)
	printAnnotations(s.out, "Annotation: ", x.Annotations)
	fmt.Fprintln(s.out)
	shared := sharedLayers(x.Images)
	rows := make([][]string, len(x.Images))
	for i, image := range x.Images {
		rows[i] = []string{
			image.Platform.String(), image.Descriptor.Digest.String(), size(image.Size), strconv.Itoa(len(image.Layers)), strconv.Itoa(shared[i]),
			age(image.Created), orDash(attestations(image)),
		}
	}
	if err := printTable(s.out, []string{"PLATFORM", "DIGEST", "SIZE", "LAYERS", "SHARED", "CREATED", "ATTESTATIONS"}, rows); err != nil {
		return err
	}
	for _, image := range x.Images {
		if image.Missing {
			fmt.Fprintf(s.out, "%s: it is listed and not there (manifold doctor tells more)\n", image.Platform)
		}
		if image.ConfigPlatform != image.Platform && !image.ConfigPlatform.IsZero() {
			fmt.Fprintf(s.out, "%s: its config says %s\n", image.Platform, image.ConfigPlatform)
		}
		printAnnotations(s.out, image.Platform.String()+": annotation ", image.Descriptor.Annotations)
	}
	return nil
}

func printAnnotations(w io.Writer, before string, list map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(list)) {
		fmt.Fprintf(w, "%s%s=%s\n", before, printable(k), printable(list[k]))
	}
}

// sharedLayers counts for each image the layers that another one has too.
func sharedLayers(list []index.Image) []int {
	in := map[digest.Digest]int{}
	for _, image := range list {
		seen := map[digest.Digest]bool{}
		for _, l := range image.Layers {
			if !seen[l.Digest] {
				seen[l.Digest] = true
				in[l.Digest]++
			}
		}
	}
	out := make([]int, len(list))
	for i, image := range list {
		for _, l := range image.Layers {
			if in[l.Digest] > 1 {
				out[i]++
			}
		}
	}
	return out
}

// age says when an image was made. Reproducible builds say the epoch, which says nothing.
func age(t *time.Time) string {
	if t == nil || t.Unix() <= 0 {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04")
}

// printable quotes a string of someone else's that would not print as one line of text.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// attestations names what is attested, by the predicates' last parts: provenance/v1, Document.
func attestations(image index.Image) string {
	var out []string
	for _, a := range image.Attestations {
		for _, p := range a.Predicates {
			name := p
			if _, after, ok := strings.Cut(p, "://"); ok {
				_, name, _ = strings.Cut(after, "/")
			}
			out = append(out, printable(name))
		}
		if len(a.Predicates) == 0 {
			out = append(out, a.Descriptor.Digest.String())
		}
	}
	return strings.Join(out, ", ")
}

// size formats a number of bytes for people.
func size(bytes int64) string { return units.HumanSizeWithPrecision(float64(bytes), 3) }
