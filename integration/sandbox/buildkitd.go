package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/client"
)

// Node is a private buildkitd.
type Node struct {
	// Addr is its address, "unix://…", as buildctl's --addr and BUILDKIT_HOST take it.
	Addr string

	process *process
	dir     string
}

// NodeOptions changes how a buildkitd is started. The zero value is a plain one.
type NodeOptions struct {
	// Platforms replaces what the worker reports that it can execute, natively first. Nil means what it finds.
	Platforms []string
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
	for _, p := range opt.Platforms {
		args = append(args, "--oci-worker-platform", p)
	}
	p, err := start(ctx, dir, filepath.Base(root), func(ctx context.Context) error {
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
	return &Node{Addr: addr, process: p, dir: root}, nil
}

// Stop ends the buildkitd and removes its state.
func (n *Node) Stop() error {
	if err := n.process.stop(); err != nil {
		return err
	}
	return os.RemoveAll(n.dir)
}
