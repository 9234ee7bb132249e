package index_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/internal/registrytest"
	"github.com/manifold-build/manifold/platforms"
)

// TestMissingImage: an index that lists an image which is not there can be read, copied in part and mended; what it lacks is named, and it is never
// said that the index itself is not there.
func TestMissingImage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		good, lost := putImage(w.one, "app", "", "x", "linux/amd64"), putImage(w.one, "app", "", "x", "linux/arm64")
		raw := registrytest.Encode(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{good, lost}})
		w.one.PutManifest("app", "broken", ocispec.MediaTypeImageIndex, raw)
		w.one.Drop("app", lost.Digest)
		const ref = "one.test/app:broken"
		_, err := w.access.Pull(t.Context(), ref)
		want := "one.test/app:broken: the image for linux/arm64 is listed and not there: " + lost.Digest.String() + " (manifold doctor tells more)"
		if err == nil || err.Error() != want || errors.Is(err, index.ErrNotFound) {
			t.Errorf("error %v\nwant  %s", err, want)
		}
		s, err := w.access.OpenPartial(t.Context(), ref)
		if err != nil || s.Index.Images[0].Missing || !s.Index.Images[1].Missing {
			t.Errorf("%v", err)
		}
		if _, err := w.access.Copy(t.Context(), index.CopyRequest{Source: ref, Names: []string{"two.test/x:1"}, Platforms: []platforms.Platform{must("linux/amd64")}}); err != nil {
			t.Errorf("the image that is there cannot be copied: %v", err)
		}
		for _, c := range []index.Composition{
			{Members: []index.Member{{Source: ref}}}, {Members: []index.Member{{Source: ref}}, IgnoreMissing: true},
			{Base: ref, Members: []index.Member{{Source: "one.test/app:1.0"}}},
		} {
			if _, err := compose(t, w, c); err == nil || !strings.Contains(err.Error(), "linux/arm64 is listed and not there") {
				t.Errorf("%+v: error %v", c, err)
			}
		}
		d, err := compose(t, w, index.Composition{Base: ref, Remove: []string{lost.Digest.String()}})
		if err != nil || len(d.Index.Images) != 1 {
			t.Errorf("it cannot be mended: %v", err)
		}
	})
}

// TestMerge: the same image from two sources is one entry with what both say, in either order.
func TestMerge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		image := putImage(w.one, "app", "bare", "x", "linux/arm64")
		v8 := image
		v8.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
		v8.Annotations = map[string]string{"note": "fast"}
		attest(w.one, "app", "attested", v8)
		sources := []index.Member{{Source: "one.test/app:bare"}, {Source: "one.test/app:attested"}, {Source: "one.test/app:1.0"}}
		var raws []string
		for range 2 {
			d, err := compose(t, w, index.Composition{Members: sources})
			if err != nil {
				t.Fatal(err)
			}
			raws = append(raws, string(d.Index.Raw))
			if got := d.Index.Images[1]; len(got.Attestations) != 1 || got.Descriptor.Annotations["note"] != "fast" {
				t.Errorf("got %+v", got)
			}
			slices.Reverse(sources)
		}
		if raws[0] != raws[1] {
			t.Errorf("%s\n%s", raws[0], raws[1])
		}
	})
}

// TestAsItIs: one index without a change keeps its bytes, and so the signatures that are of it.
func TestAsItIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		attest(w.one, "other", "1", putImage(w.one, "other", "", "x", "linux/s390x"), putImage(w.one, "other", "", "x", "linux/amd64"))
		d, err := compose(t, w, index.Composition{Members: []index.Member{{Source: "one.test/other:1"}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Publish(t.Context(), []string{"two.test/app:1"}, index.PublishOptions{}); err != nil {
			t.Fatal(err)
		}
		if w.two.Tag("app", "1") != w.one.Tag("other", "1") || len(d.Notes) > 0 {
			t.Errorf("it has another digest; notes %q", d.Notes)
		}
		if err := w.two.Complete("app", w.two.Tag("app", "1")); err != nil {
			t.Error(err)
		}
	})
}

// TestLostFields: what an index says of itself does not vanish without a word.
func TestLostFields(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		raw := registrytest.Encode(ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{putImage(w.one, "app", "", "x", "linux/s390x")},
			Annotations: map[string]string{"team": "founders"}, ArtifactType: "text/x", Subject: &ocispec.Descriptor{Digest: w.old, Size: 1},
		})
		w.one.PutManifest("app", "rich", ocispec.MediaTypeImageIndex, raw)
		d, err := compose(t, w, index.Composition{Members: []index.Member{{Source: "one.test/app:rich"}, {Source: "one.test/app:1.0"}}})
		if err != nil {
			t.Fatal(err)
		}
		const want = "one.test/app:rich: the index's own fields are left out: annotation team, its subject, its artifact type"
		if len(d.Notes) != 1 || d.Notes[0] != want {
			t.Errorf("notes %q", d.Notes)
		}
	})
}

// TestLayoutNames: several names in one layout or archive, names with colons, and names that are guarded.
func TestLayoutNames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		dir := t.TempDir()
		layout, archive := "oci-layout:"+filepath.Join(dir, "l"), "oci-archive:"+filepath.Join(dir, "a.tar")
		d, err := compose(t, w, index.Composition{Members: []index.Member{{Source: "one.test/app:1.0"}}})
		if err != nil {
			t.Fatal(err)
		}
		names := []string{layout + ":1", layout + ":ghcr.io/app/app:2", archive + ":1", archive + ":2"}
		if _, err := d.Publish(t.Context(), names, index.PublishOptions{IfDigest: "none"}); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if x, err := w.access.Pull(t.Context(), name); err != nil || x.Descriptor.Digest != d.Index.Descriptor.Digest || x.Descriptor.Annotations != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := d.Publish(t.Context(), names[:1], index.PublishOptions{IfDigest: "none"}); !errors.Is(err, index.ErrMoved) {
			t.Errorf("a name that exists: %v", err)
		}
		if err := d.Check(t.Context(), names[:1], index.PublishOptions{IfDigest: "none"}); !errors.Is(err, index.ErrMoved) {
			t.Errorf("checked: %v", err)
		}
		// What a layout says of an image is not the image's.
		if _, err := w.access.Copy(t.Context(), index.CopyRequest{Source: "one.test/app:1.0", Names: []string{layout + ":single"}, Platforms: []platforms.Platform{must("linux/amd64")}}); err != nil {
			t.Fatal(err)
		}
		single, err := compose(t, w, index.Composition{Members: []index.Member{{Source: layout + ":single"}}})
		if err != nil || len(single.Index.Images[0].Descriptor.Annotations) > 0 {
			t.Errorf("%v: %v", single.Index.Images, err)
		}
	})
}

// TestCopyNotes: attestations that a single image cannot take along are told of.
func TestCopyNotes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		attest(w.one, "other", "1", putImage(w.one, "other", "", "x", "linux/s390x"))
		got, err := w.access.Copy(t.Context(), index.CopyRequest{Source: "one.test/other:1", Names: []string{"two.test/x:1"}, Platforms: []platforms.Platform{must("linux/s390x")}})
		if err != nil || len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "its 1 attestations are in the index") {
			t.Errorf("%v, notes %q", err, got.Notes)
		}
	})
}

// TestDockerArchive: images of docker save by their names, with layers as they are compressed.
func TestDockerArchive(t *testing.T) {
	t.Parallel()
	var layer bytes.Buffer
	zw := gzip.NewWriter(&layer)
	tw := tar.NewWriter(zw)
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	var list []map[string]any
	for _, arch := range []string{"amd64", "arm64"} {
		name := "blobs/sha256/" + digest.FromBytes(layer.Bytes()).Encoded()
		config := registrytest.Encode(ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: arch}, RootFS: ocispec.RootFS{DiffIDs: []digest.Digest{digest.FromString("x")}}})
		files[name], files[arch+".json"] = layer.Bytes(), config
		list = append(list, map[string]any{"Config": arch + ".json", "RepoTags": []string{"app:" + arch}, "Layers": []string{name}})
	}
	files["manifest.json"] = registrytest.Encode(list)
	archive := "docker-archive:" + writeTar(t, files)
	x, err := index.NewClient(index.ClientOptions{}).Pull(t.Context(), archive+":arm64")
	if err != nil || len(x.Images) != 1 || x.Images[0].Platform != must("linux/arm64") || x.Images[0].Layers[0].MediaType != ocispec.MediaTypeImageLayerGzip {
		t.Errorf("%v: %+v", err, x.Images)
	}
	dir := "oci-layout:" + filepath.Join(t.TempDir(), "l")
	if _, err := index.NewClient(index.ClientOptions{}).Copy(t.Context(), index.CopyRequest{Source: archive, Names: []string{dir}}); err == nil || !strings.Contains(err.Error(), "it holds 2 images and no index") {
		t.Errorf("error %v", err)
	}
	d, err := index.NewClient(index.ClientOptions{}).Compose(t.Context(), index.Composition{Members: []index.Member{{Source: archive}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Publish(t.Context(), []string{dir}, index.PublishOptions{}); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if got, err := index.NewClient(index.ClientOptions{}).Pull(t.Context(), dir); err != nil || len(got.Images) != 2 {
		t.Errorf("%v: %d images", err, len(got.Images))
	}
	_, err = index.NewClient(index.ClientOptions{}).Pull(t.Context(), strings.TrimPrefix(archive, "docker-archive:"))
	if err == nil || !strings.Contains(err.Error(), "put docker-archive: before its name") {
		t.Errorf("error %v", err)
	}
}

// TestDoctorVague: what an entry or a config leaves out is doubtful, not wrong; a layer that several images lack is reported for each.
func TestDoctorVague(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		win := putImage(w.one, "app", "", "x", "windows(10.0.17763)/amd64")
		win.Platform = &ocispec.Platform{OS: "windows", Architecture: "amd64"}
		config := w.one.PutBlob("app", ocispec.MediaTypeImageConfig, []byte(`{"os":"linux","architecture":"arm","rootfs":{"type":"layers","diff_ids":["a"]}}`))
		gone := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("gone"), Size: 4}
		var list []ocispec.Descriptor
		for _, variant := range []string{"v6", "v5"} {
			raw := registrytest.Encode(ocispec.Manifest{
				Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{gone},
				Annotations: map[string]string{"v": variant},
			})
			m := w.one.PutManifest("app", "", ocispec.MediaTypeImageManifest, raw)
			m.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm", Variant: variant}
			list = append(list, m)
		}
		raw := registrytest.Encode(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: append(list, win)})
		w.one.PutManifest("app", "vague", ocispec.MediaTypeImageIndex, raw)
		d, err := w.access.Doctor(t.Context(), "one.test/app:vague")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range d.Problems {
			got = append(got, fmt.Sprintf("%s %s: %.24s", p.Severity, p.Platform, p.Problem))
		}
		want := []string{
			"doubtful linux/arm/v6: its entry says linux/arm", "broken linux/arm/v6: blob sha256:283bb9deef02",
			"doubtful linux/arm/v5: its entry says linux/arm", "broken linux/arm/v5: blob sha256:283bb9deef02",
			"doubtful windows/amd64: its entry says windows/a",
		}
		if a, b := mustJSON(want), mustJSON(got); a != b {
			t.Errorf("got  %s\nwant %s", b, a)
		}
	})
}

func mustJSON(v any) string {
	var b bytes.Buffer
	_ = json.Indent(&b, registrytest.Encode(v), "", " ")
	return b.String()
}

// TestMirrorIsNotTheRegistry: what only a mirror holds does not count as published, and a mirror's word does not confirm a tag.
func TestMirrorIsNotTheRegistry(t *testing.T) {
	t.Parallel()
	root := mirrorOfOne(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		mirror := registrytest.NewRegistry()
		w.net.Add("mirror.test", mirror)
		opt := w.access.Options()
		opt.CertsDirs, opt.PlainHTTP = []string{root}, nil
		w.access = index.NewClient(opt)
		d := putIndexOf(mirror, "app", "2.0", "x", "linux/amd64", "linux/arm64")
		got, err := w.access.Copy(t.Context(), index.CopyRequest{Source: "one.test/app:2.0", Names: []string{"one.test/app:2.0"}})
		if err != nil || got.Descriptor.Digest != d {
			t.Fatalf("%v: %v", got, err)
		}
		if err := w.one.Complete("app", d); err != nil || w.one.Tag("app", "2.0") != d {
			t.Errorf("the registry does not hold it: %v", err)
		}
		for _, r := range w.net.Log() {
			if r.Host == "mirror.test" && r.Method != http.MethodGet && r.Method != http.MethodHead {
				t.Errorf("%s %s went to the mirror", r.Method, r.Path)
			}
		}
	})
}

// TestTagAndDigest: a name with both says two things.
func TestTagAndDigest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		name := "two.test/x:9@" + w.old.String()
		_, err := w.access.Copy(t.Context(), index.CopyRequest{Source: app[0], Names: []string{name}})
		if err == nil || err.Error() != name+": it is published under a tag or by a digest, not both" {
			t.Errorf("error %v", err)
		}
	})
}

// mirrorOfOne is a folder of hosts.toml files in which mirror.test is the mirror of one.test.
func mirrorOfOne(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "one.test"), 0o755); err != nil {
		t.Fatal(err)
	}
	config := "server = \"https://one.test\"\n[host.\"https://mirror.test\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
	if err := os.WriteFile(filepath.Join(root, "one.test", "hosts.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return root
}
