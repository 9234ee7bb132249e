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
	// DockerClassic is Docker Engine's older image store (20.10 and later): as Containerd, but a 32-bit arm host that no entry fits takes the
	// first arm entry of any variant, and a Windows host prefers the entry of its own build to one of another that it could run.
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
	var fit, others []Candidate
	for _, image := range x.Images {
		p := image.Descriptor.Platform
		switch {
		case p == nil && !x.IsIndex():
			fit = append(fit, single(image, host))
		case p == nil:
			fit = append(fit, Candidate{Image: image, Reason: "its entry names no platform and fits every host"})
		case chosen.Match(*p):
			fit = append(fit, Candidate{Image: image, Reason: whyFits(host, image.Platform)})
		default:
			others = append(others, Candidate{Image: image, Reason: whyNot(host, image.Platform)})
		}
	}
	slices.SortStableFunc(fit, func(a, b Candidate) int {
		return order(chosen, a.Image.Descriptor.Platform, b.Image.Descriptor.Platform)
	})
	if m == DockerClassic {
		fit, others = classic(host, fit, others)
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

// classic applies what Docker's older image store does in another way.
func classic(host platforms.Platform, fit, others []Candidate) ([]Candidate, []Candidate) {
	if host.OS == "windows" && host.OSVersion != "" {
		slices.SortStableFunc(fit, func(a, b Candidate) int {
			own := func(c Candidate) int {
				if strings.HasPrefix(c.Image.Platform.OSVersion, host.OSVersion) {
					return 0
				}
				return 1
			}
			return own(a) - own(b)
		})
	}
	if len(fit) > 0 || host.Architecture != "arm" {
		return fit, others
	}
	var left []Candidate
	for _, c := range others {
		if c.Image.Platform.OS == host.OS && c.Image.Platform.Architecture == host.Architecture {
			c.Reason = "another arm variant, which docker-classic takes where none fits; it may not run"
			fit = append(fit, c)
		} else {
			left = append(left, c)
		}
	}
	return fit, left
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
