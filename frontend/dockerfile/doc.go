// Package dockerfile reads a Dockerfile, plans how each of its stages is run for each target, and writes the text
// that each target is built from. It is pure: bytes in, bytes out; no gateway, no network, no clock.
//
//	file, err := dockerfile.Parse("Dockerfile", src)
//	plan, err := file.Plan(dockerfile.PlanRequest{Host: host, Targets: []dockerfile.Target{{Platform: arm64}}})
//	text, err := file.For(arm64, plan) // src, line for line, as arm64 is built from it
//
// The text differs from the source in these places only, and never in its number of lines, so that every error and
// warning still points into the user's file:
//
//   - a stage that is moved gets --platform=$BUILDPLATFORM in its FROM line;
//   - a RUN of a moved stage that compiles gets the target's environment in front of its command, as "export GOOS=linux
//     GOARCH=arm64; ", and a cache mount for Go's build cache;
//   - an ARG line that declares a predefined argument (see [Predefined]) without a default gets the target's value.
//
// # What is moved
//
// With the strategy auto a stage is moved to the build platform if the user has not pinned it, the exported image is not built
// FROM it, and every command of every RUN in it is known not to depend on the machine, or to take its target from the
// environment. RUN instructions are read with a shell parser: variables, conditions, loops, functions, here-documents and scripts in
// scripts are followed; what cannot be followed keeps the stage on its target. The known commands are the table in commands.go, one
// row each. What is taken out of a moved stage must have been made in it: a file of the base image or of a package is the
// machine's own, unless it is data such as certificates.
//
// Two questions are left to a node, as [Probe] values of a [Plan]: does a compilation need cgo, and what would make run. The answers go
// into the next plan. A third, whether what is taken holds machine code of the build platform, is asked when the stage has run
// ([Plan.Checks]); its answer, and a step that failed because it was moved, come back as a [Refusal].
//
// The language itself is BuildKit's: the package parses with its parser and expands words with its shell package,
// and what it does not understand it leaves alone for dockerfile2llb to judge.
package dockerfile
