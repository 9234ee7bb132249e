package integration

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// TestSourcesAreBuiltAsEmulationBuildsThem builds projects that others wrote as Debian has them, configured and compiled on an emulated target,
// accelerated and not: all that is left in the folder has to be the same, to the last byte. Emulation takes minutes for each, so they are
// built with MANIFOLD_DIFFERENTIAL=all, as make nightly does, or the one that it names.
func TestSourcesAreBuiltAsEmulationBuildsThem(t *testing.T) {
	sb := sandbox.Start(t)
	chosen := os.Getenv("MANIFOLD_DIFFERENTIAL")
	for name, commands := range map[string]string{
		// configure names its files by its process and writes down the time.
		"zlib":  "./configure && make -j2 && rm configure.log",
		"lua":   "make -j2 linux MYLIBS= SYSLIBS='-Wl,-E -ldl' && src/lua -v",
		"xz":    "./configure --disable-nls && make -j2 && make install DESTDIR=/out && rm config.log config.status && rm -rf po*",
		"fmt":   "for f in format os; do g++ -g -O2 -std=c++20 -fPIC -Iinclude -c src/$f.cc || exit 1; done; g++ -shared -o libfmt.so format.o os.o",
		"nginx": "./configure --without-http_rewrite_module --with-threads && make -j2 && objs/nginx -V && rm objs/autoconf.err",
	} {
		if chosen != "all" && chosen != name {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "Dockerfile", "FROM gcc:14-trixie AS build\nWORKDIR /src\nCOPY src .\nENV SOURCE_DATE_EPOCH=1\nRUN "+commands+"\nFROM debian:12\nCOPY --from=build /src /src\n")
			if err := sandbox.UnpackSource(t.Context(), name, dir+"/src"); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(exported(t, sb, dir, "emulate", "emulated"), exported(t, sb, dir, "auto", "accelerated")); diff != "" {
				t.Errorf("(-emulated +accelerated)\n%s", diff)
			}
		})
	}
}

// TestProjectsAreBuiltAsEmulationBuildsThem builds programs of the module proxy's with Go in a script, on an emulated target, accelerated and not: they have to
// be the same, to the last byte. MANIFOLD_DIFFERENTIAL=all, or a name.
func TestProjectsAreBuiltAsEmulationBuildsThem(t *testing.T) {
	chosen := os.Getenv("MANIFOLD_DIFFERENTIAL")
	sb := sandbox.Start(t)
	for name, module := range map[string]string{
		"hey":      "github.com/rakyll/hey@v0.1.4",
		"stringer": "golang.org/x/tools/cmd/stringer@v0.30.0",
		"pprof":    "github.com/google/pprof@v0.0.0-20250317173921-a4b03ec1a45e",
	} {
		if chosen != "all" && chosen != name {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "Dockerfile", "FROM golang:1.26-warm AS build\nENV CGO_ENABLED=0 GONOSUMDB=*\nCOPY build.sh /\nRUN sh /build.sh\nFROM debian:12\nCOPY --from=build /go/bin /bin\n")
			write(t, dir, "build.sh", "set -e\nuname -m\ngo install "+module+"\n")
			if diff := cmp.Diff(exported(t, sb, dir, "emulate", "emulated"), exported(t, sb, dir, "auto", "accelerated")); diff != "" {
				t.Errorf("(-emulated +accelerated)\n%s", diff)
			}
		})
	}
}
