package index

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/internal/ocijson"
	"github.com/manifold-build/manifold/internal/registry"
)

// artifact is a manifest with its blobs, and where they are.
type artifact struct {
	desc  ocispec.Descriptor
	raw   []byte
	blobs []ocispec.Descriptor
	from  *Source
	// made are blobs that are in no source.
	made map[digest.Digest][]byte
	// subject is what the manifest refers to, "" if nothing.
	subject digest.Digest
	// blobsOnly: the manifest itself is put elsewhere, under a tag.
	blobsOnly bool
}

// newArtifact reads what a manifest needs.
func newArtifact(from *Source, desc ocispec.Descriptor, raw []byte) (artifact, error) {
	p := artifact{desc: desc, raw: raw, from: from}
	var m struct {
		Config  *ocispec.Descriptor  `json:"config"`
		Layers  []ocispec.Descriptor `json:"layers"`
		Subject *ocispec.Descriptor  `json:"subject"`
	}
	if err := ocijson.Manifest(raw, desc.MediaType, &m); err != nil {
		return p, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	if m.Config != nil {
		p.blobs = append(p.blobs, *m.Config)
	}
	for _, l := range m.Layers {
		if !isForeign(l.MediaType) {
			p.blobs = append(p.blobs, l)
		}
	}
	if m.Subject != nil {
		p.subject = m.Subject.Digest
	}
	for _, b := range p.blobs {
		if err := b.Digest.Validate(); err != nil {
			return p, fmt.Errorf("manifest %s: blob %q: %w", desc.Digest, b.Digest, err)
		}
	}
	return p, nil
}

// isForeign reports whether a layer is fetched from somewhere else, as those of old Windows images are, and is in no registry.
func isForeign(mediaType string) bool {
	return strings.Contains(mediaType, "nondistributable") || strings.Contains(mediaType, ".foreign.")
}

// open opens a blob of the artifact from some offset. Who takes the bytes checks them: a layout and an archive are written by us, and a registry refuses a
// blob that does not have its digest (distribution-spec, code DIGEST_INVALID).
func (a artifact) open(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if raw, ok := a.made[desc.Digest]; ok {
		return readerOf(raw[offset:]), nil
	}
	if a.from.repo != nil {
		return a.from.repo.FetchFrom(ctx, desc, offset)
	}
	rc, err := a.from.Fetch(ctx, desc)
	if err != nil || offset == 0 {
		return rc, err
	}
	if _, err := io.CopyN(io.Discard, rc, offset); err != nil {
		return nil, errors.Join(err, rc.Close())
	}
	return rc, nil
}

func readerOf(raw []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(raw)) }

func compareDigests(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) }

// checkedReader checks what nobody else does.
type checkedReader struct {
	io.ReadCloser

	desc     ocispec.Descriptor
	verifier digest.Verifier
	n        int64
}

func checked(rc io.ReadCloser, desc ocispec.Descriptor) io.ReadCloser {
	return &checkedReader{ReadCloser: rc, desc: desc, verifier: desc.Digest.Verifier()}
}

func (c *checkedReader) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	_, _ = c.verifier.Write(p[:n]) // a hash does not fail
	if errors.Is(err, io.EOF) && (c.n != c.desc.Size || !c.verifier.Verified()) {
		return n, &registry.ContentError{Digest: c.desc.Digest}
	}
	return n, err
}

// artifacts makes the artifacts of everything that a descriptor stands for, what it lists before itself.
func (s *Source) artifacts(ctx context.Context, desc ocispec.Descriptor, depth int) ([]artifact, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("%s: indexes within indexes, %d deep", desc.Digest, depth)
	}
	raw, err := s.manifest(ctx, desc)
	if err != nil {
		return nil, err
	}
	if !images.IsIndexType(desc.MediaType) {
		p, err := newArtifact(s, desc, raw)
		return []artifact{p}, err
	}
	x, err := parseIndex(raw, desc.MediaType)
	if err != nil {
		return nil, err
	}
	parts := make([][]artifact, len(x.Manifests))
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(parallelRequests)
	for i, d := range x.Manifests {
		eg.Go(func() (err error) {
			parts[i], err = s.artifacts(ctx, d, depth+1)
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	var out []artifact
	for _, p := range parts {
		out = append(out, p...)
	}
	return append(out, artifact{desc: desc, raw: raw, from: s}), nil
}

// maxNesting bounds how deep indexes may lie within indexes.
const maxNesting = 4
