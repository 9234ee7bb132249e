package main

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/manifold-build/manifold/builder"
	"github.com/manifold-build/manifold/frontend"
	"github.com/manifold-build/manifold/index"
)

// The exit codes. They are documented (docs/cli.md) and do not change.
const (
	exitFailed      = 1   // a build step failed, or anything that has no code of its own
	exitUsage       = 2   // the command line is wrong; nothing was asked of anybody
	exitRefused     = 3   // the gate refuses an image
	exitTest        = 4   // a test in an image failed
	exitUnreachable = 5   // there is no node, or the last one that could build a target was lost
	exitRegistry    = 6   // a registry refuses, or does not answer
	exitInterrupted = 130 // what a shell reports for a program ended by Ctrl-C
)

// usageError is a fault in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// misused marks an error as one of the command line.
func misused(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// refusedError is a verdict, not a failure.
type refusedError struct{ error }

func (e refusedError) Unwrap() error { return e.error }

// exitCode is the code for an error: of several, the first that has one of its own, in the order of the targets.
func exitCode(err error) int {
	for _, e := range flatten(err) {
		if code := codeOf(e); code != exitFailed {
			return code
		}
	}
	return exitFailed
}

func codeOf(err error) int {
	switch {
	case is[usageError](err):
		return exitUsage
	case is[refusedError](err), is[*frontend.GateError](err):
		return exitRefused
	case is[*frontend.TestError](err):
		return exitTest
	case is[*builder.NodeError](err), errors.Is(err, builder.ErrUnreachable):
		return exitUnreachable
	case is[*frontend.TargetError](err):
		return exitFailed // also where a base image could not be read: it is a step's failure
	case is[*index.TagError](err), is[*index.StatusError](err), is[*index.PolicyError](err), errors.Is(err, index.ErrNotFound), errors.Is(err, index.ErrUnauthorized),
		errors.Is(err, index.ErrDenied), errors.Is(err, index.ErrTooManyRequests), is[net.Error](err) && !errors.Is(err, context.DeadlineExceeded):
		return exitRegistry
	}
	return exitFailed
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// strict has every command report a wrong command line as such, with what was probably meant.
func strict(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return misused(suggestFlag(cmd, err)) })
	if args := cmd.Args; args != nil {
		cmd.Args = func(cmd *cobra.Command, list []string) error {
			if err := args(cmd, list); err != nil {
				return misused(errors.New(err.Error() + "; see " + cmd.CommandPath() + " --help"))
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		strict(c)
	}
}

// isUnknownCommand reports whether cobra found no command of a name, which it says with suggestions of its own.
func isUnknownCommand(err error) bool { return strings.HasPrefix(err.Error(), "unknown command ") }
