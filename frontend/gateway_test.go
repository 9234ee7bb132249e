package frontend

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// asked is a client that only answers questions about images, and keeps their names.
type asked struct {
	client.Client

	answer func(ref string, p *ocispec.Platform) (string, digest.Digest, error)
	mu     sync.Mutex
	refs   []string
}

func (a *asked) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	a.mu.Lock()
	a.refs = append(a.refs, ref)
	a.mu.Unlock()
	var p *ocispec.Platform
	if opt.ImageOpt != nil {
		p = opt.ImageOpt.Platform
	}
	name, dgst, err := a.answer(ref, p)
	return name, dgst, []byte("{}"), err
}

// TestResolveOnce: a name is asked for once, and by its digest for every other platform, even if its tag moves meanwhile.
func TestResolveOnce(t *testing.T) {
	const name = "docker.io/library/base:1"
	old := digest.FromString("old")
	lacking := errors.New("no match for platform in manifest")
	for _, test := range []struct {
		name   string
		ref    string
		layout bool
		answer func(ref string, p *ocispec.Platform) (string, digest.Digest, error)
		// byName and pinned are how often each form of the name is to be asked for, for three platforms.
		byName, pinned int
		err            error
	}{
		{name: "tag", ref: name, byName: 1, pinned: 2, answer: func(ref string, _ *ocispec.Platform) (string, digest.Digest, error) {
			return ref, old, nil
		}},
		{name: "digest", ref: name + "@" + old.String(), pinned: 3, answer: func(ref string, _ *ocispec.Platform) (string, digest.Digest, error) {
			return ref, old, nil
		}},
		{name: "replaced by policy", ref: name, byName: 3, answer: func(string, *ocispec.Platform) (string, digest.Digest, error) {
			return "docker.io/library/other:1", old, nil
		}},
		{name: "oci layout", ref: name, layout: true, byName: 3, answer: func(ref string, _ *ocispec.Platform) (string, digest.Digest, error) {
			return ref, old, nil
		}},
		{name: "none", ref: name, byName: 3, err: lacking, answer: func(string, *ocispec.Platform) (string, digest.Digest, error) {
			return "", "", lacking
		}},
		{name: "digest refused", ref: name, byName: 3, pinned: 2, answer: func(ref string, _ *ocispec.Platform) (string, digest.Digest, error) {
			if ref != name {
				return "", "", lacking
			}
			return ref, old, nil
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			node := &asked{answer: test.answer}
			c := newResolveCache(node)
			var wg sync.WaitGroup
			for _, arch := range []string{"amd64", "arm64", "s390x", "amd64"} {
				wg.Go(func() {
					p := &ocispec.Platform{OS: "linux", Architecture: arch}
					opt := sourceresolver.Opt{LogName: arch, ImageOpt: &sourceresolver.ResolveImageOpt{Platform: p}}
					if test.layout {
						opt = sourceresolver.Opt{OCILayoutOpt: &sourceresolver.ResolveOCILayoutOpt{Platform: p}}
					}
					ref, dgst, _, err := c.ResolveImageConfig(t.Context(), test.ref, opt)
					if !errors.Is(err, test.err) {
						t.Errorf("%s: %v, want %v", arch, err, test.err)
					}
					if want, _, _ := test.answer(test.ref, p); err == nil && (ref != want || dgst != old) {
						t.Errorf("%s: %s@%s", arch, ref, dgst)
					}
				})
			}
			wg.Wait()
			byName := 0
			for _, ref := range node.refs {
				if ref == name {
					byName++
				}
			}
			pinned := len(node.refs) - byName
			if byName != test.byName || pinned != test.pinned {
				t.Errorf("asked %d times by name and %d times by digest, want %d and %d: %q", byName, pinned, test.byName, test.pinned, node.refs)
			}
			if i := slices.Index(node.refs, name); test.pinned > 0 && test.byName > 0 && i != 0 {
				t.Errorf("asked by digest before the digest was known: %q", node.refs)
			}
		})
	}
}
