package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// working keeps a processor busy on each target, for as many rounds as its part of the whole: 6, 5, 4 and 3.
const working = `FROM busybox:1.35
ARG TARGETARCH
RUN case $TARGETARCH in arm64) n=6;; s390x) n=5;; ppc64le) n=4;; *) n=3;; esac; \
	i=0; while [ $i -lt $((n * 30000)) ]; do i=$((i + 1)); done; echo $i > /rounds
`

// The best schedule of them on two nodes: 6 + 3 and 5 + 4.
var bestSchedule = [2][]string{{"linux/arm64", "linux/arm/v7"}, {"linux/s390x", "linux/ppc64le"}}

// nodes prepares the figures of builds on two nodes, each of which has one processor of the machine.
func nodes(ctx context.Context, b *sandbox.Bench, match *regexp.Regexp) ([]figure, error) {
	const name = "4 emulated targets on two nodes"
	if !match.MatchString(name + ", against the best schedule there is, against docker buildx build") {
		return nil, nil // two more nodes
	}
	dir, err := folder(b, map[string]string{"Dockerfile": working})
	if err != nil {
		return nil, err
	}
	var addrs [2]string
	for i := range addrs {
		n, err := b.StartNode(ctx, sandbox.NodeOptions{Processor: strconv.Itoa(i)})
		if err != nil {
			return nil, err
		}
		addrs[i] = n.Addr
	}
	home := filepath.Join(b.Dir, "nodes-home")
	env := []string{"env", "-u", "BUILDKIT_HOST", "HOME=" + home, "BUILDX_CONFIG=" + filepath.Join(home, "buildx")}
	all := strings.Join(append(append([]string{}, bestSchedule[0]...), bestSchedule[1]...), ",")
	ours := append(append([]string{}, env...), "manifold", "build", "-q", "--no-cache", "--accelerate=off", "--builder", "one="+addrs[0], "--builder", "two="+addrs[1], "--platform", all, dir)
	// Buildx's builder of the same two nodes; and ours learn how long each target takes.
	for _, args := range [][]string{
		{"buildx", "create", "--name", "two", "--driver", "remote", addrs[0]}, {"buildx", "create", "--name", "two", "--append", "--driver", "remote", addrs[1]},
	} {
		if _, err := timed(ctx, b, append(append([]string{}, env...), args...)); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	if _, err := timed(ctx, b, ours); err != nil {
		return nil, err
	}
	mine := side{"manifold build", func(ctx context.Context) (time.Duration, error) { return timed(ctx, b, ours) }}
	best := side{"two builds after each other on each node", func(ctx context.Context) (time.Duration, error) {
		begun := time.Now()
		var eg errgroup.Group
		for i, targets := range bestSchedule {
			eg.Go(func() error {
				var errs []error
				for _, t := range targets {
					_, err := timed(ctx, b, append(append([]string{}, env...), "manifold", "build", "-q", "--no-cache", "--accelerate=off", "--builder", addrs[i], "--platform", t, dir))
					errs = append(errs, err)
				}
				return errors.Join(errs...)
			})
		}
		err := eg.Wait()
		return time.Since(begun), err
	}}
	buildx := side{"docker buildx build", func(ctx context.Context) (time.Duration, error) {
		return timed(ctx, b, append(append([]string{}, env...), "buildx", "build", "--builder", "two", "--progress=quiet", "--no-cache", "--provenance=false", "--platform", all, dir))
	}}
	return []figure{
		{name: name + ", against the best schedule there is", rounds: 3, most: 1.1, ours: mine, theirs: best},
		{name: name + ", against docker buildx build", rounds: 3, most: 1, ours: mine, theirs: buildx},
	}, nil
}
