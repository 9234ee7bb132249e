package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/platforms"
	"github.com/manifold-build/manifold/verify"
)

// store holds the blobs of the corpus: bytes, or the name of a file.
type store map[digest.Digest]any

// Fetch opens a blob.
func (s store) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	switch v := s[desc.Digest].(type) {
	case []byte:
		return io.NopCloser(bytes.NewReader(v)), nil
	case string:
		return os.Open(v)
	}
	return nil, fmt.Errorf("%s is not there", desc.Digest)
}

func (s store) bytes(mediaType string, dt []byte) ocispec.Descriptor {
	d := digest.FromBytes(dt)
	s[d] = dt
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(dt))}
}

func (s store) json(mediaType string, v any) (ocispec.Descriptor, error) {
	dt, err := json.Marshal(v)
	return s.bytes(mediaType, dt), err
}

// folder writes a layer of a folder, as a file.
func (s store) folder(file, root string) (_ ocispec.Descriptor, err error) {
	f, err := os.Create(file)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer func() { _ = f.Close() }()
	sum := digest.Canonical.Digester()
	w := tar.NewWriter(io.MultiWriter(f, sum.Hash()))
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		return addFile(w, root, p, d)
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := w.Close(); err != nil {
		return ocispec.Descriptor{}, err
	}
	s[sum.Digest()] = file
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: sum.Digest()}, f.Close()
}

func addFile(w *tar.Writer, root, p string, d fs.DirEntry) (err error) {
	info, err := d.Info()
	if err != nil {
		return err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(p); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	if h.Name, err = filepath.Rel(root, p); err != nil {
		return err
	}
	if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	in, err := os.Open(p)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	_, err = io.Copy(w, in)
	return err
}

// way is one of breaking an image: files on top of it, and another config.
type way struct {
	name     string
	files    []file
	config   func(*ocispec.ImageConfig)
	platform platforms.Platform // of the config; zero means the image's
}

type file struct {
	name string
	data []byte
	mode int64 // 0 means 0755
	link string
}

// verify makes an image and verifies it.
func (s store) verify(ctx context.Context, p platforms.Platform, config ocispec.ImageConfig, lower ocispec.Descriptor, w way) (verify.Report, error) {
	if w.config != nil {
		w.config(&config)
	}
	says := p
	if !w.platform.IsZero() {
		says = w.platform
	}
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, f := range w.files {
		h := &tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.data)), Typeflag: tar.TypeReg, Linkname: f.link}
		if f.mode != 0 {
			h.Mode = f.mode
		}
		if f.link != "" {
			h.Typeflag = tar.TypeSymlink
		}
		if err := tw.WriteHeader(h); err != nil {
			return verify.Report{}, err
		}
		if _, err := tw.Write(f.data); err != nil {
			return verify.Report{}, err
		}
	}
	if err := tw.Close(); err != nil {
		return verify.Report{}, err
	}
	upper := s.bytes(ocispec.MediaTypeImageLayer, b.Bytes())
	img := ocispec.Image{Platform: says.OCI(), Config: config}
	img.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{lower.Digest, upper.Digest}}
	c, err := s.json(ocispec.MediaTypeImageConfig, img)
	if err != nil {
		return verify.Report{}, err
	}
	m, err := s.json(ocispec.MediaTypeImageManifest, ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: c, Layers: []ocispec.Descriptor{lower, upper}})
	if err != nil {
		return verify.Report{}, err
	}
	return verify.NewReader(s).Image(ctx, m, verify.Want{Platform: p})
}
