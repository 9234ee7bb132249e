// Command manifold-accel is mounted into the RUN instructions of accelerated stages, where it runs the build platform's compilers in the place of the
// stage's own. It is of no use by hand: the frontend's image holds it, and the CLI looks for it beside itself.
package main

import (
	"os"

	"github.com/manifold-build/manifold/internal/accel"
)

func main() { os.Exit(accel.Main(os.Args, os.Stderr)) }
