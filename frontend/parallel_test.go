package frontend

import (
	"os"
	"slices"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/frontend/gateway/client"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

// TestCompiling: bounded are the targets of a stage that is cross-compiled, the native one among them, and no others.
func TestCompiling(t *testing.T) {
	t.Parallel()
	const amd64, arm64, s390x = "linux/amd64", "linux/arm64", "linux/s390x"
	for _, tc := range []struct {
		name, file string
		emulated   string // a target with strategy=emulate
		want       []string
	}{
		{
			name: "go", want: []string{amd64, arm64, s390x},
			file: "FROM golang AS build\nCOPY . .\nRUN CGO_ENABLED=0 go build -o /app .\nFROM scratch\nCOPY --from=build /app /\n",
		},
		{
			name: "one of them emulated", emulated: s390x, want: []string{amd64, arm64},
			file: "FROM golang AS build\nCOPY . .\nRUN CGO_ENABLED=0 go build -o /app .\nFROM scratch\nCOPY --from=build /app /\n",
		},
		{
			name: "shared", file: "FROM node AS build\nCOPY . .\nRUN npm run build\nFROM scratch\nCOPY --from=build /dist /\n",
		},
		{name: "nothing moved", file: "FROM debian\nRUN make\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f, err := dockerfile.Parse("Dockerfile", []byte(tc.file))
			if err != nil {
				t.Fatal(err)
			}
			g := &group{file: f, src: &dockerui.Source{SourceMap: &llb.SourceMap{Filename: "Dockerfile"}}}
			b := &build{host: platforms.Host{Native: parse(t, amd64)}, hostKnown: false}
			for _, name := range []string{amd64, arm64, s390x} {
				to := &target{platform: parse(t, name), group: g, strategy: platforms.Auto}
				if name == tc.emulated {
					to.strategy = platforms.Emulate
				}
				b.targets = append(b.targets, to)
			}
			b.planFiles()
			bounded := b.compiling()
			var got []string
			for _, to := range b.targets {
				if bounded[to] {
					got = append(got, to.platform.String())
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("bounded are %v, want %v", got, tc.want)
			}
		})
	}
}

// labelled is a gateway client of a node whose worker names its machine.
type labelled struct {
	client.Client

	hostname string
}

func (l labelled) BuildOpts() client.BuildOpts {
	return client.BuildOpts{Workers: []client.WorkerInfo{{Labels: map[string]string{labelHostname: l.hostname}}}}
}

// TestBounds: CPUs count only where the node is this machine; what the request says counts everywhere and for every target.
func TestBounds(t *testing.T) {
	t.Parallel()
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, hostname string
		most           int
		whole, solves  bool
	}{
		{"this machine", own, 0, false, true},
		{"another machine", own + "-not", 0, false, false},
		{"asked for", own + "-not", 1, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := &build{started: labelled{hostname: tc.hostname}, most: tc.most}
			b.setBounds()
			if (b.whole != nil) != tc.whole || (b.solves != nil) != tc.solves {
				t.Errorf("whole targets are bounded: %t, their solves: %t", b.whole != nil, b.solves != nil)
			}
		})
	}
}

func parse(t *testing.T, s string) platforms.Platform {
	t.Helper()
	p, err := platforms.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
