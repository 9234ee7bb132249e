package stage

import (
	"strings"

	"github.com/distribution/reference"
)

// inputHost is the registry in the names of inputs. Nothing is ever fetched from it: each name is a named build context.
const inputHost = "build.platform"

// Accelerator is the name of the named context that holds the program which calls other compilers in the place of a stage's own, under each of its names.
const Accelerator = inputHost + "/manifold/accelerator:latest"

// InputName is the name by which a moved stage takes files from an image for the build platform: "build.platform/docker.io/library/node:20". Whoever
// converts the text has to give a named context of that name.
func InputName(image string) string {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return inputHost + "/invalid"
	}
	host, rest, _ := strings.Cut(reference.TagNameOnly(named).String(), "/")
	return inputHost + "/" + strings.ReplaceAll(host, ":", ".") + "/" + rest
}
