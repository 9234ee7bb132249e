package platforms

import (
	"regexp"
	"slices"
	"strings"
)

// archAliases holds spellings that containerd/platforms does not know: uname's, Debian's, Rust's and the prefixes
// of Docker Hub's per-architecture namespaces. Each maps to architecture and variant.
var archAliases = map[string][2]string{
	"x64":         {"amd64", ""},
	"x86":         {"386", ""},
	"i486":        {"386", ""},
	"i586":        {"386", ""},
	"i686":        {"386", ""},
	"amd64v2":     {"amd64", "v2"},
	"amd64v3":     {"amd64", "v3"},
	"amd64v4":     {"amd64", "v4"},
	"arm64v8":     {"arm64", ""},
	"arm32v5":     {"arm", "v5"},
	"arm32v6":     {"arm", "v6"},
	"arm32v7":     {"arm", "v7"},
	"armv5":       {"arm", "v5"},
	"armv5tel":    {"arm", "v5"},
	"armv6":       {"arm", "v6"},
	"armv6l":      {"arm", "v6"},
	"armv7":       {"arm", "v7"},
	"armv7l":      {"arm", "v7"},
	"armv7hl":     {"arm", "v7"},
	"armv8l":      {"arm", "v8"},
	"ppc64el":     {"ppc64le", ""},
	"powerpc64le": {"ppc64le", ""},
	"powerpc64":   {"ppc64", ""},
	"mipsel":      {"mipsle", ""},
	"mips64el":    {"mips64le", ""},
	"loongarch64": {"loong64", ""},
}

// canonicalArch resolves an architecture's aliases to Go's spelling and the variant that the alias implies.
func canonicalArch(arch string) (name, variant string) {
	lower := strings.ToLower(arch)
	if a, ok := archAliases[lower]; ok {
		return a[0], a[1]
	}
	p := FromOCI(Platform{OS: defaultOS, Architecture: lower}.OCI())
	if p.Architecture == lower {
		return lower, "" // "arm" stays without a variant until it is known whether one was written
	}
	return p.Architecture, p.Variant
}

// knownOS and knownArch are the values of GOOS and GOARCH that Go and containerd/platforms know, and wasi/wasm.
var (
	knownOS = []string{
		"linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "dragonfly", "solaris", "illumos",
		"aix", "android", "ios", "plan9", "hurd", "nacl", "zos", "js", "wasi", "wasip1",
	}
	knownArch = []string{
		"arm64", "amd64", "arm", "386", "ppc64le", "s390x", "riscv64", "loong64", "mips64le", "mips64", "mipsle",
		"mips", "ppc64", "ppc", "riscv", "s390", "sparc", "sparc64", "wasm", "wasm32", "wasm64",
		"amd64p32", "armbe", "arm64be", "mips64p32", "mips64p32le",
	}
	// knownVariants lists the architectures whose variants are a closed set; other architectures take any.
	knownVariants = map[string]*regexp.Regexp{
		"amd64": regexp.MustCompile(`^v[1-4]$`),
		"arm":   regexp.MustCompile(`^v[5-8]$`),
		"arm64": regexp.MustCompile(`^v[89](\.[0-9])?$`),
	}
)

func osName(part string) string {
	name, _, _ := strings.Cut(strings.ToLower(part), "(")
	if name == "macos" {
		return "darwin"
	}
	return name
}

func isOS(name string) bool { return slices.Contains(knownOS, name) }

// nearest returns the entry of names at an edit distance of at most two from s, the first of the closest, or "".
func nearest(s string, names []string) string {
	best, bestAt := "", 3
	for _, n := range names {
		if d := distance(s, n); d < bestAt && d < len(n) {
			best, bestAt = n, d
		}
	}
	return best
}

// distance is the Damerau-Levenshtein distance (optimal string alignment): a swap of neighbours counts once.
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
