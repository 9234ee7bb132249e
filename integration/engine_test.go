package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// TestDockerEngine builds through docker buildx build on a real Docker Engine, whose BuildKit is years old: the image of
// each target is loaded there, and docker run of it prints the right machine.
func TestDockerEngine(t *testing.T) {
	sb := sandbox.Start(t)
	engine := sb.StartEngine(t)
	frontendRef, err := sb.Frontend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := example(t, "01-hello")
	prepend(t, filepath.Join(dir, "Dockerfile"), "# syntax="+frontendRef+"\n")
	config := t.TempDir()
	plugins := filepath.Join(config, "cli-plugins")
	if err := os.MkdirAll(plugins, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(sb.Bin, "buildx"), filepath.Join(plugins, "docker-buildx")); err != nil {
		t.Fatal(err)
	}
	docker := func(args ...string) sandbox.Output {
		return mustExec(t, sb, append([]string{"env", "DOCKER_CONFIG=" + config, "docker", "-H", engine.Host}, args...)...)
	}
	for platform, want := range map[string]string{
		"linux/amd64": "hello from linux/amd64",
		"linux/arm64": "hello from linux/arm64",
	} {
		tag := "hello:" + strings.ReplaceAll(platform, "/", "-")
		docker("buildx", "build", "--network", "host", "--platform", platform, "-t", tag, "--load", dir)
		out := docker("run", "--rm", "--network", "none", "--platform", platform, tag)
		if got := strings.TrimSpace(out.Stdout); got != want {
			t.Errorf("docker run --platform %s prints %q, want %q", platform, got, want)
		}
		arch := strings.TrimSpace(docker("image", "inspect", "--format", "{{.Architecture}}", tag).Stdout)
		if "linux/"+arch != platform {
			t.Errorf("%s says its architecture is %s, want %s", tag, arch, platform)
		}
	}
}
