package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/manifold-build/manifold/integration/sandbox"
)

const (
	fiveTargets = "linux/amd64,linux/arm64,linux/arm/v7,linux/ppc64le,linux/s390x"
	twoTargets  = "linux/amd64,linux/arm64"
)

// warmDockerfile has a few steps of each kind, all cached after the first build.
const warmDockerfile = `FROM busybox:1.35 AS work
ARG TARGETARCH
WORKDIR /work
RUN echo $TARGETARCH > arch
RUN uname -m > machine
COPY Dockerfile .

FROM busybox:1.35
COPY --from=work /work /work
RUN test -s /work/machine
CMD ["cat", "/work/machine"]
`

// program is a small server, so that net/http and what it needs is compiled.
const program = `package main

import (
	"fmt"
	"net/http"
	"runtime"
)

func main() {
	fmt.Println("hello from", runtime.GOARCH)
	_ = http.ListenAndServe
}
`

// handWritten is what an expert writes today; told differs only in leaving the platform to the strategy.
const (
	handWritten = `FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod main.go ./
ARG TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -o /out/app .

FROM busybox:1.35
COPY --from=build /out/app /bin/app
`
	told = `FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod main.go ./
ARG GOARCH
RUN CGO_ENABLED=0 go build -o /out/app .

FROM busybox:1.35
COPY --from=build /out/app /bin/app
`
)

// all prepares every figure: the frontend images are pushed, and the warm builds have been run once.
func all(ctx context.Context, b *sandbox.Bench, match *regexp.Regexp) ([]figure, error) {
	if !match.MatchString("nothing changed, 5 targets, gateway image; in process; strategy=cross, amd64+arm64, cold") {
		return nil, nil // what they need takes a while
	}
	ours, err := b.Frontend(ctx)
	if err != nil {
		return nil, err
	}
	reference, err := b.ReferenceFrontend(ctx)
	if err != nil {
		return nil, err
	}
	warm, err := folder(b, map[string]string{"Dockerfile": warmDockerfile})
	if err != nil {
		return nil, err
	}
	const goMod = "module example.com/app\n\ngo 1.26\n"
	byHand, err := folder(b, map[string]string{"Dockerfile": handWritten, "go.mod": goMod, "main.go": program})
	if err != nil {
		return nil, err
	}
	byStrategy, err := folder(b, map[string]string{"Dockerfile": told, "go.mod": goMod, "main.go": program})
	if err != nil {
		return nil, err
	}
	gateway := func(source string) []string {
		return []string{
			"buildctl", "build", "--progress=quiet", "--frontend", "gateway.v0", "--opt", "source=" + source, "--opt", "platform=" + fiveTargets,
			"--local", "context=" + warm, "--local", "dockerfile=" + warm,
		}
	}
	builtIn := []string{
		"buildctl", "build", "--progress=quiet", "--frontend", "dockerfile.v0", "--opt", "platform=" + fiveTargets,
		"--local", "context=" + warm, "--local", "dockerfile=" + warm,
	}
	inProcess := []string{"manifold", "build", "-q", "--platform", fiveTargets, warm}
	for _, args := range [][]string{gateway(ours), gateway(reference), builtIn, inProcess} {
		if _, err := timed(ctx, b, args); err != nil {
			return nil, err
		}
	}
	warmly := func(name string, args ...string) side {
		return side{name, func(ctx context.Context) (time.Duration, error) { return timed(ctx, b, args) }}
	}
	cold := func(name string, args ...string) side {
		return side{name, func(ctx context.Context) (time.Duration, error) { return timedCold(ctx, b, args) }}
	}
	return []figure{
		{
			name: "nothing changed, 5 targets, gateway image", rounds: 21, most: 1.15,
			ours: warmly("manifold image", gateway(ours)...), theirs: warmly("reference image", gateway(reference)...),
		},
		{
			name: "nothing changed, 5 targets, in process", rounds: 21, most: 1.15,
			ours: warmly("manifold build", inProcess...), theirs: warmly("built-in frontend", builtIn...),
		},
		{
			name: "strategy=cross, amd64+arm64, cold", rounds: 3, most: 1.05,
			ours:   cold("ARG GOARCH", "manifold", "build", "-q", "--strategy", "cross", "--platform", twoTargets, byStrategy),
			theirs: cold("hand-written --platform=$BUILDPLATFORM", "buildctl", "build", "--progress=quiet", "--frontend", "dockerfile.v0", "--opt", "platform="+twoTargets, "--local", "context="+byHand, "--local", "dockerfile="+byHand),
		},
	}, nil
}

// timed runs a command against the bench's own node.
func timed(ctx context.Context, b *sandbox.Bench, args []string) (time.Duration, error) {
	syscall.Sync() // what the other side left to be written is no concern of this one's
	begun := time.Now()
	out, err := b.Exec(ctx, "", args...)
	took := time.Since(begun)
	if err == nil && out.Code != 0 {
		err = fmt.Errorf("%s: exit code %d\n%s%s", strings.Join(args, " "), out.Code, out.Stdout, out.Stderr)
	}
	return took, err
}

// timedCold runs a command against a node that has never built anything.
func timedCold(ctx context.Context, b *sandbox.Bench, args []string) (_ time.Duration, err error) {
	node, err := b.StartNode(ctx, sandbox.NodeOptions{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, node.Halt()) }()
	return timed(ctx, b, append([]string{"env", "BUILDKIT_HOST=" + node.Addr}, args...))
}

// folder writes files to a new folder of the bench.
func folder(b *sandbox.Bench, files map[string]string) (string, error) {
	dir, err := os.MkdirTemp(b.Dir, "work-")
	if err != nil {
		return "", err
	}
	for name, text := range files {
		at := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o700), os.WriteFile(at, []byte(text), 0o600)); err != nil {
			return "", err
		}
	}
	return dir, nil
}
