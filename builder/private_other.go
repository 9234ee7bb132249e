//go:build !linux

package builder

import (
	"context"
	"fmt"
	"os/exec"
)

// startDaemon needs Linux.
func startDaemon(context.Context, string) (*Node, error) {
	return nil, fmt.Errorf("buildkitd needs Linux: %w", exec.ErrNotFound)
}
