package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/docker/cli/cli/connhelper/commandconn"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/connhelper"

	// The address schemes that buildctl knows.
	_ "github.com/moby/buildkit/client/connhelper/dockercontainer"
	_ "github.com/moby/buildkit/client/connhelper/kubepod"
	_ "github.com/moby/buildkit/client/connhelper/nerdctlcontainer"
	_ "github.com/moby/buildkit/client/connhelper/podmancontainer"
	_ "github.com/moby/buildkit/client/connhelper/ssh"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/manifold-build/manifold/platforms"
)

// DefaultAddress is where a system's buildkitd listens.
const DefaultAddress = "unix:///run/buildkit/buildkitd.sock"

const (
	// dialWait bounds how long a node may take to answer for the first time.
	dialWait = 20 * time.Second
	// bootWait bounds how long the program may take that starts it.
	bootWait = 2 * time.Minute
)

// Node is one buildkitd.
type Node struct {
	// Name is what messages and tables call it. Address is how it is reached, as buildctl's --addr spells it; of a node that a program reaches, that
	// program.
	Name, Address string
	// Host is what it can execute.
	Host platforms.Host
	// Version is the BuildKit version it names, or empty.
	Version string

	config NodeConfig
	client *client.Client
	line   *line
	keeps  string       // see Keeps
	stop   func() error // gives a private buildkitd back; nil for other nodes
}

// Dial connects to the BuildKit at an address: see [NodeConfig.Address]. The caller closes the node.
func Dial(ctx context.Context, address string) (*Node, error) {
	return DialNode(ctx, NodeConfig{Address: address})
}

// DialNode connects to a node and asks what it can execute. One that does not answer is started, if the configuration says how. The caller closes
// the node.
func DialNode(ctx context.Context, c NodeConfig) (*Node, error) {
	n, err := dialNode(ctx, c)
	if err == nil || len(c.Boot) == 0 || ctx.Err() != nil {
		return n, err
	}
	if _, unreachable := errors.AsType[*unreachableError](err); !unreachable {
		return nil, err
	}
	booting, cancel := context.WithTimeout(ctx, bootWait)
	defer cancel()
	out, bootErr := exec.CommandContext(booting, c.Boot[0], c.Boot[1:]...).CombinedOutput() //nolint:gosec // the configuration's own program
	if bootErr != nil {
		return nil, fmt.Errorf("%w; %s: %w: %s", err, strings.Join(c.Boot, " "), bootErr, strings.TrimSpace(string(out)))
	}
	return dialNode(ctx, c)
}

// privateStartWait bounds how long a private BuildKit may take until it answers.
const privateStartWait = 60 * time.Second

// dialUntil waits until a BuildKit answers that is being started, for as long as it has not ended. Nil for ended means that nobody knows.
func dialUntil(ctx context.Context, c NodeConfig, ended <-chan struct{}) (*Node, error) {
	ctx, cancel := context.WithTimeout(ctx, privateStartWait)
	defer cancel()
	for {
		n, err := DialNode(ctx, c)
		if err == nil {
			return n, nil
		}
		if _, unreachable := errors.AsType[*unreachableError](err); !unreachable {
			return nil, err
		}
		select {
		case <-ended:
			return nil, errors.New("it has ended")
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func dialNode(ctx context.Context, c NodeConfig) (_ *Node, err error) {
	n := &Node{Name: c.name(), Address: cmp.Or(c.Address, DefaultAddress), config: c, line: &line{}}
	if c.Address == "" && len(c.Command) > 0 {
		n.Address = strings.Join(c.Command, " ")
	}
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	if n.client, err = n.connect(ctx); err != nil {
		return nil, n.unreachable(ctx, err)
	}
	closing := n.client
	defer func() {
		if err != nil {
			_ = closing.Close()
		}
	}()
	workers, err := n.client.ListWorkers(ctx)
	if err != nil {
		return nil, n.unreachable(ctx, err)
	}
	if len(workers) == 0 {
		return nil, fmt.Errorf("the BuildKit at %s has no worker", n.Name)
	}
	var reported []platforms.Platform
	for _, p := range workers[0].Platforms {
		reported = append(reported, platforms.FromOCI(p))
	}
	if n.Host, err = platforms.HostOf(append(reported, c.Platforms...)); err != nil {
		return nil, fmt.Errorf("the BuildKit at %s: %w", n.Name, err)
	}
	info, err := n.client.Info(ctx)
	switch {
	case err == nil:
		n.Version = info.BuildkitVersion.Version
	case status.Code(err) == codes.Unimplemented:
		n.Version = "older than v0.11.0" // it does not say
		return nil, n.tooOld()
	}
	if err := n.checkVersion(); err != nil {
		return nil, err
	}
	return n, nil
}

// connect makes the client.
func (n *Node) connect(ctx context.Context) (*client.Client, error) {
	var opts []client.ClientOpt
	if dial, err := n.dialer(); err != nil {
		return nil, err
	} else if dial != nil {
		opts = append(opts, client.WithContextDialer(dial))
	}
	c := n.config
	if c.CA != "" {
		opts = append(opts, client.WithServerConfig(c.ServerName, c.CA))
	}
	if c.Cert != "" {
		opts = append(opts, client.WithCredentials(c.Cert, c.Key))
	}
	address := n.Address
	if len(c.Command) > 0 {
		address = "passthrough:///" + n.Name
	}
	return client.New(ctx, address, opts...)
}

// dialer is how a program reaches the node; nil if none is needed.
func (n *Node) dialer() (func(context.Context, string) (net.Conn, error), error) {
	if command := n.config.Command; len(command) > 0 {
		return n.line.watched(func(ctx context.Context, _ string) (net.Conn, error) {
			return commandconn.New(ctx, command[0], command[1:]...)
		}), nil
	}
	helper, err := connhelper.GetConnectionHelper(n.Address)
	if err != nil || helper == nil {
		return nil, err
	}
	return n.line.watched(helper.ContextDialer), nil
}

// line remembers what went wrong with a connection that a program carries: gRPC passes on only a part of it.
type line struct {
	mu  sync.Mutex
	err error
}

func (l *line) note(err error) error {
	if err != nil && !errors.Is(err, net.ErrClosed) {
		l.mu.Lock()
		l.err = err
		l.mu.Unlock()
	}
	return err
}

func (l *line) last() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *line) watched(dial func(context.Context, string) (net.Conn, error)) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := dial(ctx, address)
		if l.note(err) != nil {
			return nil, err
		}
		return &watchedConn{conn, l}, nil
	}
}

type watchedConn struct {
	net.Conn

	line *line
}

// Read notes why it fails.
func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, c.line.note(err)
}

// Write notes why it fails.
func (c *watchedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.line.note(err)
}

// oldest is the first BuildKit whose fixes for what a frontend can do to the node are whole.
const oldest = "v0.31.2"

// checkVersion refuses a BuildKit that is too old. One that does not say a version, as when it was built from source, is taken.
func (n *Node) checkVersion() error {
	have, ok := parseVersion(n.Version)
	least, _ := parseVersion(oldest)
	if !ok || !have.less(least) {
		return nil
	}
	return n.tooOld()
}

func (n *Node) tooOld() error {
	return &said{fmt.Sprintf("the BuildKit at %s is %s; Manifold needs %s or newer: older ones let a frontend reach what is outside of its build: update it, or name another with --builder",
		n.Name, n.Version, oldest), ErrUnreachable}
}

// semver is a version's three numbers.
type semver [3]int

func parseVersion(s string) (v semver, ok bool) {
	n, _ := fmt.Sscanf(strings.TrimPrefix(s, "v"), "%d.%d.%d", &v[0], &v[1], &v[2])
	return v, n == len(v) && v != semver{}
}

func (v semver) less(o semver) bool {
	for i := range v {
		if v[i] != o[i] {
			return v[i] < o[i]
		}
	}
	return false
}

// Status is what a node is doing.
type Status struct {
	// Running is how many builds run on it, whoever started them.
	Running int
	// Disk is how much its cache holds, in bytes, and Reclaimable how much of that nobody uses.
	Disk, Reclaimable int64
}

// Status asks the node what it is doing.
func (n *Node) Status(ctx context.Context) (s Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() (err error) {
		s.Running, err = n.running(ctx)
		return err
	})
	eg.Go(func() error {
		usage, err := n.client.DiskUsage(ctx)
		for _, u := range usage {
			s.Disk += u.Size
			if !u.InUse {
				s.Reclaimable += u.Size
			}
		}
		return err
	})
	return s, eg.Wait()
}

// running counts the builds that the node runs.
func (n *Node) running(ctx context.Context) (int, error) {
	stream, err := n.client.ControlClient().ListenBuildHistory(ctx, &controlapi.BuildHistoryRequest{ActiveOnly: true, EarlyExit: true})
	if err != nil {
		return 0, err
	}
	count := 0
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return count, nil
		}
		if err != nil {
			return count, err
		}
		if event.GetType() == controlapi.BuildHistoryEventType_STARTED {
			count++
		}
	}
}

// Close ends the connection and, for a node of [StartPrivate] that nobody else uses, the buildkitd.
func (n *Node) Close() error {
	err := n.client.Close()
	if n.stop != nil {
		err = errors.Join(err, n.stop())
	}
	return err
}

// DiskUsage lists what the node's cache holds.
func (n *Node) DiskUsage(ctx context.Context) ([]*client.UsageInfo, error) {
	return n.client.DiskUsage(ctx)
}

// Prune takes away what the node's cache holds and nobody uses, and sends what it was. The caller reads the channel until it closes it.
func (n *Node) Prune(ctx context.Context, gone chan client.UsageInfo, opts ...client.PruneOption) error {
	return n.client.Prune(ctx, gone, opts...)
}
