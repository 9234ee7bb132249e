package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// What stands before the name of something that is not in a registry.
const (
	schemeOCILayout     = "oci-layout:"
	schemeOCIArchive    = "oci-archive:"
	schemeDockerArchive = "docker-archive:"
)

// Source is an index and where its blobs are. It has to be closed.
type Source struct {
	// Index holds the index and every image's manifest and config. Of an archive of docker save it is made up: Descriptor is the first image's.
	Index Index

	blobs remotes.Fetcher
	close func() error
}

// Fetch opens a blob. Its bytes are not verified.
func (s *Source) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	desc.URLs = nil // a manifest does not get to say where else to look
	return s.blobs.Fetch(ctx, desc)
}

// Close closes the file, if it is one.
func (s *Source) Close() error { return s.close() }

// Open reads what a name stands for: the index, and every image's manifest and config. Layers are left for [Source.Fetch].
//
//	ghcr.io/app/app:1.0        in a registry
//	oci-layout:DIR             an OCI image layout in a folder
//	oci-archive:FILE           the same in a tar archive
//	docker-archive:FILE        what docker save writes
//
// A layout's index.json has to name one thing, under however many names. Every byte that is read is checked against its digest.
func Open(ctx context.Context, r Registry, name string) (_ *Source, err error) {
	var from files
	switch scheme, file, _ := strings.Cut(name, ":"); scheme + ":" {
	case schemeOCILayout:
		from, err = openFolder(file)
	case schemeOCIArchive, schemeDockerArchive:
		from, err = openArchive(file)
	default:
		return openReference(ctx, r, name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s := &Source{close: from.Close}
	if strings.HasPrefix(name, schemeDockerArchive) {
		err = s.readDocker(ctx, from)
	} else {
		err = s.readLayout(ctx, layout{from})
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, errors.Join(err, from.Close()))
	}
	return s, nil
}

// openReference opens what a registry has under a name.
func openReference(ctx context.Context, r Registry, ref string) (*Source, error) {
	named, err := ParseReference(ref)
	if err != nil {
		return nil, err
	}
	resolver := r.resolver()
	name, desc, err := resolver.Resolve(ctx, named.String())
	if err != nil {
		return nil, readError(ref, err)
	}
	s := &Source{close: func() error { return nil }}
	if s.blobs, err = resolver.Fetcher(ctx, name); err != nil {
		return nil, readError(ref, err)
	}
	if err := s.read(ctx, desc); err != nil {
		return nil, readError(ref, err)
	}
	return s, nil
}

func (s *Source) readLayout(ctx context.Context, l layout) error {
	s.blobs = l
	desc, err := l.top()
	if err != nil {
		return err
	}
	return s.read(ctx, desc)
}

func (s *Source) readDocker(ctx context.Context, f files) error {
	a, list, err := openDocker(f)
	if err != nil {
		return err
	}
	s.blobs = a
	if err := s.read(ctx, list[0]); err != nil {
		return err
	}
	for _, desc := range list[1:] {
		s.Index.Images = append(s.Index.Images, Image{Descriptor: desc})
	}
	return s.readImages(ctx)
}

// read reads what a descriptor stands for.
func (s *Source) read(ctx context.Context, desc ocispec.Descriptor) error {
	if !images.IsIndexType(desc.MediaType) && !images.IsManifestType(desc.MediaType) {
		return fmt.Errorf("a %s is neither an index nor an image", desc.MediaType)
	}
	raw, err := fetch(ctx, s, desc)
	if err != nil {
		return err
	}
	s.Index = Index{Descriptor: desc, Raw: raw, Images: []Image{{Descriptor: desc}}}
	if s.Index.IsIndex() {
		parsed, err := parseIndex(raw, desc.MediaType)
		if err != nil {
			return err
		}
		s.Index.Annotations, s.Index.Images = parsed.Annotations, imagesOf(parsed)
	}
	return s.readImages(ctx)
}

// readImages reads manifest and config of every image.
func (s *Source) readImages(ctx context.Context) error {
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(parallelFetches)
	for i := range s.Index.Images {
		eg.Go(func() error { return readImage(ctx, s, &s.Index.Images[i]) })
	}
	return eg.Wait()
}
