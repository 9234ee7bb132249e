package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

const (
	// privateStartWait bounds how long a private buildkitd may take until it answers.
	privateStartWait = 60 * time.Second
	// privateStopWait bounds how long it may take to end after SIGTERM; then it is killed.
	privateStopWait = 20 * time.Second
	// maxSocketPath is what a unix socket's address holds, in bytes.
	maxSocketPath = 107
)

// StartPrivate starts the buildkitd that is on PATH, as a node of this process's own, and dials it. Its state, the cache
// with it, stays in dir for the next time; while it runs nobody else can use the folder, and a second caller waits for
// the first. Closing the node stops the buildkitd. It needs what buildkitd needs: root, and runc on PATH.
func StartPrivate(ctx context.Context, dir string) (_ *Node, err error) {
	program, err := exec.LookPath("buildkitd")
	if err != nil {
		return nil, fmt.Errorf("no private BuildKit can be started: %w", err)
	}
	socket := filepath.Join(dir, "bk.sock")
	if len(socket) > maxSocketPath {
		return nil, fmt.Errorf("the path of the socket %s is longer than %d bytes: choose another folder", socket, maxSocketPath)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	unlock, err := lockFolder(ctx, dir)
	if err != nil {
		return nil, err
	}
	d := &daemon{unlock: unlock, done: make(chan struct{})}
	log, err := os.Create(filepath.Join(dir, "buildkitd.log")) //nolint:gosec // the caller names the folder
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	d.cmd = exec.Command(program, "--root", filepath.Join(dir, "state"), "--addr", "unix://"+socket) //nolint:gosec,noctx // it outlives this call
	d.cmd.Stdout, d.cmd.Stderr = log, log
	// A terminal's Ctrl-C is for the daemon's clients first. If this process is killed, the daemon is to end too.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := d.start(); err != nil {
		return nil, errors.Join(err, unlock())
	}
	n, err := d.dial(ctx, "unix://"+socket)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the private BuildKit did not start, see %s: %w", log.Name(), err), d.stop())
	}
	n.stop = d.stop
	return n, nil
}

// daemon is a buildkitd this process started.
type daemon struct {
	cmd    *exec.Cmd
	unlock func() error
	done   chan struct{}
}

// start starts the daemon from a thread that lives as long as it does: Linux takes the end of the thread that started a
// process for its parent's death.
func (d *daemon) start() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := d.cmd.Start()
		started <- err
		if err == nil {
			_ = d.cmd.Wait() // its state says how it ended
			close(d.done)
		}
	}()
	return <-started
}

// dial waits until the daemon answers.
func (d *daemon) dial(ctx context.Context, address string) (*Node, error) {
	ctx, cancel := context.WithTimeout(ctx, privateStartWait)
	defer cancel()
	for {
		n, err := Dial(ctx, address)
		if err == nil {
			return n, nil
		}
		select {
		case <-d.done:
			return nil, fmt.Errorf("it ended: %s", d.cmd.ProcessState)
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop ends the daemon and lets the folder go.
func (d *daemon) stop() error {
	err := d.cmd.Process.Signal(syscall.SIGTERM)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	select {
	case <-d.done:
	case <-time.After(privateStopWait):
		err = errors.Join(err, d.cmd.Process.Kill())
		<-d.done
	}
	return errors.Join(err, d.unlock())
}

// lockFolder takes the folder for this process, waiting for another one that has it.
func lockFolder(ctx context.Context, dir string) (func() error, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the caller names the folder
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f.Close, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("another process uses the private BuildKit in %s: %w", dir, ctx.Err()), f.Close())
		case <-time.After(200 * time.Millisecond):
		}
	}
}
