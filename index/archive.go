package index

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxArchiveEntries bounds the files of an archive that is read.
const maxArchiveEntries = 1 << 20

// ReadArchive reads what an OCI image layout in a tar archive holds: the index, and every image's manifest and config.
// The layout's index.json has to name one thing, under however many names. Layers are skipped.
func ReadArchive(ctx context.Context, file string) (_ Index, err error) {
	f, err := os.Open(file) //nolint:gosec // the caller names the file
	if err != nil {
		return Index{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	a := archive{file: f, entries: map[string]section{}}
	if err := a.scan(); err != nil {
		return Index{}, fmt.Errorf("%s: %w", file, err)
	}
	x, err := a.read(ctx)
	if err != nil {
		return Index{}, fmt.Errorf("%s: %w", file, err)
	}
	return x, nil
}

// archive is a tar file and where its entries' bytes are.
type archive struct {
	file    *os.File
	entries map[string]section
}

type section struct{ offset, size int64 }

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
		if h.Typeflag == tar.TypeReg {
			a.entries[path.Clean(h.Name)] = section{offset, h.Size}
		}
	}
}

// Fetch makes the archive a source of blobs.
func (a *archive) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	s, ok := a.entries[path.Join("blobs", desc.Digest.Algorithm().String(), desc.Digest.Encoded())]
	if !ok {
		return nil, fmt.Errorf("%s: %w in the archive", desc.Digest, errdefs.ErrNotFound)
	}
	return io.NopCloser(io.NewSectionReader(a.file, s.offset, s.size)), nil
}

func (a *archive) read(ctx context.Context) (Index, error) {
	s, ok := a.entries["index.json"]
	if !ok || s.size > maxManifest {
		return Index{}, errors.New("it is not an OCI image layout: no index.json")
	}
	raw := make([]byte, s.size)
	if _, err := a.file.ReadAt(raw, s.offset); err != nil {
		return Index{}, err
	}
	var top ocispec.Index
	if err := json.Unmarshal(raw, &top); err != nil {
		return Index{}, fmt.Errorf("index.json: %w", err)
	}
	if len(top.Manifests) == 0 {
		return Index{}, errors.New("index.json names nothing")
	}
	desc := top.Manifests[0]
	for _, d := range top.Manifests {
		if d.Digest != desc.Digest {
			return Index{}, errors.New("index.json names several things")
		}
	}
	x := Index{Descriptor: desc, Images: []Image{{Descriptor: desc}}}
	var err error
	if x.Raw, err = fetch(ctx, a, desc); err != nil {
		return Index{}, err
	}
	if images.IsIndexType(desc.MediaType) {
		parsed, err := parseIndex(x.Raw)
		if err != nil {
			return Index{}, err
		}
		x.Annotations, x.Images = parsed.Annotations, imagesOf(parsed)
	}
	for i := range x.Images {
		if err := readImage(ctx, a, &x.Images[i]); err != nil {
			return Index{}, err
		}
	}
	return x, nil
}
