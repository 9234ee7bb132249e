// Package registrytest is a network of registries within one process, for tests: no socket is opened, so that a test can run on virtual time
// (testing/synctest), and every request can be answered late, wrongly, in part or not at all.
package registrytest

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Network is hosts and the requests to them. It is an http.RoundTripper.
type Network struct {
	// Latency is how long every request takes at least.
	Latency time.Duration
	// Fault decides what goes wrong with a request; nil, or a nil result, means nothing. Handled is called after each request that a host
	// has handled.
	Fault   func(Request) *Fault
	Handled func(Request)

	deciding sync.Mutex // Fault is called by one goroutine at a time

	mu    sync.Mutex
	hosts map[string]http.Handler
	log   []Request
	hits  map[string]int
}

// Request is a request as it arrived.
type Request struct {
	// N counts all requests from 1, Hit those of this method and class.
	N, Hit int
	Host   string
	Method string
	Path   string
	// Class is token, tag, manifest (by digest), blob, upload, referrers or base.
	Class string
	// Authorization is the header of that name, Body what was sent if it is a form.
	Authorization string
	Header        http.Header
	// At is when it arrived.
	At time.Time
}

// Fault is what goes wrong with a request. The first field that is set counts.
type Fault struct {
	// Handler answers in place of the host.
	Handler http.HandlerFunc
	// Status answers with a status and Header, and nothing has happened.
	Status int
	Header http.Header
	// Reset breaks the connection before the host has seen the request.
	Reset bool
	// CutRequest breaks the connection after so many bytes of the request's body; 0 means not.
	CutRequest int64
	// LoseAnswer breaks the connection after the host has done what was asked.
	LoseAnswer bool
	// CutAnswer breaks the connection after so many bytes of the answer's body, CutAnswer-1 of them.
	CutAnswer int64
	// Delay is how long the request is held back, DelayAnswer how long the answer is, after the host has done what was asked.
	Delay       time.Duration
	DelayAnswer time.Duration
}

// NewNetwork returns a network without hosts.
func NewNetwork() *Network {
	return &Network{hosts: map[string]http.Handler{}, hits: map[string]int{}}
}

// Add adds a host, named with its port if it has one.
func (n *Network) Add(host string, h http.Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[host] = h
}

// Log returns the requests up to now.
func (n *Network) Log() []Request {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]Request(nil), n.log...)
}

// Forget empties the log and begins to count anew.
func (n *Network) Forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log, n.hits = nil, map[string]int{}
}

func classOf(path string) string {
	switch {
	case strings.Contains(path, "/blobs/uploads/"):
		return "upload"
	case strings.Contains(path, "/blobs/"):
		return "blob"
	case strings.Contains(path, "/manifests/sha256:"):
		return "manifest"
	case strings.Contains(path, "/manifests/"):
		return "tag"
	case strings.Contains(path, "/referrers/"):
		return "referrers"
	case strings.HasPrefix(path, "/token"):
		return "token"
	}
	return "base"
}

func (n *Network) arrive(req *http.Request) (Request, http.Handler, *Fault) {
	n.mu.Lock()
	r := Request{
		N: len(n.log) + 1, Host: req.URL.Host, Method: req.Method, Path: req.URL.Path, Class: classOf(req.URL.Path),
		Authorization: req.Header.Get("Authorization"), Header: req.Header.Clone(), At: time.Now(),
	}
	n.hits[r.Method+r.Class]++
	r.Hit = n.hits[r.Method+r.Class]
	n.log = append(n.log, r)
	h := n.hosts[req.URL.Host]
	n.mu.Unlock()
	var fault *Fault
	if n.Fault != nil {
		n.deciding.Lock()
		fault = n.Fault(r)
		n.deciding.Unlock()
	}
	if fault == nil {
		fault = &Fault{}
	}
	return r, h, fault
}

var errReset = &resetError{}

// resetError is a connection that the other side broke.
type resetError struct{}

func (*resetError) Error() string { return "read: connection reset by peer" }
func (*resetError) Unwrap() error { return syscall.ECONNRESET }

// RoundTrip hands a request to its host.
func (n *Network) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	body := req.Body
	if body == nil {
		body = http.NoBody
	}
	r, handler, fault := n.arrive(req)
	fail := func(err error) (*http.Response, error) { return nil, errors.Join(err, body.Close()) }
	if err := wait(ctx, n.Latency+fault.Delay); err != nil {
		return fail(err)
	}
	switch {
	case handler == nil && fault.Handler == nil:
		return fail(syscall.ECONNREFUSED)
	case fault.Reset:
		return fail(errReset)
	case fault.Handler != nil:
		handler = fault.Handler
	case fault.Status != 0:
		handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			maps.Copy(w.Header(), fault.Header)
			w.WriteHeader(fault.Status)
		})
	}
	in := req.Clone(ctx)
	in.RequestURI = req.URL.RequestURI()
	in.Host = req.URL.Host
	in.Body = body
	if fault.CutRequest > 0 {
		in.Body = &cutBody{ReadCloser: body, left: fault.CutRequest - 1}
	}
	pr, pw := io.Pipe()
	w := &answer{header: http.Header{}, ready: make(chan struct{}), body: pw}
	if fault.CutAnswer > 0 {
		w.cut, w.left = true, fault.CutAnswer-1
	}
	lost := make(chan error, 1)
	go func() {
		defer func() {
			_ = body.Close()
			if e := recover(); e != nil {
				lost <- errReset
				_ = pw.CloseWithError(errReset)
				return
			}
			if n.Handled != nil {
				n.Handled(r)
			}
			if fault.LoseAnswer {
				lost <- errReset
				return
			}
			w.finish()
		}()
		w.held = fault.LoseAnswer
		handler.ServeHTTP(w, in)
	}()
	select {
	case <-w.ready:
		if err := wait(ctx, fault.DelayAnswer); err != nil {
			_ = pr.CloseWithError(err)
			return nil, err
		}
		return &http.Response{
			Status: http.StatusText(w.code), StatusCode: w.code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: w.sent, Request: req,
			Body: &answerBody{pr, ctx, context.AfterFunc(ctx, func() { _ = pr.CloseWithError(ctx.Err()) })}, ContentLength: w.length(),
		}, nil
	case err := <-lost:
		return nil, err
	case <-ctx.Done():
		_ = pr.CloseWithError(ctx.Err())
		return nil, ctx.Err()
	}
}

func wait(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// cutBody is a body whose connection breaks.
type cutBody struct {
	io.ReadCloser

	left int64
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		panic(http.ErrAbortHandler)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}

// answer is an http.ResponseWriter at the end of a pipe.
type answer struct {
	header http.Header
	sent   http.Header
	code   int
	once   sync.Once
	ready  chan struct{}
	body   *io.PipeWriter
	held   bool // nothing goes out
	cut    bool
	left   int64
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(code int) {
	a.once.Do(func() {
		a.code, a.sent = code, a.header.Clone()
		if !a.held {
			close(a.ready)
		}
	})
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if a.held {
		return len(p), nil
	}
	if !a.cut {
		return a.body.Write(p)
	}
	some := p[:min(int64(len(p)), a.left)]
	a.left -= int64(len(some))
	if _, err := a.body.Write(some); err != nil {
		return 0, err
	}
	if a.left == 0 {
		panic(http.ErrAbortHandler)
	}
	return len(p), nil
}

// Flush is there for handlers that dribble.
func (a *answer) Flush() { a.WriteHeader(http.StatusOK) }

func (a *answer) finish() {
	a.WriteHeader(http.StatusOK)
	_ = a.body.Close()
}

func (a *answer) length() int64 {
	if a.sent.Get("Content-Length") == "" {
		return -1
	}
	var n int64
	for _, c := range a.sent.Get("Content-Length") {
		n = 10*n + int64(c-'0')
	}
	return n
}

// answerBody is what the client reads.
type answerBody struct {
	*io.PipeReader

	ctx  context.Context //nolint:containedctx // a body lives as long as its request
	stop func() bool
}

func (b *answerBody) Close() error {
	b.stop()
	return b.PipeReader.Close()
}
