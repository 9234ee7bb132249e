package place

import (
	"fmt"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/effect"
	"github.com/manifold-build/manifold/frontend/dockerfile/source"
	"github.com/manifold-build/manifold/frontend/dockerfile/stage"
	"github.com/manifold-build/manifold/platforms"
)

// Move is what becomes of one stage for one target. The zero value is that of a stage nobody thought of moving.
type Move struct {
	// Moved: the stage runs on the build platform. Strategy is then Cross or Shared.
	Moved    bool
	Strategy platforms.Strategy
	// Told: the stage runs on its target, which the node executes itself, and is told what it is told for the other targets.
	Told bool
	// Accelerated: the stage runs on its target, and its compilers are those of the build platform.
	Accelerated bool
	// Edits are of its RUN instructions, by line; nil if there are none.
	Edits map[int]*stage.Edit
	// Questions are open, and Check is what is to be looked at when the stage has run; nil if nothing is.
	Questions []stage.Question
	Check     *Check
	// Inputs are the images that it takes files from.
	Inputs []stage.Input
	// Kin: a stage that declares its target is told all of it there (strategy=cross).
	Kin bool

	// Because says why it is moved, Stays why it is not.
	Because Because
	Stays   Stays
}

// Check is what is taken out of a moved stage and is not known to be free of the build platform's machine code.
type Check struct {
	// Paths are absolute, shell patterns allowed.
	Paths []string
	// Line is that of the last instruction that takes one.
	Line int
}

// Because says why a stage is moved.
type Because struct {
	told      effect.Told
	declares  source.Argument
	inherited string // the stage that inherits from it and declares an argument
	tools     []string
	executes  bool
	suspect   *suspect
	runs      effect.Run
	uses      string // a stage it uses, which differs between targets
}

// suspect is what is taken from a stage although it may hold machine code.
type suspect struct {
	path, by string
	line     int
}

// Suspected reports whether what is taken from the stage is looked at for it may hold machine code.
func (b Because) Suspected() bool { return b.suspect != nil }

// String is the reason for people.
func (b Because) String() string {
	var out string
	switch {
	case b.told.Name != "":
		out = fmt.Sprintf("%s: %s at line %d", b.told.Name, b.told.How, b.told.Line)
	case b.inherited != "":
		out = fmt.Sprintf("stage %s, which inherits from it, declares %s on line %d", b.inherited, b.declares.Name, b.declares.Line)
	case b.declares.Name != "":
		out = fmt.Sprintf("declares %s on line %d", b.declares.Name, b.declares.Line)
	case len(b.tools) > 0:
		out = strings.Join(b.tools, ", ") + " output does not depend on the target"
	case b.executes:
		out = "its output does not depend on the target"
	default:
		out = "nothing is run in it"
	}
	if s := b.suspect; s != nil {
		out += fmt.Sprintf("; %s, which line %d takes, is what %s installed, and is looked at for machine code first", s.path, s.line, s.by)
	}
	if b.runs.What != "" {
		out += fmt.Sprintf("; line %d runs %q, which is emulated", b.runs.Line, b.runs.What)
	}
	if b.uses != "" {
		out += fmt.Sprintf("; it uses stage %s, which does", b.uses)
	}
	return out
}

// Stays says why a stage is not moved.
type Stays struct {
	// Reason is the stage's own, or that of another one of its chain, which Stage then names.
	Reason effect.Reason
	Stage  string
	// With names the stage that the exported one begins with too; empty if none does.
	With     string
	WithLine int
	// Advice is the line of the FROM where --platform=$BUILDPLATFORM would move it; 0 if that would be wrong.
	Advice int
}

// IsZero reports whether nobody thought of moving the stage.
func (s Stays) IsZero() bool { return s.Reason.Clause == "" && s.With == "" }

// Why is the reason alone, for people.
func (s Stays) Why() string {
	switch {
	case s.With != "":
		return fmt.Sprintf("the exported stage begins with stage %s (line %d) too; begin this one with its own FROM --platform=$BUILDPLATFORM to move it", s.With, s.WithLine)
	case s.Stage != "":
		return fmt.Sprintf("stage %s, of one chain with it, has to: %s", s.Stage, s.Reason)
	}
	return s.Reason.String()
}

// String is the reason for people, with the advice.
func (s Stays) String() string {
	if s.Advice > 0 {
		return fmt.Sprintf("%s; write --platform=$BUILDPLATFORM on line %d or strategy=cross to move it", s.Why(), s.Advice)
	}
	return s.Why()
}
