package index

import (
	"fmt"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/platforms"
)

// Level is where an annotation stands, as BuildKit names the places.
type Level string

const (
	// LevelIndex is the index itself.
	LevelIndex Level = "index"
	// LevelIndexDescriptor is what points to the index, which only an OCI layout has.
	LevelIndexDescriptor Level = "index-descriptor"
	// LevelManifest is an image's manifest; one more annotation makes it another image.
	LevelManifest Level = "manifest"
	// LevelManifestDescriptor is the image's entry in the index.
	LevelManifestDescriptor Level = "manifest-descriptor"
)

var levels = []Level{LevelIndex, LevelManifest, LevelIndexDescriptor, LevelManifestDescriptor}

// Annotation is a key and a value, and where they go.
type Annotation struct {
	// Level is where it goes.
	Level Level
	// Platform is the image it is for, at the levels manifest and manifest-descriptor; zero means every image.
	Platform platforms.Platform
	Key      string
	Value    string
}

// String is the annotation as [ParseAnnotation] reads it.
func (a Annotation) String() string {
	level := string(a.Level)
	if !a.Platform.IsZero() {
		level += "[" + a.Platform.String() + "]"
	}
	return level + ":" + a.Key + "=" + a.Value
}

func (a Annotation) matches(p platforms.Platform) bool {
	return a.Platform.IsZero() || a.Platform == p || a.Platform.OSVersion == "" && a.Platform == (platforms.Platform{
		OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSFeatures: a.Platform.OSFeatures,
	})
}

// ParseAnnotation reads an annotation as docker buildx writes it: KEY=VALUE, with levels in front of a colon, separated by commas and each
// with a platform if it is for one image only.
//
//	org.opencontainers.image.title=app
//	index,manifest:org.opencontainers.image.title=app
//	manifest-descriptor[linux/arm64]:com.example.note=fast
//
// Without a level it is the index's: that is what is made.
func ParseAnnotation(s string) ([]Annotation, error) {
	left, value, ok := strings.Cut(s, "=")
	if !ok {
		return nil, fmt.Errorf("annotation %q: it is not KEY=VALUE", s)
	}
	key, places := left, string(LevelIndex)
	if before, after, ok := cutLevels(left); ok {
		places, key = before, after
	}
	if key == "" {
		return nil, fmt.Errorf("annotation %q: it has no key", s)
	}
	var out []Annotation
	for place := range strings.SplitSeq(places, ",") {
		a := Annotation{Key: key, Value: value}
		level, in, scoped := strings.Cut(place, "[")
		a.Level = Level(level)
		if !slices.Contains(levels, a.Level) {
			return nil, fmt.Errorf("annotation %q: %q is none of the levels index, manifest, index-descriptor, manifest-descriptor", s, level)
		}
		if scoped {
			if a.Level == LevelIndex || a.Level == LevelIndexDescriptor {
				return nil, fmt.Errorf("annotation %q: there is one index, for all platforms", s)
			}
			p, err := platforms.Parse(strings.TrimSuffix(in, "]"))
			if err != nil {
				return nil, fmt.Errorf("annotation %q: %w", s, err)
			}
			a.Platform = p
		}
		out = append(out, a)
	}
	return out, nil
}

// cutLevels takes off what stands before a colon that is not in brackets.
func cutLevels(left string) (places, key string, ok bool) {
	depth := 0
	for i, r := range left {
		switch r {
		case '[':
			depth++
		case ']':
			depth--
		case ':':
			if depth == 0 {
				return left[:i], left[i+1:], true
			}
		}
	}
	return "", left, false
}
