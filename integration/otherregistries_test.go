package integration

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/integration/sandbox"
)

// TestOtherRegistries takes an index through registries that others made: copied with a signature, changed, mounted, examined, listed and deleted.
func TestOtherRegistries(t *testing.T) {
	sb := sandbox.Start(t)
	source := sb.Ref("signed:1")
	mustExec(t, sb, "manifold", "copy", "-q", "--platform=linux/amd64,linux/arm64", sb.Registry.Addr+"/library/busybox:1.35", source)
	signature := sign(t, source)
	for name, reg := range sb.OtherRegistries(t) {
		t.Run(name, func(t *testing.T) {
			app := reg.Addr + "/team/app"
			out := mustExec(t, sb, "manifold", "copy", source, app+":1.0")
			if !strings.Contains(out.Stderr, "1 referrers") {
				t.Errorf("no signature is copied:\n%s", out.Stderr)
			}
			if out := mustExec(t, sb, "manifold", "inspect", "--referrers", app+":1.0"); !strings.Contains(out.Stdout, signature.String()) {
				t.Errorf("no signature is shown:\n%s", out.Stdout)
			}
			mustExec(t, sb, "manifold", "create", "-t", reg.Addr+"/team/other:1", "-t", app+":new", "--annotation", "a=b", app+":1.0")
			for _, ref := range []string{app + ":1.0", app + ":new", reg.Addr + "/team/other:1"} {
				mustExec(t, sb, "manifold", "doctor", ref)
				mustExec(t, sb, "manifold", "verify", ref)
				mustExec(t, sb, "crane", "validate", "--insecure", "--fast", "--remote", ref)
			}
			mustExec(t, sb, "manifold", "copy", app+":1.0", "oci-archive:"+filepath.Join(t.TempDir(), "a.tar"))
			tags := mustExec(t, sb, "manifold", "tags", app).Stdout
			for _, tag := range []string{"1.0\n", "new\n"} {
				if !strings.Contains(tags, tag) {
					t.Errorf("no tag %q in %q", tag, tags)
				}
			}
			x, err := index.NewClient(index.ClientOptions{}).Pull(t.Context(), app+":1.0")
			if err != nil {
				t.Fatal(err)
			}
			image := app + "@" + x.Images[0].Descriptor.Digest.String()
			if out := mustFail(t, sb, "manifold", "delete", image); !strings.Contains(out.Stderr, "is not deleted: it is listed in 1.0, new: --force") {
				t.Errorf("an image that is listed:\n%s", out.Stderr)
			}
			deleted, err := sb.Exec(t.Context(), t.TempDir(), "manifold", "delete", app+":new")
			if err != nil {
				t.Fatal(err)
			}
			if deleted.Code != 0 {
				_, advice, ok := strings.Cut(deleted.Stderr, "does not delete tags alone: delete ")
				if !ok {
					t.Fatalf("a tag:\n%s", deleted.Stderr)
				}
				byDigest, _, _ := strings.Cut(advice, ",")
				if out := mustFail(t, sb, "manifold", "delete", byDigest); !strings.Contains(out.Stderr, "it is tagged new") {
					t.Errorf("by digest:\n%s", out.Stderr)
				}
				mustExec(t, sb, "manifold", "delete", "--force", byDigest)
			}
			if tags := mustExec(t, sb, "manifold", "tags", app).Stdout; strings.Contains(tags, "new\n") || !strings.Contains(tags, "1.0\n") {
				t.Errorf("tags after one was deleted: %q", tags)
			}
			mustExec(t, sb, "manifold", "doctor", app+":1.0")
		})
	}
}

// sign puts an artifact that refers to what a reference names beside it.
func sign(t *testing.T, ref string) digest.Digest {
	t.Helper()
	x, err := index.NewClient(index.ClientOptions{}).Pull(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	empty := ocispec.DescriptorEmptyJSON
	raw, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.example.signature",
		Config: empty, Layers: []ocispec.Descriptor{empty},
		Subject: &ocispec.Descriptor{MediaType: x.Descriptor.MediaType, Digest: x.Descriptor.Digest, Size: x.Descriptor.Size},
	})
	if err != nil {
		t.Fatal(err)
	}
	host, path, _ := strings.Cut(ref[:strings.LastIndex(ref, ":")], "/")
	put := func(method, to, mediaType string, body []byte) (location, subject string) {
		req, err := http.NewRequestWithContext(t.Context(), method, to, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", mediaType)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil || res.StatusCode >= http.StatusBadRequest {
			t.Fatalf("%s %s: %s, %v", method, to, res.Status, err)
		}
		return res.Header.Get("Location"), res.Header.Get("Oci-Subject")
	}
	base := "http://" + host + "/v2/" + path
	location, _ := put(http.MethodPost, base+"/blobs/uploads/", "", nil)
	at, err := url.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	query := at.Query()
	query.Set("digest", empty.Digest.String())
	at.RawQuery = query.Encode()
	put(http.MethodPut, at.String(), "application/octet-stream", empty.Data)
	d := digest.FromBytes(raw)
	if _, kept := put(http.MethodPut, base+"/manifests/"+d.String(), ocispec.MediaTypeImageManifest, raw); kept != "" {
		return d
	}
	// The registry keeps no referrers: a tag stands in for them (distribution-spec, "Referrers Tag Schema").
	list, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(raw)), ArtifactType: "application/vnd.example.signature"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	put(http.MethodPut, base+"/manifests/"+strings.Replace(x.Descriptor.Digest.String(), ":", "-", 1), ocispec.MediaTypeImageIndex, list)
	return d
}

// TestDockerLoads: Docker loads what is copied to it through a pipe, and what it saves is copied back.
func TestDockerLoads(t *testing.T) {
	sb := sandbox.Start(t)
	engine := sb.StartEngine(t)
	dir := t.TempDir()
	script := "set -eu\nexport DOCKER_HOST=" + engine.Host + "\n" +
		"manifold copy -q --platform linux/" + runtime.GOARCH + " " + sb.Registry.Addr + "/library/busybox:1.35 docker-archive:-:app:1.0 | docker load\n" +
		"docker run --rm --network none app:1.0 echo it runs\n" +
		"docker save app:1.0 | manifold copy -q docker-archive:- " + sb.Ref("saved:1") + "\n" +
		"manifold verify " + sb.Ref("saved:1") + "\n"
	if err := os.WriteFile(filepath.Join(dir, "script"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := sb.Exec(t.Context(), dir, "sh", "script")
	if err != nil || out.Code != 0 {
		t.Fatalf("%v\n%s\n%s", err, out.Stdout, out.Stderr)
	}
	for _, want := range []string{"Loaded image: app:1.0", "it runs", "verified"} {
		if !strings.Contains(out.Stdout, want) {
			t.Errorf("no %q in\n%s\n%s", want, out.Stdout, out.Stderr)
		}
	}
}
