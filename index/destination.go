package index

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// shipment is what is published: a manifest under names, and all that it needs.
type shipment struct {
	desc    ocispec.Descriptor
	raw     []byte
	parcels []parcel
	// unless is [Move.Unless] for a name; nil asks for nothing.
	unless func(ref string) string
	// progress may be nil.
	progress *reporter
}

// destination is where names are: a repository, a layout or an archive.
type destination struct {
	sink  sink
	where string
	names []string
	// tags are the names within a file or a folder, unless what they have to stand for until they move.
	tags, unless []string
	// finish puts the manifest under its names, in a file or a folder; nil for a repository. abort takes away what there is of it. now is what a
	// name stands for.
	begin  func(context.Context) error // before anything is brought
	finish func() error
	abort  func() error
	now    func(tag string) (string, error)
}

// ship brings a shipment to every place first, and then names it there: registries' tags first, in the order given.
func (s shipment) ship(ctx context.Context, r Registry, names []string) (_ []Receipt, err error) {
	if len(names) == 0 {
		return nil, errors.New("no name to publish under")
	}
	places, moves, err := s.destinations(r, names)
	defer func() {
		for _, p := range places {
			if p.abort != nil {
				err = errors.Join(err, p.abort())
			}
		}
	}()
	if err != nil {
		return nil, err
	}
	for _, p := range places {
		if p.begin == nil {
			continue
		}
		if err := p.begin(ctx); err != nil {
			return nil, &TagError{Ref: p.names[0], Err: err}
		}
	}
	if err := s.deliver(ctx, places); err != nil {
		return nil, err
	}
	for _, p := range places {
		if err := p.holds(); err != nil {
			return nil, err
		}
	}
	receipts, err := publish(ctx, r, moves, func(repo string, d digest.Digest) bool {
		for _, p := range places {
			if to, ok := p.sink.(*repositorySink); ok && to.repo.String() == repo {
				return to.holds(d)
			}
		}
		return false
	})
	if err != nil {
		return receipts, err
	}
	for _, p := range places {
		if p.finish == nil {
			continue
		}
		if err := p.finish(); err != nil {
			return receipts, &TagError{Ref: p.names[0], Err: err}
		}
		for _, name := range p.names {
			receipts = append(receipts, Receipt{Ref: name, Digest: s.desc.Digest})
		}
	}
	return receipts, nil
}

// destinations sorts names by where they are.
func (s shipment) destinations(r Registry, names []string) ([]*destination, []Move, error) {
	var places []*destination
	var moves []Move
	known := map[string]*destination{} // by repository, or scheme and path
	for _, name := range names {
		scheme, file, tag := split(name)
		if looksLikeArchive(name) && (scheme == "" || !strings.HasPrefix(name, scheme)) {
			return places, nil, fmt.Errorf("%s: an archive is written to if it is called %s%s", name, schemeOCIArchive, name)
		}
		switch scheme {
		case schemeOCILayout, schemeOCIArchive:
			key := scheme + realPath(file)
			p := known[key]
			if p == nil {
				var err error
				if p, err = s.fileDestination(scheme, file); err != nil {
					return places, nil, fmt.Errorf("%s: %w", name, err)
				}
				known[key] = p
				places = append(places, p)
			}
			p.names, p.tags = append(p.names, name), append(p.tags, tag)
			if s.unless != nil {
				p.unless = append(p.unless, s.unless(name))
			}
		case schemeDockerArchive:
			return places, nil, fmt.Errorf("%s: an index does not fit into an archive of docker save: use oci-archive:, which docker load reads too", name)
		default:
			named, repo, err := r.repository(name)
			if err != nil {
				return places, nil, err
			}
			if err := publishable(named); err != nil {
				return places, nil, err
			}
			if d, ok := named.(reference.Digested); ok && d.Digest() != s.desc.Digest {
				return places, nil, fmt.Errorf("%s: what is published has another digest, %s", name, s.desc.Digest)
			}
			if known[repo.String()] == nil {
				known[repo.String()] = &destination{sink: newRepositorySink(repo), where: repo.String()}
				places = append(places, known[repo.String()])
			}
			p := known[repo.String()]
			p.names = append(p.names, named.String())
			move := Move{Ref: named.String(), Descriptor: s.desc, Raw: s.raw}
			if s.unless != nil {
				move.Unless = s.unless(named.String())
			}
			moves = append(moves, move)
		}
	}
	return places, moves, nil
}

// realPath is one spelling of a path, as far as it is there.
func realPath(file string) string {
	if abs, err := filepath.Abs(file); err == nil {
		file = abs
	}
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target
	}
	return file
}

// fileDestination is a layout or an archive.
func (s shipment) fileDestination(scheme, file string) (*destination, error) {
	p := &destination{where: file}
	if scheme == schemeOCILayout {
		sink, err := newLayoutSink(file, s)
		if err != nil {
			return nil, err
		}
		p.sink, p.finish, p.now = sink, func() error { return sink.finish(p.tags) }, sink.now
		p.begin, p.abort = sink.begin, sink.end
		return p, nil
	}
	sink, err := newArchiveSink(file, s)
	if err != nil {
		return nil, err
	}
	p.sink, p.finish, p.abort = sink, func() error { return sink.finish(p.tags) }, sink.abort
	return p, nil
}

// holds checks that the names of a layout stand for what they should, as [holds] does for tags. An archive is written anew: it holds no name.
func (p *destination) holds() error {
	for i, want := range p.unless {
		if want == "" {
			continue
		}
		have := noTag
		if p.now != nil {
			var err error
			if have, err = p.now(p.tags[i]); err != nil {
				return &TagError{Ref: p.names[i], Err: err}
			}
		}
		if have != want {
			return &TagError{Ref: p.names[i], Err: fmt.Errorf("%w: %s, not %s", ErrMoved, have, want)}
		}
	}
	return nil
}

// deliver brings everything but the manifest itself to every place, at once. The error is the join of a [*TagError] for each name.
func (s shipment) deliver(ctx context.Context, places []*destination) error {
	errs := make([]error, len(places))
	// Without a cause of its own, what ends because of another place says only that it was cancelled.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var eg errgroup.Group
	for i, p := range places {
		eg.Go(func() error {
			if err := deliver(ctx, p.sink, p.where, s.parcels, s.progress); err != nil {
				for _, name := range p.names {
					errs[i] = errors.Join(errs[i], &TagError{Ref: name, Err: err})
				}
				cancel()
				return errs[i]
			}
			return nil
		})
	}
	if eg.Wait() == nil {
		return nil
	}
	// What was only cancelled because of another place says nothing.
	var own []error
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			own = append(own, err)
		}
	}
	if len(own) == 0 {
		own = errs
	}
	return errors.Join(own...)
}

// PublishOptions say when a draft is published.
type PublishOptions struct {
	// IfDigest is the digest that every tag has to name until it is moved, "none" for tags that may not exist yet; "" means any, or, of the tag
	// that was the base, the digest that it named when it was read. If one names another the error wraps [ErrMoved] and no tag has moved.
	IfDigest digest.Digest
	// Progress is told of the blobs that are brought; nil means nobody.
	Progress Progress
}

// Publish publishes the draft under names: tags in registries, oci-layout:DIR:NAME, oci-archive:FILE:NAME. Blobs are mounted from
// repositories of the same registry where it allows, and copied otherwise; then come the images, then, when every registry holds everything, the
// tags. See the function [Publish] for what holds then.
func (d *Draft) Publish(ctx context.Context, names []string, opt PublishOptions) ([]Receipt, error) {
	s := shipment{desc: d.Index.Descriptor, raw: d.Index.Raw, parcels: d.parcels, progress: &reporter{tell: opt.Progress}}
	for _, name := range names {
		if scheme, _, _ := split(name); scheme == "" && len(s.desc.Annotations) > 0 {
			return nil, fmt.Errorf("%s: an annotation of level %s has no place in a registry: nothing there points to the index but its tag", name, LevelIndexDescriptor)
		}
	}
	s.unless = func(ref string) string {
		if opt.IfDigest == "" && d.base != "" && ref == d.baseRef {
			return d.base
		}
		return opt.IfDigest.String()
	}
	return s.ship(ctx, d.registry, names)
}

// Check looks whether the draft could be published under names as far as [PublishOptions.IfDigest] is concerned. Nothing is written.
func (d *Draft) Check(ctx context.Context, names []string, opt PublishOptions) error {
	if opt.IfDigest == "" {
		return nil
	}
	errs := make([]error, len(names))
	for i, name := range names {
		switch scheme, file, tag := split(name); scheme {
		case "":
			errs[i] = holds(ctx, d.registry, Move{Ref: name, Unless: opt.IfDigest.String()})
		case schemeOCILayout:
			p := destination{names: []string{name}, tags: []string{tag}, unless: []string{opt.IfDigest.String()}, now: (&layoutSink{dir: file}).now}
			errs[i] = p.holds()
		}
		if errs[i] != nil && !is[*TagError](errs[i]) {
			errs[i] = &TagError{Ref: name, Err: errs[i]}
		}
	}
	return errors.Join(errs...)
}
