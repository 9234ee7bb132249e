package builder

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// privateStopWait bounds how long a private buildkitd may take to end after SIGTERM; then it is killed.
	privateStopWait = 20 * time.Second
	// maxSocketPath is what a unix socket's address holds, in bytes.
	maxSocketPath = 107
)

// startDaemon uses the private buildkitd whose state is in dir, and starts the one on PATH where none runs. Who uses it holds a shared lock on the folder;
// who gives it back and finds that nobody else does ends it.
func startDaemon(ctx context.Context, dir string) (_ *Node, err error) {
	args, err := daemonCommand()
	if err != nil {
		return nil, err
	}
	d := &daemon{dir: dir, socket: filepath.Join(dir, "bk.sock")}
	if len(d.socket) > maxSocketPath {
		return nil, fmt.Errorf("the path of the socket %s is longer than %d bytes: choose another folder", d.socket, maxSocketPath)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	door, err := lockFile(ctx, filepath.Join(dir, "door"), unix.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("another process is starting the private BuildKit in %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, door.Close()) }()
	if d.use, err = lockFile(ctx, filepath.Join(dir, "lock"), unix.LOCK_SH); err != nil {
		return nil, err
	}
	c := NodeConfig{Name: "private", Address: "unix://" + d.socket}
	n, err := DialNode(ctx, c)
	if err != nil && ctx.Err() == nil {
		n, err = d.start(ctx, c, args)
	}
	if err != nil {
		return nil, errors.Join(err, d.use.Close())
	}
	n.keeps, n.stop = dir, d.leave
	return n, nil
}

// daemonCommand is how buildkitd is started: by root itself, by others in a user namespace.
func daemonCommand() ([]string, error) {
	program, err := exec.LookPath("buildkitd")
	if err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		return []string{program}, nil
	}
	kit, err := exec.LookPath("rootlesskit")
	if err != nil {
		return nil, fmt.Errorf("buildkitd is there, but this user is not root: it needs rootlesskit: %w", err)
	}
	// As BuildKit's own documentation has it (docs/rootless.md).
	return []string{kit, "--net=host", "--copy-up=/etc", "--copy-up=/run", program, "--oci-worker-no-process-sandbox"}, nil
}

// daemon is a private buildkitd that this process uses.
type daemon struct {
	dir, socket string
	use         *os.File // holds the lock
}

// start starts the daemon, which outlives this process if others use it too.
func (d *daemon) start(ctx context.Context, c NodeConfig, command []string) (_ *Node, err error) {
	logName := filepath.Join(d.dir, "buildkitd.log")
	log, err := os.Create(logName) //nolint:gosec // the caller names the folder
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	args := slices.Concat(command, []string{
		"--root", filepath.Join(d.dir, "state"), "--addr", "unix://" + d.socket, "--otel-socket-path", filepath.Join(d.dir, "otel.sock"), // not in /run, which is root's
	})
	cmd := exec.Command(args[0], args[1:]...) //nolint:gosec,noctx // it outlives this call
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a terminal's Ctrl-C is for its clients
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its log says how it ended
		close(ended)
	}()
	n, err := dialUntil(ctx, c, ended)
	if err == nil {
		return n, nil
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(privateStopWait):
		_ = cmd.Process.Kill()
	}
	if said := lastWords(logName); said != "" {
		err = errors.New(said)
	}
	return nil, fmt.Errorf("the private BuildKit did not start: %w (all it said is in %s)", err, logName)
}

// leave ends the daemon if nobody else uses it.
func (d *daemon) leave() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), privateStopWait)
	defer cancel()
	door, err := lockFile(ctx, filepath.Join(d.dir, "door"), unix.LOCK_EX)
	if err != nil {
		return errors.Join(err, d.use.Close())
	}
	defer func() { err = errors.Join(err, door.Close()) }()
	defer func() { err = errors.Join(err, d.use.Close()) }()
	if unix.Flock(int(d.use.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // somebody else uses it
	}
	pid, err := listener(d.socket)
	if err != nil {
		return nil // it has ended
	}
	if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for ends := time.Now().Add(privateStopWait); time.Now().Before(ends); time.Sleep(10 * time.Millisecond) {
		if gone(pid) {
			return nil
		}
	}
	return unix.Kill(pid, unix.SIGKILL)
}

// gone reports whether a process has ended; one that nobody has waited for yet has.
func gone(pid int) bool {
	if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return true
	}
	dt, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	_, rest, _ := strings.Cut(string(dt), ") ")
	return strings.HasPrefix(rest, "Z")
}

// listener is the process that listens on a socket.
func listener(socket string) (pid int, err error) {
	conn, err := net.Dial("unix", socket) //nolint:noctx // a local socket
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	raw, err := conn.(*net.UnixConn).SyscallConn() //nolint:forcetypeassert // it was dialled as one
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Pid), nil
}

// lockFile takes a lock on a file, waiting for others that have it.
func lockFile(ctx context.Context, name string, how int) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the caller names the folder
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// lastWords is the last thing that buildkitd said for itself, or, if it said nothing, whoever was to start it.
func lastWords(file string) string {
	f, err := os.Open(file) //nolint:gosec // our own log
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	last, own := "", ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "buildkitd: ") {
			own = line
		}
		if line != "" {
			last = line
		}
	}
	return cmp.Or(own, last)
}
