package main

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// layerSize is the stored size of the layer that is verified, in bytes.
const layerSize = 1 << 30

const (
	figureScan      = "verify a layer of 1 GiB and 200,000 files, against its decompressor"
	figureScanPeak  = "verify a layer of 1 GiB and 200,000 files, peak memory"
	figureShare     = "the gate in a warm build of 4 targets, in process"
	figureShareGate = "the gate in a warm build of 4 targets, gateway image"
)

// fourImages hold a program each, and a shell.
const fourImages = `FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod main.go ./
RUN CGO_ENABLED=0 go build -o /out/app .

FROM busybox:1.35
COPY --from=build /out/app /bin/app
ENTRYPOINT ["app"]
`

// gate prepares the figures of the gate.
func gate(ctx context.Context, b *sandbox.Bench, match *regexp.Regexp) ([]figure, error) {
	scan, err := scanFigures(ctx, b, match)
	if err != nil || !match.MatchString(figureShare+figureShareGate) {
		return scan, err
	}
	frontend, err := b.Frontend(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := folder(b, map[string]string{"Dockerfile": fourImages, "go.mod": "module example.com/app\n\ngo 1.26\n", "main.go": program})
	if err != nil {
		return nil, err
	}
	const targets = "linux/amd64,linux/arm64,linux/ppc64le,linux/s390x"
	inProcess := func(verify string) []string {
		return []string{"manifold", "build", "-q", "--verify", verify, "--platform", targets, dir}
	}
	gateway := func(verify string) []string {
		return []string{
			"buildctl", "build", "--progress=quiet", "--frontend", "gateway.v0", "--opt", "source=" + frontend, "--opt", "platform=" + targets,
			"--opt", "manifold:verify=" + verify, "--local", "context=" + dir, "--local", "dockerfile=" + dir,
		}
	}
	with := func(name string, args []string) side {
		return side{name, func(ctx context.Context) (time.Duration, error) { return timed(ctx, b, args) }}
	}
	for _, args := range [][]string{inProcess("strict"), inProcess("off"), gateway("strict"), gateway("off")} {
		if _, err := timed(ctx, b, args); err != nil {
			return nil, err
		}
	}
	return append(scan,
		figure{
			name: figureShare, rounds: 31, most: 1.10,
			ours: with("verify=strict", inProcess("strict")), theirs: with("verify=off", inProcess("off")),
		},
		figure{
			name: figureShareGate, rounds: 31, most: 1.10,
			ours: with("verify=strict", gateway("strict")), theirs: with("verify=off", gateway("off")),
		}), nil
}

// scanFigures prepares an image whose only layer is large: the files of Go's own tree, again and again.
func scanFigures(ctx context.Context, b *sandbox.Bench, match *regexp.Regexp) ([]figure, error) {
	if !match.MatchString(figureScan + figureScanPeak) {
		return nil, nil
	}
	dir, err := os.MkdirTemp(b.Dir, "large-")
	if err != nil {
		return nil, err
	}
	layer, err := largeImage(ctx, dir)
	if err != nil {
		return nil, err
	}
	var peak int64
	verify := func(ctx context.Context) (time.Duration, error) {
		begun := time.Now()
		out, err := b.Exec(ctx, "", "manifold", "verify", "oci-layout:"+dir)
		if err == nil && out.Code != 0 {
			err = errors.New(out.Stdout + out.Stderr)
		}
		peak = max(peak, out.PeakMemory)
		return time.Since(begun), err
	}
	decompress := func(ctx context.Context) (time.Duration, error) {
		return timed(ctx, b, []string{"sh", "-c", "gzip -dc '" + layer + "' >/dev/null"})
	}
	return []figure{{
		name: figureScan, rounds: 3, most: 1.10, ours: side{"manifold verify", verify}, theirs: side{"gzip -dc", decompress},
		after: func() string {
			return fmt.Sprintf("| %s | manifold verify: %d MiB | | | at most 128 MiB |", figureScanPeak, peak>>20)
		},
	}}, nil
}

// largeImage writes an OCI layout and returns the path of its layer.
func largeImage(ctx context.Context, dir string) (_ string, err error) {
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return "", err
	}
	temp := filepath.Join(blobs, "layer")
	d, diffID, err := writeLayer(ctx, temp)
	if err != nil {
		return "", err
	}
	layer := filepath.Join(blobs, d.Digest.Encoded())
	if err := os.Rename(temp, layer); err != nil {
		return "", err
	}
	put := func(mediaType string, v any) (ocispec.Descriptor, error) {
		dt, err := json.Marshal(v)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		d := digest.FromBytes(dt)
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(dt))}, os.WriteFile(filepath.Join(blobs, d.Encoded()), dt, 0o600)
	}
	config, err := put(ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}},
	})
	if err != nil {
		return "", err
	}
	image, err := put(ocispec.MediaTypeImageManifest, ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{d}})
	if err != nil {
		return "", err
	}
	top, err := json.Marshal(ocispec.Index{Manifests: []ocispec.Descriptor{image}})
	if err != nil {
		return "", err
	}
	return layer, errors.Join(
		os.WriteFile(filepath.Join(dir, "index.json"), top, 0o600),
		os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o600))
}

// writeLayer writes a layer of layerSize, or a little more.
func writeLayer(ctx context.Context, name string) (_ ocispec.Descriptor, diffID digest.Digest, err error) {
	f, err := os.Create(name)
	if err != nil {
		return ocispec.Descriptor{}, "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum, plain := sha256.New(), sha256.New()
	stored := &size{}
	buffered := bufio.NewWriterSize(io.MultiWriter(f, sum, stored), 1<<20)
	gz, err := gzip.NewWriterLevel(buffered, gzip.BestSpeed)
	if err != nil {
		return ocispec.Descriptor{}, "", err
	}
	tw := tar.NewWriter(io.MultiWriter(gz, plain))
	for i := 0; stored.n < layerSize && err == nil; i++ {
		err = addTree(ctx, tw, runtime.GOROOT(), fmt.Sprintf("opt/go%d", i), func() bool { return stored.n >= layerSize }) //nolint:staticcheck // the machine's own Go
	}
	if err := errors.Join(err, tw.Close(), gz.Close(), buffered.Flush()); err != nil {
		return ocispec.Descriptor{}, "", err
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.NewDigest(digest.SHA256, sum), Size: stored.n}, digest.NewDigest(digest.SHA256, plain), nil
}

// size counts what is written.
type size struct{ n int64 }

func (s *size) Write(p []byte) (int, error) {
	s.n += int64(len(p))
	return len(p), nil
}

// addTree adds a folder's files to an archive until it is large enough.
func addTree(ctx context.Context, tw *tar.Writer, root, under string, enough func() bool) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if enough() {
			return fs.SkipAll
		}
		if !d.Type().IsRegular() {
			return ctx.Err()
		}
		dt, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		h := &tar.Header{Name: under + "/" + filepath.ToSlash(rel), Mode: int64(info.Mode().Perm()), Size: int64(len(dt))}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		_, err = tw.Write(dt)
		return err
	})
}
