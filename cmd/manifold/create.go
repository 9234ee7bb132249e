package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/platforms"
)

type createFlags struct {
	registryFlags

	tags        []string
	files       []string
	spec        string
	platforms   []string
	template    string
	annotate    []string
	fixConfig   bool
	annotations []string
	mediaType   string
	appendTo    bool
	remove      []string
	replace     []string
	expect      []string
	ifDigest    string
	dryRun      bool
	verify      string
	except      []string
	missing     bool
	metadata    string
	quiet       bool
	progress    string

	notes []string // of the spec file
}

func createCommand(s streams) *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use: "create -t NAME [flags] SOURCE…",
		Example: `  manifold create -t ghcr.io/app/app:1.0 ghcr.io/app/app:1.0-amd64 ghcr.io/app/app:1.0-arm64
  manifold create -t ghcr.io/app/app:1.0 --expect linux/amd64,linux/arm64 --verify strict part-*.tar
  manifold create -t ghcr.io/app/app:1.0 --remove linux/386`,
		Short: "Make an index of images that are there already",
		Long: "Make an index of images that are there already, and publish it under every name at once or under none.\n\n" +
			"SOURCE is a reference in any registry, the digest of an image in the first name's repository, oci-layout:DIR, oci-archive:FILE,\n" +
			"docker-archive:FILE, or a file that ends in .tar. An index gives all its images, with what attests them. The platform is what the\n" +
			"image's config says. Blobs are mounted from repositories of the same registry, and copied from elsewhere.\n" +
			"NAME is a tag in a registry, oci-layout:DIR:NAME or oci-archive:FILE:NAME.\n" +
			"With --append, --remove and --replace the index that the first name stands for is changed.",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), s, args)
		},
	}
	f.register(cmd.Flags())
	return cmd
}

func (f *createFlags) register(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.StringArrayVarP(&f.tags, "tag", "t", nil, "name of the index; may be repeated")
	fs.StringArrayVarP(&f.files, "file", "f", nil, "file that names sources: a descriptor, what --metadata-file wrote, or a reference or digest a line")
	fs.StringVar(&f.spec, "spec", "", "YAML file that says everything, manifest-tool's or with more fields")
	fs.StringSliceVar(&f.platforms, "platform", nil, "take only the images for these platforms from the sources; with --template, the platforms that it is for")
	fs.StringVar(&f.template, "template", "", "source for each --platform, with ARCH, OS and VARIANT in place of the platform's")
	fs.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "platforms" { // as manifest-tool calls it
			name = "platform"
		}
		return pflag.NormalizedName(name)
	})
	fs.StringArrayVar(&f.annotate, "annotate", nil, "platform of a source, SOURCE=OS/ARCH[/VARIANT][,os.version=VERSION][,os.features=FEATURE+FEATURE]")
	fs.BoolVar(&f.fixConfig, "fix-config", false, "write the platforms of --annotate into the images' configs too, which makes them other images")
	fs.StringArrayVar(&f.annotations, "annotation", nil, "annotation, [LEVEL[PLATFORM]:]KEY=VALUE; LEVEL is index (the default), manifest, index-descriptor or manifest-descriptor")
	fs.StringVar(&f.mediaType, "media-type", "auto", "kind of index: auto, oci or docker")
	fs.BoolVar(&f.appendTo, "append", false, "add to the index that the first name stands for")
	fs.StringArrayVar(&f.remove, "remove", nil, "take this platform or digest out of the index that the first name stands for")
	fs.StringArrayVar(&f.replace, "replace", nil, "put a source in place of a platform's image, PLATFORM=SOURCE")
	fs.StringSliceVar(&f.expect, "expect", nil, "platforms that the index has to have, these and no others")
	fs.StringVar(&f.ifDigest, "if-digest", "", "publish only if the names stand for this digest (or \"none\": if they do not exist)")
	fs.BoolVar(&f.missing, "ignore-missing", false, "leave out sources that are not there")
	fs.BoolVar(&f.dryRun, "dry-run", false, "print the index, publish nothing")
	fs.StringVar(&f.verify, "verify", "off", "check that every image is for its platform before a name moves: strict, warn or off")
	fs.StringArrayVar(&f.except, "verify-except", nil, "paths that may hold another machine's code, as in .dockerignore")
	fs.StringVar(&f.metadata, "metadata-file", "", "write the result as JSON to this file")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "print only the result")
	fs.StringVar(&f.progress, "progress", os.Getenv("BUILDKIT_PROGRESS"), "progress of blobs that are copied: auto, tty, plain, rawjson or quiet")
	f.registryFlags.register(fs)
}

// maxAttempts bounds how often an index is changed anew because its tag moved meanwhile.
const maxAttempts = 5

func (f *createFlags) run(ctx context.Context, s streams, args []string) error {
	names, c, err := f.composition(args)
	if err != nil {
		return misused(err)
	}
	client := f.client(s)
	for try := 1; ; try++ {
		err := f.attempt(ctx, s, client, names, c)
		if !errors.Is(err, index.ErrMoved) || c.Base == "" || f.ifDigest != "" || try == maxAttempts {
			return err
		}
		fmt.Fprintf(s.err, "%v; changing what it names now\n", err)
	}
}

// attempt makes and publishes the index once.
func (f *createFlags) attempt(ctx context.Context, s streams, client *index.Client, names []string, c index.Composition) (err error) {
	draft, err := client.Compose(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, draft.Close()) }()
	if !f.quiet {
		for _, note := range append(f.notes, draft.Notes...) {
			fmt.Fprintln(s.err, "note:", printable(note))
		}
	}
	if err := f.gate(ctx, s, draft); err != nil {
		return err
	}
	if f.dryRun {
		if err := draft.Check(ctx, names, index.PublishOptions{IfDigest: digest.Digest(f.ifDigest)}); err != nil {
			return err
		}
		return f.show(s, draft)
	}
	result, err := s.result(names)
	if err != nil {
		return err
	}
	var receipts []index.Receipt
	publish := func(p index.Progress) (err error) {
		receipts, err = draft.Publish(ctx, names, index.PublishOptions{IfDigest: digest.Digest(f.ifDigest), Progress: p})
		return err
	}
	mode := f.progress
	if f.quiet {
		mode = "quiet"
	}
	if err := showTransfers(ctx, s, mode, publish); err != nil {
		return err
	}
	if !f.quiet {
		if err := printDraft(s, draft); err != nil {
			return err
		}
		for _, r := range receipts {
			fmt.Fprintf(s.err, "published %s\n", r.Ref)
		}
	}
	fmt.Fprintln(result, pinned(receipts[0]))
	return f.writeMetadata(draft, receipts)
}

// show is the dry run.
func (f *createFlags) show(s streams, draft *index.Draft) error {
	if !f.quiet {
		if err := printDraft(s, draft); err != nil {
			return err
		}
		fmt.Fprintf(s.err, "dry run: %s would be published\n", draft.Index.Descriptor.Digest)
	}
	_, err := fmt.Fprintf(s.out, "%s\n", draft.Index.Raw)
	return err
}

// printDraft prints what the index is made of.
func printDraft(s streams, draft *index.Draft) error {
	rows := make([][]string, len(draft.Index.Images))
	for i, image := range draft.Index.Images {
		rows[i] = []string{image.Platform.String(), image.Descriptor.Digest.String(), size(image.Size), printable(draft.Origins[i])}
	}
	return printTable(s.err, []string{"PLATFORM", "DIGEST", "SIZE", "FROM"}, rows)
}

// gate verifies the images of a draft.
func (f *createFlags) gate(ctx context.Context, s streams, draft *index.Draft) error {
	if f.verify == "off" {
		return nil
	}
	v := verifyFlags{except: f.except, form: formatTable}
	reports, err := v.images(ctx, draft, "", draft.Index.Images)
	if err != nil {
		return err
	}
	err = refusal(reports)
	if !f.quiet || err != nil {
		if err := v.print(s.err, reports); err != nil {
			return err
		}
	}
	if f.verify == "warn" {
		return nil
	}
	return err
}

// composition reads the flags.
func (f *createFlags) composition(args []string) ([]string, index.Composition, error) {
	names, c, err := f.members(args)
	if err != nil {
		return nil, c, err
	}
	if len(names) == 0 && !f.dryRun {
		return nil, c, errors.New("the index has no name: give it one with -t")
	}
	changes := f.appendTo || len(f.remove) > 0 || len(f.replace) > 0
	if changes && len(names) == 0 {
		return nil, c, errors.New("--append, --remove and --replace change the index that -t names: name it")
	}
	if changes {
		c.Base = names[0]
	}
	if len(c.Members) == 0 && !changes {
		return nil, c, errors.New("no source: name the images, or a file with --spec or -f, or a --template")
	}
	c.Remove = f.remove
	c.IgnoreMissing = c.IgnoreMissing || f.missing
	if f.mediaType != "auto" {
		if err := c.MediaType.UnmarshalText([]byte(f.mediaType)); err != nil {
			return nil, c, fmt.Errorf("--media-type: %w", err)
		}
	}
	for _, v := range f.annotations {
		list, err := index.ParseAnnotation(v)
		if err != nil {
			return nil, c, err
		}
		c.Annotations = append(c.Annotations, list...)
	}
	if len(f.expect) > 0 {
		if c.Expect, err = platforms.ParseList(strings.Join(f.expect, ",")); err != nil {
			return nil, c, fmt.Errorf("--expect: %w", err)
		}
	}
	if !slices.Contains([]string{"strict", "warn", "off"}, f.verify) {
		return nil, c, fmt.Errorf("--verify %s: it is strict, warn or off", f.verify)
	}
	if len(f.platforms) > 0 && f.template == "" {
		if c.Platforms, err = platforms.ParseList(strings.Join(f.platforms, ",")); err != nil {
			return nil, c, fmt.Errorf("--platform: %w", err)
		}
	}
	if f.ifDigest != "" && f.ifDigest != "none" {
		if _, err := digest.Parse(f.ifDigest); err != nil {
			return nil, c, fmt.Errorf("--if-digest %s: %w", f.ifDigest, err)
		}
	}
	if err := f.platformsOf(&c); err != nil {
		return nil, c, err
	}
	return names, c, besides(names, c.Members)
}

// members reads where the sources are said.
func (f *createFlags) members(args []string) ([]string, index.Composition, error) {
	var c index.Composition
	names := f.tags
	switch {
	case f.spec != "" && f.template != "":
		return nil, c, errors.New("--spec and --template both say what the sources are: give one")
	case f.spec != "":
		src, err := readFile(f.spec)
		if err != nil {
			return nil, c, fmt.Errorf("--spec: %w", err)
		}
		spec, err := index.ParseSpec(f.spec, src)
		if err != nil {
			return nil, c, err
		}
		c, names = spec.Composition, append(names, spec.Names...)
		f.notes = spec.Notes
	case f.template != "":
		list, err := index.Template(f.template, f.platforms)
		if err != nil {
			return nil, c, fmt.Errorf("--template: %w", err)
		}
		c.Members = list
	}
	for _, file := range f.files {
		more, err := sourcesIn(file)
		if err != nil {
			return nil, c, fmt.Errorf("-f: %w", err)
		}
		c.Members = append(c.Members, more...)
	}
	for _, arg := range args {
		c.Members = append(c.Members, index.Member{Source: arg})
	}
	for _, v := range f.replace {
		platform, source, ok := strings.Cut(v, "=")
		if !ok {
			return nil, c, fmt.Errorf("--replace %s: it is not PLATFORM=SOURCE", v)
		}
		p, err := platforms.Parse(platform)
		if err != nil {
			return nil, c, fmt.Errorf("--replace: %w", err)
		}
		c.Members = append(c.Members, index.Member{Source: source, Replace: p})
	}
	return names, c, nil
}

// besides completes sources that are only a digest: they are in the first name's repository.
func besides(names []string, members []index.Member) error {
	for i, m := range members {
		if _, err := digest.Parse(m.Source); err != nil {
			continue
		}
		if len(names) == 0 {
			return fmt.Errorf("%s: a digest alone is looked for in the repository that -t names", m.Source)
		}
		named, err := index.ParseReference(names[0])
		if err != nil {
			return err
		}
		members[i].Source = reference.TrimNamed(named).String() + "@" + m.Source
	}
	return nil
}

// platformsOf reads --annotate.
func (f *createFlags) platformsOf(c *index.Composition) error {
	for _, v := range f.annotate {
		found := false
		for i := range c.Members {
			m := &c.Members[i]
			written, ok := strings.CutPrefix(v, m.Source+"=")
			if !ok {
				continue
			}
			p, err := parseAnnotate(written)
			if err != nil {
				return fmt.Errorf("--annotate %s: %w", v, err)
			}
			m.Platform, found = overlay(m.Platform, p), true
			m.FixConfig = m.FixConfig || f.fixConfig
		}
		if !found {
			return fmt.Errorf("--annotate %s: it has to begin with one of the sources and =, as that source is written", v)
		}
	}
	if f.fixConfig && len(f.annotate) == 0 {
		for i := range c.Members {
			c.Members[i].FixConfig = true // to what the entries, the spec or the template say
		}
	}
	return nil
}

// overlay adds what a further --annotate says of the same source, as docker manifest annotate does.
func overlay(p, more platforms.Platform) platforms.Platform {
	if more.OS != "" {
		p.OS, p.Architecture, p.Variant = more.OS, more.Architecture, more.Variant
	}
	p.OSVersion = cmp.Or(more.OSVersion, p.OSVersion)
	p.OSFeatures = cmp.Or(more.OSFeatures, p.OSFeatures)
	return p
}

// parseAnnotate reads OS/ARCH[/VARIANT][,os.version=…][,os.features=…], or the fields alone.
func parseAnnotate(written string) (platforms.Platform, error) {
	var p platforms.Platform
	for i, part := range strings.Split(written, ",") {
		key, value, isField := strings.Cut(part, "=")
		switch {
		case !isField && i == 0:
			parsed, err := platforms.Parse(part)
			if err != nil {
				return p, err
			}
			p = parsed
		case key == "os.version":
			p.OSVersion = value
		case key == "os.features":
			p.OSFeatures = value
		default:
			return p, fmt.Errorf("%q is neither os.version=VERSION nor os.features=FEATURE+FEATURE", part)
		}
	}
	return p, nil
}

// maxSourceFile bounds a file that names sources, in bytes.
const maxSourceFile = 4 << 20

// readFile reads a file that a flag names; - is standard input.
func readFile(name string) ([]byte, error) {
	if name == "-" {
		name = os.Stdin.Name()
	}
	if info, err := os.Stat(name); err == nil && info.Size() > maxSourceFile {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are accepted", name, info.Size(), maxSourceFile)
	}
	return os.ReadFile(name) //nolint:gosec // the user names the file
}

// sourcesIn reads a file that names sources: a descriptor, what a build wrote with --metadata-file, or one a line. What a descriptor says of platform
// and annotations counts, as with docker buildx imagetools create.
func sourcesIn(file string) ([]index.Member, error) {
	src, err := readFile(file)
	if err != nil {
		return nil, err
	}
	var out []index.Member
	if !strings.HasPrefix(strings.TrimSpace(string(src)), "{") {
		for source := range strings.FieldsSeq(string(src)) {
			out = append(out, index.Member{Source: source, Place: file})
		}
		return out, nil
	}
	var doc struct {
		ocispec.Descriptor

		Built digest.Digest `json:"containerimage.digest"`
		Name  string        `json:"image.name"`
	}
	if err := json.Unmarshal(src, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	m := index.Member{Place: file, Annotations: doc.Annotations}
	if doc.Platform != nil {
		m.Platform = platforms.FromOCI(*doc.Platform)
	}
	switch name, _, _ := strings.Cut(doc.Name, ","); {
	case doc.Built != "" && name != "":
		named, err := index.ParseReference(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		m.Source = reference.TrimNamed(named).String() + "@" + doc.Built.String()
	case doc.Built != "":
		m.Source = doc.Built.String()
	case doc.Digest != "":
		m.Source = doc.Digest.String()
	default:
		return nil, fmt.Errorf("%s: it is neither a descriptor nor what --metadata-file writes: it names no digest", file)
	}
	return []index.Member{m}, nil
}

// created is what --metadata-file holds.
type created struct {
	Digest     digest.Digest      `json:"containerimage.digest"`
	Descriptor ocispec.Descriptor `json:"containerimage.descriptor"`
	Name       string             `json:"image.name"`
	Manifold   any                `json:"manifold"`
}

func (f *createFlags) writeMetadata(draft *index.Draft, receipts []index.Receipt) error {
	if f.metadata == "" {
		return nil
	}
	names := make([]string, len(receipts))
	for i, r := range receipts {
		names[i] = r.Ref
	}
	b, err := json.MarshalIndent(created{
		draft.Index.Descriptor.Digest, draft.Index.Descriptor, strings.Join(names, ","),
		map[string]any{"images": draft.Index.Images, "origins": draft.Origins, "notes": draft.Notes, "tags": receipts},
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(f.metadata, append(b, '\n'), 0o644) //nolint:gosec // digests are no secret
}
