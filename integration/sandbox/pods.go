package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// Pods is the smallest part of a Kubernetes that a real kubectl works with: an API server whose pods are process trees of this machine
// (tools/kubernetes/nodelet).
type Pods struct {
	// Kubeconfig is the file that names it, Kubectl a folder that holds nothing but Debian's kubectl.
	Kubeconfig, Kubectl string

	s   *Sandbox
	dir string
}

// StartPods starts one for the length of a test.
func (s *Sandbox) StartPods(tb testing.TB) *Pods {
	tb.Helper()
	ctx := tb.Context()
	nodelet, err := nodelet(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	kubectl, err := debianKubectl(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "mfpods")
	if err != nil {
		tb.Fatal(err)
	}
	addr, err := freeAddr()
	if err != nil {
		tb.Fatal(err)
	}
	p := &Pods{Kubeconfig: filepath.Join(dir, "kubeconfig"), Kubectl: kubectl, s: s, dir: dir}
	text := "apiVersion: v1\nkind: Config\ncurrent-context: pods\nclusters: [{name: pods, cluster: {server: \"http://" + addr + "\"}}]\n" +
		"users: [{name: pods, user: {}}]\ncontexts: [{name: pods, context: {cluster: pods, user: pods, namespace: builds}}]\n"
	if err := os.WriteFile(p.Kubeconfig, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	daemon, err := start(ctx, s.Dir, filepath.Base(dir), func(ctx context.Context) error {
		_, err := run(ctx, command{Args: []string{filepath.Join(kubectl, "kubectl"), "--kubeconfig", p.Kubeconfig, "get", "--raw", "/readyz"}})
		return err
	}, nodelet, "-addr", addr, "-logs", dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
			for _, name := range logs {
				b, _ := os.ReadFile(name)
				tb.Logf("end of %s:\n%s", filepath.Base(name), b[max(0, len(b)-2048):])
			}
		}
		if err := daemon.stop(); err != nil {
			tb.Error(err)
		}
		if err := removeMounted(dir); err != nil {
			tb.Error(err)
		}
	})
	return p
}

// Create creates a pod of BuildKit that says it is of some platforms, as a StatefulSet of the example has them, and waits until it is ready.
func (p *Pods) Create(tb testing.TB, name, app string, platforms ...string) {
	tb.Helper()
	config := filepath.Join(p.dir, "buildkitd.toml")
	if err := os.WriteFile(config, daemonConfig(p.s.Registry.Addr), 0o600); err != nil {
		tb.Fatal(err)
	}
	buildkitd := []string{
		filepath.Join(p.s.Bin, "buildkitd"), "--config", config, "--root", filepath.Join(p.dir, name), "--oci-worker-binary", "runc", "--containerd-worker=false",
		"--oci-worker-gc=false",
	}
	for _, platform := range platforms {
		buildkitd = append(buildkitd, "--oci-worker-platform", platform)
	}
	manifest, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "labels": map[string]string{"app": app}},
		"spec": map[string]any{"containers": []any{map[string]any{
			"name": "buildkitd", "image": "none", "command": buildkitd,
			"env":            []any{map[string]string{"name": "PATH", "value": p.s.Bin + ":" + os.Getenv("PATH")}},
			"readinessProbe": map[string]any{"exec": map[string]any{"command": []string{"buildctl", "debug", "workers"}}},
		}}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := p.kubectl(tb.Context(), manifest, "create", "--validate=false", "-f", "-"); err != nil {
		tb.Fatal(err)
	}
	err = eventually(tb.Context(), func(ctx context.Context) error {
		out, err := p.kubectl(ctx, nil, "get", "pod", name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		if err == nil && string(out) != "True" {
			err = fmt.Errorf("pod %s is not ready", name)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// Delete has a pod deleted, with what kubectl is told of how.
func (p *Pods) Delete(ctx context.Context, name string, flags ...string) error {
	_, err := p.kubectl(ctx, nil, append([]string{"delete", "pod", name}, flags...)...)
	return err
}

func (p *Pods) kubectl(ctx context.Context, in []byte, args ...string) ([]byte, error) {
	return run(ctx, command{Args: append([]string{filepath.Join(p.Kubectl, "kubectl"), "--kubeconfig", p.Kubeconfig}, args...), In: in})
}

// nodelet returns the program that tools/kubernetes/nodelet is compiled to.
func nodelet(ctx context.Context) (string, error) {
	root, err := repoRoot()
	if err != nil {
		return "", err
	}
	mod := filepath.Join(root, "tools", "kubernetes")
	files, err := filepath.Glob(filepath.Join(mod, "nodelet", "*.go"))
	if err != nil {
		return "", err
	}
	key, err := keyOf(append(files, filepath.Join(mod, "go.sum")), runtime.Version(), runtime.GOARCH)
	if err != nil {
		return "", err
	}
	dir, err := kept("nodelet", key, func(dir string) error {
		sayf("building an API server for pods as pinned in tools/kubernetes (a minute, once)")
		_, err := run(ctx, command{Dir: mod, Env: []string{"CGO_ENABLED=0", "GOFLAGS="}, Args: []string{"go", "build", "-trimpath", "-o", dir + "/", "./nodelet"}})
		return err
	})
	return filepath.Join(dir, "nodelet"), err
}

// debianKubectl returns a folder that holds Debian's kubectl.
func debianKubectl(ctx context.Context) (string, error) {
	dir, err := kept("kubectl", "debian", func(dir string) error {
		root, err := fetchPackages(ctx, filepath.Join(dir, "deb"), runtime.GOARCH, "kubernetes-client")
		if err != nil {
			return err
		}
		return os.Rename(filepath.Join(root, "usr", "bin", "kubectl"), filepath.Join(dir, "kubectl"))
	})
	return dir, err
}

// eventually waits until something holds.
func eventually(ctx context.Context, holds func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for {
		err := holds(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
