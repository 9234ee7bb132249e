package index_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/internal/registrytest"
	"github.com/manifold-build/manifold/platforms"
)

// world is a network with two registries, one.test and two.test, and an oracle that watches the tag one.test/app:1.0: at each moment it names the index
// that was there first, or a complete index that a publisher of the test made.
type world struct {
	net      *registrytest.Network
	one, two *registrytest.Registry
	access   *index.Client
	old      digest.Digest

	mu      sync.Mutex
	allowed map[digest.Digest]bool
	broken  error
	moved   int
	last    digest.Digest
}

func newWorld() *world {
	w := &world{net: registrytest.NewNetwork(), one: registrytest.NewRegistry(), two: registrytest.NewRegistry(), allowed: map[digest.Digest]bool{}}
	w.net.Add("one.test", w.one)
	w.net.Add("two.test", w.two)
	w.access = index.NewClient(index.ClientOptions{
		Credentials: func(string) (string, string, error) { return "", "", nil }, CertsDirs: []string{}, Transport: w.net,
		PlainHTTP: func(string) (bool, error) { return true, nil },
	})
	d := putIndexOf(w.one, "app", "1.0", "the old one", "linux/amd64")
	w.old, w.last = d, d
	w.allowed[d] = true
	w.net.Handled = w.watch
	return w
}

// watch is the oracle.
func (w *world) watch(r registrytest.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.one.Tag("app", "1.0")
	if now != w.last {
		w.moved++
		w.last = now
	}
	if !w.allowed[now] {
		w.broken = errors.Join(w.broken, fmt.Errorf("after %s %s the tag names %s", r.Method, r.Path, now))
	}
	if err := w.one.Complete("app", now); err != nil {
		w.broken = errors.Join(w.broken, fmt.Errorf("after %s %s: %w", r.Method, r.Path, err))
	}
}

func (w *world) allow(d digest.Digest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.allowed[d] = true
}

// putImage stores an image for a platform.
func putImage(r *registrytest.Registry, repo, tag, layer, platform string) ocispec.Descriptor {
	p, err := platforms.Parse(platform)
	if err != nil {
		panic(err)
	}
	rawConfig := registrytest.Encode(ocispec.Image{
		Platform: p.OCI(), RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString(layer + platform)}},
	})
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: r.PutBlob(repo, ocispec.MediaTypeImageConfig, rawConfig),
		Layers: []ocispec.Descriptor{r.PutBlob(repo, ocispec.MediaTypeImageLayerGzip, []byte(layer+platform))},
	}
	raw := registrytest.Encode(m)
	d := r.PutManifest(repo, tag, m.MediaType, raw)
	oci := p.OCI()
	d.Platform = &oci
	return d
}

// putIndexOf stores an index of one image.
func putIndexOf(r *registrytest.Registry, repo, tag, layer string, list ...string) digest.Digest {
	x := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, p := range list {
		x.Manifests = append(x.Manifests, putImage(r, repo, "", layer, p))
	}
	raw := registrytest.Encode(x)
	return r.PutManifest(repo, tag, x.MediaType, raw).Digest
}

// job is one publisher: it makes an index of some sources and publishes it.
type job struct {
	sources []string
	names   []string
}

func (j job) run(ctx context.Context, w *world) (_ []index.Receipt, err error) {
	var c index.Composition
	for _, s := range j.sources {
		c.Members = append(c.Members, index.Member{Source: s})
	}
	d, err := w.access.Compose(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	w.allow(d.Index.Descriptor.Digest)
	return d.Publish(ctx, j.names, index.PublishOptions{})
}

var (
	app     = []string{"one.test/app:1.0"}
	targets = []string{"linux/amd64", "linux/arm64", "linux/s390x"}
)

// sameRepository: the images are in the tag's own repository. Mounted: each is in a repository of its own. Copied: they are in another registry.
func sameRepository(w *world) job {
	j := job{names: app}
	for i, p := range targets {
		tag := fmt.Sprintf("part%d", i)
		putImage(w.one, "app", tag, "new", p)
		j.sources = append(j.sources, "one.test/app:"+tag)
	}
	return j
}

func mounted(w *world) job {
	j := job{names: app}
	for i, p := range targets {
		repo := fmt.Sprintf("part%d", i)
		putImage(w.one, repo, "1", "new", p)
		j.sources = append(j.sources, "one.test/"+repo+":1")
	}
	return j
}

func copied(w *world) job {
	j := job{names: app}
	for i, p := range targets {
		repo := fmt.Sprintf("part%d", i)
		putImage(w.two, repo, "1", "new", p)
		j.sources = append(j.sources, "two.test/"+repo+":1")
	}
	return j
}

var jobs = map[string]func(*world) job{"same repository": sameRepository, "mounted": mounted, "copied": copied}

// check reports what the oracle saw.
func (w *world) check(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		t.Errorf("the oracle: %v", w.broken)
	}
}

// published checks that a job went well: exit without an error means that the tag is the new index, moved once.
func (w *world) published(t *testing.T, receipts []index.Receipt, err error) {
	t.Helper()
	w.check(t)
	if err != nil {
		t.Errorf("it failed: %v", err)
		return
	}
	if len(receipts) != 1 || receipts[0].Digest != w.one.Tag("app", "1.0") || receipts[0].Digest == w.old || w.moved != 1 {
		t.Errorf("receipts %v, the tag names %s and moved %d times", receipts, w.one.Tag("app", "1.0"), w.moved)
	}
}

// failed checks that a job failed and left the old tag.
func (w *world) failed(t *testing.T, err error) {
	t.Helper()
	w.check(t)
	if err == nil {
		t.Error("it succeeded")
	}
	if now := w.one.Tag("app", "1.0"); now != w.old {
		t.Errorf("the tag names %s, not the old %s", now, w.old)
	}
}

func status(code int, header ...string) *registrytest.Fault {
	f := &registrytest.Fault{Status: code, Header: http.Header{}}
	for i := 0; i+1 < len(header); i += 2 {
		f.Header.Set(header[i], header[i+1])
	}
	return f
}
