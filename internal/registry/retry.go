package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
)

const (
	// maxTries bounds how often one request is sent, maxTrying how long after the first one the last may begin.
	maxTries  = 6
	maxTrying = 120 * time.Second
	// maxRefused bounds how often a connection is tried that nobody takes.
	maxRefused = 3
	// firstPause is the pause before the second try where the registry names none; it doubles with every try.
	firstPause = 250 * time.Millisecond
	// maxRetryAfter is the longest pause that a registry may ask for.
	maxRetryAfter = 60 * time.Second
)

// retried sends a request until an answer comes that is worth reading, counting tries from 0. An error of the last try is returned as it
// is, an answer too.
func retried(ctx context.Context, send func(try int) (*http.Response, error)) (*http.Response, error) {
	begun := time.Now()
	for try := 0; ; try++ {
		res, err := send(try)
		if err != nil && (!transient(err) || ctx.Err() != nil) || err == nil && !busy(res.StatusCode) {
			return res, err
		}
		pause := backoff(try)
		if err == nil {
			asked, ok := retryAfter(res.Header)
			if ok && asked > maxRetryAfter {
				_ = res.Body.Close()
				return nil, &lateError{res.StatusCode, asked}
			}
			pause = max(pause, asked)
		}
		if try+1 >= maxTries || refused(err) && try+1 >= maxRefused || time.Since(begun)+pause > maxTrying {
			return res, err
		}
		if err == nil {
			_, _ = io.CopyN(io.Discard, res.Body, maxErrorBody) // the connection is used again
			_ = res.Body.Close()
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// lateError is a registry that asks to come back later than anybody waits.
type lateError struct {
	code  int
	after time.Duration
}

func (e *lateError) Error() string {
	return fmt.Sprintf("status %d %s: it asks to come back in %s, at most %s are waited for: try again then",
		e.code, http.StatusText(e.code), e.after.Round(time.Second), maxRetryAfter)
}

// backoff is the pause after a try, counted from 0, with up to a quarter added so that many clients do not come back at once.
func backoff(try int) time.Duration {
	pause := firstPause << try
	return pause + rand.N(pause/4) //nolint:gosec // no secret
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// busy reports whether an answer means that the same request may succeed later.
func busy(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// retryAfter reads the header of that name: seconds, or an HTTP date (RFC 9110, section 10.2.3).
func retryAfter(h http.Header) (time.Duration, bool) {
	value := h.Get("Retry-After")
	if s, err := strconv.ParseUint(value, 10, 32); err == nil {
		return time.Duration(s) * time.Second, true
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(at)), true
	}
	return 0, false
}

// passing are the errors of a connection that another one need not meet.
var passing = []error{
	errSilent, errStalled, errShort, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, context.DeadlineExceeded,
	syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.ECONNABORTED, syscall.EPIPE, syscall.ETIMEDOUT, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN,
}

// passingTexts are what net/http says of a connection that ended, where it has no error for it.
var passingTexts = []string{"http2: ", "stream error:", "http: server closed idle connection", "transport connection broken", "TLS handshake timeout"}

// transient reports whether a request that got no answer may succeed when it is sent again: the connection broke, or nobody answered in time. What is none of that, as
// a certificate, a name that is unknown, a missing credential helper, too many redirects and a refusal of ours, will not change.
func transient(err error) bool {
	for _, permanent := range []func(error) bool{
		is[*PolicyError], is[*tls.CertificateVerificationError], is[tls.RecordHeaderError], is[tls.AlertError], is[x509.UnknownAuthorityError],
		is[x509.HostnameError], is[*StatusError], is[*doneError], is[*sourceError], is[*lateError], is[*ContentError], is[*tooLargeError],
		is[remoteerrors.ErrUnexpectedStatus], // of the token server, which has been asked again where that helps
	} {
		if permanent(err) {
			return false
		}
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return !dns.IsNotFound
	}
	if slices.ContainsFunc(passing, func(p error) bool { return errors.Is(err, p) }) {
		return true
	}
	if timed, ok := errors.AsType[net.Error](err); ok && timed.Timeout() {
		return true
	}
	text := err.Error()
	return slices.ContainsFunc(passingTexts, func(s string) bool { return strings.Contains(text, s) })
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// refused reports whether nobody listens, which a moment changes only if the registry is being restarted.
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
