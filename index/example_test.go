package index_test

import (
	"fmt"

	"github.com/manifold-build/manifold/index"
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
