package index

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/platforms"
)

// onlyAdds reports whether a base that does not exist is as good as one without images.
func (c Composition) onlyAdds() bool {
	return len(c.Members) > 0 && len(c.Remove) == 0 && !slices.ContainsFunc(c.Members, func(m Member) bool { return !m.Replace.IsZero() })
}

// takeBase takes the images of the base but for those that give way. A base that does not exist is nil.
func (d *Draft) takeBase(c Composition, base *Source, members []*Source) ([]piece, error) {
	d.base, d.baseRef = noTag, c.Base
	if scheme, _, _ := split(c.Base); scheme == "" {
		named, err := ParseReference(c.Base)
		if err != nil {
			return nil, err
		}
		d.baseRef = named.String()
	}
	if base == nil {
		return nil, nil
	}
	d.base = base.Index.Descriptor.Digest.String()
	away := map[int]bool{}
	for _, what := range c.Remove {
		if attests(base.Index, what) {
			continue
		}
		match := func(i Image) bool { return i.Descriptor.Digest.String() == what }
		if p, err := platforms.Parse(what); err == nil {
			match = func(i Image) bool { return loose(i.Platform, p) }
		} else if _, derr := digest.Parse(what); derr != nil {
			return nil, fmt.Errorf("--remove %s: it is neither a platform nor a digest: %w", what, err)
		}
		some := false
		for i, image := range base.Index.Images {
			if match(image) {
				away[i], some = true, true
			}
		}
		if !some {
			return nil, fmt.Errorf("%s: there is no image for %s in it; it has %s", c.Base, what, platformsOf(base.Index.Images))
		}
	}
	for i, m := range c.Members {
		if m.Replace.IsZero() || members[i] == nil {
			continue // what is not there replaces nothing
		}
		at, err := one(base.Index, m.Replace)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Base, err)
		}
		away[at] = true
		for i, image := range base.Index.Images { // its twin has the old files
			away[i] = away[i] || image.IsTwin() && image.Platform == base.Index.Images[at].Platform
		}
	}
	var out []piece
	for i, image := range base.Index.Images {
		if away[i] {
			continue
		}
		image.Attestations = slices.DeleteFunc(slices.Clone(image.Attestations), func(a Attestation) bool {
			return slices.Contains(c.Remove, a.Descriptor.Digest.String())
		})
		out = append(out, piece{image: image, source: base})
	}
	for _, o := range base.Index.Orphans {
		if !slices.Contains(c.Remove, o.Digest.String()) {
			d.notef("%s: %s attests %s, which is not in the index, and is left out", c.Base, o.Digest, attested(o))
		}
	}
	return out, nil
}

// one finds the only image for a platform.
func one(x Index, p platforms.Platform) (int, error) {
	found := withoutTwins(x.Select(p))
	switch len(found) {
	case 0:
		return 0, fmt.Errorf("there is no image for %s in it; it has %s", p, platformsOf(x.Images))
	case 1:
	default:
		return 0, fmt.Errorf("there are %d images for %s in it (%s): say which OS version", len(found), p, platformsOf(found))
	}
	return slices.IndexFunc(x.Images, func(i Image) bool {
		return i.Platform == found[0].Platform && i.Descriptor.Digest == found[0].Descriptor.Digest
	}), nil
}

// complete refuses pieces that are not there.
func complete(pieces []piece) error {
	var errs []error
	for _, p := range pieces {
		if p.image.Missing {
			errs = append(errs, fmt.Errorf("%s: %w", p.source.Name, missing("image", p.image.Platform, p.image.Descriptor)))
		}
		for _, a := range p.image.Attestations {
			if a.Missing {
				errs = append(errs, fmt.Errorf("%s: %w", p.source.Name, missing("attestation", p.image.Platform, a.Descriptor)))
			}
		}
	}
	return errors.Join(errs...)
}

// choose decides which index's own annotations stay: the base's, or those of the one index that is given.
func (d *Draft) choose(c Composition, opened []*Source) {
	switch {
	case c.Base != "" && opened[0] != nil:
		d.keep = opened[0]
	case c.Base == "" && len(opened) == 1:
		d.keep = opened[0]
	}
}

func (d *Draft) keeps(s *Source) bool { return d.keep == s }

// noteLost tells what of an index does not come along.
func (d *Draft) noteLost(s *Source, keeps bool) {
	if !s.Index.IsIndex() {
		return
	}
	var lost []string
	if !keeps {
		for _, k := range slices.Sorted(maps.Keys(s.Index.Annotations)) {
			lost = append(lost, "annotation "+k)
		}
	}
	var doc ocispec.Index
	if json.Unmarshal(s.Index.Raw, &doc) == nil {
		if doc.Subject != nil {
			lost = append(lost, "its subject")
		}
		if doc.ArtifactType != "" {
			lost = append(lost, "its artifact type")
		}
	}
	if len(lost) > 0 {
		d.notef("%s: the index's own fields are left out: %s", s.Name, strings.Join(lost, ", "))
	}
}

// asItIs takes the one index that is given as it is, byte for byte, if nothing about it is to change: its digest stays, and so do signatures of it.
func (d *Draft) asItIs(ctx context.Context, c Composition, opened []*Source) error {
	if c.Base != "" || len(opened) != 1 || opened[0] == nil || !opened[0].Index.IsIndex() || len(c.Annotations) > 0 || c.Platforms != nil ||
		c.MediaType == OCI || c.MediaType == Docker {
		return nil
	}
	m, s := c.Members[0], opened[0]
	if !m.Platform.IsZero() || m.FixConfig || len(m.Annotations) > 0 || len(s.Index.Orphans) > 0 {
		return nil
	}
	what, err := s.everything(ctx, s.Index.Descriptor)
	if err != nil {
		return err
	}
	x := d.Index
	x.Raw, x.Descriptor, x.Annotations = s.Index.Raw, s.Index.Descriptor, s.Index.Annotations
	d.Index, d.artifacts = x, what.artifacts
	d.Notes = slices.DeleteFunc(d.Notes, func(n string) bool { return strings.HasPrefix(n, s.Name+": the index's own fields") })
	return nil
}

// attests reports whether an index has an attestation of some digest.
func attests(x Index, what string) bool {
	for _, image := range x.Images {
		if slices.ContainsFunc(image.Attestations, func(a Attestation) bool { return a.Descriptor.Digest.String() == what }) {
			return true
		}
	}
	return slices.ContainsFunc(x.Orphans, func(o ocispec.Descriptor) bool { return o.Digest.String() == what })
}

// only picks the pieces for some platforms.
func only(pieces []piece, want []platforms.Platform) ([]piece, error) {
	if want == nil {
		return pieces, nil
	}
	var have []Image
	for _, p := range pieces {
		have = append(have, p.image)
	}
	for _, p := range want {
		if len(Index{Images: have}.Select(p)) == 0 {
			return nil, fmt.Errorf("there is no image for %s in the sources; they have %s", p, platformsOf(have))
		}
	}
	return slices.DeleteFunc(pieces, func(p piece) bool {
		return !slices.ContainsFunc(want, func(w platforms.Platform) bool { return loose(p.image.Platform, w) })
	}), nil
}

// expect checks that an index holds these platforms and no others.
func expect(x Index, want []platforms.Platform) error {
	if want == nil {
		return nil
	}
	var missing, extra []string
	for _, p := range want {
		if !slices.ContainsFunc(x.Images, func(i Image) bool { return loose(i.Platform, p) }) {
			missing = append(missing, p.String())
		}
	}
	for _, image := range x.Images {
		if !slices.ContainsFunc(want, func(p platforms.Platform) bool { return loose(image.Platform, p) }) {
			extra = append(extra, image.Platform.String())
		}
	}
	switch {
	case len(missing) > 0 && len(extra) > 0:
		return fmt.Errorf("the index lacks %s, and has %s, which is not expected", strings.Join(missing, ", "), strings.Join(extra, ", "))
	case len(missing) > 0:
		return fmt.Errorf("the index lacks %s; it has %s", strings.Join(missing, ", "), platformsOf(x.Images))
	case len(extra) > 0:
		return fmt.Errorf("the index has %s, which is not expected", strings.Join(extra, ", "))
	}
	return nil
}
