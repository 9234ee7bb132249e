package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/internal/registrytest"
)

// door is a network with a registry behind a token server that asks for scopes as distribution does.
func door(refuse func(string) bool) (*registrytest.Network, *registrytest.Registry, *registrytest.Auth) {
	n, r := registrytest.NewNetwork(), registrytest.NewRegistry()
	a := &registrytest.Auth{Registry: r, Realm: "http://reg.test/token", User: "founder", Password: canary, Refuse: refuse}
	n.Add("reg.test", http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/token" {
			a.Tokens(w, req)
			return
		}
		a.ServeHTTP(w, req)
	}))
	return n, r, a
}

// TestMounts asks for a mount in the ways that registries answer one, and puts the blob where it is not mounted: in the session that was offered, and without a right that is not needed.
func TestMounts(t *testing.T) {
	t.Parallel()
	blob := []byte("a layer")
	for _, tc := range []struct {
		name    string
		answer  int // of the registry to a mount; 0 means that it mounts
		refuse  func(string) bool
		mounted bool
		posts   int // uploads that are begun, the mount's own included
	}{
		{name: "mounted", mounted: true, posts: 1},
		{name: "a session instead", answer: http.StatusAccepted, posts: 1},
		{name: "unauthorized", answer: http.StatusUnauthorized, posts: 2},
		{name: "denied", answer: http.StatusForbidden, posts: 2},
		{name: "not found", answer: http.StatusNotFound, posts: 2},
		{name: "not allowed", answer: http.StatusMethodNotAllowed, posts: 2},
		{name: "no right to read there", refuse: func(name string) bool { return name == "other" }, posts: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n, r, a := door(tc.refuse)
			desc := r.PutBlob("other", ocispec.MediaTypeImageLayer, blob)
			r.NoMount = tc.answer
			repo := repository(t, options(n, "http"), "reg.test/app")
			mounted, session, err := repo.Mount(t.Context(), desc.Digest, "other")
			if err != nil || mounted != tc.mounted {
				t.Fatal(mounted, err)
			}
			if !mounted {
				if err := repo.PutBlob(t.Context(), desc, session, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil }); err != nil {
					t.Fatal(err)
				}
			}
			if there, err := repo.HasBlob(t.Context(), desc.Digest); err != nil || !there {
				t.Error("it is not there", err)
			}
			posts := 0
			for _, req := range n.Log() {
				switch {
				case req.Method == http.MethodDelete:
					t.Error("something is deleted")
				case req.Method == http.MethodPost && strings.HasPrefix(req.Path, "/v2/app/blobs/uploads/") && req.Authorization != "":
					posts++
				}
			}
			if posts != tc.posts {
				t.Errorf("%d uploads are begun, want %d", posts, tc.posts)
			}
			for scope := range a.Asked() {
				if strings.Contains(scope, "delete") {
					t.Errorf("a token for %s is asked for", scope)
				}
			}
		})
	}
}

// TestCheckPushAsksForNoMore looks whether a repository can be pushed to, without a right to delete.
func TestCheckPushAsksForNoMore(t *testing.T) {
	t.Parallel()
	n, _, a := door(nil)
	if err := repository(t, options(n, "http"), "reg.test/app").CheckPush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for scope := range a.Asked() {
		if strings.Contains(scope, "delete") {
			t.Errorf("a token for %s is asked for", scope)
		}
	}
}

// TestNoHead asks registries that answer no HEAD.
func TestNoHead(t *testing.T) {
	t.Parallel()
	for _, code := range []int{http.StatusMethodNotAllowed, http.StatusNotImplemented} {
		n, r, _ := door(nil)
		blob := r.PutBlob("app", ocispec.MediaTypeImageLayer, []byte("a layer"))
		config := r.PutBlob("app", ocispec.MediaTypeImageConfig, []byte("{}"))
		desc := r.PutManifest("app", "1", ocispec.MediaTypeImageManifest, registrytest.Encode(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config}))
		n.Fault = func(req registrytest.Request) *registrytest.Fault {
			if req.Method == http.MethodHead {
				return &registrytest.Fault{Status: code}
			}
			return nil
		}
		repo := repository(t, options(n, "http"), "reg.test/app")
		if got, err := repo.Stat(t.Context(), "1"); err != nil || got.Digest != desc.Digest {
			t.Errorf("%d: the tag: %v %v", code, got.Digest, err)
		}
		if there, err := repo.HasBlob(t.Context(), blob.Digest); err != nil || !there {
			t.Errorf("%d: the blob: %v %v", code, there, err)
		}
		if there, err := repo.HasBlob(t.Context(), digest.FromString("nothing")); err != nil || there {
			t.Errorf("%d: a blob that is not there: %v %v", code, there, err)
		}
		if size, err := repo.StatBlob(t.Context(), blob.Digest); err != nil || size != blob.Size {
			t.Errorf("%d: the blob's size: %d %v", code, size, err)
		}
	}
}

// TestReferrersOfAll lists referrers in registries that have the API, and in those that say in one of many ways that they do not; there the tag stands in for it, with the
// artifact type and the annotations. A lost answer makes no tag where the API is.
func TestReferrersOfAll(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		code int // of the answer to the API; 0 means that it is there
		lost bool
	}{
		{}, {lost: true}, {code: http.StatusNotFound}, {code: http.StatusBadRequest}, {code: http.StatusForbidden}, {code: http.StatusMethodNotAllowed}, {code: http.StatusNotAcceptable}, {code: http.StatusNotImplemented},
		{code: http.StatusNotFound, lost: true},
	} {
		t.Run(fmt.Sprint(tc.code, tc.lost), func(t *testing.T) {
			t.Parallel()
			n, r, _ := door(nil)
			r.NoReferrers = tc.code != 0
			config := r.PutBlob("app", ocispec.MediaTypeEmptyJSON, []byte("{}"))
			subject := r.PutManifest("app", "1", ocispec.MediaTypeImageManifest, registrytest.Encode(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config}))
			raw := registrytest.Encode(ocispec.Manifest{
				MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.test", Config: config, Subject: &subject, Annotations: map[string]string{"a": "b"},
			})
			desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
			n.Fault = func(req registrytest.Request) *registrytest.Fault {
				switch {
				case req.Class == "referrers" && tc.code != 0 && req.Authorization != "":
					return &registrytest.Fault{Status: tc.code}
				case tc.lost && req.Method == http.MethodPut && strings.Contains(req.Path, desc.Digest.String()) && req.Authorization != "":
					return &registrytest.Fault{LoseAnswer: true}
				}
				return nil
			}
			repo := repository(t, options(n, "http"), "reg.test/app")
			if err := repo.PutReferrer(t.Context(), desc.Digest.String(), desc, raw); err != nil {
				t.Fatal(err)
			}
			list, err := repo.Referrers(t.Context(), subject.Digest)
			if err != nil || len(list) != 1 || list[0].Digest != desc.Digest || list[0].ArtifactType != "application/vnd.test" {
				t.Fatal(list, err)
			}
			tags := len(r.Tags("app"))
			if want := 1 + min(tc.code, 1); tags != want {
				t.Errorf("%d tags, want %d", tags, want)
			}
			if tc.code != 0 && list[0].Annotations["a"] != "b" {
				t.Error("no annotations", list[0].Annotations)
			}
		})
	}
}

// TestLongDigestTag lists referrers of a sha512 digest under the tag, which is cut to what a tag may hold.
func TestLongDigestTag(t *testing.T) {
	t.Parallel()
	n, r, _ := door(nil)
	r.NoReferrers = true
	config := r.PutBlob("app", ocispec.MediaTypeEmptyJSON, []byte("{}"))
	subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.SHA512.FromString("x"), Size: 1}
	raw := registrytest.Encode(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Subject: &subject})
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if err := repository(t, options(n, "http"), "reg.test/app").PutReferrer(t.Context(), desc.Digest.String(), desc, raw); err != nil {
		t.Fatal(err)
	}
	want := "sha512-" + subject.Digest.Encoded()[:64]
	if _, ok := r.Tags("app")[want]; !ok {
		t.Errorf("tags %v, want %s", r.Tags("app"), want)
	}
}

// TestNotAskedAgain meets what no second try changes: a credential helper that is not there, and a registry that redirects for ever.
func TestNotAskedAgain(t *testing.T) {
	t.Parallel()
	n, _, _ := door(nil)
	opt := options(n, "http")
	asked := 0
	opt.Credentials = func(string) (string, string, error) {
		asked++
		return "", "", &exec.Error{Name: "docker-credential-nothing", Err: exec.ErrNotFound}
	}
	if _, err := repository(t, opt, "reg.test/app").Stat(t.Context(), "1"); !errors.Is(err, exec.ErrNotFound) || asked > 1 {
		t.Errorf("the helper is asked for %d times: %v", asked, err)
	}
	loop := registrytest.NewNetwork()
	loop.Add("reg.test", http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, req.URL.Path, http.StatusTemporaryRedirect)
	}))
	if _, err := repository(t, options(loop, "http"), "reg.test/app").Stat(t.Context(), "1"); err == nil || len(loop.Log()) > 11 {
		t.Errorf("%d requests: %v", len(loop.Log()), err)
	}
}

// TestTags lists tags in one page and in many, and those of a repository that is not there.
func TestTags(t *testing.T) {
	t.Parallel()
	for _, atOnce := range []int{0, 3} {
		n, r, _ := door(nil)
		r.TagsAtOnce = atOnce
		config := r.PutBlob("app", ocispec.MediaTypeImageConfig, []byte("{}"))
		var want []string
		for i := range 10 {
			want = append(want, fmt.Sprintf("v%d", i))
			r.PutManifest("app", want[i], ocispec.MediaTypeImageManifest, registrytest.Encode(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config}))
		}
		got, err := repository(t, options(n, "http"), "reg.test/app").Tags(t.Context())
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v %v", got, err)
		}
		if _, err := repository(t, options(n, "http"), "reg.test/none").Tags(t.Context()); !errdefs.IsNotFound(err) {
			t.Errorf("of nothing: %v", err)
		}
	}
}

// TestIdentityToken: what a login leaves in place of a password gets tokens.
func TestIdentityToken(t *testing.T) {
	t.Parallel()
	for secret, works := range map[string]bool{"identity-canary": true, "another": false} {
		n, _, a := door(nil)
		a.Identity = "identity-canary"
		opt := options(n, "http")
		opt.Credentials = func(string) (string, string, error) { return "", secret, nil }
		err := repository(t, opt, "reg.test/app").CheckPush(t.Context())
		if (err == nil) != works || err != nil && (!errdefs.IsUnauthorized(err) || strings.Contains(err.Error(), secret)) {
			t.Errorf("%s: %v", secret, err)
		}
	}
}

// TestCredentialsAreAskedForOnce: a credential helper runs once for a host, and again when what it gave is refused.
func TestCredentialsAreAskedForOnce(t *testing.T) {
	t.Parallel()
	for _, basic := range []bool{false, true} {
		n, r, a := door(nil)
		if basic {
			n.Add("reg.test", http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if user, password, _ := req.BasicAuth(); user != a.User || password != a.Password {
					w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				r.ServeHTTP(w, req)
			}))
		}
		asked := 0
		opt := options(n, "http")
		opt.Credentials = func(string) (string, string, error) {
			asked++
			return "founder", a.Password, nil
		}
		repo := repository(t, opt, "reg.test/app")
		for range 5 {
			if err := repo.CheckPush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if asked != 1 {
			t.Errorf("basic %v: asked %d times", basic, asked)
		}
		a.Password = "another-canary" // the token that was given is good, what is new is not
		a.Forget()
		if err := repo.CheckPush(t.Context()); err != nil || asked != 2 {
			t.Errorf("basic %v: a new password: %v, asked %d times", basic, err, asked)
		}
	}
}
