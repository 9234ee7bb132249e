package index_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/internal/registrytest"
	"github.com/manifold-build/manifold/platforms"
)

// putCompressed stores an image of one layer in the repository app, as it is stored under a media type.
func putCompressed(r *registrytest.Registry, tag, arch, plain, stored, mediaType string) ocispec.Descriptor {
	const repo = "app"
	config := r.PutBlob(repo, ocispec.MediaTypeImageConfig, registrytest.Encode(ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: arch}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString(plain)}},
	}))
	return r.PutManifest(repo, tag, ocispec.MediaTypeImageManifest, registrytest.Encode(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config,
		Layers: []ocispec.Descriptor{r.PutBlob(repo, mediaType, []byte(stored))},
	}))
}

// TestTwins: an image and the same compressed with zstd stand in one index for one platform, as Buildah makes them.
func TestTwins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		gz := putCompressed(w.one, "gzip", "amd64", "files", "files, gzip", ocispec.MediaTypeImageLayerGzip)
		zstd := putCompressed(w.one, "zstd", "amd64", "files", "files, zstd", ocispec.MediaTypeImageLayerZstd)
		putCompressed(w.one, "other", "amd64", "other files", "other files, zstd", ocispec.MediaTypeImageLayerZstd)
		putCompressed(w.one, "arm64", "arm64", "files", "files, gzip", ocispec.MediaTypeImageLayerGzip)
		compose := func(sources ...string) (*index.Draft, error) {
			var c index.Composition
			for _, s := range sources {
				c.Members = append(c.Members, index.Member{Source: "one.test/app:" + s})
			}
			return w.access.Compose(t.Context(), c)
		}
		if _, err := compose("gzip", "other"); err == nil {
			t.Error("other files are no twin")
		}
		if _, err := compose("zstd", "other"); err == nil {
			t.Error("both are compressed with zstd")
		}
		for range 2 { // whichever digest comes first
			if _, err := compose("gzip", "zstd", "other"); err == nil {
				t.Error("a third one is accepted")
			}
			putCompressed(w.one, "other", "amd64", "more files", "more files, zstd", ocispec.MediaTypeImageLayerZstd)
		}
		draft, err := compose("zstd", "arm64", "gzip")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := draft.Publish(t.Context(), []string{"one.test/app:both"}, index.PublishOptions{}); err != nil {
			t.Fatal(err)
		}
		sound := func(ref string) index.Index {
			t.Helper()
			x, err := w.access.Pull(t.Context(), ref)
			if err != nil || len(x.Images) < 2 || x.Images[0].Descriptor.Digest != gz.Digest || x.Images[0].IsTwin() || x.Images[1].Descriptor.Digest != zstd.Digest || !x.Images[1].IsTwin() {
				t.Fatalf("%s: %v: %+v", ref, err, x.Images)
			}
			if one, _, err := x.Resolve(must("linux/amd64")); err != nil || one.Descriptor.Digest != gz.Digest {
				t.Errorf("%s: %s is pulled, %v", ref, one.Descriptor.Digest, err)
			}
			if one, ok := x.Find(must("linux/amd64")); !ok || one.Descriptor.Digest != gz.Digest {
				t.Errorf("%s: %s is found", ref, one.Descriptor.Digest)
			}
			d, err := w.access.Doctor(t.Context(), ref)
			if err != nil || len(d.Problems) > 0 {
				t.Errorf("%s: %v, %v", ref, d.Problems, err)
			}
			return x
		}
		x := sound("one.test/app:both")
		if _, err := w.access.Copy(t.Context(), index.CopyRequest{Source: "one.test/app:both", Names: []string{"two.test/copy:1"}}); err != nil {
			t.Fatal(err)
		}
		if got := sound("two.test/copy:1"); got.Descriptor.Digest != x.Descriptor.Digest {
			t.Error("the copy is another index")
		}
		putCompressed(w.one, "v2", "amd64", "new files", "new files, gzip", ocispec.MediaTypeImageLayerGzip)
		v2 := []index.Member{{Source: "one.test/app:v2"}}
		if _, err := w.access.Compose(t.Context(), index.Composition{Base: "one.test/app:both", Remove: []string{gz.Digest.String()}, Members: v2}); err == nil {
			t.Error("a new image is paired with the twin of the old one")
		}
		v2[0].Replace = must("linux/amd64")
		if replaced, err := w.access.Compose(t.Context(), index.Composition{Base: "one.test/app:both", Members: v2}); err != nil || len(replaced.Index.Images) != 2 {
			t.Errorf("replaced, with its twin: %v", err)
		}
		one := index.CopyRequest{Source: "one.test/app:both", Names: []string{"two.test/one:1"}, Platforms: []platforms.Platform{must("linux/amd64")}}
		if got, err := w.access.Copy(t.Context(), one); err != nil || got.Descriptor.Digest != gz.Digest {
			t.Errorf("one platform: %+v, %v", got, err)
		}
		c := index.Composition{Base: "one.test/app:both", Remove: []string{"linux/arm64"}}
		if draft, err = w.access.Compose(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if _, err := draft.Publish(t.Context(), []string{"one.test/app:fewer"}, index.PublishOptions{}); err != nil {
			t.Fatal(err)
		}
		sound("one.test/app:fewer")
	})
}

// TestJSON: what is printed as JSON is read again into the types that it was made of.
func TestJSON(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		attest(w.one, "app", "2.0", putImage(w.one, "app", "", "x", "linux/amd64"), putImage(w.one, "app", "", "x", "linux/arm64"))
		sick := putIndexOf(w.one, "app", "sick", "x", "linux/amd64")
		d, err := w.access.Doctor(t.Context(), "one.test/app:sick")
		if err != nil {
			t.Fatal(err)
		}
		d.Problems = append(d.Problems, index.Problem{Severity: index.Broken, Platform: must("linux/arm/v7"), Digest: sick, Problem: "a", Advice: "b"}, index.Problem{Severity: index.Doubtful})
		again(t, d)
		x, err := w.access.Pull(t.Context(), "one.test/app:2.0")
		if err != nil {
			t.Fatal(err)
		}
		again(t, x.Images[0])
		_, list, err := x.ResolveWith(index.DockerClassic, must("linux/amd64"))
		if err != nil {
			t.Fatal(err)
		}
		again(t, list)
		again(t, []index.Matcher{index.Containerd, index.DockerClassic})
		copied, err := w.access.Copy(t.Context(), index.CopyRequest{Source: "one.test/app:2.0", Names: []string{"two.test/copy:1"}})
		if err != nil {
			t.Fatal(err)
		}
		again(t, copied)
		var m index.Matcher
		if err := m.UnmarshalText([]byte("crane")); err == nil {
			t.Error("an unknown name is read")
		}
	})
}

func again[T any](t *testing.T, v T) {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var back T
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	rawAgain, err := json.Marshal(back)
	if err != nil || !reflect.DeepEqual(raw, rawAgain) {
		t.Errorf("%s was read as %s: %v", raw, rawAgain, err)
	}
}
