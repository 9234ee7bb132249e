package builder

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
)

// A private BuildKit that is a container: its name, that of the volume with its cache, and the image, which is the BuildKit that this version of Manifold
// is tested with.
const (
	privateContainer = "manifold-buildkit"
	privateImage     = "moby/buildkit:v0.34.2"
)

// engines are what starts a private container, in the order in which they are tried.
var engines = []string{"docker", "podman"}

// StartPrivate is a node of this user's own, for where nobody has set one up: the buildkitd on PATH, as root or, where rootlesskit is there too, as any
// user; else a container that Docker or Podman runs. Builds that run at once share it. A buildkitd ends when its last user closes it, and its state, the
// cache with it, stays in dir for the next time; a container goes on, under the name manifold-buildkit. The error says what to type next.
func StartPrivate(ctx context.Context, dir string) (*Node, error) {
	n, err := startDaemon(ctx, dir)
	if err == nil || !errors.Is(err, exec.ErrNotFound) {
		return n, err
	}
	var tried []string
	for _, engine := range engines {
		if _, lookErr := exec.LookPath(engine); lookErr != nil {
			continue
		}
		n, err := startContainer(ctx, engine)
		if err == nil {
			return n, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		tried = append(tried, fmt.Sprintf("%s: %v", engine, err))
	}
	return nil, noPrivate(err, tried)
}

// noPrivate says what to type, by what the machine has.
func noPrivate(cause error, tried []string) error {
	const docker, podman = "docker buildx create --use", "podman run -d --name buildkit --privileged " + privateImage + " && export BUILDKIT_HOST=podman-container://buildkit"
	advice := "install buildkitd and runc (https://github.com/moby/buildkit/releases) as root, or Docker, and run this again"
	if runtime.GOOS != "linux" {
		advice = "install Docker or Podman, and run this again"
	}
	text := strings.Join(tried, "; ")
	switch {
	case slices.ContainsFunc(tried, func(s string) bool { return strings.HasPrefix(s, "docker") }):
		advice = "start Docker, or make a builder that it keeps: " + docker
	case len(tried) > 0:
		advice = "start a BuildKit with Podman: " + podman
	default:
		text = cause.Error()
	}
	return &said{fmt.Sprintf("there is no BuildKit, and no private one can be started: %s: %s", text, advice), ErrUnreachable}
}

// startContainer has an engine run the container, unless it does.
func startContainer(ctx context.Context, engine string) (*Node, error) {
	c := NodeConfig{Name: privateContainer, Address: engine + "-container://" + privateContainer}
	state, err := engineRuns(ctx, engine, "container", "inspect", "--format", "{{.State.Running}}", privateContainer)
	switch {
	case err == nil && state == "true":
	case err == nil:
		_, err = engineRuns(ctx, engine, "start", privateContainer)
	default:
		_, err = engineRuns(ctx, engine, "run", "--detach", "--name", privateContainer, "--privileged", "--volume", privateContainer+":/var/lib/buildkit", privateImage)
		if err != nil && strings.Contains(err.Error(), "already in use") {
			err = nil // somebody else was faster
		}
	}
	if err != nil {
		return nil, err
	}
	n, err := dialUntil(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	n.keeps = "the volume " + privateContainer + " of " + engine
	return n, nil
}

// engineRuns runs a command of an engine and returns what it printed. Its error is what the engine said.
func engineRuns(ctx context.Context, engine string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, engine, args...).Output() //nolint:gosec // one of engines
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		said := err.Error()
		for line := range strings.Lines(string(exit.Stderr)) {
			if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "--help") {
				said = line
			}
		}
		return "", errors.New(strings.TrimPrefix(said, engine+": "))
	}
	return strings.TrimSpace(string(out)), err
}

// Keeps says where a private node's cache is kept; empty for others.
func (n *Node) Keeps() string { return n.keeps }
