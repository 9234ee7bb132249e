package planner

import (
	"errors"
	"fmt"

	"github.com/manifold-build/manifold/platforms"
)

// StageError is a stage that cannot be run for a target as planned.
type StageError struct {
	// File and Line, counted from 1, are where.
	File string
	Line int
	// Stage is the stage's name or index, Target what it was planned for.
	Stage  string
	Target platforms.Platform
	// CannotRun is the platform that the stage has to run on where the node is not known to execute it; otherwise zero.
	CannotRun platforms.Platform
	// Problem says what is wrong and what to do.
	Problem string
}

// Error names target, stage, file and line before the problem.
func (e *StageError) Error() string {
	return fmt.Sprintf("%s: stage %s (%s:%d): %s", e.Target, e.Stage, e.File, e.Line, e.Problem)
}

type stageErrors []*StageError

func (errs stageErrors) join() error {
	out := make([]error, len(errs))
	for i, e := range errs {
		out[i] = e
	}
	return errors.Join(out...)
}
