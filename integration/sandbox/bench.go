package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// Bench is one run's daemons: a registry that also mirrors Docker Hub, and a buildkitd.
type Bench struct {
	// Registry holds the stand-in images and takes what is pushed.
	Registry *Registry
	// Node is the shared buildkitd.
	Node *Node
	// Bin is the folder with buildkitd, buildctl, registry, buildx and crane.
	Bin string
	// Dir is a temporary folder of this run, removed by Close. Logs are in it.
	Dir string

	mu     sync.Mutex
	others []*Node
	// registries are those of StartRegistry.
	registries []*Registry
}

// Open prepares what is missing and starts a registry and a buildkitd. It needs root.
func Open(ctx context.Context) (_ *Bench, err error) {
	if err := install(ctx, map[string]string{
		"runc": "runc", "qemu-aarch64-static": "qemu-user-static", "git": "git", "mount": "mount", "skopeo": "skopeo",
		"igzip":   "isal",           // BuildKit unpacks layers with it if it is there
		"busybox": "busybox-static", // a third shell for the reader of scripts to be held against
	}); err != nil {
		return nil, err
	}
	if _, err := os.Stat(caBundle); err != nil {
		if err := install(ctx, map[string]string{"update-ca-certificates": "ca-certificates"}); err != nil {
			return nil, err
		}
	}
	if err := registerQEMU(ctx); err != nil {
		return nil, err
	}
	bin, err := tools(ctx)
	if err != nil {
		return nil, err
	}
	store, err := images(ctx, bin)
	if err != nil {
		return nil, err
	}
	b := &Bench{Bin: bin}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	if b.Dir, err = os.MkdirTemp("", "manifold-bench-"); err != nil {
		return nil, err
	}
	if err := linkTree(store, filepath.Join(b.Dir, "registry")); err != nil {
		return nil, err
	}
	if b.Registry, err = startRegistry(ctx, bin, filepath.Join(b.Dir, "registry"), b.Dir); err != nil {
		return nil, err
	}
	b.Node, err = b.StartNode(ctx, NodeOptions{})
	return b, err
}

// StartNode starts a further buildkitd with the same registry. Close stops it, if the caller has not.
func (b *Bench) StartNode(ctx context.Context, opt NodeOptions) (*Node, error) {
	n, err := startNode(ctx, b.Bin, b.Dir, b.Registry.Addr, opt)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.others = append(b.others, n)
	return n, nil
}

// Close stops every daemon and removes the run's folders.
func (b *Bench) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, n := range b.others {
		errs = append(errs, n.Stop())
	}
	for _, r := range b.registries {
		errs = append(errs, r.Remove())
	}
	if b.Registry != nil {
		errs = append(errs, b.Registry.stop())
	}
	if b.Dir != "" {
		errs = append(errs, os.RemoveAll(b.Dir))
	}
	return errors.Join(errs...)
}

// linkTree copies a registry's store by hard links: the registry never writes into a file, it replaces files.
func linkTree(src, dst string) error {
	err := filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dst, rel)
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		return os.Link(path, to)
	})
	if _, ok := errors.AsType[*os.LinkError](err); ok { // another file system: copy
		return errors.Join(os.RemoveAll(dst), os.CopyFS(dst, os.DirFS(src)))
	}
	return err
}
