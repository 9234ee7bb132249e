package registry

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"golang.org/x/sync/semaphore"
)

// Options is how registries are reached. The zero value uses TLS everywhere but on loopback, without credentials.
type Options struct {
	// Credentials returns the user name and the password for a host, or an empty user name and an identity token. Both
	// empty means anonymous, as does nil.
	Credentials func(host string) (user, secret string, err error)
	// PlainHTTP reports whether a host is spoken to without TLS. Nil means loopback addresses only.
	PlainHTTP func(host string) (bool, error)
	// Insecure accepts any certificate.
	Insecure bool
	// CertsDirs are the folders searched for a folder named for the host, with hosts.toml or Docker's *.crt, *.cert and *.key; the first
	// that has one counts. Nil means DefaultCertsDirs; empty means none.
	CertsDirs []string
	// Trusted are hosts, with their ports if they have one, that a registry may send us to although they are at private addresses.
	Trusted []string
	// Transport is what requests go through; nil means the network.
	Transport http.RoundTripper
}

// DefaultCertsDirs are where containerd and Docker keep certificates and mirrors of registries: the user's, then the machine's.
func DefaultCertsDirs() []string {
	var out []string
	if dir, err := os.UserConfigDir(); err == nil {
		out = append(out, filepath.Join(dir, "containerd", "certs.d"), filepath.Join(dir, "docker", "certs.d"))
	}
	return append(out, "/etc/containerd/certs.d", "/etc/docker/certs.d")
}

const (
	// parallelRequests bounds the requests for small things that a client has under way at once, parallelBlobs the blobs whose bytes are.
	parallelRequests = 48
	parallelBlobs    = 6
)

// Client reaches registries. It keeps connections and tokens; one is meant to serve a whole run. It may be used by several goroutines.
type Client struct {
	opt     Options
	secrets secrets
	tokens  tokens

	requests, blobs *semaphore.Weighted

	mu    sync.Mutex
	hosts map[string][]*host // by the domain in a reference
}

// New returns a client.
func New(opt Options) *Client {
	return &Client{
		opt: opt, hosts: map[string][]*host{}, requests: semaphore.NewWeighted(parallelRequests), blobs: semaphore.NewWeighted(parallelBlobs),
	}
}

// request waits until one more request for something small may be under way. Release has to be called when its answer is read; it may be called again.
func (c *Client) request(ctx context.Context) (release func(), _ error) {
	return acquire(ctx, c.requests)
}

// Blob waits until the bytes of one more blob may be under way, to a registry or from one. Release has to be called when they are there; it may be called again.
func (c *Client) Blob(ctx context.Context) (release func(), _ error) { return acquire(ctx, c.blobs) }

func acquire(ctx context.Context, s *semaphore.Weighted) (func(), error) {
	if err := s.Acquire(ctx, 1); err != nil {
		return func() {}, context.Cause(ctx)
	}
	return sync.OnceFunc(func() { s.Release(1) }), nil
}

// Repository is one repository of a registry.
type Repository struct {
	named  reference.Named
	domain string
	path   string
	hosts  []*host
}

// Repository returns the repository that a reference is in.
func (c *Client) Repository(named reference.Named) (*Repository, error) {
	domain := reference.Domain(named)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hosts[domain] == nil {
		hosts, err := c.configure(domain)
		if err != nil {
			return nil, fmt.Errorf("registry %s: %w", domain, err)
		}
		c.hosts[domain] = hosts
	}
	return &Repository{named: reference.TrimNamed(named), domain: domain, path: reference.Path(named), hosts: c.hosts[domain]}, nil
}

// String is the repository's name, its registry in front.
func (r *Repository) String() string { return r.named.String() }

// Domain is the registry as references name it.
func (r *Repository) Domain() string { return r.domain }

// Mirrored reports whether what is read need not come from the host that is pushed to.
func (r *Repository) Mirrored() bool { return len(r.hosts) != 1 }

// Path is the repository's name within its registry.
func (r *Repository) Path() string { return r.path }

// configure finds the hosts that serve a registry: its mirrors, then itself.
func (c *Client) configure(domain string) ([]*host, error) {
	dir, err := c.hostDir(domain)
	if err != nil {
		return nil, err
	}
	plainHTTP := c.opt.PlainHTTP
	if plainHTTP == nil {
		plainHTTP = docker.MatchLocalhost
	}
	plain, err := plainHTTP(domain)
	if err != nil {
		return nil, err
	}
	opt := config.HostOptions{DefaultScheme: "https", Credentials: c.credentials, UpdateClient: c.guard}
	switch {
	case plain && (dir == "" || c.opt.PlainHTTP != nil):
		opt.DefaultScheme = "http"
	case dir != "":
		opt.HostDir = func(string) (string, error) { return dir, nil }
	}
	list, err := config.ConfigureHosts(context.Background(), opt)(domain)
	if err != nil {
		return nil, err
	}
	hosts := make([]*host, len(list))
	for i, h := range list {
		h.Header = canonical(h.Header)
		hosts[i] = &host{RegistryHost: h, client: c}
	}
	return hosts, nil
}

// canonical spells a header's names as net/http does; hosts.toml may have them in any case.
func canonical(h http.Header) http.Header {
	out := http.Header{}
	for k, values := range h {
		for _, v := range values {
			out.Add(k, v)
		}
	}
	return out
}

// hostDir is the folder that configures a registry, "" if there is none.
func (c *Client) hostDir(domain string) (string, error) {
	dirs := c.opt.CertsDirs
	if dirs == nil {
		dirs = DefaultCertsDirs()
	}
	for _, root := range dirs {
		dir, err := config.HostDirFromRoot(root)(domain)
		if err == nil || !errdefs.IsNotFound(err) {
			return dir, err
		}
	}
	return "", nil
}

func (c *Client) credentials(host string) (string, string, error) {
	if c.opt.Credentials == nil {
		return "", "", nil
	}
	user, secret, err := c.opt.Credentials(host)
	c.secrets.add(secret)
	return user, secret, err
}

// guard puts the rules of the package around a client that containerd made.
func (c *Client) guard(client *http.Client) error {
	transport, ok := client.Transport.(*http.Transport)
	if !ok {
		return nil // it is there already
	}
	if c.opt.Insecure {
		if transport.TLSClientConfig == nil {
			transport.TLSClientConfig = &tls.Config{}
		}
		transport.TLSClientConfig.InsecureSkipVerify = true // the user asked for it
	}
	client.Transport = newGuard(transport, c.opt)
	client.CheckRedirect = checkRedirect
	return nil
}
