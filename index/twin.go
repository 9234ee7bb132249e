package index

import (
	"cmp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// annotationZstd marks an entry whose layers are those of another entry for the same platform, compressed with zstd. Podman, Buildah and CRI-O (containers/image)
// write it and prefer what it marks; what does not know it takes the first entry for its platform.
const annotationZstd = "io.github.containers.compression.zstd"

// IsTwin reports whether the image's entry is marked as another one's twin, with the same files in layers that are compressed with zstd, by the annotation
// "io.github.containers.compression.zstd". Podman, Buildah and CRI-O pull it in place of the other; everybody else takes the other, which stands before it.
func (image Image) IsTwin() bool { return image.isTwin() }

func (image *Image) isTwin() bool { return image.Descriptor.Annotations[annotationZstd] == "true" }

// isZstdOf reports whether an image has the files of another, layer by layer, and is compressed with zstd where the other is not.
func (image *Image) isZstdOf(other Image) bool {
	return image.isZstd() && !other.isZstd() && len(image.diffIDs) > 0 && slices.Equal(image.diffIDs, other.diffIDs)
}

func (image *Image) isZstd() bool {
	for _, l := range image.Layers {
		if !strings.HasSuffix(l.MediaType, "+zstd") {
			return false
		}
	}
	return len(image.Layers) > 0
}

// compareTwins puts what is compressed with zstd, and is an image's twin or may become one, behind the other.
func compareTwins(a, b Image) int {
	rank := func(image Image) int {
		switch {
		case image.isTwin():
			return 2
		case image.isZstd():
			return 1
		}
		return 0
	}
	return cmp.Compare(rank(a), rank(b))
}

// pairTwins refuses two images for one platform in a list that is in order, unless the second is the first one's twin, which is marked as such.
func pairTwins(list []Image) error {
	for i := 1; i < len(list); i++ {
		a, b := &list[i-1], &list[i]
		if a.Platform != b.Platform || a.Platform.IsZero() {
			continue
		}
		third := i > 1 && list[i-2].Platform == b.Platform
		known := len(a.diffIDs) > 0 && len(b.diffIDs) > 0
		pair := b.isTwin() && (!known || slices.Equal(a.diffIDs, b.diffIDs)) || b.isZstdOf(*a)
		if third || a.isTwin() || !pair {
			return &DuplicateError{Platform: a.Platform, Digests: [2]digest.Digest{a.Descriptor.Digest, b.Descriptor.Digest}}
		}
		b.Descriptor.Annotations = with(b.Descriptor.Annotations, Annotation{Key: annotationZstd, Value: "true"})
	}
	return nil
}

// withoutTwins leaves out what is another one's twin there.
func withoutTwins(list []Image) []Image {
	var out []Image
	for _, image := range list {
		if !image.IsTwin() || !slices.ContainsFunc(list, func(other Image) bool { return other.Platform == image.Platform && !other.IsTwin() }) {
			out = append(out, image)
		}
	}
	return out
}
