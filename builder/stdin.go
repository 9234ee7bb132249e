package builder

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// keepStdin reads standard input once, if it is the context or the Dockerfile, so that every node is given the same.
func (r *Request) keepStdin() (done func() error, err error) {
	if r.Context != stdin && r.Dockerfile != stdin {
		return func() error { return nil }, nil
	}
	dir, err := os.MkdirTemp("", "manifold-stdin-")
	if err != nil {
		return nil, err
	}
	done = func() error { return os.RemoveAll(dir) }
	in := bufio.NewReader(r.stdin())
	name := filepath.Join(dir, defaultFilename)
	out, err := os.Create(name) //nolint:gosec // our own folder
	if err != nil {
		return done, errors.Join(err, done())
	}
	if _, err := io.Copy(out, in); err != nil {
		return done, errors.Join(fmt.Errorf("reading standard input: %w", err), out.Close(), done())
	}
	r.kept = name
	return done, out.Close()
}
