package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Output is what a program printed and how it ended.
type Output struct {
	Stdout, Stderr string
	Code           int
	// PeakMemory is the most that was resident at once, in bytes.
	PeakMemory int64
	// CPU is the processor time that the program took.
	CPU time.Duration
}

// Exec runs a program with the bench's environment (see [Bench.Env]) in the folder dir, the working directory if empty.
// An exit code other than zero is no error.
func (b *Bench) Exec(ctx context.Context, dir string, args ...string) (Output, error) {
	env, err := b.cachedEnv(ctx)
	if err != nil {
		return Output{}, err
	}
	cmd := exec.CommandContext(ctx, "env", append(env, args...)...)
	cmd.Dir = dir
	return outputOf(cmd)
}

// outputOf runs a command to its end.
func outputOf(cmd *exec.Cmd) (Output, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		err = nil
	}
	if cmd.ProcessState == nil {
		return Output{Stderr: stderr.String()}, err // it was not started
	}
	out := Output{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		out.PeakMemory = usage.Maxrss << 10
	}
	out.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return out, err
}

var envOnce sync.Map // of *Bench to func() ([]string, error)

// cachedEnv is Env, which compiles the CLI, once for each bench.
func (b *Bench) cachedEnv(ctx context.Context) ([]string, error) {
	f, _ := envOnce.LoadOrStore(b, sync.OnceValues(func() ([]string, error) { return b.Env(context.WithoutCancel(ctx)) }))
	return f.(func() ([]string, error))() //nolint:forcetypeassert // only this function stores
}

// RunImage runs an image's entrypoint and command for a platform and returns what it printed. The kernel runs it, through
// QEMU's handler where it is for another machine.
func (b *Bench) RunImage(ctx context.Context, ref, platform string) (string, error) {
	crane := filepath.Join(b.Bin, "crane")
	raw, err := run(ctx, command{Args: []string{crane, "config", "--platform", platform, ref}})
	if err != nil {
		return "", err
	}
	var image ocispec.Image
	if err := json.Unmarshal(raw, &image); err != nil {
		return "", err
	}
	root, err := os.MkdirTemp(b.Dir, "rootfs-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(root) }()
	tarball := root + ".tar"
	defer func() { _ = os.Remove(tarball) }()
	if _, err := run(ctx, command{Args: []string{crane, "export", "--platform", platform, ref, tarball}}); err != nil {
		return "", err
	}
	if _, err := run(ctx, command{Args: []string{"tar", "-xf", tarball, "-C", root}}); err != nil {
		return "", err
	}
	args := append(append([]string{}, image.Config.Entrypoint...), image.Config.Cmd...)
	if len(args) == 0 {
		return "", fmt.Errorf("%s has neither entrypoint nor command", ref)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	if !strings.HasPrefix(args[0], "/") {
		cmd = exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `exec "$@"`, "sh"}, args...)...)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	cmd.Dir = "/" + strings.TrimPrefix(image.Config.WorkingDir, "/")
	cmd.Env = image.Config.Env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("running %s for %s: %w\n%s", ref, platform, err, out)
	}
	return string(out), nil
}
