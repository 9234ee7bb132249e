package index

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/platforms"
)

// MediaType is which kind of index is made.
type MediaType uint8

const (
	// Auto makes Docker's kind if every image is Docker's and nothing needs OCI's, which annotations and attestations do; else OCI's.
	// The zero value means Auto too.
	Auto MediaType = iota + 1
	// OCI is application/vnd.oci.image.index.v1+json.
	OCI
	// Docker is application/vnd.docker.distribution.manifest.list.v2+json. It has no annotations.
	Docker
)

// String is the kind as flags spell it.
func (m MediaType) String() string {
	switch m {
	case OCI:
		return "oci"
	case Docker:
		return "docker"
	case Auto:
	}
	return "auto"
}

// MarshalText formats m as [MediaType.String] does.
func (m MediaType) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads auto, oci or docker; empty is auto.
func (m *MediaType) UnmarshalText(text []byte) error {
	for _, known := range []MediaType{Auto, OCI, Docker} {
		if cmp.Or(string(text), "auto") == known.String() {
			*m = known
			return nil
		}
	}
	return fmt.Errorf("media type %q is none of auto, oci, docker", text)
}

// AssembleOptions say what an index is besides its images. The zero value is an index without annotations.
type AssembleOptions struct {
	// MediaType is the kind of index; zero means Auto.
	MediaType MediaType
	// Annotations of level index go into the index, those of level manifest-descriptor into the entries they are for, and those of
	// level index-descriptor into the index's own descriptor. Level manifest is an error: an image that is given another annotation is
	// another image; [Client.Compose] makes it.
	Annotations []Annotation
}

// Assemble makes an index of images. Their order does not matter: entries are sorted by operating system, architecture, variant, OS version,
// OS features and digest, the lower variant first, since what takes the first entry of its architecture has to be able to run it; then
// come the attestations, in the order of what they attest. An entry is the image's descriptor, with the image's platform if it names none. An image
// given twice is one entry. Two images for one platform are an error, unless they differ in OS version or features, or one is the other's twin, compressed with zstd: see [Image.IsTwin].
func Assemble(list []Image, opt AssembleOptions) (Index, error) {
	list, err := canonical(list)
	if err != nil {
		return Index{}, err
	}
	mediaType, err := opt.mediaType(list)
	if err != nil {
		return Index{}, err
	}
	out := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaType, Manifests: []ocispec.Descriptor{}}
	top := ocispec.Descriptor{MediaType: mediaType}
	var used []bool
	for _, a := range opt.Annotations {
		used = append(used, a.Level != LevelManifestDescriptor)
		switch a.Level {
		case LevelIndex:
			out.Annotations = with(out.Annotations, a)
		case LevelIndexDescriptor:
			top.Annotations = with(top.Annotations, a)
		case LevelManifest:
			return Index{}, fmt.Errorf("annotation %s: it would make another image", a)
		case LevelManifestDescriptor:
		}
	}
	for i := range list {
		for j, a := range opt.Annotations {
			if a.Level == LevelManifestDescriptor && a.matches(list[i].Platform) {
				used[j] = true
				list[i].Descriptor.Annotations = with(list[i].Descriptor.Annotations, a)
			}
		}
		out.Manifests = append(out.Manifests, list[i].Descriptor)
	}
	if i := slices.Index(used, false); i >= 0 {
		return Index{}, fmt.Errorf("annotation %s: there is no image for it", opt.Annotations[i])
	}
	for _, image := range list {
		for _, a := range image.Attestations {
			out.Manifests = append(out.Manifests, a.Descriptor)
		}
	}
	raw, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return Index{}, err
	}
	if len(raw) > maxManifest {
		return Index{}, fmt.Errorf("the index has %d bytes, registries take at most %d", len(raw), int64(maxManifest))
	}
	top.Digest, top.Size = digest.FromBytes(raw), int64(len(raw))
	return Index{Descriptor: top, Raw: raw, Images: list, Annotations: out.Annotations}, nil
}

// with returns annotations with one more.
func with(have map[string]string, a Annotation) map[string]string {
	have = maps.Clone(have)
	if have == nil {
		have = map[string]string{}
	}
	have[a.Key] = a.Value
	return have
}

// canonical copies the images in their canonical order, each with its platform in its descriptor, and refuses two for one platform.
func canonical(list []Image) ([]Image, error) {
	list = slices.Clone(list)
	if len(list) == 0 {
		return nil, errors.New("an index of no images")
	}
	for i := range list {
		image := &list[i]
		if image.Platform.IsZero() && image.Descriptor.Platform == nil && image.Descriptor.ArtifactType == "" {
			return nil, fmt.Errorf("image %s: neither its config nor its entry says what platform it is for", image.Descriptor.Digest)
		}
		if image.Descriptor.Platform == nil && !image.Platform.IsZero() {
			p := image.Platform.OCI()
			image.Descriptor.Platform = &p
		}
		image.Attestations = slices.Clone(image.Attestations)
		slices.SortFunc(image.Attestations, func(a, b Attestation) int { return cmp.Compare(a.Descriptor.Digest, b.Descriptor.Digest) })
	}
	slices.SortFunc(list, func(a, b Image) int {
		return cmp.Or(comparePlatforms(a.Platform, b.Platform), compareTwins(a, b), cmp.Compare(a.Descriptor.Digest, b.Descriptor.Digest))
	})
	list, err := merged(list)
	if err != nil {
		return nil, err
	}
	if err := pairTwins(list); err != nil {
		return nil, err
	}
	if len(list) > maxImages {
		return nil, fmt.Errorf("%d images in one index, at most %d are accepted", len(list), maxImages)
	}
	return list, nil
}

// merged makes one of entries for the same image and platform: its annotations and attestations are those of all of them.
func merged(list []Image) ([]Image, error) {
	out := list[:1]
	for _, image := range list[1:] {
		last := &out[len(out)-1]
		if last.Platform != image.Platform || last.Descriptor.Digest != image.Descriptor.Digest {
			out = append(out, image)
			continue
		}
		if !image.Platform.IsZero() {
			p := image.Platform.OCI() // they may write it in two ways
			last.Descriptor.Platform = &p
		}
		for k, v := range image.Descriptor.Annotations {
			if have, ok := last.Descriptor.Annotations[k]; ok && have != v {
				return nil, fmt.Errorf("image %s for %s is given twice, with annotation %s=%s and %s=%s", image.Descriptor.Digest, image.Platform, k, have, k, v)
			}
			last.Descriptor.Annotations = with(last.Descriptor.Annotations, Annotation{Key: k, Value: v})
		}
		last.Attestations = append(last.Attestations, image.Attestations...)
		slices.SortFunc(last.Attestations, func(a, b Attestation) int { return cmp.Compare(a.Descriptor.Digest, b.Descriptor.Digest) })
		last.Attestations = slices.CompactFunc(last.Attestations, func(a, b Attestation) bool { return a.Descriptor.Digest == b.Descriptor.Digest })
	}
	return out, nil
}

// DuplicateError is two images for one platform.
type DuplicateError struct {
	Platform platforms.Platform
	Digests  [2]digest.Digest
}

// Error names the platform and both images.
func (e *DuplicateError) Error() string {
	return fmt.Sprintf("two images for %s: %s and %s", e.Platform, e.Digests[0], e.Digests[1])
}

func comparePlatforms(a, b platforms.Platform) int {
	return cmp.Or(
		cmp.Compare(a.OS, b.OS), cmp.Compare(a.Architecture, b.Architecture), compareNumbers(a.Variant, b.Variant),
		compareNumbers(a.OSVersion, b.OSVersion), cmp.Compare(a.OSFeatures, b.OSFeatures))
}

// compareNumbers compares versions like v9 and v8.2 or 10.0.17763.1 part by part, as numbers where they are.
func compareNumbers(a, b string) int {
	return slices.CompareFunc(strings.Split(a, "."), strings.Split(b, "."), func(x, y string) int {
		return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
	})
}

// mediaType chooses the kind of index, and refuses one that would lose something.
func (o AssembleOptions) mediaType(list []Image) (string, error) {
	needs := ""
	docker := true
	for _, image := range list {
		if len(image.Descriptor.Annotations) > 0 || image.Descriptor.ArtifactType != "" {
			needs = fmt.Sprintf("the entry for %s has annotations", image.Platform)
		}
		if len(image.Attestations) > 0 {
			needs = fmt.Sprintf("the image for %s has attestations", image.Platform)
		}
		if image.Descriptor.MediaType != images.MediaTypeDockerSchema2Manifest {
			docker = false
		}
	}
	for _, a := range o.Annotations {
		if a.Level == LevelIndex || a.Level == LevelManifestDescriptor {
			needs = fmt.Sprintf("annotation %s", a)
		}
	}
	switch {
	case o.MediaType == Docker && needs != "":
		return "", fmt.Errorf("media type docker: %s, which Docker's manifest list has no place for: use oci", needs)
	case o.MediaType == Docker, o.MediaType != OCI && docker && needs == "":
		return images.MediaTypeDockerSchema2ManifestList, nil
	}
	return ocispec.MediaTypeImageIndex, nil
}
