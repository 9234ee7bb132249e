package frontend

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

func TestReadRequest(t *testing.T) {
	for _, tc := range []struct {
		name string
		opts map[string]string
		want []string // name, scope and value of our settings
		rest []string // keys that stay
		err  string
	}{
		{
			name: "none of ours",
			opts: map[string]string{"filename": "Dockerfile", "build-arg:A": "b", "context:docker.io/library/alpine": "x", "label:a/b:c": "d"},
			rest: []string{"build-arg:A", "context:docker.io/library/alpine", "filename", "label:a/b:c"},
		},
		{
			name: "the three spellings",
			opts: map[string]string{"manifold:strategy": "cross", "build-arg:MANIFOLD_PLATFORMS": "arm64", "linux/arm64:manifold:strategy": "emulate"},
			want: []string{"platforms  arm64", "strategy linux/arm64 emulate", "strategy  cross"},
		},
		{
			name: "scoped",
			opts: map[string]string{
				"linux/arm*:filename": "Dockerfile_arm", "linux/arm/v7:build-arg:GOFLAGS": "-tags=soft",
				"build-arg:linux/s390x:GOFLAGS": "-v", "build-arg:*:MANIFOLD_TARGET": "final",
			},
			want: []string{"target * final", "build-arg:GOFLAGS linux/s390x -v", "filename linux/arm* Dockerfile_arm", "build-arg:GOFLAGS linux/arm/v7 -tags=soft"},
		},
		{
			name: "scopes of one word",
			opts: map[string]string{"arm64:filename": "Dockerfile_arm", "build-arg:windows:A": "b", "build-arg:no:A": "c"},
			want: []string{"filename arm64 Dockerfile_arm", "build-arg:A windows b"},
			rest: []string{"build-arg:no:A"},
		},
		{
			name: "a misspelt scope of one word",
			opts: map[string]string{"build-arg:amr64:MANIFOLD_STRATEGY": "cross"},
			err:  `option build-arg:amr64:MANIFOLD_STRATEGY: invalid platform pattern "amr64": no architecture is named "amr64"; did you mean "arm64"?`,
		},
		{
			name: "unknown name",
			opts: map[string]string{"manifold:stratgy": "cross"},
			err:  `unknown option "stratgy" (manifold:stratgy), did you mean "strategy"? Known are strategy, accelerate, toolchains, platforms, verify, verify-except, test, cache-mounts, max-parallelism, filename, target and build-arg:NAME`,
		},
		{
			name: "unknown build argument",
			opts: map[string]string{"build-arg:MANIFOLD_SPEED": "fast"},
			err:  `unknown option "speed" (build argument MANIFOLD_SPEED). Known are strategy, accelerate, toolchains, platforms, verify, verify-except, test, cache-mounts, max-parallelism, filename, target and build-arg:NAME`,
		},
		{
			name: "unknown platform in a scope",
			opts: map[string]string{"linux/amr64:manifold:strategy": "cross"},
			err:  `option linux/amr64:manifold:strategy: invalid platform pattern "linux/amr64": no architecture is named "amr64"; did you mean "arm64"?`,
		},
		{
			name: "what cannot be scoped",
			opts: map[string]string{"linux/arm64:no-cache": ""},
			err:  `option linux/arm64:no-cache: only filename, target, build-arg:NAME and manifold:NAME can be given per target`,
		},
		{
			name: "platforms per target",
			opts: map[string]string{"linux/arm64:manifold:platforms": "linux/amd64"},
			err:  `linux/arm64:manifold:platforms: platforms cannot be given per target`,
		},
		{
			name: "max-parallelism",
			opts: map[string]string{"build-arg:MANIFOLD_MAX_PARALLELISM": "3", "platform": "linux/amd64"},
			want: []string{"max-parallelism  3"}, rest: []string{"platform"},
		},
		{
			name: "max-parallelism per target",
			opts: map[string]string{"linux/arm64:manifold:max-parallelism": "2"},
			err:  `linux/arm64:manifold:max-parallelism: max-parallelism cannot be given per target`,
		},
		{
			name: "max-parallelism of none",
			opts: map[string]string{"build-arg:MANIFOLD_MAX_PARALLELISM": "0"},
			err:  `build argument MANIFOLD_MAX_PARALLELISM: max-parallelism is how many targets are built at once, 1 or more, not "0"`,
		},
		{
			name: "tool chains with a tag",
			opts: map[string]string{"manifold:toolchains": "registry.example.com/toolchains:trixie-arm64"},
			err: `manifold:toolchains: toolchains is the repository of the tool chain images, or off, not "registry.example.com/toolchains:trixie-arm64": ` +
				`the tags are those of the releases, so it has none`,
		},
		{
			name: "bad value",
			opts: map[string]string{"manifold:strategy": "fast"},
			err:  `manifold:strategy: invalid strategy "fast": it is one of auto, native, emulate, cross, accelerate`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			own, rest, err := readRequest(tc.opts)
			if tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Fatalf("error %v\nwant  %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range own {
				got = append(got, s.name+" "+s.scope.String()+" "+s.value)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("settings (-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(tc.rest, slices.Sorted(maps.Keys(rest))); diff != "" {
				t.Errorf("rest (-want +got)\n%s", diff)
			}
		})
	}
}

// TestApply: the most specific pattern wins, and the request beats the header.
func TestApply(t *testing.T) {
	own, rest, err := readRequest(map[string]string{
		"filename": "Dockerfile", "linux/arm*:filename": "Dockerfile_arm", "linux/arm/v7:filename": "Dockerfile_v7",
		"build-arg:A": "all", "build-arg:linux/s390x:A": "s390x",
	})
	if err != nil {
		t.Fatal(err)
	}
	file, err := dockerfile.Parse("Dockerfile", []byte("# manifold: target=header linux/arm64:build-arg:A=header build-arg:B=header strategy=cross\nFROM scratch\n"))
	if err != nil {
		t.Fatal(err)
	}
	header, err := readHeader(file)
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Concat(own, header)
	for target, want := range map[string]map[string]string{
		"linux/amd64":  {"filename": "Dockerfile", "target": "header", "build-arg:A": "all", "build-arg:B": "header"},
		"linux/arm64":  {"filename": "Dockerfile_arm", "target": "header", "build-arg:A": "all", "build-arg:B": "header"},
		"linux/arm/v7": {"filename": "Dockerfile_v7", "target": "header", "build-arg:A": "all", "build-arg:B": "header"},
		"linux/s390x":  {"filename": "Dockerfile", "target": "header", "build-arg:A": "s390x", "build-arg:B": "header"},
	} {
		p, err := platforms.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		got, err := all.apply(rest, p)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", target, diff)
		}
		if s, err := all.strategy(p); s != platforms.Cross || err != nil {
			t.Errorf("%s: strategy %s, %v", target, s, err)
		}
	}
}

// TestHeaderFilename: the request names the file that is read first, and its header may send a target to another one
// beside it, unless the request names that target's file too.
func TestHeaderFilename(t *testing.T) {
	own, rest, err := readRequest(map[string]string{"filename": "sub/Dockerfile", "s390x:filename": "other/Dockerfile"})
	if err != nil {
		t.Fatal(err)
	}
	file, err := dockerfile.Parse("Dockerfile", []byte("# manifold: arm64:filename=Dockerfile_arm s390x:filename=Dockerfile_z\nFROM scratch\n"))
	if err != nil {
		t.Fatal(err)
	}
	header, err := readHeader(file)
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{
		"linux/amd64": "sub/Dockerfile", "linux/arm64": "sub/Dockerfile_arm", "linux/s390x": "other/Dockerfile",
	} {
		p, err := platforms.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		got, err := slices.Concat(own, header).apply(rest, p)
		if err != nil || got["filename"] != want {
			t.Errorf("%s is built from %s, %v; want %s", target, got["filename"], err, want)
		}
	}
}

func TestAnswersFor(t *testing.T) {
	const self = "127.0.0.1:5000/team/mf:dev"
	for ref, want := range map[string]bool{
		"docker/dockerfile:1":                             true,
		"docker.io/docker/dockerfile-upstream:master":     true,
		"docker/dockerfile:1.7-labs@sha256:" + zeros:      true,
		"ghcr.io/manifold-build/manifold:1":               true,
		"registry.example/mirror/ghcr.io/x/manifold:edge": true,
		"127.0.0.1:5000/team/mf:other":                    true,
		"127.0.0.1:5000/team/other:dev":                   false,
		"example.com/docker/dockerfile:1":                 false,
		"someone/dockerfile:1":                            false,
		"UPPER":                                           false,
	} {
		if got := answersFor(ref, self); got != want {
			t.Errorf("answers for %s: %v, want %v", ref, got, want)
		}
	}
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

// TestTargetsError: targets that failed alike share a line, and where all did, the message is the failure's own.
func TestTargetsError(t *testing.T) {
	fail := func(platform, stage string, line int, msg string) *TargetError {
		p, err := platforms.Parse(platform)
		if err != nil {
			t.Fatal(err)
		}
		return &TargetError{Target: p, Stage: stage, File: "Dockerfile", Line: line, Err: errors.New(msg)}
	}
	errs := []*TargetError{
		fail("linux/amd64", "build", 3, "exit code: 1"), fail("linux/arm64", "test", 7, "exit code: 2"), fail("linux/s390x", "build", 3, "exit code: 1"),
	}
	want := "linux/amd64, linux/s390x: stage build (Dockerfile:3): exit code: 1\nlinux/arm64: stage test (Dockerfile:7): exit code: 2"
	if got := (TargetsError{Errs: errs, Targets: 4}).Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	alike := TargetsError{Errs: []*TargetError{errs[0], errs[2]}, Targets: 2}
	if got, want := alike.Error(), "exit code: 1 (every target: stage build (Dockerfile:3))"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
