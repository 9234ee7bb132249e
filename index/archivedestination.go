package index

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/internal/ocijson"
)

// stream is what an archive is called that is read from standard input, or written to standard output.
const stream = "-"

// IsStream reports whether a name is that of an archive which is read from standard input, or written to standard output.
func IsStream(name string) bool {
	scheme, file, _ := split(name)
	return scheme != "" && file == stream
}

// FileOf is a layout's or an archive's name without what is named in it: oci-layout:DIR of oci-layout:DIR:1.0. Not ok means that a name is in a registry.
func FileOf(name string) (_ string, ok bool) {
	scheme, file, _ := split(name)
	return scheme + file, scheme != ""
}

// archiveDestination is an OCI image layout in a tar archive, for docker save's format with a manifest.json beside it. It appears under its name when it is complete.
type archiveDestination struct {
	client *Client
	scheme string
	file   string
	what   publication
	names  []layoutName
	part   *os.File // nil for a stream, and when it is finished

	mu        sync.Mutex // an archive is written one entry after the other
	tar       *tar.Writer
	referrers []ocispec.Descriptor
}

func newArchiveDestination(c *Client, scheme, file string, what publication) (*archiveDestination, error) {
	d := &archiveDestination{client: c, scheme: scheme, file: file, what: what}
	if file == stream {
		out := c.opt.Stdout
		if out == nil {
			out = os.Stdout
		}
		d.tar = tar.NewWriter(out)
		return d, nil
	}
	part := file + "." + rand.Text()[:8] + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666) //nolint:gosec // the umask decides, as for any output
	if err != nil {
		return nil, err
	}
	d.part, d.tar = f, tar.NewWriter(f)
	return d, nil
}

// String is the file.
func (d *archiveDestination) String() string { return d.file }

func (d *archiveDestination) refs() []string { return refsOf(d.names) }

func (d *archiveDestination) parallel() int { return 1 }

func (d *archiveDestination) begin(context.Context) error { return nil }

func (d *archiveDestination) put(ctx context.Context, desc ocispec.Descriptor, a artifact, seen func(io.ReadCloser, int64) io.ReadCloser) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	release, err := d.client.reg.Blob(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	rc, err := a.open(ctx, desc, 0)
	if err != nil {
		return "", err
	}
	rc = checked(rc, desc)
	return howCopied, errors.Join(d.write(blobPath(desc), desc.Size, seen(rc, 0)), rc.Close())
}

func blobPath(desc ocispec.Descriptor) string {
	return "blobs/" + desc.Digest.Algorithm().String() + "/" + desc.Digest.Encoded()
}

// write adds a file. Its time is the epoch, so that the same content makes the same archive.
func (d *archiveDestination) write(name string, size int64, content io.Reader) error {
	if err := d.tar.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	n, err := io.Copy(d.tar, content)
	if err == nil && n != size {
		err = fmt.Errorf("%s has %d bytes, not %d", name, n, size)
	}
	return err
}

func (d *archiveDestination) writeRaw(name string, raw []byte) error {
	return d.write(name, int64(len(raw)), readerOf(raw))
}

func (d *archiveDestination) putManifest(_ context.Context, a artifact) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a.subject != "" {
		d.referrers = append(d.referrers, withArtifactType(a))
	}
	return d.writeRaw(blobPath(a.desc), a.raw)
}

// holds: an archive is written anew, it holds no name.
func (d *archiveDestination) holds(context.Context) error {
	for _, n := range d.names {
		if err := n.stands(func(string) (string, error) { return noTag, nil }); err != nil {
			return err
		}
	}
	return nil
}

func (d *archiveDestination) finish(context.Context) ([]Receipt, error) {
	return receiptsOf(d.names, d.what, d.complete())
}

func (d *archiveDestination) complete() error {
	slices.SortFunc(d.referrers, compareDigests)
	listed := layoutIndex(nil, d.what.desc, tagsOf(d.names), d.referrers)
	if d.scheme == schemeDockerArchive {
		listed = d.dockerIndex()
	}
	top, err := json.Marshal(listed)
	if err != nil {
		return err
	}
	err = errors.Join(d.writeRaw(blobPath(d.what.desc), d.what.raw), d.writeRaw(ocispec.ImageIndexFile, top), d.writeRaw(ocispec.ImageLayoutFile, layoutFile))
	if err == nil && d.scheme == schemeDockerArchive {
		err = d.writeDocker()
	}
	if err == nil { // without its end nobody takes it for a whole one
		err = d.tar.Close()
	}
	if d.part == nil || err != nil {
		return err
	}
	if err := errors.Join(d.part.Sync(), d.part.Close()); err != nil {
		return err
	}
	if err := os.Rename(d.part.Name(), d.file); err != nil {
		return err
	}
	d.part = nil
	return nil
}

// writeDocker writes the manifest.json of docker save, which every docker load and podman load reads. It points to the layout's blobs, as Docker has it since version 25; compressed
// layers are decompressed by those who load them.
func (d *archiveDestination) writeDocker() error {
	var m ocispec.Manifest
	if err := ocijson.Manifest(d.what.raw, d.what.desc.MediaType, &m); err != nil {
		return err
	}
	image := dockerImage{Config: blobPath(m.Config), RepoTags: []string{}, Layers: []string{}}
	for _, l := range m.Layers {
		image.Layers = append(image.Layers, blobPath(l))
	}
	for _, named := range d.images() {
		image.RepoTags = append(image.RepoTags, reference.FamiliarString(named))
	}
	raw, err := json.Marshal([]dockerImage{image})
	if err != nil {
		return err
	}
	return d.writeRaw(dockerManifest, raw)
}

// dockerIndex is the index.json of an archive that docker load reads: an entry for each name, as Docker and containerd write it, and nothing that is no image.
func (d *archiveDestination) dockerIndex() ocispec.Index {
	out := layoutIndex(nil, d.what.desc, nil, nil)
	for _, named := range d.images() {
		entry := d.what.desc
		entry.Annotations = with(entry.Annotations, Annotation{Key: annotationContainerdName, Value: named.String()})
		entry.Annotations = with(entry.Annotations, Annotation{Key: ocispec.AnnotationRefName, Value: object(named)})
		out.Manifests = append(out.Manifests, entry)
	}
	if len(out.Manifests) == 0 {
		out.Manifests = append(out.Manifests, d.what.desc)
	}
	return out
}

// images are the names that docker load gives the image. They have been looked at before.
func (d *archiveDestination) images() []reference.Named {
	var out []reference.Named
	for _, n := range d.names {
		if named, err := ParseReference(n.tag); n.tag != "" && err == nil && !slices.ContainsFunc(out, func(have reference.Named) bool { return have.String() == named.String() }) {
			out = append(out, named)
		}
	}
	return out
}

// dockerName checks a name that docker load is to give an image.
func dockerName(name, tag string) error {
	if tag == "" {
		return nil
	}
	named, err := ParseReference(tag)
	if err != nil {
		return fmt.Errorf("%s: docker load wants a name such as app:1.0 behind the file's: %w", name, err)
	}
	_, digested := named.(reference.Digested)
	if _, err := digest.Parse(tag); err == nil || digested {
		return fmt.Errorf("%s: docker load gives an image a tag, not a digest", name)
	}
	return nil
}

func (d *archiveDestination) abort() error {
	if d.part == nil {
		return nil
	}
	_ = d.part.Close() // perhaps it is closed
	return removeIfThere(d.part.Name())
}
