package index_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/internal/registrytest"
)

// TestErrors tells errors apart, of a registry and of its token server, and holds them to name the registry to log in to, and no query.
func TestErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		class  string
		status int
		is     error
	}{
		{name: "a wrong password", class: "token", status: http.StatusUnauthorized, is: index.ErrUnauthorized},
		{name: "no right", class: "token", status: http.StatusForbidden, is: index.ErrDenied},
		{name: "unauthorized", class: "tag", status: http.StatusUnauthorized, is: index.ErrUnauthorized},
		{name: "denied", class: "tag", status: http.StatusForbidden, is: index.ErrDenied},
		{name: "not found", class: "tag", status: http.StatusNotFound, is: index.ErrNotFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			auth := &registrytest.Auth{Registry: w.one, Realm: "http://auth.test/token"}
			w.net.Add("one.test", auth)
			w.net.Add("auth.test", http.HandlerFunc(auth.Tokens))
			w.net.Fault = func(r registrytest.Request) *registrytest.Fault {
				if r.Class == tc.class && (tc.class == "token" || r.Authorization != "") {
					return &registrytest.Fault{Status: tc.status}
				}
				return nil
			}
			_, err := w.access.Pull(t.Context(), "one.test/app:1.0")
			if !errors.Is(err, tc.is) {
				t.Fatal(err)
			}
			if errors.Is(tc.is, index.ErrNotFound) {
				return
			}
			status, ok := errors.AsType[*index.StatusError](err)
			if !ok || status.Domain != "one.test" || status.Code != tc.status {
				t.Errorf("%+v", status)
			}
			if text := err.Error(); !strings.Contains(text, "docker login one.test") || strings.Contains(text, "?") {
				t.Error(text)
			}
		})
	}
}
