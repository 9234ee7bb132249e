package dockerfile_test

import (
	"fmt"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

// BenchmarkPlan plans a Dockerfile of 300 lines for ten targets, with a heap as large as that which both commands begin with.
func BenchmarkPlan(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(commandsHeap))
	src := longDockerfile(300)
	req := tenTargets(b)
	for range b.N {
		b.StopTimer() // a file keeps what was read for other targets, so each is planned once
		file, err := dockerfile.Parse("Dockerfile", src)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := file.Plan(req); err != nil {
			b.Fatal(err)
		}
	}
}

// commandsHeap is the percentage that [startheap.Grow] sets.
const commandsHeap = 1600

// tenTargets is a request for ten targets.
func tenTargets(b *testing.B) dockerfile.PlanRequest {
	b.Helper()
	targets, err := platforms.ParseList("linux/amd64,linux/arm64,linux/arm/v7,linux/arm/v6,linux/386,linux/ppc64le,linux/s390x,linux/riscv64,linux/mips64le,linux/loong64")
	if err != nil {
		b.Fatal(err)
	}
	host, err := platforms.HostOf(targets)
	if err != nil {
		b.Fatal(err)
	}
	req := dockerfile.PlanRequest{Host: host}
	for _, p := range targets {
		req.Targets = append(req.Targets, dockerfile.Target{Platform: p})
	}
	return req
}

// longDockerfile has builder stages of Go and Node, and a stage that takes what they make, on so many lines.
func longDockerfile(lines int) []byte {
	var stages, copies strings.Builder
	n := 0
	for i := 0; n < lines-20; i++ {
		if i%2 == 0 {
			fmt.Fprintf(&stages, "FROM golang:1.26 AS go%[1]d\nARG TARGETARCH\nENV CGO_ENABLED=0\nWORKDIR /src\nCOPY go.mod go.sum ./\nRUN go mod download\nCOPY . .\n"+
				"RUN set -eux; \\\n    VERSION=\"$(git describe --tags)\"; \\\n    for c in a b; do \\\n      go build -ldflags \"-X main.v=${VERSION}\" -o /out/$c ./cmd/$c; \\\n    done\n", i)
			fmt.Fprintf(&copies, "COPY --from=go%d /out /opt/%d\n", i, i)
			n += 12
		} else {
			fmt.Fprintf(&stages, "FROM node:20 AS web%[1]d\nWORKDIR /web\nCOPY package.json package-lock.json ./\nRUN npm ci\nCOPY . .\nRUN npm run build && find dist -name '*.map' -delete\n", i)
			fmt.Fprintf(&copies, "COPY --from=web%d /web/dist /srv/%d\n", i, i)
			n += 6
		}
		n++
	}
	return []byte(stages.String() + "FROM busybox:1.35\n" + copies.String())
}

// BenchmarkAnswer plans the same file again after one answer.
func BenchmarkAnswer(b *testing.B) {
	src := []byte(strings.ReplaceAll(string(longDockerfile(300)), "ENV CGO_ENABLED=0\n", ""))
	req := tenTargets(b)
	file, err := dockerfile.Parse("Dockerfile", src)
	if err != nil {
		b.Fatal(err)
	}
	planner := file.Open(req)
	plan, err := planner.Plan()
	if err != nil || len(plan.Probes) == 0 {
		b.Fatal("no probes", err)
	}
	b.ResetTimer()
	for i := range b.N {
		planner.Answer(dockerfile.Answer{Probe: plan.Probes[i%len(plan.Probes)], Text: "pure"})
		if _, err := planner.Plan(); err != nil {
			b.Fatal(err)
		}
	}
}
