package index

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/internal/registry"
)

const (
	// visibleWait bounds how long a registry may take until what was pushed can be read.
	visibleWait = 30 * time.Second
	// pollPause is the first pause between two looks; it doubles up to a second.
	pollPause = 50 * time.Millisecond
)

// Move is one tag to be moved.
type Move struct {
	// Ref is the tag, for example "ghcr.io/app/app:1.0". Its repository already holds the images that Descriptor lists.
	Ref string
	// Descriptor and Raw are the manifest that the tag is going to name, Raw byte for byte.
	Descriptor ocispec.Descriptor
	Raw        []byte
	// Unless is the digest that the tag has to name until it moves, or "none" for a tag that may not exist yet; "" means any. If it names another
	// one the error wraps [ErrMoved]. The look is taken right before the move; registries offer nothing that would leave no gap between.
	Unless string
	// Held are manifests that have been read from the tag's repository, and are not asked for again. Nil means that all are.
	Held []digest.Digest
}

func (m Move) held() map[digest.Digest]bool {
	out := map[digest.Digest]bool{}
	for _, d := range m.Held {
		out[d] = true
	}
	return out
}

// ErrMoved is wrapped by the error of a tag that does not name what it should have named before it is moved.
var ErrMoved = errors.New("it names something else now")

// noTag is what Move.Unless says of a tag that may not exist.
const noTag = "none"

// Receipt is a tag that was read back after it was moved.
type Receipt struct {
	Ref    string        `json:"ref"`
	Digest digest.Digest `json:"digest"`
}

// TagError is a tag that could not be moved.
type TagError struct {
	// Ref is the tag.
	Ref string
	// Moved reports whether the registry took the tag and something failed after that.
	Moved bool
	// Unknown: the answer to the move was lost, and the registry does not say what the tag names now.
	Unknown bool
	// Err is what happened.
	Err error
}

// Error names the tag and says whether it still names what it did.
func (e *TagError) Error() string {
	if e.Unknown {
		return fmt.Sprintf("%s: whether the tag was moved is not known, run it again: %v", e.Ref, e.Err)
	}
	if e.Moved {
		return fmt.Sprintf("%s: the registry took the tag, but %v", e.Ref, e.Err)
	}
	return fmt.Sprintf("%s: the tag was not moved: %v", e.Ref, e.Err)
}

// Unwrap returns what happened.
func (e *TagError) Unwrap() error { return e.Err }

// Publish moves tags, in the order given. Before the first one moves, everything that any of them will name, an
// index's images included, has been seen in its repository. After each move the tag is read back until it names what
// it should. The receipts are those of the tags that were read back, also when there is an error, which is the join of
// a [*TagError] for each tag that was not.
func (c *Client) Publish(ctx context.Context, moves []Move) ([]Receipt, error) {
	ready := make([]error, len(moves))
	var eg errgroup.Group
	for i, m := range moves {
		eg.Go(func() error {
			ready[i] = c.prepare(ctx, m, len(moves) > 1, m.held())
			return nil
		})
	}
	_ = eg.Wait()
	if err := tagErrors(moves, ready); err != nil {
		return nil, err
	}
	for i, m := range moves {
		ready[i] = c.stands(ctx, m)
	}
	if err := tagErrors(moves, ready); err != nil {
		return nil, err
	}
	return c.moveAll(ctx, moves)
}

// moveAll moves tags, one after the other. One that fails does not keep the others.
func (c *Client) moveAll(ctx context.Context, moves []Move) ([]Receipt, error) {
	var receipts []Receipt
	failed := make([]error, len(moves))
	for i, m := range moves {
		if failed[i] = c.move(ctx, m); failed[i] == nil {
			receipts = append(receipts, Receipt{Ref: m.Ref, Digest: m.Descriptor.Digest})
		}
	}
	return receipts, tagErrors(moves, failed)
}

func tagErrors(moves []Move, errs []error) error {
	var out []error
	for i, err := range errs {
		if err != nil && !is[*TagError](err) {
			err = &TagError{Ref: moves[i].Ref, Err: err}
		}
		out = append(out, err)
	}
	return errors.Join(out...)
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// prepare waits until a tag's repository holds all that it will name. Of several tags each repository gets the manifest by its digest first,
// so that one that does not take it is found out before any tag moves. What is held need not be asked for.
func (c *Client) prepare(ctx context.Context, m Move, several bool, held map[digest.Digest]bool) error {
	named, repo, err := c.repository(m.Ref)
	if err != nil {
		return err
	}
	if err := publishable(named); err != nil {
		return err
	}
	var want []digest.Digest
	if images.IsIndexType(m.Descriptor.MediaType) {
		x, err := parseIndex(m.Raw, m.Descriptor.MediaType)
		if err != nil {
			return err
		}
		for _, d := range x.Manifests {
			if !held[d.Digest] {
				want = append(want, d.Digest)
			}
		}
	}
	if err := awaitAll(ctx, repo, want); err != nil {
		return err
	}
	if several {
		if err := repo.PutReferrer(ctx, m.Descriptor.Digest.String(), m.Descriptor, m.Raw); err != nil {
			return err
		}
	}
	return nil
}

// publishable refuses a name with both a tag and a digest.
func publishable(named reference.Named) error {
	_, tag := named.(reference.Tagged)
	if _, both := named.(reference.Digested); both && tag {
		return fmt.Errorf("%s: it is published under a tag or by a digest, not both", named)
	}
	return nil
}

// stands checks that the tag names what it should before it is moved.
func (c *Client) stands(ctx context.Context, m Move) error {
	if m.Unless == "" {
		return nil
	}
	now, err := c.tagged(ctx, m.Ref)
	if err != nil {
		return err
	}
	if now != m.Unless {
		return fmt.Errorf("%w: %s, not %s", ErrMoved, now, m.Unless)
	}
	return nil
}

// tagged is the digest that a tag names, or noTag.
func (c *Client) tagged(ctx context.Context, ref string) (string, error) {
	named, repo, err := c.repository(ref)
	if err != nil {
		return "", err
	}
	desc, err := repo.StatPushed(ctx, object(named))
	if errdefs.IsNotFound(err) {
		return noTag, nil
	}
	return desc.Digest.String(), err
}

// Await waits until the registry can read what ref names, for at most 30 seconds: some registries answer 404 for a while
// after they took a push.
func (c *Client) Await(ctx context.Context, ref string) error {
	named, repo, err := c.repository(ref)
	if err != nil {
		return err
	}
	return await(ctx, repo, object(named))
}

// PullPushed is [Client.Pull] for what has just been pushed: where the registry does not show all of it yet, it is read again, for at most 30 seconds.
func (c *Client) PullPushed(ctx context.Context, ref string) (x Index, err error) {
	err = poll(ctx, func() (bool, error) {
		var err error
		x, err = c.Pull(ctx, ref)
		if errdefs.IsNotFound(err) || errors.Is(err, ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	})
	if errors.Is(err, errInvisible) {
		err = fmt.Errorf("%s: %w", ref, err)
	}
	return x, err
}

// awaitAll waits for several digests at once.
func awaitAll(ctx context.Context, repo *registry.Repository, list []digest.Digest) error {
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(parallelRequests)
	for _, d := range list {
		eg.Go(func() error { return await(ctx, repo, d.String()) })
	}
	return eg.Wait()
}

func await(ctx context.Context, repo *registry.Repository, object string) error {
	err := poll(ctx, func() (bool, error) {
		_, err := repo.StatPushed(ctx, object)
		if errdefs.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("%s@%s: %w", repo, object, err)
	}
	return nil
}

// move puts the manifest under the tag, and reads the tag until it names the manifest.
func (c *Client) move(ctx context.Context, m Move) error {
	named, repo, err := c.repository(m.Ref)
	if err != nil {
		return err
	}
	if err := repo.PutReferrer(ctx, object(named), m.Descriptor, m.Raw); err != nil {
		return afterwards(ctx, repo, named, m, err)
	}
	var last digest.Digest
	err = poll(ctx, func() (bool, error) {
		desc, err := statAs(ctx, repo, object(named), m.Descriptor.Digest.Algorithm())
		if errdefs.IsNotFound(err) {
			return false, nil
		}
		last = desc.Digest
		return last == m.Descriptor.Digest, err
	})
	if errors.Is(err, errInvisible) && last != "" {
		err = fmt.Errorf("reading it back gives %s, not %s: another push may have come between", last, m.Descriptor.Digest)
	}
	if err != nil {
		return &TagError{Ref: m.Ref, Moved: true, Err: err}
	}
	return nil
}

// lookAfterwards is how long a registry is asked what became of a move whose answer did not come.
const lookAfterwards = 10 * time.Second

// afterwards finds out what became of a move that failed. A registry that has refused it has not moved the tag.
func afterwards(ctx context.Context, repo *registry.Repository, named reference.Named, m Move, err error) error {
	if is[*registry.StatusError](err) || is[*registry.PolicyError](err) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookAfterwards)
	defer cancel()
	desc, lookErr := statAs(ctx, repo, object(named), m.Descriptor.Digest.Algorithm())
	switch {
	case lookErr != nil && !errdefs.IsNotFound(lookErr):
		return &TagError{Ref: m.Ref, Unknown: true, Err: err}
	case lookErr == nil && desc.Digest == m.Descriptor.Digest:
		return &TagError{Ref: m.Ref, Moved: true, Err: err}
	}
	return err
}

// statAs asks what a tag names, by a digest of some algorithm: a registry may speak of it by another.
func statAs(ctx context.Context, repo *registry.Repository, object string, algorithm digest.Algorithm) (ocispec.Descriptor, error) {
	desc, err := repo.StatPushed(ctx, object)
	if err != nil || desc.Digest.Algorithm() == algorithm {
		return desc, err
	}
	desc, raw, err := repo.ManifestPushed(ctx, object)
	desc.Digest = algorithm.FromBytes(raw)
	return desc, err
}

// errInvisible is what ends a wait that was in vain.
var errInvisible = fmt.Errorf("the registry does not show it within %s", visibleWait)

// poll asks until the answer is yes or an error, for at most visibleWait.
func poll(ctx context.Context, ask func() (bool, error)) error {
	end := time.NewTimer(visibleWait)
	defer end.Stop()
	for pause := pollPause; ; pause = min(2*pause, time.Second) {
		done, err := ask()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-end.C:
			return errInvisible
		case <-time.After(pause):
		}
	}
}
