package index

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/platforms"
)

// CopyRequest is what is copied, and where to.
type CopyRequest struct {
	// Source is what [Client.Open] reads.
	Source string
	// Names are where it goes: tags in registries, oci-layout:DIR:NAME, oci-archive:FILE:NAME, and for one image docker-archive:FILE:NAME. The FILE "-" is [ClientOptions.Stdout].
	Names []string
	// Platforms are the images that are copied. One is copied as it is, without an index around it; several make a new index. Nil means everything, byte
	// for byte.
	Platforms []platforms.Platform
	// WithoutReferrers leaves out what refers to the source, or to its images, by its subject: signatures, for example.
	WithoutReferrers bool
	// DigestTags takes along the tags that are named for a manifest's digest, as cosign names them (sha256-HEX.sig, .att, .sbom), between registries.
	DigestTags bool
	// Progress is told of the blobs that are brought; nil means nobody.
	Progress Progress
}

// Copied is what a copy came to.
type Copied struct {
	// Descriptor is what the names stand for now.
	Descriptor ocispec.Descriptor `json:"descriptor"`
	// Tags were read back.
	Tags []Receipt `json:"tags"`
	// Manifests and Blobs count what was needed, what was there already included; Size is the blobs' size in bytes; Referrers are among the manifests.
	Manifests int   `json:"manifests"`
	Blobs     int   `json:"blobs"`
	Size      int64 `json:"size"`
	Referrers int   `json:"referrers"`
	// DigestTags are tags that are named for one of the manifests, and were copied before.
	DigestTags int `json:"digestTags,omitempty"`
	// Notes are what whoever asked for it should know, a line each.
	Notes []string `json:"notes,omitempty"`
}

// Copy copies an index or an image, with what attests it and what refers to it. What is at its destination already is not sent again, so that a
// copy that broke off goes on where it stopped. Names move last, as [Client.Publish] moves them.
func (c *Client) Copy(ctx context.Context, req CopyRequest) (_ Copied, err error) {
	source, err := c.OpenPartial(ctx, req.Source)
	if err != nil {
		return Copied{}, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	var notes []string
	s, err := source.publication(ctx, req.Platforms, &notes)
	if err != nil {
		return Copied{}, fmt.Errorf("%s: %w", req.Source, err)
	}
	s.progress = &reporter{tell: req.Progress}
	out := Copied{Descriptor: s.desc, Notes: notes}
	if !req.WithoutReferrers {
		referrers, err := source.referrers(ctx, s)
		if err != nil {
			return out, fmt.Errorf("%s: %w", req.Source, err)
		}
		out.Referrers = len(referrers)
		s.artifacts = append(s.artifacts, referrers...)
	}
	seen := map[digest.Digest]bool{}
	for _, p := range s.artifacts {
		out.Manifests++
		for _, b := range p.blobs {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				out.Blobs++
				out.Size += b.Size
			}
		}
	}
	if req.DigestTags {
		if out.DigestTags, err = c.copyDigestTags(ctx, source, s, req.Names); err != nil {
			return out, fmt.Errorf("%s: %w", req.Source, err)
		}
	}
	out.Tags, err = s.publish(ctx, c, req.Names)
	return out, err
}

// publication is what a copy takes along.
func (s *Source) publication(ctx context.Context, want []platforms.Platform, notes *[]string) (publication, error) {
	top := s.Index.Descriptor
	if !s.Index.IsIndex() && len(s.Index.Images) > 1 && len(want) == 0 {
		return publication{}, fmt.Errorf("it holds %d images and no index: say which one with :NAME behind it, or make an index of them with manifold create", len(s.Index.Images))
	}
	if len(want) == 0 {
		return s.everything(ctx, top)
	}
	var list []Image
	for _, p := range want {
		found := s.Index.Select(p)
		if len(found) == 0 {
			return publication{}, fmt.Errorf("there is no image for %s in it; it has %s", p, platformsOf(s.Index.Images))
		}
		if len(want) == 1 {
			found = withoutTwins(found) // one image is asked for
		}
		list = append(list, found...)
	}
	if len(list) == 1 {
		one := list[0].Descriptor
		if n := len(list[0].Attestations); n > 0 {
			*notes = append(*notes, fmt.Sprintf("%s: its %d attestations are in the index and are not copied with the image alone; manifold create --platform %s keeps them",
				list[0].Platform, n, list[0].Platform))
		}
		one.Annotations, one.Platform = nil, nil
		return s.everything(ctx, one)
	}
	var opt AssembleOptions
	for k, v := range s.Index.Annotations {
		opt.Annotations = append(opt.Annotations, Annotation{Level: LevelIndex, Key: k, Value: v})
	}
	x, err := Assemble(list, opt)
	if err != nil {
		return publication{}, err
	}
	out := publication{desc: x.Descriptor, raw: x.Raw}
	for _, image := range x.Images {
		descs := []ocispec.Descriptor{image.Descriptor}
		for _, a := range image.Attestations {
			descs = append(descs, a.Descriptor)
		}
		for _, d := range descs {
			more, err := s.artifacts(ctx, d, 0)
			if err != nil {
				return publication{}, err
			}
			out.artifacts = append(out.artifacts, more...)
		}
	}
	return out, nil
}

// everything is the publication of a descriptor and all that it stands for.
func (s *Source) everything(ctx context.Context, top ocispec.Descriptor) (publication, error) {
	artifacts, err := s.artifacts(ctx, top, 0)
	if err != nil {
		return publication{}, err
	}
	last := &artifacts[len(artifacts)-1]
	last.blobsOnly = true
	return publication{desc: top, raw: last.raw, artifacts: artifacts}, nil
}

// referrers reads what refers to a publication's manifests, and to that in turn.
func (s *Source) referrers(ctx context.Context, what publication) ([]artifact, error) {
	known := map[digest.Digest]bool{what.desc.Digest: true}
	next := []digest.Digest{what.desc.Digest}
	for _, p := range what.artifacts {
		if !known[p.desc.Digest] {
			known[p.desc.Digest] = true
			next = append(next, p.desc.Digest)
		}
	}
	var out []artifact
	for depth := 0; len(next) > 0 && depth < maxNesting; depth++ {
		lists, err := s.referrersOfEach(ctx, next)
		if err != nil {
			return nil, err
		}
		next = nil
		for _, d := range slices.Concat(lists...) {
			if known[d.Digest] {
				continue
			}
			known[d.Digest] = true
			next = append(next, d.Digest)
			more, err := s.artifacts(ctx, d, 0)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		}
	}
	return out, nil
}
