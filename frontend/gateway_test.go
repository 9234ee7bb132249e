package frontend

import (
	"context"
	"errors"
	"slices"
	"strings"
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

	answer func(ref string) (string, digest.Digest, error)
	mu     sync.Mutex
	refs   []string
}

func (a *asked) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	a.mu.Lock()
	a.refs = append(a.refs, ref)
	a.mu.Unlock()
	name, dgst, err := a.answer(ref)
	return name, dgst, []byte("{}"), err
}

// TestResolveSame: where a tag moves, every platform's image is that of the first answer.
func TestResolveSame(t *testing.T) {
	const name = "docker.io/library/base:1"
	first, later := digest.FromString("first"), digest.FromString("later")
	lacking := errors.New("no match for platform in manifest")
	moves := func(n *asked, ref string) digest.Digest {
		if ref != name || len(n.refs) == 1 {
			return first
		}
		return later
	}
	for _, test := range []struct {
		name   string
		ref    string
		layout bool
		answer func(n *asked, ref string) (string, digest.Digest, error)
		// digests are those that amd64, arm64 and amd64 again are told; pinned is how often it is asked by a digest.
		digests []digest.Digest
		pinned  int
		err     error
	}{
		{name: "stays", ref: name, digests: []digest.Digest{first, first, first}, answer: func(_ *asked, ref string) (string, digest.Digest, error) {
			return ref, first, nil
		}},
		{name: "moves", ref: name, digests: []digest.Digest{first, first, first}, pinned: 1, answer: func(n *asked, ref string) (string, digest.Digest, error) {
			return ref, moves(n, ref), nil
		}},
		{name: "oci layout", ref: name, layout: true, digests: []digest.Digest{first, later, first}, answer: func(n *asked, ref string) (string, digest.Digest, error) {
			return ref, moves(n, ref), nil
		}},
		{name: "replaced by policy", ref: name, digests: []digest.Digest{first, later, first}, answer: func(n *asked, ref string) (string, digest.Digest, error) {
			return "docker.io/library/other:1", moves(n, ref), nil
		}},
		{name: "gone", ref: name, pinned: 1, err: lacking, answer: func(n *asked, ref string) (string, digest.Digest, error) {
			if ref != name {
				return "", "", lacking
			}
			return ref, moves(n, ref), nil
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			node := &asked{}
			node.answer = func(ref string) (string, digest.Digest, error) { return test.answer(node, ref) }
			c := newResolveCache(node, nil)
			var digests []digest.Digest
			var failed error
			for _, arch := range []string{"amd64", "arm64", "amd64"} {
				p := &ocispec.Platform{OS: "linux", Architecture: arch}
				opt := sourceresolver.Opt{LogName: arch, ImageOpt: &sourceresolver.ResolveImageOpt{Platform: p}}
				if test.layout {
					opt = sourceresolver.Opt{OCILayoutOpt: &sourceresolver.ResolveOCILayoutOpt{Platform: p}}
				}
				_, dgst, _, err := c.ResolveImageConfig(t.Context(), test.ref, opt)
				digests, failed = append(digests, dgst), errors.Join(failed, err)
			}
			pinned := len(slices.DeleteFunc(slices.Clone(node.refs), func(ref string) bool { return ref == name }))
			if test.err == nil && !slices.Equal(digests, test.digests) || pinned != test.pinned || !errors.Is(failed, test.err) {
				t.Errorf("told %q, asked %q: %v", digests, node.refs, failed)
			}
			if test.err != nil && !strings.Contains(failed.Error(), name+" has moved") {
				t.Error(failed)
			}
		})
	}
}
