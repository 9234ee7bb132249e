package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/platforms"
)

// Composition says what an index is to be made of. The zero value is nothing, which is an error.
type Composition struct {
	// Base is the reference of an index that is changed; empty begins with none. One that does not exist is made if it is only added to.
	Base string
	// Members are added, in any order.
	Members []Member
	// Remove are the entries of Base that are left out: platforms, or digests. One that is not there is an error.
	Remove []string
	// Platforms are the images that are taken from the members; nil means every one. One that is in none is an error.
	Platforms []platforms.Platform
	// Annotations of every level. Those of Base stay.
	Annotations []Annotation
	// MediaType is the kind of index; zero means Auto.
	MediaType MediaType
	// Expect are the platforms that have to be there, these and no others; nil means any.
	Expect []platforms.Platform
	// IgnoreMissing leaves out members that are not found, with a note.
	IgnoreMissing bool
}

// Member is a source of images: an image, or an index, all of whose images are taken with what attests them.
type Member struct {
	// Source is what [Client.Open] reads.
	Source string
	// Platform overrides what the config says, field by field: an empty field leaves it. It can be given to a single image only.
	Platform platforms.Platform
	// FixConfig writes Platform into the image's config too. That makes another image; what attested the old one is left out, with a note.
	FixConfig bool
	// Replace is the platform whose image of the base gives way to this one; zero means none. Of an index the image for it is taken.
	Replace platforms.Platform
	// Annotations go into the entries.
	Annotations map[string]string
	// Place is where the member was written, "file.yaml:12" for example, for errors; it may be empty.
	Place string
}

// MemberError is a member that could not be taken in.
type MemberError struct {
	// Source and Place are the member's.
	Source, Place string
	Err           error
}

// Error names place and source.
func (e *MemberError) Error() string {
	text := e.Err.Error()
	if source := withoutUser(e.Source); !strings.HasPrefix(text, source) {
		text = source + ": " + text
	}
	if e.Place != "" {
		text = e.Place + ": " + text
	}
	return text
}

// Unwrap returns what happened.
func (e *MemberError) Unwrap() error { return e.Err }

// Draft is an index that has been assembled and is not published. It has to be closed.
type Draft struct {
	// Index is what would be published.
	Index Index
	// Origins name for each of Index.Images the source it came from.
	Origins []string
	// Notes are what whoever asked for it should know, a line each.
	Notes []string

	base      string // what the base named when it was read, noTag if nothing, "" without one
	baseRef   string
	keep      *Source // the index whose own annotations stay; nil if there is none
	client    *Client
	sources   []*Source
	artifacts []artifact
}

// Compose reads every member, and the base, and assembles the index. Nothing is written anywhere: [Draft.Publish] does that. Failures of members are
// joined in their order, each a [*MemberError].
func (c *Client) Compose(ctx context.Context, what Composition) (_ *Draft, err error) {
	d := &Draft{client: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	opened, err := d.open(ctx, what)
	if err != nil {
		return nil, err
	}
	var pieces, added []piece
	d.choose(what, opened)
	if what.Base != "" {
		if pieces, err = d.takeBase(what, opened[0], opened[1:]); err != nil {
			return nil, err
		}
		opened = opened[1:]
	}
	for i, m := range what.Members {
		if opened[i] == nil {
			d.notef("%s is not there and is left out", m.Source)
			continue
		}
		more, err := d.take(m, opened[i])
		if err != nil {
			return nil, &MemberError{m.Source, m.Place, err}
		}
		added = append(added, more...)
	}
	if added, err = only(added, what.Platforms); err != nil {
		return nil, err
	}
	pieces = append(pieces, added...)
	if err := complete(pieces); err != nil {
		return nil, err
	}
	if err := d.assemble(pieces, what); err != nil {
		return nil, err
	}
	if err := d.asItIs(ctx, what, opened); err != nil {
		return nil, err
	}
	return d, expect(d.Index, what.Expect)
}

func (d *Draft) notef(format string, args ...any) {
	d.Notes = append(d.Notes, fmt.Sprintf(format, args...))
}

// open opens the base, if there is one, and every member, all at once. What is missing and may be is nil.
func (d *Draft) open(ctx context.Context, c Composition) ([]*Source, error) {
	members := c.Members
	if c.Base != "" {
		members = append([]Member{{Source: c.Base}}, members...)
	}
	if len(members) == 0 {
		return nil, errors.New("no image to make an index of")
	}
	if len(members) > maxImages {
		return nil, fmt.Errorf("%d sources, at most %d are accepted", len(members), maxImages)
	}
	opened, errs := make([]*Source, len(members)), make([]error, len(members))
	var eg errgroup.Group
	eg.SetLimit(parallelRequests)
	for i, m := range members {
		eg.Go(func() error {
			s, err := d.client.OpenPartial(ctx, m.Source)
			opened[i] = s
			isBase := c.Base != "" && i == 0
			switch {
			case err == nil || c.IgnoreMissing && !isBase && (errors.Is(err, ErrNotFound) || errdefs.IsNotFound(err)):
			case isBase && errors.Is(err, ErrNotFound) && c.onlyAdds():
				d.notef("%s does not exist yet and is made", c.Base)
			case isBase && errors.Is(err, ErrNotFound):
				errs[i] = fmt.Errorf("%w: there is nothing to change", err)
			default:
				errs[i] = &MemberError{m.Source, m.Place, err}
			}
			return nil
		})
	}
	_ = eg.Wait()
	for _, s := range opened {
		if s != nil {
			d.sources = append(d.sources, s)
		}
	}
	return opened, errors.Join(errs...)
}

// piece is an image on its way into the index.
type piece struct {
	image  Image
	source *Source
	made   map[digest.Digest][]byte // what was written anew for it: config, manifest
}

// loose reports whether an image of platform p is what want names. OS version and features count only if want has them.
func loose(p, want platforms.Platform) bool {
	if want.OSVersion == "" {
		p.OSVersion = ""
	}
	if want.OSFeatures == "" {
		p.OSFeatures = ""
	}
	return p == want
}

func platformsOf(list []Image) string {
	out := make([]string, len(list))
	for i, image := range list {
		out[i] = image.Platform.String()
	}
	return strings.Join(out, ", ")
}

// take takes the images of a member.
func (d *Draft) take(m Member, s *Source) ([]piece, error) {
	list := s.Index.Images
	if !m.Replace.IsZero() && s.Index.IsIndex() {
		at, err := one(s.Index, m.Replace)
		if err != nil {
			return nil, err
		}
		list = list[at : at+1]
	}
	if !m.Platform.IsZero() && len(list) > 1 {
		return nil, fmt.Errorf("it holds %d images (%s); a platform can be given to one only", len(list), platformsOf(list))
	}
	d.noteLost(s, d.keeps(s))
	for _, o := range s.Index.Orphans {
		d.notef("%s: %s attests %s, which is not in the index, and is left out", m.Source, o.Digest, attested(o))
	}
	var out []piece
	for _, image := range list {
		p := piece{image: image, source: s}
		if err := d.adjust(&p, m); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// adjust gives an image the platform and the annotations that its member asks for.
func (d *Draft) adjust(p *piece, m Member) error {
	image := &p.image
	if images.IsIndexType(image.Descriptor.MediaType) {
		return fmt.Errorf("entry %s is an index itself: name it as a source of its own", image.Descriptor.Digest)
	}
	platform := overlay(image.Platform, m.Platform)
	if platform.OS == image.ConfigPlatform.OS {
		platform.OSVersion = cmp.Or(platform.OSVersion, image.ConfigPlatform.OSVersion)
		platform.OSFeatures = cmp.Or(platform.OSFeatures, image.ConfigPlatform.OSFeatures)
	}
	switch {
	case platform.IsZero() && image.Descriptor.ArtifactType == "":
		return errors.New("its config says no platform: give it one with --annotate SOURCE=OS/ARCH")
	case !m.Replace.IsZero() && !loose(platform, m.Replace):
		return fmt.Errorf("it is for %s and would replace the image for %s: say --annotate %s=%s if it really is for that", platform, m.Replace, m.Source, m.Replace)
	}
	if platform != image.Platform {
		image.Platform = platform
		oci := platform.OCI()
		image.Descriptor.Platform = &oci
	}
	if m.FixConfig && image.ConfigPlatform != platform {
		if err := d.fixConfig(p, platform); err != nil {
			return err
		}
	} else if !m.Platform.IsZero() && image.ConfigPlatform != platform {
		d.notef("%s: the index will say %s, the image's config says %s; --fix-config writes it there too", m.Source, platform, image.ConfigPlatform)
	}
	if len(m.Annotations) > 0 {
		have := maps.Clone(image.Descriptor.Annotations)
		if have == nil {
			have = map[string]string{}
		}
		maps.Copy(have, m.Annotations)
		image.Descriptor.Annotations = have
	}
	return nil
}

// overlay returns p with the fields of over that are set.
func overlay(p, over platforms.Platform) platforms.Platform {
	if over.OS != "" && over.OS != p.OS {
		p.OS, p.OSVersion, p.OSFeatures = over.OS, "", ""
	}
	if over.Architecture != "" {
		p.Architecture, p.Variant = over.Architecture, over.Variant
	}
	if over.Variant != "" {
		p.Variant = over.Variant
	}
	if over.OSVersion != "" {
		p.OSVersion = over.OSVersion
	}
	if over.OSFeatures != "" {
		p.OSFeatures = over.OSFeatures
	}
	return p.Normalize()
}

// assemble makes the index of the pieces.
func (d *Draft) assemble(pieces []piece, c Composition) error {
	if len(pieces) == 0 {
		return errors.New("nothing is left to make an index of")
	}
	opt := AssembleOptions{MediaType: c.MediaType}
	used := map[int]bool{}
	for i := range pieces {
		if err := d.annotate(&pieces[i], c.Annotations, used); err != nil {
			return err
		}
	}
	for _, s := range d.sources {
		if !d.keeps(s) {
			continue
		}
		for _, k := range slices.Sorted(maps.Keys(s.Index.Annotations)) {
			opt.Annotations = append(opt.Annotations, Annotation{Level: LevelIndex, Key: k, Value: s.Index.Annotations[k]})
		}
	}
	for i, a := range c.Annotations {
		switch {
		case a.Level != LevelManifest:
			opt.Annotations = append(opt.Annotations, a)
		case !used[i]:
			return fmt.Errorf("annotation %s: there is no image for it", a)
		}
	}
	list := make([]Image, len(pieces))
	for i, p := range pieces {
		list[i] = p.image
	}
	x, err := Assemble(list, opt)
	if dup, ok := errors.AsType[*DuplicateError](err); ok {
		return duplicate(dup, pieces, c.Base)
	}
	if err != nil {
		return err
	}
	d.Index = x
	for _, image := range x.Images {
		i := slices.IndexFunc(pieces, func(p piece) bool {
			return p.image.Descriptor.Digest == image.Descriptor.Digest && p.image.Platform == image.Platform
		})
		d.Origins = append(d.Origins, pieces[i].source.Name)
		if err := d.pack(pieces[i]); err != nil {
			return err
		}
	}
	return nil
}

// duplicate says where two images for one platform came from, in the order in which they were given, and what to do.
func duplicate(dup *DuplicateError, pieces []piece, base string) error {
	var from []string
	for _, p := range pieces {
		if slices.Contains(dup.Digests[:], p.image.Descriptor.Digest) && p.image.Platform == dup.Platform {
			from = append(from, p.source.Name)
		}
	}
	advice := "leave one out, or give one another platform with --annotate"
	switch {
	case base != "" && len(from) > 1 && from[0] == base && from[1] == base:
		advice = "--remove DIGEST takes one of them out"
	case base != "" && len(from) > 1 && from[0] == base:
		advice = fmt.Sprintf("--replace %s=%s puts the new one in place of the old", dup.Platform, from[1])
	}
	return fmt.Errorf("%s: %w; %s", strings.Join(slices.Compact(from), " and "), dup, advice)
}

// pack makes the artifacts of an image and of what attests it.
func (d *Draft) pack(p piece) error {
	desc := p.image.Descriptor
	raw, isNew := p.made[desc.Digest]
	if !isNew {
		raw = p.source.small[desc.Digest]
	}
	if raw == nil {
		return fmt.Errorf("entry %s of %s is a %s, which is no image", desc.Digest, p.source.Name, desc.MediaType)
	}
	one, err := newArtifact(p.source, desc, raw)
	if err != nil {
		return err
	}
	one.made = p.made
	d.artifacts = append(d.artifacts, one)
	for _, a := range p.image.Attestations {
		one, err := newArtifact(p.source, a.Descriptor, p.source.small[a.Descriptor.Digest])
		if err != nil {
			return err
		}
		d.artifacts = append(d.artifacts, one)
	}
	return nil
}

// Fetch opens a blob of the images, or one of their manifests.
func (d *Draft) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	for _, p := range d.artifacts {
		if raw, ok := p.made[desc.Digest]; ok {
			return readerOf(raw), nil
		}
		if p.desc.Digest == desc.Digest || slices.ContainsFunc(p.blobs, func(b ocispec.Descriptor) bool { return b.Digest == desc.Digest }) {
			return p.from.Fetch(ctx, desc)
		}
	}
	return nil, fmt.Errorf("blob %s: %w in the sources", desc.Digest, errdefs.ErrNotFound)
}

// Close closes the sources.
func (d *Draft) Close() error {
	var errs []error
	for _, s := range d.sources {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
