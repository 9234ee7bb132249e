package registry

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ContentError is content that is not what its descriptor says.
type ContentError struct {
	Digest digest.Digest
	// Problem is what is wrong; "" means that the bytes are not those of the digest.
	Problem string
}

// Error names the digest.
func (e *ContentError) Error() string {
	if e.Problem != "" {
		return fmt.Sprintf("%s: %s", e.Digest, e.Problem)
	}
	return fmt.Sprintf("%s: the bytes that came are not those of the digest", e.Digest)
}

// errShort is a body that ended early.
var errShort = errors.New("the body ends early")

// Fetch opens a blob, or a manifest by its digest. Reading takes up again where a connection broke, and ends with an error if the bytes
// are not those of the digest. The descriptor's urls are not looked at.
func (r *Repository) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return r.fetch(ctx, desc, 0, desc.Digest.Validate() == nil, false)
}

// FetchSmall is Fetch for what is read whole and closed at once, as a manifest or a config: it counts among the requests for small things.
func (r *Repository) FetchSmall(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return r.fetch(ctx, desc, 0, true, true)
}

// FetchFrom is Fetch for the bytes from an offset on, for whoever checks them: only their number is looked at here.
func (r *Repository) FetchFrom(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	return r.fetch(ctx, desc, offset, false, false)
}

func (r *Repository) fetch(ctx context.Context, desc ocispec.Descriptor, offset int64, check, small bool) (io.ReadCloser, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("digest %q: %w", desc.Digest, err)
	}
	kind := "/blobs/"
	if images.IsManifestType(desc.MediaType) || images.IsIndexType(desc.MediaType) {
		kind = "/manifests/"
	}
	var errs []error
	for _, h := range r.hosts {
		if !h.Capabilities.Has(docker.HostCapabilityPull) {
			continue
		}
		b := &blob{repo: r, host: h, desc: desc, at: kind + desc.Digest.String(), offset: offset, small: small, ctx: ctx}
		if check {
			b.sum = desc.Digest.Algorithm().Hash()
		}
		err := b.open()
		if err == nil {
			return b, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		errs = append(errs, err)
	}
	if len(errs) > 0 && errdefs.IsNotFound(errs[len(errs)-1]) {
		return nil, errs[len(errs)-1]
	}
	return nil, errors.Join(errs...)
}

// blob is the content of a descriptor, read over as many requests as it takes.
type blob struct {
	repo *Repository
	host *host
	desc ocispec.Descriptor
	at   string
	// small: see FetchSmall.
	small bool

	mu     sync.Mutex // Close may come while Read waits: HTTP/2 does that
	body   io.ReadCloser
	closed bool

	sum    hash.Hash
	offset int64
	tries  int
	fresh  int64           // bytes since the last try
	ctx    context.Context //nolint:containedctx // a reader lives as long as its request
}

func (b *blob) open() error {
	q := request{method: http.MethodGet, at: b.at, bytes: !b.small, header: map[string]string{"Accept": b.desc.MediaType + ", */*"}}
	if b.offset > 0 {
		q.header["Range"] = fmt.Sprintf("bytes=%d-", b.offset)
	}
	res, err := b.repo.do(b.ctx, b.host, q)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.body = res.Body
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return errors.Join(errClosed, res.Body.Close())
	}
	if b.offset == 0 && res.ContentLength >= 0 && res.ContentLength != b.desc.Size {
		_ = res.Body.Close()
		return &ContentError{b.desc.Digest, fmt.Sprintf("the registry has %d bytes under it, its descriptor says %d", res.ContentLength, b.desc.Size)}
	}
	switch {
	case b.offset > 0 && res.StatusCode == http.StatusPartialContent:
		if !strings.HasPrefix(res.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", b.offset)) {
			_ = res.Body.Close()
			return fmt.Errorf("%s: asked for the bytes from %d, the registry sends %q", b.desc.Digest, b.offset, res.Header.Get("Content-Range"))
		}
	case b.offset > 0: // the registry does not do ranges
		if _, err := io.CopyN(io.Discard, res.Body, b.offset); err != nil {
			_ = res.Body.Close()
			return b.host.explain(b.ctx, b.repo, err)
		}
	}
	return nil
}

// Read reads on, over a new connection if the old one broke.
func (b *blob) Read(p []byte) (int, error) {
	for {
		if b.offset >= b.desc.Size {
			return b.end(p)
		}
		if int64(len(p)) > b.desc.Size-b.offset {
			p = p[:b.desc.Size-b.offset]
		}
		n, err := b.body.Read(p)
		if n > 0 {
			b.offset += int64(n)
			if b.sum != nil {
				_, _ = b.sum.Write(p[:n]) // a hash does not fail
			}
			if b.fresh += int64(n); b.fresh >= enoughProgress {
				b.tries, b.fresh = 0, 0
			}
			return n, nil
		}
		if err == nil {
			continue
		}
		if err := b.again(err); err != nil {
			return 0, err
		}
	}
}

// again opens the blob at the place where it broke.
func (b *blob) again(broke error) error {
	if errors.Is(broke, io.EOF) {
		broke = errShort
	}
	_ = b.body.Close()
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return errClosed
	}
	if b.tries++; b.tries >= maxTries || b.ctx.Err() != nil {
		return b.host.explain(b.ctx, b.repo, fmt.Errorf("%s: after %d of %d bytes: %w", b.desc.Digest, b.offset, b.desc.Size, broke))
	}
	if err := sleep(b.ctx, backoff(b.tries-1)); err != nil {
		return err
	}
	return b.open()
}

// end checks what was read.
func (b *blob) end(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	var one [1]byte
	if n, _ := b.body.Read(one[:]); n > 0 {
		return 0, &ContentError{b.desc.Digest, fmt.Sprintf("more than the %d bytes of its descriptor came", b.desc.Size)}
	}
	if b.sum != nil && digest.NewDigest(b.desc.Digest.Algorithm(), b.sum) != b.desc.Digest {
		return 0, &ContentError{Digest: b.desc.Digest}
	}
	return 0, io.EOF
}

// Close ends the request.
func (b *blob) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return b.body.Close()
}

// errClosed is what a reader says that was closed meanwhile.
var errClosed = errors.New("the blob is closed")

// enoughProgress is how many bytes have to come before a broken connection counts as the first one again.
const enoughProgress = 64 << 10

// HasBlob asks whether the repository that is pushed to holds a blob.
func (r *Repository) HasBlob(ctx context.Context, d digest.Digest) (bool, error) {
	h, err := r.pushHost()
	if err != nil {
		return false, err
	}
	return r.has(ctx, h, d, false)
}

func (r *Repository) has(ctx context.Context, h *host, d digest.Digest, once bool) (bool, error) {
	res, err := r.do(ctx, h, request{method: http.MethodHead, at: "/blobs/" + d.String(), push: true, once: once})
	if noHead(err) {
		res, err = r.do(ctx, h, request{method: http.MethodGet, at: "/blobs/" + d.String(), push: true, once: once, header: firstByte})
	}
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_ = res.Body.Close() // it may be the whole blob
	return true, nil
}

// firstByte asks for no more of a blob than tells that it is there.
var firstByte = map[string]string{"Range": "bytes=0-0"}

// noHead reports whether a host says that it does not answer HEAD, as some do that stand before a registry: it is asked by GET then.
func noHead(err error) bool {
	status, ok := errors.AsType[*StatusError](err)
	return ok && status.Method == http.MethodHead && (status.Code == http.StatusMethodNotAllowed || status.Code == http.StatusNotImplemented)
}

// StatBlob asks for a blob's size, in bytes; -1 if the registry does not say.
func (r *Repository) StatBlob(ctx context.Context, d digest.Digest) (size int64, err error) {
	err = r.read(ctx, d.String(), request{method: http.MethodHead, at: "/blobs/" + d.String()}, func(_ *host, res *http.Response) error {
		size = contentLength(res.Header)
		return nil
	})
	if noHead(err) {
		err = r.read(ctx, d.String(), request{method: http.MethodGet, at: "/blobs/" + d.String()}, func(_ *host, res *http.Response) error {
			size = contentLength(res.Header)
			return nil
		})
	}
	return size, err
}

// Mount asks the registry to take a blob over from another repository of it, and reports whether it did. A registry that does not may offer an upload session
// instead, for PutBlob; empty means that it does not. Whoever refuses, the registry or the token server that gives no right to read there: the bytes may still be taken.
func (r *Repository) Mount(ctx context.Context, d digest.Digest, from string) (mounted bool, session string, _ error) {
	h, err := r.pushHost()
	if err != nil {
		return false, "", err
	}
	query := url.Values{"mount": {d.String()}, "from": {from}}
	res, err := r.do(ctx, h, request{method: http.MethodPost, at: uploads + "?" + query.Encode(), push: true, from: from})
	if is[*StatusError](err) || is[remoteerrors.ErrUnexpectedStatus](err) {
		return false, "", nil
	}
	if err != nil {
		return false, "", err
	}
	closeBody(res)
	if res.StatusCode == http.StatusCreated {
		return true, "", nil
	}
	session, err = location(res, d)
	if err != nil {
		return false, "", nil //nolint:nilerr // it offers none
	}
	return false, session, nil
}

// takeBack ends an upload session that is not used. One that is not taken back expires by itself: a registry that wants the right to delete for it is not asked for that.
func (r *Repository) takeBack(ctx context.Context, h *host, to *url.URL) {
	if to == nil || !sameHost(to.Scheme, to.Host, h.Scheme, h.Host) {
		return
	}
	if res, err := r.do(ctx, h, request{method: http.MethodDelete, at: to.String(), push: true, once: true, unasked: true}); err == nil {
		closeBody(res)
	}
}

// sessionOf is where an answer says that an upload goes on; nil if it does not say.
func sessionOf(res *http.Response) *url.URL {
	to, err := res.Location()
	if err != nil {
		return nil
	}
	return to
}

const uploads = "/blobs/uploads/"

// PutBlob puts a blob into the repository. Open returns the bytes, anew for each try. session is one that [Repository.Mount] was offered; empty means none.
func (r *Repository) PutBlob(ctx context.Context, desc ocispec.Descriptor, session string, open func() (io.ReadCloser, error)) error {
	h, err := r.pushHost()
	if err != nil {
		return err
	}
	begun := time.Now()
	for try := 0; ; try++ {
		if session == "" {
			if session, err = r.session(ctx, h, desc.Digest); err != nil {
				return err // it has been tried often enough
			}
		}
		err = r.upload(ctx, h, desc, session, open)
		session = ""
		if err == nil || ctx.Err() != nil || !again(err) || try+1 >= maxTries {
			return err
		}
		if there, err := r.has(ctx, h, desc.Digest, true); err == nil && there {
			return nil // the answer was lost, not the blob
		}
		pause := backoff(try)
		if status, ok := errors.AsType[*StatusError](err); ok && status.RetryAfter > maxRetryAfter {
			return h.explain(ctx, r, &lateError{status.Code, status.RetryAfter})
		} else if ok {
			pause = max(pause, status.RetryAfter)
			if time.Since(begun)+pause > maxTrying {
				return err
			}
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// again reports whether an upload is worth a new session.
func again(err error) bool {
	if s, ok := errors.AsType[*StatusError](err); ok {
		return busy(s.Code) || s.Code == http.StatusNotFound || s.Code == http.StatusRequestedRangeNotSatisfiable
	}
	if is[*brokenSourceError](err) {
		return false
	}
	return transient(err)
}

// brokenSourceError is a blob whose bytes could not be read.
type brokenSourceError struct{ error }

func (e *brokenSourceError) Unwrap() error { return e.error }

// upload sends the blob in one request (distribution-spec, "POST then PUT").
func (r *Repository) upload(ctx context.Context, h *host, desc ocispec.Descriptor, session string, open func() (io.ReadCloser, error)) error {
	var failed atomic.Pointer[brokenSourceError] // the body may still be read when the answer is there
	res, err := r.do(ctx, h, request{
		method: http.MethodPut, at: session, push: true, once: true, bytes: true, wait: commitWait, size: desc.Size,
		header: map[string]string{"Content-Type": "application/octet-stream"},
		open: func() (io.ReadCloser, error) {
			rc, err := open()
			if err != nil {
				failed.Store(&brokenSourceError{err})
				return nil, err
			}
			return &tapped{ReadCloser: rc, failed: &failed}, nil
		},
	})
	if err != nil {
		if broken := failed.Load(); broken != nil {
			return broken
		}
		return err
	}
	closeBody(res)
	if res.StatusCode == http.StatusAccepted { // taken, and not yet stored
		there, err := r.has(ctx, h, desc.Digest, false)
		if err == nil && !there {
			err = fmt.Errorf("registry %s: it took blob %s and does not have it", r.domain, desc.Digest)
		}
		return err
	}
	return nil
}

// tapped is a body that remembers why it could not be read.
type tapped struct {
	io.ReadCloser

	failed *atomic.Pointer[brokenSourceError]
}

func (t *tapped) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		t.failed.Store(&brokenSourceError{err})
	}
	return n, err
}

// session begins an upload, and returns where the bytes go.
func (r *Repository) session(ctx context.Context, h *host, d digest.Digest) (string, error) {
	res, err := r.do(ctx, h, request{method: http.MethodPost, at: uploads, push: true})
	if err != nil {
		return "", err
	}
	closeBody(res)
	return location(res, d)
}

// location is where an upload goes on, with the digest that ends it.
func location(res *http.Response, d digest.Digest) (string, error) {
	to, err := res.Location()
	if err != nil {
		return "", fmt.Errorf("the registry does not say where the upload goes on: %w", err)
	}
	query := to.Query()
	query.Set("digest", d.String())
	to.RawQuery = query.Encode()
	return to.String(), nil
}

// BeginPush begins an upload, to find out whether that is allowed. What it returns takes the upload back: nothing is stored.
func (r *Repository) BeginPush(ctx context.Context) (takeBack func(context.Context), err error) {
	h, err := r.pushHost()
	if err != nil {
		return nil, err
	}
	res, err := r.do(ctx, h, request{method: http.MethodPost, at: uploads, push: true})
	if err != nil {
		return nil, err
	}
	to := sessionOf(res)
	closeBody(res)
	return func(ctx context.Context) { r.takeBack(ctx, h, to) }, nil
}

// CheckPush begins an upload and takes it back. Nothing is stored.
func (r *Repository) CheckPush(ctx context.Context) error {
	takeBack, err := r.BeginPush(ctx)
	if err == nil {
		takeBack(ctx)
	}
	return err
}
