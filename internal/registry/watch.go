package registry

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

const (
	// answerWait is how long a registry may take to answer, commitWait how long for the end of a blob's upload.
	answerWait = 60 * time.Second
	commitWait = 10 * time.Minute
	// idleWait is how long a body may be waited for until minProgress bytes have gone through it.
	idleWait    = 30 * time.Second
	minProgress = 4 << 10
)

var (
	errStalled = errors.New("the connection stands still")
	errSilent  = errors.New("no answer within the time that is allowed")
)

// pace measures how long the other side is waited for, and cancels what does not move. The time that our own side takes does not count.
type pace struct {
	cancel context.CancelCauseFunc

	mu     sync.Mutex
	timer  *time.Timer
	since  time.Time
	waited time.Duration
	bytes  int

	waiting bool
}

// begin begins to wait.
func (p *pace) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since, p.waiting = time.Now(), true
	if p.timer == nil {
		p.timer = time.AfterFunc(idleWait-p.waited, func() { p.cancel(errStalled) })
		return
	}
	p.timer.Reset(idleWait - p.waited)
}

// end ends a wait in which n bytes came or went.
func (p *pace) end(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.waiting {
		return
	}
	p.timer.Stop()
	p.waiting = false
	p.waited += time.Since(p.since)
	p.bytes += n
	if p.bytes >= minProgress {
		p.bytes, p.waited = 0, 0
	}
}

// incoming is an answer's body.
type incoming struct {
	io.ReadCloser

	pace    pace
	stop    context.CancelCauseFunc
	release func()          // what the request held
	ctx     context.Context //nolint:containedctx // a body lives as long as its request
}

func newIncoming(ctx context.Context, stop context.CancelCauseFunc, release func(), body io.ReadCloser) *incoming {
	return &incoming{ReadCloser: body, pace: pace{cancel: stop}, stop: stop, release: release, ctx: ctx}
}

func (b *incoming) Read(p []byte) (int, error) {
	b.pace.begin()
	n, err := b.ReadCloser.Read(p)
	b.pace.end(n)
	if err != nil && !errors.Is(err, io.EOF) && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *incoming) Close() error {
	err := b.ReadCloser.Close()
	b.pace.end(0)
	b.stop(nil)
	b.release()
	return err
}

// outgoing is a request's body. What is waited for is the time between two reads, in which the bytes go out. When all are sent, the
// answer is waited for.
type outgoing struct {
	io.ReadCloser

	pace  pace
	left  int64
	begun func() bool
	sent  func()
	once  sync.Once
}

func (b *outgoing) Read(p []byte) (int, error) {
	if b.left > 0 { // net/http reads once more behind the end
		b.begun()
	}
	b.pace.end(0)
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.left <= 0 || err != nil {
		b.once.Do(b.sent)
		return n, err
	}
	b.pace.mu.Lock()
	b.pace.bytes += n
	b.pace.mu.Unlock()
	b.pace.begin()
	return n, nil
}

func (b *outgoing) Close() error {
	b.pace.end(0)
	b.once.Do(b.sent)
	return b.ReadCloser.Close()
}
