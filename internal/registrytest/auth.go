package registrytest

import (
	"fmt"
	"maps"
	"net/http"
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
	// Lifetime is how long a token is good; 0 means for ever. Silent: the registry does not say that a token has expired, only that it wants one.
	Lifetime time.Duration
	// Never: no token is ever accepted.
	Never bool

	mu     sync.Mutex
	tokens map[string]time.Time
	// Asked counts the requests for a token, by scope.
	asked map[string]int
}

// Asked returns how often each scope was asked for.
func (a *Auth) Asked() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.asked)
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
		a.asked, a.tokens = map[string]int{}, map[string]time.Time{}
	}
	a.asked[scope]++
	if a.User != "" && (user != a.User || password != a.Password) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	token := fmt.Sprintf("token-%d-canary", len(a.tokens)+1)
	a.tokens[token] = time.Now()
	_, _ = w.Write(Encode(map[string]any{"token": token, "access_token": token}))
}

func (a *Auth) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
	a.mu.Lock()
	made, ok := a.tokens[token]
	a.mu.Unlock()
	challenge := fmt.Sprintf(`Bearer realm=%q,service="registry"`, a.Realm)
	if name, _, found := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"), "/manifests/"); found {
		challenge += fmt.Sprintf(`,scope="repository:%s:pull"`, name)
	}
	switch {
	case token == "" || a.Never:
	case !ok || a.Lifetime > 0 && time.Since(made) > a.Lifetime:
		challenge += `,error="invalid_token"`
	default:
		a.Registry.ServeHTTP(w, req)
		return
	}
	w.Header().Set("WWW-Authenticate", challenge)
	fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required, not "+token)
}
