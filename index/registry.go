package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config"
)

// Registry is how registries are reached. The zero value uses Docker's credentials and TLS everywhere but on
// loopback, where plain http is spoken as Docker does.
type Registry struct {
	// Credentials returns the user name and the password for a host, or an empty user name and an identity token.
	// Both empty means anonymous. Nil means what "docker login" stored, credential helpers included.
	Credentials func(host string) (user, secret string, err error)
	// PlainHTTP reports whether a host is spoken to without TLS. Nil means loopback addresses only. There is never a
	// fallback from TLS to plain http.
	PlainHTTP func(host string) (bool, error)
	// Client is the HTTP client; nil means one with bounded dial, TLS handshake and header times.
	Client *http.Client
}

// dockerHub is the key under which docker login stores the credentials of Docker Hub.
const dockerHub = "https://index.docker.io/v1/"

// dockerCredentials reads what docker login stored for a host.
func dockerCredentials(host string) (user, secret string, err error) {
	if host == "registry-1.docker.io" || host == "docker.io" {
		host = dockerHub
	}
	file, err := config.Load(config.Dir())
	if err != nil {
		return "", "", fmt.Errorf("credentials for %s: %w", host, err)
	}
	auth, err := file.GetAuthConfig(host)
	if err != nil {
		return "", "", fmt.Errorf("credentials for %s: %w", host, err)
	}
	if auth.IdentityToken != "" {
		return "", auth.IdentityToken, nil
	}
	return auth.Username, auth.Password, nil
}

func (r Registry) hosts() docker.RegistryHosts {
	client := r.Client
	if client == nil {
		transport := docker.DefaultHTTPTransport(nil)
		transport.ResponseHeaderTimeout = 60 * time.Second
		client = &http.Client{Transport: transport}
	}
	credentials := r.Credentials
	if credentials == nil {
		credentials = dockerCredentials
	}
	plain := r.PlainHTTP
	if plain == nil {
		plain = docker.MatchLocalhost
	}
	return docker.ConfigureDefaultRegistries(
		docker.WithClient(client),
		docker.WithPlainHTTP(plain),
		docker.WithAuthorizer(docker.NewDockerAuthorizer(docker.WithAuthClient(client), docker.WithAuthCreds(credentials))),
	)
}

func (r Registry) resolver() remotes.Resolver {
	return docker.NewResolver(docker.ResolverOptions{Hosts: r.hosts()})
}

// ParseReference reads an image reference as Docker does: "busybox" is docker.io/library/busybox:latest.
func ParseReference(ref string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, fmt.Errorf("invalid image reference %q: %w", ref, err)
	}
	return reference.TagNameOnly(named), nil
}

// CheckPush finds out, before anything is built, whether ref's repository can be pushed to: it begins an upload and
// takes it back. Nothing is stored. The error names registry and repository and says what to do.
func CheckPush(ctx context.Context, r Registry, ref string) error {
	named, err := ParseReference(ref)
	if err != nil {
		return err
	}
	hosts, err := r.hosts()(reference.Domain(named))
	if err != nil {
		return err
	}
	host := hosts[0]
	url := host.Scheme + "://" + host.Host + host.Path + "/" + reference.Path(named) + "/blobs/uploads/"
	ctx = docker.ContextWithAppendPullRepositoryScope(ctx, reference.Path(named))
	ctx = docker.WithScope(ctx, "repository:"+reference.Path(named)+":pull,push")
	header, err := roundTrip(ctx, host, http.MethodPost, url)
	var status *statusError
	switch {
	case errors.As(err, &status):
		return pushRefused(reference.Domain(named), reference.Path(named), status)
	case err != nil:
		return fmt.Errorf("registry %s cannot be reached: %w", reference.Domain(named), withoutURL(err))
	}
	if location := header.Get("Location"); strings.HasPrefix(location, "/") || strings.HasPrefix(location, host.Scheme+"://"+host.Host+"/") {
		if strings.HasPrefix(location, "/") {
			location = host.Scheme + "://" + host.Host + location
		}
		// An upload that is not taken back expires by itself.
		_, _ = roundTrip(ctx, host, http.MethodDelete, location)
	}
	return nil
}

// pushRefused words a registry's refusal.
func pushRefused(domain, path string, status *statusError) error {
	switch status.code {
	case http.StatusUnauthorized:
		return fmt.Errorf("registry %s does not accept the credentials for pushing to %s: run docker login %s, or check the password it stored", domain, path, domain)
	case http.StatusForbidden:
		return fmt.Errorf("registry %s does not allow pushing to %s with these credentials", domain, path)
	case http.StatusNotFound:
		return fmt.Errorf("registry %s knows no repository %s and does not make it: create it first", domain, path)
	}
	return fmt.Errorf("registry %s refuses a push to %s: %w", domain, path, status)
}

// statusError is an HTTP answer that is no success.
type statusError struct{ code int }

func (e *statusError) Error() string {
	return fmt.Sprintf("status %d %s", e.code, http.StatusText(e.code))
}

// roundTrip sends a request without a body and returns the answer's header. One challenge for credentials is answered; a
// registry that is busy (429) or failing (5xx) is asked again, when its Retry-After says or after a pause that doubles.
func roundTrip(ctx context.Context, host docker.RegistryHost, method, url string) (http.Header, error) {
	challenged := false
	for try := 0; ; {
		res, err := send(ctx, host, method, url) //nolint:bodyclose // send closed it
		if err != nil {
			return nil, err
		}
		busy := res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= http.StatusInternalServerError
		switch {
		case res.StatusCode < http.StatusMultipleChoices:
			return res.Header, nil
		case res.StatusCode == http.StatusUnauthorized && !challenged:
			challenged = true
			if err := host.Authorizer.AddResponses(ctx, []*http.Response{res}); err != nil {
				return nil, &statusError{res.StatusCode}
			}
		case busy && try < maxRetries:
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(retryPause(res.Header, try)):
			}
			try++
		default:
			return nil, &statusError{res.StatusCode}
		}
	}
}

// send sends one request. Of the answer only status and header are left.
func send(ctx context.Context, host docker.RegistryHost, method, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	if err := host.Authorizer.Authorize(ctx, req); err != nil {
		return nil, authFailure(err)
	}
	res, err := host.Client.Do(req)
	if err != nil {
		return nil, err
	}
	_, _ = io.CopyN(io.Discard, res.Body, maxErrorBody)
	return res, res.Body.Close()
}

const (
	// maxRetries bounds how often a busy or failing registry is asked again.
	maxRetries = 4
	// firstPause is the pause before the first retry where the registry names none; maxPause is the longest one.
	firstPause, maxPause = 250 * time.Millisecond, 30 * time.Second
)

// retryPause is how long to wait before another try, counted from 0: what Retry-After says in seconds, within maxPause.
func retryPause(h http.Header, try int) time.Duration {
	pause := firstPause << try
	if s, err := strconv.Atoi(h.Get("Retry-After")); err == nil && s >= 0 {
		pause = time.Duration(s) * time.Second
	}
	return min(pause, maxPause)
}

// maxErrorBody bounds how much of an answer is read before the connection is used again, in bytes.
const maxErrorBody = 64 << 10

// authFailure tells a token server's refusal from a failure to reach it.
func authFailure(err error) error {
	for _, code := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		if strings.Contains(err.Error(), fmt.Sprintf("%d %s", code, http.StatusText(code))) {
			return &statusError{code}
		}
	}
	if errors.Is(err, docker.ErrInvalidAuthorization) {
		return &statusError{http.StatusUnauthorized}
	}
	return err
}

// withoutURL drops the method and URL that net/http puts before its errors: the message around it names the registry.
func withoutURL(err error) error {
	var wrapped interface{ Unwrap() error }
	if errors.As(err, &wrapped) && strings.HasPrefix(err.Error(), "Post ") {
		return wrapped.Unwrap()
	}
	return err
}
