// Package frontend is Manifold's BuildKit gateway frontend: a superset of the reference Dockerfile frontend that builds
// each target from its own text, arguments, stage and file, and answers for all of them with one result.
//
//	res, err := frontend.Config{}.Build(ctx, gatewayClient)
//
// [Config.Build] is a gateway BuildFunc. It runs as an image (cmd/manifold-frontend, reached by a "# syntax=" line or
// gateway.v0) and in the process of a BuildKit client (package builder, client.Build).
//
// # Options
//
// Each option has one name and several spellings:
//
//	buildctl                    --opt manifold:strategy=cross
//	buildx, docker build        --build-arg MANIFOLD_STRATEGY=cross
//	the Dockerfile's header     # manifold: strategy=cross
//
//	strategy       auto, native, emulate or cross   how stages that are not pinned are run; default auto
//	cache-mounts   auto or off                      Go's build cache where a moved stage compiles; default auto
//	verify         strict, warn or off              whether an image that is not for its platform fails the build; default strict
//	verify-except  a list of patterns               paths that may hold another machine's code, as in .dockerignore
//	test           a command                        run in each target's own image before export; may be repeated
//	max-parallelism  a number                       how many targets are built at once, see below
//	platforms      a list                           used when the request names no platform
//	filename       a path                           the Dockerfile
//	target         a stage                          what is exported
//	build-arg:X    any value                        an argument
//
// Every option but platforms and max-parallelism can be scoped with a platform pattern and a colon in front, in every spelling:
// linux/arm64:manifold:strategy, linux/arm*:filename, linux/arm/v7:build-arg:GOFLAGS (buildctl);
// linux/arm64:MANIFOLD_STRATEGY, linux/arm/v7:GOFLAGS (build arguments); linux/arm64:strategy (header). The most
// specific pattern wins; what the request says beats the header. A name with the prefix manifold: or MANIFOLD_
// that is not in the table is an error.
//
// # Several targets at once
//
// Targets are built in parallel: all at once, but for those that a compiler runs for on the build platform. Of these, where the frontend runs
// on the node's own machine (as an image it always does), as many are built at once as that has CPUs, and at least two: a compiler uses every CPU
// by itself. max-parallelism bounds all targets, whatever they run.
//
// # The gate
//
// When a target is built, and before anything is exported, its image is verified (package verify): by an exec of this frontend's own image
// on the build platform, which is cached like every other, or, in the process of a client, through the gateway's files: of an image that is a
// base and copies, only what was copied (Config.CacheDir); for one of very many folders by an exec of Config.Program. An image that is
// refused fails the build with a [GateError]; a test that fails, with a [TestError]. Where the file's own text explains a refusal, the error
// says at which line. A file for the build platform in the image of a target whose stages were moved makes the target be built once more,
// emulated. A literal --platform= on the exported stage's FROM line is the user's word: its image is not refused.
//
// # What it leaves to BuildKit
//
// The Dockerfile language is dockerfile2llb's, contexts and options of the reference frontend are dockerui's. This
// package decides what text and which arguments each target gets.
package frontend
