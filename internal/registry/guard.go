package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"sync"
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

// guard is the transport that holds every request to the package's rules. What hosts.toml says of TLS, client certificates and certificates that are not checked, is for
// the host that it was written for; the certificates that it trusts are trusted for what that host sends us to, too.
type guard struct {
	own     http.RoundTripper // to the registry itself
	trusted http.RoundTripper // to what is trusted by name
	private http.RoundTripper // elsewhere, for a registry at a private address: to no address of this machine or link
	public  http.RoundTripper // elsewhere: to no private address

	proxied func(*http.Request) (*url.URL, error)
	names   []string // what is trusted

	mu sync.Mutex
	at map[string]reach // by host and port: the hosts that were dialled
}

// newGuard guards a transport that containerd made for a host, or the caller's own.
func newGuard(t *http.Transport, opt Options) *guard {
	g := &guard{names: opt.Trusted, at: map[string]reach{}}
	if opt.Transport != nil {
		if own, ok := opt.Transport.(*http.Transport); ok {
			g.proxied = own.Proxy
		}
		g.own = &watched{opt.Transport, loopback, g, true}
		g.trusted = &watched{opt.Transport, loopback, g, false}
		g.private = &watched{opt.Transport, private, g, false}
		g.public = &watched{opt.Transport, public, g, false}
		return g
	}
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 4*parallelConnections, parallelConnections
	t.ForceAttemptHTTP2 = true
	t.ResponseHeaderTimeout = 0 // a request has its own limit, and a blob's commit may take minutes
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter}
	t.ReadBufferSize, t.WriteBufferSize = bufferSize, bufferSize
	elsewhere := func(most reach) *http.Transport {
		out := t.Clone()
		if out.TLSClientConfig != nil {
			out.TLSClientConfig.Certificates, out.TLSClientConfig.InsecureSkipVerify = nil, opt.Insecure
		}
		d := dialer()
		d.Control = func(_, address string, _ syscall.RawConn) error { return refuseBeyond(most, address) }
		out.DialContext = d.DialContext
		return out
	}
	g.trusted, g.private, g.public = elsewhere(loopback), elsewhere(private), elsewhere(public)
	dial := t.DialContext // hosts.toml may give it a time of its own
	if dial == nil {
		dial = dialer().DialContext
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err == nil {
			g.note(address, conn.RemoteAddr())
		}
		return conn, err
	}
	g.own, g.proxied = t, t.Proxy
	return g
}

func dialer() *net.Dialer { return &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second} }

// note remembers where a host was found.
func (g *guard) note(host string, addr net.Addr) {
	if to, err := netip.ParseAddrPort(addr.String()); err == nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		if now, ok := g.at[host]; !ok || reachOf(to.Addr()) < now { // what was found at a public address stays there, whatever its name leads to later
			g.at[host] = reachOf(to.Addr())
		}
	}
}

// reach is from where the registry itself can be reached.
func (g *guard) reach(o origin) reach {
	if addr, err := netip.ParseAddr((&url.URL{Host: o.host}).Hostname()); err == nil {
		return reachOf(addr)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.at[withPort(o.scheme, o.host)]
}

// reach is from where an address can be reached.
type reach uint8

const (
	public   reach = iota
	private        // from within a network of somebody's own, or of a carrier's behind its NAT
	loopback       // from this machine or link alone, or from nowhere
)

var (
	// sharedSpace is what carriers use behind their NAT (RFC 6598).
	sharedSpace = netip.MustParsePrefix("100.64.0.0/10")
	// thisNetwork is what Linux takes for this machine (RFC 1122, section 3.2.1.3).
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	// translated are the prefixes behind which an IPv4 address stands (RFC 6052, section 2.1; RFC 8215; RFC 3056), and the byte at which it begins.
	translated = map[netip.Prefix][]int{
		netip.MustParsePrefix("64:ff9b::/96"):   {12, 13, 14, 15},
		netip.MustParsePrefix("64:ff9b:1::/48"): {6, 7, 9, 10},
		netip.MustParsePrefix("2002::/16"):      {2, 3, 4, 5},
		netip.MustParsePrefix("::/96"):          {12, 13, 14, 15}, // RFC 4291, section 2.5.5.1
	}
	// metadata are addresses at which clouds tell a machine its secrets, beside those of its link: Azure's, Oracle's and AWS's.
	metadata = []netip.Addr{netip.MustParseAddr("168.63.129.16"), netip.MustParseAddr("192.0.0.192"), netip.MustParseAddr("fd00:ec2::254")}
)

func reachOf(a netip.Addr) reach {
	a = a.WithZone("").Unmap()
	if a.IsLoopback() || a.IsUnspecified() || slices.Contains(metadata, a) {
		return loopback
	}
	for prefix, at := range translated {
		if prefix.Contains(a) {
			b := a.As16()
			return reachOf(netip.AddrFrom4([4]byte{b[at[0]], b[at[1]], b[at[2]], b[at[3]]}))
		}
	}
	switch {
	case a.IsLinkLocalUnicast(), a.IsMulticast(), thisNetwork.Contains(a):
		return loopback
	case a.IsPrivate(), sharedSpace.Contains(a):
		return private
	}
	return public
}

// refuseBeyond refuses an address, whatever name led to it.
func refuseBeyond(most reach, address string) error {
	if addr, err := netip.ParseAddrPort(address); err == nil && reachOf(addr.Addr()) > most {
		return atPrivate(address)
	}
	return nil
}

func atPrivate(host string) *PolicyError {
	return &PolicyError{To: host, Reason: "which is a private address and not the registry's own: --trusted-host allows it by the name, with its port, that the registry gives"}
}

// watched is a transport of the caller's. What it connects to is looked at by its traces: before it connects if it dials as net does, and before anything is sent.
type watched struct {
	http.RoundTripper

	most  reach
	guard *guard
	note  bool // where a connection leads is noted
}

func (w *watched) RoundTrip(req *http.Request) (*http.Response, error) {
	if w.guard.proxied != nil {
		if proxy, err := w.guard.proxied(req); err == nil && proxy != nil {
			return w.RoundTripper.RoundTrip(req) // where the proxy is says nothing
		}
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	refuse := func(address string) bool {
		err := refuseBeyond(w.most, address)
		if err != nil {
			cancel(err)
		}
		return err != nil
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		ConnectStart: func(_, address string) { refuse(address) },
		GotConn: func(info httptrace.GotConnInfo) {
			if refuse(info.Conn.RemoteAddr().String()) {
				_ = info.Conn.Close() // nothing goes out
			} else if w.note {
				w.guard.note(withPort(req.URL.Scheme, req.URL.Host), info.Conn.RemoteAddr())
			}
		},
	})
	res, err := w.RoundTripper.RoundTrip(req.WithContext(ctx))
	if policy, ok := errors.AsType[*PolicyError](context.Cause(ctx)); ok {
		if err == nil {
			_ = res.Body.Close()
		}
		return nil, policy
	}
	return res, err
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
	if to.Scheme != "https" && to.Scheme != from.scheme {
		return nil, &PolicyError{To: to.Host, Reason: "which would be spoken to over plain http; the registry is not"}
	}
	if sameHost(to.Scheme, to.Host, from.scheme, from.host) {
		return g.own, nil
	}
	if slices.Contains(g.names, to.Host) {
		return g.trusted, nil
	}
	most, transport := public, g.public
	switch own := g.reach(from); {
	case own == loopback && to.Hostname() == (&url.URL{Host: from.host}).Hostname():
		return g.trusted, nil // another port of the registry's machine, which is this one
	case own != public:
		most, transport = private, g.private
	}
	if addr, err := netip.ParseAddr(to.Hostname()); err == nil && reachOf(addr) > most {
		return nil, atPrivate(to.Host)
	}
	if g.proxied != nil {
		if proxy, err := g.proxied(req); err == nil && proxy != nil {
			return g.trusted, nil // the address dialled is the proxy's
		}
	}
	return transport, nil
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
