package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// native is the platform of the machine that the bench runs on.
var native = "linux/" + runtime.GOARCH

const fourTargets = "linux/amd64,linux/arm64,linux/arm/v7,linux/s390x"

// What people have: nothing in it is for several platforms.
const (
	plainGo = `FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod main.go ./
RUN CGO_ENABLED=0 go build -o /out/app .

FROM busybox:1.35
COPY --from=build /out/app /bin/app
`
	plainMake = `FROM golang:1.26 AS build
ENV CGO_ENABLED=0
WORKDIR /src
COPY . .
RUN make build
RUN go test ./...

FROM busybox:1.35
COPY --from=build /src/bin/app /bin/app
`
	makefile = "build:\n\t@mkdir -p bin\n\tgo build -o bin/app .\n"
	goTest   = "package main\n\nimport \"testing\"\n\nfunc TestNothing(t *testing.T) {}\n"

	plainNode = `FROM node:20-everywhere AS web
WORKDIR /web
COPY package.json build.js ./
RUN npm install --no-audit --no-fund
RUN node build.js

FROM busybox:1.35
COPY --from=web /web/dist /srv
`
	// packageJSON asks for two tools of the kind that asset stages use.
	packageJSON = `{"name":"web","version":"1.0.0","private":true,"dependencies":{"terser":"5.31.0","less":"4.2.0"}}`
	buildJS     = `const fs = require('fs'), terser = require('terser'), less = require('less');
(async () => {
  fs.mkdirSync('dist', {recursive: true});
  const big = Array.from({length: 4000}, (_, i) => 'function f' + i + '(a, b) { return a * ' + i + ' + b; }').join('\n');
  fs.writeFileSync('dist/app.js', (await terser.minify(big)).code);
  fs.writeFileSync('dist/app.css', (await less.render('@c: red; .a { .b { color: @c; } }')).css);
})();
`
)

// automatic prepares the figures of strategy=auto.
func automatic(ctx context.Context, b *sandbox.Bench, match *regexp.Regexp) ([]figure, error) {
	const goMod = "module example.com/app\n\ngo 1.26\n"
	plain, err := folder(b, map[string]string{"Dockerfile": plainGo, "go.mod": goMod, "main.go": program})
	if err != nil {
		return nil, err
	}
	byHand, err := folder(b, map[string]string{"Dockerfile": handWritten, "go.mod": goMod, "main.go": program})
	if err != nil {
		return nil, err
	}
	made, err := folder(b, map[string]string{"Dockerfile": plainMake, "go.mod": goMod, "main.go": program, "main_test.go": goTest, "Makefile": makefile})
	if err != nil {
		return nil, err
	}
	web, err := folder(b, map[string]string{"Dockerfile": plainNode, "package.json": packageJSON, "build.js": buildJS})
	if err != nil {
		return nil, err
	}
	figures := []figure{
		{
			name: "plain Go Dockerfile, arm64, cold", rounds: 1, most: 1.0 / 9,
			ours: cold(b, "manifold", ours("linux/arm64", plain)...), theirs: cold(b, "reference frontend", reference("linux/arm64", plain)...),
		},
		{
			name: "plain Go Dockerfile, amd64+arm64, cold", rounds: 1, most: 1.0 / 5,
			ours: cold(b, "manifold", ours(twoTargets, plain)...), theirs: cold(b, "reference frontend", reference(twoTargets, plain)...),
		},
		{
			name: "plain Go Dockerfile with make build and go test, arm64, cold", rounds: 1, most: 1.0 / 4,
			ours: cold(b, "manifold", ours("linux/arm64", made)...), theirs: cold(b, "reference frontend", reference("linux/arm64", made)...),
		},
	}
	const (
		editedByHand = "4 targets, one source line changed, against a hand-written cross Dockerfile"
		editedKo     = "4 targets, one source line changed, pushed, against ko"
		coldKo       = "4 targets, cold, Go fetched too, against ko"
		compiledKo   = "4 targets, nothing compiled yet, Go in place on both sides, against ko"
		nodeStage    = "Node asset stage, 4 targets, cold"
	)
	if match.MatchString(editedByHand) || match.MatchString(editedKo) || match.MatchString(coldKo) || match.MatchString(compiledKo) {
		ko, err := newKo(ctx, b, goMod)
		if err != nil {
			return nil, err
		}
		target := b.Registry.Addr + "/bench/app:1"
		pushed := append(ours(fourTargets, plain), "--push", "-t", target)
		for _, args := range [][]string{pushed, reference(fourTargets, byHand)} {
			if _, err := timed(ctx, b, args); err != nil {
				return nil, err
			}
		}
		if _, err := ko.build(ctx, false); err != nil {
			return nil, err
		}
		figures = append(figures,
			figure{
				name: editedByHand, rounds: 3, most: 1.0 / 20,
				ours: afterEdit(b, "manifold", plain, ours(fourTargets, plain)), theirs: afterEdit(b, "hand-written", byHand, reference(fourTargets, byHand)),
			},
			figure{
				name: editedKo, rounds: 21, most: 1.3, // containers, content hashes and databases are BuildKit's own
				ours: afterEdit(b, "manifold", plain, pushed), theirs: side{"ko", func(ctx context.Context) (time.Duration, error) { return ko.build(ctx, false) }},
			},
			figure{
				name: coldKo, rounds: 3, most: 1.0,
				ours: cold(b, "manifold", pushed...), theirs: side{"ko", func(ctx context.Context) (time.Duration, error) { return ko.build(ctx, true) }},
			},
			figure{
				name: compiledKo, rounds: 3, most: 1.0,
				ours:   side{"manifold", func(ctx context.Context) (time.Duration, error) { return timedWithGo(ctx, b, pushed) }},
				theirs: side{"ko", func(ctx context.Context) (time.Duration, error) { return ko.build(ctx, true) }},
			})
	}
	if match.MatchString(nodeStage) {
		if err := b.NodeEverywhere(ctx); err != nil {
			return nil, err
		}
		figures = append(figures, figure{
			name: nodeStage, rounds: 1, most: 1.0 / 4,
			ours:   cold(b, "manifold", ours(sandbox.NodePlatforms, web)...),
			theirs: cold(b, "reference frontend", reference(sandbox.NodePlatforms, web)...),
		})
	}
	return figures, nil
}

// ours is our build of a folder.
func ours(targets, dir string) []string {
	return []string{"manifold", "build", "-q", "--platform", targets, dir}
}

// reference is the reference frontend's build of a folder.
func reference(targets, dir string) []string {
	return []string{
		"buildctl", "build", "--progress=quiet", "--frontend", "dockerfile.v0", "--opt", "platform=" + targets, "--local", "context=" + dir, "--local", "dockerfile=" + dir,
	}
}

func cold(b *sandbox.Bench, name string, args ...string) side {
	return side{name, func(ctx context.Context) (time.Duration, error) { return timedCold(ctx, b, args) }}
}

// timedWithGo runs a command against a node that has never built anything, but holds the image with Go: ko uses the Go that is installed.
func timedWithGo(ctx context.Context, b *sandbox.Bench, args []string) (took time.Duration, err error) {
	dir, err := folder(b, map[string]string{"Dockerfile": "FROM golang:1.26\nRUN go version\n"})
	if err != nil {
		return 0, err
	}
	node, err := b.StartNode(ctx, sandbox.NodeOptions{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, node.Halt()) }()
	on := []string{"env", "BUILDKIT_HOST=" + node.Addr}
	if _, err := timed(ctx, b, append(slices.Clone(on), reference(native, dir)...)); err != nil {
		return 0, err
	}
	return timed(ctx, b, append(on, args...))
}

// afterEdit runs a build after a line of the source was changed.
func afterEdit(b *sandbox.Bench, name, dir string, args []string) side {
	return side{name, func(ctx context.Context) (time.Duration, error) {
		if err := edit(filepath.Join(dir, "main.go")); err != nil {
			return 0, err
		}
		return timed(ctx, b, args)
	}}
}

var edits int

// edit changes what a program prints.
func edit(file string) error {
	edits++
	text := program + fmt.Sprintf("\nfunc init() { fmt.Print(%d) }\n", edits)
	return os.WriteFile(file, []byte(text), 0o600)
}

// ko builds the same program for the same targets and pushes it.
type ko struct {
	bench         *sandbox.Bench
	program       string
	source, cache string
}

func newKo(ctx context.Context, b *sandbox.Bench, goMod string) (ko, error) {
	path, err := b.Ko(ctx)
	if err != nil {
		return ko{}, err
	}
	source, err := folder(b, map[string]string{"go.mod": goMod, "main.go": program})
	if err != nil {
		return ko{}, err
	}
	cache, err := folder(b, nil)
	return ko{b, path, source, cache}, err
}

// build builds after an edit, with the build cache of the last build or with none.
func (k ko) build(ctx context.Context, cold bool) (time.Duration, error) {
	cache := k.cache
	if cold {
		var err error
		if cache, err = folder(k.bench, nil); err != nil {
			return 0, err
		}
	} else if err := edit(filepath.Join(k.source, "main.go")); err != nil {
		return 0, err
	}
	syscall.Sync()
	begun := time.Now()
	out, err := k.bench.Exec(ctx, k.source, "env", "GOCACHE="+cache, "CGO_ENABLED=0", "KOCACHE=", "GOFLAGS=", "GOTOOLCHAIN=local",
		"KO_DOCKER_REPO="+k.bench.Registry.Addr+"/bench/ko", "KO_DEFAULTBASEIMAGE="+k.bench.Registry.Addr+"/library/busybox:1.35",
		k.program, "build", "--bare", "--insecure-registry", "--sbom=none", "--platform="+fourTargets, ".")
	took := time.Since(begun)
	if err == nil && out.Code != 0 {
		err = fmt.Errorf("ko: exit code %d\n%s%s", out.Code, out.Stdout, out.Stderr)
	}
	return took, err
}
