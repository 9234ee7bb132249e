package sandbox

import (
	"context"
	"os"
	"path/filepath"
)

// Env builds the manifold CLI and returns the environment in which a shell finds it, the pinned programs and the
// daemons: PATH, BUILDKIT_HOST and REGISTRY.
func (b *Bench) Env(ctx context.Context) ([]string, error) {
	own := filepath.Join(b.Dir, "bin")
	for _, command := range []string{"./cmd/manifold", "./cmd/manifold-accel"} {
		if _, err := build(ctx, own, command); err != nil {
			return nil, err
		}
	}
	return []string{
		"PATH=" + own + ":" + b.Bin + ":" + os.Getenv("PATH"),
		"BUILDKIT_HOST=" + b.Node.Addr,
		"REGISTRY=" + b.Registry.Addr,
	}, nil
}
