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
	"time"

	"github.com/gofrs/flock"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"github.com/manifold-build/manifold/internal/registry"
)

// layoutSink is an OCI image layout in a folder. What a transfer that broke off has left is taken up again.
type layoutSink struct {
	dir   string
	ship  shipment
	bytes *semaphore.Weighted
	lock  *flock.Flock // nil until begin

	mu        sync.Mutex
	referrers []ocispec.Descriptor
}

// partDir is the folder of a layout for blobs that are not whole; containerd's content store has the same.
const partDir = "ingest"

func newLayoutSink(dir string, s shipment) (*layoutSink, error) {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("%s is a file; an archive is written with %s", dir, schemeOCIArchive)
	}
	return &layoutSink{dir: dir, ship: s, bytes: semaphore.NewWeighted(parallelBlobs)}, nil
}

// lockPause is how long to wait before a layout that another process writes is looked at again.
const lockPause = 100 * time.Millisecond

// begin keeps other writers out of the layout until end.
func (l *layoutSink) begin(ctx context.Context) error {
	dir := filepath.Join(l.dir, partDir)
	for {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // images are no secret
			return err
		}
		lock := flock.New(filepath.Join(dir, "lock"))
		if _, err := lock.TryLockContext(ctx, lockPause); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue // the one before has cleaned up
			}
			return fmt.Errorf("%s is being written to: %w", l.dir, err)
		}
		// The one before may have removed the file that was waited for.
		held, err := lock.Stat()
		now, nowErr := os.Stat(lock.Path())
		if err == nil && nowErr == nil && os.SameFile(held, now) {
			l.lock = lock
			return nil
		}
		if err := lock.Unlock(); err != nil {
			return err
		}
	}
}

// end lets other writers in.
func (l *layoutSink) end() error {
	if l.lock == nil {
		return nil
	}
	err := errors.Join(removeIfThere(l.lock.Path()), l.lock.Unlock())
	_ = os.Remove(filepath.Join(l.dir, partDir)) // if nothing is left there to be taken up
	return err
}

func (l *layoutSink) blob(ctx context.Context, desc ocispec.Descriptor, p parcel, seen func(io.ReadCloser, int64) io.ReadCloser) (string, error) {
	if err := l.bytes.Acquire(ctx, 1); err != nil {
		return "", err
	}
	defer l.bytes.Release(1)
	how := howExists
	err := l.write(desc, func(offset int64) (io.ReadCloser, error) {
		how = howCopied
		rc, err := p.open(ctx, desc, offset)
		if err != nil {
			return nil, err
		}
		return seen(rc, offset), nil
	})
	return how, err
}

func (l *layoutSink) manifest(_ context.Context, p parcel) error {
	if p.subject != "" {
		l.mu.Lock()
		l.referrers = append(l.referrers, withArtifactType(p))
		l.mu.Unlock()
	}
	return l.write(p.desc, func(offset int64) (io.ReadCloser, error) { return readerOf(p.raw[offset:]), nil })
}

// write writes a blob, on from where an earlier try stopped. It gets its name when it is whole and its digest is right.
func (l *layoutSink) write(desc ocispec.Descriptor, open func(int64) (io.ReadCloser, error)) error {
	name := filepath.Join(l.dir, filepath.FromSlash(blobPath(desc)))
	if info, err := os.Stat(name); err == nil && info.Size() == desc.Size {
		return nil
	}
	part := filepath.Join(l.dir, partDir, desc.Digest.Algorithm().String()+"-"+desc.Digest.Encoded())
	for _, dir := range []string{filepath.Dir(name), filepath.Dir(part)} {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // images are no secret
			return err
		}
	}
	f, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR, 0o644) //nolint:gosec // as above
	if err != nil {
		return err
	}
	whole, err := fill(f, desc, open)
	if err == nil && !whole { // what an earlier try left may be at fault: once more from the start
		err = f.Truncate(0)
		if err == nil {
			_, err = f.Seek(0, io.SeekStart)
		}
		if err == nil {
			whole, err = fill(f, desc, open)
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err // what is there is taken up again
	}
	if !whole {
		return errors.Join(&registry.ContentError{Digest: desc.Digest}, removeIfThere(part))
	}
	return os.Rename(part, name)
}

// fill completes a blob's file, and reports whether its bytes are those of the digest.
func fill(f *os.File, desc ocispec.Descriptor, open func(int64) (io.ReadCloser, error)) (bool, error) {
	sum := desc.Digest.Verifier()
	offset, err := io.Copy(sum, io.LimitReader(f, desc.Size))
	if err != nil {
		return false, err
	}
	if offset < desc.Size {
		rc, err := open(offset)
		if err != nil {
			return false, err
		}
		n, err := io.Copy(io.MultiWriter(f, sum), io.LimitReader(rc, desc.Size-offset))
		if err := errors.Join(err, rc.Close()); err != nil {
			return false, err
		}
		offset += n
	}
	return offset == desc.Size && sum.Verified(), errors.Join(f.Truncate(offset), f.Sync())
}

// finish lists the shipment in index.json under its names.
func (l *layoutSink) finish(tags []string) error {
	if err := l.write(l.ship.desc, func(offset int64) (io.ReadCloser, error) { return readerOf(l.ship.raw[offset:]), nil }); err != nil {
		return err
	}
	have, err := l.entries()
	if err != nil {
		return err
	}
	raw, err := json.Marshal(layoutIndex(have, l.ship.desc, tags, l.referrers))
	if err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(l.dir, ocispec.ImageLayoutFile), layoutFile); err != nil {
		return err
	}
	return replaceFile(filepath.Join(l.dir, ocispec.ImageIndexFile), raw)
}

// entries is what the layout's index.json lists, nothing if there is none.
func (l *layoutSink) entries() (_ []ocispec.Descriptor, err error) {
	if _, err := os.Stat(filepath.Join(l.dir, ocispec.ImageIndexFile)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	root, err := openFolder(l.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return layout{root}.entries()
}

// now is the digest that a name stands for, or noTag.
func (l *layoutSink) now(tag string) (string, error) {
	have, err := l.entries()
	for _, d := range have {
		if d.Annotations[ocispec.AnnotationRefName] == tag && d.ArtifactType == "" {
			return d.Digest.String(), err
		}
	}
	return noTag, err
}

var layoutFile = []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)

// layoutIndex is an index.json with an entry for each name of a manifest. Entries of the same names, or without one if it has none, give way.
func layoutIndex(have []ocispec.Descriptor, desc ocispec.Descriptor, tags []string, referrers []ocispec.Descriptor) ocispec.Index {
	out := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, d := range have {
		if !slices.Contains(tags, d.Annotations[ocispec.AnnotationRefName]) || d.ArtifactType != "" && d.Digest != desc.Digest {
			out.Manifests = append(out.Manifests, d)
		}
	}
	for _, tag := range slices.Compact(slices.Sorted(slices.Values(tags))) {
		named := desc
		if tag != "" {
			named.Annotations = with(desc.Annotations, Annotation{Key: ocispec.AnnotationRefName, Value: tag})
		}
		out.Manifests = append(out.Manifests, named)
	}
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
	ship shipment

	mu        sync.Mutex // an archive is written one entry after the other
	file      *os.File
	tar       *tar.Writer
	referrers []ocispec.Descriptor
}

func newArchiveSink(name string, s shipment) (*archiveSink, error) {
	part := name + "." + rand.Text()[:8] + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666) //nolint:gosec // the umask decides, as for any output
	if err != nil {
		return nil, err
	}
	return &archiveSink{name: name, part: part, ship: s, file: f, tar: tar.NewWriter(f)}, nil
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
	rc = checked(rc, desc)
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

func (a *archiveSink) finish(tags []string) error {
	slices.SortFunc(a.referrers, compareDigests)
	top, err := json.Marshal(layoutIndex(nil, a.ship.desc, tags, a.referrers))
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
