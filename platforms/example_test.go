package platforms_test

import (
	"fmt"

	"github.com/manifold-build/manifold/platforms"
)

func ExampleParseList() {
	targets, err := platforms.ParseList("linux/amd64,linux/arm/v7,aarch64,x86_64")
	if err != nil {
		panic(err)
	}
	fmt.Println(platforms.Format(targets))
	// Output: linux/amd64,linux/arm/v7,linux/arm64
}

func ExampleParse_unknown() {
	_, err := platforms.Parse("linux/amr64")
	fmt.Println(err)
	// Output: invalid platform "linux/amr64": unknown architecture "amr64"; did you mean "linux/arm64"?
}

func ExamplePlatform_Names() {
	p, err := platforms.Parse("linux/arm/v7")
	if err != nil {
		panic(err)
	}
	n := p.Names()
	fmt.Println(n.Go.GOARCH, n.Go.GOARM, n.GNU, n.Rust, n.Debian, n.Alpine, n.Uname)
	// Output: arm 7 arm-linux-gnueabihf armv7-unknown-linux-gnueabihf armhf armv7 armv7l
}

func ExamplePattern_Match() {
	arm, err := platforms.ParsePattern("linux/arm*")
	if err != nil {
		panic(err)
	}
	targets, err := platforms.ParseList("linux/amd64,linux/arm64,linux/arm/v7")
	if err != nil {
		panic(err)
	}
	for _, t := range targets {
		fmt.Println(t, arm.Match(t))
	}
	// Output:
	// linux/amd64 false
	// linux/arm64 true
	// linux/arm/v7 true
}

func ExampleHostOf() {
	reported, err := platforms.ParseList("linux/amd64,linux/amd64/v2,linux/386,linux/arm64")
	if err != nil {
		panic(err)
	}
	host, err := platforms.HostOf(reported)
	if err != nil {
		panic(err)
	}
	fmt.Println("native:", platforms.Format(host.NativePlatforms()))
	fmt.Println("emulated:", platforms.Format(host.Emulated))
	// Output:
	// native: linux/amd64,linux/amd64/v2,linux/386
	// emulated: linux/arm64
}
