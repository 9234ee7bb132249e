package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/moby/buildkit/client"
)

// Node is a private buildkitd.
type Node struct {
	// Addr is its address, "unix://…", as buildctl's --addr and BUILDKIT_HOST take it.
	Addr string

	process *process
	dir     string
	noexec  string // mount point, empty if there is none
}

// NodeOptions changes how a buildkitd is started. The zero value is a plain one.
type NodeOptions struct {
	// NoEmulation makes the worker report its native platform only, as it does where QEMU is not installed.
	NoEmulation bool
}

// startNode starts a buildkitd below dir with registryAddr as its mirror of Docker Hub.
func startNode(ctx context.Context, bin, dir, registryAddr string, opt NodeOptions) (*Node, error) {
	// A unix socket's path holds 108 bytes, so the folder is a short one of its own.
	root, err := os.MkdirTemp("", "mfbk")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(root, "buildkitd.toml")
	text := fmt.Sprintf("[registry.\"docker.io\"]\n  mirrors = [%q]\n[registry.%q]\n  http = true\n", registryAddr, registryAddr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	addr := "unix://" + filepath.Join(root, "bk.sock")
	args := []string{
		filepath.Join(bin, "buildkitd"), "--config", config, "--root", filepath.Join(root, "state"), "--addr", addr,
		"--oci-worker-binary", "runc", "--containerd-worker=false", "--oci-worker-gc=false",
	}
	n := &Node{Addr: addr, dir: root}
	if opt.NoEmulation {
		// The worker finds out what it can execute by running a small program of each architecture from its folder for
		// temporary files. From a file system mounted noexec, none of them runs.
		n.noexec = filepath.Join(root, "noexec")
		if err := os.Mkdir(n.noexec, 0o700); err != nil {
			return nil, err
		}
		if _, err := run(ctx, command{Args: []string{"mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", n.noexec}}); err != nil {
			return nil, err
		}
		args = append([]string{"env", "TMPDIR=" + n.noexec}, args...)
	}
	n.process, err = start(ctx, dir, filepath.Base(root), func(ctx context.Context) error {
		c, err := client.New(ctx, addr)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		_, err = c.ListWorkers(ctx)
		return err
	}, args...)
	if err != nil {
		return nil, err
	}
	return n, nil
}

// Stop ends the buildkitd and removes its state.
func (n *Node) Stop() error {
	if err := n.process.stop(); err != nil {
		return err
	}
	if n.noexec != "" {
		if err := syscall.Unmount(n.noexec, 0); err != nil && !errors.Is(err, syscall.EINVAL) { // EINVAL: stopped before
			return err
		}
	}
	return os.RemoveAll(n.dir)
}
