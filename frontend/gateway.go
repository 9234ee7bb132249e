package frontend

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/distribution/reference"
	"github.com/gohugoio/hashstructure"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/flightcontrol"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/buildkit/util/stack"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc/codes"
)

// withOpts is a gateway client whose request had other options: one per group of targets that are built alike.
type withOpts struct {
	client.Client

	opts map[string]string
}

// BuildOpts returns the request with the options replaced.
func (c withOpts) BuildOpts() client.BuildOpts {
	o := c.Client.BuildOpts()
	o.Opts = c.opts
	return o
}

var _ client.Client = withOpts{}

// resolveCache answers a repeated question about one image once, as the reference frontend does: every target's every
// stage asks for the config of its base. And the registry is asked for a name once: for its other platforms the image is then
// known by its digest, so that all targets are built from the same one even if the tag moves meanwhile.
type resolveCache struct {
	client.Client

	group flightcontrol.CachedGroup[resolved]
	mu    sync.Mutex
	names map[string]*baseName
}

type resolved struct {
	ref    string
	digest digest.Digest
	config []byte
}

// baseName is a name that questions are asked about.
type baseName struct {
	once sync.Once
	// pinned is the name with the digest that the first answer gave it; empty if that was none, a source policy put another image in
	// its place, or it is not one in a registry.
	pinned string
}

func newResolveCache(c client.Client) *resolveCache {
	r := &resolveCache{Client: c, names: map[string]*baseName{}}
	r.group.CacheError = true
	return r
}

var _ client.Client = (*resolveCache)(nil)

// ResolveImageConfig resolves an image's config, once per reference and options.
func (c *resolveCache) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	key, err := questionKey(ref, opt)
	if err != nil {
		return "", "", nil, err
	}
	r, err := c.group.Do(ctx, key, func(ctx context.Context) (resolved, error) { return c.resolve(ctx, ref, opt) })
	return r.ref, r.digest, r.config, err
}

// resolve asks BuildKit: the first time by the name, after that by the digest.
func (c *resolveCache) resolve(ctx context.Context, ref string, opt sourceresolver.Opt) (r resolved, err error) {
	ask := func(name string) error {
		r.ref, r.digest, r.config, err = c.Client.ResolveImageConfig(ctx, name, opt)
		return err
	}
	n, err := c.name(ref, opt)
	if err != nil {
		return r, err
	}
	first := false
	n.once.Do(func() {
		first = true
		if ask(ref) == nil && r.ref == ref && opt.ImageOpt != nil {
			n.pinned = withDigest(ref, r.digest)
		}
	})
	if first {
		return r, err
	}
	if n.pinned != "" && ask(n.pinned) == nil {
		r.ref = ref
		return r, nil
	}
	return r, ask(ref) // an error is to be about the name
}

// name returns what is known of a name. Questions that differ in the platform alone are about the same.
func (c *resolveCache) name(ref string, opt sourceresolver.Opt) (*baseName, error) {
	if opt.ImageOpt != nil {
		all := *opt.ImageOpt
		all.Platform = nil
		opt.ImageOpt = &all
	}
	key, err := questionKey(ref, opt)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.names[key] == nil {
		c.names[key] = &baseName{}
	}
	return c.names[key], nil
}

// questionKey identifies a question about an image.
func questionKey(ref string, opt sourceresolver.Opt) (string, error) {
	opt.LogName = "" // for people only
	hash, err := hashstructure.Hash(opt, nil)
	return fmt.Sprintf("%s,%d", ref, hash), err
}

// withDigest adds a digest to the name of an image; empty if it has one, or is no name in a registry.
func withDigest(ref string, dgst digest.Digest) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil || dgst == "" {
		return ""
	}
	if _, ok := named.(reference.Digested); ok {
		return ""
	}
	pinned, err := reference.WithDigest(named, dgst)
	if err != nil {
		return ""
	}
	return pinned.String()
}

// frontendCaps are the capabilities that a client can ask a frontend for, and that this one has. The image names
// them in its label moby.buildkit.frontend.caps.
var frontendCaps = []string{
	"moby.buildkit.frontend.inputs",
	"moby.buildkit.frontend.subrequests",
	"moby.buildkit.frontend.contexts",
	"moby.buildkit.frontend.gitquerystring",
	"moby.buildkit.frontend.contexts.zstd",
}

// checkCaps compares the capabilities that the client requires with ours. With "+forward" behind a capability that is
// missing, the frontend that the syntax line names may have it: forward is then true beside the error.
func checkCaps(required string) (forward bool, err error) {
	if required == "" {
		return false, nil
	}
	for c := range strings.SplitSeq(required, ",") {
		name, _, _ := strings.Cut(c, "+")
		if hasCap(name) {
			continue
		}
		err = stack.Enable(grpcerrors.WrapCode(errdefs.NewUnsupportedFrontendCapError(name), codes.Unimplemented))
		if !strings.Contains(c, "+forward") {
			return false, err
		}
		forward = true
	}
	return forward, err
}

func hasCap(name string) bool {
	return slices.Contains(frontendCaps, name)
}
