package frontend

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	gwpb "github.com/moby/buildkit/frontend/gateway/pb"

	"github.com/manifold-build/manifold/platforms"
)

// signalled is what a shell adds to the number of the signal that ended a program.
const signalled = 128

// crash says what a step's exit code means that no program chose: QEMU fell, or memory ran out. Other errors are as they are.
func (t *target) crash(err error) error {
	exit, ok := errors.AsType[*gwpb.ExitError](err)
	if !ok || exit.ExitCode <= signalled || exit.ExitCode > signalled+64 {
		return err
	}
	signal := syscall.Signal(exit.ExitCode - signalled)
	at, ok := errors.AsType[*TargetError](targetError(t.platform, t.group.file, err))
	emulated := false
	for _, s := range t.steps() {
		emulated = emulated || ok && s.Index() == at.stage && (s.Strategy == platforms.Emulate || s.Strategy == platforms.Accelerate)
	}
	switch {
	case signal == syscall.SIGKILL:
		why := "as the kernel does when memory runs out"
		if errors.Is(err, syscall.ENOMEM) || strings.Contains(err.Error(), syscall.ENOMEM.Error()) {
			why = "because memory ran out"
		}
		return explained{err, fmt.Sprintf("it was killed, %s: give the node more, or build fewer targets at once (--max-parallelism)", why)}
	case emulated && (signal == syscall.SIGSEGV || signal == syscall.SIGABRT || signal == syscall.SIGILL || signal == syscall.SIGBUS || signal == syscall.SIGTRAP):
		return explained{err, fmt.Sprintf("the program, or QEMU which emulates %s for it, crashed (signal %d, %s): use a node that runs it natively, or a newer QEMU", t.platform, int(signal), signal)}
	}
	return err
}

// explained is an error with what it means.
type explained struct {
	error

	means string
}

// Error is the error and what it means.
func (e explained) Error() string { return e.error.Error() + ": " + e.means }

// Unwrap returns the error.
func (e explained) Unwrap() error { return e.error }
