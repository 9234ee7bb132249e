package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// Engine is a real Docker Engine of the bench's own.
type Engine struct {
	// Host is its address, as DOCKER_HOST takes it.
	Host string
}

// StartEngine starts Debian's Docker Engine with the bench's registry as its mirror, for the length of a test. Its BuildKit
// is years old, which is the point.
func (s *Sandbox) StartEngine(tb testing.TB) *Engine {
	tb.Helper()
	ctx := tb.Context()
	if err := install(ctx, map[string]string{"dockerd": "docker.io", "docker": "docker.io"}); err != nil {
		tb.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "mfeng")
	if err != nil {
		tb.Fatal(err)
	}
	runtime, err := dockerRuntime(dir)
	if err != nil {
		tb.Fatal(err)
	}
	host := "unix://" + filepath.Join(dir, "d.sock")
	// Without iptables and bridge it disturbs nothing on the machine; containers use the host's network.
	p, err := start(ctx, s.Dir, filepath.Base(dir), func(ctx context.Context) error {
		_, err := run(ctx, command{Args: []string{"docker", "-H", host, "version"}})
		return err
	}, "dockerd", "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"), "-H", host,
		"--pidfile", filepath.Join(dir, "pid"), "--iptables=false", "--ip6tables=false", "--bridge=none",
		"--insecure-registry", s.Registry.Addr, "--registry-mirror", "http://"+s.Registry.Addr, "--add-runtime", "sandbox="+runtime, "--default-runtime", "sandbox")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("end of dockerd's log:\n%s", p.tail())
		}
		if err := p.stop(); err != nil {
			tb.Error(err)
		}
		if err := removeMounted(dir); err != nil {
			tb.Error(err)
		}
	})
	return &Engine{Host: host}
}

// Podman sets Debian's Podman up with a storage of its own, for the length of a test. It returns the environment in which it uses that.
func (s *Sandbox) Podman(tb testing.TB) []string {
	tb.Helper()
	ctx := tb.Context()
	if err := install(ctx, map[string]string{"podman": "podman", "runc": "runc"}); err != nil {
		tb.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "mfpod")
	if err != nil {
		tb.Fatal(err)
	}
	runtime, err := dockerRuntime(dir)
	if err != nil {
		tb.Fatal(err)
	}
	conf, storage := filepath.Join(dir, "containers.conf"), filepath.Join(dir, "storage.conf")
	for name, text := range map[string]string{
		// The usual limits are more than this machine may let anybody set.
		conf: fmt.Sprintf("[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\nnetns = \"host\"\n[engine]\ncgroup_manager = \"cgroupfs\"\n"+
			"runtime = \"sandbox\"\n[engine.runtimes]\nsandbox = [%q]\n", runtime),
		storage: fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n", filepath.Join(dir, "graph"), filepath.Join(dir, "run")),
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	env := []string{"CONTAINERS_CONF=" + conf, "CONTAINERS_STORAGE_CONF=" + storage}
	tb.Cleanup(func() {
		_, _ = run(context.Background(), command{Args: []string{"podman", "rm", "--force", "--all", "--volumes", "--time", "2"}, Env: env})
		if err := removeMounted(dir); err != nil {
			tb.Error(err)
		}
	})
	return env
}

// NewNode starts a buildkitd for the length of a test.
func (s *Sandbox) NewNode(tb testing.TB, opt NodeOptions) *Node {
	tb.Helper()
	if opt.Apart {
		if err := install(tb.Context(), map[string]string{"socat": "socat", "ip": "iproute2", "iptables": "iptables"}); err != nil {
			tb.Fatal(err)
		}
	}
	n, err := s.StartNode(tb.Context(), opt)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// NewRegistry starts a registry that wants a user's password, for the length of a test.
func (s *Sandbox) NewRegistry(tb testing.TB, user, password string) *Registry {
	tb.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	htpasswd := filepath.Join(dir, "htpasswd")
	if err := os.WriteFile(htpasswd, []byte(user+":"+string(hash)+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	r, err := startRegistryWith(tb.Context(), s.Bin, filepath.Join(dir, "store"), s.Dir,
		fmt.Sprintf("auth: {htpasswd: {realm: sandbox, path: %q}}\n", htpasswd))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := r.stop(); err != nil {
			tb.Error(err)
		}
	})
	return r
}

// dockerRuntime writes the program that Docker starts containers with: runc, without the capability that this machine may lack and that Docker gives to
// privileged containers.
func dockerRuntime(dir string) (string, error) {
	const script = `#!/bin/sh
before=
for word; do
	case $before in
		--bundle) spec=$word/config.json;;
		--process) spec=$word;;
		*) spec=;;
	esac
	if [ -n "$spec" ] && ! capable; then
		sed -i 's/"CAP_SYS_RESOURCE",//g; s/,"CAP_SYS_RESOURCE"//g' "$spec"
	fi
	before=$word
done
exec runc "$@"
`
	caps, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "", err
	}
	const sysResource = 24 // capability.h
	capable := "true"
	for line := range strings.Lines(string(caps)) {
		if value, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if err != nil {
				return "", err
			}
			if bits&(1<<sysResource) == 0 {
				capable = "false"
			}
		}
	}
	name := filepath.Join(dir, "runtime")
	return name, os.WriteFile(name, []byte(strings.Replace(script, "! capable", "! "+capable, 1)), 0o700)
}

// removeMounted removes a folder in which things may still be mounted, as they are when who mounted them was killed.
func removeMounted(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			_ = syscall.Unmount(f[1], syscall.MNT_DETACH)
		}
	}
	return os.RemoveAll(dir)
}
