package frontend

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"

	"github.com/manifold-build/manifold/frontend/dockerfile"
)

// inputs gives the converter what texts take from the build platform: images that moved stages take files from, images whose compilers are called
// in accelerated stages, and the program that calls them. dockerfile2llb takes the image of COPY --from=IMAGE and of
// RUN --mount=from=IMAGE for the target, whatever the stage runs on; so the text of a target has another name for it (dockerfile.Plan, Inputs), and
// that is a named context whose content is the image for the build platform.
type inputs struct {
	build  *build
	opts   map[string]string // of the request that the converter sees
	images map[string]string // by the name in the text
	// toolchains are those that texts may name, by the names that they have for them.
	toolchains map[string]toolchain
	mu         sync.Mutex
	states     map[string]*input
}

// input is one input's content, which is found out when it is first asked for.
type input struct {
	once  sync.Once
	state llb.State
	err   error
}

// add makes images known, before anything is converted, and adds the named contexts to the request's options.
func (in *inputs) add(images map[string]string) {
	if in == nil {
		return // nothing is going to be converted
	}
	if in.images == nil {
		in.images = map[string]string{}
	}
	maps.Copy(in.images, images)
	for name := range images {
		in.announce(name)
	}
}

// addToolchains makes tool chains known, as add does images.
func (in *inputs) addToolchains(list []toolchain) {
	if in == nil {
		return
	}
	if in.toolchains == nil {
		in.toolchains = map[string]toolchain{}
	}
	for _, tc := range list {
		in.toolchains[tc.Name] = tc
		in.announce(tc.Name)
	}
}

func (in *inputs) announce(name string) {
	// dockerui looks a name up without the tag latest.
	in.opts["context:"+strings.TrimSuffix(name, ":latest")] = "input:" + name
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
	if err != nil || len(c.inputs.images)+len(c.inputs.toolchains) == 0 {
		return own, err
	}
	out := maps.Clone(own)
	if out == nil {
		out = map[string]llb.State{}
	}
	for _, name := range slices.Concat(slices.Collect(maps.Keys(c.inputs.images)), slices.Collect(maps.Keys(c.inputs.toolchains))) {
		// Only what a text takes is asked for.
		out[name] = llb.Scratch().Async(func(ctx context.Context, _ llb.State, _ *llb.Constraints) (llb.State, error) {
			return c.inputs.state(ctx, name)
		})
	}
	return out, nil
}

// state is an input's content, the same each time.
func (in *inputs) state(ctx context.Context, name string) (llb.State, error) {
	in.mu.Lock()
	i := in.states[name]
	if i == nil {
		i = &input{}
		in.states[name] = i
	}
	in.mu.Unlock()
	i.once.Do(func() {
		tc, isToolchain := in.toolchains[name]
		switch {
		case name == dockerfile.Accelerator:
			i.state, i.err = in.build.accelerator()
		case isToolchain:
			i.state = in.build.toolchain(ctx, tc)
		default:
			i.state = in.build.imageForBuild(ctx, in.images[name])
		}
	})
	return i.state, i.err
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
