package registrytest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Auth is a token server, and the door of a registry that wants its tokens.
type Auth struct {
	// Registry is behind the door. Realm is the token server's URL as the registry names it.
	Registry http.Handler
	Realm    string
	// User and Password are asked for; "" means that anybody gets a token.
	User, Password string
	// Identity is an identity token that does in place of them, by POST (distribution, "OAuth2 token authentication"); "" means none.
	Identity string
	// Lifetime is how long a token is good; 0 means for ever. Silent: the registry does not say that a token has expired, only that it wants one.
	Lifetime time.Duration
	// Never: no token is ever accepted.
	Never bool
	// PushDeletes: who may push may delete, and there is no right to delete, as with Quay.
	PushDeletes bool
	// Refuse says of which repositories a token is refused; nil means of none.
	Refuse func(repository string) bool

	mu     sync.Mutex
	tokens map[string]token
	// Asked counts the requests for a token, by scope.
	asked map[string]int
}

// token is one that was given: when, and for which scopes.
type token struct {
	made   time.Time
	scopes []string
}

// Asked returns how often each scope was asked for.
func (a *Auth) Asked() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.asked)
}

// Forget makes every token that was given an unknown one.
func (a *Auth) Forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens = map[string]token{"": {}} // names go on counting
}

// Tokens is the token server.
func (a *Auth) Tokens(w http.ResponseWriter, req *http.Request) {
	user, password, _ := req.BasicAuth()
	if req.Method == http.MethodPost {
		_ = req.ParseForm()
		user, password = req.PostForm.Get("username"), req.PostForm.Get("password")
	}
	scope := strings.Join(req.URL.Query()["scope"], " ") + req.PostForm.Get("scope")
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked == nil {
		a.asked, a.tokens = map[string]int{}, map[string]token{}
	}
	a.asked[scope]++
	identity := a.Identity != "" && req.PostForm.Get("grant_type") == "refresh_token" && req.PostForm.Get("refresh_token") == a.Identity
	if a.User != "" && !identity && (user != a.User || password != a.Password) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	scopes := strings.Fields(scope)
	if a.PushDeletes && slices.ContainsFunc(scopes, func(s string) bool { return strings.HasSuffix(s, ":delete") }) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	for _, s := range scopes {
		if name, ok := strings.CutPrefix(s, "repository:"); ok && a.Refuse != nil && a.Refuse(name[:max(strings.LastIndexByte(name, ':'), 0)]) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
	}
	name := fmt.Sprintf("token-%d-canary", len(a.tokens)+1)
	a.tokens[name] = token{time.Now(), scopes}
	_, _ = w.Write(Encode(map[string]any{"token": name, "access_token": name}))
}

func (a *Auth) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	name := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
	a.mu.Lock()
	t, ok := a.tokens[name]
	a.mu.Unlock()
	needed := needs(req)
	if a.PushDeletes && req.Method == http.MethodDelete {
		needed = []string{strings.TrimSuffix(needed[0], "delete") + "pull,push"}
	}
	challenge := fmt.Sprintf(`Bearer realm=%q,service="registry"`, a.Realm)
	if len(needed) > 0 {
		challenge += fmt.Sprintf(`,scope=%q`, strings.Join(needed, " "))
	}
	switch {
	case name == "" || a.Never:
	case !ok || a.Lifetime > 0 && time.Since(t.made) > a.Lifetime:
		challenge += `,error="invalid_token"`
	case !t.covers(needed):
		challenge += `,error="insufficient_scope"`
	default:
		a.Registry.ServeHTTP(w, req)
		return
	}
	w.Header().Set("WWW-Authenticate", challenge)
	fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required, not "+name)
}

// needs are the scopes that a request needs, as distribution asks for them: to read a repository it is "pull", to write "pull,push", to delete "delete", and to mount from
// another one "pull" of that too.
func needs(req *http.Request) []string {
	path := strings.TrimPrefix(req.URL.Path, "/v2/")
	for _, kind := range []string{"/blobs/", "/manifests/", "/referrers/", "/tags/"} {
		name, _, ok := strings.Cut(path, kind)
		if !ok {
			continue
		}
		switch req.Method {
		case http.MethodGet, http.MethodHead:
			return []string{"repository:" + name + ":pull"}
		case http.MethodDelete:
			return []string{"repository:" + name + ":delete"}
		}
		out := []string{"repository:" + name + ":pull,push"}
		if from := req.URL.Query().Get("from"); from != "" {
			out = append(out, "repository:"+from+":pull")
		}
		return out
	}
	return nil
}

// covers reports whether a token is good for scopes.
func (t token) covers(needed []string) bool {
	for _, n := range needed {
		name, actions := cutScope(n)
		for action := range strings.SplitSeq(actions, ",") {
			if !slices.ContainsFunc(t.scopes, func(s string) bool {
				have, may := cutScope(s)
				return have == name && slices.Contains(strings.Split(may, ","), action)
			}) {
				return false
			}
		}
	}
	return true
}

func cutScope(s string) (name, actions string) {
	i := strings.LastIndexByte(s, ':')
	return s[:max(i, 0)], s[i+1:]
}
