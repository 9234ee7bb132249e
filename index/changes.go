package index

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/platforms"
)

// takeBase takes the images of the base but for those that give way.
func (d *Draft) takeBase(c Composition, base *Source) ([]piece, error) {
	d.base = base.Index.Descriptor.Digest.String()
	if named, err := ParseReference(c.Base); err == nil {
		d.baseRef = named.String()
	}
	away := map[int]bool{}
	mark := func(what string, match func(Image) bool) error {
		n := len(away)
		for i, image := range base.Index.Images {
			if match(image) {
				away[i] = true
			}
		}
		if len(away) == n {
			return fmt.Errorf("%s: there is no image for %s in it; it has %s", c.Base, what, platformsOf(base.Index.Images))
		}
		return nil
	}
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
		if err := mark(what, match); err != nil {
			return nil, err
		}
	}
	for _, m := range c.Members {
		if m.Replace.IsZero() {
			continue
		}
		if err := mark(m.Replace.String(), func(i Image) bool { return loose(i.Platform, m.Replace) }); err != nil {
			return nil, err
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
