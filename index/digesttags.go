package index

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// digestTagEndings are those of the tags under which cosign keeps what belongs to an image (cosign, "Signature Spec"): sha256-HEX.sig, .att, .sbom.
var digestTagEndings = []string{".sig", ".att", ".sbom"}

// digestTags finds the tags of a registry that are named for a publication's manifests.
func (s *Source) digestTags(ctx context.Context, what publication) ([]string, error) {
	if s.repo == nil {
		return nil, nil // names are for people there, and no layout keeps such
	}
	digests := []digest.Digest{what.desc.Digest}
	for _, p := range what.artifacts {
		if p.desc.Digest != what.desc.Digest {
			digests = append(digests, p.desc.Digest)
		}
	}
	found := make([]string, len(digests)*len(digestTagEndings))
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(parallelRequests)
	for i, d := range digests {
		for j, ending := range digestTagEndings {
			eg.Go(func() error {
				tag := d.Algorithm().String() + "-" + d.Encoded() + ending
				_, err := s.repo.Stat(ctx, tag)
				switch {
				case errdefs.IsNotFound(err):
					return nil
				case err != nil:
					return err
				}
				found[i*len(digestTagEndings)+j] = tag
				return nil
			})
		}
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	var out []string
	for _, tag := range found {
		if tag != "" {
			out = append(out, tag)
		}
	}
	return out, nil
}

// copyDigestTags copies tags of the source's repository to the repositories of registries among the names. It returns how many there are.
func (c *Client) copyDigestTags(ctx context.Context, source *Source, what publication, names []string) (int, error) {
	tags, err := source.digestTags(ctx, what)
	if err != nil || len(tags) == 0 {
		return 0, err
	}
	for _, tag := range tags {
		req := CopyRequest{Source: source.repo.String() + ":" + tag, WithoutReferrers: true}
		for _, name := range names {
			if scheme, _, _ := split(name); scheme != "" {
				continue
			}
			named, err := ParseReference(name)
			if err != nil {
				return 0, err
			}
			req.Names = append(req.Names, reference.TrimNamed(named).String()+":"+tag)
		}
		if len(req.Names) == 0 {
			return 0, nil
		}
		if _, err := c.Copy(ctx, req); err != nil {
			return 0, fmt.Errorf("the tag %s: %w", tag, err)
		}
	}
	return len(tags), nil
}
