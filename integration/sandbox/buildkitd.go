package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/moby/buildkit/client"
)

// Node is a private buildkitd.
type Node struct {
	// Addr is its address, "unix://…", as buildctl's --addr and BUILDKIT_HOST take it.
	Addr string
	// TCP is its address with TLS, if it has one: "tcp://127.0.0.1:…".
	TCP string

	process  *process
	dir      string
	registry net.Listener // of a node that is apart
}

// NodeOptions changes how a buildkitd is started. The zero value is a plain one.
type NodeOptions struct {
	// NoEmulation is a node without QEMU: it runs in a user namespace whose own binfmt_misc, which Linux has since 6.7,
	// is empty. Emulators maps architectures, as buildkit-qemu-* spells them, to programs that are put on its PATH under
	// that name, as the images of BuildKit hold them.
	NoEmulation bool
	Emulators   map[string]string
	// Platforms are what the worker says that it runs, the native one first. Nil means what it finds out.
	Platforms []string
	// TLS is a folder that [WriteCertificates] wrote: the buildkitd listens on loopback too, to clients with a certificate of that authority. Empty
	// means that it does not.
	TLS string
	// Apart is a node in a network of its own, which is reached at TCP and can be cut off with [Node.Blackhole].
	Apart bool
	// Space is how many MiB there are for its state. 0 means what the disk has.
	Space int
	// Processor is the number of the only processor that the node and its steps use, as taskset counts them. Empty means all.
	Processor string
}

// daemonConfig is a buildkitd.toml by which a registry is the mirror of those that the tests' images are named for.
func daemonConfig(registryAddr string) []byte {
	return fmt.Appendf(nil, "[registry.\"docker.io\"]\n  mirrors = [%q]\n[registry.\"ghcr.io\"]\n  mirrors = [%[1]q]\n[registry.%[1]q]\n  http = true\n", registryAddr)
}

// startNode starts a buildkitd below dir with registryAddr as its mirror of Docker Hub.
func startNode(ctx context.Context, bin, dir, registryAddr string, opt NodeOptions) (*Node, error) {
	// A unix socket's path holds 108 bytes, so the folder is a short one of its own.
	root, err := os.MkdirTemp("", "mfbk")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(root, "buildkitd.toml")
	if err := os.WriteFile(config, daemonConfig(registryAddr), 0o600); err != nil {
		return nil, err
	}
	addr := "unix://" + filepath.Join(root, "bk.sock")
	args := []string{
		filepath.Join(bin, "buildkitd"), "--config", config, "--root", filepath.Join(root, "state"), "--addr", addr,
		"--oci-worker-binary", "runc", "--containerd-worker=false", "--oci-worker-gc=false",
	}
	for _, p := range opt.Platforms {
		args = append(args, "--oci-worker-platform", p)
	}
	n := &Node{Addr: addr, dir: root}
	if opt.TLS != "" {
		free, err := freeAddr()
		if err != nil {
			return nil, err
		}
		n.TCP = "tcp://" + free
		args = append(args, "--addr", n.TCP, "--tlscacert", filepath.Join(opt.TLS, "ca.pem"), "--tlscert", filepath.Join(opt.TLS, "cert.pem"), "--tlskey", filepath.Join(opt.TLS, "key.pem"))
	}
	attr := daemonAttr()
	if opt.NoEmulation {
		path := filepath.Join(root, "bin")
		if err := linkEmulators(path, opt.Emulators); err != nil {
			return nil, err
		}
		attr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWCGROUP
		ids := []syscall.SysProcIDMap{{Size: 1 << 16}}
		attr.UidMappings, attr.GidMappings, attr.GidMappingsEnableSetgroups = ids, ids, true
		args = append([]string{
			"sh", "-ec", `mount -t binfmt_misc none /proc/sys/fs/binfmt_misc; export PATH="$1:$PATH"; shift; exec "$@"`, "sh", path,
		}, append(args, "--rootless")...)
	}
	if opt.Space > 0 {
		state := filepath.Join(root, "state")
		if err := errors.Join(os.Mkdir(state, 0o700), syscall.Mount("tmpfs", state, "tmpfs", 0, fmt.Sprintf("size=%dm", opt.Space))); err != nil {
			return nil, err
		}
	}
	if opt.Apart {
		args = append(args, "--addr", "tcp://0.0.0.0:"+apartPort)
		registry, err := net.Listen("unix", filepath.Join(root, "registry.sock")) //nolint:noctx // closed with the node
		if err != nil {
			return nil, err
		}
		n.registry = registry
		go forward(registry, "tcp", registryAddr)
		args = append([]string{"unshare", "--net", "sh", "-ec", inNetwork, registry.Addr().String(), registryAddr}, args...)
	}
	if opt.Processor != "" {
		args = append([]string{"taskset", "-c", opt.Processor}, args...)
	}
	n.process, err = startWith(ctx, attr, dir, filepath.Base(root), func(ctx context.Context) error {
		c, err := client.New(ctx, addr)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		_, err = c.ListWorkers(ctx)
		return err
	}, args...)
	if err == nil && opt.Apart {
		err = n.connect(ctx)
	}
	return n, err
}

// Halt ends the buildkitd and leaves its state until Stop. For minutes after thousands of files were removed ext4 is slow at
// making new ones, as it keeps off the inodes just freed: an image of Go's size then takes twice as long to unpack.
func (n *Node) Halt() error { return n.process.stop() }

// Stop ends the buildkitd, if Halt has not, and removes its state.
func (n *Node) Stop() error {
	if n.registry != nil {
		_ = n.registry.Close()
	}
	if err := n.Halt(); err != nil {
		return err
	}
	return removeMounted(n.dir)
}

// linkEmulators makes a folder of emulators named as BuildKit looks for them.
func linkEmulators(dir string, programs map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for arch, program := range programs {
		path, err := exec.LookPath(program)
		if err != nil {
			return err
		}
		if err := os.Symlink(path, filepath.Join(dir, "buildkit-qemu-"+arch)); err != nil {
			return err
		}
	}
	return nil
}

// Signal sends the buildkitd a signal. One that was killed is removed by Stop all the same.
func (n *Node) Signal(s syscall.Signal) error { return n.process.cmd.Process.Signal(s) }
