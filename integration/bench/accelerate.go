package main

import (
	"context"
	"regexp"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// What cannot be moved: nobody knows what a script does.
const (
	scripted = `FROM golang:1.26 AS build
WORKDIR /src
COPY . .
RUN sh build.sh

FROM busybox:1.35
COPY --from=build /out/app /bin/app
`
	compiling = "set -e\nuname -m\nexport CGO_ENABLED=0\ngo build -o /out/app .\n"
	// idle is done by the shell and its tools, under emulation whoever builds.
	idle = "set -e\nuname -m\ni=0\nwhile [ $i -lt 20000 ]; do i=$((i+1)); done\nfind /usr/local/go/src -name '*.go' | sort | xargs cat | sha256sum\nmkdir -p /out\ntouch /out/app\n"
)

// accelerated prepares the figures of strategy=accelerate.
func accelerated(_ context.Context, b *sandbox.Bench, _ *regexp.Regexp) ([]figure, error) {
	const goMod = "module example.com/app\n\ngo 1.26\n"
	compiles, err := folder(b, map[string]string{"Dockerfile": scripted, "build.sh": compiling, "go.mod": goMod, "main.go": program})
	if err != nil {
		return nil, err
	}
	rests, err := folder(b, map[string]string{"Dockerfile": scripted, "build.sh": idle})
	if err != nil {
		return nil, err
	}
	return []figure{
		{
			name: "Go in a script that asks uname, arm64, cold", rounds: 1, most: 1.0 / 4,
			ours: cold(b, "manifold", ours("linux/arm64", compiles)...), theirs: cold(b, "reference frontend", reference("linux/arm64", compiles)...),
		},
		{
			name: "Go in a script that asks uname, arm64 accelerated against native amd64, cold", rounds: 1, most: 2.5,
			ours: cold(b, "arm64", ours("linux/arm64", compiles)...), theirs: cold(b, "amd64", ours(native, compiles)...),
		},
		{
			name: "a script that compiles nothing, arm64, cold", rounds: 5, most: 1.02,
			ours: cold(b, "accelerate", ours("linux/arm64", rests)...), theirs: cold(b, "emulate", append(ours("linux/arm64", rests), "--accelerate=off")...),
		},
	}, nil
}
