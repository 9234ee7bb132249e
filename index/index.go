package index

import (
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/internal/ocijson"
	"github.com/manifold-build/manifold/platforms"
)

const (
	// maxManifest bounds a manifest, an index and a config, in bytes, as registries do.
	maxManifest = 4 << 20
	// maxImages bounds the entries of one index.
	maxImages = 256

	// BuildKit marks an attestation's entry, whose platform is unknown/unknown, by these annotations.
	annotationReferenceType   = "vnd.docker.reference.type"
	annotationReferenceDigest = "vnd.docker.reference.digest"
	attestationManifest       = "attestation-manifest"
	// annotationPredicate is what an attestation's layer says that it states.
	annotationPredicate = "in-toto.io/predicate-type"
)

// Index is a multi-platform image as it stands in a registry. What a reference names may also be a single image; then
// Descriptor is that image's and Images holds it alone.
type Index struct {
	// Descriptor is what the reference resolves to.
	Descriptor ocispec.Descriptor
	// Raw is the manifest itself, byte for byte.
	Raw []byte
	// Images are its images in the index's own order, attestations not among them.
	Images []Image
	// Annotations are the index's, nil if there are none.
	Annotations map[string]string
	// Orphans are entries that attest something which is not in the index.
	Orphans []ocispec.Descriptor
}

// IsIndex reports whether the reference names an index rather than a single image.
func (x Index) IsIndex() bool { return images.IsIndexType(x.Descriptor.MediaType) }

// Find returns the image for a platform, of two that differ in their compression the one that everybody can pull.
func (x Index) Find(p platforms.Platform) (Image, bool) {
	var found Image
	var ok bool
	for _, image := range x.Images {
		if image.Platform == p && (!ok || found.IsTwin() && !image.IsTwin()) {
			found, ok = image, true
		}
	}
	return found, ok
}

// Select returns the images for a platform, in the index's order. OS version and features count only if p has them.
func (x Index) Select(p platforms.Platform) []Image {
	var out []Image
	for _, image := range x.Images {
		if loose(image.Platform, p) {
			out = append(out, image)
		}
	}
	return out
}

// Image is one image of an index.
type Image struct {
	// Platform is what the index says the image is for; in a single image, what its config says.
	Platform platforms.Platform `json:"platform"`
	// Descriptor is the image's entry in the index.
	Descriptor ocispec.Descriptor `json:"descriptor"`
	// Config is the descriptor of the image's config, ConfigPlatform the platform the config names.
	Config         ocispec.Descriptor `json:"config"`
	ConfigPlatform platforms.Platform `json:"configPlatform"`
	// Layers are the descriptors of its layers.
	Layers []ocispec.Descriptor `json:"layers"`
	// Size is the sum of the config's and the layers' sizes as stored, in bytes.
	Size int64 `json:"size"`
	// Created is when the config says it was made; nil if it does not say.
	Created *time.Time `json:"created,omitempty"`
	// Attestations are the entries of the index that attest this image.
	Attestations []Attestation `json:"attestations,omitempty"`
	// Missing: its manifest or its config is not where the index is. Only [Client.OpenPartial] returns such images; what comes from either is empty.
	Missing bool `json:"missing,omitempty"`

	diffIDs []digest.Digest // of its config
}

// Attestation is an entry of an index that says something about one of its images, as BuildKit writes it.
type Attestation struct {
	// Descriptor is the entry.
	Descriptor ocispec.Descriptor `json:"descriptor"`
	// Predicates are the types of its statements, for example "https://slsa.dev/provenance/v1".
	Predicates []string `json:"predicates,omitempty"`
	// Missing: the attestation is listed and not there, as of an image.
	Missing bool `json:"missing,omitempty"`
}

// parseIndex reads an index, checking what would make it mean two things.
func parseIndex(raw []byte, mediaType string) (ocispec.Index, error) {
	var x ocispec.Index
	if err := ocijson.Manifest(raw, mediaType, &x); err != nil {
		return x, fmt.Errorf("index: %w", err)
	}
	if len(x.Manifests) > maxImages {
		return x, fmt.Errorf("index: %d entries, at most %d are accepted", len(x.Manifests), maxImages)
	}
	for i, d := range x.Manifests {
		if err := d.Digest.Validate(); err != nil {
			return x, fmt.Errorf("index: entry %d: %w", i, err)
		}
	}
	return x, nil
}

// fill completes an image from its manifest and its config.
func (image *Image) fill(rawManifest, rawConfig []byte) error {
	var m ocispec.Manifest
	if err := ocijson.Manifest(rawManifest, image.Descriptor.MediaType, &m); err != nil {
		return fmt.Errorf("manifest %s: %w", image.Descriptor.Digest, err)
	}
	var config ocispec.Image
	if err := ocijson.Unmarshal(rawConfig, &config); err != nil {
		return fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	image.Config, image.Layers, image.Created = m.Config, m.Layers, config.Created
	image.ConfigPlatform = platforms.FromOCI(config.Platform)
	image.Size = total(m)
	image.diffIDs = config.RootFS.DiffIDs
	if image.Platform.IsZero() {
		image.Platform = image.ConfigPlatform
	}
	return nil
}

// total is what a manifest's config and layers take, in bytes.
func total(m ocispec.Manifest) int64 {
	n := m.Config.Size
	for _, l := range m.Layers {
		n += l.Size
	}
	return n
}

// attested returns the digest of the image that an entry attests, or "" if the entry is an image.
func attested(d ocispec.Descriptor) digest.Digest {
	if d.Annotations[annotationReferenceType] != attestationManifest {
		return ""
	}
	return digest.Digest(d.Annotations[annotationReferenceDigest])
}
