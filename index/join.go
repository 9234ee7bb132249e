package index

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/platforms"
)

// Join puts the indexes together that several BuildKits made of one build's targets, into the index that one of them would have made of all: entries
// stay as they are, byte for byte, images in the order of the targets and then what attests them, and so do the index's annotations, to which more
// are added. An image that stands for no target, a target without one and one with two are errors, which name it.
func (c *Client) Join(ctx context.Context, parts []string, targets []platforms.Platform, more map[string]string) (_ *Draft, err error) {
	d := &Draft{client: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	members := make([]Member, len(parts))
	for i, part := range parts {
		members[i].Source = part
	}
	opened, err := d.open(ctx, Composition{Members: members})
	if err != nil {
		return nil, err
	}
	var pieces []piece
	out := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{}}
	for _, s := range opened {
		if !s.Index.IsIndex() {
			return nil, fmt.Errorf("%s is no index", s.Name)
		}
		if out.MediaType != "" && out.MediaType != s.Index.Descriptor.MediaType {
			return nil, fmt.Errorf("%s is a %s, and another part of the build a %s", s.Name, s.Index.Descriptor.MediaType, out.MediaType)
		}
		out.MediaType = s.Index.Descriptor.MediaType
		if len(s.Index.Annotations) > 0 {
			out.Annotations = maps.Clone(s.Index.Annotations)
		}
		for _, image := range s.Index.Images {
			pieces = append(pieces, piece{image: image, source: s})
		}
	}
	if len(more) > 0 && out.Annotations == nil {
		out.Annotations = map[string]string{}
	}
	maps.Copy(out.Annotations, more)
	if pieces, err = inOrder(pieces, targets); err != nil {
		return nil, err
	}
	var attestations []ocispec.Descriptor
	for _, p := range pieces {
		out.Manifests = append(out.Manifests, p.image.Descriptor)
		for _, a := range p.image.Attestations {
			attestations = append(attestations, a.Descriptor)
		}
		d.Index.Images, d.Origins = append(d.Index.Images, p.image), append(d.Origins, p.source.Name)
		if err := d.pack(p); err != nil {
			return nil, err
		}
	}
	out.Manifests = append(out.Manifests, attestations...)
	// As BuildKit's exporter writes it.
	raw, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, err
	}
	d.Index.Raw, d.Index.Annotations = raw, out.Annotations
	d.Index.Descriptor = ocispec.Descriptor{MediaType: out.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw)), Annotations: opened[0].Index.Descriptor.Annotations}
	return d, nil
}

// inOrder sorts images by the targets that they are for, one for each.
func inOrder(pieces []piece, targets []platforms.Platform) ([]piece, error) {
	var out []piece
	var errs []error
	for _, t := range targets {
		// The more exact ones first: what a target does not name, an image may (see loose).
		i := slices.IndexFunc(pieces, func(p piece) bool { return p.image.Platform == t })
		if i < 0 {
			i = slices.IndexFunc(pieces, func(p piece) bool { return loose(p.image.Platform, t) })
		}
		if i < 0 {
			errs = append(errs, fmt.Errorf("%s: no part of the build holds an image for it", t))
			continue
		}
		out = append(out, pieces[i])
		pieces = slices.Delete(slices.Clone(pieces), i, i+1)
	}
	for _, p := range pieces {
		errs = append(errs, fmt.Errorf("%s: %s holds an image for it that nobody asked for, or another one", p.image.Platform, p.source.Name))
	}
	return out, errors.Join(errs...)
}
