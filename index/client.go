package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/manifold-build/manifold/internal/registry"
)

// ClientOptions are how registries are reached. The zero value uses Docker's credentials and TLS everywhere but on
// loopback, where plain http is spoken as Docker does.
type ClientOptions struct {
	// Credentials returns the user name and the password for a host, or an empty user name and an identity token.
	// Both empty means anonymous. Nil means what "docker login" stored, credential helpers included, or else "podman login".
	Credentials func(host string) (user, secret string, err error)
	// PlainHTTP reports whether a host is spoken to without TLS. Nil means loopback addresses only. There is never a
	// fallback from TLS to plain http.
	PlainHTTP func(host string) (bool, error)
	// Insecure accepts any certificate.
	Insecure bool
	// CertsDirs are folders that hold one folder for each configured registry, named for its host: with a hosts.toml (containerd's registry
	// configuration: mirrors, certificates, headers), or with *.crt, *.cert and *.key as Docker has them. The first that has one counts.
	// Nil means certs.d of containerd and of Docker, the user's before the machine's; empty means none.
	CertsDirs []string
	// Trusted are hosts, with their port if the registry gives one, that a registry may send requests on to although they are at private addresses.
	Trusted []string
	// Transport is what every request goes through; nil means the network. It is held to the same rules as the network's own: where its connections lead is seen by
	// net/http/httptrace, so a transport that makes none, or does not pass the traces on, is trusted to check by itself.
	Transport http.RoundTripper
	// Stdin is what an archive called "-" is read from, Stdout what one is written to; nil means the process's.
	Stdin  io.Reader
	Stdout io.Writer
}

// Client reaches registries. Tokens and connections belong to it, and the limits of what is under way at once: 48 requests for small things, 6 blobs whose bytes are brought. One is
// meant to serve a whole run; several goroutines may use it.
type Client struct {
	opt ClientOptions
	reg *registry.Client
}

// NewClient returns a client. Nothing is asked of any registry before a method needs it.
func NewClient(opt ClientOptions) *Client {
	c := &Client{opt: opt}
	credentials := opt.Credentials
	if credentials == nil {
		credentials = storedCredentials
	}
	c.reg = registry.New(registry.Options{
		Credentials: credentials, PlainHTTP: opt.PlainHTTP, Insecure: opt.Insecure, CertsDirs: opt.CertsDirs, Trusted: opt.Trusted, Transport: opt.Transport,
	})
	return c
}

// Options returns what the client was made with; of no client, those of the default.
func (c *Client) Options() ClientOptions {
	if c == nil {
		return ClientOptions{}
	}
	return c.opt
}

// repository finds the repository of a reference.
func (c *Client) repository(ref string) (reference.Named, *registry.Repository, error) {
	named, err := ParseReference(ref)
	if err != nil {
		return nil, nil, err
	}
	repo, err := c.reg.Repository(named)
	return named, repo, err
}

// object is what a reference names within its repository: its digest, or its tag.
func object(named reference.Named) string {
	switch n := named.(type) {
	case reference.Digested:
		return n.Digest().String()
	case reference.Tagged:
		return n.Tag()
	}
	return "latest"
}

// ParseReference reads an image reference as Docker does: "busybox" is docker.io/library/busybox:latest.
func ParseReference(ref string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, fmt.Errorf("invalid image reference %q: %w", withoutUser(ref), err)
	}
	return reference.TagNameOnly(named), nil
}

// withoutUser hides the user and the password of a URL that was taken for a reference.
func withoutUser(ref string) string {
	scheme, rest, ok := strings.Cut(ref, "://")
	if !ok {
		return ref
	}
	host, path, _ := strings.Cut(rest, "/")
	if i := strings.LastIndex(host, "@"); i >= 0 {
		host = "xxxxx" + host[i:]
	}
	return scheme + "://" + host + "/" + path
}

// CheckPush finds out, before anything is built, whether ref's repository can be pushed to: it begins an upload and
// takes it back. Nothing is stored. The error names registry and repository and says what to do.
func (c *Client) CheckPush(ctx context.Context, ref string) error {
	takeBack, err := c.BeginPush(ctx, ref)
	if err == nil {
		takeBack(ctx)
	}
	return err
}

// BeginPush is [Client.CheckPush] for who does not want to wait for the upload to be taken back: the caller calls what it returns.
func (c *Client) BeginPush(ctx context.Context, ref string) (takeBack func(context.Context), err error) {
	_, repo, err := c.repository(ref)
	if err != nil {
		return nil, err
	}
	takeBack, err = repo.BeginPush(ctx)
	if status, ok := errors.AsType[*registry.StatusError](err); ok {
		return nil, pushRefused(repo, status)
	}
	return takeBack, err
}

// pushRefused words a registry's refusal.
func pushRefused(repo *registry.Repository, status *registry.StatusError) error {
	domain, path := repo.Domain(), repo.Path()
	var text string
	switch status.Code {
	case http.StatusUnauthorized:
		text = fmt.Sprintf("registry %s does not accept the credentials for pushing to %s: run docker login %s, or check the password it stored", domain, path, domain)
	case http.StatusForbidden:
		text = fmt.Sprintf("registry %s does not allow pushing to %s with these credentials", domain, path)
	case http.StatusNotFound:
		text = fmt.Sprintf("registry %s knows no repository %s and does not make it: create it first", domain, path)
	default:
		text = fmt.Sprintf("registry %s refuses a push to %s: status %d %s", domain, path, status.Code, http.StatusText(status.Code))
		if status.Message != "" {
			text += ": " + status.Message
		}
	}
	return &worded{text, status}
}

// worded is an error in other words.
type worded struct {
	text string
	err  error
}

func (e *worded) Error() string { return e.text }
func (e *worded) Unwrap() error { return e.err }

// readError names the reference in an error, and words what a user can mend.
func readError(ref string, err error) error {
	status, ok := errors.AsType[*registry.StatusError](err)
	switch {
	case errdefs.IsNotFound(err):
		return fmt.Errorf("%s: %w in its registry", ref, ErrNotFound)
	case ok && (status.Code == http.StatusUnauthorized || status.Code == http.StatusForbidden):
		return fmt.Errorf("%s: the registry does not let these credentials read it, or there is no such repository: run docker login %s (%w)", ref, status.Domain, err)
	}
	return fmt.Errorf("%s: %w", ref, err)
}

// Exists reports whether a registry holds what ref names. What cannot be found out counts as not there.
func (c *Client) Exists(ctx context.Context, ref string) bool {
	named, err := c.tagged(ctx, ref)
	return err == nil && named != noTag
}
