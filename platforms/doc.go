// Package platforms holds the vocabulary of multi-platform builds: targets, hosts, strategies, patterns over
// targets, and the names each platform goes by in other vocabularies (Go, GNU, Rust, Debian, Alpine, uname).
//
//	targets, err := platforms.ParseList("linux/amd64,linux/arm/v7,aarch64")
//	// linux/amd64, linux/arm/v7, linux/arm64
//
// # Grammar
//
//	list     = platform { "," platform }
//	platform = [ os [ "(" osversion { "+" osfeature } ")" ] "/" ] architecture [ "/" variant ]
//	pattern  = os [ "/" architecture [ "/" variant ] ] | architecture, each part may hold * and ?
//
// Nothing is ever borrowed from the machine that parses: "arm64" means linux/arm64 on every machine, and "linux"
// alone, which names no architecture, is an error. That is where this package differs from
// github.com/containerd/platforms, which fills a missing part from the running process.
//
// # Normalisation
//
// The rules are those of containerd/platforms.Normalize, which BuildKit and containerd apply too:
//
//	written                            | means
//	linux/x86_64, linux/x86-64, amd64  | linux/amd64
//	linux/amd64/v1                     | linux/amd64
//	linux/aarch64, arm64v8, arm64/v8   | linux/arm64
//	linux/arm, armhf, arm32v7, armv7l  | linux/arm/v7
//	linux/armel, arm32v6, armv6l       | linux/arm/v6
//	linux/i386, i686, x86              | linux/386
//	linux/ppc64el, linux/powerpc64le   | linux/ppc64le
//	linux/mips64el, linux/mipsel       | linux/mips64le, linux/mipsle
//
// The package does not decide which entry of an index a host pulls (package index does), and it never looks at the
// machine it runs on.
package platforms
