package index_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/internal/registrytest"
	"github.com/manifold-build/manifold/platforms"
)

func must(s string) platforms.Platform {
	p, err := platforms.Parse(s)
	if err != nil {
		panic(err)
	}
	return p
}

func compose(t *testing.T, w *world, c index.Composition) (*index.Draft, error) {
	t.Helper()
	d, err := w.access.Compose(t.Context(), c)
	if err == nil {
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return d, err
}

// TestAnyOrder: the same images in any order are the same bytes.
func TestAnyOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		list := []string{"linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64", "linux/386", "windows(10.0.17763)/amd64", "windows(10.0.20348)/amd64"}
		var members []index.Member
		for i, p := range list {
			putImage(w.two, fmt.Sprintf("p%d", i), "1", "x", p)
			members = append(members, index.Member{Source: fmt.Sprintf("two.test/p%d:1", i)})
		}
		var first []byte
		random := rand.New(rand.NewPCG(1, 1))
		for range 50 {
			random.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
			d, err := compose(t, w, index.Composition{Members: members})
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = d.Index.Raw
			}
			if !bytes.Equal(first, d.Index.Raw) {
				t.Fatalf("another order, other bytes:\n%s\n%s", first, d.Index.Raw)
			}
		}
		var got []string
		var x ocispec.Index
		if err := json.Unmarshal(first, &x); err != nil {
			t.Fatal(err)
		}
		for _, m := range x.Manifests {
			got = append(got, platforms.FromOCI(*m.Platform).String())
		}
		want := []string{"linux/386", "linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64", "windows(10.0.17763)/amd64", "windows(10.0.20348)/amd64"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the order (-want +got)\n%s", diff)
		}
	})
}

// attest adds an attestation to an image of an index, and tags the new index.
func attest(r *registrytest.Registry, repo, tag string, images ...ocispec.Descriptor) {
	x := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: images}
	for i, image := range images {
		layer := r.PutBlob(repo, "application/vnd.in-toto+json", fmt.Appendf(nil, "statement %d", i))
		layer.Annotations = map[string]string{"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"}
		raw := registrytest.Encode(ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: r.PutBlob(repo, ocispec.MediaTypeImageConfig, []byte("{}")), Layers: []ocispec.Descriptor{layer},
		})
		d := r.PutManifest(repo, "", ocispec.MediaTypeImageManifest, raw)
		d.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
		d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.Digest.String()}
		x.Manifests = append(x.Manifests, d)
	}
	raw := registrytest.Encode(x)
	r.PutManifest(repo, tag, x.MediaType, raw)
}

// summary is an index in a line for each image.
func summary(x index.Index) []string {
	var out []string
	for _, i := range x.Images {
		out = append(out, fmt.Sprintf("%s %s attestations=%d", i.Platform, i.Descriptor.Annotations, len(i.Attestations)))
	}
	return out
}

// TestCompose is what sources, annotations and changes make of an index, and what they refuse.
func TestCompose(t *testing.T) {
	t.Parallel()
	src := func(list ...string) []index.Member {
		var out []index.Member
		for _, s := range list {
			out = append(out, index.Member{Source: s})
		}
		return out
	}
	annotation := func(s string) []index.Annotation {
		list, err := index.ParseAnnotation(s)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	const amd, arm, both, windows = "one.test/amd:1", "one.test/arm:1", "two.test/both:1", "one.test/win:1"
	for _, row := range []struct {
		name  string
		c     index.Composition
		want  []string
		err   string
		notes string
	}{
		{name: "images", c: index.Composition{Members: src(arm, amd)}, want: []string{"linux/amd64 map[] attestations=0", "linux/arm64 map[] attestations=0"}},
		{name: "an index is flattened and keeps its attestations", c: index.Composition{Members: src(both, windows)},
			want: []string{"linux/arm/v7 map[] attestations=1", "linux/s390x map[] attestations=1", "windows(10.0.17763)/amd64 map[] attestations=0"}},
		{name: "the same image twice is one", c: index.Composition{Members: src(amd, amd)}, want: []string{"linux/amd64 map[] attestations=0"}},
		{name: "two for one platform", c: index.Composition{Members: src(amd, "one.test/amd:2")},
			err: "one.test/amd:1 and one.test/amd:2: two images for linux/amd64: "},
		{name: "two that differ in OS version", c: index.Composition{Members: src(windows, "one.test/win:2")},
			want: []string{"windows(10.0.17763)/amd64 map[] attestations=0", "windows(10.0.20348)/amd64 map[] attestations=0"}},
		{name: "a platform given by hand", c: index.Composition{Members: []index.Member{{Source: amd, Platform: must("linux/riscv64")}}},
			want: []string{"linux/riscv64 map[] attestations=0"}, notes: "--fix-config writes it there too"},
		{name: "an OS version given by hand", c: index.Composition{Members: []index.Member{{Source: windows, Platform: platforms.Platform{OSVersion: "10.0.1"}}}},
			want: []string{"windows(10.0.1)/amd64 map[] attestations=0"}, notes: "10.0.17763"},
		{name: "a platform written into the config", c: index.Composition{Members: []index.Member{{Source: amd, Platform: must("linux/riscv64"), FixConfig: true}}},
			want: []string{"linux/riscv64 map[] attestations=0"}, notes: "is another image now"},
		{name: "a platform for an index", c: index.Composition{Members: []index.Member{{Source: both, Platform: must("linux/riscv64")}}},
			err: "two.test/both:1: it holds 2 images (linux/s390x, linux/arm/v7); a platform can be given to one only"},
		{name: "no platform in the config", c: index.Composition{Members: src("one.test/none:1")},
			err: "one.test/none:1: its config says no platform: give it one with --annotate SOURCE=OS/ARCH"},
		{name: "annotations of entries", c: index.Composition{Members: src(amd, arm), Annotations: annotation("manifest-descriptor[linux/arm64]:note=fast")},
			want: []string{"linux/amd64 map[] attestations=0", "linux/arm64 map[note:fast] attestations=0"}},
		{name: "annotations of manifests", c: index.Composition{Members: src(both), Annotations: annotation("manifest[linux/s390x]:note=fast")},
			want: []string{"linux/arm/v7 map[] attestations=1", "linux/s390x map[] attestations=0"}, notes: "what attests"},
		{name: "an annotation for nobody", c: index.Composition{Members: src(amd), Annotations: annotation("manifest-descriptor[linux/s390x]:a=b")},
			err: "annotation manifest-descriptor[linux/s390x]:a=b: there is no image for it"},
		{name: "Docker's kind with annotations", c: index.Composition{Members: src(amd), MediaType: index.Docker, Annotations: annotation("a=b")},
			err: "media type docker: annotation index:a=b, which Docker's manifest list has no place for: use oci"},
		{name: "expected", c: index.Composition{Members: src(amd, arm), Expect: []platforms.Platform{must("linux/arm64"), must("linux/amd64")}},
			want: []string{"linux/amd64 map[] attestations=0", "linux/arm64 map[] attestations=0"}},
		{name: "one is missing", c: index.Composition{Members: src(amd), Expect: []platforms.Platform{must("linux/arm64"), must("linux/amd64")}},
			err: "the index lacks linux/arm64; it has linux/amd64"},
		{name: "one too many", c: index.Composition{Members: src(amd, arm), Expect: []platforms.Platform{must("linux/amd64")}},
			err: "the index has linux/arm64, which is not expected"},
		{name: "some platforms", c: index.Composition{Members: src(both, amd), Platforms: []platforms.Platform{must("linux/s390x"), must("linux/amd64")}},
			want: []string{"linux/amd64 map[] attestations=0", "linux/s390x map[] attestations=1"}},
		{name: "some platforms, one nowhere", c: index.Composition{Members: src(both), Platforms: []platforms.Platform{must("linux/amd64")}},
			err: "there is no image for linux/amd64 in the sources; they have linux/s390x, linux/arm/v7"},
		{name: "a source that is not there", c: index.Composition{Members: src(amd, "one.test/amd:9", "one.test/amd:8")},
			err: "one.test/amd:9: not found in its registry\none.test/amd:8: not found in its registry"},
		{name: "a source that may be missing", c: index.Composition{Members: src(amd, "one.test/amd:9"), IgnoreMissing: true},
			want: []string{"linux/amd64 map[] attestations=0"}, notes: "one.test/amd:9 is not there and is left out"},
		{name: "all missing", c: index.Composition{Members: src("one.test/amd:9"), IgnoreMissing: true}, err: "nothing is left to make an index of"},
		{name: "nothing", err: "no image to make an index of"},
		{name: "append", c: index.Composition{Base: both, Members: src(amd)},
			want: []string{"linux/amd64 map[] attestations=0", "linux/arm/v7 map[] attestations=1", "linux/s390x map[] attestations=1"}},
		{name: "append to nothing", c: index.Composition{Base: "one.test/app:none", Members: src(amd)},
			want: []string{"linux/amd64 map[] attestations=0"}, notes: "one.test/app:none does not exist yet and is made"},
		{name: "remove from nothing", c: index.Composition{Base: "one.test/app:none", Remove: []string{"linux/amd64"}},
			err: "one.test/app:none: not found in its registry: there is nothing to change"},
		{name: "replace by what is not there", c: index.Composition{Base: both, IgnoreMissing: true, Members: []index.Member{{Source: "one.test/amd:9", Replace: must("linux/s390x")}}},
			want: []string{"linux/arm/v7 map[] attestations=1", "linux/s390x map[] attestations=1"}, notes: "is left out"},
		{name: "replace where two match", c: index.Composition{Base: "one.test/wins:1", Members: []index.Member{{Source: windows, Replace: must("windows/amd64")}}},
			err: "one.test/wins:1: there are 2 images for windows/amd64 in it (windows(10.0.17763)/amd64, windows(10.0.20348)/amd64): say which OS version"},
		{name: "some platforms, and a base", c: index.Composition{Base: both, Members: src("one.test/wins:1", amd), Platforms: []platforms.Platform{must("linux/amd64")}},
			want: []string{"linux/amd64 map[] attestations=0", "linux/arm/v7 map[] attestations=1", "linux/s390x map[] attestations=1"}},
		{name: "removed twice", c: index.Composition{Base: both, Remove: []string{"linux/s390x", "linux/s390x"}}, want: []string{"linux/arm/v7 map[] attestations=1"}},
		{name: "another system has no Windows version", c: index.Composition{Members: []index.Member{{Source: windows, Platform: must("linux/amd64")}}},
			want: []string{"linux/amd64 map[] attestations=0"}, notes: "--fix-config"},
		{name: "append a platform that is there", c: index.Composition{Base: "one.test/app:1.0", Members: src(amd)},
			err: "--replace linux/amd64=one.test/amd:1 puts the new one in place of the old"},
		{name: "remove", c: index.Composition{Base: both, Remove: []string{"linux/s390x"}}, want: []string{"linux/arm/v7 map[] attestations=1"}},
		{name: "remove what is not there", c: index.Composition{Base: both, Remove: []string{"linux/amd64"}},
			err: "two.test/both:1: there is no image for linux/amd64 in it; it has linux/s390x, linux/arm/v7"},
		{name: "remove everything", c: index.Composition{Base: "one.test/app:1.0", Remove: []string{"linux/amd64"}}, err: "nothing is left to make an index of"},
		{name: "replace", c: index.Composition{Base: "one.test/app:1.0", Members: []index.Member{{Source: amd, Replace: must("linux/amd64")}}},
			want: []string{"linux/amd64 map[] attestations=0"}},
		{name: "replace from an index", c: index.Composition{Base: both, Members: []index.Member{{Source: "one.test/both:2", Replace: must("linux/s390x")}}},
			want: []string{"linux/arm/v7 map[] attestations=1", "linux/s390x map[] attestations=1"}},
		{name: "replace by another platform's", c: index.Composition{Base: both, Members: []index.Member{{Source: amd, Replace: must("linux/s390x")}}},
			err: "one.test/amd:1: it is for linux/amd64 and would replace the image for linux/s390x: say --annotate one.test/amd:1=linux/s390x if it really is for that"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				putImage(w.one, "amd", "1", "x", "linux/amd64")
				putImage(w.one, "amd", "2", "y", "linux/amd64")
				putImage(w.one, "arm", "1", "x", "linux/arm64")
				putImage(w.one, "win", "1", "x", "windows(10.0.17763)/amd64")
				putImage(w.one, "win", "2", "x", "windows(10.0.20348)/amd64")
				putNoPlatform(w.one)
				putIndexOf(w.one, "wins", "1", "w", "windows(10.0.17763)/amd64", "windows(10.0.20348)/amd64")
				attest(w.two, "both", "1", putImage(w.two, "both", "", "x", "linux/s390x"), putImage(w.two, "both", "", "x", "linux/arm/v7"))
				attest(w.one, "both", "2", putImage(w.one, "both", "", "y", "linux/s390x"), putImage(w.one, "both", "", "y", "linux/arm/v7"))
				d, err := compose(t, w, row.c)
				if row.err != "" {
					if err == nil || !strings.Contains(err.Error(), row.err) {
						t.Fatalf("error %v\nwant %s", err, row.err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(row.want, summary(d.Index)); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
				if notes := strings.Join(d.Notes, "\n"); !strings.Contains(notes, row.notes) || row.notes == "" && notes != "" {
					t.Errorf("notes %q, want %q", notes, row.notes)
				}
				// What was composed can be published, and is whole there.
				receipts, err := d.Publish(t.Context(), []string{"two.test/result:1"}, index.PublishOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if err := w.two.Complete("result", receipts[0].Digest); err != nil {
					t.Error(err)
				}
				if diag, err := w.access.Doctor(t.Context(), "two.test/result:1"); err != nil || row.notes == "" && len(diag.Problems) > 0 {
					t.Errorf("the doctor says %v, %v", diag.Problems, err)
				}
			})
		})
	}
}

func putNoPlatform(r *registrytest.Registry) {
	raw := registrytest.Encode(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: r.PutBlob("none", ocispec.MediaTypeImageConfig, []byte("{}")),
	})
	r.PutManifest("none", "1", ocispec.MediaTypeImageManifest, raw)
}

// TestOrphans: an attestation of nothing is told of when it is left out, and can be taken out, as can one of something.
func TestOrphans(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		image := putImage(w.one, "app", "", "x", "linux/amd64")
		attest(w.one, "app", "whole", image)
		x, err := w.access.Pull(t.Context(), "one.test/app:whole")
		if err != nil {
			t.Fatal(err)
		}
		attestation := x.Images[0].Attestations[0].Descriptor
		raw := registrytest.Encode(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{
			putImage(w.one, "app", "", "y", "linux/amd64"), attestation,
		}})
		w.one.PutManifest("app", "orphan", ocispec.MediaTypeImageIndex, raw)
		for name, row := range map[string]struct {
			c     index.Composition
			notes int
		}{
			"a source":     {index.Composition{Members: []index.Member{{Source: "one.test/app:orphan"}}}, 1},
			"the base":     {index.Composition{Base: "one.test/app:orphan"}, 1},
			"taken out":    {index.Composition{Base: "one.test/app:orphan", Remove: []string{attestation.Digest.String()}}, 0},
			"of something": {index.Composition{Base: "one.test/app:whole", Remove: []string{attestation.Digest.String()}}, 0},
		} {
			d, err := compose(t, w, row.c)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if len(d.Notes) != row.notes || len(d.Index.Images[0].Attestations) != 0 {
				t.Errorf("%s: notes %q, attestations %v", name, d.Notes, d.Index.Images[0].Attestations)
			}
		}
	})
}

// TestFixConfig: the platform is in the new image's config, and everything else of it stays.
func TestFixConfig(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		config := w.one.PutBlob("app", ocispec.MediaTypeImageConfig, []byte(`{"os":"linux","architecture":"amd64","x-own":{"kept":[1,2]},"config":{"Cmd":["a"]}}`))
		raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[],"x-more":true}`,
			ocispec.MediaTypeImageManifest, config.MediaType, config.Digest, config.Size)
		w.one.PutManifest("app", "wrong", ocispec.MediaTypeImageManifest, raw)
		d, err := compose(t, w, index.Composition{Members: []index.Member{{Source: "one.test/app:wrong", Platform: must("linux/arm/v7"), FixConfig: true}}})
		if err != nil {
			t.Fatal(err)
		}
		w.allow(d.Index.Descriptor.Digest)
		if _, err := d.Publish(t.Context(), app, index.PublishOptions{}); err != nil {
			t.Fatal(err)
		}
		w.check(t)
		x, err := w.access.Pull(t.Context(), app[0])
		if err != nil {
			t.Fatal(err)
		}
		if got := x.Images[0].ConfigPlatform.String(); got != "linux/arm/v7" {
			t.Errorf("the config says %s", got)
		}
		if got := string(w.one.Raw("app", x.Images[0].Descriptor.Digest)); !strings.Contains(got, `"x-more":true`) {
			t.Errorf("the manifest lost something: %s", got)
		}
	})
}

// TestIfDigest: a tag that has moved stays where it is, and a tag that may not exist is not made anew.
func TestIfDigest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		j := sameRepository(w)
		for want, ok := range map[string]bool{digest.FromString("another").String(): false, "none": false, w.old.String(): true} {
			d, err := compose(t, w, index.Composition{Members: []index.Member{{Source: j.sources[0]}}})
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				w.allow(d.Index.Descriptor.Digest)
			}
			if !ok && w.one.Tag("app", "1.0") != w.old {
				continue
			}
			_, err = d.Publish(t.Context(), app, index.PublishOptions{IfDigest: digest.Digest(want)})
			if ok != (err == nil) || err != nil && !errors.Is(err, index.ErrMoved) {
				t.Errorf("if %s: %v", want, err)
			}
		}
		w.check(t)
	})
}

// TestLostUpdate: two jobs append to one index at the same time; the one that comes second is told, instead of taking the other's image out.
func TestLostUpdate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		putImage(w.one, "app", "arm", "x", "linux/arm64")
		putImage(w.one, "app", "s390x", "x", "linux/s390x")
		change := func(source string) *index.Draft {
			d, err := compose(t, w, index.Composition{Base: app[0], Members: []index.Member{{Source: source}}})
			if err != nil {
				t.Fatal(err)
			}
			w.allow(d.Index.Descriptor.Digest)
			return d
		}
		first, second := change("one.test/app:arm"), change("one.test/app:s390x")
		if _, err := first.Publish(t.Context(), app, index.PublishOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := second.Publish(t.Context(), app, index.PublishOptions{}); !errors.Is(err, index.ErrMoved) {
			t.Errorf("error %v", err)
		}
		w.check(t)
		again := change("one.test/app:s390x")
		if _, err := again.Publish(t.Context(), app, index.PublishOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := len(again.Index.Images); got != 3 {
			t.Errorf("%d images", got)
		}
	})
}

// TestRoundTrips counts the time of an index behind 50 ms a request: the figures that README promises.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	const latency = 50 * time.Millisecond
	eight := []string{"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/386", "linux/ppc64le", "linux/s390x", "linux/riscv64"}
	for name, row := range map[string]struct {
		trips int
		do    func(w *world) func(context.Context) error
	}{
		"8 images of one repository": {5, func(w *world) func(context.Context) error {
			j := job{names: app}
			for i, p := range eight {
				putImage(w.one, "app", fmt.Sprintf("p%d", i), "x", p)
				j.sources = append(j.sources, fmt.Sprintf("one.test/app:p%d", i))
			}
			return func(ctx context.Context) error { _, err := j.run(ctx, w); return err }
		}},
		"8 repositories, mounted": {7, func(w *world) func(context.Context) error {
			j := job{names: app}
			for i, p := range eight {
				putImage(w.one, fmt.Sprintf("p%d", i), "1", "x", p)
				j.sources = append(j.sources, fmt.Sprintf("one.test/p%d:1", i))
			}
			return func(ctx context.Context) error { _, err := j.run(ctx, w); return err }
		}},
		"inspect with attestations": {4, func(w *world) func(context.Context) error {
			var images []ocispec.Descriptor
			for _, p := range eight {
				images = append(images, putImage(w.one, "other", "", "x", p))
			}
			attest(w.one, "other", "1", images...)
			return func(ctx context.Context) error {
				x, err := w.access.Pull(ctx, "one.test/other:1")
				if err == nil && (len(x.Images) != 8 || x.Images[7].Attestations[0].Predicates[0] != "https://slsa.dev/provenance/v1") {
					err = fmt.Errorf("it reads %v", x.Images)
				}
				return err
			}
		}},
	} {
		for _, tokens := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, tokens %v", name, tokens), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld()
					do, most := row.do(w), row.trips
					if tokens {
						guarded(w, &registrytest.Auth{User: "founder", Password: "canary-password"})
						most += 3 // the registry's challenge, a token to read, a token to write
					}
					w.net.Latency = latency
					begun := time.Now()
					if err := do(t.Context()); err != nil {
						t.Fatal(err)
					}
					w.check(t)
					got := int(time.Since(begun) / latency)
					t.Logf("%d round trips", got)
					if got > most {
						t.Errorf("%d round trips, at most %d", got, most)
					}
				})
			})
		}
	}
}
