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
	lists := make([][]ocispec.Descriptor, len(subjects))
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(parallelRequests)
	for i, d := range subjects {
		eg.Go(func() (err error) {
			lists[i], err = s.referrersOf(ctx, d)
			return err
		})
	}
	if err := eg.Wait(); err != nil {
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
