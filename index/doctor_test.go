package index_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/internal/registrytest"
)

// TestDoctor finds each fault.
func TestDoctor(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		spoil func(r *registrytest.Registry, a, b ocispec.Descriptor) []ocispec.Descriptor
		want  string
	}{
		{"sound", func(_ *registrytest.Registry, a, b ocispec.Descriptor) []ocispec.Descriptor {
			return []ocispec.Descriptor{a, b}
		}, ""},
		{"a missing image", func(r *registrytest.Registry, a, b ocispec.Descriptor) []ocispec.Descriptor {
			r.Drop("app", a.Digest)
			return []ocispec.Descriptor{a, b}
		}, "broken: it is listed and not there"},
		{"a missing layer", func(r *registrytest.Registry, a, b ocispec.Descriptor) []ocispec.Descriptor {
			r.Drop("app", digest.FromString("xlinux/amd64"))
			return []ocispec.Descriptor{a, b}
		}, "broken: blob sha256:"},
		{"another size", func(_ *registrytest.Registry, a, b ocispec.Descriptor) []ocispec.Descriptor {
			a.Size++
			return []ocispec.Descriptor{a, b}
		}, "broken: sha256:"},
		{"another platform", func(_ *registrytest.Registry, a, b ocispec.Descriptor) []ocispec.Descriptor {
			p := must("linux/riscv64").OCI()
			a.Platform = &p
			return []ocispec.Descriptor{a, b}
		}, "broken: its entry says linux/riscv64, its config linux/amd64"},
		{"two for one platform", func(r *registrytest.Registry, a, b ocispec.Descriptor) []ocispec.Descriptor {
			return []ocispec.Descriptor{a, b, putImage(r, "app", "", "y", "linux/amd64")}
		}, "broken: sha256:"},
		{"no platform", func(_ *registrytest.Registry, a, b ocispec.Descriptor) []ocispec.Descriptor {
			a.Platform = nil
			return []ocispec.Descriptor{a, b}
		}, "doubtful: its entry names no platform"},
		{"a dangling attestation", func(_ *registrytest.Registry, a, b ocispec.Descriptor) []ocispec.Descriptor {
			b.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
			b.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digest.FromString("gone").String()}
			return []ocispec.Descriptor{a, b}
		}, "doubtful: it attests"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				list := row.spoil(w.one, putImage(w.one, "app", "", "x", "linux/amd64"), putImage(w.one, "app", "", "x", "linux/arm64"))
				raw := registrytest.Encode(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: list})
				w.one.PutManifest("app", "sick", ocispec.MediaTypeImageIndex, raw)
				d, err := w.access.Doctor(t.Context(), "one.test/app:sick")
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, p := range d.Problems {
					got = append(got, fmt.Sprintf("%s: %s", p.Severity, p.Problem))
					if p.Advice == "" {
						t.Errorf("no advice for %s", p.Problem)
					}
				}
				if row.want == "" && len(got) > 0 || row.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], row.want)) {
					t.Errorf("got %q, want %q", got, row.want)
				}
			})
		})
	}
}
