package sandbox

import (
	"context"
	_ "embed"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// Cluster is a real Kubernetes of one node: API server, controllers, scheduler and kubelet as tools/kubernetes/go.mod pins them, with Debian's etcd and
// containerd. The node lives in namespaces of its own.
type Cluster struct {
	// Kubeconfig is the administrator's, Bin a folder that holds the kubectl of the same release, Pull the registry's address for pods.
	Kubeconfig, Bin, Pull string
	// Dir is a folder for files of the test's, which the node sees too.
	Dir string
}

//go:embed node.sh
var nodeScript []byte

const (
	kubernetesVersion = "v1.34.4"
	clusterToken      = "administrator"
	kubeletToken      = "kubelet"
	clusterGroup      = "manifold-cluster" // of cgroups
)

// StartCluster starts one for the length of a test. Compiling it takes some ten minutes, once.
func (s *Sandbox) StartCluster(tb testing.TB) *Cluster {
	tb.Helper()
	ctx := tb.Context()
	if err := install(ctx, map[string]string{"socat": "socat", "ip": "iproute2", "openssl": "openssl", "docker": "docker.io"}); err != nil {
		tb.Fatal(err)
	}
	bin, err := kubernetes(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "mfk8s")
	if err != nil {
		tb.Fatal(err)
	}
	c := &Cluster{Kubeconfig: filepath.Join(dir, "kubeconfig"), Bin: bin, Dir: dir}
	_, port, _ := net.SplitHostPort(s.Registry.Addr)
	c.Pull = "10.77.0.1:" + port
	api, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed with the test
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.configure(s.Registry.Addr, api.Addr().String()); err != nil {
		tb.Fatal(err)
	}
	registry, err := net.Listen("unix", filepath.Join(dir, "registry.sock")) //nolint:noctx // closed with the test
	if err != nil {
		tb.Fatal(err)
	}
	go forward(registry, "tcp", s.Registry.Addr)
	go forward(api, "unix", filepath.Join(dir, "api.sock"))
	removeGroups()
	if err := makeGroups(); err != nil {
		tb.Fatal(err)
	}
	script := filepath.Join(dir, "node.sh")
	if err := os.WriteFile(script, nodeScript, 0o600); err != nil {
		tb.Fatal(err)
	}
	attr := daemonAttr()
	attr.Pdeathsig = syscall.SIGKILL // unshare leaves SIGTERM to its child
	node, err := startWith(ctx, attr, s.Dir, filepath.Base(dir), func(context.Context) error { return nil },
		"unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "sh", script, dir, bin, port)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			logs, _ := filepath.Glob(filepath.Join(dir, "log", "*.log"))
			for _, name := range append(logs, node.log) {
				b, _ := os.ReadFile(name)
				tb.Logf("end of %s:\n%s", filepath.Base(name), b[max(0, len(b)-3000):])
			}
		}
		_ = node.cmd.Process.Kill() // --kill-child: all of the node ends with it
		<-node.done
		_ = api.Close()
		_ = registry.Close()
		removeGroups()
		if err := eventually(context.Background(), func(context.Context) error { return removeMounted(dir) }); err != nil {
			tb.Error(err)
		}
	})
	for _, ready := range [][]string{{"get", "--raw", "/readyz"}, {"wait", "--for=condition=Ready", "node/node0", "--timeout=5s"}, {"get", "serviceaccount", "default", "--namespace=default"}} {
		if err := eventually(ctx, func(ctx context.Context) error {
			_, err := c.Kubectl(ctx, nil, ready...)
			return err
		}); err != nil {
			tb.Fatal(err)
		}
	}
	return c
}

// Kubectl runs kubectl as the cluster's administrator.
func (c *Cluster) Kubectl(ctx context.Context, in []byte, args ...string) (string, error) {
	out, err := run(ctx, command{Args: append([]string{filepath.Join(c.Bin, "kubectl"), "--kubeconfig", c.Kubeconfig}, args...), In: in})
	return string(out), err
}

// forward passes connections on.
func forward(l net.Listener, network, addr string) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = in.Close() }()
			out, err := net.Dial(network, addr) //nolint:noctx // ends with either side
			if err != nil {
				return
			}
			defer func() { _ = out.Close() }()
			done := make(chan struct{}, 2)
			pass := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				if half, ok := to.(interface{ CloseWrite() error }); ok {
					_ = half.CloseWrite()
				}
				done <- struct{}{}
			}
			go pass(out, in)
			go pass(in, out)
			<-done
			<-done
		}()
	}
}

// configure writes what the node's programs are told.
func (c *Cluster) configure(registry, api string) error {
	for _, name := range []string{"pki", "log", "cni", "certs.d/docker.io"} {
		if err := os.MkdirAll(filepath.Join(c.Dir, name), 0o755); err != nil {
			return err
		}
	}
	pki := filepath.Join(c.Dir, "pki")
	if err := WriteCertificates(pki); err != nil {
		return err
	}
	ca, err := os.ReadFile(filepath.Join(pki, "ca.pem"))
	if err != nil {
		return err
	}
	kubeconfig := func(server, token string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: %q, certificate-authority-data: %s}}]\n"+
			"users: [{name: u, user: {token: %s}}]\ncontexts: [{name: c, context: {cluster: c, user: u, namespace: builds}}]\n",
			server, base64.StdEncoding.EncodeToString(ca), token)
	}
	sys := filepath.Join(c.Bin, "sys")
	for name, text := range map[string]string{
		"kubeconfig":                   kubeconfig("https://"+api, clusterToken),
		"node.kubeconfig":              kubeconfig("https://127.0.0.1:443", clusterToken),
		"kubelet.kubeconfig":           kubeconfig("https://127.0.0.1:443", kubeletToken),
		"tokens.csv":                   clusterToken + ",admin,admin,\"system:masters\"\n" + kubeletToken + ",system:node:node0,node0,\"system:nodes\"\n",
		"certs.d/docker.io/hosts.toml": fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%[1]s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", registry),
		"containerd.toml": fmt.Sprintf(`version = 2
root = "%[1]s/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/pause:1"
  stream_server_address = "127.0.0.1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "%[1]s/certs.d"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "%[2]s/usr/lib/cni"
    conf_dir = "%[1]s/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
`, c.Dir, sys),
		"cni/10-bridge.conflist": `{"cniVersion": "0.4.0", "name": "bridge", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/run/cni-ipam"}}]}`,
		"kubelet.yaml": fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 10.77.0.1
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: %[1]s/pki/ca.pem}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /%[2]s
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
evictionHard: {memory.available: 100Mi, nodefs.available: 1%%, imagefs.available: 1%%, nodefs.inodesFree: 1%%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
featureGates: {KubeletInUserNamespace: true}
nodeStatusUpdateFrequency: 5s
oomScoreAdj: 0
`, c.Dir, clusterGroup),
	} {
		if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// kubernetes returns a folder with the programs of a cluster: Kubernetes' own, and below sys what Debian has of the rest.
func kubernetes(ctx context.Context) (string, error) {
	root, err := repoRoot()
	if err != nil {
		return "", err
	}
	mod := filepath.Join(root, "tools", "kubernetes")
	key, err := keyOf([]string{filepath.Join(mod, "go.mod"), filepath.Join(mod, "go.sum")}, runtime.Version(), runtime.GOARCH)
	if err != nil {
		return "", err
	}
	return kept("kubernetes", key, func(dir string) error {
		sayf("building Kubernetes as pinned in tools/kubernetes (some ten minutes, once)")
		major, minor, _ := strings.Cut(strings.TrimPrefix(kubernetesVersion, "v"), ".")
		minor, _, _ = strings.Cut(minor, ".")
		const version = "k8s.io/component-base/version"
		flags := fmt.Sprintf("-s -w -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s -X %[1]s.gitTreeState=clean -X k8s.io/client-go/pkg/version.gitVersion=%[2]s",
			version, kubernetesVersion, major, minor)
		if _, err := run(ctx, command{Dir: mod, Env: []string{"CGO_ENABLED=0", "GOFLAGS="}, Args: []string{"go", "build", "-trimpath", "-ldflags", flags, "-o", dir + "/", "tool"}}); err != nil {
			return err
		}
		deb := filepath.Join(dir, "deb")
		sys, err := fetchPackages(ctx, deb, runtime.GOARCH, "containerd", "etcd-server", "containernetworking-plugins")
		if err != nil {
			return err
		}
		if err := os.Rename(sys, filepath.Join(dir, "sys")); err != nil {
			return err
		}
		return os.RemoveAll(deb)
	})
}

// groups are the folders of the node's cgroups: one for each hierarchy of version 1, or one.
func groups() []string {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		return []string{filepath.Join(root, clusterGroup)}
	}
	var out []string
	for _, kind := range []string{"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd"} {
		if _, err := os.Stat(filepath.Join(root, kind)); err == nil {
			out = append(out, filepath.Join(root, kind, clusterGroup))
		}
	}
	return out
}

func makeGroups() error {
	for _, dir := range groups() {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} { // empty at first, and nothing can run in it
			parent, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
			if err != nil {
				continue // of another hierarchy
			}
			if err := os.WriteFile(filepath.Join(dir, name), parent, 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeGroups removes the node's cgroups, the innermost first. What is not empty yet stays.
func removeGroups() {
	for _, dir := range groups() {
		_ = exec.Command("find", dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";").Run() //nolint:noctx // moments
	}
}
