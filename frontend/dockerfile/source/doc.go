// Package source reads a Dockerfile's text and changes it without moving a line, so that every error and warning about the changed
// text still points into the user's file.
//
//	file, err := source.Parse("Dockerfile", src)
//	pin, ok := file.Stages[0].Pin("$BUILDPLATFORM")       // --platform=$BUILDPLATFORM for its FROM line
//	text, err := file.Rewrite([]source.Edit{pin})
//
// The language itself is BuildKit's: the package parses with its parser. What it adds is where things stand: the lines and columns of
// flags and of a RUN instruction's command, which BuildKit's parser does not keep.
//
// Everything here is immutable once it is parsed. The package knows nothing of platforms, and decides nothing.
package source
