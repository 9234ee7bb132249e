// Package script reads a shell script into the simple commands that it may run, without running any.
//
//	s, err := script.Parse("cd /src && GOARCH=$ARCH go build -o app .")
//	r := s.Read(script.Options{Vars: map[string]string{"ARCH": "arm64"}, Dir: "/"})
//	r.Commands[1].Words         // [go build -o app .]
//	r.Commands[1].Getenv("GOARCH") // arm64, true
//	r.Commands[1].Dir           // /src
//
// The parser is mvdan.cc/sh's, and so is the expansion of words. The package follows assignments, exports, cd, functions,
// loops over known words, and conditions whose outcome is known (test, [, [[, case); where an outcome is not known, both
// ways are read, and what they leave different is unknown afterwards. What stands in front of another command (env,
// exec, time, sh -c, xargs, find -exec) is looked through; scripts in files are read where they are run, if their texts are
// given.
//
// A string may be known in part: stretches that only running the script would tell are held as [Unknown]. The package
// does not judge what commands do; it says which there are, with which words, variables and files, and lists as
// problems what it could not read.
package script
