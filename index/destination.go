package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// destination is where something is published under names: a repository, a layout or an archive. The methods are called in the order in which they stand here, put many times, and
// abort whatever came before.
type destination interface {
	// String is what messages call it.
	String() string
	// refs are the names that it is published under there.
	refs() []string
	// parallel is how many things may be put at once.
	parallel() int
	// begin is called before anything is put.
	begin(ctx context.Context) error
	// put brings a blob, from the first artifact that needs it, and says how it came there. What it reads it passes through seen.
	put(ctx context.Context, desc ocispec.Descriptor, a artifact, seen func(io.ReadCloser, int64) io.ReadCloser) (how string, err error)
	// putManifest brings an artifact's manifest, when its blobs are there.
	putManifest(ctx context.Context, a artifact) error
	// holds finds out whether everything is there that the names are going to stand for, and whether they stand for what they have to until then.
	holds(ctx context.Context) error
	// finish moves the names, and returns those that were seen to have moved.
	finish(ctx context.Context) ([]Receipt, error)
	// abort takes away what there is of it, unless it is finished, and lets others in.
	abort() error
}

// publication is what is published: a manifest under names, and all that it needs.
type publication struct {
	desc      ocispec.Descriptor
	raw       []byte
	artifacts []artifact
	// unless is [Move.Unless] for a name; nil asks for nothing.
	unless func(ref string) string
	// progress may be nil.
	progress *reporter
}

// publish brings everything to every place first, and then moves the names there: registries' first, each place's in the order given.
func (p publication) publish(ctx context.Context, c *Client, names []string) (_ []Receipt, err error) {
	if len(names) == 0 {
		return nil, errors.New("no name to publish under")
	}
	places, err := p.destinations(c, names)
	defer func() {
		for _, d := range places {
			err = errors.Join(err, d.abort())
		}
	}()
	if err != nil {
		return nil, err
	}
	// In one order for everybody: two that wait for each other's layouts wait for ever.
	for _, d := range slices.SortedFunc(slices.Values(places), func(a, b destination) int { return cmp.Compare(realPath(a.String()), realPath(b.String())) }) {
		if err := d.begin(ctx); err != nil {
			return nil, &TagError{Ref: d.refs()[0], Err: err}
		}
	}
	if err := p.deliver(ctx, places); err != nil {
		return nil, err
	}
	if err := holdAll(ctx, places); err != nil {
		return nil, err
	}
	var receipts []Receipt
	var failed []error
	for _, d := range places {
		if _, ok := d.(*repositoryDestination); !ok && errors.Join(failed...) != nil {
			break
		}
		some, err := d.finish(ctx)
		receipts, failed = append(receipts, some...), append(failed, err)
	}
	return receipts, errors.Join(failed...)
}

// holdAll asks every place, at once.
func holdAll(ctx context.Context, places []destination) error {
	errs := make([]error, len(places))
	var eg errgroup.Group
	for i, d := range places {
		eg.Go(func() error {
			errs[i] = d.holds(ctx)
			return nil
		})
	}
	_ = eg.Wait()
	return errors.Join(errs...)
}

// destinations sorts names by where they are, repositories first.
func (p publication) destinations(c *Client, names []string) ([]destination, error) {
	var repositories, files []destination
	known := map[string]destination{} // by repository, or path
	kinds := map[string]string{}      // the schemes of paths
	several := 0
	for _, name := range names {
		scheme, file, tag := split(name)
		if looksLikeArchive(name) && (scheme == "" || !strings.HasPrefix(name, scheme)) {
			return files, fmt.Errorf("%s: an archive is written to if it is called %s%s", name, schemeOCIArchive, name)
		}
		unless := ""
		if scheme == schemeDockerArchive {
			if err := dockerName(name, tag); err != nil {
				return files, err
			}
		}
		if scheme != "" {
			key := realPath(file)
			if other := kinds[key]; other != "" && other != scheme {
				return files, fmt.Errorf("%s: %s is written to as %s already", name, file, strings.TrimSuffix(other, ":"))
			}
			kinds[key] = scheme
			if known[key] == nil {
				d, err := p.fileDestination(c, scheme, file)
				if err != nil {
					return files, fmt.Errorf("%s: %w", name, err)
				}
				known[key] = d
				files = append(files, d)
			}
			if p.unless != nil {
				unless = p.unless(name)
			}
			switch d := known[key].(type) {
			case *layoutDestination:
				d.names = append(d.names, layoutName{name, tag, unless})
			case *archiveDestination:
				d.names = append(d.names, layoutName{name, tag, unless})
			}
			continue
		}
		named, repo, err := c.repository(name)
		if err != nil {
			return files, err
		}
		if err := publishable(named); err != nil {
			return files, err
		}
		if d, ok := named.(reference.Digested); ok && d.Digest() != p.desc.Digest {
			return files, fmt.Errorf("%s: what is published has another digest, %s", name, p.desc.Digest)
		}
		if known[repo.String()] == nil {
			known[repo.String()] = newRepositoryDestination(c, repo)
			repositories = append(repositories, known[repo.String()])
		}
		if p.unless != nil {
			unless = p.unless(named.String())
		}
		d := known[repo.String()].(*repositoryDestination) //nolint:forcetypeassert // nothing else has a repository's name
		d.moves = append(d.moves, Move{Ref: named.String(), Descriptor: p.desc, Raw: p.raw, Unless: unless})
		several++
	}
	for _, d := range repositories {
		d.(*repositoryDestination).several = several > 1 //nolint:forcetypeassert // as above
	}
	return append(repositories, files...), nil
}

// realPath is one spelling of a path, as far as it is there.
func realPath(file string) string {
	if file == stream {
		return file
	}
	if abs, err := filepath.Abs(file); err == nil {
		file = abs
	}
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target
	}
	return file
}

// fileDestination is a layout or an archive.
func (p publication) fileDestination(c *Client, scheme, file string) (destination, error) {
	switch {
	case scheme == schemeOCILayout:
		return newLayoutDestination(c, file, p)
	case scheme == schemeDockerArchive && images.IsIndexType(p.desc.MediaType):
		return nil, errors.New("an index does not fit into an archive of docker save: choose one image with --platform, or use oci-archive:, which docker load reads too")
	}
	return newArchiveDestination(c, scheme, file, p)
}

// deliver brings everything but the manifest itself to every place, at once. The error is the join of a [*TagError] for each name.
func (p publication) deliver(ctx context.Context, places []destination) error {
	errs := make([]error, len(places))
	// Without a cause of its own, what ends because of another place says only that it was cancelled.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var eg errgroup.Group
	for i, d := range places {
		eg.Go(func() error {
			if err := p.deliverTo(ctx, d); err != nil {
				for _, name := range d.refs() {
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

// deliverTo brings every blob, each once, and then the manifests.
func (p publication) deliverTo(ctx context.Context, to destination) error {
	eg, egCtx := errgroup.WithContext(ctx)
	eg.SetLimit(to.parallel())
	seen := map[digest.Digest]bool{}
	for _, a := range p.artifacts {
		for _, b := range a.blobs {
			if seen[b.Digest] {
				continue
			}
			seen[b.Digest] = true
			eg.Go(func() error {
				t := Transfer{To: to.String(), Digest: b.Digest, Total: b.Size}
				how, err := to.put(egCtx, b, a, func(rc io.ReadCloser, offset int64) io.ReadCloser {
					t.Current = offset
					return p.progress.reported(rc, t)
				})
				if err != nil {
					return fmt.Errorf("blob %s of %s: %w", b.Digest, a.desc.Digest, err)
				}
				t.Current, t.Done, t.How = t.Total, true, how
				p.progress.report(t)
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
		eg.SetLimit(to.parallel())
		if nested {
			eg.SetLimit(1)
		}
		for _, a := range p.artifacts {
			if a.blobsOnly || images.IsIndexType(a.desc.MediaType) != nested || seen[a.desc.Digest] {
				continue
			}
			seen[a.desc.Digest] = true
			eg.Go(func() error {
				if err := to.putManifest(egCtx, a); err != nil {
					return fmt.Errorf("manifest %s: %w", a.desc.Digest, err)
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

// How a blob came to be where it is wanted.
const (
	howCopied  = "copied"
	howMounted = "mounted"
	howExists  = "exists"
)

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
// tags. See [Client.Publish] for what holds then.
func (d *Draft) Publish(ctx context.Context, names []string, opt PublishOptions) ([]Receipt, error) {
	p := publication{desc: d.Index.Descriptor, raw: d.Index.Raw, artifacts: d.artifacts, progress: &reporter{tell: opt.Progress}}
	for _, name := range names {
		if scheme, _, _ := split(name); scheme == "" && len(p.desc.Annotations) > 0 {
			return nil, fmt.Errorf("%s: an annotation of level %s has no place in a registry: nothing there points to the index but its tag", name, LevelIndexDescriptor)
		}
	}
	p.unless = func(ref string) string {
		if opt.IfDigest == "" && d.base != "" && ref == d.baseRef {
			return d.base
		}
		return opt.IfDigest.String()
	}
	return p.publish(ctx, d.client, names)
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
			errs[i] = d.client.stands(ctx, Move{Ref: name, Unless: opt.IfDigest.String()})
		case schemeOCILayout:
			errs[i] = layoutName{name, tag, opt.IfDigest.String()}.stands(func(tag string) (string, error) { return (&layoutDestination{dir: file}).now(tag) })
		}
		if errs[i] != nil && !is[*TagError](errs[i]) {
			errs[i] = &TagError{Ref: name, Err: errs[i]}
		}
	}
	return errors.Join(errs...)
}
