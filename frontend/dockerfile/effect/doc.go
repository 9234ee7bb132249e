// Package effect tells what one command does to the stage it runs in, were the stage run on the build platform instead of its target: does
// its result depend on the machine, how is it told its target, what does it put where, does it run what the stage made.
//
//	tools := &effect.Toolchains{}
//	e := tools.Effect(effect.Call{Command: c, Line: 7, Target: arm64, Build: amd64})
//	e.Depends   // why the result depends on the machine; empty if it does not
//	e.Told      // "go build" is told by GOOS and GOARCH
//	e.Files     // /out/app is a program of the target
//
// The known commands are the table in table.go, one row each; a command that is not in it depends on the machine. A toolchain, which is told its
// target, has a file of its own (golang.go, rust.go, dotnet.go, make.go) and keeps what a stage has set up for it.
//
// An effect is a value. It knows nothing of other stages, of what lies in the stage, or of what a node can execute: package stage folds
// effects over a stage, package place decides where stages run.
package effect
