// Command manifold-frontend is the gateway frontend as an image: BuildKit starts it for a "# syntax=" line or gateway.v0
// and hands it the request over its standard input and output, and again, with "scan", to verify what was built. It is of no use by hand,
// but for -version.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/moby/buildkit/frontend/gateway/grpcclient"
	"github.com/moby/buildkit/util/appcontext"
	_ "github.com/moby/buildkit/util/grpcutil/encoding/proto" // BuildKit's wire encoding

	"github.com/manifold-build/manifold/frontend"
	"github.com/manifold-build/manifold/internal/startheap"
)

// version is set by the linker.
var version = "dev"

func main() {
	startheap.Grow()
	show := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *show {
		fmt.Println("manifold-frontend", version)
		return
	}
	if flag.Arg(0) == frontend.ScanCommand {
		fail(frontend.Scan(flag.Arg(1)))
		return
	}
	fail(grpcclient.RunFromEnvironment(appcontext.Context(), frontend.Config{}.Build))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "manifold-frontend:", err)
		os.Exit(1)
	}
}
