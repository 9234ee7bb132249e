package stage

import (
	"strings"
	"sync"

	"github.com/distribution/reference"

	"github.com/manifold-build/manifold/platforms"
)

// inputHost is the registry in the names of inputs. Nothing is ever fetched from it: each name is a named build context.
const inputHost = "build.platform"

// Accelerator is the name of the named context that holds the program which calls other compilers in the place of a stage's own, under each of its names.
const Accelerator = inputHost + "/manifold/accelerator:latest"

// ToolchainName is the name of the named context that holds programs of the build platform's which make a target's code, for stages that begin with an
// image: "build.platform/manifold/toolchain/arm64/docker.io/library/debian:13".
func ToolchainName(image string, target platforms.Platform) string {
	_, rest, _ := strings.Cut(InputName(image), "/")
	return inputHost + "/manifold/toolchain/" + ToolchainArch(target) + "/" + rest
}

// ToolchainArch is what a target's tool chains are called by: "arm64", "arm-v7".
func ToolchainArch(target platforms.Platform) string {
	_, arch, _ := strings.Cut(target.String(), "/")
	return strings.ReplaceAll(arch, "/", "-")
}

// InputName is the name by which a moved stage takes files from an image for the build platform: "build.platform/docker.io/library/node:20". Whoever
// converts the text has to give a named context of that name.
func InputName(image string) string {
	if name, ok := inputNames.Load(image); ok {
		return name.(string) //nolint:forcetypeassert // only this function stores
	}
	name := inputName(image)
	inputNames.Store(image, name)
	return name
}

var inputNames sync.Map // by image

func inputName(image string) string {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return inputHost + "/invalid"
	}
	host, rest, _ := strings.Cut(reference.TagNameOnly(named).String(), "/")
	return inputHost + "/" + strings.ReplaceAll(host, ":", ".") + "/" + rest
}
