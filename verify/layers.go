package verify

import (
	"context"
	"errors"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layers are the layers that were read, each once.
type layers struct {
	mu     sync.Mutex
	known  map[digest.Digest]*reading
	tokens chan struct{}
}

type reading struct {
	done  chan struct{}
	layer *layer
	err   error
}

func newLayers() *layers {
	return &layers{known: map[digest.Digest]*reading{}, tokens: make(chan struct{}, parallel)}
}

// get reads a layer, or waits for whoever reads it already. One that could not be read is read again when it is asked for the next time.
func (ls *layers) get(ctx context.Context, from Fetcher, desc ocispec.Descriptor) (*layer, error) {
	for {
		r, mine := ls.claim(desc.Digest)
		if mine {
			ls.read(ctx, from, desc, r)
			return r.layer, r.err
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if errors.Is(r.err, context.Canceled) && ctx.Err() == nil {
			continue // whoever read it gave up; this one has not
		}
		return r.layer, r.err
	}
}

// claim returns the reading of a layer, and whether it is the caller's to do.
func (ls *layers) claim(d digest.Digest) (*reading, bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if r, ok := ls.known[d]; ok {
		return r, false
	}
	r := &reading{done: make(chan struct{})}
	ls.known[d] = r
	return r, true
}

// read reads a claimed layer when it is its turn.
func (ls *layers) read(ctx context.Context, from Fetcher, desc ocispec.Descriptor, r *reading) {
	defer close(r.done)
	select {
	case ls.tokens <- struct{}{}:
		r.layer, r.err = readLayer(ctx, from, desc)
		<-ls.tokens
	case <-ctx.Done():
		r.err = ctx.Err()
	}
	if r.err != nil {
		ls.mu.Lock()
		defer ls.mu.Unlock()
		delete(ls.known, desc.Digest)
	}
}
