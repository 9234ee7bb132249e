package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/internal/ocijson"
	"github.com/manifold-build/manifold/internal/registry"
	"github.com/manifold-build/manifold/platforms"
)

const (
	// parallelRequests bounds the requests for small things that one call has under way at once; the client has a bound for all of them.
	parallelRequests = 48
	// fetchWait bounds how long reading one manifest or config may take.
	fetchWait = 5 * time.Minute
)

// Pull reads what a reference names, in a registry or elsewhere (see [Client.Open]): the index, and every image's manifest and config. Layers are not
// read. Every byte is checked against its digest.
func (c *Client) Pull(ctx context.Context, ref string) (Index, error) {
	s, err := c.Open(ctx, ref)
	if err != nil {
		return Index{}, err
	}
	return s.Index, s.Close()
}

// imagesOf lists an index's images, each with the entries that attest it.
func imagesOf(x ocispec.Index) []Image {
	var out []Image
	for _, d := range x.Manifests {
		if attested(d) != "" {
			continue
		}
		image := Image{Descriptor: d}
		if d.Platform != nil {
			image.Platform = platforms.FromOCI(*d.Platform)
		}
		for _, a := range x.Manifests {
			if attested(a) == d.Digest {
				image.Attestations = append(image.Attestations, Attestation{Descriptor: a})
			}
		}
		out = append(out, image)
	}
	return out
}

// orphansOf lists the entries that attest nothing in the index.
func orphansOf(x ocispec.Index) []ocispec.Descriptor {
	var out []ocispec.Descriptor
	for _, a := range x.Manifests {
		subject := attested(a)
		if subject != "" && !slices.ContainsFunc(x.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == subject && attested(d) == "" }) {
			out = append(out, a)
		}
	}
	return out
}

// readImage reads manifest and config of an image. An entry of another kind, an artifact, keeps only its descriptor.
func (s *Source) readImage(ctx context.Context, image *Image) error {
	if !images.IsManifestType(image.Descriptor.MediaType) {
		return nil
	}
	raw, err := s.manifest(ctx, image.Descriptor)
	if err != nil {
		return err
	}
	var m ocispec.Manifest
	if err := ocijson.Manifest(raw, image.Descriptor.MediaType, &m); err != nil {
		return fmt.Errorf("manifest %s: %w", image.Descriptor.Digest, err)
	}
	if !isConfig(m.Config.MediaType) {
		image.Config, image.Layers, image.Size = m.Config, m.Layers, total(m)
		return nil // an artifact
	}
	config, err := s.manifest(ctx, m.Config)
	if err != nil {
		return err
	}
	return image.fill(raw, config)
}

// isConfig reports whether a media type is that of an image's config. Some old tools leave it out.
func isConfig(mediaType string) bool { return mediaType == "" || images.IsConfigType(mediaType) }

// readAttestation reads what an entry attests.
func (s *Source) readAttestation(ctx context.Context, a *Attestation) error {
	raw, err := s.manifest(ctx, a.Descriptor)
	if err != nil {
		return err
	}
	var m ocispec.Manifest
	if err := ocijson.Manifest(raw, a.Descriptor.MediaType, &m); err != nil {
		return fmt.Errorf("attestation %s: %w", a.Descriptor.Digest, err)
	}
	for _, l := range m.Layers {
		if p := l.Annotations[annotationPredicate]; p != "" {
			a.Predicates = append(a.Predicates, p)
		}
	}
	return nil
}

// manifest reads a manifest or a config whole, once.
func (s *Source) manifest(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	s.mu.Lock()
	raw, ok := s.small[desc.Digest]
	s.mu.Unlock()
	if ok {
		return raw, nil
	}
	from := s.Fetch
	if s.repo != nil {
		from = s.repo.FetchSmall
	}
	raw, err := fetch(ctx, from, desc)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.small[desc.Digest] = raw
	return raw, nil
}

// fetch reads a blob or manifest whole, within maxManifest, and checks size and digest.
func fetch(ctx context.Context, f func(context.Context, ocispec.Descriptor) (io.ReadCloser, error), desc ocispec.Descriptor) (_ []byte, err error) {
	if desc.Size > maxManifest {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are accepted for a %s", desc.Digest, desc.Size, int64(maxManifest), desc.MediaType)
	}
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("%q: %w", desc.Digest, err)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchWait)
	defer cancel()
	rc, err := f(ctx, desc)
	if err != nil {
		return nil, contentError(desc, err)
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.LimitReader(rc, desc.Size+1)); err != nil {
		return nil, contentError(desc, err)
	}
	if int64(b.Len()) != desc.Size || desc.Digest.Algorithm().FromBytes(b.Bytes()) != desc.Digest {
		return nil, &registry.ContentError{Digest: desc.Digest}
	}
	return b.Bytes(), nil
}

// contentError names what could not be read.
func contentError(desc ocispec.Descriptor, err error) error {
	if is[*registry.ContentError](err) {
		return err // it does
	}
	return fmt.Errorf("%s: %w", desc.Digest, err)
}
