//go:build !linux

package builder

import (
	"context"
	"errors"
)

// StartPrivate is an error: buildkitd runs on Linux.
func StartPrivate(context.Context, string) (*Node, error) {
	return nil, errors.New("a private BuildKit can be started on Linux only")
}
