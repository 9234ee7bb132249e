package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes/docker"
)

// host is one host that serves a registry.
type host struct {
	docker.RegistryHost

	client *Client

	mu         sync.Mutex
	authorizer docker.Authorizer
	generation int             // counts the authorizers
	accepted   map[string]bool // the scopes whose token of this generation was accepted
	challenge  *http.Response  // the last one that was answered; only its header and its request count
	asking     map[string]chan struct{}
}

// renew forgets every token.
func (h *host) renew() {
	h.authorizer = docker.NewDockerAuthorizer(docker.WithAuthClient(h.Client), docker.WithAuthCreds(h.client.credentials), docker.WithAuthHeader(h.Header))
	h.generation++
	h.accepted = map[string]bool{}
}

func (h *host) current() (docker.Authorizer, int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.authorizer, h.generation
}

// authorize adds the credentials to a request to this host, and returns which generation of tokens they are of.
func (h *host) authorize(ctx context.Context, req *http.Request) (int, error) {
	authorizer, generation := h.current()
	if !sameHost(req.URL.Scheme, req.URL.Host, h.Scheme, h.Host) {
		return generation, nil
	}
	req.URL.Host = h.Host // the authorizer knows it by that name
	// One at a time for each scope: containerd's authorizer reads a token's end without its lock.
	turn := h.turn(scopes(ctx))
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return generation, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, answerWait, errSilent)
	defer cancel()
	err := authorizer.Authorize(withToken(ctx), req)
	if err != nil {
		if transient(err) {
			h.forget(generation) // it would keep the failure for ever
		}
		if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
			err = fmt.Errorf("the token server: %w", errSilent)
		}
	}
	if _, token, ok := strings.Cut(req.Header.Get("Authorization"), " "); ok {
		h.client.secrets.add(token)
	}
	return generation, err
}

// turn is taken by whoever asks for a token of some scopes.
func (h *host) turn(scopes string) chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.asking[scopes] == nil {
		h.asking[scopes] = make(chan struct{}, 1)
	}
	return h.asking[scopes]
}

// forget renews the tokens of a generation, once.
func (h *host) forget(generation int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.generation == generation {
		header := h.challenge
		h.renew()
		if header != nil {
			_ = h.authorizer.AddResponses(withToken(context.Background()), []*http.Response{header}) // it was taken before
		}
	}
}

// accept notes that the registry took a token.
func (h *host) accept(ctx context.Context, generation int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.generation == generation {
		h.accepted[scopes(ctx)] = true
	}
}

// challenged takes a 401 in, and reports whether it is worth asking again. A token that was taken before may have expired: all are
// forgotten, once. One that never was taken will not be.
func (h *host) challenged(ctx context.Context, res *http.Response, generation int) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sent := res.Request.Header.Get("Authorization") != ""
	switch {
	case h.generation != generation:
		return true, nil // another request has renewed them
	case sent && !h.accepted[scopes(ctx)]:
		return false, nil
	case sent:
		h.renew()
	}
	err := h.authorizer.AddResponses(withToken(ctx), []*http.Response{res})
	if err == nil {
		h.challenge = &http.Response{StatusCode: res.StatusCode, Header: res.Header, Request: res.Request}
	}
	return err == nil, err
}

func scopes(ctx context.Context) string { return strings.Join(docker.GetTokenScopes(ctx, nil), " ") }

// secrets are what no message may show.
type secrets struct {
	mu   sync.Mutex
	list map[string]bool
}

// minSecret is the length below which a string is no secret but would be found in every message, in bytes.
const minSecret = 4

func (s *secrets) add(secret string) {
	if len(secret) < minSecret {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list == nil {
		s.list = map[string]bool{}
	}
	s.list[secret] = true
}

// redact hides the secrets in a text of someone else's.
func (s *secrets) redact(text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for secret := range s.list {
		text = strings.ReplaceAll(text, secret, "xxxxx")
	}
	return text
}
