package index

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

const (
	// visibleWait bounds how long a registry may take until what was pushed can be read.
	visibleWait = 30 * time.Second
	// pollPause is the first pause between two looks; it doubles up to a second.
	pollPause = 50 * time.Millisecond
)

// Move is one tag to be moved.
type Move struct {
	// Ref is the tag, for example "ghcr.io/app/app:1.0". Its repository already holds what Descriptor names.
	Ref string
	// Descriptor and Raw are the manifest that the tag is going to name, Raw byte for byte.
	Descriptor ocispec.Descriptor
	Raw        []byte
}

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
	// Err is what happened.
	Err error
}

// Error names the tag and says whether it still names what it did.
func (e *TagError) Error() string {
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
func Publish(ctx context.Context, r Registry, moves []Move) ([]Receipt, error) {
	resolver := r.resolver()
	eg, egCtx := errgroup.WithContext(ctx)
	eg.SetLimit(parallelFetches)
	missing := make([]error, len(moves))
	for i, m := range moves {
		eg.Go(func() error {
			missing[i] = complete(egCtx, resolver, m)
			return nil
		})
	}
	_ = eg.Wait()
	if err := tagErrors(moves, missing); err != nil {
		return nil, err
	}
	var receipts []Receipt
	failed := make([]error, len(moves))
	for i, m := range moves {
		// A resolver remembers what it pushed by digest alone, and would skip a second tag or registry.
		if err := move(ctx, r.resolver(), m); err != nil {
			failed[i] = err
			continue
		}
		if err := readBack(ctx, resolver, m); err != nil {
			failed[i] = &TagError{Ref: m.Ref, Moved: true, Err: err}
			continue
		}
		receipts = append(receipts, Receipt{Ref: m.Ref, Digest: m.Descriptor.Digest})
	}
	return receipts, tagErrors(moves, failed)
}

func tagErrors(moves []Move, errs []error) error {
	var out []error
	for i, err := range errs {
		var te *TagError
		if err != nil && !errors.As(err, &te) {
			err = &TagError{Ref: moves[i].Ref, Err: err}
		}
		out = append(out, err)
	}
	return errors.Join(out...)
}

// complete waits until a tag's repository holds the manifest and, of an index, every entry.
func complete(ctx context.Context, resolver remotes.Resolver, m Move) error {
	want := []digest.Digest{m.Descriptor.Digest}
	if images.IsIndexType(m.Descriptor.MediaType) {
		x, err := parseIndex(m.Raw, m.Descriptor.MediaType)
		if err != nil {
			return err
		}
		for _, d := range x.Manifests {
			want = append(want, d.Digest)
		}
	}
	named, err := ParseReference(m.Ref)
	if err != nil {
		return err
	}
	for _, d := range want {
		if err := await(ctx, resolver, reference.TrimNamed(named).String()+"@"+d.String()); err != nil {
			return err
		}
	}
	return nil
}

// Await waits until the registry can read what ref names, for at most 30 seconds: some registries answer 404 for a while
// after they took a push.
func Await(ctx context.Context, r Registry, ref string) error {
	named, err := ParseReference(ref)
	if err != nil {
		return err
	}
	return await(ctx, r.resolver(), named.String())
}

func await(ctx context.Context, resolver remotes.Resolver, ref string) error {
	err := poll(ctx, func() (bool, error) {
		_, _, err := resolver.Resolve(ctx, ref)
		if errdefs.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	return nil
}

// move puts the manifest under the tag.
func move(ctx context.Context, resolver remotes.Resolver, m Move) error {
	named, err := ParseReference(m.Ref)
	if err != nil {
		return err
	}
	pusher, err := resolver.Pusher(ctx, named.String())
	if err != nil {
		return err
	}
	w, err := pusher.Push(ctx, m.Descriptor)
	if errdefs.IsAlreadyExists(err) {
		return nil // the tag names it already
	}
	if err != nil {
		return err
	}
	if _, err := w.Write(m.Raw); err != nil {
		return errors.Join(err, w.Close())
	}
	if err := w.Commit(ctx, m.Descriptor.Size, m.Descriptor.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return errors.Join(err, w.Close())
	}
	return w.Close()
}

// readBack reads the tag until it names the manifest.
func readBack(ctx context.Context, resolver remotes.Resolver, m Move) error {
	named, err := ParseReference(m.Ref)
	if err != nil {
		return err
	}
	var last digest.Digest
	err = poll(ctx, func() (bool, error) {
		_, desc, err := resolver.Resolve(ctx, named.String())
		if errdefs.IsNotFound(err) {
			return false, nil
		}
		last = desc.Digest
		return last == m.Descriptor.Digest, err
	})
	if errors.Is(err, errNotYet) {
		return fmt.Errorf("it still reads %s, not %s: another publisher may have moved it", last, m.Descriptor.Digest)
	}
	return err
}

// errNotYet is poll's error when time ran out and nothing failed.
var errNotYet = fmt.Errorf("not visible after %s", visibleWait)

// poll asks until it hears yes or an error, for at most visibleWait.
func poll(ctx context.Context, ask func() (bool, error)) error {
	deadline := time.Now().Add(visibleWait)
	for pause := pollPause; ; pause = min(2*pause, time.Second) {
		ok, err := ask()
		if ok || err != nil {
			return err
		}
		if time.Now().Add(pause).After(deadline) {
			return errNotYet
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
