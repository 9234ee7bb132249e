package integration

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/manifold-build/manifold/builder"
	"github.com/manifold-build/manifold/integration/sandbox"
)

// inPods starts pods, and has kubectl in PATH look at them.
func inPods(t *testing.T, sb *sandbox.Sandbox) *sandbox.Pods {
	t.Helper()
	pods := sb.StartPods(t)
	t.Setenv("KUBECONFIG", pods.Kubeconfig)
	t.Setenv("PATH", pods.Kubectl+":"+os.Getenv("PATH"))
	return pods
}

// dialPods reaches pods by their addresses.
func dialPods(t *testing.T, names ...string) []*builder.Node {
	t.Helper()
	addrs := map[string]string{}
	for _, name := range names {
		addrs[name] = "kube-pod://" + name
	}
	return fleetOf(t, addrs, names...)
}

// TestPods builds on BuildKits in pods, which a real kubectl reaches: by the name that buildx has for them, and by address; deleted in the middle of a
// build, with time to end and without.
func TestPods(t *testing.T) {
	sb := sandbox.Start(t)
	pods := inPods(t, sb)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", slowDockerfile)
	targets := parseTargets(t, "linux/amd64,linux/arm64")
	pods.Create(t, "amd-0", "farm0")
	pods.Create(t, "arm-0", "farm0", armNode.Platforms...)

	t.Run("every ready pod is a node", func(t *testing.T) {
		config := t.TempDir()
		cli := func(args ...string) sandbox.Output {
			return mustExec(t, sb, append([]string{"env", "-u", "BUILDKIT_HOST", "BUILDX_CONFIG=" + config, "DOCKER_CONFIG=" + config, "PATH=" + pods.Kubectl + ":" + strings.TrimSpace(mustExec(t, sb, "sh", "-c", "echo $PATH").Stdout)}, args...)...)
		}
		cli("buildx", "create", "--name", "farm", "--driver", "kubernetes", "--driver-opt", "namespace=builds,replicas=2")
		if out := cli("manifold", "nodes", "--builder", "farm"); !strings.Contains(out.Stdout, "amd-0") || !strings.Contains(out.Stdout, "arm-0") {
			t.Error(out.Stdout)
		}
		meta := filepath.Join(dir, "meta.json")
		cli("manifold", "build", "--progress=plain", "--builder", "farm", "--platform", "linux/amd64,linux/arm64", "--metadata-file", meta, "-t", sb.Ref("farm:1"), "--push", dir)
		if where := nodesOf(readMetadata(t, meta)); where["linux/amd64"] != "amd-0" || where["linux/arm64"] != "arm-0" {
			t.Error(where)
		}
	})

	good, err := builder.Builder{Nodes: dialPods(t, "amd-0", "arm-0")}.Build(t.Context(), reproducible(dir, sb.Ref("app:1"), targets))
	if err != nil {
		t.Fatal(err)
	}
	// deleteIn deletes a pod once a step runs in it.
	deleteIn := func(t *testing.T, r *builder.Request, name string, flags ...string) {
		t.Helper()
		var deleted atomic.Bool
		done := make(chan error, 1)
		r.NoCache = true
		r.Progress = func(s *client.SolveStatus) {
			for _, v := range s.Vertexes {
				if strings.Contains(v.Name, "RUN") && (strings.HasPrefix(v.Name, name) || !strings.Contains(v.Name, "-0 [")) && v.Started != nil && deleted.CompareAndSwap(false, true) {
					go func() { done <- pods.Delete(t.Context(), name, flags...) }()
				}
			}
		}
		t.Cleanup(func() {
			if !deleted.Load() {
				t.Error("no step has begun in", name)
			} else if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	for _, c := range []struct {
		name  string
		flags []string
	}{
		{"gentle", []string{"--grace-period=10", "--wait=false"}},
		{"forced", []string{"--grace-period=0", "--force", "--wait=false"}},
	} {
		t.Run("another pod takes over from one deleted: "+c.name, func(t *testing.T) {
			pods.Create(t, c.name+"-0", "other", armNode.Platforms...)
			r := reproducible(dir, sb.Ref("app:1"), targets)
			deleteIn(t, &r, c.name+"-0", c.flags...)
			result, err := builder.Builder{Nodes: dialPods(t, "amd-0", c.name+"-0")}.Build(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if result.Descriptor.Digest != good.Descriptor.Digest {
				t.Errorf("the index is %s, not %s", result.Descriptor.Digest, good.Descriptor.Digest)
			}
			for _, target := range result.Targets {
				t.Logf("%s: %+v", target.Target, target.Attempts)
			}
		})
		t.Run("the only pod is deleted: "+c.name, func(t *testing.T) {
			name := "only-" + c.name + "-0"
			pods.Create(t, name, "other")
			r := reproducible(dir, sb.Ref("app:1"), targets)
			deleteIn(t, &r, name, c.flags...)
			begun := time.Now()
			_, err := builder.Builder{Nodes: dialPods(t, name)}.Build(t.Context(), r)
			if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "pod") {
				t.Errorf("it says %v", err)
			}
			t.Log(time.Since(begun), err)
		})
	}
	t.Run("no such pod", func(t *testing.T) {
		_, err := builder.DialNode(t.Context(), builder.NodeConfig{Name: "gone", Address: "kube-pod://gone"})
		if err == nil || !strings.Contains(err.Error(), "there is no pod gone") {
			t.Errorf("it says %v", err)
		}
		t.Log(err)
	})
	t.Run("no kubectl", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := builder.DialNode(t.Context(), builder.NodeConfig{Name: "gone", Address: "kube-pod://gone"})
		if err == nil || !strings.Contains(err.Error(), "kubectl") || strings.Contains(err.Error(), "18.09") {
			t.Errorf("it says %v", err)
		}
		t.Log(err)
	})
}
