package frontend

import (
	"context"
	"fmt"
	"maps"
	"path"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
)

const (
	// keyCmdline is set by whoever forwarded the request here because of a syntax line: it has been obeyed.
	keyCmdline = "cmdline"
	// keySource is the frontend image that gateway.v0 was told to run.
	keySource = "source"
	// keySyntaxArg is the build argument that stands in for the syntax line.
	keySyntaxArg = "build-arg:BUILDKIT_SYNTAX"

	// imageName is the last element of the repository under which this frontend is published, wherever it is mirrored.
	imageName = "manifold"
	// referencePrefix begins the Docker Hub repositories of the reference frontend, docker/dockerfile and
	// docker/dockerfile-upstream.
	referencePrefix = "docker/dockerfile"
)

// syntax is the frontend a Dockerfile asks for.
type syntax struct {
	ref      string
	cmdline  string
	location []parser.Range // nil if the request asks for it, not the Dockerfile
}

// foreignSyntax returns the frontend that a request or a Dockerfile asks for where it is neither this one nor the
// reference frontend, whose superset this one is.
func foreignSyntax(opts map[string]string, src []byte) (syntax, bool) {
	if _, ok := opts[keyCmdline]; ok {
		return syntax{}, false
	}
	var s syntax
	if arg, ok := opts[keySyntaxArg]; ok {
		s.cmdline = arg
		s.ref, _, _ = strings.Cut(strings.TrimSpace(arg), " ")
	} else if ref, cmdline, location, ok := parser.DetectSyntax(src); ok {
		s = syntax{ref, cmdline, location}
	} else {
		return syntax{}, false
	}
	return s, !answersFor(s.ref, opts[keySource])
}

// answersFor reports whether a Dockerfile that names the frontend ref is answered here: ref is this frontend, by the
// name it is published under or by the one it was called by, or it is the reference frontend.
func answersFor(ref, self string) bool {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return false
	}
	if path.Base(reference.Path(named)) == imageName {
		return true
	}
	if own, err := reference.ParseNormalizedNamed(self); err == nil && own.Name() == named.Name() {
		return true
	}
	return reference.Domain(named) == "docker.io" && strings.HasPrefix(reference.Path(named), referencePrefix)
}

// forward passes the whole request on to another frontend image.
func forward(ctx context.Context, c client.Client, s syntax, src *dockerui.Source) (*client.Result, error) {
	opts := maps.Clone(c.BuildOpts().Opts)
	opts[keyCmdline] = s.cmdline
	opts[keySource] = s.ref
	inputs, err := frontendInputs(ctx, c)
	if err != nil {
		return nil, err
	}
	res, err := c.Solve(ctx, client.SolveRequest{Frontend: "gateway.v0", FrontendOpt: opts, FrontendInputs: inputs})
	if err != nil && len(errdefs.Sources(err)) == 0 {
		if s.location == nil {
			return nil, fmt.Errorf("failed with %s = %s: %w", keySyntaxArg, s.cmdline, err)
		}
		return nil, withSource(err, src.SourceMap, s.location)
	}
	return res, err
}

func frontendInputs(ctx context.Context, c client.Client) (map[string]*pb.Definition, error) {
	caps := c.BuildOpts().Caps
	if caps.Supports(gwpb.CapFrontendInputs) != nil {
		return nil, nil //nolint:nilnil,nilerr // an old BuildKit has no inputs to pass on
	}
	inputs, err := c.Inputs(ctx)
	if err != nil {
		return nil, fmt.Errorf("frontend inputs: %w", err)
	}
	out := map[string]*pb.Definition{}
	for name, state := range inputs {
		def, err := state.Marshal(ctx)
		if err != nil {
			return nil, err
		}
		out[name] = def.ToPB()
	}
	return out, nil
}
