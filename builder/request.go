package builder

import (
	"io"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"

	"github.com/manifold-build/manifold/frontend"
	"github.com/manifold-build/manifold/platforms"
)

// Request is one build.
type Request struct {
	// Context is the build context: a folder, the URL of a git repository or of an archive, or "-" for Stdin, which is an
	// archive of the context or the Dockerfile of an empty one. Empty means the working directory.
	Context string
	// Dockerfile is the path of the Dockerfile, or "-" for Stdin; for a context that is a URL or an archive, its path in
	// there unless it is absolute. Empty means Dockerfile in the context.
	Dockerfile string
	// Stdin is what "-" reads; nil means the process's standard input.
	Stdin io.Reader
	// Targets are the platforms to build for, in order. Empty means what the Dockerfile's header says, or else the
	// node's native platform.
	Targets []platforms.Platform
	// Stage is the stage to export; empty means the last one.
	Stage string
	// BuildArgs are the arguments of every target. A key may be scoped, "linux/arm/v7:GOFLAGS".
	BuildArgs map[string]string
	// Strategy is how stages are run; the zero value is auto.
	Strategy platforms.Strategy
	// CacheMounts is "auto", "off", or empty for what the Dockerfile's header says, else auto: whether moved Go stages get a mount
	// for Go's build cache.
	CacheMounts string
	// Accelerate is "auto", "off", or empty for what the Dockerfile's header says, else auto: whether compilers of the build platform are called in
	// stages that run on an emulated target.
	Accelerate string
	// Toolchains is the repository of the tool chain images that gcc's compilers are called from, "off", or empty for what the Dockerfile's header says,
	// else for frontend.Toolchains.
	Toolchains string
	// MaxParallelism is how many targets are built at once. 0 leaves it to the Dockerfile's header, else to the frontend: as many as the node
	// has CPUs where they are compiled on the build platform, all where not.
	MaxParallelism int
	// Gate is what every target's image has to pass before it leaves the node.
	Gate Gate
	// PerTarget holds what differs for some targets. The most specific pattern wins.
	PerTarget []Override

	// Labels are added to the config of every image.
	Labels map[string]string
	// Contexts are named build contexts: a folder, or docker-image://, oci-layout://, a git or an https URL.
	Contexts map[string]string
	// NoCache runs everything anew; NoCacheStages only the named stages.
	NoCache       bool
	NoCacheStages []string
	// Pull asks the registry for every base image, even if the node has it.
	Pull bool
	// CacheFrom and CacheTo are caches to read and to write.
	CacheFrom, CacheTo []client.CacheOptionsEntry
	// Attest holds the attestations to add and their parameters: {"sbom": "", "provenance": "mode=max"}.
	Attest map[string]string
	// Options are further options of the reference frontend, such as add-hosts, as buildctl's --opt spells them.
	Options map[string]string
	// Allow are the entitlements that the Dockerfile may ask for, as BuildKit names them: network.host, security.insecure, device. Nil means none.
	Allow []string
	// Session serves secrets, ssh agents and the like to the build. Docker's credentials are always served.
	Session []session.Attachable

	// Tags are the names of the result. TargetTag, if not empty, is a template that makes further tags, one for each
	// target and tag: "{{.Tag}}-{{.Arch}}". See [TagNames].
	Tags      []string
	TargetTag string
	// Push publishes the result under its tags.
	Push bool
	// Annotations are OCI annotations, keyed as BuildKit's exporters do: "annotation.KEY", "annotation-index.KEY",
	// "annotation-manifest[linux/amd64].KEY".
	Annotations map[string]string
	// Outputs are where else the result goes.
	Outputs []Output

	// FailFast ends the build when the first target has failed. Otherwise the others are built to their end, and all that failed is reported.
	FailFast bool
	// Optional are targets that may be missing from the result if they fail; its index then lists them in the annotation
	// [frontend.AnnotationMissing]. One has to be left. Nil means none: all or nothing.
	Optional []platforms.Pattern

	// Progress is called with every step of BuildKit's progress, from one goroutine. Nil means nobody watches.
	Progress func(*client.SolveStatus)

	// pins are what names stand for on every node; nil where there is one.
	pins *frontend.Pins
	// kept is the file that standard input was written to, where several nodes are to read it; empty otherwise.
	kept string
}

// Override is what differs for the targets a pattern selects. Empty fields change nothing.
type Override struct {
	// Pattern selects the targets.
	Pattern platforms.Pattern
	// Dockerfile is the path of their Dockerfile, Stage the stage to export, Strategy how stages are run, CacheMounts and Accelerate as in Request.
	Dockerfile  string
	Stage       string
	Strategy    platforms.Strategy
	CacheMounts string
	Accelerate  string
	// Gate replaces the request's where it says something.
	Gate Gate
}

// Gate is what an image has to pass. The zero value is what the Dockerfile's header says, else strict verification and no tests.
type Gate struct {
	// Verify is "strict", "warn" or "off"; empty as above.
	Verify string
	// Except are patterns of paths that may hold another machine's code, as in a .dockerignore file. Nil means none.
	Except []string
	// Tests are commands that are run in the image as its own user. Nil means none.
	Tests []string
}

// Output is one place the result goes to.
type Output struct {
	// Type is the exporter: local, tar, oci, docker, image or registry.
	Type string
	// Dest is a file or, for local and for oci with tar=false, a folder; "-" is standard output. An archive
	// appears under its name only when it is complete.
	Dest string
	// Attrs are the exporter's further attributes.
	Attrs map[string]string
}
