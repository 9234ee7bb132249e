package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	// startWait bounds how long a daemon may take until it answers.
	startWait = 60 * time.Second
	// stopWait bounds how long a daemon may take to end after SIGTERM; then it is killed.
	stopWait = 20 * time.Second
)

// process is a daemon this package started.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string // file that holds what the daemon printed
	done chan struct{}
	err  error // how it ended, after done is closed

	stopOnce sync.Once
}

// start starts a daemon whose output goes to NAME.log in dir, and waits until ready returns nil.
func start(ctx context.Context, dir, name string, ready func(context.Context) error, args ...string) (*process, error) {
	return startWith(ctx, daemonAttr(), dir, name, ready, args...)
}

// daemonAttr is how every daemon is started: a process group of its own keeps a terminal's Ctrl-C from reaching the daemon
// before its clients are done.
func daemonAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// startWith is start with process attributes of the caller's.
func startWith(ctx context.Context, attr *syscall.SysProcAttr, dir, name string, ready func(context.Context) error, args ...string) (*process, error) {
	logFile := filepath.Join(dir, name+".log")
	f, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // a daemon outlives the call that starts it
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, f, f
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, log: logFile, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := p.await(ctx, ready); err != nil {
		return nil, errors.Join(fmt.Errorf("%s did not start: %w\n%s", name, err, p.tail()), p.stop())
	}
	return p, nil
}

func (p *process) await(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended: %w", p.err)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop ends the daemon: SIGTERM, and SIGKILL if it has not ended after [stopWait].
func (p *process) stop() error {
	var err error
	p.stopOnce.Do(func() {
		if e := p.cmd.Process.Signal(syscall.SIGTERM); e != nil && !errors.Is(e, os.ErrProcessDone) {
			err = e
		}
		select {
		case <-p.done:
		case <-time.After(stopWait):
			err = errors.Join(fmt.Errorf("%s did not end %s after SIGTERM, killing it", p.name, stopWait), p.cmd.Process.Kill())
			<-p.done
		}
	})
	return err
}

// tail returns the last part of the daemon's log.
func (p *process) tail() []byte {
	const keep = 4 << 10
	b, err := os.ReadFile(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	return bytes.TrimSpace(b[max(0, len(b)-keep):])
}

// freeAddr returns a loopback address with a port that was free a moment ago.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed at once
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
