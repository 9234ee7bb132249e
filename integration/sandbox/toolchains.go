package sandbox

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/platforms"
)

// makeGolang puts the Go toolchain, which the module proxy serves as a module, and Debian's make on busybox.
func makeGolang(ctx context.Context, dir, work string, boxes []busybox, ca []byte) error {
	l, err := newLayout(dir)
	if err != nil {
		return err
	}
	config := ocispec.ImageConfig{
		Env: []string{"PATH=/go/bin:/usr/local/go/bin:" + searchPath, "GOLANG_VERSION=" + GoVersion, "GOTOOLCHAIN=local", "GOPATH=/go"},
		Cmd: []string{"sh"}, WorkingDir: "/go",
	}
	warm, err := newLayout(dir + "-warm")
	if err != nil {
		return err
	}
	var images, warmImages []ocispec.Descriptor
	for _, b := range boxes {
		if !slices.Contains(toolchainPlatforms, b.Platform.String()) {
			continue
		}
		goroot, err := toolchain(ctx, b.Platform)
		if err != nil {
			return err
		}
		system, err := l.addFiles(append(base(b), folder("etc/ssl"), folder("etc/ssl/certs"),
			entry{Name: "etc/ssl/certs/ca-certificates.crt", Mode: 0o644, Data: ca},
			folder("go"), entry{Name: "go/src", Mode: fs.ModeDir | 0o777}, entry{Name: "go/bin", Mode: fs.ModeDir | 0o777}))
		if err != nil {
			return err
		}
		golang, err := l.addTree(goroot, "usr/local/go", func(path string) bool {
			return strings.HasPrefix(path, "bin/") || strings.HasPrefix(path, "pkg/tool/")
		})
		if err != nil {
			return err
		}
		tools, err := fetchPackages(ctx, work, debianName(b.Platform), "make", "libc6")
		if err != nil {
			return err
		}
		debian, err := l.addTree(tools, "", nil)
		if err != nil {
			return err
		}
		image, err := l.addImage(b.Platform, config, system, debian, golang)
		if err != nil {
			return err
		}
		images = append(images, image)
		cache, err := warmCache(ctx, filepath.Join(work, "go-build-"+b.Platform.Architecture), b.Platform)
		if err != nil {
			return err
		}
		built, err := warm.addTree(cache, "root/.cache/go-build", nil)
		if err != nil {
			return err
		}
		if image, err = warm.addImage(b.Platform, config, system, debian, golang, built); err != nil {
			return err
		}
		warmImages = append(warmImages, image)
	}
	if err := errors.Join(l.finish(images), l.lend(warm)); err != nil {
		return err
	}
	return warm.finish(warmImages)
}

// warmCache compiles Go's standard library for a platform and returns the build cache: where an emulated compiler finds that, tests that
// emulate take seconds. Its content depends on the release and on the target alone.
func warmCache(ctx context.Context, dir string, p platforms.Platform) (string, error) {
	native, err := toolchain(ctx, platforms.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH})
	if err != nil {
		return "", err
	}
	goroot := dir + "-root" // the module's folder has no executable files
	if err := os.CopyFS(goroot, os.DirFS(native)); err != nil {
		return "", err
	}
	for _, pattern := range []string{"bin/*", "pkg/tool/*/*"} {
		files, err := filepath.Glob(filepath.Join(goroot, pattern))
		if err != nil {
			return "", err
		}
		for _, f := range files {
			if err := os.Chmod(f, 0o755); err != nil {
				return "", err
			}
		}
	}
	_, err = run(ctx, command{
		Dir: os.TempDir(), Args: []string{filepath.Join(goroot, "bin/go"), "build", "std"},
		Env: []string{"GOROOT=" + goroot, "GOTOOLCHAIN=local", "GOCACHE=" + dir, "GOOS=" + p.OS, "GOARCH=" + p.Architecture, "CGO_ENABLED=0", "GOFLAGS="},
	})
	return dir, errors.Join(err, os.RemoveAll(goroot))
}

// toolchain returns the GOROOT of a platform's Go release in the module cache.
func toolchain(ctx context.Context, p platforms.Platform) (string, error) {
	mod := fmt.Sprintf("golang.org/toolchain@v0.0.1-go%s.%s-%s", GoVersion, p.OS, p.Architecture)
	out, err := run(ctx, command{Dir: os.TempDir(), Args: []string{"go", "mod", "download", "-json", mod}, Env: []string{"GOFLAGS=-mod=mod"}})
	if err != nil {
		return "", err
	}
	var got struct {
		Dir string `json:"Dir"`
	}
	return got.Dir, errors.Join(json.Unmarshal(out, &got), nonEmpty(got.Dir, mod))
}

func nonEmpty(dir, mod string) error {
	if dir == "" {
		return fmt.Errorf("go mod download %s names no folder", mod)
	}
	return nil
}

// npmRegistry serves Node and npm themselves as packages.
const npmRegistry = "https://registry.npmjs.org"

const (
	nodeVersion = "20.11.0"
	npmVersion  = "10.9.2"
	// npmWait bounds the download of one package.
	npmWait = 5 * time.Minute
	// maxPackage bounds one package unpacked, in bytes.
	maxPackage = 512 << 20
)

// nodeArchs are Node's names of the platforms that it comes for.
var nodeArchs = map[string]string{
	"linux/amd64": "x64", "linux/arm64": "arm64", "linux/arm/v7": "armv7l", "linux/ppc64le": "ppc64le", "linux/s390x": "s390x",
}

// nodeNeeds lists the Debian packages of the libraries that Node loads on a platform.
func nodeNeeds(p platforms.Platform) []string {
	names := []string{"libstdc++6", "libgcc-s1", "libc6"}
	if p.Architecture == "arm" {
		names = append(names, "libatomic1")
	}
	return names
}

// makeNode puts Node and npm, which the npm registry serves as packages, and the libraries they need on busybox.
func makeNode(ctx context.Context, dir, work string, boxes []busybox, ca []byte, wanted []string) error {
	l, err := newLayout(dir)
	if err != nil {
		return err
	}
	config := ocispec.ImageConfig{Env: []string{"PATH=" + searchPath, "NODE_VERSION=" + nodeVersion, "NODE_EXTRA_CA_CERTS=" + caBundle}, Cmd: []string{"node"}}
	npm := filepath.Join(work, "npm")
	if err := fetchNPM(ctx, "npm", npmVersion, npm); err != nil {
		return err
	}
	var images []ocispec.Descriptor
	for _, b := range boxes {
		if !slices.Contains(wanted, b.Platform.String()) {
			continue
		}
		arch := nodeArchs[b.Platform.String()]
		node := filepath.Join(work, "node-"+arch)
		if err := fetchNPM(ctx, "node-linux-"+arch, nodeVersion, node); err != nil {
			return err
		}
		libraries, err := fetchPackages(ctx, work, debianName(b.Platform), nodeNeeds(b.Platform)...)
		if err != nil {
			return err
		}
		layers, err := nodeLayers(l, b, ca, libraries, node, npm)
		if err != nil {
			return err
		}
		image, err := l.addImage(b.Platform, config, layers...)
		if err != nil {
			return err
		}
		images = append(images, image)
	}
	return l.finish(images)
}

func nodeLayers(l layout, b busybox, ca []byte, libraries, node, npm string) ([]layer, error) {
	program, err := os.ReadFile(filepath.Join(node, "bin", "node"))
	if err != nil {
		return nil, err
	}
	system, err := l.addFiles(append(base(b), folder("etc/ssl"), folder("etc/ssl/certs"),
		entry{Name: "etc/ssl/certs/ca-certificates.crt", Mode: 0o644, Data: ca},
		entry{Name: "usr/local/bin/node", Mode: 0o755, Data: program},
		entry{Name: "usr/local/bin/npm", Link: "../lib/node_modules/npm/bin/npm-cli.js"},
		entry{Name: "usr/local/bin/npx", Link: "../lib/node_modules/npm/bin/npx-cli.js"},
		folder("usr/local/lib"), folder("usr/local/lib/node_modules"),
		entry{Name: "usr/bin/env", Link: "/bin/busybox"}))
	if err != nil {
		return nil, err
	}
	debian, err := l.addTree(libraries, "", nil)
	if err != nil {
		return nil, err
	}
	cli, err := l.addTree(npm, "usr/local/lib/node_modules/npm", func(path string) bool { return strings.HasPrefix(path, "bin/") })
	return []layer{system, debian, cli}, err
}

// fetchNPM downloads a package of the npm registry and unpacks it into a folder.
func fetchNPM(ctx context.Context, name, version, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, npmWait)
	defer cancel()
	return get(ctx, fmt.Sprintf("%s/%s/-/%s-%s.tgz", npmRegistry, name, name, version), func(body io.Reader) error {
		zip, err := gzip.NewReader(body)
		if err != nil {
			return err
		}
		tr := tar.NewReader(io.LimitReader(zip, maxPackage))
		for {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			_, path, ok := strings.Cut(h.Name, "/") // everything lies in one folder
			if !ok || h.Typeflag != tar.TypeReg || !filepath.IsLocal(path) {
				continue
			}
			if err := unpack(filepath.Join(dir, path), tr, fs.FileMode(h.Mode&0o777)); err != nil {
				return err
			}
		}
	})
}

func unpack(path string, r io.Reader, mode fs.FileMode) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, r)
	return err
}
