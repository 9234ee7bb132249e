// Command sandbox starts the test bench and runs a command in it, for demos, benchmarks and a look by hand:
//
//	go run ./integration/cmd/sandbox sh
//
// The command finds the daemons in its environment: BUILDKIT_HOST is a private buildkitd, REGISTRY a registry on
// loopback (host:port), and PATH begins with a folder that holds manifold, buildctl, buildx and crane. When it ends, so
// does everything the sandbox started. The exit code is the command's. With -frontend before the command, the gateway
// image of this checkout is built and pushed too, and FRONTEND is its reference.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/manifold-build/manifold/integration/sandbox"
)

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
	}
	os.Exit(code)
}

func run(args []string) (code int, err error) {
	withFrontend := len(args) > 0 && args[0] == "-frontend"
	if withFrontend {
		args = args[1:]
	}
	if len(args) == 0 {
		return 2, errors.New("usage: sandbox [-frontend] COMMAND [ARG]…")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	bench, err := sandbox.Open(ctx)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, bench.Close()) }()
	env, err := bench.Env(ctx)
	if err != nil {
		return 1, err
	}
	if withFrontend {
		ref, err := bench.Frontend(ctx)
		if err != nil {
			return 1, err
		}
		env = append(env, "FRONTEND="+ref)
	}
	cmd := exec.CommandContext(ctx, "env", append(env, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1), nil
	case err != nil:
		return 1, err
	}
	return 0, nil
}
