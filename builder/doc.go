// Package builder drives a BuildKit node from outside: it builds one Dockerfile for several targets, and publishes the
// result under one name.
//
//	node, err := builder.Dial(ctx, "unix:///run/buildkit/buildkitd.sock")
//	result, err := builder.Builder{Nodes: []*builder.Node{node}}.Build(ctx, builder.Request{
//		Context: ".",
//		Targets: targets, // platforms.ParseList("linux/amd64,linux/arm64")
//		Tags:    []string{"ghcr.io/app/app:1.0"},
//		Push:    true,
//	})
//	fmt.Println(result.Descriptor.Digest)
//
// The frontend runs in this process (package frontend), so no frontend image is needed and any BuildKit serves.
//
// # Publishing
//
// A tag moves last. Before anything is built, every repository is asked whether it takes a push. Then BuildKit pushes
// images and index by digest, without a tag. What it pushed is read back and compared with the targets. Only then do
// the tags move, as package index describes, and each is read back. If anything fails before that, no tag has moved.
//
// # What it does not do
//
// It builds on one node, and it never changes a byte of what BuildKit pushed.
package builder
