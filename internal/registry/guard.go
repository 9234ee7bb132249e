package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
	"time"
)

const (
	// maxRedirects bounds how often one request is sent on.
	maxRedirects = 5
	// maxToken bounds a token server's answer, in bytes.
	maxToken = 128 << 10
	// bufferSize is that of a connection, each way, in bytes: net/http's own 4 KiB cost layers dearly.
	bufferSize = 128 << 10
	// pingAfter is how long an HTTP/2 connection may be silent before it is asked whether it is alive, and how long the answer may take.
	pingAfter = 15 * time.Second
	// parallelConnections is how many idle connections to one host are kept.
	parallelConnections = 64
)

// originKey and tokenKey mark a request's context: the host that the request is for, and that it asks for a token.
type (
	originKey struct{}
	tokenKey  struct{}
)

type origin struct {
	scheme, host string
	header       http.Header // what hosts.toml adds
}

func withOrigin(ctx context.Context, h *host) context.Context {
	return context.WithValue(ctx, originKey{}, origin{h.Scheme, h.Host, h.Header})
}

func withToken(ctx context.Context) context.Context { return context.WithValue(ctx, tokenKey{}, true) }

// PolicyError is a request that is not sent, because of where a registry sends us.
type PolicyError struct {
	// To is the host that was named, Reason why it is not asked.
	To, Reason string
}

// Error says where the registry sent us.
func (e *PolicyError) Error() string { return fmt.Sprintf("sent on to %s, %s", e.To, e.Reason) }

// guard is the transport that holds every request to the package's rules.
type guard struct {
	inside  http.RoundTripper // to the registry itself
	outside http.RoundTripper // elsewhere: dials no private address
	proxied func(*http.Request) (*url.URL, error)
	trusted []string
}

func newGuard(t *http.Transport, opt Options) *guard {
	if opt.Transport != nil {
		return &guard{inside: opt.Transport, outside: opt.Transport, trusted: opt.Trusted}
	}
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 4*parallelConnections, parallelConnections
	t.ForceAttemptHTTP2 = true
	t.ResponseHeaderTimeout = 0 // a request has its own limit, and a blob's commit may take minutes
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter}
	t.ReadBufferSize, t.WriteBufferSize = bufferSize, bufferSize
	outside := t.Clone()
	outside.DialContext = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second, Control: dialPublic}).DialContext
	return &guard{inside: t, outside: outside, proxied: t.Proxy, trusted: opt.Trusted}
}

// dialPublic refuses a connection to a private address, whatever name led to it.
func dialPublic(_, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err == nil && private(addr.Addr()) {
		err = &PolicyError{To: address, Reason: atPrivate}
	}
	return err
}

const atPrivate = "which is a private address and not the registry's own (a host of your own can be trusted by name)"

// sharedSpace is what carriers use behind their NAT (RFC 6598).
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

func private(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast() || sharedSpace.Contains(a)
}

// RoundTrip sends a request if it may be sent.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	from, ok := req.Context().Value(originKey{}).(origin)
	if !ok {
		return nil, errors.New("a request for no registry") // a mistake of ours
	}
	token := req.Context().Value(tokenKey{}) != nil
	transport, err := g.route(req, from)
	if err != nil {
		if req.Body != nil {
			err = errors.Join(err, req.Body.Close())
		}
		return nil, err
	}
	req = from.strip(req)
	if !token {
		return transport.RoundTrip(req)
	}
	res, err := retried(req.Context(), func(int) (*http.Response, error) { return resend(transport, req) })
	if err != nil {
		return nil, err
	}
	res.Body = &bounded{ReadCloser: res.Body, left: maxToken, what: "the token server's answer"}
	return res, nil
}

// strip takes out what hosts.toml adds for the registry, if a request goes elsewhere.
func (o origin) strip(req *http.Request) *http.Request {
	if len(o.header) == 0 || sameHost(req.URL.Scheme, req.URL.Host, o.scheme, o.host) {
		return req
	}
	req = req.Clone(req.Context())
	for k, values := range o.header {
		left := slices.DeleteFunc(slices.Clone(req.Header[k]), func(v string) bool { return slices.Contains(values, v) })
		if req.Header[k] = left; len(left) == 0 {
			delete(req.Header, k)
		}
	}
	return req
}

// sameHost reports whether two URLs lead to one host, by the same scheme.
func sameHost(schemeA, hostA, schemeB, hostB string) bool {
	return schemeA == schemeB && withPort(schemeA, hostA) == withPort(schemeB, hostB)
}

// withPort is a host with its scheme's port, if it names none.
func withPort(scheme, host string) string {
	if u := (&url.URL{Host: host}); u.Port() != "" {
		return host
	}
	if scheme == "https" {
		return host + ":443"
	}
	return host + ":80"
}

// route chooses the transport.
func (g *guard) route(req *http.Request, from origin) (http.RoundTripper, error) {
	to := req.URL
	switch {
	case to.Scheme != "https" && to.Scheme != from.scheme:
		return nil, &PolicyError{To: to.Host, Reason: "which would be spoken to over plain http; the registry is not"}
	case to.Host == from.host, slices.Contains(g.trusted, to.Host), to.Hostname() == (&url.URL{Host: from.host}).Hostname():
		return g.inside, nil
	}
	if addr, err := netip.ParseAddr(to.Hostname()); err == nil && private(addr) {
		return nil, &PolicyError{To: to.Host, Reason: atPrivate}
	}
	if g.proxied != nil {
		if proxy, err := g.proxied(req); err == nil && proxy != nil {
			return g.inside, nil // the address dialled is the proxy's
		}
	}
	return g.outside, nil
}

// resend sends a request again, its body from the start.
func resend(transport http.RoundTripper, req *http.Request) (*http.Response, error) {
	again := req.Clone(req.Context())
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		again.Body = body
	}
	return transport.RoundTrip(again)
}

// checkRedirect decides on a redirect. Credentials stay with the host they are for; a body that holds them is not sent on at all.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	// Credentials that have been taken off once are not put on again: net/http copies the first request's header for each hop.
	first, left := via[0].URL, false
	for _, v := range append(slices.Clone(via[1:]), req) {
		left = left || !sameHost(v.URL.Scheme, v.URL.Host, first.Scheme, first.Host)
	}
	if !left {
		return nil
	}
	req.Header.Del("Authorization")
	req.Header.Del("Referer") // it may hold a signed URL
	if req.Context().Value(tokenKey{}) != nil && req.Method == http.MethodPost {
		return &PolicyError{To: req.URL.Host, Reason: "with the credentials in the request's body"}
	}
	return nil
}

// tooLargeError is an answer that is larger than is accepted.
type tooLargeError struct{ what string }

func (e *tooLargeError) Error() string { return e.what + " is larger than is accepted" }

// bounded reads at most so many bytes, and then fails.
type bounded struct {
	io.ReadCloser

	left int64
	what string
}

func (b *bounded) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		return n, &tooLargeError{b.what}
	}
	return n, err
}
