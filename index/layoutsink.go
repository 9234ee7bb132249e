package index

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"
)

// layoutSink is an OCI image layout in a folder. Blobs are kept by containerd's content store, whose folders are those of a layout: what a
// transfer that broke off has left is taken up again.
type layoutSink struct {
	dir   string
	tag   string
	ship  shipment
	store content.Store
	bytes *semaphore.Weighted

	mu        sync.Mutex
	referrers []ocispec.Descriptor
}

func newLayoutSink(dir, tag string, s shipment) (*layoutSink, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // images are no secret
		return nil, err
	}
	store, err := local.NewStore(dir)
	if err != nil {
		return nil, err
	}
	return &layoutSink{dir: dir, tag: tag, ship: s, store: store, bytes: semaphore.NewWeighted(parallelBlobs)}, nil
}

func (l *layoutSink) blob(ctx context.Context, desc ocispec.Descriptor, p parcel, seen func(io.ReadCloser, int64) io.ReadCloser) (string, error) {
	if err := l.bytes.Acquire(ctx, 1); err != nil {
		return "", err
	}
	defer l.bytes.Release(1)
	how := howExists
	err := l.write(ctx, desc, func(offset int64) (io.ReadCloser, error) {
		how = howCopied
		rc, err := p.open(ctx, desc, offset)
		if err != nil {
			return nil, err
		}
		return seen(rc, offset), nil
	})
	return how, err
}

func (l *layoutSink) manifest(ctx context.Context, p parcel) error {
	if p.subject != "" {
		l.mu.Lock()
		l.referrers = append(l.referrers, withArtifactType(p))
		l.mu.Unlock()
	}
	return l.write(ctx, p.desc, func(offset int64) (io.ReadCloser, error) { return readerOf(p.raw[offset:]), nil })
}

// write writes a blob on from where an earlier try stopped.
func (l *layoutSink) write(ctx context.Context, desc ocispec.Descriptor, open func(int64) (io.ReadCloser, error)) (err error) {
	w, err := content.OpenWriter(ctx, l.store, content.WithRef("manifold-"+desc.Digest.String()), content.WithDescriptor(desc))
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	status, err := w.Status()
	if err != nil {
		return err
	}
	if status.Offset > desc.Size {
		if err := w.Truncate(0); err != nil {
			return err
		}
		status.Offset = 0
	}
	if status.Offset < desc.Size {
		rc, err := open(status.Offset)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, io.LimitReader(rc, desc.Size-status.Offset+1))
		if err := errors.Join(err, rc.Close()); err != nil {
			return err
		}
	}
	err = w.Commit(ctx, desc.Size, desc.Digest)
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil && ctx.Err() == nil { // what is there is wrong: the next try begins anew
		err = errors.Join(err, l.store.Abort(ctx, "manifold-"+desc.Digest.String()))
	}
	return err
}

// finish lists the shipment in index.json.
func (l *layoutSink) finish(ctx context.Context) error {
	if err := l.write(ctx, l.ship.desc, func(offset int64) (io.ReadCloser, error) { return readerOf(l.ship.raw[offset:]), nil }); err != nil {
		return err
	}
	var have []ocispec.Descriptor
	root, err := openFolder(l.dir)
	if err != nil {
		return err
	}
	_, err = os.Stat(filepath.Join(l.dir, ocispec.ImageIndexFile))
	if err == nil {
		have, err = layout{root}.entries()
	}
	if err = errors.Join(err, root.Close()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	raw, err := json.Marshal(layoutIndex(have, l.ship.desc, l.tag, l.referrers))
	if err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(l.dir, ocispec.ImageLayoutFile), layoutFile); err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(l.dir, "ingest")) // the store's, if nothing is under way there
	return replaceFile(filepath.Join(l.dir, ocispec.ImageIndexFile), raw)
}

var layoutFile = []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)

// layoutIndex is an index.json with one more entry. One of the same name, or without a name if it has none, gives way.
func layoutIndex(have []ocispec.Descriptor, desc ocispec.Descriptor, tag string, referrers []ocispec.Descriptor) ocispec.Index {
	out := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, d := range have {
		if d.Digest != desc.Digest && d.Annotations[ocispec.AnnotationRefName] == tag && d.ArtifactType == "" {
			continue
		}
		if d.Digest == desc.Digest && d.Annotations[ocispec.AnnotationRefName] == tag {
			continue
		}
		out.Manifests = append(out.Manifests, d)
	}
	if tag != "" {
		desc.Annotations = with(desc.Annotations, Annotation{Key: ocispec.AnnotationRefName, Value: tag})
	}
	out.Manifests = append(out.Manifests, desc)
	for _, r := range referrers {
		if !slices.ContainsFunc(out.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == r.Digest }) {
			out.Manifests = append(out.Manifests, r)
		}
	}
	return out
}

// withArtifactType is a referrer's descriptor, with the type by which a layout's reader tells it from an image (image-spec, "artifactType").
func withArtifactType(p parcel) ocispec.Descriptor {
	d := p.desc
	if d.ArtifactType == "" {
		var m struct {
			ArtifactType string             `json:"artifactType"`
			Config       ocispec.Descriptor `json:"config"`
		}
		if json.Unmarshal(p.raw, &m) == nil {
			if d.ArtifactType = m.ArtifactType; d.ArtifactType == "" {
				d.ArtifactType = m.Config.MediaType
			}
		}
	}
	return d
}

// replaceFile writes a file that is there whole or not at all.
func replaceFile(name string, raw []byte) error {
	part := name + "." + rand.Text()[:8] + ".part"
	if err := os.WriteFile(part, raw, 0o644); err != nil { //nolint:gosec // images are no secret
		return errors.Join(err, removeIfThere(part))
	}
	if err := os.Rename(part, name); err != nil {
		return errors.Join(err, removeIfThere(part))
	}
	return nil
}

func removeIfThere(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// archiveSink is an OCI image layout in a tar archive. It appears under its name when it is complete.
type archiveSink struct {
	name string
	part string
	tag  string
	ship shipment

	mu        sync.Mutex // an archive is written one entry after the other
	file      *os.File
	tar       *tar.Writer
	referrers []ocispec.Descriptor
}

func newArchiveSink(name, tag string, s shipment) (*archiveSink, error) {
	part := name + "." + rand.Text()[:8] + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666) //nolint:gosec // the umask decides, as for any output
	if err != nil {
		return nil, err
	}
	return &archiveSink{name: name, part: part, tag: tag, ship: s, file: f, tar: tar.NewWriter(f)}, nil
}

func (a *archiveSink) blob(ctx context.Context, desc ocispec.Descriptor, p parcel, seen func(io.ReadCloser, int64) io.ReadCloser) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	rc, err := p.open(ctx, desc, 0)
	if err != nil {
		return "", err
	}
	return howCopied, errors.Join(a.write(blobPath(desc), desc.Size, seen(rc, 0)), rc.Close())
}

func blobPath(desc ocispec.Descriptor) string {
	return "blobs/" + desc.Digest.Algorithm().String() + "/" + desc.Digest.Encoded()
}

// write adds a file. Its time is the epoch, so that the same content makes the same archive.
func (a *archiveSink) write(name string, size int64, content io.Reader) error {
	if err := a.tar.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	n, err := io.Copy(a.tar, content)
	if err == nil && n != size {
		err = fmt.Errorf("%s has %d bytes, not %d", name, n, size)
	}
	return err
}

func (a *archiveSink) manifest(_ context.Context, p parcel) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.subject != "" {
		a.referrers = append(a.referrers, withArtifactType(p))
	}
	return a.write(blobPath(p.desc), int64(len(p.raw)), readerOf(p.raw))
}

func (a *archiveSink) finish(context.Context) error {
	slices.SortFunc(a.referrers, func(x, y ocispec.Descriptor) int { return compareDigests(x, y) })
	top, err := json.Marshal(layoutIndex(nil, a.ship.desc, a.tag, a.referrers))
	if err != nil {
		return err
	}
	err = errors.Join(
		a.write(blobPath(a.ship.desc), int64(len(a.ship.raw)), readerOf(a.ship.raw)),
		a.write(ocispec.ImageIndexFile, int64(len(top)), readerOf(top)),
		a.write(ocispec.ImageLayoutFile, int64(len(layoutFile)), readerOf(layoutFile)),
		a.tar.Close(), a.file.Sync(), a.file.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(a.part, a.name); err != nil {
		return err
	}
	a.part = ""
	return nil
}

func (a *archiveSink) abort() error {
	if a.part == "" {
		return nil
	}
	_ = a.file.Close() // perhaps it is closed
	return removeIfThere(a.part)
}
