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
