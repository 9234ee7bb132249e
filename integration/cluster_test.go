//go:build cluster

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// cluster is a real Kubernetes, with the pool of BuildKits that the example describes.
type cluster struct {
	*sandbox.Cluster

	sb  *sandbox.Sandbox
	dir string // a build context
}

// startCluster starts one. It is compiled from source, so it is a test of its own: make cluster.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	sb := sandbox.Start(t)
	c := &cluster{sb: sb, dir: t.TempDir()}
	write(t, c.dir, "Dockerfile", strings.Replace(slowDockerfile, "1 2", "1 2 3 4 5 6 7 8 9 10 11 12", 1)) // eight seconds
	pause := t.TempDir()
	write(t, pause, "Dockerfile", "FROM busybox:1.35\nENTRYPOINT [\"/bin/sleep\", \"2147483647\"]\n")
	for ref, dir := range map[string]string{"library/pause:1": pause, buildKitImage: buildKitRoot(t, sb)} {
		mustExec(t, sb, "manifold", "build", "-q", "--platform", "linux/amd64", "-t", sb.Registry.Addr+"/"+ref, "--push", dir)
	}
	c.Cluster = sb.StartCluster(t)
	plugins := filepath.Join(c.Dir, "docker", "cli-plugins")
	if err := os.MkdirAll(plugins, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(sb.Bin, "buildx"), filepath.Join(plugins, "docker-buildx")); err != nil {
		t.Fatal(err)
	}
	c.kubectl(t, "", "create", "namespace", "builds")
	return c
}

func (c *cluster) kubectl(t *testing.T, in string, args ...string) string {
	t.Helper()
	out, err := c.Kubectl(t.Context(), []byte(in), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// cli runs a command for which kubectl looks at the cluster as somebody.
func (c *cluster) cli(t *testing.T, kubeconfig string, args ...string) sandbox.Output {
	t.Helper()
	path := strings.TrimSpace(mustExec(t, c.sb, "sh", "-c", "echo $PATH").Stdout)
	out, err := c.sb.Exec(t.Context(), "", append([]string{"env", "-u", "BUILDKIT_HOST", "KUBECONFIG=" + kubeconfig, "PATH=" + c.Bin + ":" + path, "DOCKER_CONFIG=" + c.Dir + "/docker", "BUILDX_CONFIG=" + c.Dir + "/buildx"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// deploy applies the example: as it is written but for the registry, volumes by hand, and a pool for arm64 that this machine can run.
func (c *cluster) deploy(t *testing.T) {
	t.Helper()
	example := filepath.Join("..", "examples", "13-kubernetes")
	for i := range 3 {
		volume := filepath.Join(c.Dir, fmt.Sprint("volume", i))
		if err := os.Mkdir(volume, 0o755); err != nil {
			t.Fatal(err)
		}
		c.kubectl(t, fmt.Sprintf(`{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "cache%d"}, "spec": {"capacity": {"storage": "50Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": %q}}}`, i, volume),
			"apply", "-f", "-")
	}
	certs := filepath.Join(c.Dir, "example")
	if err := os.MkdirAll(certs, 0o755); err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs(filepath.Join(example, "certs.sh"))
	if err != nil {
		t.Fatal(err)
	}
	if out := c.cli(t, c.Kubeconfig, "sh", "-c", `cd "$0" && exec "$1" -n builds`, certs, script); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	manifests, err := os.ReadFile(filepath.Join(example, "buildkit.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(manifests), "  buildkitd.toml: |\n", fmt.Sprintf("  buildkitd.toml: |\n    [registry.\"docker.io\"]\n      mirrors = [%q]\n    [registry.%[1]q]\n      http = true\n", c.Pull), 1)
	text = strings.Replace(text, "nodeSelector: {kubernetes.io/arch: arm64}", "nodeSelector: {kubernetes.io/os: linux}", 1)
	i := strings.LastIndex(text, "            - --tlskey=/certs/key.pem\n")
	text = text[:i] + "            - --oci-worker-platform=linux/arm64\n            - --oci-worker-platform=linux/amd64\n" + text[i:]
	c.kubectl(t, text, "apply", "-n", "builds", "-f", "-")
	c.kubectl(t, "", "apply", "-n", "builds", "-f", filepath.Join(example, "rbac.yaml"))
	c.ready(t, "buildkit-amd64-0", "buildkit-arm64-0")
}

func (c *cluster) ready(t *testing.T, pods ...string) {
	t.Helper()
	for _, pod := range pods {
		eventually(t, func() string {
			if _, err := c.Kubectl(t.Context(), nil, "wait", "--for=condition=Ready", "pod/"+pod, "--timeout=60s"); err != nil {
				describe, _ := c.Kubectl(t.Context(), nil, "describe", "pod", pod)
				return err.Error() + describe
			}
			return ""
		})
	}
}

// as writes a kubeconfig of a service account.
func (c *cluster) as(t *testing.T, account string) string {
	t.Helper()
	token := strings.TrimSpace(c.kubectl(t, "", "create", "token", account))
	text, err := os.ReadFile(c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(c.Dir, account+".kubeconfig")
	if err := os.WriteFile(name, []byte(strings.Replace(string(text), "token: administrator", "token: "+token, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestCluster builds in the pods of a real Kubernetes, which are those of the example.
func TestCluster(t *testing.T) {
	c := startCluster(t)
	c.deploy(t)
	user := c.as(t, "manifold")
	pods := []string{"--builder", "kube-pod://buildkit-amd64-0?namespace=builds", "--builder", "kube-pod://buildkit-arm64-0?namespace=builds"}
	build := func(t *testing.T, kubeconfig string, args ...string) sandbox.Output {
		t.Helper()
		return c.cli(t, kubeconfig, append(append([]string{"manifold", "build", "--progress=plain", "--no-cache", "--platform", "linux/amd64,linux/arm64", "-o", "type=oci,dest=" + filepath.Join(t.TempDir(), "out.tar")}, args...), c.dir)...)
	}
	t.Run("with the least rights", func(t *testing.T) {
		out := build(t, user, pods...)
		if out.Code != 0 {
			t.Fatal(out.Stderr)
		}
		for _, want := range []string{"buildkit-amd64-0", "buildkit-arm64-0"} {
			if !strings.Contains(out.Stderr, want) {
				t.Errorf("no word of %s:\n%s", want, out.Stderr)
			}
		}
		if out := c.cli(t, user, append([]string{"manifold", "nodes"}, pods...)...); out.Code != 0 || !strings.Contains(out.Stdout, "v0.34.2") {
			t.Error(out)
		}
	})
	t.Run("without rights", func(t *testing.T) {
		out := build(t, c.as(t, "default"), pods[:2]...)
		if out.Code == 0 || !strings.Contains(out.Stderr, "kubectl auth can-i create pods/exec") || !strings.Contains(out.Stderr, "orbidden") {
			t.Error(out.Stderr)
		}
		t.Log(out.Stderr)
	})
	t.Run("through the service", func(t *testing.T) {
		certs := filepath.Join(c.Dir, "example", "certs")
		const script = `kubectl port-forward service/buildkit-amd64 :1234 > "$0/forward" & trap "kill $!" EXIT
			until grep -q 127.0.0.1: "$0/forward"; do sleep 0.1; done
			port=$(sed -n 's/.*127.0.0.1:\([0-9]*\) .*/\1/p' "$0/forward")
			"$@" --builder "svc=tcp://127.0.0.1:$port,ca=$0/ca.pem,cert=$0/client.pem,key=$0/client.key"`
		out := c.cli(t, c.Kubeconfig, "sh", "-c", script, certs, "manifold", "build", "-q", "-o", filepath.Join(c.Dir, "local"), c.dir)
		if out.Code != 0 {
			t.Error(out.Stderr)
		}
	})
	t.Run("a drain lets a build end", func(t *testing.T) {
		done := make(chan sandbox.Output, 1)
		go func() { done <- build(t, user, pods...) }()
		time.Sleep(3 * time.Second)
		drain := c.cli(t, c.Kubeconfig, "kubectl", "drain", "node0", "--pod-selector=app=buildkit", "--delete-emptydir-data", "--timeout=120s")
		if drain.Code != 0 {
			t.Error(drain.Stderr)
		}
		select {
		case out := <-done:
			if out.Code != 0 || strings.Contains(out.Stderr, "lost") {
				t.Error(out.Stderr)
			}
		default:
			t.Error("the drain did not wait for the build")
			<-done
		}
		c.kubectl(t, "", "uncordon", "node0")
		c.ready(t, "buildkit-amd64-0", "buildkit-arm64-0")
	})
	for _, flags := range [][]string{{"--grace-period=3"}, {"--grace-period=0", "--force"}} {
		t.Run("deleted "+strings.Join(flags, " "), func(t *testing.T) {
			done := make(chan sandbox.Output, 1)
			go func() { done <- build(t, user, pods...) }()
			time.Sleep(3 * time.Second)
			c.kubectl(t, "", append([]string{"delete", "pod", "buildkit-arm64-0"}, flags...)...)
			out := <-done
			if out.Code != 0 || !strings.Contains(out.Stderr, "the node buildkit-arm64-0 was lost") {
				t.Error(out.Stderr)
			}
			c.ready(t, "buildkit-arm64-0")
		})
	}
	t.Run("scaled to zero and back", func(t *testing.T) {
		c.kubectl(t, "", "scale", "statefulset", "buildkit-arm64", "--replicas=0")
		c.kubectl(t, "", "wait", "--for=delete", "pod/buildkit-arm64-0", "--timeout=120s")
		out := build(t, user, pods[2:]...)
		if out.Code == 0 || !strings.Contains(out.Stderr, "there is no pod buildkit-arm64-0") {
			t.Error(out.Stderr)
		}
		c.kubectl(t, "", "scale", "statefulset", "buildkit-arm64", "--replicas=1")
		c.ready(t, "buildkit-arm64-0")
		if out := build(t, user, pods...); out.Code != 0 {
			t.Error(out.Stderr)
		}
	})
	t.Run("a builder of buildx's", func(t *testing.T) {
		c.kubectl(t, "", "scale", "statefulset", "buildkit-amd64", "buildkit-arm64", "--replicas=0")
		config := filepath.Join(c.Dir, "buildkitd.toml")
		write(t, c.Dir, "buildkitd.toml", fmt.Sprintf("[registry.\"docker.io\"]\n  mirrors = [%q]\n[registry.%[1]q]\n  http = true\n", c.Pull))
		if out := c.cli(t, c.Kubeconfig, "buildx", "create", "--name", "farm", "--driver", "kubernetes", "--driver-opt", "namespace=builds,replicas=2,image="+buildKitImage, "--buildkitd-config", config); out.Code != 0 {
			t.Fatal(out.Stderr)
		}
		out := build(t, c.Kubeconfig, "--builder", "farm")
		if out.Code != 0 {
			t.Fatal(out.Stderr)
		}
		if out := c.cli(t, c.Kubeconfig, "manifold", "nodes", "--builder", "farm"); strings.Count(out.Stdout, "v0.34.2") != 2 {
			t.Error(out)
		}
		if out := c.cli(t, c.Kubeconfig, "buildx", "rm", "farm"); out.Code != 0 {
			t.Error(out.Stderr)
		}
	})
}
