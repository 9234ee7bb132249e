package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// Ko returns the program ko as tools/ko/go.mod pins it. Only benchmarks need it.
func (b *Bench) Ko(ctx context.Context) (string, error) {
	dir, err := pinned(ctx, "ko")
	return filepath.Join(dir, "ko"), err
}

// Indexers returns the folder with regctl and manifest-tool, as tools/indexers/go.mod pins them.
func (b *Bench) Indexers(ctx context.Context) (string, error) { return pinned(ctx, "indexers") }

// pinned builds the tools of a module under tools, once.
func pinned(ctx context.Context, name string) (string, error) {
	root, err := repoRoot()
	if err != nil {
		return "", err
	}
	mod := filepath.Join(root, "tools", name)
	key, err := keyOf([]string{filepath.Join(mod, "go.mod"), filepath.Join(mod, "go.sum")}, runtime.Version(), runtime.GOARCH)
	if err != nil {
		return "", err
	}
	return kept(name, key, func(dir string) error {
		sayf("building what tools/%s pins (a minute or two, once)", name)
		_, err := run(ctx, command{
			Dir: mod, Env: []string{"CGO_ENABLED=0", "GOFLAGS="},
			Args: []string{"go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir + "/", "tool"},
		})
		return err
	})
}

// NodePlatforms are the platforms of the image that [Bench.NodeEverywhere] makes.
const NodePlatforms = "linux/amd64,linux/arm64,linux/arm/v7,linux/ppc64le"

// NodeEverywhere puts a stand-in for node under the name library/node:20-everywhere into the registry, for more platforms than the
// stories need.
func (b *Bench) NodeEverywhere(ctx context.Context) (err error) {
	ca, err := os.ReadFile(caBundle)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(b.Dir, "node-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	boxes, err := busyboxes(ctx, work)
	if err != nil {
		return err
	}
	wanted := []string{"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/ppc64le"}
	if err := makeNode(ctx, filepath.Join(work, "image"), work, boxes, ca, wanted); err != nil {
		return err
	}
	return push(ctx, b.Bin, filepath.Join(work, "image"), b.Registry.Addr+"/library/node:20-everywhere")
}
