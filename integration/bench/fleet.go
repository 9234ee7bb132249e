package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/manifold-build/manifold/integration/sandbox"
)

const (
	figurePublish   = "4 targets built anew and published, 50 ms a request, without the gate"
	figureCheckouts = "10 builds from 10 checkouts on three nodes"
	figureProgress  = "processor time of the command while 40 steps print"

	eightTargets = "linux/amd64,linux/arm64,linux/arm/v7,linux/arm/v6,linux/386,linux/ppc64le,linux/s390x,linux/mips64le"
)

// fleet prepares the figures of publishing, of caches that are found again, and of the progress.
func fleet(ctx context.Context, b *sandbox.Bench, match *regexp.Regexp) ([]figure, error) {
	var out []figure
	for name, prepare := range map[string]func(context.Context, *sandbox.Bench) (figure, error){
		figurePublish: publishing, figureCheckouts: checkouts, figureProgress: progress,
	} {
		if !match.MatchString(name) {
			continue
		}
		f, err := prepare(ctx, b)
		if err != nil {
			return nil, err
		}
		f.name = name
		out = append(out, f)
	}
	return out, nil
}

// publishing compares our way of publishing (images by digest, then an index, then the tag) with BuildKit's, which pushes all at once.
func publishing(ctx context.Context, b *sandbox.Bench) (figure, error) {
	far, err := b.Registry.Behind(ctx, latency) // it ends with the process
	if err != nil {
		return figure{}, err
	}
	dir, err := folder(b, map[string]string{"Dockerfile": "FROM busybox:1.35\nARG NONCE\nCOPY nonce /nonce\n"})
	if err != nil {
		return figure{}, err
	}
	var distant, near [2][]time.Duration
	published := func(i int, name string, args ...string) side {
		return side{name, func(ctx context.Context) (time.Duration, error) {
			for addr, took := range map[string]*[]time.Duration{far.Addr: &distant[i], b.Registry.Addr: &near[i]} {
				if err := os.WriteFile(filepath.Join(dir, "nonce"), []byte(time.Now().String()), 0o600); err != nil {
					return 0, err
				}
				own := make([]string, len(args))
				for k, arg := range args {
					own[k] = strings.ReplaceAll(arg, "REGISTRY", addr)
				}
				d, err := timed(ctx, b, own)
				if err != nil {
					return 0, err
				}
				*took = append(*took, d)
			}
			return distant[i][len(distant[i])-1], nil
		}}
	}
	const ref = "REGISTRY/bench/published:1"
	return figure{
		rounds: 7, most: 1.5,
		ours: published(0, "manifold build --push", "manifold", "build", "-q", "--verify=off", "--platform", fourTargets, "-t", ref, "--push", dir),
		theirs: published(1, "BuildKit's push", "buildctl", "build", "--progress=quiet", "--frontend", "dockerfile.v0", "--opt", "platform="+fourTargets,
			"--local", "context="+dir, "--local", "dockerfile="+dir, "--output", "type=image,name="+ref+",push=true"),
		after: func() string {
			// What both do besides waiting for the registry takes as long when it is near.
			more := (median(distant[0]) - median(near[0]) - median(distant[1]) + median(near[1])).Seconds() / latency.Seconds()
			return fmt.Sprintf("| of which more round trips than BuildKit's push | %.1f | | | at most 5 |", more)
		},
	}, nil
}

// checkouts builds one repository from ten folders, as jobs of a pipeline do, on three nodes that are empty at first.
func checkouts(ctx context.Context, b *sandbox.Bench) (figure, error) {
	const each = 10
	files := map[string]string{"Dockerfile": warmDockerfile, ".git/config": "[remote \"origin\"]\n\turl = https://example.com/app.git\n"}
	var dirs []string
	for range each {
		dir, err := folder(b, files)
		if err != nil {
			return figure{}, err
		}
		dirs = append(dirs, dir)
	}
	steps, cached := 0, 0
	build := func(ctx context.Context, nodes []string, i int, dir string) (time.Duration, error) {
		args := []string{"manifold", "build", "--progress=rawjson", "--platform", "linux/amd64,linux/386"}
		for k, addr := range nodes {
			args = append(args, "--builder", fmt.Sprintf("n%d=%s", k, addr))
		}
		begun := time.Now()
		out, err := b.Exec(ctx, "", append(args, dir)...)
		took := time.Since(begun)
		if err == nil && out.Code != 0 {
			err = errors.New(out.Stderr)
		}
		if i > 0 {
			n, c := runs(out.Stderr)
			steps, cached = steps+n, cached+c
		}
		return took, err
	}
	all := func(name string, count int, one func(context.Context, []string, int, string) (time.Duration, error)) side {
		return side{name, func(ctx context.Context) (sum time.Duration, err error) {
			var nodes []string
			for range count {
				n, err := b.StartNode(ctx, sandbox.NodeOptions{})
				if err != nil {
					return 0, err
				}
				defer func() { err = errors.Join(err, n.Halt()) }()
				nodes = append(nodes, n.Addr)
			}
			for i, dir := range dirs {
				took, err := one(ctx, nodes, i, dir)
				if err != nil {
					return 0, err
				}
				sum += took
			}
			return sum, nil
		}}
	}
	return figure{
		rounds: 3, most: 1.3, ours: all("three nodes", 3, build), theirs: all("one node", 1, build),
		after: func() string {
			return fmt.Sprintf("| of whose steps came from the cache, from the second build on | %.0f %% | | | at least 95 %% |", 100*float64(cached)/float64(max(steps, 1)))
		},
	}, nil
}

// runs counts the steps with a RUN in a progress of raw JSON, and those that came from the cache.
func runs(progress string) (n, cached int) {
	seen := map[string]bool{}
	for line := range strings.Lines(progress) {
		var s client.SolveStatus
		if json.Unmarshal([]byte(line), &s) != nil {
			continue
		}
		for _, v := range s.Vertexes {
			if strings.Contains(v.Name, "] RUN ") && v.Completed != nil {
				seen[v.Digest.String()] = v.Cached
			}
		}
	}
	for _, c := range seen {
		n++
		if c {
			cached++
		}
	}
	return n, cached
}

// progress has five stages of eight targets print at once, in a terminal.
func progress(ctx context.Context, b *sandbox.Bench) (figure, error) {
	var file strings.Builder
	const stages, rounds = 5, 40
	for i := range stages {
		fmt.Fprintf(&file, "FROM busybox:1.35 AS s%d\nRUN i=0; while [ $i -lt %d ]; do echo line $i of many; sleep 0.25; i=$((i + 1)); done; touch /done\n", i, rounds)
	}
	file.WriteString("FROM scratch\n")
	for i := range stages {
		fmt.Fprintf(&file, "COPY --from=s%d /done /done%[1]d\n", i)
	}
	dir, err := folder(b, map[string]string{"Dockerfile": file.String()})
	if err != nil {
		return figure{}, err
	}
	home := filepath.Join(b.Dir, "progress-home")
	if _, err := timed(ctx, b, []string{"env", "BUILDX_CONFIG=" + home, "buildx", "create", "--name", "one", "--driver", "remote", b.Node.Addr}); err != nil {
		return figure{}, err
	}
	var share []string
	inTerminal := func(name, line string) side {
		return side{name, func(ctx context.Context) (time.Duration, error) {
			begun := time.Now()
			out, err := b.Exec(ctx, "", "env", "BUILDX_CONFIG="+home, "TERM=xterm", "COLUMNS=120", "LINES=50", "script", "-qec", line, "/dev/null")
			if err == nil && out.Code != 0 {
				err = errors.New(out.Stdout)
			}
			if strings.HasPrefix(line, "manifold") {
				share = append(share, strconv.FormatFloat(100*out.CPU.Seconds()/time.Since(begun).Seconds(), 'f', 1, 64))
			}
			return out.CPU, err
		}}
	}
	flags := " --no-cache --platform " + eightTargets + " " + dir
	return figure{
		rounds: 3, most: 1,
		ours:   inTerminal("manifold build", "manifold build --strategy=emulate --progress=tty --verify=off"+flags),
		theirs: inTerminal("docker buildx build", "buildx build --builder one --progress=tty --provenance=false"+flags),
		after: func() string {
			return fmt.Sprintf("| of a core, in percent | %s | | | less than 5 |", strings.Join(share, ", "))
		},
	}, nil
}
