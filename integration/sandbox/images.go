package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/platforms"
)

const (
	// imagesVersion is part of the cache key of the stand-in images: raise it when what they hold changes.
	imagesVersion = "12"
	// GoVersion is the Go release in the golang stand-in.
	GoVersion  = "1.26.8"
	searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// caBundle is Debian's certificate bundle, from package ca-certificates.
	caBundle = "/etc/ssl/certs/ca-certificates.crt"
)

// toolchainPlatforms are the platforms of the golang stand-in: about 240 MB each, so only those the stories build on.
var toolchainPlatforms = []string{"linux/amd64", "linux/arm64"}

// images returns a registry store that holds the stand-ins: library/busybox:1.35, library/alpine:3.20 and
// library/golang:1.26 and library/node:20, each also tagged latest, and what makeDebian and makeToolchains make.
func images(ctx context.Context, bin string) (string, error) {
	ca, err := os.ReadFile(caBundle)
	if err != nil {
		return "", fmt.Errorf("%w (Debian package ca-certificates)", err)
	}
	key, err := keyOf(nil, imagesVersion, GoVersion, nodeVersion, npmVersion, string(ca))
	if err != nil {
		return "", err
	}
	return kept("images", key, func(dir string) error {
		sayf("making multi-platform debian, golang, node, rust, busybox and alpine images (some minutes, once)")
		work, err := os.MkdirTemp("", "manifold-images-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(work) }()
		boxes, err := busyboxes(ctx, work)
		if err != nil {
			return err
		}
		if err := makeBusybox(filepath.Join(work, "busybox"), boxes); err != nil {
			return err
		}
		if err := makeAlpine(filepath.Join(work, "alpine"), boxes); err != nil {
			return err
		}
		if err := makeGolang(ctx, filepath.Join(work, "golang"), work, boxes, ca); err != nil {
			return err
		}
		if err := makeNode(ctx, filepath.Join(work, "node-image"), work, boxes, ca, toolchainPlatforms); err != nil {
			return err
		}
		if err := makeDebian(ctx, work, ca); err != nil {
			return err
		}
		tools, err := makeToolchains(ctx, work)
		if err != nil {
			return err
		}
		names := map[string][]string{
			"busybox":    {"library/busybox:1.35", "library/busybox:latest"},
			"alpine":     {"library/alpine:3.20", "library/alpine:latest"},
			"golang":     {"library/golang:1.26", "library/golang:1.26-alpine", "library/golang:latest"},
			"node-image": {"library/node:20", "library/node:20-alpine", "library/node:latest"},

			"debian":        {"library/debian:12", "library/debian:latest"},
			"golang-warm":   {"library/golang:1.26-warm"},
			"golang-trixie": {"library/golang:1.26-trixie"},
			"node-bookworm": {"library/node:18-bookworm"},
			"rust-trixie":   {"library/rust:1.85-trixie"},
			"gcc-trixie":    {"library/gcc:14-trixie"},
		}
		maps.Copy(names, tools)
		return seed(ctx, bin, dir, work, names)
	})
}

// seed pushes layouts below work into a registry whose store is dir.
func seed(ctx context.Context, bin, dir, work string, names map[string][]string) (err error) {
	reg, err := startRegistry(ctx, bin, dir, work)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reg.stop()) }()
	for name, refs := range names {
		for _, ref := range refs {
			if err := push(ctx, bin, filepath.Join(work, name), reg.Addr+"/"+ref); err != nil {
				return err
			}
		}
	}
	return nil
}

// push pushes a layout: as an index if it holds several images, else as the image.
func push(ctx context.Context, bin, layout, ref string) error {
	raw, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if err != nil {
		return err
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return err
	}
	args := []string{filepath.Join(bin, "crane"), "push"}
	if len(index.Manifests) > 1 {
		args = append(args, "--index")
	}
	_, err = run(ctx, command{Args: append(args, layout, ref)})
	return err
}

// busybox is one platform's static busybox and the names of its applets.
type busybox struct {
	Platform platforms.Platform
	Program  []byte
	Applets  []string
}

// busyboxes downloads busybox for all platforms, two at a time.
func busyboxes(ctx context.Context, work string) ([]busybox, error) {
	out := make([]busybox, len(debianArchs))
	eg, egCtx := errgroup.WithContext(ctx)
	eg.SetLimit(2)
	for i, arch := range debianArchs {
		eg.Go(func() error {
			p, err := platforms.Parse(arch.Platform)
			if err != nil {
				return err
			}
			b, err := fetchBusybox(egCtx, work, arch.Debian)
			out[i] = busybox{Platform: p, Program: b}
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	// All come from one Debian version, so the build machine's applets are everyone's.
	applets, err := appletsOf(ctx, work, out[0].Program)
	for i := range out {
		out[i].Applets = applets
	}
	return out, err
}

// appletsOf asks a busybox for the machine at hand what it can do.
func appletsOf(ctx context.Context, work string, program []byte) ([]string, error) {
	path := filepath.Join(work, "busybox-applets")
	if err := os.WriteFile(path, program, 0o700); err != nil {
		return nil, err
	}
	list, err := run(ctx, command{Args: []string{path, "--list"}})
	return strings.Fields(string(list)), err
}

// base lists the files of a small Linux system around one busybox.
func base(b busybox) []entry {
	var out []entry
	for _, dir := range []string{"bin", "dev", "etc", "home", "lib", "mnt", "proc", "root", "run", "sbin", "sys", "usr", "usr/bin", "usr/sbin", "usr/local", "usr/local/bin", "var", "var/www"} {
		out = append(out, folder(dir))
	}
	out = append(out,
		entry{Name: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n"),
		file("etc/group", "root:x:0:\nwww-data:x:33:\nusers:x:100:\nnobody:x:65534:\n"),
		file("etc/nsswitch.conf", "hosts: files dns\n"),
		program("bin/busybox", b.Program))
	for _, applet := range b.Applets {
		if applet != "busybox" {
			out = append(out, entry{Name: "bin/" + applet, Link: "busybox"})
		}
	}
	return out
}

func makeBusybox(dir string, boxes []busybox) error {
	return makeIndex(dir, boxes, ocispec.ImageConfig{Env: []string{"PATH=" + searchPath}, Cmd: []string{"sh"}}, base)
}

func makeAlpine(dir string, boxes []busybox) error {
	return makeIndex(dir, boxes, ocispec.ImageConfig{Env: []string{"PATH=" + searchPath}, Cmd: []string{"/bin/sh"}}, func(b busybox) []entry {
		return append(base(b), folder("etc/apk"), file("etc/alpine-release", "3.20.0\n"),
			file("etc/os-release", "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.20.0\n"))
	})
}

func makeIndex(dir string, boxes []busybox, config ocispec.ImageConfig, files func(busybox) []entry) error {
	l, err := newLayout(dir)
	if err != nil {
		return err
	}
	var images []ocispec.Descriptor
	for _, b := range boxes {
		layer, err := l.addFiles(files(b))
		if err != nil {
			return err
		}
		image, err := l.addImage(b.Platform, config, layer)
		if err != nil {
			return err
		}
		images = append(images, image)
	}
	return l.finish(images)
}
