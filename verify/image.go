package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/internal/ocijson"
	"github.com/manifold-build/manifold/platforms"
)

// Bounds of what is read of an image.
const (
	maxManifest   = 4 << 20  // a manifest or config, in bytes
	maxLayer      = 64 << 30 // decompressed
	bombSize      = 4 << 30  // from here on a layer may not be more than bombRatio times what is stored
	bombRatio     = 200
	maxLayers     = 512
	maxZstdWindow = 128 << 20
	parallel      = 4 // layers read at once
)

// Fetcher opens blobs. It is what containerd's remotes.Fetcher is.
type Fetcher interface {
	// Fetch returns the bytes of a descriptor. They need not be verified.
	Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// FS verifies a root filesystem that is unpacked. Links are followed within it, so root should implement [fs.ReadLinkFS], as
// [os.DirFS] does; entries of its directories that have a method ReadLink() (string, error) themselves are asked instead. Several files are
// read at once. Want.Likely means nothing elsewhere.
func FS(root fs.FS, image ocispec.Image, want Want) (Report, error) {
	files, err := Scan(root, want.Likely)
	if err != nil {
		return Report{}, err
	}
	return files.Report(image, want)
}

// Reader verifies images that have layers in common: each layer is read once.
type Reader struct {
	from   Fetcher
	layers *layers
}

// NewReader returns a Reader that takes blobs from a Fetcher. It may be used by several goroutines at once.
func NewReader(from Fetcher) *Reader { return &Reader{from: from, layers: newLayers()} }

// Image verifies one image: its manifest's config and layers are read and their digests checked.
func (r *Reader) Image(ctx context.Context, manifest ocispec.Descriptor, want Want) (Report, error) {
	var m ocispec.Manifest
	if err := r.readJSON(ctx, manifest, func(dt []byte) error { return ocijson.Manifest(dt, manifest.MediaType, &m) }); err != nil {
		return Report{}, fmt.Errorf("manifest %s: %w", manifest.Digest, err)
	}
	var image ocispec.Image
	if err := r.readJSON(ctx, m.Config, func(dt []byte) error { return ocijson.Unmarshal(dt, &image) }); err != nil {
		return Report{}, fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	if len(m.Layers) > maxLayers {
		return Report{}, &LimitError{"layers", maxLayers}
	}
	if want.Platform.IsZero() {
		if want.Platform = want.Descriptor; want.Platform.IsZero() {
			want.Platform = platforms.FromOCI(image.Platform)
		}
	}
	read := make([]*layer, len(m.Layers))
	g, ctx := errgroup.WithContext(ctx)
	for i, desc := range m.Layers {
		g.Go(func() (err error) {
			read[i], err = r.layers.get(ctx, r.from, desc)
			if err != nil {
				err = fmt.Errorf("layer %d (%s): %w", i+1, desc.Digest, err)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return Report{}, err
	}
	t := tree{}
	for _, l := range read {
		if err := t.apply(l); err != nil {
			return Report{}, err
		}
	}
	report, err := t.inspect(readConfig(image), want)
	if err == nil {
		report.checkDiffIDs(image.RootFS.DiffIDs, read)
	}
	return report, err
}

// checkDiffIDs holds what the layers' plain streams are against what the config says (OCI image spec, "Layer DiffID"). No engine unpacks an image where they differ.
func (r *Report) checkDiffIDs(ids []digest.Digest, layers []*layer) {
	if len(ids) != len(layers) {
		r.Refused = append(r.Refused, Finding{Message: fmt.Sprintf("its config lists %d layers, and its manifest %d", len(ids), len(layers))})
	} else {
		for i, l := range layers {
			if ids[i] != l.diffID {
				r.Refused = append(r.Refused, Finding{Message: fmt.Sprintf("layer %d unpacks to %s, and its config says %s", i+1, l.diffID, ids[i])})
			}
		}
	}
	r.decide()
}

// readJSON reads a small blob and checks its digest.
func (r *Reader) readJSON(ctx context.Context, desc ocispec.Descriptor, parse func([]byte) error) (err error) {
	if err := desc.Digest.Validate(); err != nil {
		return err
	}
	if desc.Size > maxManifest {
		return &LimitError{"bytes", maxManifest}
	}
	rc, err := r.from.Fetch(ctx, desc)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	dt, err := io.ReadAll(io.LimitReader(rc, maxManifest+1))
	if err != nil {
		return err
	}
	if len(dt) > maxManifest {
		return &LimitError{"bytes", maxManifest}
	}
	if got := desc.Digest.Algorithm().FromBytes(dt); got != desc.Digest {
		return fmt.Errorf("its bytes have the digest %s", got)
	}
	return parse(dt)
}

// errDigest: nothing is said of bytes that are not the ones asked for.
var errDigest = errors.New("its bytes do not have that digest")

// readLayer reads one layer to its end. What was found counts only if the digest is right.
func readLayer(ctx context.Context, from Fetcher, desc ocispec.Descriptor) (_ *layer, err error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, err
	}
	rc, err := from.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	sum := newSumming(desc.Digest.Algorithm())
	storedDigest := sync.OnceValue(sum.digest)
	defer storedDigest()
	stored := &counter{r: io.TeeReader(rc, sum)}
	plain, err := decompress(stored)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, plain.Close()) }()
	diff := newSumming(digest.Canonical)
	whole := io.TeeReader(&bounded{r: plain, stored: stored}, diff)
	l, err := scanLayer(ctx, whole)
	if err == nil {
		// Behind the archive's end there may be padding, and behind that more of the blob.
		_, err = io.Copy(io.Discard, whole)
	}
	diffID := diff.digest()
	if err == nil {
		_, err = io.Copy(io.Discard, stored)
	}
	if err != nil {
		return nil, err
	}
	if storedDigest() != desc.Digest {
		return nil, errDigest
	}
	l.diffID = diffID
	return l, nil
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// bounded ends a layer that grows without measure.
type bounded struct {
	r      io.Reader
	stored *counter
	n      int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n += int64(n)
	switch {
	case b.n > maxLayer:
		return n, &LimitError{"bytes in a layer", maxLayer}
	case b.n > bombSize && b.n/bombRatio > b.stored.n:
		return n, &LimitError{"times its stored size in a layer", bombRatio}
	}
	return n, err
}

// decompress tells the compression by the first bytes, as container engines do.
func decompress(r io.Reader) (io.ReadCloser, error) {
	head := make([]byte, 4)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	whole := io.MultiReader(bytes.NewReader(head[:n]), r)
	switch {
	case n > 2 && head[0] == 0x1f && head[1] == 0x8b:
		return gzip.NewReader(whole)
	case n == 4 && string(head) == "\x28\xb5\x2f\xfd", n == 4 && head[0]&0xf0 == 0x50 && string(head[1:]) == "\x2a\x4d\x18":
		d, err := zstd.NewReader(whole, zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	default:
		return io.NopCloser(whole), nil
	}
}
