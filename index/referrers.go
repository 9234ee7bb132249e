package index

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Referrer is a manifest that refers to another by its subject: a signature, an SBOM.
type Referrer struct {
	// Subject is the digest that it refers to: the index's, or one of its images'.
	Subject digest.Digest `json:"subject"`
	// Descriptor is the referrer's own, with its artifact type and annotations.
	Descriptor ocispec.Descriptor `json:"descriptor"`
}

// Referrers lists what refers to the index and to each of its images, in that order. A registry without the referrers API is asked for the tags that stand in for it. Nil means that
// nothing does.
func (s *Source) Referrers(ctx context.Context) ([]Referrer, error) {
	subjects := []digest.Digest{s.Index.Descriptor.Digest}
	for _, image := range s.Index.Images {
		if image.Descriptor.Digest != subjects[0] {
			subjects = append(subjects, image.Descriptor.Digest)
		}
	}
	lists, err := s.referrersOfEach(ctx, subjects)
	if err != nil {
		return nil, err
	}
	var out []Referrer
	for i, list := range lists {
		for _, d := range list {
			out = append(out, Referrer{subjects[i], d})
		}
	}
	return out, nil
}

// referrersOfEach lists what refers to each of several digests.
func (s *Source) referrersOfEach(ctx context.Context, subjects []digest.Digest) ([][]ocispec.Descriptor, error) {
	lists := make([][]ocispec.Descriptor, len(subjects))
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(parallelRequests)
	for i, d := range subjects {
		eg.Go(func() (err error) {
			lists[i], err = s.referrersOf(ctx, d)
			return err
		})
	}
	return lists, eg.Wait()
}

// referrersOf lists what refers to a digest.
func (s *Source) referrersOf(ctx context.Context, d digest.Digest) ([]ocispec.Descriptor, error) {
	if s.repo != nil {
		return s.repo.Referrers(ctx, d)
	}
	l, ok := s.blobs.(layout)
	if !ok {
		return nil, nil
	}
	list, err := l.entries()
	if err != nil {
		return nil, err
	}
	var out []ocispec.Descriptor
	for _, entry := range list {
		if entry.ArtifactType == "" {
			continue
		}
		raw, err := s.manifest(ctx, entry)
		if err != nil {
			return nil, err
		}
		if p, err := newArtifact(s, entry, raw); err == nil && p.subject == d {
			out = append(out, entry)
		}
	}
	return out, nil
}
