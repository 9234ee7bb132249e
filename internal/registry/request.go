package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
)

// request is one request to a repository.
type request struct {
	method string
	// at is the path below the repository, or an absolute URL.
	at     string
	header map[string]string
	// open returns the body, anew for each try; nil means none. size is its length in bytes.
	open func() (io.ReadCloser, error)
	size int64
	// push asks for the right to push, remove for that to delete alone, from for the right to pull from another repository too.
	push, remove bool
	from         string
	// wait is how long the answer may take; 0 means answerWait.
	wait time.Duration
	// once forbids a second try; lost is asked before one, and ends the request well if what it does has been done.
	once bool
	lost func() bool
	// bytes: a blob goes with it, or comes. It does not count among the requests for small things, of which only so many are under way.
	bytes bool
	// unasked: no credentials are got for it that are not there.
	unasked bool
}

// errDone is a request whose answer was lost and whose effect was seen.
var errDone = errors.New("done already")

// StatusError is an answer of a registry that is no success. It wraps containerd's error for not found, unauthenticated,
// permission denied and, of too many requests, for resources that are exhausted.
type StatusError struct {
	// Method is the request's, Registry the host that answered, Object what was asked for, without any query. Domain is the registry's name, as references have it: its token server
	// and its mirrors are other hosts.
	Method, Registry, Object, Domain string
	// Code is the HTTP status, Message what the registry said, one line, "" if it said nothing.
	Code    int
	Message string
	// Token: it is the token server's answer, and not the registry's.
	Token bool
	// RetryAfter is when the registry asks to come back, 0 if it does not say.
	RetryAfter time.Duration
}

// Error names request and answer.
func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s %s%s: status %d %s", e.Method, e.Registry, e.Object, e.Code, http.StatusText(e.Code))
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// Unwrap returns containerd's error for the status, nil if there is none.
func (e *StatusError) Unwrap() error {
	if e.Token && e.Code == http.StatusNotFound {
		return nil // the object was not asked for
	}
	switch e.Code {
	case http.StatusNotFound:
		return errdefs.ErrNotFound
	case http.StatusUnauthorized:
		return errdefs.ErrUnauthenticated
	case http.StatusForbidden:
		return errdefs.ErrPermissionDenied
	case http.StatusTooManyRequests:
		return errdefs.ErrResourceExhausted
	}
	return nil
}

// do sends a request to a host of the repository, and returns a successful answer, whose body has to be closed.
func (r *Repository) do(ctx context.Context, h *host, q request) (*http.Response, error) {
	ctx = docker.WithScope(ctx, q.scope(r.path))
	if q.from != "" {
		ctx = docker.WithScope(ctx, scope(q.from, false))
	}
	ctx = withOrigin(ctx, h)
	send := func(try int) (*http.Response, error) {
		if try > 0 && q.lost != nil && q.lost() {
			return nil, &doneError{}
		}
		return r.send(ctx, h, q)
	}
	var res *http.Response
	var err error
	if q.once {
		res, err = send(0)
	} else {
		res, err = retried(ctx, send)
	}
	switch {
	case is[*doneError](err):
		return nil, errDone
	case err != nil:
		if q.lost != nil && ctx.Err() == nil && q.lost() {
			return nil, errDone
		}
		return nil, h.explain(ctx, r, err)
	case res.StatusCode >= http.StatusMultipleChoices:
		return nil, h.status(r, res)
	case res.Request.Method != q.method: // a redirect has made a GET of it
		closeBody(res)
		return nil, h.explain(ctx, r, &PolicyError{To: res.Request.URL.Host, Reason: "where a " + q.method + " became a " + res.Request.Method})
	}
	return res, nil
}

// doneError ends the tries of a request.
type doneError struct{ StatusError }

func (q request) scope(path string) string {
	if q.remove {
		return "repository:" + path + ":delete"
	}
	return scope(path, q.push)
}

func scope(path string, push bool) string {
	if push {
		return "repository:" + path + ":pull,push"
	}
	return "repository:" + path + ":pull"
}

// send sends a request, a second time if the host asks for credentials.
func (r *Repository) send(ctx context.Context, h *host, q request) (*http.Response, error) {
	refused := false
	for try := 0; ; try++ {
		res, with, err := r.sendOnce(ctx, h, q, refused)
		if err != nil {
			return nil, err
		}
		if res.StatusCode != http.StatusUnauthorized && with.token != nil {
			with.token.taken.Store(true)
		}
		if res.StatusCode != http.StatusUnauthorized || !sameHost(res.Request.URL.Scheme, res.Request.URL.Host, h.Scheme, h.Host) || try == maxChallenges || q.unasked {
			return res, nil
		}
		refused = with.token != nil
		again, err := h.challenged(ctx, res, with)
		if err != nil && !errdefs.IsNotImplemented(err) {
			_ = res.Body.Close()
			return nil, err
		}
		if !again {
			return res, nil
		}
		_, _ = io.CopyN(io.Discard, res.Body, maxErrorBody)
		_ = res.Body.Close()
	}
}

// maxChallenges bounds how often one try of a request answers a challenge: once for a token that expired, once for credentials.
const maxChallenges = 2

func (r *Repository) sendOnce(ctx context.Context, h *host, q request, own bool) (_ *http.Response, with answered, err error) {
	ctx, stop := context.WithCancelCause(ctx)
	release := func() {}
	defer func() {
		if err != nil {
			release()
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			stop(nil)
		}
	}()
	to := q.at
	if !strings.Contains(to, "://") {
		to = h.Scheme + "://" + h.Host + h.Path + "/" + r.path + q.at
		to = h.namespaced(to, r.domain)
	}
	req, err := http.NewRequestWithContext(ctx, q.method, to, http.NoBody)
	if err != nil {
		return nil, with, err
	}
	if sameHost(req.URL.Scheme, req.URL.Host, h.Scheme, h.Host) {
		maps.Copy(req.Header, h.Header)
	}
	for k, v := range q.header {
		req.Header.Set(k, v)
	}
	req.Header.Set("User-Agent", "manifold")
	var body io.ReadCloser
	if q.open != nil {
		if body, err = q.open(); err != nil {
			return nil, with, &sourceError{err}
		}
	}
	with, err = h.authorize(ctx, req, own)
	if err == nil && !q.bytes {
		release, err = h.client.request(ctx)
	}
	if err != nil {
		if body != nil {
			err = errors.Join(err, body.Close())
		}
		return nil, with, err
	}
	answer := time.AfterFunc(q.answerWait(), func() { stop(errSilent) })
	defer answer.Stop()
	if body != nil {
		answer.Reset(answerWait) // until the body begins to go out
		paced := func(body io.ReadCloser) *outgoing {
			return &outgoing{ReadCloser: body, pace: pace{cancel: stop}, left: q.size, begun: answer.Stop, sent: func() { answer.Reset(q.answerWait()) }}
		}
		out := paced(body)
		req.Body, req.ContentLength = out, q.size
		req.GetBody = func() (io.ReadCloser, error) { // again for a redirect that keeps the method
			body, err := q.open()
			if err != nil {
				return nil, err
			}
			return paced(body), nil
		}
		if q.size == 0 {
			req.Body = http.NoBody
			_ = out.Close()
		}
	}
	res, err := h.Client.Do(req)
	if err != nil {
		return nil, with, err
	}
	res.Body = newIncoming(ctx, stop, release, res.Body)
	return res, with, nil
}

func (q request) answerWait() time.Duration {
	if q.wait == 0 {
		return answerWait
	}
	return q.wait
}

// sourceError is a body that could not be read: the registry is not to blame.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// namespaced adds the query that tells a mirror whose content is asked for (containerd's "ns").
func (h *host) namespaced(to, domain string) string {
	if h.Host == domain || domain == "docker.io" && h.Host == "registry-1.docker.io" {
		return to
	}
	if strings.Contains(to, "?") {
		return to + "&ns=" + url.QueryEscape(domain)
	}
	return to + "?ns=" + url.QueryEscape(domain)
}

const (
	// maxErrorBody bounds how much of an error's body is read, in bytes, maxMessage how much of it is shown.
	maxErrorBody = 64 << 10
	maxMessage   = 300
)

// status makes an error of an answer.
func (h *host) status(r *Repository, res *http.Response) error {
	defer func() { _ = res.Body.Close() }()
	e := &StatusError{Method: res.Request.Method, Registry: res.Request.URL.Host, Object: h.client.clean(res.Request.URL.EscapedPath()), Domain: r.domain, Code: res.StatusCode}
	e.RetryAfter, _ = retryAfter(res.Header)
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorBody)) // as much as there is
	var parsed struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &parsed) == nil {
		var said []string
		for _, one := range parsed.Errors {
			said = append(said, strings.TrimSuffix(strings.TrimSpace(one.Code+": "+one.Message), ":"))
		}
		e.Message = strings.Join(said, "; ")
	}
	e.Message = h.client.clean(e.Message)
	return e
}

// clean makes one printable line of a text of someone else's, and hides secrets in it.
func (c *Client) clean(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, c.secrets.redact(text))
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}

// explain words a request that got no answer. Queries and what net/http puts in front are left out: they may hold signatures.
func (h *host) explain(ctx context.Context, r *Repository, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s, ok := errors.AsType[*sourceError](err); ok {
		return s.err
	}
	if token, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err); ok {
		return h.tokenStatus(r, token)
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	clean := &cleanError{h.client.clean(err.Error()), err}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return fmt.Errorf("registry %s cannot be reached: %w", r.domain, clean)
	}
	return fmt.Errorf("registry %s: %w", r.domain, clean)
}

// tokenStatus makes an error of a token server's answer, as of a registry's own.
func (h *host) tokenStatus(r *Repository, answer remoteerrors.ErrUnexpectedStatus) error {
	e := &StatusError{Method: answer.RequestMethod, Token: true, Domain: r.domain, Code: answer.StatusCode, Message: "no token for " + r.domain}
	if at, err := url.Parse(answer.RequestURL); err == nil {
		e.Registry, e.Object = h.client.clean(at.Host), h.client.clean(at.EscapedPath())
	}
	return e
}

// cleanError is an error whose text has been cleaned.
type cleanError struct {
	text string
	err  error
}

func (e *cleanError) Error() string { return e.text }
func (e *cleanError) Unwrap() error { return e.err }

// closeBody ends an answer, reading what little is left so that the connection is used again.
func closeBody(res *http.Response) {
	_, _ = io.CopyN(io.Discard, res.Body, maxErrorBody)
	_ = res.Body.Close()
}
