package index_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"path"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/internal/registrytest"
)

// publicRegistry is how a registry that people use answers, where they differ. What is 0 or "" is as the specification has it.
type publicRegistry struct {
	name string
	// seen is where the answers are told of.
	seen string
	// basic: it wants a password itself, and has no token server. post is how its token server answers a POST; 0 gives a token.
	basic bool
	post  int
	// noDelete: its token server knows no right to delete.
	noDelete bool
	// mount, head, referrers, deleteTag and deleteDigest are the statuses of such requests; 0 means that they do what is asked.
	mount, head, referrers, deleteTag, deleteDigest int
	// storage: blobs are sent on to another host, which refuses credentials.
	storage bool
	// advice is what the error of a tag that cannot be deleted says.
	advice string
}

var publicRegistries = []publicRegistry{
	{
		name: "Docker Hub", seen: "docker/hub-feedback#2360 (delete); redirects to a content network of its own",
		storage: true, deleteTag: 405, deleteDigest: 405, advice: "does not delete tags alone",
	},
	{
		name: "GHCR", seen: "fluxcd/pkg#328 (delete); go-containerregistry#1543 (no referrers API)",
		mount: 202, referrers: 404, storage: true, deleteTag: 405, deleteDigest: 405, advice: "does not delete tags alone",
	},
	{
		name: "ECR", seen: "aws/containers-roadmap#2860 (mounts only what a manifest names), fluxcd/pkg#328 (delete: 404); older ones answer 405 to referrers; AWS:PASSWORD is basic",
		basic: true, mount: 202, referrers: 405, storage: true, deleteTag: 404, deleteDigest: 404, advice: "does not delete by this API",
	},
	{name: "ECR Public", seen: "aws/containers-roadmap#1459 (mounts are refused)", mount: 405, referrers: 405, storage: true, deleteTag: 405, deleteDigest: 405, advice: "does not delete tags alone"},
	{name: "GAR and GCR", seen: "containerd's authorizer (a POST for a token: 404); referrers: 400 in go-containerregistry#1543", post: 404, referrers: 400, storage: true},
	{name: "ACR", seen: "containerd's authorizer (a POST for a token: 400), fluxcd/pkg#328 (deletes by digest only)", post: 400, storage: true, deleteTag: 405, advice: "does not delete tags alone"},
	{name: "Quay", seen: "quay/quay, endpoints/v2/v2auth.py (scopes are pull, push and *); blobs lie with a storage of its cloud's", storage: true, noDelete: true},
	{name: "Harbor", seen: "goharbor/harbor#17097 (a mount from elsewhere: 401), #18305 (2.7: referrers: 401 without a challenge)", mount: 401, referrers: 401},
	{name: "GitLab", seen: "estesp/manifest-tool#53 (a mount: 401)", mount: 401, referrers: 404, storage: true},
	{name: "Artifactory", seen: "containerd's authorizer (a POST for a token: 401), go-containerregistry#2026 (referrers: 406)", post: 401, referrers: 406},
	{name: "an old proxy before a registry", seen: "HEAD is not let through", head: 405, referrers: 501},
}

// door puts the registry in front of one that does as the specification says.
func (p publicRegistry) door(w *world) http.Handler {
	auth := &registrytest.Auth{Registry: w.one, Realm: "http://auth.test/token", User: "founder", Password: "canary-password", PushDeletes: p.noDelete}
	w.net.Add("auth.test", http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodPost && p.post != 0 {
			rw.WriteHeader(p.post)
			return
		}
		auth.Tokens(rw, req)
	}))
	w.net.Add("storage.test", http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "" {
			rw.WriteHeader(http.StatusBadRequest) // as S3 does, which wants one signature
			return
		}
		w.one.ServeHTTP(rw, req)
	}))
	w.one.NoReferrers, w.one.NoMount = p.referrers != 0, p.mount
	var inside http.Handler = auth
	if p.basic {
		inside = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("founder:canary-password")) {
				rw.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
				rw.WriteHeader(http.StatusUnauthorized)
				return
			}
			w.one.ServeHTTP(rw, req)
		})
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if status := p.answer(req); status != 0 && req.Header.Get("Authorization") != "" {
			rw.WriteHeader(status)
			return
		}
		if p.storage && req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/sha256") && req.Header.Get("Authorization") != "" {
			http.Redirect(rw, req, "http://storage.test"+req.URL.Path+"?X-Signature=1", http.StatusTemporaryRedirect)
			return
		}
		inside.ServeHTTP(rw, req)
	})
}

// answer is the status of a request that the registry answers in its own way, 0 if it does not.
func (p publicRegistry) answer(req *http.Request) int {
	switch {
	case req.Method == http.MethodHead:
		return p.head
	case strings.Contains(req.URL.Path, "/referrers/"):
		return p.referrers
	case req.Method == http.MethodDelete && strings.Contains(path.Base(req.URL.Path), ":"):
		return p.deleteDigest
	case req.Method == http.MethodDelete && strings.Contains(req.URL.Path, "/manifests/"):
		return p.deleteTag
	}
	return 0
}

// TestPublicRegistries takes an index through each registry's ways: copied there with its signature, made of images of other repositories, read, examined, and deleted.
func TestPublicRegistries(t *testing.T) {
	t.Parallel()
	for _, p := range publicRegistries {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.net.Add("one.test", p.door(w))
				opt := w.access.Options()
				opt.Credentials = func(host string) (string, string, error) {
					if host == "one.test" {
						return "founder", "canary-password", nil
					}
					return "", "", nil
				}
				client := index.NewClient(opt)
				top := putIndexOf(w.two, "src", "1", "x", "linux/amd64", "linux/arm64")
				sign(w.two, top)
				if err := client.CheckPush(t.Context(), "one.test/copy"); err != nil {
					t.Error(err)
				}
				if got, err := client.Copy(t.Context(), index.CopyRequest{Source: "two.test/src:1", Names: []string{"one.test/copy:1"}}); err != nil || got.Referrers != 1 {
					t.Fatalf("copy: %+v, %v", got, err)
				}
				draft, err := client.Compose(t.Context(), index.Composition{Members: []index.Member{{Source: "one.test/copy:1"}}})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := draft.Publish(t.Context(), []string{"one.test/other:1", "one.test/copy:latest"}, index.PublishOptions{}); err != nil {
					t.Fatalf("mounted: %v", err)
				}
				for _, repo := range []string{"copy", "other"} {
					if err := w.one.Complete(repo, top); err != nil {
						t.Error(err)
					}
				}
				source, err := client.Open(t.Context(), "one.test/copy:1")
				if err != nil {
					t.Fatal(err)
				}
				if list, err := source.Referrers(t.Context()); err != nil || len(list) != 1 {
					t.Errorf("referrers: %v, %v", list, err)
				}
				if d, err := client.Doctor(t.Context(), "one.test/other:1"); err != nil || len(d.Problems) > 0 {
					t.Errorf("doctor: %v, %v", d.Problems, err)
				}
				if tags, err := client.Tags(t.Context(), "one.test/other"); err != nil || len(tags) != 1 {
					t.Errorf("tags: %v, %v", tags, err)
				}
				p.deletes(t, client, w, top)
				for _, req := range w.net.Log() {
					if req.Host == "storage.test" && req.Authorization != "" {
						t.Error("credentials went to the storage")
					}
				}
			})
		})
	}
}

func (p publicRegistry) deletes(t *testing.T, client *index.Client, w *world, top digest.Digest) {
	t.Helper()
	_, err := client.Delete(t.Context(), index.DeleteRequest{Ref: "one.test/other:1"})
	if (err == nil) != (p.deleteTag == 0) || err != nil && !strings.Contains(err.Error(), p.advice) || errors.Is(err, index.ErrNotFound) {
		t.Errorf("delete a tag: %v", err)
	}
	if gone := w.one.Tag("other", "1") == ""; gone != (err == nil) {
		t.Errorf("the tag is gone: %v", gone)
	}
	_, err = client.Delete(t.Context(), index.DeleteRequest{Ref: "one.test/copy@" + top.String(), Force: true})
	if (err == nil) != (p.deleteDigest == 0) || errors.Is(err, index.ErrNotFound) {
		t.Errorf("delete a manifest: %v", err)
	}
	if gone := w.one.Raw("copy", top) == nil; gone != (err == nil) {
		t.Errorf("the manifest is gone: %v", gone)
	}
}
