package index_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	ctdimages "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/plugins/content/local"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/internal/registrytest"
	"github.com/manifold-build/manifold/platforms"
)

// busiest counts the requests that are under way at once, until their answers are read: those that bring a blob's bytes, and the others.
type busiest struct {
	inside http.RoundTripper

	mu         sync.Mutex
	now, most  [2]int
	notCounted func(*http.Request) bool
}

func (b *busiest) RoundTrip(req *http.Request) (*http.Response, error) {
	b.mu.Lock()
	counted := b.notCounted(req)
	b.mu.Unlock()
	kind := 0
	if req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/blobs/") || req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/") && counted {
		kind = 1
	}
	b.mu.Lock()
	b.now[kind]++
	b.most[kind] = max(b.most[kind], b.now[kind])
	b.mu.Unlock()
	done := sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.now[kind]--
	})
	res, err := b.inside.RoundTrip(req)
	if err != nil {
		done()
		return nil, err
	}
	res.Body = &closing{res.Body, done}
	return res, nil
}

type closing struct {
	io.ReadCloser

	done func()
}

func (c *closing) Close() error {
	c.done()
	return c.ReadCloser.Close()
}

// TestLimits: what a client has under way at once is bounded for all that is asked of it together.
func TestLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.net.Latency = 50 * time.Millisecond
		opt := w.access.Options()
		layers := map[string]bool{}
		b := &busiest{inside: w.net, notCounted: func(req *http.Request) bool { return layers[filepath.Base(req.URL.Path)] }}
		opt.Transport = b
		client := index.NewClient(opt)
		list := []string{"linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le", "linux/riscv64", "linux/386", "linux/arm/v7", "linux/arm/v6"}
		const indexes = 30
		for i := range indexes {
			putIndexOf(w.one, "many", strconv.Itoa(i), fmt.Sprint("layer ", i), list...)
		}
		var eg errgroup.Group
		for i := range indexes {
			eg.Go(func() error {
				x, err := client.Pull(t.Context(), fmt.Sprintf("one.test/many:%d", i))
				b.mu.Lock()
				defer b.mu.Unlock()
				for _, image := range x.Images {
					for _, l := range image.Layers {
						layers[l.Digest.Encoded()] = true
					}
				}
				return err
			})
		}
		if err := eg.Wait(); err != nil {
			t.Fatal(err)
		}
		if b.most[0] != 48 {
			t.Errorf("%d requests at once, want 48", b.most[0])
		}
		for i := range indexes {
			eg.Go(func() error {
				_, err := client.Copy(t.Context(), index.CopyRequest{Source: fmt.Sprintf("one.test/many:%d", i), Names: []string{fmt.Sprintf("two.test/copy:%d", i)}})
				return err
			})
		}
		if err := eg.Wait(); err != nil {
			t.Fatal(err)
		}
		if b.most[0] > 48+6 { // configs are read as small things, and then brought as blobs
			t.Errorf("%d requests at once, at most 48 and 6 blobs", b.most[0])
		}
		if b.most[1] < 6 || b.most[1] > 12 { // each of 6 blobs is read and sent
			t.Errorf("%d blobs' requests at once, want 6 blobs", b.most[1])
		}
	})
}

// TestStreams copies through a pipe in both formats, and gives docker load what it reads.
func TestStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		putIndexOf(w.one, "src", "1", "a layer", "linux/amd64", "linux/arm64")
		arm64 := []platforms.Platform{must("linux/arm64")}
		for _, tc := range []struct {
			name   string
			only   []platforms.Platform
			images int
			error  string
		}{
			{"oci-archive:-", nil, 2, ""},
			{"oci-archive:-:1.0", arm64, 1, ""},
			{"docker-archive:-:app:1.0", arm64, 1, ""},
			{"docker-archive:-", arm64, 1, ""},
			{"docker-archive:-", nil, 0, "choose one image with --platform"},
			{"docker-archive:-:Not a name", arm64, 0, "docker load wants a name"},
		} {
			var out bytes.Buffer
			opt := w.access.Options()
			opt.Stdout = &out
			_, err := index.NewClient(opt).Copy(t.Context(), index.CopyRequest{Source: "one.test/src:1", Names: []string{tc.name}, Platforms: tc.only})
			if tc.error != "" {
				if err == nil || !strings.Contains(err.Error(), tc.error) {
					t.Errorf("%s: %v", tc.name, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v", tc.name, err)
			}
			raw := slices.Clone(out.Bytes())
			opt.Stdin = &out
			scheme, _, _ := strings.Cut(tc.name, ":")
			if got, err := index.NewClient(opt).Copy(t.Context(), index.CopyRequest{Source: scheme + ":-", Names: []string{"two.test/" + scheme + ":1"}}); err != nil {
				t.Errorf("%s, read: %v", tc.name, err)
			} else if x, err := w.access.Pull(t.Context(), "two.test/"+scheme+":1"); err != nil || len(x.Images) != tc.images {
				t.Errorf("%s, read: %d images of %s, %v", tc.name, len(x.Images), got.Descriptor.Digest, err)
			}
			if scheme != "docker-archive" {
				continue
			}
			files := map[string][]byte{}
			for tr := tar.NewReader(bytes.NewReader(raw)); ; {
				h, err := tr.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if files[h.Name], err = io.ReadAll(tr); err != nil {
					t.Fatal(err)
				}
			}
			var list []struct {
				Config   string   `json:"Config"`
				RepoTags []string `json:"RepoTags"`
				Layers   []string `json:"Layers"`
			}
			if err := json.Unmarshal(files["manifest.json"], &list); err != nil || len(list) != 1 {
				t.Fatalf("%s: %s: %v", tc.name, files["manifest.json"], err)
			}
			if want := strings.Contains(tc.name, "app:1.0"); want != slices.Equal(list[0].RepoTags, []string{"app:1.0"}) {
				t.Errorf("%s: tags %q", tc.name, list[0].RepoTags)
			}
			for _, name := range append(list[0].Layers, list[0].Config) {
				if files[name] == nil {
					t.Errorf("%s: no %s in it", tc.name, name)
				}
			}
		}
	})
}

// TestOneClient: a client asks for a token once for all that is asked of it.
func TestOneClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		a := &registrytest.Auth{User: "founder", Password: "canary-password"}
		guarded(w, a)
		var eg errgroup.Group
		for range 20 {
			eg.Go(func() error {
				_, err := w.access.Pull(t.Context(), "one.test/app:1.0")
				return err
			})
		}
		if err := eg.Wait(); err != nil {
			t.Fatal(err)
		}
		if asked := a.Asked(); len(asked) != 1 || asked["repository:app:pull"] != 1 {
			t.Errorf("tokens that were asked for: %v", asked)
		}
	})
}

// TestFilesComeLast: where a registry refuses its tag, a layout and an archive of the same publication get no name.
func TestFilesComeLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		putIndexOf(w.one, "src", "1", "a layer", "linux/amd64")
		w.net.Fault = func(r registrytest.Request) *registrytest.Fault {
			if r.Method == http.MethodPut && strings.HasSuffix(r.Path, "/manifests/refused") {
				return &registrytest.Fault{Status: http.StatusForbidden}
			}
			return nil
		}
		dir := t.TempDir()
		archive, layout := filepath.Join(dir, "a.tar"), "oci-layout:"+filepath.Join(dir, "l")
		_, err := w.access.Copy(t.Context(), index.CopyRequest{Source: "one.test/src:1", Names: []string{"oci-archive:" + archive, layout + ":1", "two.test/app:refused"}})
		if tag, ok := errors.AsType[*index.TagError](err); !ok || tag.Ref != "two.test/app:refused" {
			t.Errorf("error %v", err)
		}
		if left, _ := filepath.Glob(archive + "*"); len(left) > 0 {
			t.Errorf("there is %v", left)
		}
		if _, err := w.access.Pull(t.Context(), layout+":1"); err == nil {
			t.Error("the layout has the name")
		}
	})
}

// TestArchiveMistakes: what is wrong with the name of an archive is found out before anything is brought anywhere.
func TestArchiveMistakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		putImage(w.one, "src", "1", "a layer", "linux/amd64")
		dir := t.TempDir()
		layout, file := "oci-layout:"+filepath.Join(dir, "l")+":1", filepath.Join(dir, "a.tar")
		for _, tc := range []struct {
			names []string
			error string
		}{
			{[]string{layout, "docker-archive:" + file + ":App:1.0"}, "docker load wants a name"},
			{[]string{layout, "docker-archive:" + file + ":app@sha256:0000000000000000000000000000000000000000000000000000000000000000"}, "docker load"},
			{[]string{layout, "oci-archive:" + file + ":a", "docker-archive:" + file + ":a"}, "is written to as oci-archive already"},
			{[]string{"oci-archive:-", "docker-archive:-"}, "is written to as oci-archive already"},
		} {
			var out bytes.Buffer
			opt := w.access.Options()
			opt.Stdout = &out
			_, err := index.NewClient(opt).Copy(t.Context(), index.CopyRequest{Source: "one.test/src:1", Names: tc.names})
			if err == nil || !strings.Contains(err.Error(), tc.error) || out.Len() > 0 {
				t.Errorf("%q: %v, %d bytes", tc.names, err, out.Len())
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
				t.Errorf("%q: there is %v", tc.names, left)
			}
		}
		sign := index.CopyRequest{Source: "one.test/src:1", Names: []string{"docker-archive:" + file + ":app:1"}, DigestTags: true}
		d := w.one.Tag("src", "1")
		putImage(w.one, "src", "sha256-"+d.Encoded()+".sig", "signature", "linux/amd64")
		if _, err := w.access.Copy(t.Context(), sign); err != nil {
			t.Errorf("tags named for a digest have no place in an archive: %v", err)
		}
		x, err := w.access.Pull(t.Context(), "oci-archive:"+file+":app:1")
		if err != nil || len(x.Images) != 1 {
			t.Errorf("the archive by containerd's name of it: %v", err)
		}
	})
}

// TestContainerdImports: containerd, and Docker with its store, find the image under the name that docker run looks for.
func TestContainerdImports(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"docker-archive:-:app:1.0": "docker.io/library/app:1.0", "docker-archive:-:ghcr.io/team/app:2": "ghcr.io/team/app:2", "oci-archive:-:team/app:1.0": "docker.io/team/app:1.0",
	} {
		w := newWorld()
		w.two.NoReferrers = true
		putIndexOf(w.one, "src", "1", "a layer", "linux/amd64")
		x, err := w.access.Pull(t.Context(), "one.test/src:1")
		if err != nil {
			t.Fatal(err)
		}
		sign(w.one, x.Images[0].Descriptor.Digest)
		var out bytes.Buffer
		opt := w.access.Options()
		opt.Stdout = &out
		if _, err := index.NewClient(opt).Copy(t.Context(), index.CopyRequest{Source: "one.test/src:1", Names: []string{name}, Platforms: []platforms.Platform{must("linux/amd64")}}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		store, err := local.NewStore(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		desc, err := archive.ImportIndex(t.Context(), store, &out)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		raw, err := content.ReadBlob(t.Context(), store, desc)
		if err != nil {
			t.Fatal(err)
		}
		var list ocispec.Index
		if err := json.Unmarshal(raw, &list); err != nil {
			t.Fatal(err)
		}
		docker := strings.HasPrefix(name, "docker")
		if len(list.Manifests) == 0 || docker && len(list.Manifests) != 1 || list.Manifests[0].Annotations[ctdimages.AnnotationImageName] != want {
			t.Errorf("%s: %+v, want one for %s", name, list.Manifests, want)
		}
	}
}
