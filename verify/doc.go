// Package verify answers one question: is this image really for that platform?
//
//	report, err := verify.NewReader(fetcher).Image(ctx, manifest, verify.Want{Platform: arm64})
//	fmt.Println(report.Verdict, report.Refused) // refused [/usr/local/bin/app is for amd64]
//
// It reads the final root filesystem, as the layers leave it, and the image's config, and compares what the config says, what the
// machine code in it is for, and what was asked for. Layers are streamed and never extracted: names, links and the beginnings of files are
// all that is kept, so that memory does not grow with an image's size.
//
// # Verdicts
//
//	verified           | the image holds machine code, and all that matters is for the platform
//	nothing to verify  | it holds none
//	excepted           | it holds code for another machine, all of it where an exception allows it; or it starts what is not there, and is not held to it ([Want.Inherited])
//	refused            | something in it cannot run where it is meant to
//
// What the image starts is followed: the entrypoint and the command, what wrappers such as tini and env run, the commands of a shell's script that are certain to
// run, the interpreters of scripts, and the libraries that programs need. All of it has to be there, be executable and be for the platform and its variant.
//
// What is only there is refused if it is for another machine and would be found: executable files in PATH, also by a link; libraries where a loader looks for the
// platform's; extensions that a run time loads from where they lie (.node files, site-packages, PostgreSQL's). A program in PATH needs its interpreter. A file that
// fits beside it, named as it is but for the platform (linux-x64 beside linux-arm64), excuses one that does not. All else for another machine, such as firmware
// and test data, is a warning. The variant of a library refuses nothing: its linker writes down the most that any part of it may use, after it has asked.
//
// # Limits
//
//	entries of a layer                     1,250,000
//	links and programs that are kept      500,000, and 64 MiB of names
//	a decompressed layer                  64 GiB, and 200 times its stored size if that is over 4 GiB
//	an ELF file's headers                 64 program headers, 1,024 section headers, a name of 4 KiB
//	links followed for one path           40
//
// The package does not run anything, and it does not import BuildKit.
package verify
