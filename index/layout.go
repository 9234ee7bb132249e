package index

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/internal/ocijson"
)

// maxArchiveEntries bounds the files of an archive that is read.
const maxArchiveEntries = 1 << 20

// files is a folder of files: one on disk, or what a tar archive holds.
type files interface {
	// open returns a file's bytes and its size in bytes. The error of a file that is not there is fs.ErrNotExist.
	open(name string) (io.ReadCloser, int64, error)
	io.Closer
}

// folder is a folder on disk. No link leads out of it.
type folder struct{ root *os.Root }

func openFolder(name string) (files, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return folder{root}, nil
}

func (d folder) Close() error { return d.root.Close() }

func (d folder) open(name string) (io.ReadCloser, int64, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", name)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// archive is a tar file and where its entries' bytes are.
type archive struct {
	file    *os.File // one without a name, if it came as a stream
	entries map[string]section
	links   map[string]string // docker save links layers that are alike
}

type section struct{ offset, size int64 }

// openArchive opens an archive. A stream is kept in a temporary file, since what comes first in it is not what is read first.
func (c *Client) openArchive(ctx context.Context, name string) (_ files, err error) {
	var f *os.File
	if name == stream {
		f, err = c.spool(ctx)
	} else {
		f, err = os.Open(name) //nolint:gosec // the caller names the file
	}
	if err != nil {
		return nil, err
	}
	a := &archive{file: f, entries: map[string]section{}, links: map[string]string{}}
	if err := a.scan(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return a, nil
}

// spool takes a stream up to its end.
func (c *Client) spool(ctx context.Context) (_ *os.File, err error) {
	in := c.opt.Stdin
	if in == nil {
		in = os.Stdin
	}
	f, err := os.CreateTemp("", "manifold-archive-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := os.Remove(f.Name()); err != nil { // it lasts as long as it is open
		return nil, err
	}
	if _, err := io.Copy(f, &untilDone{ctx, in}); err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

// untilDone is a stream that ends with its context.
type untilDone struct {
	ctx context.Context //nolint:containedctx // a reader lives as long as its request
	r   io.Reader
}

func (u *untilDone) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.Read(p)
}

func (a *archive) Close() error { return a.file.Close() }

func (a *archive) scan() error {
	tr := tar.NewReader(a.file)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if n > maxArchiveEntries {
			return fmt.Errorf("more than %d entries", maxArchiveEntries)
		}
		offset, err := a.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			a.entries[name] = section{offset, h.Size}
		case tar.TypeSymlink:
			a.links[name] = path.Join(path.Dir(name), h.Linkname) //nolint:gosec // a name in the archive, nothing is extracted
		case tar.TypeLink:
			a.links[name] = path.Clean(h.Linkname)
		}
	}
}

func (a *archive) open(name string) (io.ReadCloser, int64, error) {
	name = path.Clean(name)
	if to, ok := a.links[name]; ok {
		name = to
	}
	s, ok := a.entries[name]
	if !ok {
		return nil, 0, fmt.Errorf("%s: %w in the archive", name, fs.ErrNotExist)
	}
	return io.NopCloser(io.NewSectionReader(a.file, s.offset, s.size)), s.size, nil
}

// layout is an OCI image layout (OCI image spec, "Image Layout"): a source of blobs.
type layout struct{ files }

// Fetch opens a blob.
func (l layout) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, err
	}
	rc, _, err := l.open(blobPath(desc))
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("blob %s: %w in the image layout", desc.Digest, errdefs.ErrNotFound)
	}
	return rc, err
}

// What layouts name their entries by: the OCI image spec's annotation, and containerd's.
const annotationContainerdName = "io.containerd.image.name"

// notThere is containerd's error for a file that is not there.
func notThere(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w in the image layout", errdefs.ErrNotFound)
	}
	return err
}

// top is the one thing that the layout's index.json names, or the one that choice names: a name, or a digest. What is there as a referrer
// of something else does not count.
func (l layout) top(choice string) (ocispec.Descriptor, error) {
	list, err := l.entries()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var found []ocispec.Descriptor
	var names []string
	for _, d := range list {
		if choice == "" && d.ArtifactType != "" || choice != "" && !goesBy(d, choice) {
			continue
		}
		if !slices.ContainsFunc(found, func(f ocispec.Descriptor) bool { return f.Digest == d.Digest }) {
			found = append(found, d)
			names = append(names, cmp.Or(d.Annotations[ocispec.AnnotationRefName], d.Digest.String()))
		}
	}
	switch {
	case len(list) == 0:
		return ocispec.Descriptor{}, errors.New("index.json names nothing")
	case len(found) == 0:
		return ocispec.Descriptor{}, fmt.Errorf("index.json names no %s", choice)
	case len(found) > 1:
		return ocispec.Descriptor{}, fmt.Errorf("index.json names several things, say which one: put :NAME or @DIGEST behind it (%s)", strings.Join(names, ", "))
	}
	desc := found[0]
	if !images.IsIndexType(desc.MediaType) && !images.IsManifestType(desc.MediaType) {
		return ocispec.Descriptor{}, fmt.Errorf("index.json names a %s, which is neither an index nor an image", desc.MediaType)
	}
	return desc, nil
}

// goesBy reports whether an entry goes by a name.
func goesBy(d ocispec.Descriptor, choice string) bool {
	ref, full := d.Annotations[ocispec.AnnotationRefName], d.Annotations[annotationContainerdName]
	return d.Digest.String() == choice || ref == choice || full == choice || strings.HasSuffix(ref, ":"+choice) || strings.HasSuffix(full, ":"+choice) || strings.HasSuffix(full, "/"+choice)
}

// entries is what index.json lists.
func (l layout) entries() ([]ocispec.Descriptor, error) {
	raw, err := readSmall(l, ocispec.ImageIndexFile)
	if errors.Is(err, fs.ErrNotExist) {
		if rc, _, err := l.open(dockerManifest); err == nil {
			return nil, errors.Join(fmt.Errorf("it is no OCI image layout but what docker save writes: put %s before its name", schemeDockerArchive), rc.Close())
		}
		return nil, errors.New("it is not an OCI image layout: no index.json")
	}
	if err != nil {
		return nil, err
	}
	var top ocispec.Index
	if err := ocijson.Unmarshal(raw, &top); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	return top.Manifests, nil
}

// readSmall reads a file of at most maxManifest bytes.
func readSmall(f files, name string) (_ []byte, err error) {
	rc, size, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	if size > maxManifest {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are accepted", name, size, int64(maxManifest))
	}
	return io.ReadAll(io.LimitReader(rc, maxManifest))
}
