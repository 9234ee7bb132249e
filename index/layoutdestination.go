package index

import (
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
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/internal/registry"
)

// layoutDestination is an OCI image layout in a folder. What a transfer that broke off has left is taken up again.
type layoutDestination struct {
	client *Client
	dir    string
	what   publication
	names  []layoutName
	lock   *flock.Flock // nil until begin

	mu        sync.Mutex
	referrers []ocispec.Descriptor
}

// layoutName is a name within a layout or an archive: as it was written, the name there, and [Move.Unless].
type layoutName struct{ ref, tag, unless string }

// stands checks that a name stands for what it should before it moves, as [Client.stands] does for tags. now is what it stands for.
func (n layoutName) stands(now func(tag string) (string, error)) error {
	if n.unless == "" {
		return nil
	}
	have, err := now(n.tag)
	if err == nil && have != n.unless {
		err = fmt.Errorf("%w: %s, not %s", ErrMoved, have, n.unless)
	}
	if err != nil {
		return &TagError{Ref: n.ref, Err: err}
	}
	return nil
}

// partDir is the folder of a layout for blobs that are not whole; containerd's content store has the same.
const partDir = "ingest"

func newLayoutDestination(c *Client, dir string, what publication) (*layoutDestination, error) {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("%s is a file; an archive is written with %s", dir, schemeOCIArchive)
	}
	return &layoutDestination{client: c, dir: dir, what: what}, nil
}

// String is the folder.
func (d *layoutDestination) String() string { return d.dir }

func (d *layoutDestination) refs() []string { return refsOf(d.names) }

func refsOf(names []layoutName) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = n.ref
	}
	return out
}

func tagsOf(names []layoutName) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = n.tag
	}
	return out
}

// receiptsOf are those of names that all stand for one thing now; a failure is the first one's.
func receiptsOf(names []layoutName, what publication, err error) ([]Receipt, error) {
	if err != nil {
		return nil, &TagError{Ref: names[0].ref, Err: err}
	}
	out := make([]Receipt, len(names))
	for i, n := range names {
		out[i] = Receipt{Ref: n.ref, Digest: what.desc.Digest}
	}
	return out, nil
}

func (d *layoutDestination) parallel() int { return parallelRequests }

// lockPause is how long to wait before a layout that another process writes is looked at again.
const lockPause = 100 * time.Millisecond

// begin keeps other writers out of the layout until abort.
func (d *layoutDestination) begin(ctx context.Context) error {
	dir := filepath.Join(d.dir, partDir)
	for {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // images are no secret
			return err
		}
		lock := flock.New(filepath.Join(dir, "lock"))
		if _, err := lock.TryLockContext(ctx, lockPause); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue // the one before has cleaned up
			}
			return fmt.Errorf("%s is being written to: %w", d.dir, err)
		}
		// The one before may have removed the file that was waited for.
		held, err := lock.Stat()
		now, nowErr := os.Stat(lock.Path())
		if err == nil && nowErr == nil && os.SameFile(held, now) {
			d.lock = lock
			return nil
		}
		if err := lock.Unlock(); err != nil {
			return err
		}
	}
}

// abort lets other writers in. What is there of blobs stays.
func (d *layoutDestination) abort() error {
	if d.lock == nil {
		return nil
	}
	err := errors.Join(removeIfThere(d.lock.Path()), d.lock.Unlock())
	_ = os.Remove(filepath.Join(d.dir, partDir)) // if nothing is left there to be taken up
	return err
}

func (d *layoutDestination) put(ctx context.Context, desc ocispec.Descriptor, a artifact, seen func(io.ReadCloser, int64) io.ReadCloser) (string, error) {
	release, err := d.client.reg.Blob(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	how := howExists
	err = d.write(desc, func(offset int64) (io.ReadCloser, error) {
		how = howCopied
		rc, err := a.open(ctx, desc, offset)
		if err != nil {
			return nil, err
		}
		return seen(rc, offset), nil
	})
	return how, err
}

func (d *layoutDestination) putManifest(_ context.Context, a artifact) error {
	if a.subject != "" {
		d.mu.Lock()
		d.referrers = append(d.referrers, withArtifactType(a))
		d.mu.Unlock()
	}
	return d.write(a.desc, func(offset int64) (io.ReadCloser, error) { return readerOf(a.raw[offset:]), nil })
}

func (d *layoutDestination) holds(context.Context) error {
	for _, n := range d.names {
		if err := n.stands(d.now); err != nil {
			return err
		}
	}
	return nil
}

// write writes a blob, on from where an earlier try stopped. It gets its name when it is whole and its digest is right.
func (d *layoutDestination) write(desc ocispec.Descriptor, open func(int64) (io.ReadCloser, error)) error {
	name := filepath.Join(d.dir, filepath.FromSlash(blobPath(desc)))
	if info, err := os.Stat(name); err == nil && info.Size() == desc.Size {
		return nil
	}
	part := filepath.Join(d.dir, partDir, desc.Digest.Algorithm().String()+"-"+desc.Digest.Encoded())
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

// finish lists the publication in index.json under its names.
func (d *layoutDestination) finish(context.Context) ([]Receipt, error) {
	return receiptsOf(d.names, d.what, d.list())
}

func (d *layoutDestination) list() error {
	if err := d.write(d.what.desc, func(offset int64) (io.ReadCloser, error) { return readerOf(d.what.raw[offset:]), nil }); err != nil {
		return err
	}
	have, err := d.entries()
	if err != nil {
		return err
	}
	raw, err := json.Marshal(layoutIndex(have, d.what.desc, tagsOf(d.names), d.referrers))
	if err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(d.dir, ocispec.ImageLayoutFile), layoutFile); err != nil {
		return err
	}
	return replaceFile(filepath.Join(d.dir, ocispec.ImageIndexFile), raw)
}

// entries is what the layout's index.json lists, nothing if there is none.
func (d *layoutDestination) entries() (_ []ocispec.Descriptor, err error) {
	if _, err := os.Stat(filepath.Join(d.dir, ocispec.ImageIndexFile)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	root, err := openFolder(d.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return layout{root}.entries()
}

// now is the digest that a name stands for, or noTag.
func (d *layoutDestination) now(tag string) (string, error) {
	have, err := d.entries()
	for _, entry := range have {
		if entry.Annotations[ocispec.AnnotationRefName] == tag && entry.ArtifactType == "" {
			return entry.Digest.String(), err
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
		// docker load, with containerd's store, and ctr take the name of the image from here, and no other.
		if ref, err := ParseReference(tag); err == nil && strings.ContainsAny(tag, ":/") {
			named.Annotations = with(named.Annotations, Annotation{Key: annotationContainerdName, Value: ref.String()})
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
func withArtifactType(a artifact) ocispec.Descriptor {
	d := a.desc
	if d.ArtifactType == "" {
		var m struct {
			ArtifactType string             `json:"artifactType"`
			Config       ocispec.Descriptor `json:"config"`
		}
		if json.Unmarshal(a.raw, &m) == nil {
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
