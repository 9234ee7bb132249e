package integration

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/manifold-build/manifold/builder"
	"github.com/manifold-build/manifold/integration/sandbox"
)

// buildKitImage is the image that buildx and the private BuildKit of a container run: the pinned programs on a busybox, under the published name.
const buildKitImage = "moby/buildkit:v0.34.2"

// withDocker runs commands with a Docker Engine of the test's own, and the pinned buildx as its plugin.
type withDocker struct {
	sb  *sandbox.Sandbox
	env []string
}

func (d withDocker) run(t *testing.T, args ...string) sandbox.Output {
	t.Helper()
	out := d.try(t, args...)
	if out.Code != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", strings.Join(args, " "), out.Code, out.Stdout, out.Stderr)
	}
	return out
}

func (d withDocker) try(t *testing.T, args ...string) sandbox.Output {
	t.Helper()
	out, err := d.sb.Exec(t.Context(), "", append(append([]string{"env", "-u", "BUILDKIT_HOST"}, d.env...), args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// last runs a command when the test is over.
func (d withDocker) last(args ...string) {
	_, _ = d.sb.Exec(context.Background(), "", append(append([]string{"env"}, d.env...), args...)...)
}

// buildKitRoot is the build context of [buildKitImage].
func buildKitRoot(t *testing.T, sb *sandbox.Sandbox) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"usr/bin/buildkitd": filepath.Join(sb.Bin, "buildkitd"), "usr/bin/buildctl": filepath.Join(sb.Bin, "buildctl")}
	runc, err := exec.LookPath("runc")
	if err != nil {
		t.Fatal(err)
	}
	files["usr/bin/runc"] = runc
	for word := range strings.FieldsSeq(mustExec(t, sb, "ldd", runc).Stdout) {
		if to, ok := strings.CutPrefix(word, "/"); ok {
			files[to] = word
		}
	}
	for to, from := range files {
		dt, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(dir, "root", to)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, dt, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir, "Dockerfile", "FROM busybox:1.35\nCOPY root /\nENTRYPOINT [\"buildkitd\"]\n")
	return dir
}

// startDocker starts a Docker Engine that holds BuildKit's image.
func startDocker(t *testing.T, sb *sandbox.Sandbox) withDocker {
	t.Helper()
	engine := sb.StartEngine(t)
	config := t.TempDir()
	plugins := filepath.Join(config, "cli-plugins")
	if err := os.MkdirAll(plugins, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(sb.Bin, "buildx"), filepath.Join(plugins, "docker-buildx")); err != nil {
		t.Fatal(err)
	}
	manifold := strings.TrimSpace(mustExec(t, sb, "sh", "-c", "command -v manifold").Stdout)
	if err := os.Symlink(manifold, filepath.Join(plugins, "docker-manifold")); err != nil {
		t.Fatal(err)
	}
	d := withDocker{sb: sb, env: []string{"DOCKER_CONFIG=" + config, "DOCKER_HOST=" + engine.Host}}
	d.run(t, "docker", "load", "-i", buildKitArchive(t, sb))
	return d
}

// buildKitArchive is [buildKitImage] as an archive.
func buildKitArchive(t *testing.T, sb *sandbox.Sandbox) string {
	t.Helper()
	dir := buildKitRoot(t, sb)
	archive := filepath.Join(dir, "buildkit.tar")
	mustExec(t, sb, "manifold", "build", "-q", "--platform", "linux/amd64", "-o", "type=docker,name=docker.io/"+buildKitImage+",dest="+archive, dir)
	return archive
}

// readMetadata reads what a build says of itself in a metadata file.
func readMetadata(t *testing.T, name string) builder.Result {
	t.Helper()
	dt, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var made struct {
		Manifold builder.Result `json:"manifold"`
	}
	if err := json.Unmarshal(dt, &made); err != nil {
		t.Fatal(err)
	}
	return made.Manifold
}

// TestBuildxBuilders uses builders that the real buildx made, by the names that it knows them by: one of the driver docker-container, which is not running
// yet, one of the driver remote with TLS on both sides, and Docker's own BuildKit, which is too old and refused for it.
func TestBuildxBuilders(t *testing.T) {
	sb := sandbox.Start(t)
	d := startDocker(t, sb)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", fleetDockerfile)
	write(t, dir, "buildkitd.toml", "[registry.\"docker.io\"]\n  mirrors = [\""+sb.Registry.Addr+"\"]\n[registry.\""+sb.Registry.Addr+"\"]\n  http = true\n")
	d.run(t, "docker", "buildx", "create", "--name", "boxed", "--driver", "docker-container", "--driver-opt", "network=host,image="+buildKitImage,
		"--buildkitd-config", filepath.Join(dir, "buildkitd.toml"))
	t.Cleanup(func() { d.last("docker", "buildx", "rm", "boxed") })
	certs := t.TempDir()
	if err := sandbox.WriteCertificates(certs); err != nil {
		t.Fatal(err)
	}
	node := sb.NewNode(t, sandbox.NodeOptions{TLS: certs, Platforms: armNode.Platforms})
	d.run(t, "docker", "buildx", "create", "--name", "far", "--driver", "remote", "--driver-opt",
		"cacert="+certs+"/ca.pem,cert="+certs+"/cert.pem,key="+certs+"/key.pem", node.TCP)

	out := d.run(t, "manifold", "build", "--progress=plain", "--builder", "boxed", "--platform", "linux/amd64,linux/arm64", "-t", sb.Ref("boxed:1"), "--push", dir)
	if !strings.Contains(out.Stderr, "published ") {
		t.Error(out.Stderr)
	}
	meta := filepath.Join(dir, "meta.json")
	d.run(t, "env", "BUILDX_BUILDER=far", "manifold", "build", "-q", "--metadata-file", meta, "-t", sb.Ref("far:1"), "--push", dir)
	made := readMetadata(t, meta)
	if len(made.Targets) != 1 || made.Targets[0].Target.String() != "linux/arm64" || made.Targets[0].Node != "far0" {
		t.Errorf("%+v", made)
	}
	d.run(t, "docker", "buildx", "use", "far")
	if out := d.run(t, "manifold", "nodes"); !strings.Contains(out.Stdout, "far0") {
		t.Error(out.Stdout)
	}
	if out := d.run(t, "manifold", "ls", "--builder", "boxed", "--builder", "far"); !strings.Contains(out.Stdout, "boxed0") || !strings.Contains(out.Stdout, "far0") {
		t.Error(out.Stdout)
	}
	// Docker's own BuildKit, through buildx.
	if out := d.try(t, "manifold", "build", "--builder", "default", dir); out.Code == 0 || !strings.Contains(out.Stderr, "needs v0.31.2 or newer") {
		t.Errorf("exit code %d\n%s", out.Code, out.Stderr)
	}
	if out := d.try(t, "manifold", "nodes", "--builder", "boxd"); out.Code == 0 || !strings.Contains(out.Stderr, `did you mean "boxed"?`) {
		t.Errorf("exit code %d\n%s", out.Code, out.Stderr)
	}
	// What is loaded is what this machine runs.
	out = d.run(t, "manifold", "build", "--progress=plain", "--builder", "boxed", "--platform", "linux/arm64,linux/amd64", "-t", "loaded:1", "--load", dir)
	if !strings.Contains(out.Stderr, "loaded into docker: the image for linux/amd64") || !strings.Contains(out.Stderr, "the other targets are not") {
		t.Error(out.Stderr)
	}
	if out := d.run(t, "docker", "run", "--rm", "--network", "none", "loaded:1"); strings.TrimSpace(out.Stdout) != "x86_64" {
		t.Error(out.Stdout)
	}
	d.run(t, "manifold", "build", "-q", "--builder", "boxed", "--platform", "linux/arm64", "-t", "loaded:arm", "--load", dir)
	if out := d.run(t, "docker", "run", "--rm", "--network", "none", "loaded:arm"); strings.TrimSpace(out.Stdout) != "aarch64" {
		t.Error(out.Stdout)
	}
	// And as a plugin of Docker's own command.
	if out := d.run(t, "docker", "manifold", "nodes", "--builder", "boxed"); !strings.Contains(out.Stdout, "boxed0") {
		t.Error(out.Stdout)
	}
	if out := d.run(t, "docker", "--help"); !strings.Contains(out.Stdout, "manifold*") {
		t.Error(out.Stdout)
	}
	// One that is stopped is started again.
	d.run(t, "docker", "stop", "-t", "1", "buildx_buildkit_boxed0")
	d.run(t, "manifold", "build", "-q", "--builder", "boxed", "-t", sb.Ref("boxed:2"), "--push", dir)
}

// TestPrivateContainer has nothing but Docker, or nothing but Podman: the private BuildKit is a container, which two builds at once share.
func TestPrivateContainer(t *testing.T) {
	sb := sandbox.Start(t)
	t.Run("docker", func(t *testing.T) {
		d := startDocker(t, sb)
		d.sharePrivate(t, "docker")
	})
	t.Run("podman", func(t *testing.T) {
		d := withDocker{sb: sb, env: sb.Podman(t)}
		d.run(t, "podman", "load", "-i", buildKitArchive(t, sb))
		d.sharePrivate(t, "podman")
		// What is built is loaded into it.
		dir := t.TempDir()
		write(t, dir, "Dockerfile", "FROM busybox:1.35\nCMD [\"uname\", \"-m\"]\n")
		d.run(t, "manifold", "build", "-q", "--builder", sb.Node.Addr, "-t", "loaded:1", "-o", "type=oci,dest="+filepath.Join(dir, "out.tar"), dir)
		d.run(t, "podman", "load", "-i", filepath.Join(dir, "out.tar"))
	})
}

// sharePrivate has two builds at once, where nothing but an engine is on PATH.
func (d withDocker) sharePrivate(t *testing.T, engine string) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
	bin := t.TempDir()
	for _, name := range []string{engine, "env", "sh", "sed", "runc"} {
		at, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(at, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	manifold := strings.TrimSpace(d.run(t, "sh", "-c", "command -v manifold").Stdout)
	t.Cleanup(func() { d.last(engine, "rm", "-f", "-v", "manifold-buildkit") })
	done := make(chan sandbox.Output, 2)
	for i := range 2 {
		go func() {
			out, err := d.sb.Exec(t.Context(), "", append(append([]string{"env", "-u", "BUILDKIT_HOST", "PATH=" + bin, "XDG_STATE_HOME=" + t.TempDir()}, d.env...),
				manifold, "build", "--progress=plain", "-o", filepath.Join(dir, "out", string(rune('a'+i))), dir)...)
			if err != nil {
				out = sandbox.Output{Code: -1, Stderr: err.Error()}
			}
			done <- out
		}()
	}
	for range 2 {
		if out := <-done; out.Code != 0 || !strings.Contains(out.Stderr, "the volume manifold-buildkit of "+engine) {
			t.Errorf("exit code %d\n%s", out.Code, out.Stderr)
		}
	}
}

// TestPrivateRootless builds as a user who is not root, with rootlesskit, and for an emulated target too.
func TestPrivateRootless(t *testing.T) {
	sb := sandbox.Start(t)
	user := sb.NewUser(t)
	manifold := strings.TrimSpace(mustExec(t, sb, "sh", "-c", "command -v manifold").Stdout)
	bin := user.Install(t, manifold, filepath.Join(sb.Bin, "buildkitd"))
	write(t, user.Home, "Dockerfile", "FROM "+sb.Registry.Addr+"/library/busybox:1.35\nRUN uname -m > /machine\n")
	build := func() sandbox.Output {
		return user.Run(t, "PATH="+bin+":/usr/bin:/bin:/usr/sbin:/sbin", filepath.Join(bin, "manifold"), "build", "--progress=plain", "--platform", "linux/amd64,linux/arm64", "-o", "out", ".")
	}
	// A file that the user may not read is an error, and no empty file.
	if out := build(); out.Code == 0 || !strings.Contains(out.Stderr, "Dockerfile: permission denied") {
		t.Errorf("exit code %d\n%s", out.Code, out.Stderr)
	}
	if err := os.Chmod(filepath.Join(user.Home, "Dockerfile"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := build()
	if out.Code != 0 || !strings.Contains(out.Stderr, "using a private one") {
		t.Fatalf("exit code %d\n%s", out.Code, out.Stderr)
	}
	for target, want := range map[string]string{"linux_amd64": "x86_64\n", "linux_arm64": "aarch64\n"} {
		if dt, err := os.ReadFile(filepath.Join(user.Home, "out", target, "machine")); err != nil || string(dt) != want {
			t.Errorf("%s: %q, %v", target, dt, err)
		}
	}
	out = user.Run(t, "PATH="+bin, filepath.Join(bin, "manifold"), "build", ".")
	if out.Code == 0 || !strings.Contains(out.Stderr, "it needs rootlesskit") {
		t.Errorf("exit code %d\n%s", out.Code, out.Stderr)
	}
}
