// Package integration holds the stories that Manifold promises, told against a real buildkitd, a real registry, real
// QEMU and a real Docker Engine. There is nothing in it but tests.
//
//	make test                                          all of them
//	go test ./integration -run TestStories/cross       one script
//
// Stories about the CLI are scripts in testdata/script, in the language of testscript, with two commands more:
//
//	runimage REF PLATFORM    runs an image's entrypoint and prints what it prints
//	platforms REF            prints each image's platform in the index, and the one in its config
package integration
