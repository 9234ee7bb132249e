package builder

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	// The address schemes that buildctl knows.
	_ "github.com/moby/buildkit/client/connhelper/dockercontainer"
	_ "github.com/moby/buildkit/client/connhelper/kubepod"
	_ "github.com/moby/buildkit/client/connhelper/nerdctlcontainer"
	_ "github.com/moby/buildkit/client/connhelper/podmancontainer"
	_ "github.com/moby/buildkit/client/connhelper/ssh"

	"github.com/manifold-build/manifold/platforms"
)

// DefaultAddress is where a system's buildkitd listens.
const DefaultAddress = "unix:///run/buildkit/buildkitd.sock"

// dialWait bounds how long a node may take to answer for the first time.
const dialWait = 20 * time.Second

// Node is one buildkitd.
type Node struct {
	// Address is how it is reached, as buildctl's --addr spells it.
	Address string
	// Host is what it can execute.
	Host platforms.Host
	// Version is the BuildKit version it names, or empty.
	Version string

	client *client.Client
	stop   func() error // ends a buildkitd of this process's own; nil if there is none
}

// Dial connects to a buildkitd (unix://, tcp://, ssh://, docker-container://, podman-container://,
// nerdctl-container://, kube-pod://) and asks what it can execute. An empty address is [DefaultAddress]. The caller
// closes the node.
func Dial(ctx context.Context, address string) (*Node, error) {
	if address == "" {
		address = DefaultAddress
	}
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	unreachable := func(err error) error {
		return &unreachableError{address: address, cause: dialCause(err), none: nobodyListens.MatchString(err.Error())}
	}
	c, err := client.New(ctx, address)
	if err != nil {
		return nil, unreachable(err)
	}
	workers, err := c.ListWorkers(ctx)
	if err != nil {
		_ = c.Close()
		return nil, unreachable(err)
	}
	if len(workers) == 0 {
		_ = c.Close()
		return nil, fmt.Errorf("the BuildKit at %s has no worker", address)
	}
	reported := make([]platforms.Platform, len(workers[0].Platforms))
	for i, p := range workers[0].Platforms {
		reported[i] = platforms.FromOCI(p)
	}
	host, err := platforms.HostOf(reported)
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("the BuildKit at %s: %w", address, err)
	}
	n := &Node{Address: address, Host: host, client: c}
	// BuildKit before 0.11 does not answer this.
	if info, err := c.Info(ctx); err == nil {
		n.Version = info.BuildkitVersion.Version
	}
	return n, nil
}

// Close ends the connection and, for a node of [StartPrivate], the buildkitd.
func (n *Node) Close() error {
	err := n.client.Close()
	if n.stop != nil {
		err = errors.Join(err, n.stop())
	}
	return err
}

// ErrNoBuildKit is wrapped by the error of [Dial] where nobody listens at the address.
var ErrNoBuildKit = errors.New("nobody listens")

// unreachableError is a buildkitd that does not answer.
type unreachableError struct {
	address, cause string
	none           bool // there is no socket, or nobody listens on it
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("no BuildKit answers at %s: %s: start buildkitd there, or name another address with --builder or BUILDKIT_HOST",
		e.address, e.cause)
}

func (e *unreachableError) Is(target error) bool { return e.none && target == ErrNoBuildKit }

// nobodyListens matches the two errors of the operating system that say so; gRPC passes on only their text.
var nobodyListens = regexp.MustCompile(`no such file or directory|connection refused`)

// dialDetail finds what the operating system said inside gRPC's wrapping of it.
var dialDetail = regexp.MustCompile(`dial (?:unix|tcp) [^"]*`)

// dialCause is the part of a connection error that a person can act on.
func dialCause(err error) string {
	msg := err.Error()
	if detail := dialDetail.FindString(msg); detail != "" {
		return strings.TrimRight(detail, `"`)
	}
	return msg
}
