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
//	strategy     auto, native, emulate or cross   how stages that are not pinned are run; default auto
//	platforms    a list                           used when the request names no platform
//	filename     a path                           the Dockerfile
//	target       a stage                          what is exported
//	build-arg:X  any value                        an argument
//
// Every option but platforms can be scoped with a platform pattern and a colon in front, in every spelling:
// linux/arm64:manifold:strategy, linux/arm*:filename, linux/arm/v7:build-arg:GOFLAGS (buildctl);
// linux/arm64:MANIFOLD_STRATEGY, linux/arm/v7:GOFLAGS (build arguments); linux/arm64:strategy (header). The most
// specific pattern wins; what the request says beats the header. A name with the prefix manifold: or MANIFOLD_
// that is not in the table is an error.
//
// # What it leaves to BuildKit
//
// The Dockerfile language is dockerfile2llb's, contexts and options of the reference frontend are dockerui's. This
// package decides what text and which arguments each target gets.
package frontend
