package frontend

import (
	"context"
	"fmt"
	"slices"
	"strings"

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
// stage asks for the config of its base. And all targets are built from the same image: where a tag moves between two
// questions, the later one is asked again by the digest of the first answer. Each platform asks by the name, for BuildKit
// writes into a target's provenance what was asked for it.
type resolveCache struct {
	client.Client

	group flightcontrol.CachedGroup[resolved]
	pins  *Pins
}

type resolved struct {
	ref    string
	digest digest.Digest
	config []byte
}

func newResolveCache(c client.Client, pins *Pins) *resolveCache {
	if pins == nil {
		pins = new(Pins)
	}
	r := &resolveCache{Client: c, pins: pins}
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

// resolve asks BuildKit by the name, and once more by the digest if the name has moved since the first answer.
func (c *resolveCache) resolve(ctx context.Context, ref string, opt sourceresolver.Opt) (resolved, error) {
	name, dgst, config, err := c.Client.ResolveImageConfig(ctx, ref, opt)
	r := resolved{name, dgst, config}
	// A source policy may put different images in one's place, and an OCI layout is the client's own.
	if err != nil || name != ref || opt.ImageOpt == nil {
		return r, err
	}
	first, err := c.firstAnswer(ref, opt, dgst)
	if err != nil || first == dgst {
		return r, err
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return r, err
	}
	pinned, err := reference.WithDigest(named, first)
	if err != nil {
		return r, err
	}
	if _, r.digest, r.config, err = c.Client.ResolveImageConfig(ctx, pinned.String(), opt); err != nil {
		return r, fmt.Errorf("%s has moved from %s to %s since this build began, build again: %w", ref, first, dgst, err)
	}
	return r, nil
}

// firstAnswer returns the digest that the first question about a name was answered with; it is that of this answer if there was none before.
// Questions that differ in the platform alone are about the same.
func (c *resolveCache) firstAnswer(ref string, opt sourceresolver.Opt, dgst digest.Digest) (digest.Digest, error) {
	image := *opt.ImageOpt
	image.Platform = nil
	opt.ImageOpt = &image
	key, err := questionKey(ref, opt)
	if err != nil {
		return "", err
	}
	return c.pins.first(key, dgst), nil
}

// questionKey identifies a question about an image.
func questionKey(ref string, opt sourceresolver.Opt) (string, error) {
	opt.LogName = "" // for people only
	hash, err := hashstructure.Hash(opt, nil)
	return fmt.Sprintf("%s,%d", ref, hash), err
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
