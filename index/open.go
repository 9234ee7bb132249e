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
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/internal/registry"
	"github.com/manifold-build/manifold/platforms"
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
	if rest == stream || strings.HasPrefix(rest, stream+":") {
		_, choice, _ = strings.Cut(rest, ":")
		return scheme, stream, choice
	}
	if exists(rest) {
		return scheme, rest, ""
	}
	if i := strings.LastIndex(rest, "@"); i > 0 {
		if _, err := digest.Parse(rest[i+1:]); err == nil {
			return scheme, rest[:i], rest[i+1:]
		}
	}
	// A name may hold colons, a folder hardly ever does: the first part that is there counts, or else the first part.
	for i := range rest {
		if i > 0 && rest[i] == ':' && exists(rest[:i]) {
			return scheme, rest[:i], rest[i+1:]
		}
	}
	file, choice, _ = strings.Cut(rest, ":")
	return scheme, file, choice
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
// oci-layout:DIR:1.0, oci-layout:DIR@sha256:…, and so for an archive. The FILE "-" is [ClientOptions.Stdin], kept in a temporary file. A file that ends in .tar needs no scheme in front if there is one
// of that name. Every byte that is read is checked against its digest.
func (c *Client) Open(ctx context.Context, name string) (*Source, error) {
	s, err := c.OpenPartial(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, image := range s.Index.Images {
		if image.Missing {
			return nil, errors.Join(fmt.Errorf("%s: %w", name, missing("image", image.Platform, image.Descriptor)), s.Close())
		}
		for _, a := range image.Attestations {
			if a.Missing {
				return nil, errors.Join(fmt.Errorf("%s: %w", name, missing("attestation", image.Platform, a.Descriptor)), s.Close())
			}
		}
	}
	return s, nil
}

// missing says that something an index lists is not there. It is no [ErrNotFound]: what was asked for is there.
func missing(what string, p platforms.Platform, d ocispec.Descriptor) error {
	of := ""
	if !p.IsZero() {
		of = " for " + p.String()
	}
	return fmt.Errorf("the %s%s is listed and not there: %s (manifold doctor tells more)", what, of, d.Digest)
}

// OpenPartial is Open for an index that may be broken: an image that the index lists and that is not there is no error, but marked as missing.
func (c *Client) OpenPartial(ctx context.Context, name string) (*Source, error) {
	s, desc, list, err := c.openTop(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := s.read(ctx, desc, list); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), s.Close())
	}
	return s, nil
}

// openTop opens a source without reading what the index lists. Of an archive of docker save, which has no index, the images are returned.
func (c *Client) openTop(ctx context.Context, name string) (_ *Source, top ocispec.Descriptor, list []ocispec.Descriptor, err error) {
	scheme, file, choice := split(name)
	var from files
	switch scheme {
	case schemeOCILayout:
		from, err = openFolder(file)
	case schemeOCIArchive, schemeDockerArchive:
		from, err = c.openArchive(ctx, file)
	default:
		s, desc, err := c.openReference(ctx, name)
		return s, desc, nil, err
	}
	if err != nil {
		return nil, top, nil, fmt.Errorf("%s: %w", name, err)
	}
	s := &Source{Name: name, close: from.Close, small: map[digest.Digest][]byte{}}
	if scheme == schemeDockerArchive {
		var a *dockerArchive
		if a, list, err = openDocker(from, choice); err == nil {
			s.blobs, top = a, list[0]
		}
	} else {
		s.blobs = layout{from}
		top, err = layout{from}.top(choice)
		top.Annotations, top.Platform = nil, nil // what a layout says of it is not the image's
	}
	if err != nil {
		return nil, top, nil, fmt.Errorf("%s: %w", name, errors.Join(err, from.Close()))
	}
	return s, top, list, nil
}

// openReference opens what a registry has under a name.
func (c *Client) openReference(ctx context.Context, ref string) (*Source, ocispec.Descriptor, error) {
	if looksLikeArchive(ref) {
		return nil, ocispec.Descriptor{}, fmt.Errorf("%s: %w: there is no such file", ref, ErrNotFound)
	}
	named, repo, err := c.repository(ref)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	desc, raw, err := repo.Manifest(ctx, object(named))
	if err != nil {
		return nil, desc, readError(ref, err)
	}
	return &Source{
		Name: ref, blobs: repo, repo: repo, close: func() error { return nil }, small: map[digest.Digest][]byte{desc.Digest: raw},
	}, desc, nil
}

// read reads what a descriptor stands for, and, of an archive without an index, the images of the list.
func (s *Source) read(ctx context.Context, desc ocispec.Descriptor, list []ocispec.Descriptor) error {
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
	if len(list) > 1 {
		for _, more := range list[1:] {
			s.Index.Images = append(s.Index.Images, Image{Descriptor: more})
		}
	}
	return s.readImages(ctx)
}

// readImages reads manifest and config of every image, and what is attested.
func (s *Source) readImages(ctx context.Context) error {
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(parallelRequests)
	for i := range s.Index.Images {
		image := &s.Index.Images[i]
		eg.Go(func() error { return found(s.readImage(ctx, image), &image.Missing) })
		for j := range image.Attestations {
			a := &image.Attestations[j]
			eg.Go(func() error { return found(s.readAttestation(ctx, a), &a.Missing) })
		}
	}
	return eg.Wait()
}

// found notes what is not there, and lets other errors pass.
func found(err error, missing *bool) error {
	*missing = errdefs.IsNotFound(err)
	if *missing {
		return nil
	}
	return err
}
