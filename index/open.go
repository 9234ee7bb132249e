package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/internal/registry"
)

// split takes the name of a source apart: the scheme, "" for a reference in a registry, the file or folder, and which of its images is
// meant, "" if that is not said.
func split(name string) (scheme, file, choice string) {
	before, rest, ok := strings.Cut(name, ":")
	scheme = before + ":"
	if !ok || scheme != schemeOCILayout && scheme != schemeOCIArchive && scheme != schemeDockerArchive {
		if !looksLikeArchive(name) || !isFile(name) {
			return "", name, ""
		}
		scheme, rest = schemeOCIArchive, name
	}
	if exists(rest) {
		return scheme, rest, ""
	}
	if i := strings.LastIndex(rest, "@"); i > 0 {
		if _, err := digest.Parse(rest[i+1:]); err == nil {
			return scheme, rest[:i], rest[i+1:]
		}
	}
	if i := strings.LastIndex(rest, ":"); i > 0 && !strings.Contains(rest[i:], "/") {
		return scheme, rest[:i], rest[i+1:]
	}
	return scheme, rest, ""
}

// looksLikeArchive reports whether a name without a scheme was meant as an archive. No reference should end like that.
func looksLikeArchive(name string) bool { return strings.HasSuffix(name, ".tar") }

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// What stands before the name of something that is not in a registry.
const (
	schemeOCILayout     = "oci-layout:"
	schemeOCIArchive    = "oci-archive:"
	schemeDockerArchive = "docker-archive:"
)

// Source is an index and where its blobs are. It has to be closed.
type Source struct {
	// Name is what was opened, as it was written.
	Name string
	// Index holds the index and every image's manifest and config. Of an archive of docker save it is made up: Descriptor is the first image's.
	Index Index

	blobs remotes.Fetcher
	repo  *registry.Repository // nil if it is not in a registry
	close func() error

	mu    sync.Mutex
	small map[digest.Digest][]byte // manifests and configs that were read
}

// Fetch opens a blob. What comes from a registry ends with an error if its bytes are not those of the digest; what comes from a file is
// not verified.
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
// A layout's index.json has to name one thing, under however many names, or the one that is meant has to be said, by its name or its digest:
// oci-layout:DIR:1.0, oci-layout:DIR@sha256:…, and so for an archive. A file that ends in .tar needs no scheme in front if there is one
// of that name. Every byte that is read is checked against its digest.
func Open(ctx context.Context, r Registry, name string) (_ *Source, err error) {
	var from files
	scheme, file, choice := split(name)
	switch scheme {
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
	s := &Source{Name: name, close: from.Close, small: map[digest.Digest][]byte{}}
	if strings.HasPrefix(name, schemeDockerArchive) {
		err = s.readDocker(ctx, from)
	} else {
		err = s.readLayout(ctx, layout{from}, choice)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, errors.Join(err, from.Close()))
	}
	return s, nil
}

// openReference opens what a registry has under a name.
func openReference(ctx context.Context, r Registry, ref string) (*Source, error) {
	s, desc, err := openTop(ctx, r, ref)
	if err != nil {
		return nil, err
	}
	if err := s.read(ctx, desc); err != nil {
		return nil, readError(ref, err)
	}
	return s, nil
}

func (s *Source) readLayout(ctx context.Context, l layout, choice string) error {
	s.blobs = l
	desc, err := l.top(choice)
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
	raw, err := s.manifest(ctx, desc)
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
		s.Index.Orphans = orphansOf(parsed)
	}
	return s.readImages(ctx)
}

// readImages reads manifest and config of every image, and what is attested.
func (s *Source) readImages(ctx context.Context) error {
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(parallelRequests)
	for i := range s.Index.Images {
		image := &s.Index.Images[i]
		eg.Go(func() error { return s.readImage(ctx, image) })
		for j := range image.Attestations {
			eg.Go(func() error { return s.readAttestation(ctx, &image.Attestations[j]) })
		}
	}
	return eg.Wait()
}
