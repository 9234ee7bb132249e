package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// repoRoot finds the checkout that this package was compiled from.
var repoRoot = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if filepath.Base(mod) != "go.mod" {
		return "", errors.New("the sandbox has to run inside a checkout of the repository")
	}
	return filepath.Dir(mod), nil
})

// buildkitVersion is what the daemons call themselves; tools/go.mod pins the same.
const buildkitVersion = "v0.34.2"

// tools returns the folder with the programs that tools/go.mod and tools/peers/go.mod pin: buildkitd, buildctl and the
// reference frontend; registry, buildx and crane. They are two modules because BuildKit has to be built from the
// versions its own go.mod names to behave as it is released.
func tools(ctx context.Context) (string, error) {
	root, err := repoRoot()
	if err != nil {
		return "", err
	}
	mods := []string{filepath.Join(root, "tools"), filepath.Join(root, "tools", "peers")}
	var pins []string
	for _, mod := range mods {
		pins = append(pins, filepath.Join(mod, "go.mod"), filepath.Join(mod, "go.sum"))
	}
	key, err := keyOf(pins, runtime.Version(), runtime.GOARCH, buildkitVersion)
	if err != nil {
		return "", err
	}
	return kept("tools", key, func(dir string) error {
		sayf("building buildkitd, buildctl, registry, buildx and crane as pinned in tools/ (some minutes, once)")
		for _, mod := range mods {
			_, err := run(ctx, command{
				Dir: mod, Env: []string{"CGO_ENABLED=0", "GOFLAGS="},
				Args: []string{"go", "build", "-trimpath", "-ldflags=-s -w -X github.com/moby/buildkit/version.Version=" + buildkitVersion, "-o", dir + "/", "tool"},
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// build compiles one of the repository's own commands into dir and returns the program's path. Go's build cache makes
// a second call cheap; the result is not kept, because it has to follow every change of the source.
func build(ctx context.Context, dir, pkg string, env ...string) (string, error) {
	root, err := repoRoot()
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, filepath.Base(pkg))
	_, err = run(ctx, command{
		Dir: root, Env: append([]string{"CGO_ENABLED=0"}, env...),
		Args: []string{"go", "build", "-trimpath", "-o", out, pkg},
	})
	return out, err
}

// command is one run of a program.
type command struct {
	Args []string
	Dir  string
	Env  []string // added to this process's environment
	// In is the program's standard input, empty if nil.
	In []byte
}

// run runs a program to its end and returns its standard output. The error carries what the program printed.
func run(ctx context.Context, c command) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Dir = c.Dir
	cmd.Env = append(os.Environ(), c.Env...)
	if c.In != nil {
		cmd.Stdin = bytes.NewReader(c.In)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("%s: %w\n%s%s", strings.Join(c.Args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.Bytes(), nil
}

// sayf tells a person what takes long. It writes to standard error, where go test shows it.
func sayf(format string, args ...any) { fmt.Fprintf(os.Stderr, "sandbox: "+format+"\n", args...) }
