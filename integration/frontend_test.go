package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// TestNoEmulatorFailsInSeconds asks a node that can execute nothing but its own platform for a foreign target: the build
// fails before anything is run, and says what can be done.
func TestNoEmulatorFailsInSeconds(t *testing.T) {
	sb := sandbox.Start(t)
	node := sb.NewNode(t, sandbox.NodeOptions{NoEmulation: true})
	dir := t.TempDir()
	write(t, dir, "Dockerfile", "FROM busybox:1.35 AS make\nWORKDIR /out\nRUN uname -m; sleep 60\n\nFROM scratch\nCOPY --from=make /out /\n")
	begun := time.Now()
	out, err := sb.Exec(t.Context(), dir, "manifold", "build", "--builder", node.Addr, "-q", "--platform", "linux/amd64,linux/arm64", ".")
	if err != nil {
		t.Fatal(err)
	}
	if out.Code != 1 {
		t.Errorf("exit code %d, want 1", out.Code)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it took %s: something was run first", took)
	}
	const want = `Dockerfile:3
--------------------
   1 |     FROM busybox:1.35 AS make
   2 |     WORKDIR /out
   3 | >>> RUN uname -m; sleep 60
   4 |     
   5 |     FROM scratch
--------------------
error: linux/arm64: stage make (Dockerfile:3): it has to run on linux/arm64, for line 3 runs "uname -m", which asks about the ` +
		`machine; the node cannot execute linux/arm64: it runs ` +
		`linux/amd64 natively and emulates nothing. Install QEMU on the node (docker run --privileged --rm tonistiigi/binfmt ` +
		`--install arm64), or let the stage cross-compile: declare ARG TARGETARCH in it and ask for strategy=cross, or write ` +
		`FROM --platform=$BUILDPLATFORM on line 1
`
	if diff := cmp.Diff(want, out.Stderr); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	// Told how to cross-compile, the same node can do it.
	write(t, dir, "Dockerfile", "FROM busybox:1.35 AS make\nARG TARGETARCH\nRUN mkdir /out; echo $TARGETARCH > /out/arch\n\nFROM scratch\nCOPY --from=make /out /\n")
	if out, err = sb.Exec(t.Context(), dir, "manifold", "build", "--builder", node.Addr, "-q", "--strategy", "cross", "--platform", "linux/arm64", "."); err != nil || out.Code != 0 {
		t.Errorf("with strategy=cross: exit code %d, %v\n%s", out.Code, err, out.Stderr)
	}
}

// TestBundledEmulator builds on a node whose worker reports its own platform only, as the default docker-container builder's
// does where the host has no QEMU: the emulator that its image brings is found, and nothing is refused.
func TestBundledEmulator(t *testing.T) {
	sb := sandbox.Start(t)
	node := sb.NewNode(t, sandbox.NodeOptions{NoEmulation: true, Emulators: map[string]string{"aarch64": "qemu-aarch64-static"}})
	dir := t.TempDir()
	// BuildKit's own emulator follows a program's children too; Debian's needs the handler for that, so one program it is.
	write(t, dir, "Dockerfile", "FROM busybox:1.35 AS make\nRUN [\"/bin/busybox\", \"uname\", \"-m\"]\nRUN [\"/bin/busybox\", \"touch\", \"/made\"]\n\nFROM scratch\nCOPY --from=make /made /\n")
	out, err := sb.Exec(t.Context(), dir, "manifold", "build", "--builder", node.Addr, "--progress=plain", "--platform", "linux/arm64", ".")
	if err != nil || out.Code != 0 {
		t.Fatalf("exit code %d, %v\n%s", out.Code, err, out.Stderr)
	}
	out, err = sb.Exec(t.Context(), dir, "manifold", "build", "--builder", node.Addr, "-q", "--platform", "linux/arm64,linux/s390x", ".")
	if err != nil {
		t.Fatal(err)
	}
	if want := `error: linux/s390x: stage make (Dockerfile:2): it has to run on linux/s390x, for line 2 runs "uname -m", which asks about the ` +
		`machine; the node cannot execute linux/s390x`; out.Code != 1 || !strings.Contains(out.Stderr, want) {
		t.Errorf("exit code %d, want 1 and %q in\n%s", out.Code, want, out.Stderr)
	}
}

// TestSyntaxLines: the reference frontend's syntax line and our own are answered here, another frontend's is passed on.
func TestSyntaxLines(t *testing.T) {
	sb := sandbox.Start(t)
	frontendRef, err := sb.Frontend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other := sb.Ref("someone/dockerfile:1")
	mustExec(t, sb, "crane", "copy", frontendRef, other)
	for _, tc := range []struct {
		name, syntax string
		args         []string
		forwarded    bool
		err          string
	}{
		{name: "reference", syntax: "docker/dockerfile:1.7-labs"},
		{name: "upstream", syntax: "docker.io/docker/dockerfile-upstream:master"},
		{name: "own", syntax: "registry.invalid/manifold-build/manifold:1"},
		{name: "other", syntax: other, forwarded: true},
		{name: "argument", syntax: "docker/dockerfile:1", args: []string{"--build-arg", "BUILDKIT_SYNTAX=" + other}, forwarded: true},
		{
			name: "options", syntax: other, args: []string{"--strategy", "cross"},
			err: "manifold:strategy are Manifold's, and Dockerfile asks for the frontend " + other + ", which does not know them",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "Dockerfile", "# syntax="+tc.syntax+"\nFROM scratch\nLABEL case="+tc.name+"\n")
			out, err := sb.Exec(t.Context(), dir, append(append([]string{"manifold", "build", "--progress=plain"}, tc.args...), ".")...)
			if err != nil {
				t.Fatal(err)
			}
			if tc.err != "" {
				if out.Code == 0 || !strings.Contains(out.Stderr, tc.err) {
					t.Errorf("exit code %d, want the error %q in\n%s", out.Code, tc.err, out.Stderr)
				}
				return
			}
			if out.Code != 0 {
				t.Fatalf("exit code %d\n%s", out.Code, out.Stderr)
			}
			if got := strings.Contains(out.Stderr, "someone/dockerfile"); got != tc.forwarded {
				t.Errorf("forwarded: %v, want %v\n%s", got, tc.forwarded, out.Stderr)
			}
		})
	}
}
