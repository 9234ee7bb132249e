package integration

import (
	"cmp"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	ctdplatforms "github.com/containerd/platforms"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/util/contentutil"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/integration/sandbox"
	"github.com/manifold-build/manifold/platforms"
)

// TestIndexLikePeers makes one index of the same images with manifold, manifest-tool, docker buildx imagetools and regctl. Entry by entry they are equal, and
// ours is read by everybody.
func TestIndexLikePeers(t *testing.T) {
	sb := sandbox.Start(t)
	tools, err := sb.Indexers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var sources, members []string
	for _, p := range []string{"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x"} {
		ref := sb.Ref("part-" + strings.ReplaceAll(p[len("linux/"):], "/", "-") + ":1")
		mustExec(t, sb, "manifold", "copy", "-q", "--platform", p, sb.Registry.Addr+"/library/busybox:1.35", ref)
		sources, members = append(sources, ref), append(members, "--ref", ref)
	}
	dir := t.TempDir()
	write(t, dir, "spec.yaml", "image: "+sb.Ref("mt:1")+"\nmanifests:\n- image: "+strings.Join(sources, "\n- image: ")+"\n")
	t.Setenv("BUILDX_CONFIG", filepath.Join(dir, "buildx"))
	mustExec(t, sb, append([]string{"manifold", "create", "-q", "-t", sb.Ref("manifold:1")}, sources...)...)
	mustExec(t, sb, filepath.Join(tools, "manifest-tool"), "--plain-http", "push", "--type", "oci", "from-spec", filepath.Join(dir, "spec.yaml"))
	mustExec(t, sb, append([]string{"buildx", "imagetools", "create", "-t", sb.Ref("buildx:1")}, sources...)...)
	regctl := []string{filepath.Join(tools, "regctl"), "--host", "reg=" + sb.Registry.Addr + ",tls=disabled"}
	mustExec(t, sb, append(append(slices.Clone(regctl), "index", "create", sb.Ref("regctl:1")), members...)...)
	ours := entries(t, sb.Ref("manifold:1"))
	if len(ours) != len(sources) {
		t.Errorf("ours has %d entries", len(ours))
	}
	for _, peer := range []string{"mt", "buildx", "regctl"} {
		if diff := gocmp.Diff(entries(t, sb.Ref(peer+":1")), ours); diff != "" {
			t.Errorf("%s (-theirs +ours)\n%s", peer, diff)
		}
	}
	// The same files, read the way manifest-tool reads them.
	mustExec(t, sb, "manifold", "create", "-q", "-t", sb.Ref("spec:1"), "--spec", filepath.Join(dir, "spec.yaml"))
	if diff := gocmp.Diff(ours, entries(t, sb.Ref("spec:1"))); diff != "" {
		t.Errorf("from the spec (-sources +spec)\n%s", diff)
	}
	readByAll(t, sb, tools, sb.Ref("manifold:1"))
}

// readByAll reads an index with every tool, and copies all of it with skopeo.
func readByAll(t *testing.T, sb *sandbox.Sandbox, tools, ref string) {
	t.Helper()
	for _, args := range [][]string{
		{"skopeo", "copy", "--quiet", "--all", "--src-tls-verify=false", "docker://" + ref, "oci:" + filepath.Join(t.TempDir(), "copy")},
		{"crane", "validate", "--insecure", "--remote", ref},
		{filepath.Join(tools, "regctl"), "--host", "reg=" + sb.Registry.Addr + ",tls=disabled", "manifest", "get", ref},
		{filepath.Join(tools, "manifest-tool"), "--plain-http", "inspect", ref},
		{"buildx", "imagetools", "inspect", ref},
	} {
		out := mustExec(t, sb, args...)
		if strings.Contains(strings.ToLower(out.Stderr), "warn") || strings.Contains(strings.ToLower(out.Stderr), "error") {
			t.Errorf("%s complains:\n%s", args[0], out.Stderr)
		}
	}
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchLocalhost))})
	name, desc, err := resolver.Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	fetcher, err := resolver.Fetcher(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x"} {
		m, err := images.Manifest(t.Context(), contentutil.FromFetcher(fetcher), desc, ctdplatforms.Only(ctdplatforms.MustParse(p)))
		if err != nil || len(m.Layers) == 0 {
			t.Errorf("containerd does not find %s: %v", p, err)
		}
	}
}

// entries are the images of an index, in canonical order: what tools agree about.
func entries(t *testing.T, ref string) []ocispec.Descriptor {
	t.Helper()
	x, err := index.NewClient(index.ClientOptions{}).Pull(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	var raw ocispec.Index
	if err := json.Unmarshal(x.Raw, &raw); err != nil {
		t.Fatal(err)
	}
	var out []ocispec.Descriptor
	for _, d := range raw.Manifests {
		p := platforms.FromOCI(*d.Platform).OCI() // arm64 and arm64/v8 are the same
		d.Platform = &p
		if len(d.Annotations) == 0 {
			d.Annotations = nil
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	return out
}

// TestFlattenLikeBuildx: an index with attestations that BuildKit wrote, and a single image beside it.
func TestFlattenLikeBuildx(t *testing.T) {
	sb := sandbox.Start(t)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", "FROM busybox:1.35\nLABEL made=here\n")
	out, err := sb.Exec(t.Context(), dir, "manifold", "build", "-q", "--provenance=true", "--platform", "linux/amd64,linux/arm64", "-t", sb.Ref("attested:1"), "--push", ".")
	if err != nil || out.Code != 0 {
		t.Fatalf("%v\n%s", err, out.Stderr)
	}
	mustExec(t, sb, "manifold", "copy", "-q", "--platform", "linux/s390x", sb.Registry.Addr+"/library/busybox:1.35", sb.Ref("single:1"))
	t.Setenv("BUILDX_CONFIG", filepath.Join(dir, "buildx"))
	mustExec(t, sb, "buildx", "imagetools", "create", "-t", sb.Ref("buildx:1"), sb.Ref("attested:1"), sb.Ref("single:1"))
	mustExec(t, sb, "manifold", "create", "-q", "-t", sb.Ref("manifold:1"), sb.Ref("attested:1"), sb.Ref("single:1"))
	if diff := gocmp.Diff(entries(t, sb.Ref("buildx:1")), entries(t, sb.Ref("manifold:1"))); diff != "" {
		t.Errorf("(-buildx +ours)\n%s", diff)
	}
	x, err := index.NewClient(index.ClientOptions{}).Pull(t.Context(), sb.Ref("manifold:1"))
	if err != nil {
		t.Fatal(err)
	}
	attested := 0
	for _, image := range x.Images {
		for _, a := range image.Attestations {
			if !strings.HasPrefix(a.Predicates[0], "https://slsa.dev/provenance/") {
				t.Errorf("%s is attested %v", image.Platform, a.Predicates)
			}
			attested++
		}
	}
	if len(x.Images) != 3 || attested != 2 {
		t.Errorf("%d images, %d attestations", len(x.Images), attested)
	}
	mustExec(t, sb, "manifold", "doctor", sb.Ref("manifold:1"))
}
