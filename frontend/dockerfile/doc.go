// Package dockerfile reads a Dockerfile, plans how each of its stages is run for each target, and writes the text
// that each target is built from. It is pure: bytes in, bytes out; no gateway, no network, no clock.
//
//	file, err := dockerfile.Parse("Dockerfile", src)
//	plan, err := file.Plan(dockerfile.PlanRequest{Host: host, Targets: []dockerfile.Target{{Platform: arm64}}})
//	text, err := file.For(arm64, plan) // src, line for line, as arm64 is built from it
//
// A program that answers a plan's probes, or puts stages back, opens a [Planner] instead, which keeps what it knows.
//
// The text differs from the source in these places only, and never in its number of lines, so that every error and
// warning still points into the user's file:
//
//   - a stage that is moved gets --platform=$BUILDPLATFORM in its FROM line;
//   - a RUN of a moved stage that compiles gets the target's environment in front of its command, as "export GOOS=linux
//     GOARCH=arm64; ", and a cache mount for Go's build cache; and so does a RUN of the same stage where it runs natively;
//   - an image that a moved stage takes files from is named as one for the build platform (see [Plan.Inputs]);
//   - an ARG line that declares a predefined argument (see [Predefined]) without a default gets the target's value.
//
// # What is moved
//
// With the strategy auto a stage is moved to the build platform if the user has not pinned it, the exported image is not built
// FROM it, and every command of every RUN in it is known not to depend on the machine, or to take its target from the
// environment. RUN instructions are read with a shell parser: variables, conditions, loops, functions, here-documents and scripts in
// scripts are followed; what cannot be followed keeps the stage on its target. The known commands are the table of package effect, one
// row each. What is taken out of a moved stage must have been made in it: a file of the base image or of a package is the
// machine's own, unless it is data such as certificates.
//
// Two questions are left to a node, as [Probe] values of a [Plan]: does a compilation need cgo, and what would make run. A third, whether what is
// taken holds machine code of the build platform, is asked when the stage has run ([Plan.Checks]). A stage that was moved in vain is put back
// on its target by a [PutBack].
//
// # The parts
//
//	source    the file: where things stand, and edits that move no line
//	script    a shell script's commands, without running any
//	effect    what one command does to its stage
//	stage     the effects of a stage's commands, one after the other
//	place     which stages run where, for each target
//	planner   all of it together, in words and in text
//
// The language itself is BuildKit's: the package parses with its parser and expands words with its shell package,
// and what it does not understand it leaves alone for dockerfile2llb to judge.
package dockerfile
