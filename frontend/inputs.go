package frontend

import (
	"context"
	"maps"
	"strings"
	"sync"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"

	"github.com/manifold-build/manifold/frontend/dockerfile"
)

// inputs gives the converter the images that moved stages take files from. dockerfile2llb takes the image of COPY --from=IMAGE and of
// RUN --mount=from=IMAGE for the target, whatever the stage runs on; so the text of a target has another name for it (dockerfile.Plan, Inputs), and
// that is a named context whose content is the image for the build platform.
type inputs struct {
	build  *build
	images map[string]string // by the name in the text
	mu     sync.Mutex
	states map[string]llb.State
}

func newInputs(b *build) *inputs {
	return &inputs{build: b, images: map[string]string{}, states: map[string]llb.State{}}
}

// of takes note of the images that a file's instructions name, and adds the named contexts to the request's options.
func (in *inputs) of(f *dockerfile.File, opts map[string]string) {
	if f == nil {
		return
	}
	in.images = f.Inputs()
	for name := range in.images {
		// dockerui looks a name up without the tag latest.
		opts["context:"+strings.TrimSuffix(name, ":latest")] = "input:" + name
	}
}

// withInputs is a gateway client whose request came with these inputs, as named contexts, besides its own.
type withInputs struct {
	withOpts

	inputs *inputs
}

var _ client.Client = withInputs{}

// Inputs returns the client's own inputs and ours.
func (c withInputs) Inputs(ctx context.Context) (map[string]llb.State, error) {
	own, err := c.withOpts.Inputs(ctx)
	if err != nil || len(c.inputs.images) == 0 {
		return own, err
	}
	out := maps.Clone(own)
	if out == nil {
		out = map[string]llb.State{}
	}
	c.inputs.mu.Lock()
	defer c.inputs.mu.Unlock()
	for name, image := range c.inputs.images {
		st, ok := c.inputs.states[name]
		if !ok {
			st = c.inputs.build.imageForBuild(ctx, image)
			c.inputs.states[name] = st
		}
		out[name] = st
	}
	return out, nil
}

// imageForBuild is an image for the build platform, as its tag stands when it is first asked for. One that is not there is reported when it is
// fetched.
func (b *build) imageForBuild(ctx context.Context, image string) llb.State {
	name := image
	if ref, dgst, _, err := b.resolveImage(ctx, "[internal]", image, b.node().Native); err == nil {
		if named, err := reference.ParseNormalizedNamed(ref); err == nil && dgst != "" {
			if pinned, err := reference.WithDigest(named, dgst); err == nil {
				name = pinned.String()
			}
		}
	}
	return llb.Image(name, llb.Platform(b.node().Native.OCI()), b.resolveMode(), llb.WithCustomName("["+b.node().Native.String()+"] FROM "+name))
}
