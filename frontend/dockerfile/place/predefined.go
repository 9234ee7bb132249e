package place

import (
	"maps"

	"github.com/manifold-build/manifold/platforms"
)

// Predefined returns the arguments that Manifold gives, besides BuildKit's TARGETARCH and its kin, to every stage that
// declares them: Go's variables and other vocabularies' names for the target, and the same names for the build
// platform. A name that the target has no value for is the empty string, which Go takes as unset.
//
//	GOOS GOARCH GOARM GOAMD64 GO386 GOMIPS GOMIPS64 GOPPC64 GORISCV64         the target's
//	TARGETUNAME  TARGETDEBARCH TARGETALPINEARCH TARGETTRIPLE TARGETRUST TARGETRUSTMUSL
//	BUILDUNAME   BUILDDEBARCH  BUILDALPINEARCH  BUILDTRIPLE  BUILDRUST  BUILDRUSTMUSL
//
// Go's own variables, which change what Go does, are given only where a stage is Manifold's to move: not in one that the user pinned, and
// not where strategy=emulate or strategy=native leaves everything as the reference frontend has it.
func Predefined(build, target platforms.Platform) map[string]string {
	out := map[string]string{}
	names := target.Names()
	for _, v := range names.Go.Env() {
		out[v.Name] = v.Value
	}
	for prefix, n := range map[string]platforms.Names{"TARGET": names, "BUILD": build.Names()} {
		out[prefix+"UNAME"] = n.Uname
		out[prefix+"DEBARCH"] = n.Debian
		out[prefix+"ALPINEARCH"] = n.Alpine
		out[prefix+"TRIPLE"] = n.GNU
		out[prefix+"RUST"] = n.Rust
		out[prefix+"RUSTMUSL"] = n.RustMusl
	}
	return out
}

// withoutGo are the arguments without Go's own variables.
func withoutGo(all map[string]string) map[string]string {
	out := maps.Clone(all)
	for _, v := range (platforms.GoNames{}).Env() {
		delete(out, v.Name)
	}
	return out
}

// TellsTarget are the arguments by which a stage is told its target: a stage that declares one can be asked to run on
// the build platform.
var TellsTarget = map[string]bool{
	"GOOS": true, "GOARCH": true, "GOARM": true, "GOAMD64": true, "GO386": true, "GOMIPS": true, "GOMIPS64": true,
	"GOPPC64": true, "GORISCV64": true,
	"TARGETPLATFORM": true, "TARGETOS": true, "TARGETARCH": true, "TARGETVARIANT": true,
	"TARGETUNAME": true, "TARGETDEBARCH": true, "TARGETALPINEARCH": true, "TARGETTRIPLE": true, "TARGETRUST": true,
	"TARGETRUSTMUSL": true,
}
