package index_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/internal/registrytest"
)

// TestDelete deletes tags and manifests, and says what that leaves behind.
func TestDelete(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		a := &registrytest.Auth{User: "founder", Password: "canary-password"}
		guarded(w, a)
		top := putIndexOf(w.one, "src", "1", "x", "linux/amd64", "linux/arm64")
		w.one.PutManifest("src", "latest", "application/vnd.oci.image.index.v1+json", w.one.Raw("src", top))
		x, err := w.access.Pull(t.Context(), "one.test/src:1")
		if err != nil {
			t.Fatal(err)
		}
		image := x.Images[0].Descriptor.Digest
		sign(w.one, top)
		there := func(d digest.Digest, want bool) {
			t.Helper()
			if got := w.one.Raw("src", d) != nil; got != want {
				t.Errorf("%s is there: %v", d, got)
			}
		}
		del := func(ref string, force, dry bool) (index.Deleted, error) {
			return w.access.Delete(t.Context(), index.DeleteRequest{Ref: "one.test/src" + ref, Force: force, DryRun: dry})
		}
		if _, err := del(":none", false, false); !errors.Is(err, index.ErrNotFound) {
			t.Errorf("a tag that is not there: %v", err)
		}
		if _, err := del(":1@"+top.String(), false, false); err == nil || !strings.Contains(err.Error(), "not both") {
			t.Errorf("tag and digest: %v", err)
		}
		if got, err := del(":1", false, true); err != nil || got.Done || len(got.Tags) != 1 || got.Tags[0] != "latest" {
			t.Errorf("a dry run: %+v, %v", got, err)
		}
		there(top, true)
		var dangling *index.DanglingError
		if _, err := del("@"+image.String(), false, false); !errors.As(err, &dangling) || len(dangling.Indexes) != 2 || !strings.Contains(err.Error(), "it is listed in 1, latest") {
			t.Errorf("an image that is listed: %v", err)
		}
		there(image, true)
		if got, err := del(":1", false, false); err != nil || !got.Done || got.Digest != top || w.one.Tag("src", "1") != "" {
			t.Errorf("a tag: %+v, %v", got, err)
		}
		there(top, true)
		if _, err := del("@"+top.String(), false, false); !errors.As(err, &dangling) || len(dangling.Tags) != 1 || len(dangling.Referrers) != 1 || !strings.Contains(err.Error(), "it is tagged latest; 1 manifests refer to it") {
			t.Errorf("an index that is tagged and signed: %v", err)
		}
		w.one.NoTagDelete = true
		if _, err := del(":latest", false, false); err == nil || !strings.Contains(err.Error(), "does not delete tags alone: delete one.test/src@"+top.String()) {
			t.Errorf("a registry that deletes no tags: %v", err)
		}
		if got, err := del("@"+top.String(), true, false); err != nil || !got.Done {
			t.Errorf("forced: %+v, %v", got, err)
		}
		there(top, false)
		if _, err := del("@"+image.String(), false, false); err != nil {
			t.Errorf("an image that nothing needs: %v", err)
		}
		there(image, false)
		for scope := range a.Asked() {
			if scope != "repository:src:pull" && scope != "repository:src:delete" {
				t.Errorf("the scope %q is asked for", scope)
			}
		}
	})
}

// TestDeleteLooksEverywhere: what a mirror does not know counts, and what was not looked at may count.
func TestDeleteLooksEverywhere(t *testing.T) {
	t.Parallel()
	root := mirrorOfOne(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		mirror := registrytest.NewRegistry()
		w.net.Add("mirror.test", mirror)
		d := putIndexOf(w.one, "src", "1", "x", "linux/amd64")
		mirror.PutManifest("src", "", "application/vnd.oci.image.index.v1+json", w.one.Raw("src", d))
		mirror.PutManifest("src", "another", "application/vnd.oci.image.index.v1+json", []byte("{}"))
		opt := w.access.Options()
		opt.CertsDirs, opt.PlainHTTP = []string{root}, nil
		mirrored := index.NewClient(opt)
		var dangling *index.DanglingError
		if _, err := mirrored.Delete(t.Context(), index.DeleteRequest{Ref: "one.test/src@" + d.String()}); !errors.As(err, &dangling) || len(dangling.Tags) != 1 {
			t.Errorf("behind a mirror: %v", err)
		}
		w.net.Fault = func(r registrytest.Request) *registrytest.Fault {
			if r.Class == "tag" && r.Method == http.MethodHead && strings.HasSuffix(r.Path, "/2") {
				return &registrytest.Fault{Status: http.StatusForbidden}
			}
			return nil
		}
		w.one.PutManifest("src", "2", "application/vnd.oci.image.index.v1+json", w.one.Raw("src", d))
		if got, err := w.access.Delete(t.Context(), index.DeleteRequest{Ref: "one.test/src:1"}); err != nil || !got.Done || got.Unseen == 0 {
			t.Errorf("a tag beside one that cannot be read: %+v, %v", got, err)
		}
		many := putIndexOf(w.one, "many", "zzz", "x", "linux/amd64")
		other := putImage(w.one, "many", "", "y", "linux/arm64")
		for i := range 2001 {
			w.one.PutManifest("many", fmt.Sprintf("t%04d", i), other.MediaType, w.one.Raw("many", other.Digest))
		}
		if _, err := w.access.Delete(t.Context(), index.DeleteRequest{Ref: "one.test/many@" + many.String()}); !errors.As(err, &dangling) || dangling.Unseen != 2 {
			t.Errorf("more tags than are looked at: %v", err)
		}
	})
}
