package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
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
	known := &http.Response{StatusCode: res.StatusCode, Header: withoutScopes(res.Header, docker.GetTokenScopes(ctx, nil)), Request: res.Request}
	err := h.authorizer.AddResponses(withToken(ctx), []*http.Response{known})
	if err == nil {
		h.challenge = known
	}
	return err == nil, err
}

// challengedScope matches the scopes in a challenge (RFC 6750, section 3).
var challengedScope = regexp.MustCompile(`\bscope="([^"]*)"`)

// withoutScopes are the headers of a challenge without the scopes that the request asks for by itself: the authorizer would ask for them with every later token too, the one to
// read another repository among them.
func withoutScopes(h http.Header, asked []string) http.Header {
	out := h.Clone()
	for i, value := range out.Values("WWW-Authenticate") {
		out["Www-Authenticate"][i] = challengedScope.ReplaceAllStringFunc(value, func(param string) string {
			list := strings.Fields(challengedScope.FindStringSubmatch(param)[1])
			list = slices.DeleteFunc(list, func(s string) bool {
				return slices.ContainsFunc(asked, func(a string) bool { return coversScope(a, s) })
			})
			return `scope="` + strings.Join(list, " ") + `"`
		})
	}
	return out
}

// coversScope reports whether one scope holds all the rights of another.
func coversScope(have, want string) bool {
	i, j := strings.LastIndexByte(have, ':'), strings.LastIndexByte(want, ':')
	if i < 0 || j < 0 || have[:i] != want[:j] {
		return have == want
	}
	may := strings.Split(have[i+1:], ",")
	for action := range strings.SplitSeq(want[j+1:], ",") {
		if !slices.Contains(may, action) {
			return false
		}
	}
	return true
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
