package frontend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/gateway/client"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/frontend/dockerfile"
)

// ErrNotCarried is wrapped by the error for a stage of which [Config.Carry] cannot make an image: then each node makes its own.
var ErrNotCarried = errors.New("what is taken from the stage is not carried")

// carry answers [Config.Carry]: a result that holds what stages that run on their target take from the one that is shared, where it was.
func (b *build) carry(ctx context.Context, name string) (*client.Result, error) {
	var (
		found *dockerfile.Check
		of    *target
		paths []string
	)
	for _, t := range b.targets {
		for _, c := range t.checks() {
			if c.Title != name || !c.Last {
				continue
			}
			if back := b.check(ctx, t, c); back != nil {
				return nil, fmt.Errorf("%w: %s", ErrNotCarried, back.Reason)
			}
			found, of = &c, t
			for _, p := range c.Paths {
				folder := literal(p)
				if folder == "/" {
					return nil, fmt.Errorf("%w: all of it may be", ErrNotCarried)
				}
				paths = append(paths, folder)
			}
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w: it is not shared here", ErrNotCarried)
	}
	text, err := of.group.planner.StageText(found.Stage, found.Target)
	if err != nil {
		return nil, err
	}
	_, converted, err := b.solveText(ctx, of.group, text, found.Target)
	if err != nil {
		return nil, err
	}
	out := llb.Scratch()
	for _, p := range paths {
		out = out.File(llb.Copy(converted.State, p, p, &llb.CopyInfo{FollowSymlinks: true, CopyDirContentsOnly: true, CreateDestPath: true}),
			llb.WithCustomName("[manifold] bring "+p+" of stage "+name+" to the other nodes"))
	}
	native := b.node().Native.OCI()
	def, err := out.Marshal(ctx, llb.Platform(native))
	if err != nil {
		return nil, err
	}
	res, err := b.client.Solve(ctx, client.SolveRequest{Definition: def.ToPB(), CacheImports: of.group.ui.CacheImports, Evaluate: true})
	if err != nil {
		return nil, err
	}
	image := dockerspec.DockerOCIImage{}
	image.Platform, image.RootFS.Type = native, "layers"
	config, err := json.Marshal(image)
	if err != nil {
		return nil, err
	}
	res.AddMeta(exptypes.ExporterImageConfigKey, config)
	return res, nil
}

// literal is a path, or the folder that holds all that a pattern matches.
func literal(pattern string) string {
	pattern = path.Clean("/" + pattern)
	for strings.ContainsAny(pattern, `*?[\`) {
		pattern = path.Dir(pattern)
	}
	return pattern
}
