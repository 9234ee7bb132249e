package platforms

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/platforms"

	"github.com/manifold-build/manifold/internal/nearest"
)

// defaultOS is what a platform without an operating system means: containers are Linux unless they say otherwise.
const defaultOS = "linux"

// maxPlatformLength bounds one written platform, in bytes. The longest real ones are Windows versions with features.
const maxPlatformLength = 256

// MaxTargets is the number of platforms one list may name. More than 64 is never a build, only a mistake or an attack.
const MaxTargets = 64

// A ParseError says which part of a written platform could not be understood.
type ParseError struct {
	// Input is the platform as it was written.
	Input string
	// Problem says what is wrong with it.
	Problem string
	// Suggestion is a platform that was probably meant, or empty.
	Suggestion string
}

// Error names the input, the problem and, where there is one, the suggestion.
func (e *ParseError) Error() string {
	msg := fmt.Sprintf("invalid platform %q: %s", e.Input, e.Problem)
	if e.Suggestion != "" {
		msg += fmt.Sprintf("; did you mean %q?", e.Suggestion)
	}
	return msg
}

var component = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// Parse reads one platform: "linux/arm64", "linux/arm/v7", "arm64", "x86_64", "windows(10.0.20348.0)/amd64".
//
// An architecture alone is a Linux platform. An operating system alone is an error, because its architecture would
// have to be guessed. An operating system or an architecture that Go and containerd do not know is an error, unless an
// OS version is given. Errors are of type [*ParseError].
func Parse(s string) (Platform, error) {
	in := strings.TrimSpace(s)
	fail := func(problem, suggestion string) (Platform, error) {
		if len(in) > maxPlatformLength {
			in = in[:maxPlatformLength] + "…"
		}
		return Platform{}, &ParseError{Input: in, Problem: problem, Suggestion: suggestion}
	}
	switch {
	case in == "":
		return fail("it is empty", "")
	case len(in) > maxPlatformLength:
		return fail(fmt.Sprintf("it is longer than %d bytes", maxPlatformLength), "")
	}
	parts := strings.Split(in, "/")
	if len(parts) > 3 {
		return fail("it has more than the three parts os/architecture/variant", "")
	}
	if len(parts) == 1 {
		if isOS(osName(parts[0])) {
			return fail("it names an operating system and no architecture", parts[0]+"/amd64")
		}
		parts = []string{defaultOS, parts[0]}
	}
	for _, part := range parts[1:] {
		if !component.MatchString(part) {
			return fail(fmt.Sprintf("%q is not a name", part), "")
		}
	}
	arch, variant := canonicalArch(parts[1])
	if len(parts) == 3 {
		if variant != "" && !strings.EqualFold(parts[2], variant) {
			return fail(fmt.Sprintf("%q already means variant %s, it cannot be %s too", parts[1], variant, parts[2]), "")
		}
		variant = strings.ToLower(parts[2])
	}
	spec := strings.TrimSuffix(parts[0]+"/"+arch+"/"+variant, "/")
	parsed, err := platforms.Parse(spec)
	if err != nil {
		return fail("its operating system part is malformed", "")
	}
	p := FromOCI(parsed)
	if !isOS(p.OS) {
		return fail(fmt.Sprintf("unknown operating system %q", p.OS), suggestPlatform(p, nearest.Name(p.OS, knownOS), p.Architecture))
	}
	// Whoever spells out an OS version names a platform of their own registry; BuildKit takes it as it is, and so do we.
	if p.OSVersion == "" && !slices.Contains(knownArch, p.Architecture) {
		return fail(fmt.Sprintf("unknown architecture %q", parts[1]), suggestPlatform(p, p.OS, nearest.Name(p.Architecture, knownArch)))
	}
	if known := knownVariants[p.Architecture]; p.Variant != "" && known != nil && !known.MatchString(p.Variant) {
		return fail(fmt.Sprintf("unknown variant %q of %s", p.Variant, p.Architecture), "")
	}
	return p, nil
}

// ParseList reads a comma-separated list of platforms in written order, each once: a platform that repeats an
// earlier one, after normalisation, is dropped. [Repeats] names those. White space around the commas is ignored.
// An empty list is nil without an error; an empty element is an error. At most [MaxTargets] platforms are accepted.
func ParseList(list string) ([]Platform, error) {
	all, err := parseAll(list)
	if err != nil {
		return nil, err
	}
	var out []Platform
	for _, p := range all {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out, nil
}

// Repeats returns the elements of list, as they were written, that repeat an earlier platform of it. Elements that
// do not parse are skipped: [ParseList] reports those.
func Repeats(list string) []string {
	var seen []Platform
	var out []string
	for el := range strings.SplitSeq(list, ",") {
		p, err := Parse(el)
		if err != nil {
			continue
		}
		if slices.Contains(seen, p) {
			out = append(out, strings.TrimSpace(el))
		}
		seen = append(seen, p)
	}
	return out
}

func parseAll(list string) ([]Platform, error) {
	if strings.TrimSpace(list) == "" {
		return nil, nil
	}
	elements := strings.Split(list, ",")
	if len(elements) > MaxTargets {
		return nil, fmt.Errorf("%d platforms in one list, at most %d are accepted", len(elements), MaxTargets)
	}
	out := make([]Platform, len(elements))
	for i, el := range elements {
		p, err := Parse(el)
		if err != nil {
			return nil, err
		}
		out[i] = p
	}
	return out, nil
}

// Format writes platforms as [ParseList] reads them.
func Format(list []Platform) string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = p.String()
	}
	return strings.Join(out, ",")
}

func suggestPlatform(p Platform, os, arch string) string {
	if os == "" || arch == "" {
		return ""
	}
	p.OS, p.Architecture = os, arch
	return p.Normalize().String()
}
