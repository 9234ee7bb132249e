package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxManifest bounds a manifest, an index and a list page, in bytes, as registries do.
const MaxManifest = 4 << 20

// accepted are the media types of manifests that are asked for.
var accepted = strings.Join([]string{
	ocispec.MediaTypeImageIndex, images.MediaTypeDockerSchema2ManifestList,
	ocispec.MediaTypeImageManifest, images.MediaTypeDockerSchema2Manifest, "*/*",
}, ", ")

const contentDigest = "Docker-Content-Digest"

// Manifest reads what a tag or a digest names, in one request, and checks the bytes against the digest.
func (r *Repository) Manifest(ctx context.Context, object string) (desc ocispec.Descriptor, raw []byte, err error) {
	err = r.read(ctx, object, request{method: http.MethodGet, at: "/manifests/" + object, header: map[string]string{"Accept": accepted}},
		func(_ *host, res *http.Response) error {
			if raw, err = readBounded(res, "a manifest"); err != nil {
				return err
			}
			desc, err = described(object, res.Header, digest.FromBytes(raw), int64(len(raw)))
			if err == nil && desc.Digest.Algorithm().FromBytes(raw) != desc.Digest {
				err = &ContentError{Digest: desc.Digest}
			}
			return err
		})
	return desc, raw, err
}

// Stat asks what a tag or a digest names.
func (r *Repository) Stat(ctx context.Context, object string) (desc ocispec.Descriptor, err error) {
	err = r.read(ctx, object, request{method: http.MethodHead, at: "/manifests/" + object, header: map[string]string{"Accept": accepted}},
		func(_ *host, res *http.Response) error {
			if res.Header.Get(contentDigest) == "" {
				return errNoDigest
			}
			desc, err = described(object, res.Header, "", res.ContentLength)
			return err
		})
	if errors.Is(err, errNoDigest) || noHead(err) { // the header is optional (distribution-spec, "Pulling manifests")
		desc, _, err = r.Manifest(ctx, object)
	}
	return desc, err
}

// StatPushed is Stat of the host that is pushed to: what a mirror says, of before or of something else, does not count.
func (r *Repository) StatPushed(ctx context.Context, object string) (ocispec.Descriptor, error) {
	return r.pushed().Stat(ctx, object)
}

// ManifestPushed is Manifest of the host that is pushed to.
func (r *Repository) ManifestPushed(ctx context.Context, object string) (ocispec.Descriptor, []byte, error) {
	return r.pushed().Manifest(ctx, object)
}

// pushed is the repository without its mirrors.
func (r *Repository) pushed() *Repository {
	own := *r
	own.hosts = nil
	if h, err := r.pushHost(); err == nil {
		own.hosts = []*host{h}
	}
	return &own
}

var errNoDigest = errors.New("no digest in the header")

// described makes the descriptor of a manifest from an answer's header. The digest that was asked for is the one that counts, then the
// registry's, then that of the bytes.
func described(object string, header http.Header, bytes digest.Digest, size int64) (ocispec.Descriptor, error) {
	mediaType, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("the registry does not say what %s is: %w", object, err)
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: bytes, Size: size}
	if said := header.Get(contentDigest); said != "" {
		desc.Digest = digest.Digest(said)
	}
	if asked, err := digest.Parse(object); err == nil {
		desc.Digest = asked
	}
	if err := desc.Digest.Validate(); err != nil {
		return desc, fmt.Errorf("the digest in the registry's answer: %w", err)
	}
	return desc, nil
}

// read sends a request that reads to one host after the other, mirrors first, until one has the object.
func (r *Repository) read(ctx context.Context, object string, q request, use func(*host, *http.Response) error) error {
	need := docker.HostCapabilityResolve
	if _, err := digest.Parse(object); err == nil {
		need = docker.HostCapabilityPull
	}
	var errs []error
	for _, h := range r.hosts {
		if !h.Capabilities.Has(need) {
			continue
		}
		err := r.readFrom(ctx, h, q, use)
		if err == nil || ctx.Err() != nil {
			return err
		}
		errs = append(errs, err)
	}
	switch n := len(errs); n {
	case 0:
		return fmt.Errorf("registry %s: its hosts.toml names no host to pull from", r.domain)
	case 1:
		return errs[0]
	default:
		if errdefs.IsNotFound(errs[n-1]) { // the registry itself is the last one
			return errs[n-1]
		}
		return errors.Join(errs...)
	}
}

func (r *Repository) readFrom(ctx context.Context, h *host, q request, use func(*host, *http.Response) error) error {
	for try := 0; ; try++ {
		res, err := r.do(ctx, h, q)
		if err != nil {
			return err
		}
		err = use(h, res)
		_ = res.Body.Close()
		broken, ok := errors.AsType[*brokenError](err)
		if !ok {
			return err
		}
		if try+1 >= maxTries {
			return h.explain(ctx, r, broken.err)
		}
		if err := sleep(ctx, backoff(try)); err != nil {
			return err
		}
	}
}

// brokenError is a body that ended before its time: it is worth asking again.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// readBounded reads a body of at most MaxManifest bytes.
func readBounded(res *http.Response, what string) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(res.Body, MaxManifest+1))
	if err != nil {
		return nil, &brokenError{err}
	}
	if len(raw) > MaxManifest {
		return nil, fmt.Errorf("%s of more than %d bytes", what, MaxManifest)
	}
	return raw, nil
}

// PutManifest puts a manifest under a tag or its digest, in one request. An answer that is lost is looked for before it is sent again. It
// reports whether the registry keeps the manifest as a referrer of its subject: by what it says, or, where that was lost, by whether it lists referrers.
func (r *Repository) PutManifest(ctx context.Context, object string, desc ocispec.Descriptor, raw []byte) (subject bool, err error) {
	h, err := r.pushHost()
	if err != nil {
		return false, err
	}
	res, err := r.do(ctx, h, request{
		method: http.MethodPut, at: "/manifests/" + object, push: true,
		header: map[string]string{"Content-Type": desc.MediaType},
		open:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }, size: int64(len(raw)),
		lost: func() bool {
			there, err := r.statOnce(ctx, h, "/manifests/"+object)
			return err == nil && there.Get(contentDigest) == desc.Digest.String()
		},
	})
	if errors.Is(err, errDone) {
		d := subjectOf(raw)
		return d != "" && r.listsReferrers(ctx, d), nil
	}
	if err != nil {
		return false, err
	}
	closeBody(res)
	return res.Header.Get("Oci-Subject") != "", nil
}

// PutReferrer is PutManifest, and lists a manifest that has a subject under the tag that stands in for the referrers API, where the registry keeps no referrers itself. It
// is for one at a time: the tag is read and put again.
func (r *Repository) PutReferrer(ctx context.Context, object string, desc ocispec.Descriptor, raw []byte) error {
	kept, err := r.PutManifest(ctx, object, desc, raw)
	d := subjectOf(raw)
	if err != nil || kept || d == "" {
		return err
	}
	return r.addReferrer(ctx, d, desc, raw)
}

// subjectOf is the digest of a manifest's subject; empty if it has none.
func subjectOf(raw []byte) digest.Digest {
	var doc struct {
		Subject *ocispec.Descriptor `json:"subject"`
	}
	if json.Unmarshal(raw, &doc) != nil || doc.Subject == nil || doc.Subject.Digest.Validate() != nil {
		return ""
	}
	return doc.Subject.Digest
}

// DeleteManifest deletes a tag, or a manifest by its digest (distribution-spec, "Deleting tags", "Deleting Manifests").
func (r *Repository) DeleteManifest(ctx context.Context, object string) error {
	h, err := r.pushHost()
	if err != nil {
		return err
	}
	q := request{method: http.MethodDelete, at: "/manifests/" + object, remove: true}
	q.lost = func() bool {
		_, err := r.statOnce(ctx, h, q.at)
		return errdefs.IsNotFound(err)
	}
	err = r.delete(ctx, h, q)
	if status, ok := errors.AsType[*StatusError](err); ok && status.Token {
		q.remove, q.push = false, true // Quay's knows no right to delete
		err = r.delete(ctx, h, q)
	}
	return err
}

func (r *Repository) delete(ctx context.Context, h *host, q request) error {
	res, err := r.do(ctx, h, q)
	if errors.Is(err, errDone) {
		return nil
	}
	if err != nil {
		return err
	}
	closeBody(res)
	return nil
}

// statOnce asks for an object without a second try.
func (r *Repository) statOnce(ctx context.Context, h *host, at string) (http.Header, error) {
	res, err := r.do(ctx, h, request{method: http.MethodHead, at: at, once: true, push: true, header: map[string]string{"Accept": accepted}})
	if err != nil {
		return nil, err
	}
	closeBody(res)
	return res.Header, nil
}

// pushHost is the host that is pushed to: never a mirror.
func (r *Repository) pushHost() (*host, error) {
	for _, h := range r.hosts {
		if h.Capabilities.Has(docker.HostCapabilityPush) {
			return h, nil
		}
	}
	return nil, fmt.Errorf("registry %s: its hosts.toml names no host to push to", r.domain)
}

// contentLength is the size that an answer announces, -1 if it does not.
func contentLength(h http.Header) int64 {
	n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	if err != nil {
		return -1
	}
	return n
}
