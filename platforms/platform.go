package platforms

import (
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Platform names a target: an operating system, an architecture and, where the architecture has them, a variant.
//
// A Platform is a comparable value and can be a map key. Values made by this package are normalised; a Platform
// built by hand should be passed through [Platform.Normalize] before it is compared. The zero value is no platform:
// it formats as "unknown" and [Platform.IsZero] reports it.
//
// The fields are those of the platform object of the OCI image index specification.
type Platform struct {
	// OS as Go's GOOS spells it, for example "linux".
	OS string
	// Architecture as Go's GOARCH spells it, for example "arm64".
	Architecture string
	// Variant of the architecture, for example "v7" of arm. Empty means the architecture's baseline:
	// v8 for arm64, v1 for amd64. A 32-bit arm platform always has one after normalisation.
	Variant string
	// OSVersion is the operating system's version, used by Windows images only. Empty means any.
	OSVersion string
	// OSFeatures are the features the operating system must offer, sorted and joined by "+". Empty means none.
	OSFeatures string
}

// FromOCI converts the platform object of an OCI descriptor or of an image config, normalised.
func FromOCI(p ocispec.Platform) Platform {
	if p.OS == "" && p.Architecture == "" {
		return Platform{}
	}
	if p.OS == "" {
		// containerd's Normalize would take the running machine's OS here.
		p.OS = defaultOS
	}
	n := platforms.Normalize(p)
	return Platform{
		OS:           n.OS,
		Architecture: n.Architecture,
		Variant:      n.Variant,
		OSVersion:    n.OSVersion,
		OSFeatures:   strings.Join(n.OSFeatures, "+"),
	}
}

// OCI returns p as the platform object of the OCI image specification.
func (p Platform) OCI() ocispec.Platform {
	out := ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion}
	if p.OSFeatures != "" {
		out.OSFeatures = strings.Split(p.OSFeatures, "+")
	}
	return out
}

// Normalize returns p with aliases resolved: see the table in the package documentation.
func (p Platform) Normalize() Platform { return FromOCI(p.OCI()) }

// IsZero reports whether p names no platform.
func (p Platform) IsZero() bool { return p == Platform{} }

// String formats p as [Parse] reads it, "os/architecture/variant", with the OS version and features in parentheses
// where it has any: "windows(10.0.20348.0)/amd64". The zero Platform is "unknown".
func (p Platform) String() string { return platforms.FormatAll(p.OCI()) }

// MarshalText formats p as [Platform.String] does.
func (p Platform) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText parses what [Platform.MarshalText] wrote, by the rules of [Parse]; "unknown" is the zero Platform.
func (p *Platform) UnmarshalText(text []byte) error {
	if string(text) == (Platform{}).String() {
		*p = Platform{}
		return nil
	}
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}
