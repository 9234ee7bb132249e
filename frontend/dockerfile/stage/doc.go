// Package stage reads a stage as if it were run on the build platform: it folds the effects of its commands, one after the other, over what
// holds in it: the environment, the files, and what is set up for toolchains.
//
//	r := stage.Read(stage.Request{File: file, Stage: file.Stages[0], Target: arm64, Build: amd64})
//	r.Blocked   // why it has to run on its target; zero if it need not
//	r.Edits     // what its RUN instructions get so that they work for the target
//	r.Questions // what only a node can tell
//	r.Scripts   // which scripts of the build context it runs, whose texts are not known
//
// A reading is of one stage for one target. It knows the readings of the stages that the stage begins with and copies from, and nothing
// of where they are placed, nor of what a node can execute.
package stage
