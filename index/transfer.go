package index

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/manifold-build/manifold/internal/ocijson"
	"github.com/manifold-build/manifold/internal/registry"
)

// parallelBlobs bounds the blobs whose bytes are under way at once.
const parallelBlobs = 6

// parcel is a manifest on its way, with what it needs.
type parcel struct {
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

// newParcel reads what a manifest needs.
func newParcel(from *Source, desc ocispec.Descriptor, raw []byte) (parcel, error) {
	p := parcel{desc: desc, raw: raw, from: from}
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

// open opens a blob of the parcel from some offset. Who takes the bytes checks them: a layout and an archive are written by us, and a registry refuses a
// blob that does not have its digest (distribution-spec, code DIGEST_INVALID).
func (p parcel) open(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if raw, ok := p.made[desc.Digest]; ok {
		return readerOf(raw[offset:]), nil
	}
	if p.from.repo != nil {
		return p.from.repo.FetchFrom(ctx, desc, offset)
	}
	rc, err := p.from.Fetch(ctx, desc)
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

// sink is where parcels go.
type sink interface {
	// blob brings a blob there, from the first of the parcels that hold it, and says how. What it reads it passes through seen.
	blob(ctx context.Context, desc ocispec.Descriptor, p parcel, seen func(io.ReadCloser, int64) io.ReadCloser) (how string, err error)
	// manifest brings a parcel's manifest there, when its blobs are.
	manifest(ctx context.Context, p parcel) error
}

// deliver brings parcels to a sink: every blob, each once, then the manifests.
func deliver(ctx context.Context, to sink, where string, parcels []parcel, progress *reporter) error {
	eg, egCtx := errgroup.WithContext(ctx)
	eg.SetLimit(parallelRequests)
	if inOrder(to) {
		eg.SetLimit(1)
	}
	seen := map[digest.Digest]bool{}
	for _, p := range parcels {
		for _, b := range p.blobs {
			if seen[b.Digest] {
				continue
			}
			seen[b.Digest] = true
			eg.Go(func() error {
				t := Transfer{To: where, Digest: b.Digest, Total: b.Size}
				how, err := to.blob(egCtx, b, p, func(rc io.ReadCloser, offset int64) io.ReadCloser {
					t.Current = offset
					return progress.reported(rc, t)
				})
				if err != nil {
					return fmt.Errorf("blob %s of %s: %w", b.Digest, p.desc.Digest, err)
				}
				t.Current, t.Done, t.How = t.Total, true, how
				progress.report(t)
				return nil
			})
		}
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	seen = map[digest.Digest]bool{} // an artifact's layer may be a manifest, too
	// An index comes after what it lists.
	for _, nested := range []bool{false, true} {
		eg, egCtx := errgroup.WithContext(ctx)
		eg.SetLimit(parallelRequests)
		if nested || inOrder(to) {
			eg.SetLimit(1)
		}
		for _, p := range parcels {
			if p.blobsOnly || images.IsIndexType(p.desc.MediaType) != nested || seen[p.desc.Digest] {
				continue
			}
			seen[p.desc.Digest] = true
			eg.Go(func() error {
				if err := to.manifest(egCtx, p); err != nil {
					return fmt.Errorf("manifest %s: %w", p.desc.Digest, err)
				}
				return nil
			})
		}
		if err := eg.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// inOrder reports whether a sink takes one thing after the other.
func inOrder(to sink) bool {
	_, ok := to.(*archiveSink)
	return ok
}

// repositorySink is a repository in a registry.
type repositorySink struct {
	repo  *registry.Repository
	bytes *semaphore.Weighted

	mu sync.Mutex // the tags that stand in for the referrers API are read and written
	// held are the manifests that the repository is known to hold.
	heldMu sync.Mutex
	held   map[digest.Digest]bool
}

func newRepositorySink(repo *registry.Repository) *repositorySink {
	return &repositorySink{repo: repo, bytes: semaphore.NewWeighted(parallelBlobs), held: map[digest.Digest]bool{}}
}

// has reports whether a parcel need not be brought: it was read there.
func (s *repositorySink) has(p parcel) bool {
	return p.made == nil && p.from != nil && p.from.repo != nil && p.from.repo.String() == s.repo.String() && !s.repo.Mirrored()
}

func (s *repositorySink) hold(d digest.Digest) {
	s.heldMu.Lock()
	defer s.heldMu.Unlock()
	s.held[d] = true
}

func (s *repositorySink) holds(d digest.Digest) bool {
	s.heldMu.Lock()
	defer s.heldMu.Unlock()
	return s.held[d]
}

// How a blob came to be where it is wanted.
const (
	howCopied  = "copied"
	howMounted = "mounted"
	howExists  = "exists"
)

func (s *repositorySink) blob(ctx context.Context, desc ocispec.Descriptor, p parcel, seen func(io.ReadCloser, int64) io.ReadCloser) (string, error) {
	session := ""
	if _, isNew := p.made[desc.Digest]; !isNew && s.sameRegistry(p) {
		from := p.from.repo.Path()
		if from == s.repo.Path() && !s.repo.Mirrored() {
			return howExists, nil
		}
		if from != s.repo.Path() {
			mounted, offered, err := s.repo.Mount(ctx, desc.Digest, from)
			if err != nil || mounted {
				return howMounted, err
			}
			session = offered
		}
	}
	if there, err := s.repo.HasBlob(ctx, desc.Digest); err != nil || there {
		return howExists, err
	}
	// A place is waited for before anything begins that expires: a token, an upload session.
	if err := s.bytes.Acquire(ctx, 1); err != nil {
		return "", err
	}
	defer s.bytes.Release(1)
	err := s.repo.PutBlob(ctx, desc, session, func() (io.ReadCloser, error) {
		rc, err := p.open(ctx, desc, 0)
		if err != nil {
			return nil, err
		}
		return seen(rc, 0), nil
	})
	if status, ok := errors.AsType[*registry.StatusError](err); ok && strings.Contains(status.Message, "DIGEST_INVALID") {
		err = &registry.ContentError{Digest: desc.Digest, Problem: fmt.Sprintf("what %s holds are not the bytes of the digest: %v", p.from.Name, err)}
	}
	return howCopied, err
}

func (s *repositorySink) sameRegistry(p parcel) bool {
	return p.from != nil && p.from.repo != nil && p.from.repo.Domain() == s.repo.Domain()
}

func (s *repositorySink) manifest(ctx context.Context, p parcel) error {
	if s.has(p) {
		s.hold(p.desc.Digest)
		return nil
	}
	if p.subject != "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.repo.PutReferrer(ctx, p.desc.Digest.String(), p.desc, p.raw)
	}
	_, err := s.repo.PutManifest(ctx, p.desc.Digest.String(), p.desc, p.raw)
	return err
}

// parcels makes the parcels of everything that a descriptor stands for, what it lists before itself.
func (s *Source) parcels(ctx context.Context, desc ocispec.Descriptor, depth int) ([]parcel, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("%s: indexes within indexes, %d deep", desc.Digest, depth)
	}
	raw, err := s.manifest(ctx, desc)
	if err != nil {
		return nil, err
	}
	if !images.IsIndexType(desc.MediaType) {
		p, err := newParcel(s, desc, raw)
		return []parcel{p}, err
	}
	x, err := parseIndex(raw, desc.MediaType)
	if err != nil {
		return nil, err
	}
	parts := make([][]parcel, len(x.Manifests))
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(parallelRequests)
	for i, d := range x.Manifests {
		eg.Go(func() (err error) {
			parts[i], err = s.parcels(ctx, d, depth+1)
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	var out []parcel
	for _, p := range parts {
		out = append(out, p...)
	}
	return append(out, parcel{desc: desc, raw: raw, from: s}), nil
}

// maxNesting bounds how deep indexes may lie within indexes.
const maxNesting = 4
