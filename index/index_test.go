package index_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/internal/registrytest"
	"github.com/manifold-build/manifold/platforms"
)

// server is an in-process registry whose requests can be answered by a hook before they reach it.
type server struct {
	addr string
	hook atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{}
	whole := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hook := s.hook.Load(); hook != nil && (*hook)(w, r) {
			return
		}
		whole.ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	s.addr = strings.TrimPrefix(h.URL, "http://")
	return s
}

func (s *server) intercept(f func(http.ResponseWriter, *http.Request) bool) { s.hook.Store(&f) }

// anonymous keeps tests from reading the user's own credentials.
var anonymous = index.NewClient(index.ClientOptions{Credentials: func(string) (string, string, error) { return "", "", nil }})

// put uploads a blob or a manifest as any client would.
func (s *server) put(t *testing.T, repo, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	b, ok := v.([]byte)
	if !ok {
		var err error
		if b, err = json.Marshal(v); err != nil {
			t.Fatal(err)
		}
	}
	d := digest.FromBytes(b)
	url := fmt.Sprintf("http://%s/v2/%s/manifests/%s", s.addr, repo, d)
	method := http.MethodPut
	if !strings.Contains(mediaType, "manifest") && !strings.Contains(mediaType, "index") {
		method, url = http.MethodPost, fmt.Sprintf("http://%s/v2/%s/blobs/uploads/?digest=%s", s.addr, repo, d)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusCreated {
		t.Fatalf("%s %s: %s", method, url, res.Status)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

// putIndex uploads an index with an image for each platform, and an attestation of the first.
func (s *server) putIndex(t *testing.T, repo string, list ...string) (ocispec.Descriptor, []byte) {
	t.Helper()
	x := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Annotations: map[string]string{"team": "founders"},
	}
	for _, spec := range list {
		p, err := platforms.Parse(spec)
		if err != nil {
			t.Fatal(err)
		}
		config := s.put(t, repo, ocispec.MediaTypeImageConfig, ocispec.Image{Platform: p.OCI()})
		layer := s.put(t, repo, ocispec.MediaTypeImageLayerGzip, []byte("layer of "+spec))
		d := s.put(t, repo, ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{layer},
		})
		oci := p.OCI()
		d.Platform = &oci
		x.Manifests = append(x.Manifests, d)
	}
	attestation := s.put(t, repo, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: s.put(t, repo, ocispec.MediaTypeImageConfig, ocispec.Image{}),
	})
	attestation.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	attestation.Annotations = map[string]string{
		"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": x.Manifests[0].Digest.String(),
	}
	x.Manifests = append(x.Manifests, attestation)
	raw, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	return s.put(t, repo, ocispec.MediaTypeImageIndex, raw), raw
}

func TestPull(t *testing.T) {
	s := newServer(t)
	desc, raw := s.putIndex(t, "app", "linux/amd64", "linux/arm/v7")
	x, err := anonymous.Pull(t.Context(), s.addr+"/app@"+desc.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	if !x.IsIndex() || !bytes.Equal(x.Raw, raw) || x.Descriptor.Digest != desc.Digest || x.Annotations["team"] != "founders" {
		t.Errorf("the index came back as %+v", x)
	}
	var got []string
	for _, image := range x.Images {
		got = append(got, fmt.Sprintf("%s config %s, %d layers, %d attestations, %v", image.Platform, image.ConfigPlatform,
			len(image.Layers), len(image.Attestations), image.Size > 20))
	}
	want := []string{"linux/amd64 config linux/amd64, 1 layers, 1 attestations, true", "linux/arm/v7 config linux/arm/v7, 1 layers, 0 attestations, true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	single, err := anonymous.Pull(t.Context(), s.addr+"/app@"+x.Images[1].Descriptor.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	if single.IsIndex() || len(single.Images) != 1 || single.Images[0].Platform.String() != "linux/arm/v7" {
		t.Errorf("the image came back as %+v", single)
	}
	if _, err := anonymous.Pull(t.Context(), s.addr+"/app:none"); !errors.Is(err, index.ErrNotFound) {
		t.Errorf("an unknown tag: %v", err)
	}
}

// TestPullWrongBytes: bytes that are not those of the digest are an error, whatever the headers say.
func TestPullWrongBytes(t *testing.T) {
	s := newServer(t)
	desc, raw := s.putIndex(t, "app", "linux/amd64")
	s.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, desc.Digest.String()) {
			return false
		}
		w.Header().Set("Content-Type", desc.MediaType)
		w.Header().Set("Docker-Content-Digest", desc.Digest.String())
		_, _ = w.Write(bytes.Replace(raw, []byte("founders"), []byte("founderz"), 1))
		return true
	})
	_, err := anonymous.Pull(t.Context(), s.addr+"/app@"+desc.Digest.String())
	if err == nil || !strings.Contains(err.Error(), "the bytes that came are not those of the digest") {
		t.Errorf("error %v", err)
	}
}

// TestPublish moves several tags in two registries and reads them back.
func TestPublish(t *testing.T) {
	a, b := newServer(t), newServer(t)
	desc, raw := a.putIndex(t, "app", "linux/amd64", "linux/arm64")
	b.putIndex(t, "team/app", "linux/amd64", "linux/arm64")
	var moves []index.Move
	for _, ref := range []string{a.addr + "/app:1", a.addr + "/app:latest", b.addr + "/team/app:1"} {
		moves = append(moves, index.Move{Ref: ref, Descriptor: desc, Raw: raw})
	}
	receipts, err := anonymous.Publish(t.Context(), moves)
	if err != nil {
		t.Fatal(err)
	}
	if len(receipts) != len(moves) {
		t.Errorf("%d receipts for %d tags", len(receipts), len(moves))
	}
	for _, m := range moves {
		if x, err := anonymous.Pull(t.Context(), m.Ref); err != nil || x.Descriptor.Digest != desc.Digest {
			t.Errorf("%s names %s, %v", m.Ref, x.Descriptor.Digest, err)
		}
	}
}

// TestPublishMovesNothingWhileSomethingIsMissing: the second registry lacks an image, so the first one's tag stays.
func TestPublishMovesNothingWhileSomethingIsMissing(t *testing.T) {
	a, b := newServer(t), newServer(t)
	old, oldRaw := a.putIndex(t, "app", "linux/amd64")
	tag := index.Move{Ref: a.addr + "/app:1", Descriptor: old, Raw: oldRaw}
	if _, err := anonymous.Publish(t.Context(), []index.Move{tag}); err != nil {
		t.Fatal(err)
	}
	desc, raw := a.putIndex(t, "app", "linux/amd64", "linux/arm64")
	ctx, cancel := context.WithCancel(t.Context())
	var asked atomic.Int32
	b.intercept(func(http.ResponseWriter, *http.Request) bool {
		if asked.Add(1) > 3 {
			cancel() // it never comes: stop waiting
		}
		return false
	})
	_, err := anonymous.Publish(ctx, []index.Move{
		{Ref: a.addr + "/app:1", Descriptor: desc, Raw: raw}, {Ref: b.addr + "/app:1", Descriptor: desc, Raw: raw},
	})
	var te *index.TagError
	if !errors.As(err, &te) || te.Ref != b.addr+"/app:1" || te.Moved {
		t.Fatalf("error %v, want one for the second registry's tag", err)
	}
	x, err := anonymous.Pull(t.Context(), tag.Ref)
	if err != nil || x.Descriptor.Digest != old.Digest {
		t.Errorf("the tag names %s, %v; it has to stay %s", x.Descriptor.Digest, err, old.Digest)
	}
}

// TestPublishReadsBackUntilItMatches: a registry that serves the old tag for a while is waited for, and no success is told
// before.
func TestPublishReadsBackUntilItMatches(t *testing.T) {
	s := newServer(t)
	desc, raw := s.putIndex(t, "app", "linux/amd64")
	var stale atomic.Int32
	moved := false
	s.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/manifests/1") {
			return false
		}
		if r.Method == http.MethodPut {
			moved = true
			return false
		}
		if !moved || stale.Add(1) > 4 {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		return true
	})
	receipts, err := anonymous.Publish(t.Context(), []index.Move{{Ref: s.addr + "/app:1", Descriptor: desc, Raw: raw}})
	if err != nil || len(receipts) != 1 {
		t.Fatalf("%v, %v", receipts, err)
	}
	if stale.Load() < 4 {
		t.Errorf("it was asked %d times only", stale.Load())
	}
}

func TestCheckPush(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		if err := w.access.CheckPush(t.Context(), "one.test/app:1"); err != nil {
			t.Error(err)
		}
		for code, want := range map[int]string{
			http.StatusUnauthorized:       "registry one.test does not accept the credentials for pushing to team/app: run docker login one.test, or check the password it stored",
			http.StatusForbidden:          "registry one.test does not allow pushing to team/app with these credentials",
			http.StatusNotFound:           "registry one.test knows no repository team/app and does not make it: create it first",
			http.StatusServiceUnavailable: "registry one.test refuses a push to team/app: status 503 Service Unavailable",
		} {
			w.net.Fault = func(registrytest.Request) *registrytest.Fault { return status(code) }
			if err := w.access.CheckPush(t.Context(), "one.test/team/app"); err == nil || err.Error() != want {
				t.Errorf("status %d: error %v\nwant %s", code, err, want)
			}
		}
	})
}

// TestCheckPushRetries: a registry that is busy for a moment is asked again, one that stays busy is reported.
func TestCheckPushRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		busyFor := 2
		w.net.Fault = func(r registrytest.Request) *registrytest.Fault {
			if r.Method == http.MethodPost && r.Hit <= busyFor {
				return status(http.StatusTooManyRequests)
			}
			return nil
		}
		if err := w.access.CheckPush(t.Context(), "one.test/team/app:1"); err != nil {
			t.Error(err)
		}
		w.net.Forget()
		busyFor = 100
		err := w.access.CheckPush(t.Context(), "one.test/team/app:1")
		if err == nil || !strings.Contains(err.Error(), "refuses a push to team/app: status 429") || len(w.net.Log()) != 6 {
			t.Errorf("error %v after %d requests", err, len(w.net.Log()))
		}
	})
}

// TestPullArchive reads an index out of a tar archive, and refuses one that is no layout.
func TestPullArchive(t *testing.T) {
	files := map[string][]byte{}
	add := func(mediaType string, v any) ocispec.Descriptor {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		d := digest.FromBytes(b)
		files["blobs/sha256/"+d.Encoded()] = b
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
	}
	config := add(ocispec.MediaTypeImageConfig, ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "s390x"}})
	image := add(ocispec.MediaTypeImageManifest, ocispec.Manifest{Config: config})
	x := add(ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: []ocispec.Descriptor{image}})
	top, err := json.Marshal(ocispec.Index{Manifests: []ocispec.Descriptor{x, x}})
	if err != nil {
		t.Fatal(err)
	}
	files["index.json"] = top
	got, err := anonymous.Pull(t.Context(), "oci-archive:"+writeTar(t, files))
	if err != nil {
		t.Fatal(err)
	}
	if got.Descriptor.Digest != x.Digest || len(got.Images) != 1 || got.Images[0].Platform.String() != "linux/s390x" {
		t.Errorf("got %+v", got)
	}
	delete(files, "blobs/sha256/"+config.Digest.Encoded())
	if _, err := anonymous.Pull(t.Context(), "oci-archive:"+writeTar(t, files)); err == nil {
		t.Error("a missing config has to be an error")
	}
	delete(files, "index.json")
	if _, err := anonymous.Pull(t.Context(), "oci-archive:"+writeTar(t, files)); err == nil || !strings.Contains(err.Error(), "no index.json") {
		t.Errorf("error %v", err)
	}
}

func writeTar(t *testing.T, files map[string][]byte) string {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for name, data := range files {
		if err := tw.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "layout.tar")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAmbiguousIndex refuses an index that others may read in another way.
func TestAmbiguousIndex(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]string{
		"an image too":       `{"schemaVersion":2,"mediaType":"%s","manifests":[],"config":{},"layers":[]}`,
		"manifests twice":    `{"schemaVersion":2,"mediaType":"%s","manifests":[],"manifests":[]}`,
		"in capitals":        `{"schemaVersion":2,"mediaType":"%s","manifests":[],"Manifests":[]}`,
		"another media type": `{"schemaVersion":2,"mediaType":"x%s","manifests":[]}`,
		"deep":               `{"schemaVersion":2,"mediaType":"%s","manifests":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			put := func(name string, dt []byte) {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), dt, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			raw := fmt.Appendf(nil, doc, ocispec.MediaTypeImageIndex)
			d := digest.FromBytes(raw)
			put("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
			put("blobs/sha256/"+d.Encoded(), raw)
			put("index.json", fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, ocispec.MediaTypeImageIndex, d, len(raw)))
			source, err := index.NewClient(index.ClientOptions{}).Open(t.Context(), "oci-layout:"+dir)
			if err == nil {
				_ = source.Close()
				t.Error("it is accepted")
			}
		})
	}
}

// digestOf is the descriptor of some image.
func digestOf(i int) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(strconv.Itoa(i)), Size: 1}
}
