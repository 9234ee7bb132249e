// Package dockerfile reads a Dockerfile, plans how each of its stages is run for each target, and writes the text
// that each target is built from. It is pure: bytes in, bytes out; no gateway, no network, no clock.
//
//	file, err := dockerfile.Parse("Dockerfile", src)
//	plan, err := file.Plan(dockerfile.PlanRequest{Host: host, Targets: []dockerfile.Target{{Platform: arm64}}})
//	text, err := file.For(arm64, plan) // src, line for line, as arm64 is built from it
//
// The text differs from the source in two places only, and never in its number of lines, so that every error and
// warning still points into the user's file:
//
//   - a stage with the strategy cross gets --platform=$BUILDPLATFORM in its FROM line;
//   - an ARG line that declares a predefined argument (see [Predefined]) without a default gets the target's value.
//
// The language itself is BuildKit's: the package parses with its parser and expands words with its shell package,
// and what it does not understand it leaves alone for dockerfile2llb to judge.
package dockerfile
