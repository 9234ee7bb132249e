// Command library builds a Dockerfile for two platforms through the Go library and prints what came of it.
//
//	BUILDKIT_HOST=unix:///run/buildkit/buildkitd.sock go run ./examples/04-library examples/02-goarch REGISTRY/hello:1.0
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/moby/buildkit/client"

	"github.com/manifold-build/manifold/builder"
	"github.com/manifold-build/manifold/platforms"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	if len(args) != 2 {
		return errors.New("usage: library CONTEXT NAME")
	}
	node, err := builder.Dial(ctx, os.Getenv("BUILDKIT_HOST"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	targets, err := platforms.ParseList("linux/amd64,linux/arm64")
	if err != nil {
		return err
	}
	result, err := builder.Builder{Nodes: []*builder.Node{node}}.Build(ctx, builder.Request{
		Context:  args[0],
		Targets:  targets,
		Strategy: platforms.Cross,
		Tags:     []string{args[1]},
		Push:     true,
		Progress: func(s *client.SolveStatus) {
			for _, v := range s.Vertexes {
				if v.Completed != nil {
					fmt.Fprintln(os.Stderr, "done:", v.Name)
				}
			}
		},
	})
	if target, ok := errors.AsType[*builder.TargetError](err); ok {
		fmt.Fprintf(os.Stderr, "%s failed in stage %s, %s:%d\n", target.Target, target.Stage, target.File, target.Line)
	}
	if err != nil {
		return err
	}
	fmt.Println("index", result.Descriptor.Digest)
	for _, image := range result.Images {
		fmt.Println(image.Platform, image.Descriptor.Digest, image.Size)
	}
	return nil
}
