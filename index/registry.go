package index

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/manifold-build/manifold/internal/registry"
)

// Registry is how registries are reached. The zero value uses Docker's credentials and TLS everywhere but on
// loopback, where plain http is spoken as Docker does.
type Registry struct {
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
	// Trusted are hosts, with their port if they have one, that a registry may send requests on to although they are at private addresses.
	Trusted []string
	// Transport is what every request goes through; nil means the network.
	Transport http.RoundTripper

	kept *registry.Client // used in place of a new one
}

// keep returns a registry whose connections and tokens are used again from call to call.
func (r Registry) keep() Registry {
	r.kept = r.client()
	return r
}

func (r Registry) client() *registry.Client {
	if r.kept != nil {
		return r.kept
	}
	opt := registry.Options{
		Credentials: r.Credentials, PlainHTTP: r.PlainHTTP, Insecure: r.Insecure, CertsDirs: r.CertsDirs, Trusted: r.Trusted, Transport: r.Transport,
	}
	if opt.Credentials == nil {
		opt.Credentials = storedCredentials
	}
	return registry.New(opt)
}

// repository finds the repository of a reference.
func (r Registry) repository(ref string) (reference.Named, *registry.Repository, error) {
	named, err := ParseReference(ref)
	if err != nil {
		return nil, nil, err
	}
	repo, err := r.client().Repository(named)
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
func CheckPush(ctx context.Context, r Registry, ref string) error {
	_, repo, err := r.repository(ref)
	if err != nil {
		return err
	}
	err = repo.CheckPush(ctx)
	if status, ok := errors.AsType[*registry.StatusError](err); ok {
		return pushRefused(repo, status)
	}
	return err
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
