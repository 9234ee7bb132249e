package sandbox

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/platforms"
)

// epoch is the time of every file and image the bench makes, so that their digests are the same on every machine.
var epoch = time.Unix(1672531200, 0).UTC()

// layout writes an OCI image layout: images for several platforms and the index that names them.
type layout struct{ dir string }

func newLayout(dir string) (layout, error) {
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return layout{}, err
	}
	return layout{dir}, os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}

// entry is one file, folder or symbolic link of a layer.
type entry struct {
	Name string // without a leading slash
	Mode fs.FileMode
	Data []byte
	Link string // target of a symbolic link
}

func folder(name string) entry            { return entry{Name: name, Mode: fs.ModeDir | 0o755} }
func program(name string, b []byte) entry { return entry{Name: name, Mode: 0o755, Data: b} }
func file(name, text string) entry        { return entry{Name: name, Mode: 0o644, Data: []byte(text)} }

// layer is a layer as it stands in the layout.
type layer struct {
	Descriptor ocispec.Descriptor
	DiffID     digest.Digest
}

// addLayer writes a gzip layer whose tar entries are written by fill.
func (l layout) addLayer(fill func(*tar.Writer) error) (_ layer, err error) {
	f, err := os.CreateTemp(l.dir, "layer-")
	if err != nil {
		return layer{}, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	compressed, plain := digest.Canonical.Digester(), digest.Canonical.Digester()
	zip, err := gzip.NewWriterLevel(io.MultiWriter(f, compressed.Hash()), gzip.BestSpeed)
	if err != nil {
		return layer{}, err
	}
	tw := tar.NewWriter(io.MultiWriter(zip, plain.Hash()))
	if err := fill(tw); err != nil {
		return layer{}, err
	}
	if err := tw.Close(); err != nil {
		return layer{}, err
	}
	if err := zip.Close(); err != nil {
		return layer{}, err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return layer{}, err
	}
	if err := f.Close(); err != nil {
		return layer{}, err
	}
	d := compressed.Digest()
	return layer{
		Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: d, Size: size},
		DiffID:     plain.Digest(),
	}, os.Rename(f.Name(), l.blob(d))
}

// addFiles writes a layer of the entries given.
func (l layout) addFiles(entries []entry) (layer, error) {
	return l.addLayer(func(tw *tar.Writer) error {
		for _, e := range entries {
			if err := writeEntry(tw, e, bytes.NewReader(e.Data), int64(len(e.Data))); err != nil {
				return err
			}
		}
		return nil
	})
}

func writeEntry(tw *tar.Writer, e entry, data io.Reader, size int64) error {
	h := &tar.Header{Name: e.Name, Mode: int64(e.Mode.Perm()), ModTime: epoch, Format: tar.FormatPAX}
	switch {
	case e.Mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, strings.TrimSuffix(e.Name, "/")+"/"
		if e.Mode&fs.ModeSticky != 0 {
			h.Mode |= 0o1000
		}
	case e.Link != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.Link, 0o777
	default:
		h.Typeflag, h.Size = tar.TypeReg, size
	}
	if err := tw.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", e.Name, err)
	}
	if h.Typeflag == tar.TypeReg {
		if _, err := io.Copy(tw, data); err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
	}
	return nil
}

// addTree writes a layer that holds the folder src below the name dst, empty for the root. Every file whose path exec accepts
// gets mode 0755, the others 0644; a nil exec keeps which files are executable.
func (l layout) addTree(src, dst string, exec func(path string) bool) (layer, error) {
	return l.addLayer(func(tw *tar.Writer) error {
		return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(src, path)
			if err != nil {
				return err
			}
			name := filepath.ToSlash(filepath.Join(dst, rel))
			switch {
			case name == ".":
				return nil
			case d.IsDir():
				return writeEntry(tw, folder(name), nil, 0)
			case d.Type()&fs.ModeSymlink != 0:
				link, err := os.Readlink(path)
				if err != nil {
					return err
				}
				return writeEntry(tw, entry{Name: name, Link: link}, nil, 0)
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			info, err := f.Stat()
			if err != nil {
				return err
			}
			mode := fs.FileMode(0o644)
			if exec == nil && info.Mode()&0o100 != 0 || exec != nil && exec(filepath.ToSlash(rel)) {
				mode = 0o755
			}
			return writeEntry(tw, entry{Name: name, Mode: mode}, f, info.Size())
		})
	})
}

// addImage writes config and manifest of an image and returns the manifest's descriptor, with its platform.
func (l layout) addImage(p platforms.Platform, config ocispec.ImageConfig, layers ...layer) (ocispec.Descriptor, error) {
	image := ocispec.Image{
		Created: &epoch, Platform: p.OCI(), Config: config, RootFS: ocispec.RootFS{Type: "layers"},
		History: make([]ocispec.History, len(layers)),
	}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
	}
	for i, layer := range layers {
		image.RootFS.DiffIDs = append(image.RootFS.DiffIDs, layer.DiffID)
		image.History[i] = ocispec.History{Created: &epoch, CreatedBy: "manifold test bench"}
		manifest.Layers = append(manifest.Layers, layer.Descriptor)
	}
	var err error
	if manifest.Config, err = l.addJSON(ocispec.MediaTypeImageConfig, image); err != nil {
		return ocispec.Descriptor{}, err
	}
	desc, err := l.addJSON(ocispec.MediaTypeImageManifest, manifest)
	oci := p.OCI()
	desc.Platform = &oci
	return desc, err
}

// finish writes the layout's index.json, which is the image index itself.
func (l layout) finish(images []ocispec.Descriptor) error {
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: images,
	}
	b, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.dir, "index.json"), b, 0o644)
}

func (l layout) addJSON(mediaType string, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := digest.FromBytes(b)
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
	return desc, os.WriteFile(l.blob(d), b, 0o644)
}

// lend gives another layout what this one holds.
func (l layout) lend(to layout) error {
	blobs, err := filepath.Glob(filepath.Join(l.dir, "blobs", "sha256", "*"))
	if err != nil {
		return err
	}
	for _, b := range blobs {
		if err := os.Link(b, filepath.Join(to.dir, "blobs", "sha256", filepath.Base(b))); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

func (l layout) blob(d digest.Digest) string {
	return filepath.Join(l.dir, "blobs", "sha256", d.Encoded())
}
