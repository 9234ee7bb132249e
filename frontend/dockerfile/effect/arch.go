package effect

import (
	"regexp"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/platforms"
)

// archWord matches an architecture written in a name, with what is around it.
var archWord = regexp.MustCompile(`(?i)(?:^|[^a-z0-9])(x86[_-]64|amd64|x64|x86|i[36]86|386|aarch64|arm64(?:v8)?|armv?[5678][a-z]*|armhf|armel|arm32(?:v[567])?|ppc64(?:le|el)?|s390x|riscv64|mips(?:64)?(?:le|el)?|loong(?:arch)?64)(?:$|[^a-z0-9])`)

// mayNameArch rules out most names without the expression: every spelling holds one of these.
func mayNameArch(s string) bool {
	return strings.Contains(s, "64") || strings.Contains(s, "86") || strings.Contains(s, "390") ||
		strings.ContainsAny(s, "mM") && (strings.Contains(strings.ToLower(s), "arm") || strings.Contains(strings.ToLower(s), "mips"))
}

// ArchWord returns the architecture written in a name, or nothing.
func ArchWord(s string) string {
	if !mayNameArch(s) {
		return ""
	}
	if m := archWord.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}

// ForeignWord returns the architecture written in a name, if it is not the target's.
func ForeignWord(name string, target platforms.Platform) string {
	word := ArchWord(name)
	if word == "" || slices.Contains(archNames(target), strings.ToLower(word)) {
		return ""
	}
	return word
}

// namedFor reports whether every architecture that is written in a name is the target's, and there is one.
func namedFor(name string, target platforms.Platform) bool {
	own := archNames(target)
	found := false
	for rest := name; mayNameArch(rest); {
		loc := archWord.FindStringSubmatchIndex(rest)
		if loc == nil {
			break
		}
		if !slices.Contains(own, strings.ToLower(rest[loc[2]:loc[3]])) {
			return false
		}
		found, rest = true, rest[loc[3]:]
	}
	return found
}

// archNames are the spellings of a platform's architecture in names of files.
func archNames(p platforms.Platform) []string {
	n := p.Names()
	out := []string{p.Architecture, strings.ToLower(n.Uname), n.Debian, n.Alpine, p.Architecture + p.Variant}
	switch p.Architecture {
	case "amd64":
		out = append(out, "x64", "x86-64", "x86_64")
	case "386":
		out = append(out, "i386", "i586", "i686", "x86")
	case "arm64":
		out = append(out, "arm64v8", "aarch64", "armv8")
	case "arm":
		out = append(out, "arm32"+p.Variant, "arm"+p.Variant, "arm"+p.Variant+"l", "armhf", "armel")
	}
	return out
}
