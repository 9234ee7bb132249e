package index

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	Config string   `json:"Config"`
	Layers []string `json:"Layers"`
}

const dockerManifest = "manifest.json"

// openDocker reads the archive's manifest.json, and returns an entry for every image in it.
func openDocker(f files) (*dockerArchive, []ocispec.Descriptor, error) {
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
	for _, image := range list {
		desc, err := a.add(image)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", image.Config, err)
		}
		out = append(out, desc)
	}
	return a, out, nil
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
		rc, size, err := a.open(name)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		if err := rc.Close(); err != nil {
			return ocispec.Descriptor{}, err
		}
		a.paths[d] = name
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: size})
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return a.keep(ocispec.MediaTypeImageManifest, raw), nil
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
