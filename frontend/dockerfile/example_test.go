package dockerfile_test

import (
	"fmt"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

func Example() {
	file, err := dockerfile.Parse("Dockerfile", []byte(`FROM golang:1.26 AS build
ARG GOARCH
RUN go build -o /app .
FROM scratch
COPY --from=build /app /app
`))
	if err != nil {
		panic(err)
	}
	targets, err := platforms.ParseList("linux/amd64,linux/arm/v7")
	if err != nil {
		panic(err)
	}
	arm := targets[1]
	plan, err := file.Plan(dockerfile.PlanRequest{
		Host:    platforms.Host{Native: targets[0], Emulated: []platforms.Platform{arm}},
		Targets: []dockerfile.Target{{Platform: arm, Strategy: platforms.Cross}},
	})
	if err != nil {
		panic(err)
	}
	for _, s := range plan.Steps {
		fmt.Println(s.Stage, s.Strategy, s.Reason)
	}
	text, err := file.For(arm, plan)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s", text)
	// Output:
	// build cross declares GOARCH on line 2
	// 1 emulate nothing is run in it
	// FROM --platform=$BUILDPLATFORM golang:1.26 AS build
	// ARG GOARCH=arm GOOS=linux GOARM=7 TARGETPLATFORM
	// RUN go build -o /app .
	// FROM scratch
	// COPY --from=build /app /app
}

func ExampleParse_header() {
	file, err := dockerfile.Parse("Dockerfile", []byte(`# syntax=docker/dockerfile:1
# manifold: strategy=cross linux/arm64:strategy=emulate
FROM scratch
`))
	if err != nil {
		panic(err)
	}
	for _, o := range file.Header {
		fmt.Printf("line %d: %s is %q\n", o.Line, o.Name, o.Value)
	}
	// Output:
	// line 2: strategy is "cross"
	// line 2: linux/arm64:strategy is "emulate"
}

func ExamplePredefined() {
	targets, err := platforms.ParseList("linux/amd64,linux/arm64")
	if err != nil {
		panic(err)
	}
	args := dockerfile.Predefined(targets[0], targets[1])
	fmt.Println(args["GOARCH"], args["TARGETUNAME"], args["TARGETTRIPLE"], args["BUILDUNAME"])
	// Output: arm64 aarch64 aarch64-linux-gnu x86_64
}
