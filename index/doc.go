// Package index reads, makes, copies and publishes multi-platform images: the OCI index, its images, and the tags that name it.
//
//	client := index.NewClient(index.ClientOptions{})
//	x, err := client.Pull(ctx, "ghcr.io/app/app:1.0")
//	for _, image := range x.Images {
//		fmt.Println(image.Platform, image.Descriptor.Digest, image.Size)
//	}
//
// An index is made of images that are somewhere already, and published under every name or under none:
//
//	draft, err := client.Compose(ctx, index.Composition{Members: []index.Member{
//		{Source: "ghcr.io/app/app:1.0-amd64"}, {Source: "oci-archive:arm64.tar"},
//	}})
//	receipts, err := draft.Publish(ctx, []string{"ghcr.io/app/app:1.0"}, index.PublishOptions{})
//
// [Client.Publish] moves tags by one protocol: everything a tag will name is seen to be there first, in every registry; then
// the tags move; then each is read back. No tag moves while anything is missing anywhere. [Draft.Publish] and [Client.Copy] end in it.
//
// [Index.Resolve] says which image a host would pull, [Client.Doctor] what is wrong with an index. [Assemble], [Index.Resolve], [ParseSpec] and [Template]
// are pure: no network.
//
// # Names
//
//	ghcr.io/app/app:1.0        in a registry
//	oci-layout:DIR:NAME        an OCI image layout in a folder
//	oci-archive:FILE:NAME      the same in a tar archive; FILE alone if it ends in .tar and is there
//	docker-archive:FILE        what docker save writes; one image is written so
//
// # Limits
//
//	a manifest, an index or a config    4 MiB
//	images in one index                 256
//	indexes within indexes              4 deep
//	a spec file                         1 MiB, 20,000 values, 32 deep
//	requests of a client under way      48; blobs whose bytes are, 6
//	waiting for a digest to be visible  30 s
//	reading a tag back                  30 s
//	one request                         6 tries within 120 s; Retry-After of at most 60 s is waited for
//	an answer; a blob's end             60 s; 10 min
//	a body that stands still            30 s for 4 KiB
//	a token; an error's body            128 KiB; 64 KiB
//	pages of a list; redirects          100; 5
//
// Hosts, mirrors and certificates are configured as containerd's and Docker's are; credentials are Docker's. They go to the registry and the
// token server that it names, and nowhere else. The package does not import BuildKit.
package index
