package index

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/internal/ocijson"
)

// dockerArchive is what docker save writes: a source of blobs. It holds no manifests, so they are made up from what it says, and layers have the
// digests that the config names, which are those of their uncompressed bytes.
type dockerArchive struct {
	files

	made  map[digest.Digest][]byte
	paths map[digest.Digest]string
}

// dockerImage is an entry of the archive's manifest.json.
type dockerImage struct {
	RepoTags []string `json:"RepoTags"`
	Config   string   `json:"Config"`
	Layers   []string `json:"Layers"`
}

const dockerManifest = "manifest.json"

// openDocker reads the archive's manifest.json, and returns an entry for every image in it.
func openDocker(f files, choice string) (*dockerArchive, []ocispec.Descriptor, error) {
	raw, err := readSmall(f, dockerManifest)
	if err != nil {
		return nil, nil, fmt.Errorf("it is not an archive of docker save: %w", err)
	}
	var list []dockerImage
	if err := ocijson.Unmarshal(raw, &list); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", dockerManifest, err)
	}
	if len(list) == 0 || len(list) > maxImages {
		return nil, nil, fmt.Errorf("%s names %d images, 1 to %d are accepted", dockerManifest, len(list), maxImages)
	}
	a := &dockerArchive{files: f, made: map[digest.Digest][]byte{}, paths: map[digest.Digest]string{}}
	var out []ocispec.Descriptor
	var names []string
	for _, image := range list {
		names = append(names, image.RepoTags...)
		if choice != "" && !image.goesBy(choice) {
			continue
		}
		desc, err := a.add(image)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", image.Config, err)
		}
		out = append(out, desc)
	}
	if len(out) == 0 {
		return nil, nil, fmt.Errorf("%s names no %s; it has %s", dockerManifest, choice, strings.Join(names, ", "))
	}
	return a, out, nil
}

// goesBy reports whether an image has a name: a tag, or what ends in it.
func (i dockerImage) goesBy(choice string) bool {
	return slices.ContainsFunc(i.RepoTags, func(tag string) bool { return tag == choice || strings.HasSuffix(tag, ":"+choice) })
}

// add makes up the manifest of an image.
func (a *dockerArchive) add(image dockerImage) (ocispec.Descriptor, error) {
	config, err := readSmall(a.files, image.Config)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var parsed ocispec.Image
	if err := ocijson.Unmarshal(config, &parsed); err != nil {
		return ocispec.Descriptor{}, err
	}
	ids := parsed.RootFS.DiffIDs
	if len(ids) != len(image.Layers) {
		return ocispec.Descriptor{}, fmt.Errorf("it names %d layers, and the archive lists %d", len(ids), len(image.Layers))
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{},
		Config: a.keep(ocispec.MediaTypeImageConfig, config),
	}
	for i, name := range image.Layers {
		d := ids[i]
		if encoded, ok := strings.CutPrefix(name, "blobs/sha256/"); ok {
			d = digest.NewDigestFromEncoded(digest.SHA256, encoded)
		}
		if err := d.Validate(); err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("layer %q: %w", name, err)
		}
		layer, err := a.layer(name, d)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		m.Layers = append(m.Layers, layer)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return a.keep(ocispec.MediaTypeImageManifest, raw), nil
}

// layer describes a layer's file. How it is compressed is seen by its first bytes.
func (a *dockerArchive) layer(name string, d digest.Digest) (_ ocispec.Descriptor, err error) {
	rc, size, err := a.open(name)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	a.paths[d] = name
	out := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: size}
	var magic [4]byte
	n, err := io.ReadFull(rc, magic[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return out, err
	}
	switch {
	case bytes.HasPrefix(magic[:n], []byte{0x1f, 0x8b}): // RFC 1952
		out.MediaType = ocispec.MediaTypeImageLayerGzip
	case bytes.HasPrefix(magic[:n], []byte{0x28, 0xb5, 0x2f, 0xfd}): // RFC 8878
		out.MediaType = ocispec.MediaTypeImageLayerZstd
	}
	return out, nil
}

func (a *dockerArchive) keep(mediaType string, raw []byte) ocispec.Descriptor {
	d := digest.FromBytes(raw)
	a.made[d] = raw
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}
}

// Fetch opens a blob.
func (a *dockerArchive) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if raw, ok := a.made[desc.Digest]; ok {
		return io.NopCloser(bytes.NewReader(raw)), nil
	}
	name, ok := a.paths[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("blob %s: %w in the archive", desc.Digest, errdefs.ErrNotFound)
	}
	rc, _, err := a.open(name)
	return rc, errors.Join(err)
}
