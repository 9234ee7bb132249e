package builder

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/platforms"
)

func TestTargetTags(t *testing.T) {
	targets := parseList(t, "linux/amd64,linux/arm64,linux/arm/v7")
	got, err := targetTags("{{.Tag}}-{{.Uname}}", []string{"app:1.0", "ghcr.io/a/b:2"}, targets)
	if err != nil {
		t.Fatal(err)
	}
	want := map[platforms.Platform][]string{
		targets[0]: {"docker.io/library/app:1.0-x86_64", "ghcr.io/a/b:2-x86_64"},
		targets[1]: {"docker.io/library/app:1.0-aarch64", "ghcr.io/a/b:2-aarch64"},
		targets[2]: {"docker.io/library/app:1.0-armv7l", "ghcr.io/a/b:2-armv7l"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for text, want := range map[string]string{
		"{{.Tag}-":     "bad character",
		"{{.Nothing}}": "can't evaluate field Nothing",
		"{{.OS}}":      "names docker.io/library/app:linux for linux/amd64 and for linux/arm64",
		"-{{.Arch}}":   `"-amd64" is not a tag`,
	} {
		if _, err := targetTags(text, []string{"app:1"}, targets); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", text, err, want)
		}
	}
}

func TestPlanExports(t *testing.T) {
	archive := filepath.Join(t.TempDir(), "app.tar")
	for _, tc := range []struct {
		name    string
		req     Request
		entries []string
		tags    []string
		err     string
	}{
		{name: "nothing"},
		{
			name:    "push to two registries",
			req:     Request{Tags: []string{"app:1", "ghcr.io/a/b:2", "ghcr.io/a/b:3"}, Push: true},
			entries: []string{"image compression-level=1 name=docker.io/library/app,ghcr.io/a/b oci-mediatypes=true push-by-digest=true push=true"},
			tags:    []string{"docker.io/library/app:1", "ghcr.io/a/b:2", "ghcr.io/a/b:3"},
		},
		{
			name:    "registry output with a name",
			req:     Request{Outputs: []Output{{Type: "registry", Attrs: map[string]string{"name": "app:1", "compression": "zstd"}}}},
			entries: []string{"image compression=zstd name=docker.io/library/app oci-mediatypes=true push-by-digest=true push=true"},
			tags:    []string{"docker.io/library/app:1"},
		},
		{
			name:    "the user pushes by digest",
			req:     Request{Outputs: []Output{{Type: "image", Attrs: map[string]string{"name": "a/b", "push": "true", "push-by-digest": "true"}}}},
			entries: []string{"image compression-level=1 name=a/b push-by-digest=true push=true"},
		},
		{
			name:    "archive and annotations",
			req:     Request{Tags: []string{"app:1"}, Outputs: []Output{{Type: "oci", Dest: archive}}, Annotations: map[string]string{"annotation.a": "b"}},
			entries: []string{"oci annotation.a=b compression-level=1 name=app:1"},
		},
		{name: "no name", req: Request{Push: true}, err: "nothing to push to: name the result with -t"},
		{name: "digest", req: Request{Push: true, Tags: []string{"app@" + digest.FromString("x").String()}}, err: "a digest cannot be pushed to"},
		{name: "bad name", req: Request{Push: true, Tags: []string{"App:1"}}, err: `invalid image reference "App:1"`},
		{name: "bad type", req: Request{Outputs: []Output{{Type: "zip"}}}, err: `unknown output type "zip"`},
		{name: "no folder", req: Request{Outputs: []Output{{Type: "local"}}}, err: "output local needs dest=FOLDER"},
		{name: "bad folder", req: Request{Outputs: []Output{{Type: "oci", Dest: "/nowhere/app.tar"}}}, err: "dest=/nowhere/app.tar"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := tc.req.planExports()
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want one with %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range p.entries {
				got = append(got, strings.TrimSpace(e.Type+" "+pairs(e.Attrs)))
			}
			if diff := cmp.Diff(tc.entries, got); diff != "" {
				t.Errorf("entries (-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(tc.tags, p.tags); diff != "" {
				t.Errorf("tags (-want +got)\n%s", diff)
			}
		})
	}
}

// TestArchiveAppearsWhole: a failed build leaves the older archive, a finished one replaces it.
func TestArchiveAppearsWhole(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "app.tar")
	if err := os.WriteFile(dest, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, failed := range []bool{true, false} {
		p, err := Request{Outputs: []Output{{Type: "oci", Dest: dest}}}.planExports()
		if err != nil {
			t.Fatal(err)
		}
		w, err := p.entries[0].Output(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("new")); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := p.finish(failed); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(dest)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]string{true: "old", false: "new"}[failed]; string(got) != want {
			t.Errorf("failed=%v: the archive holds %q, want %q", failed, got, want)
		}
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(dest), ".manifold-*")); err != nil || left != nil {
			t.Errorf("failed=%v: left behind %v, %v", failed, left, err)
		}
	}
}

// TestPrepare: Dockerfiles from several folders are offered from the one that holds them all.
func TestPrepare(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"ctx/Dockerfile", "docker/arm.Dockerfile"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("FROM scratch\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	arm, err := platforms.ParsePattern("linux/arm*")
	if err != nil {
		t.Fatal(err)
	}
	r := Request{
		Context: filepath.Join(dir, "ctx"), Dockerfile: filepath.Join(dir, "ctx/Dockerfile"), Targets: parseList(t, "linux/amd64,linux/arm64"),
		Stage: "final", Strategy: platforms.Cross, NoCacheStages: []string{"a", "b"}, Pull: true,
		BuildArgs: map[string]string{"linux/arm64:A": "b"}, Labels: map[string]string{"l": "m"}, Attest: map[string]string{"sbom": ""},
		PerTarget: []Override{{Pattern: arm, Dockerfile: filepath.Join(dir, "docker/arm.Dockerfile"), Strategy: platforms.Emulate, Stage: "other"}},
	}
	var opt client.SolveOpt
	if _, err := r.prepare(&opt); err != nil {
		t.Fatal(err)
	}
	want := "attest:sbom= build-arg:linux/arm64:A=b filename=ctx/Dockerfile image-resolve-mode=pull label:l=m " +
		"linux/arm*:filename=docker/arm.Dockerfile linux/arm*:manifold:strategy=emulate linux/arm*:target=other manifold:strategy=cross " +
		"no-cache=a,b platform=linux/amd64,linux/arm64 target=final"
	if diff := cmp.Diff(want, pairs(opt.FrontendAttrs)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	r = Request{Context: "https://github.com/moby/buildkit.git#master", Dockerfile: "sub/Dockerfile"}
	opt = client.SolveOpt{}
	if _, err := r.prepare(&opt); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("context=https://github.com/moby/buildkit.git#master filename=sub/Dockerfile", pairs(opt.FrontendAttrs)); diff != "" {
		t.Errorf("remote (-want +got)\n%s", diff)
	}
	for _, r := range []Request{
		{Context: filepath.Join(dir, "nothing")}, {Context: dir, Dockerfile: filepath.Join(dir, "nothing")},
		{Context: dir, Contexts: map[string]string{"x": filepath.Join(dir, "nothing")}},
	} {
		if _, err := r.prepare(&client.SolveOpt{}); err == nil {
			t.Errorf("%+v has to be refused", r)
		}
	}
}

// TestInsecureOutput: registry.insecure=true is for this process too, and for the output's own hosts only.
func TestInsecureOutput(t *testing.T) {
	p, err := Request{Outputs: []Output{{Type: "registry", Attrs: map[string]string{"name": "registry.test:5000/app:1", "registry.insecure": "true"}}}}.planExports()
	if err != nil {
		t.Fatal(err)
	}
	r := p.client(nil).Options()
	for host, want := range map[string]bool{"registry.test:5000": true, "ghcr.io": false, "127.0.0.1:5000": true} {
		if got, err := r.PlainHTTP(host); got != want || err != nil {
			t.Errorf("plain http to %s: %v, %v", host, got, err)
		}
	}
	if _, err := (Request{Outputs: []Output{{Type: "registry", Attrs: map[string]string{"name": "a", "registry.insecure": "maybe"}}}}).planExports(); err == nil {
		t.Error("registry.insecure=maybe has to be refused")
	}
}

// TestInsecureRegistry: what this process is told of a registry BuildKit is told too.
func TestInsecureRegistry(t *testing.T) {
	all := func(string) (bool, error) { return true, nil }
	for name, tc := range map[string]struct {
		ref  string
		r    index.ClientOptions
		want string
	}{
		"TLS":                  {"registry.test/app:1", index.ClientOptions{}, ""},
		"any certificate":      {"registry.test/app:1", index.ClientOptions{Insecure: true}, "true"},
		"plain http":           {"registry.test/app:1", index.ClientOptions{PlainHTTP: all}, "true"},
		"plain http, loopback": {"127.0.0.1:5000/app:1", index.ClientOptions{PlainHTTP: all}, ""},
	} {
		p, err := Request{Push: true, Tags: []string{tc.ref}}.planExports()
		if err != nil {
			t.Fatal(err)
		}
		p.client(index.NewClient(tc.r))
		if got := p.entries[0].Attrs[exportInsecure]; got != tc.want {
			t.Errorf("%s: registry.insecure=%q, want %q", name, got, tc.want)
		}
	}
}

// TestLinkedArchive: an archive behind a link replaces what the link points to.
func TestLinkedArchive(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "real.tar"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link.tar")
	if err := os.Symlink("real.tar", link); err != nil {
		t.Fatal(err)
	}
	a, err := newArchive(Output{Type: "oci", Dest: link})
	if err != nil {
		t.Fatal(err)
	}
	w, err := a.open()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), a.finish(false)); err != nil {
		t.Fatal(err)
	}
	if target, err := os.Readlink(link); err != nil || target != "real.tar" {
		t.Errorf("the link is %q, %v", target, err)
	}
}

// TestTake: a result that lacks a target, holds one twice, or whose config says something else is refused.
func TestTake(t *testing.T) {
	targets := parseList(t, "linux/amd64,linux/arm64")
	image := func(p, config platforms.Platform) index.Image {
		return index.Image{Platform: p, ConfigPlatform: config, Descriptor: ocispec.Descriptor{Digest: digest.FromString(p.String())}}
	}
	good := index.Index{Images: []index.Image{image(targets[1], targets[1]), image(targets[0], targets[0])}}
	r := Result{targets: targets}
	if err := r.take(good, "registry"); err != nil {
		t.Fatal(err)
	}
	if r.Images[0].Platform != targets[0] {
		t.Error("the images are not in the targets' order")
	}
	for want, images := range map[string][]index.Image{
		"linux/arm64: the result in registry holds no image for it":               {image(targets[0], targets[0])},
		"linux/amd64: the result in registry holds 2 images for it":               {image(targets[0], targets[0]), image(targets[0], targets[0]), image(targets[1], targets[1])},
		"linux/arm64: the image's config in registry says linux/amd64":            {image(targets[0], targets[0]), image(targets[1], targets[0])},
		"linux/amd64: the result in registry holds no image for it\nlinux/arm64:": nil,
	} {
		r := Result{targets: targets}
		err := r.take(index.Index{Images: images}, "registry")
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

func pairs(m map[string]string) string {
	var out []string
	for k, v := range m {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func parseList(t *testing.T, s string) []platforms.Platform {
	t.Helper()
	list, err := platforms.ParseList(s)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestNoClient: a builder without a client of its own serves BuildKit what docker login stored.
func TestNoClient(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	if provider, err := (Builder{}).credentials(); err != nil || provider == nil {
		t.Error(err)
	}
}
