package script

import (
	"errors"
	"fmt"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// maxSize bounds a script, in bytes. The parser is recursive.
const maxSize = 64 << 10

// Unknown stands for a stretch of a string that cannot be known without running the script. It is a code point that
// Unicode reserves for a program's own use and never assigns; a script that holds it is not read.
const Unknown = "\uFDD0"

// Known reports whether all of s is known.
func Known(s string) bool { return !strings.Contains(s, Unknown) }

// Script is a parsed shell script. It is immutable, and may be read by several goroutines at once.
type Script struct {
	file  *syntax.File
	known memory
}

// Parse parses a script in the language of bash, of which the scripts of sh are a part for what is read here.
func Parse(text string) (*Script, error) {
	if len(text) > maxSize {
		return nil, fmt.Errorf("the script is larger than %d KiB", maxSize>>10)
	}
	if !Known(text) {
		return nil, errors.New("the script holds U+FDD0, which is not a character")
	}
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), "")
	if err != nil {
		return nil, fmt.Errorf("the shell does not read: %w", err)
	}
	return &Script{file: file}, nil
}

// Options are what a script is read with.
type Options struct {
	// Vars are the exported variables it begins with. Others are unset. Nil means none.
	Vars map[string]string
	// Dir is the working directory; [Unknown] if nobody knows.
	Dir string
	// Errexit says that the shell was begun with -e: a command that fails ends it.
	Errexit bool
	// Open says that others than Vars may be set, to anything; else they are unset.
	Open bool
	// Bash says that the shell is bash. Otherwise it is sh, which may be another one.
	Bash bool
	// Output tells what a command in a substitution prints, without the last newline, where that is known. Nil means nobody
	// knows.
	Output func(Command) (string, bool)
	// Files are the texts of scripts in files that commands may run, by absolute paths: they are read where they are run. Nil means that none is known.
	Files map[string]string
}

// Reading is what was read.
type Reading struct {
	// Commands are the simple commands in the order they are written, those in substitutions before the command that
	// uses them. A command that is certain not to run is left out.
	Commands []Command
	// Problems are what could not be read. A reading that has any may lack commands.
	Problems []Problem
	// Files are the scripts in files that were read, in the order in which they are run.
	Files []FileRead
	// Shows reports whether something shows, or looks into, all variables of the shell: set, export -p.
	Shows bool
	// Traps reports whether the script sets a trap of its own, and so may not be given another.
	Traps bool
}

// Problem is something that could not be read.
type Problem struct {
	// Offset is where in the script, in bytes.
	Offset int
	// What says what it is, as a clause: "runs eval on what is not known".
	What string
}

// Command is a simple command.
type Command struct {
	// Words are its name and arguments, expanded, quotes removed. There is at least one.
	Words []string
	// Reads and Writes are the files it is redirected from and to.
	Reads, Writes []string
	// Dir is the directory it runs in.
	Dir string
	// Offset and End are where it stands in the script, in bytes.
	Offset, End int
	// Chain reports whether it is one link of a chain at the top of the script, so that the script up to End runs it last.
	Chain bool
	// Certain reports whether it runs if everything before it succeeds.
	Certain bool
	// Substituted reports whether it stands in a substitution, whose output is used as words.
	Substituted bool
	// Shown reports whether all that becomes of its output is that it is printed: it stands in a substitution in the words of an echo whose own
	// output nobody reads.
	Shown bool
	// Piped reports whether its standard input is a pipe, Feeds whether its output is.
	Piped, Feeds bool
	// Document is its here-document or here-string, expanded; nil if it has none.
	Document *string
	// Through names what runs it besides the shell itself: "xargs", "find"; empty if nothing does. Its words then lack those that
	// are added.
	Through string

	vars vars
}

// Getenv returns the value of a variable in the command's environment: the command's own assignments and what was
// exported before it.
func (c Command) Getenv(name string) (string, bool) {
	switch v := c.vars.get(name); {
	case v.set && v.perhaps:
		return Unknown, true
	case v.set && v.exported:
		return v.value, true
	}
	return "", false // a variable of the shell that is not exported is none of the command's
}

// Name is the command's name as written: the first word.
func (c Command) Name() string { return c.Words[0] }
