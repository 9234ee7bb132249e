package builder

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// beat is how often a node that builds is asked whether it is there, silence how long it may take to answer.
	beat    = 5 * time.Second
	silence = 30 * time.Second
	// recheck is how long a node may take to answer after something has failed.
	recheck = 15 * time.Second
)

// NodeError is a node that was lost while it built.
type NodeError struct {
	// Node is its name.
	Node string
	// Err is what was seen of it.
	Err error
}

// Error names the node and says what was seen.
func (e *NodeError) Error() string { return fmt.Sprintf("the node %s was lost: %v", e.Node, e.Err) }

// Unwrap returns what was seen.
func (e *NodeError) Unwrap() error { return e.Err }

// alive returns a context that ends when the node no longer answers, its cause a [*NodeError]. The caller calls stop.
func (n *Node) alive(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(beat)
		defer ticker.Stop()
		for missed := 0; ; {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			err := n.answers(ctx, silence)
			switch {
			case ctx.Err() != nil:
				return
			case err == nil:
				missed = 0
				continue
			case errors.Is(err, context.DeadlineExceeded):
				err = fmt.Errorf("it has not answered for %s", silence)
			case missed == 0:
				missed++ // a connection may be made anew
				continue
			}
			cancel(&NodeError{n.Name, n.explained(err)})
			return
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}

// answers asks the node whether it is there.
func (n *Node) answers(ctx context.Context, within time.Duration) error {
	asking, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, err := n.client.Info(asking)
	if status.Code(err) == codes.DeadlineExceeded || err != nil && asking.Err() != nil && ctx.Err() == nil {
		return context.DeadlineExceeded
	}
	return err
}

// isGone reports whether nobody is behind the node's address; one that is slow to answer is there.
func (n *Node) isGone(ctx context.Context) bool {
	err := n.answers(ctx, recheck)
	return err != nil && !errors.Is(err, context.DeadlineExceeded)
}

// explained adds what the node's keeper says of it.
func (n *Node) explained(err error) error {
	cause := dialCause(err)
	if last := n.line.last(); last != nil && commandDetail.MatchString(last.Error()) {
		cause = commandCause(last)
	}
	if where := n.diagnose(context.Background()); where != "" {
		cause = where + " (" + cause + ")"
	}
	return &said{cause, err}
}

// said is an error in other words.
type said struct {
	text string
	err  error
}

func (e *said) Error() string { return e.text }
func (e *said) Unwrap() error { return e.err }

// brokenLine matches what gRPC and HTTP/2 say of a connection that broke or that nobody sensible is behind.
var brokenLine = regexp.MustCompile(`error reading from server|transport is closing|connection reset|broken pipe|connection refused|use of closed network connection|` +
	`closing transport|server preface|http2: |PROTOCOL_ERROR|malformed header|connection error|session healthcheck failed|no active session`)

// lost says whether a build failed because of its node, which then is a [*NodeError]: the node is gone, hangs or has no space left. Nil if the build
// itself failed. Own are paths of this machine that the build writes to: what is full there is no fault of the node's.
func (n *Node) lost(ctx context.Context, watch *watcher, err error, own ...string) error {
	if err == nil {
		return nil
	}
	if watch.ranFull(err) {
		return &NodeError{n.Name, &said{"it has no space left on its disk, as a program said: " + err.Error(), err}}
	}
	if _, ran := errors.AsType[*gwpb.ExitError](err); ran {
		// A program's own exit code, unless its node is being shut down, which ends what runs there.
		if ctx.Err() == nil && (strings.Contains(err.Error(), context.Canceled.Error()) || n.isGone(ctx)) {
			return &NodeError{n.Name, n.explained(err)}
		}
		return nil
	}
	if lost, ok := errors.AsType[*NodeError](err); ok {
		return lost
	}
	text := err.Error()
	here := slices.ContainsFunc(own, func(path string) bool { return path != "" && path != "." && strings.Contains(text, path) })
	if strings.Contains(text, "no space left on device") && !here {
		return &NodeError{n.Name, &said{"it has no space left on its disk: " + text, err}}
	}
	if status.Code(err) == codes.Unavailable && brokenLine.MatchString(text) {
		return &NodeError{n.Name, n.explained(err)}
	}
	// Whatever failed: a node that does not answer now is no witness.
	if gone := n.answers(ctx, recheck); gone != nil && ctx.Err() == nil {
		return &NodeError{n.Name, n.explained(err)}
	}
	return nil
}
