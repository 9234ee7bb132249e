// Command toolchains makes the tool chain images: the compilers, assemblers and linkers of Debian's cross packages, that accelerated stages call in the
// place of their own.
//
//	go run ./integration/cmd/toolchains [-platform linux/arm64,…] DIR
//
// Each image becomes an OCI layout DIR/SUITE-ARCH, for the machine at hand, to be pushed under that tag.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/manifold-build/manifold/integration/sandbox"
	"github.com/manifold-build/manifold/platforms"
)

func main() {
	list := flag.String("platform", "linux/amd64,linux/arm64,linux/arm/v7,linux/arm/v6,linux/ppc64le,linux/s390x,linux/riscv64", "the targets whose code they make")
	flag.Parse()
	if err := run(*list, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "toolchains:", err)
		os.Exit(1)
	}
}

func run(list string, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: toolchains [-platform PLATFORM,…] DIR")
	}
	targets, err := platforms.ParseList(list)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for _, t := range sandbox.Toolchains(targets...) {
		left, err := sandbox.MakeToolchain(ctx, t, filepath.Join(args[0], t.Name()))
		if err != nil {
			return err
		}
		fmt.Println(t.Name())
		for _, l := range left {
			fmt.Println("  left out:", l)
		}
	}
	return nil
}
