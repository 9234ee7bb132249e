package index_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/internal/registrytest"
	"github.com/manifold-build/manifold/platforms"
)

// TestArchiveNames: what ends like an archive is one, and is never taken for a repository of Docker Hub.
func TestArchiveNames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		if _, err := w.access.Pull(t.Context(), "part.tar"); !errors.Is(err, index.ErrNotFound) || err.Error() != "part.tar: not found: there is no such file" {
			t.Errorf("error %v", err)
		}
		_, err := w.access.Copy(t.Context(), index.CopyRequest{Source: app[0], Names: []string{"out.tar"}})
		if err == nil || err.Error() != "out.tar: an archive is written to if it is called oci-archive:out.tar" {
			t.Errorf("error %v", err)
		}
	})
}

// TestCopy: between registries, layouts and archives and back, with attestations and referrers, byte for byte; and a copy that broke off goes on.
func TestCopy(t *testing.T) {
	t.Parallel()
	for _, api := range []bool{true, false} {
		t.Run(fmt.Sprintf("referrers API %v", api), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.two.NoReferrers = !api
				attest(w.one, "src", "1", putImage(w.one, "src", "", "x", "linux/amd64"), putImage(w.one, "src", "", "x", "linux/arm64"))
				sign(w.one, w.one.Tag("src", "1"))
				dir := t.TempDir()
				layout, archive := "oci-layout:"+filepath.Join(dir, "layout")+":1", "oci-archive:"+filepath.Join(dir, "a.tar")
				for _, step := range [][2]string{
					{"one.test/src:1", "two.test/a/b:1"}, {"two.test/a/b:1", layout}, {layout, archive}, {archive, "two.test/c:1"},
				} {
					got, err := w.access.Copy(t.Context(), index.CopyRequest{Source: step[0], Names: []string{step[1]}})
					if err != nil {
						t.Fatalf("%s to %s: %v", step[0], step[1], err)
					}
					if got.Referrers != 1 || got.Descriptor.Digest != w.one.Tag("src", "1") {
						t.Errorf("%s to %s: %+v", step[0], step[1], got)
					}
				}
				if err := w.two.Complete("c", w.one.Tag("src", "1")); err != nil {
					t.Error(err)
				}
				if w.two.Tag("c", "1") != w.one.Tag("src", "1") {
					t.Error("it is not the same index")
				}
				if left, _ := filepath.Glob(filepath.Join(dir, "*.part")); len(left) > 0 {
					t.Errorf("left over: %v", left)
				}
			})
		})
	}
}

// sign adds a manifest to the repository src whose subject is a digest.
func sign(r *registrytest.Registry, subject digest.Digest) {
	const repo = "src"
	raw := registrytest.Encode(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.test.signature",
		Config: r.PutBlob(repo, ocispec.MediaTypeEmptyJSON, []byte("{}")), Layers: []ocispec.Descriptor{r.PutBlob(repo, "text/plain", []byte("signed"))},
		Subject: &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: subject, Size: 1},
	})
	r.PutManifest(repo, "", ocispec.MediaTypeImageManifest, raw)
}

// TestCopyGoesOn: what a broken copy has brought is not sent again, to a registry and into a layout.
func TestCopyGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		big := strings.Repeat("0123456789abcdef", 4096)
		putIndexOf(w.one, "src", "1", big, "linux/amd64")
		dir := filepath.Join(t.TempDir(), "layout")
		request := index.CopyRequest{Source: "one.test/src:1", Names: []string{"oci-layout:" + dir}}
		w.net.Fault = func(r registrytest.Request) *registrytest.Fault {
			if r.Class == "blob" && r.Hit > 1 && r.Method == http.MethodGet {
				return &registrytest.Fault{CutAnswer: 40000}
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := w.access.Copy(ctx, request); err == nil {
			t.Fatal("it went through")
		}
		if _, err := os.Stat(filepath.Join(dir, "index.json")); err == nil {
			t.Error("an unfinished layout has an index.json")
		}
		w.net.Forget()
		w.net.Fault = nil
		if _, err := w.access.Copy(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		ranged := false
		for _, r := range w.net.Log() {
			ranged = ranged || r.Header.Get("Range") != ""
		}
		if !ranged {
			t.Error("it began anew")
		}
		d, err := w.access.Doctor(t.Context(), "oci-layout:"+dir)
		if err != nil || len(d.Problems) > 0 {
			t.Errorf("%v, %v", d.Problems, err)
		}
	})
}

// TestCopyPlatforms: one platform is copied as an image, several as an index of them with what attests them.
func TestCopyPlatforms(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		attest(w.one, "src", "1", putImage(w.one, "src", "", "x", "linux/amd64"), putImage(w.one, "src", "", "x", "linux/arm64"), putImage(w.one, "src", "", "x", "linux/s390x"))
		for _, list := range [][]platforms.Platform{{must("linux/arm64")}, {must("linux/arm64"), must("linux/amd64")}} {
			got, err := w.access.Copy(t.Context(), index.CopyRequest{Source: "one.test/src:1", Names: []string{"two.test/dst:1"}, Platforms: list})
			if err != nil {
				t.Fatal(err)
			}
			x, err := w.access.Pull(t.Context(), "two.test/dst:1")
			if err != nil || len(x.Images) != len(list) || x.IsIndex() != (len(list) > 1) {
				t.Errorf("%v: %v, %v", list, summary(x), err)
			}
			if err := w.two.Complete("dst", got.Descriptor.Digest); err != nil {
				t.Error(err)
			}
		}
		if _, err := w.access.Copy(t.Context(), index.CopyRequest{
			Source: "one.test/src:1", Names: []string{"two.test/dst:1"}, Platforms: []platforms.Platform{must("linux/386")},
		}); err == nil || !strings.Contains(err.Error(), "there is no image for linux/386 in it; it has linux/amd64, linux/arm64, linux/s390x") {
			t.Errorf("error %v", err)
		}
	})
}

// TestCopyWrongBytes: a blob whose bytes are not those of its digest goes nowhere, wherever it is from.
func TestCopyWrongBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		putIndexOf(w.two, "src", "1", "layer", "linux/amd64")
		wrong := digest.FromString("layerlinux/amd64")
		w.net.Fault = func(r registrytest.Request) *registrytest.Fault {
			if r.Method == http.MethodGet && strings.HasSuffix(r.Path, wrong.String()) {
				return &registrytest.Fault{Handler: func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte("Layerlinux/amd64")) }}
			}
			return nil
		}
		dir := t.TempDir()
		for _, name := range []string{app[0], "oci-layout:" + filepath.Join(dir, "l"), "oci-archive:" + filepath.Join(dir, "a.tar")} {
			_, err := w.access.Copy(t.Context(), index.CopyRequest{Source: "two.test/src:1", Names: []string{name}})
			if err == nil || !strings.Contains(err.Error(), wrong.String()) || !strings.Contains(err.Error(), "of the digest") {
				t.Errorf("%s: error %v", name, err)
			}
		}
		w.check(t)
		if _, err := os.Stat(filepath.Join(dir, "l", "index.json")); err == nil {
			t.Error("the layout names it")
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "a.tar*")); len(left) > 0 {
			t.Errorf("left over: %v", left)
		}
	})
}

// TestCopyDigestTags takes along what is kept under tags that are named for a manifest's digest.
func TestCopyDigestTags(t *testing.T) {
	t.Parallel()
	w := newWorld()
	top := w.one.Tag("app", "1.0")
	x, err := w.access.Pull(t.Context(), "one.test/app:1.0")
	if err != nil {
		t.Fatal(err)
	}
	image := x.Images[0].Descriptor.Digest
	tags := []string{"sha256-" + top.Encoded() + ".sig", "sha256-" + image.Encoded() + ".att"}
	for _, tag := range append(tags, "sha256-"+strings.Repeat("0", 64)+".sig") {
		raw := registrytest.Encode(ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: w.one.PutBlob("app", ocispec.MediaTypeImageConfig, []byte("{}")),
			Layers: []ocispec.Descriptor{w.one.PutBlob("app", "application/vnd.dev.cosign.simplesigning.v1+json", []byte(tag))},
		})
		w.one.PutManifest("app", tag, ocispec.MediaTypeImageManifest, raw)
	}
	for _, with := range []bool{false, true} {
		got, err := w.access.Copy(t.Context(), index.CopyRequest{Source: "one.test/app:1.0", Names: []string{"two.test/copy:1.0", "oci-layout:" + filepath.Join(t.TempDir(), "l")}, DigestTags: with})
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		if with {
			want = len(tags)
		}
		if got.DigestTags != want || len(w.two.Tags("copy")) != 1+want {
			t.Errorf("%v: %d, tags %v", with, got.DigestTags, w.two.Tags("copy"))
		}
	}
	for _, tag := range tags {
		if w.two.Tag("copy", tag) != w.one.Tag("app", tag) {
			t.Errorf("%s names something else", tag)
		}
	}
}

// TestReferrers lists what refers to an index and to its images.
func TestReferrers(t *testing.T) {
	t.Parallel()
	w := newWorld()
	attest(w.one, "src", "1", putImage(w.one, "src", "", "x", "linux/amd64"), putImage(w.one, "src", "", "x", "linux/arm64"))
	sign(w.one, w.one.Tag("src", "1"))
	for _, api := range []bool{true, false} {
		w.one.NoReferrers = !api
		source, err := w.access.Open(t.Context(), "one.test/src:1")
		if err != nil {
			t.Fatal(err)
		}
		list, err := source.Referrers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{true: 1, false: 0}[api]; len(list) != want || api && list[0].Subject != w.one.Tag("src", "1") {
			t.Errorf("API %v: %v", api, list)
		}
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestPublishedSubject publishes an index that refers to another manifest: where the registry has no referrers API, the tag in its place lists it.
func TestPublishedSubject(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.two.NoReferrers = true
	subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("what it is about"), Size: 16}
	raw := registrytest.Encode(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, ArtifactType: "application/vnd.test", Subject: &subject, Manifests: []ocispec.Descriptor{}})
	w.one.PutManifest("list", "1", ocispec.MediaTypeImageIndex, raw)
	if _, err := w.access.Copy(t.Context(), index.CopyRequest{Source: "one.test/list:1", Names: []string{"two.test/list:1"}}); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.two.Tags("list")["sha256-"+subject.Digest.Encoded()]; !ok {
		t.Errorf("tags %v", w.two.Tags("list"))
	}
}
