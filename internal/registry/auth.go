package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/auth"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
)

// host is one host that serves a registry.
type host struct {
	docker.RegistryHost

	client *Client

	mu sync.Mutex
	// challenge is what the host asked for last; its scheme is 0 until it did. own are what it asked for by the scopes of the request: repositories may have token servers of their own.
	// more are the scopes that a challenge has named beyond those that were asked for, by these: some registries spell a repository in another way.
	challenge auth.Challenge
	own       map[string]auth.Challenge
	more      map[string][]string

	loggingIn sync.Mutex
	login     *login // nil until it is asked for: a credential helper is a program that takes its time
}

// login is a user name and password, or an identity token alone.
type login struct{ user, secret string }

// credentials are asked for once, and again where those that are known are stale.
func (h *host) credentials(stale *login) (*login, error) {
	h.loggingIn.Lock()
	defer h.loggingIn.Unlock()
	if h.login != nil && h.login != stale {
		return h.login, nil
	}
	user, secret, err := h.client.credentials(h.Host)
	if err != nil {
		return nil, err
	}
	h.login = &login{user, secret}
	return h.login, nil
}

// renewed asks for the credentials again after they were refused, and reports whether there are others now: those of some helpers are good for an hour.
func (h *host) renewed(stale *login) bool {
	if stale == nil {
		return false
	}
	now, err := h.credentials(stale)
	return err == nil && *now != *stale
}

// clientID is how a token server knows us (distribution, "Docker Registry v2 authentication using OAuth2").
const clientID = "manifold"

// answered is what a host's challenge was answered with.
type answered struct {
	scheme auth.AuthenticationScheme // 0: no credentials were sent
	login  *login
	token  *token // of a bearer scheme
	scopes string // the token's
}

// authorize adds credentials to a request to this host, as its last challenge asked for them. own: a token that was got for more does not do, one was refused.
func (h *host) authorize(ctx context.Context, req *http.Request, own bool) (answered, error) {
	if !sameHost(req.URL.Scheme, req.URL.Host, h.Scheme, h.Host) {
		return answered{}, nil
	}
	h.mu.Lock()
	asked := docker.GetTokenScopes(ctx, nil)
	all := slices.Concat(asked, h.more[strings.Join(asked, " ")])
	challenge, known := h.own[strings.Join(asked, " ")]
	if !known {
		challenge = h.challenge
	}
	h.mu.Unlock()
	if challenge.Scheme == 0 {
		return answered{}, nil
	}
	login, err := h.credentials(nil)
	if err != nil {
		return answered{}, err
	}
	if challenge.Scheme == auth.BasicAuth {
		if login.user == "" || login.secret == "" {
			return answered{}, nil // the host says what it thinks of that
		}
		req.SetBasicAuth(login.user, login.secret)
		h.client.secrets.add(strings.TrimPrefix(req.Header.Get("Authorization"), "Basic "))
		return answered{scheme: auth.BasicAuth, login: login}, nil
	}
	t, err := h.token(ctx, challenge, login, all, own)
	if status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err); ok && status.StatusCode == http.StatusUnauthorized && h.renewed(login) {
		if login, err = h.credentials(nil); err == nil {
			t, err = h.token(ctx, challenge, login, all, own)
		}
	}
	if is[remoteerrors.ErrUnexpectedStatus](err) && !known {
		return answered{}, nil // it was another repository's token server: the host says which one is this one's
	}
	if err != nil {
		return answered{}, err
	}
	req.Header.Set("Authorization", "Bearer "+t.value)
	return answered{auth.BearerAuth, login, t, strings.Join(all, " ")}, nil
}

// token is one that answers a challenge.
func (h *host) token(ctx context.Context, challenge auth.Challenge, known *login, scopes []string, own bool) (*token, error) {
	opt, err := auth.GenerateTokenOptions(ctx, h.Host, known.user, known.secret, challenge)
	if err != nil {
		return nil, err
	}
	opt.Scopes = scopes
	return h.client.tokens.get(ctx, opt, own, func(ctx context.Context) (*token, error) { return h.fetchToken(ctx, opt) })
}

// fetchToken asks the token server.
func (h *host) fetchToken(ctx context.Context, opt auth.TokenOptions) (_ *token, err error) {
	release, err := h.client.request(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := context.WithTimeoutCause(withToken(ctx), answerWait, errSilent)
	defer cancel()
	defer func() {
		if err != nil && errors.Is(context.Cause(ctx), errSilent) {
			err = fmt.Errorf("the token server: %w", errSilent)
		}
	}()
	if opt.Secret != "" {
		res, err := auth.FetchTokenWithOAuth(ctx, h.Client, h.Header, clientID, opt)
		if err == nil {
			return h.newToken(res.AccessToken, res.ExpiresInSeconds), nil
		}
		if refused, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err); !ok || !wantsGet(refused.StatusCode, opt.Username) {
			return nil, err
		}
	}
	res, err := auth.FetchToken(ctx, h.Client, h.Header, opt)
	if err != nil {
		return nil, err
	}
	return h.newToken(res.Token, res.ExpiresInSeconds), nil
}

// wantsGet reports whether a token server's answer to a POST is that of one which gives tokens by GET only, as those of ACR (400), Artifactory (401) and GCR (404) have been seen to do.
// An identity token can be used in no other way.
func wantsGet(code int, user string) bool {
	switch code {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound:
		return true
	case http.StatusMethodNotAllowed:
		return user != ""
	}
	return false
}

// challenged takes a 401 in, and reports whether it is worth asking again: a token may have expired, and the host may want another one. A token that it never took it
// will not take the next time.
func (h *host) challenged(ctx context.Context, res *http.Response, with answered) (bool, error) {
	next, ok := chosen(auth.ParseAuthHeader(res.Header))
	if !ok {
		return false, fmt.Errorf("it asks for credentials in a way that is not known: %w", errdefs.ErrNotImplemented)
	}
	if next.Scheme == auth.BasicAuth {
		if known, err := h.credentials(nil); err != nil || known.user == "" || known.secret == "" {
			return false, err
		}
	}
	asked := docker.GetTokenScopes(ctx, nil)
	more := beyond(strings.Fields(next.Parameters["scope"]), asked)
	h.mu.Lock()
	key := strings.Join(asked, " ")
	before, known := h.own[key]
	if !known {
		before = h.challenge
	}
	if h.own == nil {
		h.own = map[string]auth.Challenge{}
	}
	h.challenge, h.own[key] = next, next
	if len(more) > 0 {
		if h.more == nil {
			h.more = map[string][]string{}
		}
		h.more[key] = beyond(more, h.more[key], h.more[key]...)
	}
	all := strings.Join(slices.Concat(asked, h.more[key]), " ")
	h.mu.Unlock()
	changed := before.Scheme != next.Scheme || before.Parameters["realm"] != next.Parameters["realm"] || before.Parameters["service"] != next.Parameters["service"]
	switch {
	case with.scheme == 0, changed:
		return true, nil
	case with.scheme == auth.BasicAuth:
		return h.renewed(with.login), nil
	case all != with.scopes:
		return true, nil
	}
	return h.client.tokens.drop(with.token), nil
}

// chosen is the challenge that is answered: a token's before a password's.
func chosen(list []auth.Challenge) (auth.Challenge, bool) {
	for _, c := range list {
		if c.Scheme == auth.BearerAuth && c.Parameters["realm"] != "" || c.Scheme == auth.BasicAuth {
			return c, true
		}
	}
	return auth.Challenge{}, false
}

// beyond are the scopes of a list that others do not cover, behind the first ones.
func beyond(list, others []string, first ...string) []string {
	out := slices.Clone(first)
	for _, s := range list {
		covers := func(have string) bool { return coversScope(have, s) }
		if !slices.ContainsFunc(others, covers) && !slices.ContainsFunc(out, covers) {
			out = append(out, s)
		}
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

// token is one that a token server gave.
type token struct {
	key     tokenFor
	value   string
	expires time.Time   // zero: it is not said
	taken   atomic.Bool // a registry has accepted it
}

// tokenMargin is how long before its end a token is no longer used: it has to last until the request has arrived.
const tokenMargin = 5 * time.Second

func (h *host) newToken(value string, seconds int) *token {
	h.client.secrets.add(value)
	t := &token{value: value}
	if seconds > 0 {
		life := time.Duration(seconds) * time.Second
		t.expires = time.Now().Add(max(life-tokenMargin, life/2))
	}
	return t
}

// tokenFor is what a token is for, and whose it is.
type tokenFor struct{ realm, service, scopes, user, secret string }

// tokens are those of a client. Each is asked for once, whoever waits for it.
type tokens struct {
	mu   sync.Mutex
	have map[tokenFor]*token
	turn map[tokenFor]chan struct{}
}

// get returns a token, which fetch gets if there is none that is good; one that was taken for more is. Who waits for another's request does so until his own context ends.
func (s *tokens) get(ctx context.Context, opt auth.TokenOptions, own bool, fetch func(context.Context) (*token, error)) (*token, error) {
	key := tokenFor{opt.Realm, opt.Service, strings.Join(opt.Scopes, " "), opt.Username, opt.Secret}
	t, turn := s.look(key, own)
	if t != nil {
		return t, nil
	}
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if t, _ = s.look(key, own); t != nil {
		return t, nil
	}
	t, err := fetch(ctx)
	if err != nil {
		return nil, err
	}
	t.key = key
	s.mu.Lock()
	defer s.mu.Unlock()
	s.have[key] = t
	return t, nil
}

// look returns the token if there is one that is good, and whose turn it is to ask for one.
func (s *tokens) look(key tokenFor, own bool) (*token, chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.have == nil {
		s.have, s.turn = map[tokenFor]*token{}, map[tokenFor]chan struct{}{}
	}
	if s.turn[key] == nil {
		s.turn[key] = make(chan struct{}, 1)
	}
	if t := s.have[key]; t.good() {
		return t, s.turn[key]
	}
	var found *token
	for have, t := range s.have {
		if !own && t.good() && t.taken.Load() && have.covers(key) && (found == nil || have.scopes < found.key.scopes) {
			found = t
		}
	}
	return found, s.turn[key]
}

func (t *token) good() bool { return t != nil && (t.expires.IsZero() || time.Now().Before(t.expires)) }

// covers reports whether a token for one thing is good for another.
func (f tokenFor) covers(other tokenFor) bool {
	list := strings.Fields(f.scopes)
	f.scopes, other.scopes = "", strings.Join(beyond(strings.Fields(other.scopes), list), " ")
	return f == other
}

// drop forgets a token that was refused, and reports whether another one may do better: one that was accepted before has expired.
func (s *tokens) drop(t *token) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.have[t.key] != t {
		return true // another request has done so
	}
	if !t.taken.Load() {
		return false
	}
	delete(s.have, t.key)
	return true
}

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
