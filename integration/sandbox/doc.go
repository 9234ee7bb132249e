// Package sandbox is the test bench: a real buildkitd, a real registry and real QEMU on this machine, offline but for
// the Go module proxy and Debian's packages.
//
//	func TestStory(t *testing.T) {
//		sb := sandbox.Start(t)
//		ref := sb.Ref("app:1.0") // in a registry namespace of this test's own
//		out := sb.Exec(t, "build", "--platform", "linux/amd64,linux/arm64", "-t", ref, "--push", "testdata/app")
//	}
//
// What it makes, it makes once and keeps below $MANIFOLD_SANDBOX (by default manifold/sandbox in the user's cache
// folder): the programs pinned in tools/go.mod, and a registry store with multi-platform stand-ins for golang,
// busybox and alpine. Each part is built in a temporary folder and renamed into place under a lock, so a run that is
// interrupted leaves nothing half-made, and two runs at a time do not disturb each other.
//
// The buildkitds it starts use the registry as a mirror of Docker Hub, so a Dockerfile that says "FROM golang:1.26"
// means the stand-in here and the real image elsewhere.
//
// Debian's packages (runc, qemu-user-static and for some stories skopeo and docker.io) are installed with apt-get
// where they are missing, which needs root.
package sandbox
