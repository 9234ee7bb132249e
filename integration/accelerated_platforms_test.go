//go:build nightly

package integration

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// TestAcceleratedOnEveryPlatform compiles with Go in a script for platforms that Docker's Go image comes for, accelerated, and in a command that is
// moved: the programs have the same bytes, and ran on their target. The images are Debian's Go, which takes minutes to fetch,
// so it is one of the nightly tests. GOARM is set, for Debian has another default than Docker.
func TestAcceleratedOnEveryPlatform(t *testing.T) {
	sb := sandbox.Start(t)
	for suite, machines := range map[string]map[string]string{
		"bookworm": {"arm/v7": "armhf arm armv7l", "ppc64le": "ppc64el ppc64le ppc64le", "s390x": "s390x s390x s390x"},
		"trixie":   {"riscv64": "riscv64 riscv64 riscv64"}, // which came later
	} {
		base, ref := t.TempDir(), sb.Ref("go-"+suite)
		write(t, base, "Dockerfile", "ARG TARGETARCH\nFROM go-$TARGETARCH AS go\nFROM scratch\nCOPY --from=go . /\nENV GOTOOLCHAIN=local GOARM=7 GOFLAGS=-buildvcs=false PATH=/usr/lib/go/bin:/usr/sbin:/usr/bin:/sbin:/bin\n")
		list := []string{"linux/amd64"}
		args := []string{"manifold", "build", "-q", "-t", ref, "--push"}
		for p, names := range machines {
			list = append(list, "linux/"+p)
			arch, _, _ := strings.Cut(names, " ")
			root, err := sandbox.DebianRoot(t.Context(), t.TempDir(), suite, arch, "golang-go")
			if err != nil {
				t.Fatal(err)
			}
			args = append(args, "--build-context", "go-"+strings.Split(p, "/")[0]+"="+root)
		}
		root, err := sandbox.DebianRoot(t.Context(), t.TempDir(), suite, "amd64", "golang-go")
		if err != nil {
			t.Fatal(err)
		}
		succeeds(t, sb, base, append(args, "--build-context", "go-amd64="+root, "--platform", strings.Join(list, ","), ".")...)
		for p, names := range machines {
			t.Run(p, func(t *testing.T) {
				_, says, _ := strings.Cut(names, " ")
				goarch, uname, _ := strings.Cut(says, " ")
				got := files(t, sb, strings.ReplaceAll(byScript, "golang:1.26-warm", ref), " accelerate (", "manifold", "--platform", "linux/"+p)
				want := files(t, sb, strings.ReplaceAll(byCommand, "golang:1.26-warm", ref), " cross (", "manifold", "--platform", "linux/"+p)
				if !bytes.Equal(got["app"], want["app"]) {
					t.Errorf("the program has %d bytes, moved %d", len(got["app"]), len(want["app"]))
				}
				if diff := cmp.Diff("linux "+goarch+"\n"+uname+"\n", string(got["said"])); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			})
		}
	}
}
