package sandbox

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/platforms"
)

// frontendLabels are the labels by which BuildKit learns what a frontend image can do. The top-level Dockerfile sets
// the same.
var frontendLabels = map[string]string{
	"moby.buildkit.frontend.network.none": "true",
	"moby.buildkit.frontend.caps": "moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests," +
		"moby.buildkit.frontend.contexts,moby.buildkit.frontend.gitquerystring,moby.buildkit.frontend.contexts.zstd",
}

var frontendOnce sync.Map // of *Bench to func() (string, error)

// Frontend pushes this checkout's gateway frontend, compiled for the machine at hand, as an image and returns its
// reference, "127.0.0.1:PORT/manifold-build/manifold:dev".
func (b *Bench) Frontend(ctx context.Context) (string, error) {
	f, _ := frontendOnce.LoadOrStore(b, sync.OnceValues(func() (string, error) {
		return b.pushFrontend(context.WithoutCancel(ctx), "manifold-build/manifold:dev")
	}))
	return f.(func() (string, error))() //nolint:forcetypeassert // only this function stores
}

func (b *Bench) pushFrontend(ctx context.Context, name string) (string, error) {
	work, err := os.MkdirTemp(b.Dir, "frontend-")
	if err != nil {
		return "", err
	}
	if err := FrontendLayout(ctx, filepath.Join(work, "layout")); err != nil {
		return "", err
	}
	ref := b.Registry.Addr + "/" + name
	return ref, push(ctx, b.Bin, filepath.Join(work, "layout"), ref)
}

// FrontendLayout compiles this checkout's gateway frontend for the machine at hand and writes its image as an OCI
// layout.
func FrontendLayout(ctx context.Context, dir string) error {
	path, err := build(ctx, dir+".bin", "./cmd/manifold-frontend")
	if err != nil {
		return err
	}
	launcher, err := build(ctx, dir+".bin", "./cmd/manifold-accel")
	if err != nil {
		return err
	}
	return frontendLayout(dir, path, launcher)
}

// frontendLayout writes a frontend image FROM scratch around a program, with others beside it.
func frontendLayout(dir, path string, others ...string) error {
	l, err := newLayout(dir)
	if err != nil {
		return err
	}
	files := []entry{folder("bin")}
	for _, p := range append([]string{path}, others...) {
		binary, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		files = append(files, program("bin/"+filepath.Base(p), binary))
	}
	name := "bin/" + filepath.Base(path)
	layer, err := l.addFiles(files)
	if err != nil {
		return err
	}
	p := platforms.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}.Normalize()
	image, err := l.addImage(p, ocispec.ImageConfig{Entrypoint: []string{"/" + name}, Labels: frontendLabels}, layer)
	if err != nil {
		return err
	}
	return l.finish([]ocispec.Descriptor{image})
}

// ReferenceFrontend pushes the reference frontend of the pinned BuildKit as an image and returns its reference.
func (b *Bench) ReferenceFrontend(ctx context.Context) (string, error) {
	work, err := os.MkdirTemp(b.Dir, "reference-")
	if err != nil {
		return "", err
	}
	if err := frontendLayout(filepath.Join(work, "layout"), filepath.Join(b.Bin, "dockerfile-frontend")); err != nil {
		return "", err
	}
	ref := b.Registry.Addr + "/reference/dockerfile:dev"
	return ref, push(ctx, b.Bin, filepath.Join(work, "layout"), ref)
}
