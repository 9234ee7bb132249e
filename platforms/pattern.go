package platforms

import (
	"fmt"
	"path"
	"strings"

	"github.com/manifold-build/manifold/internal/nearest"
)

// Pattern selects targets: "linux/arm64", "linux/arm*", "*/386", "linux", "arm64". A part may hold * and ? in the
// sense of path.Match; a missing part matches anything, so "linux/arm" is every 32-bit arm variant and "linux" is
// every Linux platform. A pattern of one part is an operating system if it names a known one, "*" matches every
// platform, and anything else is an architecture. Aliases mean what they mean in a platform: "aarch64" is arm64.
//
// The zero Pattern matches every platform.
type Pattern struct {
	text              string
	os, arch, variant string
}

// ParsePattern reads a pattern. A part that no known platform could ever match is an error, so that a misspelt
// scope never silently selects nothing.
func ParsePattern(s string) (Pattern, error) {
	p := Pattern{text: s}
	if s == "" || len(s) > maxPlatformLength {
		return p, fmt.Errorf("invalid platform pattern %q: it has to be 1 to %d bytes long", s, maxPlatformLength)
	}
	parts := strings.Split(strings.ToLower(s), "/")
	switch {
	case len(parts) > 3:
		return p, fmt.Errorf("invalid platform pattern %q: it has more than the three parts os/architecture/variant", s)
	case len(parts) > 1:
		p.os, p.arch = osName(parts[0]), parts[1]
		if len(parts) == 3 {
			p.variant = parts[2]
		}
	case isOS(osName(parts[0])):
		p.os = osName(parts[0])
	case parts[0] != "*":
		p.arch = parts[0]
	}
	if p.arch != "" && !wild(p.arch) {
		arch, variant := canonicalArch(p.arch)
		if p.arch = arch; p.variant == "" {
			p.variant = variant
		}
	}
	if p.os != "" && !matchesAny(p.os, knownOS) {
		return p, fmt.Errorf("invalid platform pattern %q: no operating system is named %q%s", s, p.os, didYouMean(p.os, knownOS))
	}
	if p.arch != "" && !matchesAny(p.arch, knownArch) {
		return p, fmt.Errorf("invalid platform pattern %q: no architecture is named %q%s", s, p.arch, didYouMean(p.arch, knownArch))
	}
	for _, part := range parts {
		if _, err := path.Match(part, ""); err != nil || part == "" {
			return p, fmt.Errorf("invalid platform pattern %q: %q is not a name with * or ?", s, part)
		}
	}
	return p, nil
}

// Match reports whether the pattern selects the platform.
func (p Pattern) Match(platform Platform) bool {
	variant := platform.Variant
	if variant == "" {
		variant = baselineVariant[platform.Architecture]
	}
	return matchPart(p.os, platform.OS) && matchPart(p.arch, platform.Architecture) &&
		(matchPart(p.variant, platform.Variant) || matchPart(p.variant, variant))
}

// String returns the pattern as it was written.
func (p Pattern) String() string { return p.text }

// IsZero reports whether p is the zero Pattern, which matches everything.
func (p Pattern) IsZero() bool { return p == Pattern{} }

// Compare orders patterns by how specific they are: negative if p is less specific than q, positive if it is more,
// zero if neither is. More parts without a wildcard win, then more letters; between two patterns that are equal by
// both, the choice is the caller's, who usually reports it.
func (p Pattern) Compare(q Pattern) int {
	literalP, lettersP := p.specificity()
	literalQ, lettersQ := q.specificity()
	if literalP != literalQ {
		return literalP - literalQ
	}
	return lettersP - lettersQ
}

func (p Pattern) specificity() (literal, letters int) {
	for _, part := range []string{p.os, p.arch, p.variant} {
		if part != "" && !wild(part) {
			literal++
		}
		letters += len(part) - strings.Count(part, "*") - strings.Count(part, "?")
	}
	return literal, letters
}

// baselineVariant is the variant that normalisation removes, so that "linux/arm64/v8" selects linux/arm64.
var baselineVariant = map[string]string{"arm64": "v8", "amd64": "v1"}

func wild(part string) bool { return strings.ContainsAny(part, "*?[") }

func matchPart(pattern, s string) bool {
	if pattern == "" {
		return true
	}
	ok, err := path.Match(pattern, s)
	return ok && err == nil
}

func matchesAny(pattern string, names []string) bool {
	for _, n := range names {
		if matchPart(pattern, n) {
			return true
		}
	}
	return false
}

func didYouMean(s string, names []string) string {
	if n := nearest.Name(s, names); n != "" {
		return fmt.Sprintf("; did you mean %q?", n)
	}
	return ""
}
