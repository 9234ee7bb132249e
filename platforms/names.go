package platforms

import "strings"

// Names are one platform's names in the vocabularies of the tools that cross-compile for it. A field is empty where
// the vocabulary has no name for the platform.
type Names struct {
	// Go holds the values of Go's target environment variables.
	Go GoNames
	// GNU is the triple of Debian's cross-compilers and multiarch folders, for example "aarch64-linux-gnu".
	GNU string
	// Rust and RustMusl are rustc's targets, linked with glibc and with musl.
	Rust, RustMusl string
	// Debian is the architecture as dpkg spells it, for example "armhf".
	Debian string
	// Alpine is the architecture as apk spells it, for example "armv7".
	Alpine string
	// Uname is what "uname -m" prints there, for example "aarch64".
	Uname string
}

// GoNames are Go's environment variables for a target, as "go help environment" lists them. The variable of an
// architecture's feature level is set for that architecture only; Go ignores the others and so they are empty.
type GoNames struct {
	GOOS, GOARCH string
	// GOARM is "5", "6" or "7" (GOARCH=arm); GOAMD64 is "v1" to "v4"; GO386 is "sse2"; GOMIPS and GOMIPS64 are
	// "hardfloat" or "softfloat"; GOPPC64 is "power8", "power9" or "power10"; GORISCV64 is "rva20u64" or later.
	GOARM, GOAMD64, GO386, GOMIPS, GOMIPS64, GOPPC64, GORISCV64 string
}

// NameValue is one variable and its value.
type NameValue struct{ Name, Value string }

// Env lists the variables in a fixed order, the empty ones too.
func (g GoNames) Env() []NameValue {
	return []NameValue{
		{"GOOS", g.GOOS}, {"GOARCH", g.GOARCH}, {"GOARM", g.GOARM}, {"GOAMD64", g.GOAMD64}, {"GO386", g.GO386},
		{"GOMIPS", g.GOMIPS}, {"GOMIPS64", g.GOMIPS64}, {"GOPPC64", g.GOPPC64}, {"GORISCV64", g.GORISCV64},
	}
}

// Names looks the platform up in the one table that all of Manifold uses. A platform that is not in the table has
// its Go names and nothing else.
func (p Platform) Names() Names {
	n := p.tableNames()
	n.Go = p.goNames()
	return n
}

func (p Platform) tableNames() Names {
	key := p.OS + "/" + p.Architecture
	if p.Architecture == "arm" {
		key += "/" + p.Variant
	}
	return nameTable[key]
}

// goLevels gives the variable of each architecture's feature level and its default, which Go documents in
// "go help environment". A platform's variant, where it has one, is the level.
func (p Platform) goNames() GoNames {
	g := GoNames{GOOS: p.OS, GOARCH: p.Architecture}
	level := func(fallback string) string {
		if p.Variant != "" {
			return p.Variant
		}
		return fallback
	}
	switch p.Architecture {
	case "arm":
		// Go has no GOARM=8: a 32-bit program for an ARMv8 processor is built as ARMv7.
		g.GOARM = strings.TrimPrefix(min(level("v7"), "v7"), "v")
	case "amd64":
		g.GOAMD64 = level("v1")
	case "386":
		g.GO386 = "sse2"
	case "mips", "mipsle":
		g.GOMIPS = level("hardfloat")
	case "mips64", "mips64le":
		g.GOMIPS64 = level("hardfloat")
	case "ppc64", "ppc64le":
		g.GOPPC64 = level("power8")
	case "riscv64":
		g.GORISCV64 = level("rva20u64")
	}
	return g
}

// nameTable is keyed by OS and architecture, and for 32-bit arm by variant too. Sources: Debian's
// /usr/share/dpkg/cputable and ostable, Alpine's architectures, rustc's platform support page, the kernel's utsname.
// For arm/v6 GNU and Debian name the armel port, the only one Debian has that runs there; Alpine's is armhf.
var nameTable = map[string]Names{
	"linux/amd64": {
		GNU: "x86_64-linux-gnu", Rust: "x86_64-unknown-linux-gnu", RustMusl: "x86_64-unknown-linux-musl",
		Debian: "amd64", Alpine: "x86_64", Uname: "x86_64",
	},
	"linux/arm64": {
		GNU: "aarch64-linux-gnu", Rust: "aarch64-unknown-linux-gnu", RustMusl: "aarch64-unknown-linux-musl",
		Debian: "arm64", Alpine: "aarch64", Uname: "aarch64",
	},
	"linux/arm/v8": {
		GNU: "arm-linux-gnueabihf", Rust: "armv7-unknown-linux-gnueabihf", RustMusl: "armv7-unknown-linux-musleabihf",
		Debian: "armhf", Alpine: "armv7", Uname: "armv8l",
	},
	"linux/arm/v7": {
		GNU: "arm-linux-gnueabihf", Rust: "armv7-unknown-linux-gnueabihf", RustMusl: "armv7-unknown-linux-musleabihf",
		Debian: "armhf", Alpine: "armv7", Uname: "armv7l",
	},
	"linux/arm/v6": {
		GNU: "arm-linux-gnueabi", Rust: "arm-unknown-linux-gnueabi", RustMusl: "arm-unknown-linux-musleabihf",
		Debian: "armel", Alpine: "armhf", Uname: "armv6l",
	},
	"linux/arm/v5": {
		GNU: "arm-linux-gnueabi", Rust: "armv5te-unknown-linux-gnueabi", RustMusl: "armv5te-unknown-linux-musleabi",
		Debian: "armel", Uname: "armv5tel",
	},
	"linux/386": {
		GNU: "i686-linux-gnu", Rust: "i686-unknown-linux-gnu", RustMusl: "i686-unknown-linux-musl",
		Debian: "i386", Alpine: "x86", Uname: "i686",
	},
	"linux/ppc64le": {
		GNU: "powerpc64le-linux-gnu", Rust: "powerpc64le-unknown-linux-gnu", RustMusl: "powerpc64le-unknown-linux-musl",
		Debian: "ppc64el", Alpine: "ppc64le", Uname: "ppc64le",
	},
	"linux/ppc64": {
		GNU: "powerpc64-linux-gnu", Rust: "powerpc64-unknown-linux-gnu", RustMusl: "powerpc64-unknown-linux-musl",
		Debian: "ppc64", Uname: "ppc64",
	},
	"linux/s390x": {
		GNU: "s390x-linux-gnu", Rust: "s390x-unknown-linux-gnu", RustMusl: "s390x-unknown-linux-musl",
		Debian: "s390x", Alpine: "s390x", Uname: "s390x",
	},
	"linux/riscv64": {
		GNU: "riscv64-linux-gnu", Rust: "riscv64gc-unknown-linux-gnu", RustMusl: "riscv64gc-unknown-linux-musl",
		Debian: "riscv64", Alpine: "riscv64", Uname: "riscv64",
	},
	"linux/loong64": {
		GNU: "loongarch64-linux-gnu", Rust: "loongarch64-unknown-linux-gnu", RustMusl: "loongarch64-unknown-linux-musl",
		Debian: "loong64", Alpine: "loongarch64", Uname: "loongarch64",
	},
	"linux/mips64le": {
		GNU: "mips64el-linux-gnuabi64", Rust: "mips64el-unknown-linux-gnuabi64", RustMusl: "mips64el-unknown-linux-muslabi64",
		Debian: "mips64el", Uname: "mips64",
	},
	"linux/mips64": {
		GNU: "mips64-linux-gnuabi64", Rust: "mips64-unknown-linux-gnuabi64", RustMusl: "mips64-unknown-linux-muslabi64",
		Debian: "mips64", Uname: "mips64",
	},
	"linux/mipsle": {
		GNU: "mipsel-linux-gnu", Rust: "mipsel-unknown-linux-gnu", RustMusl: "mipsel-unknown-linux-musl",
		Debian: "mipsel", Uname: "mips",
	},
	"linux/mips": {
		GNU: "mips-linux-gnu", Rust: "mips-unknown-linux-gnu", RustMusl: "mips-unknown-linux-musl",
		Debian: "mips", Uname: "mips",
	},
	"windows/amd64": {GNU: "x86_64-w64-mingw32", Rust: "x86_64-pc-windows-gnu", Uname: "x86_64"},
	"windows/386":   {GNU: "i686-w64-mingw32", Rust: "i686-pc-windows-gnu", Uname: "i686"},
	"windows/arm64": {GNU: "aarch64-w64-mingw32", Rust: "aarch64-pc-windows-gnullvm", Uname: "aarch64"},
	"darwin/amd64":  {GNU: "x86_64-apple-darwin", Rust: "x86_64-apple-darwin", Uname: "x86_64"},
	"darwin/arm64":  {GNU: "aarch64-apple-darwin", Rust: "aarch64-apple-darwin", Uname: "arm64"},
	"freebsd/amd64": {GNU: "x86_64-unknown-freebsd", Rust: "x86_64-unknown-freebsd", Uname: "amd64"},
	"freebsd/arm64": {GNU: "aarch64-unknown-freebsd", Rust: "aarch64-unknown-freebsd", Uname: "arm64"},
}
