// Package verify answers one question: is this image really for that platform?
//
//	report, err := verify.Image(ctx, provider, manifest, verify.Want{Platform: arm64})
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
//	excepted           | it holds code for another machine, all of it where an exception allows it
//	refused            | something in it cannot run where it is meant to
//
// Refused is what makes a container fail to start, or a program in it: an entrypoint, command or file in an executable or library path that
// is for another machine; a dynamic program whose interpreter is missing or is for another machine; a config for another platform.
// Other code for another machine, such as firmware and test data, is a warning.
//
// # Limits
//
//	entries of a layer                     1,000,000
//	links and programs that are kept      500,000, and 64 MiB of names
//	a decompressed layer                  64 GiB, and 200 times its stored size if that is over 2 GiB
//	an ELF file's headers                 64 program headers, 1,024 section headers, a name of 4 KiB
//	links followed for one path           40
//
// The package does not run anything, and it does not import BuildKit.
package verify
