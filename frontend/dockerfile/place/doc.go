// Package place decides which stages of a Dockerfile run where, for each target: on the target, or on the build platform, once or told the
// target. It is the only part that knows what a node can execute.
//
//	g, err := place.Open(file, host, place.Target{Platform: arm64}, images)
//	g.Decide()
//	g.Needed()[0].Move   // moved, shared, because its output does not depend on the target
//
// Decisions hold for whole FROM chains, for their stages run on one platform. [Agree] sees to it that all targets of a file are told the same.
package place
