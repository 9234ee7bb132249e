// Package index reads and publishes multi-platform images: the OCI index, its images, and the tags that name it.
//
//	x, err := index.Pull(ctx, index.Registry{}, "ghcr.io/app/app:1.0")
//	for _, image := range x.Images {
//		fmt.Println(image.Platform, image.Descriptor.Digest, image.Size)
//	}
//
// [Publish] moves tags by one protocol: everything a tag will name is seen to be there first, in every registry; then
// the tags move; then each is read back. No tag moves while anything is missing anywhere.
//
// # Limits
//
//	a manifest, an index or a config    4 MiB
//	images in one index                 256
//	waiting for a digest to be visible  30 s
//	reading a tag back                  30 s
//
// Registry access is containerd's; credentials are Docker's. The package does not import BuildKit.
package index
