package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/internal/registry"
)

// repositoryDestination is a repository in a registry.
type repositoryDestination struct {
	client *Client
	repo   *registry.Repository
	moves  []Move
	// several: this is one of several names of the publication, in whatever registries.
	several bool

	listing sync.Mutex // the tags that stand in for the referrers API are read and written

	mu sync.Mutex
	// held are the manifests that the repository is known to hold.
	held map[digest.Digest]bool
}

func newRepositoryDestination(c *Client, repo *registry.Repository) *repositoryDestination {
	return &repositoryDestination{client: c, repo: repo, held: map[digest.Digest]bool{}}
}

// String is the repository's name.
func (d *repositoryDestination) String() string { return d.repo.String() }

func (d *repositoryDestination) refs() []string {
	out := make([]string, len(d.moves))
	for i, m := range d.moves {
		out[i] = m.Ref
	}
	return out
}

func (d *repositoryDestination) parallel() int { return parallelRequests }

func (d *repositoryDestination) begin(context.Context) error { return nil }

func (d *repositoryDestination) put(ctx context.Context, desc ocispec.Descriptor, a artifact, seen func(io.ReadCloser, int64) io.ReadCloser) (string, error) {
	session := ""
	if _, isNew := a.made[desc.Digest]; !isNew && d.sameRegistry(a) {
		from := a.from.repo.Path()
		if from == d.repo.Path() && !d.repo.Mirrored() {
			return howExists, nil
		}
		if from != d.repo.Path() {
			mounted, offered, err := d.repo.Mount(ctx, desc.Digest, from)
			if err != nil || mounted {
				return howMounted, err
			}
			session = offered
		}
	}
	if there, err := d.repo.HasBlob(ctx, desc.Digest); err != nil || there {
		return howExists, err
	}
	// A place is waited for before anything begins that expires, as a token does; a session that a mount has offered and that expires is begun anew.
	release, err := d.client.reg.Blob(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	err = d.repo.PutBlob(ctx, desc, session, func() (io.ReadCloser, error) {
		rc, err := a.open(ctx, desc, 0)
		if err != nil {
			return nil, err
		}
		return seen(rc, 0), nil
	})
	if status, ok := errors.AsType[*registry.StatusError](err); ok && strings.Contains(status.Message, "DIGEST_INVALID") {
		err = &registry.ContentError{Digest: desc.Digest, Problem: fmt.Sprintf("what %s holds are not the bytes of the digest: %v", a.from.Name, err)}
	}
	return howCopied, err
}

// has reports whether an artifact need not be brought: it was read there.
func (d *repositoryDestination) has(a artifact) bool {
	return a.made == nil && a.from != nil && a.from.repo != nil && a.from.repo.String() == d.repo.String() && !d.repo.Mirrored()
}

func (d *repositoryDestination) sameRegistry(a artifact) bool {
	return a.from != nil && a.from.repo != nil && a.from.repo.Domain() == d.repo.Domain()
}

func (d *repositoryDestination) putManifest(ctx context.Context, a artifact) error {
	if d.has(a) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.held[a.desc.Digest] = true
		return nil
	}
	if a.subject != "" {
		d.listing.Lock()
		defer d.listing.Unlock()
		return d.repo.PutReferrer(ctx, a.desc.Digest.String(), a.desc, a.raw)
	}
	_, err := d.repo.PutManifest(ctx, a.desc.Digest.String(), a.desc, a.raw)
	return err
}

func (d *repositoryDestination) holds(ctx context.Context) error {
	errs := make([]error, len(d.moves))
	var eg errgroup.Group
	for i, m := range d.moves {
		eg.Go(func() error {
			if errs[i] = d.client.prepare(ctx, m, d.several, d.held); errs[i] == nil {
				errs[i] = d.client.stands(ctx, m)
			}
			return nil
		})
	}
	_ = eg.Wait()
	return tagErrors(d.moves, errs)
}

func (d *repositoryDestination) finish(ctx context.Context) ([]Receipt, error) {
	return d.client.moveAll(ctx, d.moves)
}

func (d *repositoryDestination) abort() error { return nil }
