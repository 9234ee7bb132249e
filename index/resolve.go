package index

import (
	"fmt"
	"slices"
	"strings"

	cplatforms "github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/platforms"
)

// Matcher is a way of choosing an image of an index for a host.
type Matcher uint8

const (
	// Containerd is what containerd, and Docker with the containerd image store, do: of the entries that the host's processor executes the
	// one whose platform comes first in the processor's own order wins, and an entry without a platform comes last.
	Containerd Matcher = iota + 1
	// DockerClassic is the older image store of Docker Engine (23 to 28, without the containerd image store). On Linux it chooses as Containerd
	// does. A Windows host takes every entry whose build is not newer than its own, and prefers that of its own build.
	DockerClassic
)

// String is the matcher's name.
func (m Matcher) String() string {
	switch m {
	case Containerd:
		return "containerd"
	case DockerClassic:
		return "docker-classic"
	}
	return "unknown"
}

// MarshalText formats m as [Matcher.String] does.
func (m Matcher) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads containerd or docker-classic.
func (m *Matcher) UnmarshalText(text []byte) error { return named(m, text, Containerd, DockerClassic) }

// named finds the value that a text is the name of.
func named[T fmt.Stringer](v *T, text []byte, known ...T) error {
	names := make([]string, len(known))
	for i, k := range known {
		if names[i] = k.String(); names[i] == string(text) {
			*v = k
			return nil
		}
	}
	return fmt.Errorf("%q is none of %s", text, strings.Join(names, ", "))
}

// Candidate is an image of an index and whether a host can take it.
type Candidate struct {
	Image Image `json:"image"`
	// Rank is its place among those that the host can take, from 1; 0 means that it cannot.
	Rank int `json:"rank"`
	// Reason says why, in a few words.
	Reason string `json:"reason"`
}

// Resolve chooses the image that a host of a platform pulls, as containerd does. See [Index.ResolveWith].
func (x Index) Resolve(host platforms.Platform) (Image, []Candidate, error) {
	return x.ResolveWith(Containerd, host)
}

// ResolveWith chooses the image that a host of a platform pulls. The candidates are all images of the index, those that the host can take first,
// best first, then the others in the index's order. No image for the host is an error; the candidates are returned with it.
func (x Index) ResolveWith(m Matcher, host platforms.Platform) (Image, []Candidate, error) {
	chosen := cplatforms.Only(host.OCI())
	match := func(p platforms.Platform) bool {
		if m == DockerClassic && host.OS == "windows" && p.OS == host.OS && host.OSVersion != "" && p.OSVersion != "" {
			return p.Architecture == host.Architecture && compareNumbers(build(p), build(host)) <= 0
		}
		return chosen.Match(p.OCI())
	}
	var fit, others []Candidate
	for _, image := range x.Images {
		unnamed := ""
		if image.Descriptor.Platform == nil {
			unnamed = " (its entry names no platform, its config does: it comes last)"
		}
		switch {
		case image.Descriptor.Platform == nil && !x.IsIndex():
			fit = append(fit, single(image, host))
		case match(image.Platform):
			reason := whyFits(host, image.Platform) + unnamed
			if image.IsTwin() {
				reason += ", compressed with zstd: Podman, Buildah and CRI-O take it"
			}
			fit = append(fit, Candidate{Image: image, Reason: reason})
		default:
			others = append(others, Candidate{Image: image, Reason: whyNot(host, image.Platform) + unnamed})
		}
	}
	slices.SortStableFunc(fit, func(a, b Candidate) int {
		return order(chosen, a.Image.Descriptor.Platform, b.Image.Descriptor.Platform)
	})
	if m == DockerClassic && host.OS == "windows" {
		slices.SortStableFunc(fit, func(a, b Candidate) int { return otherBuild(host, a) - otherBuild(host, b) })
	}
	for i := range fit {
		fit[i].Rank = i + 1
	}
	all := slices.Concat(fit, others)
	if len(fit) == 0 {
		return Image{}, all, fmt.Errorf("there is no image for %s in it; it has %s", host, platformsOf(x.Images))
	}
	return fit[0].Image, all, nil
}

// single is the only image of a reference that is no index: every host pulls it, whether it can run it or not.
func single(image Image, host platforms.Platform) Candidate {
	reason := "the reference names one image, which every host pulls"
	if !cplatforms.Only(host.OCI()).Match(image.Platform.OCI()) {
		reason += fmt.Sprintf("; it is for %s, which %s does not run", image.Platform, host)
	}
	return Candidate{Image: image, Reason: reason}
}

// order compares as containerd sorts: what fits better first, no platform last.
func order(m cplatforms.MatchComparer, a, b *ocispec.Platform) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil, m.Less(*a, *b):
		return -1
	case m.Less(*b, *a):
		return 1
	}
	return 0
}

// otherBuild is 0 for an image of a Windows host's own build, 1 for any other.
func otherBuild(host platforms.Platform, c Candidate) int {
	if host.OSVersion == "" || build(c.Image.Platform) == build(host) {
		return 0
	}
	return 1
}

// build is the part of a Windows version that says whether a host runs an image: 10.0.20348 of 10.0.20348.2322.
func build(p platforms.Platform) string {
	parts := strings.Split(p.OSVersion, ".")
	return strings.Join(parts[:min(3, len(parts))], ".")
}

// whyFits says why a host can take an image.
func whyFits(host, p platforms.Platform) string {
	switch {
	case p == host:
		return "its own platform"
	case p.Architecture != host.Architecture:
		return fmt.Sprintf("%s runs %s code too", host.Architecture, name(p))
	case p.Variant != host.Variant:
		return fmt.Sprintf("%s runs what is made for %s", name(host), name(p))
	case p.OSVersion != host.OSVersion && host.OSVersion == "":
		return "its own platform, of any OS version"
	case p.OSVersion != host.OSVersion:
		return fmt.Sprintf("Windows %s runs %s", host.OSVersion, p.OSVersion)
	}
	return "its own platform"
}

// whyNot says why a host cannot take an image.
func whyNot(host, p platforms.Platform) string {
	switch {
	case p.OS != host.OS:
		return "another operating system, " + p.OS
	case p.Architecture != host.Architecture:
		return "another architecture, " + p.Architecture
	case p.Variant != host.Variant:
		return fmt.Sprintf("%s needs more than %s has", name(p), name(host))
	case p.OSVersion != host.OSVersion:
		return fmt.Sprintf("Windows %s does not run %s", host.OSVersion, p.OSVersion)
	}
	return "it needs OS features " + p.OSFeatures
}

// name is architecture and variant.
func name(p platforms.Platform) string { return strings.TrimSuffix(p.Architecture+"/"+p.Variant, "/") }
