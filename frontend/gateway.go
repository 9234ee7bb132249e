package frontend

import (
	"context"
	"fmt"
	"slices"
	"strings"

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
// stage asks for the config of its base.
type resolveCache struct {
	client.Client

	group flightcontrol.CachedGroup[resolved]
}

type resolved struct {
	ref    string
	digest digest.Digest
	config []byte
}

func newResolveCache(c client.Client) *resolveCache {
	r := &resolveCache{Client: c}
	r.group.CacheError = true
	return r
}

var _ client.Client = (*resolveCache)(nil)

// ResolveImageConfig resolves an image's config, once per reference and options.
func (c *resolveCache) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	named := opt
	named.LogName = "" // for people only
	hash, err := hashstructure.Hash(named, nil)
	if err != nil {
		return "", "", nil, err
	}
	r, err := c.group.Do(ctx, fmt.Sprintf("%s,%d", ref, hash), func(ctx context.Context) (resolved, error) {
		ref, dgst, config, err := c.Client.ResolveImageConfig(ctx, ref, opt)
		return resolved{ref, dgst, config}, err
	})
	return r.ref, r.digest, r.config, err
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
