package index_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/internal/registrytest"
	"github.com/manifold-build/manifold/platforms"
)

func ExampleParseReference() {
	for _, ref := range []string{"busybox", "ghcr.io/app/app:1.0", "127.0.0.1:5000/app"} {
		named, err := index.ParseReference(ref)
		fmt.Println(named, err)
	}
	_, err := index.ParseReference("App:1")
	fmt.Println(err)
	// Output:
	// docker.io/library/busybox:latest <nil>
	// ghcr.io/app/app:1.0 <nil>
	// 127.0.0.1:5000/app:latest <nil>
	// invalid image reference "App:1": invalid reference format: repository name (library/App) must be lowercase
}

// images are two images as Pull would find them.
func images(list ...string) []index.Image {
	var out []index.Image
	for _, name := range list {
		p, err := platforms.Parse(name)
		if err != nil {
			panic(err)
		}
		out = append(out, index.Image{Platform: p, Descriptor: ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(name), Size: 500,
		}})
	}
	return out
}

func ExampleAssemble() {
	x, err := index.Assemble(images("linux/arm64", "linux/amd64"), index.AssembleOptions{
		Annotations: []index.Annotation{{Level: index.LevelIndex, Key: "team", Value: "founders"}},
	})
	fmt.Println(x.Descriptor.MediaType, x.Annotations, err)
	for _, image := range x.Images {
		fmt.Println(image.Platform, image.Descriptor.Digest.Encoded()[:12])
	}
	_, err = index.Assemble(append(images("linux/amd64"), index.Image{
		Platform: x.Images[0].Platform, Descriptor: ocispec.Descriptor{Digest: digest.FromString("another")},
	}), index.AssembleOptions{})
	fmt.Println(err)
	// Output:
	// application/vnd.oci.image.index.v1+json map[team:founders] <nil>
	// linux/amd64 baf0239e48ff
	// linux/arm64 b3e3ab55f887
	// two images for linux/amd64: sha256:ae448ac86c4e8e4dec645729708ef41873ae79c6dff84eff73360989487f08e5 and sha256:baf0239e48ff4c47ebac3ba02b5cf1506b69cd5a0c0d0c825a53ba65976fb942
}

func ExampleIndex_Resolve() {
	x, _ := index.Assemble(images("linux/amd64", "linux/arm/v6", "linux/arm/v7"), index.AssembleOptions{})
	host, _ := platforms.Parse("linux/arm64")
	image, candidates, err := x.Resolve(host)
	fmt.Println(image.Platform, err)
	for _, c := range candidates {
		fmt.Println(c.Rank, c.Image.Platform, c.Reason)
	}
	// Output:
	// linux/arm/v7 <nil>
	// 1 linux/arm/v7 arm64 runs arm/v7 code too
	// 2 linux/arm/v6 arm64 runs arm/v6 code too
	// 0 linux/amd64 another architecture, amd64
}

func ExampleParseAnnotation() {
	for _, s := range []string{"org.opencontainers.image.title=app", "index,manifest[linux/arm64]:note=fast", "layer:a=b"} {
		list, err := index.ParseAnnotation(s)
		fmt.Println(list, err)
	}
	// Output:
	// [index:org.opencontainers.image.title=app] <nil>
	// [index:note=fast manifest[linux/arm64]:note=fast] <nil>
	// [] annotation "layer:a=b": "layer" is none of the levels index, manifest, index-descriptor, manifest-descriptor
}

func ExampleParseSpec() {
	spec, err := index.ParseSpec("app.yaml", []byte("image: ghcr.io/app/app:1.0\ntags: [latest]\nmanifests:\n- image: ghcr.io/app/app:1.0-arm\n  platform: linux/arm/v7\n"))
	fmt.Println(spec.Names, spec.Composition.Members[0].Platform, err)
	_, err = index.ParseSpec("app.yaml", []byte("image: app\nmanifest: []\n"))
	fmt.Println(err)
	// Output:
	// [ghcr.io/app/app:1.0 ghcr.io/app/app:latest] linux/arm/v7 <nil>
	// app.yaml:2: unknown field "manifest"; did you mean "manifests"?
}

func ExampleTemplate() {
	members, err := index.Template("foo/bar-ARCH-VARIANT:v1", []string{"linux/amd64", "linux/arm/v7"})
	for _, m := range members {
		fmt.Println(m.Source, m.Platform)
	}
	fmt.Println(err)
	// Output:
	// foo/bar-amd64:v1 linux/amd64
	// foo/bar-arm-v7:v1 linux/arm/v7
	// <nil>
}

// A registry with two images, the parts of an index, in the process itself.
func parts() *index.Client {
	n, r := registrytest.NewNetwork(), registrytest.NewRegistry()
	n.Add("registry.test", r)
	putImage(r, "app", "1.0-amd64", "layer", "linux/amd64")
	putImage(r, "app", "1.0-arm64", "layer", "linux/arm64")
	return index.NewClient(index.ClientOptions{Transport: n, CertsDirs: []string{}, Credentials: func(string) (string, string, error) { return "", "", nil }})
}

func ExampleClient_Compose() {
	ctx := context.Background()
	draft, err := parts().Compose(ctx, index.Composition{Members: []index.Member{
		{Source: "registry.test/app:1.0-arm64"}, {Source: "registry.test/app:1.0-amd64"},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = draft.Close() }()
	for i, image := range draft.Index.Images {
		fmt.Println(image.Platform, "from", draft.Origins[i])
	}
	receipts, err := draft.Publish(ctx, []string{"registry.test/app:1.0", "registry.test/app:latest"}, index.PublishOptions{})
	for _, r := range receipts {
		fmt.Println(r.Ref, r.Digest == draft.Index.Descriptor.Digest)
	}
	fmt.Println(err)
	// Output:
	// linux/amd64 from registry.test/app:1.0-amd64
	// linux/arm64 from registry.test/app:1.0-arm64
	// registry.test/app:1.0 true
	// registry.test/app:latest true
	// <nil>
}

func ExampleClient_Copy() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	layout := "oci-layout:" + filepath.Join(dir, "layout") + ":1.0"
	copied, err := parts().Copy(context.Background(), index.CopyRequest{Source: "registry.test/app:1.0-amd64", Names: []string{layout}})
	fmt.Println(copied.Manifests, copied.Blobs, err)
	x, err := index.NewClient(index.ClientOptions{}).Pull(context.Background(), layout)
	fmt.Println(x.Images[0].Platform, x.Descriptor.Digest == copied.Descriptor.Digest, err)
	// Output:
	// 1 2 <nil>
	// linux/amd64 true <nil>
}

func ExampleClient_Doctor() {
	d, err := parts().Doctor(context.Background(), "registry.test/app:1.0-amd64")
	fmt.Println(d.Manifests, d.Blobs, d.Problems, err)
	// Output:
	// 1 2 [] <nil>
}
