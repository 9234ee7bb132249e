package index_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/platforms"
)

const fullSpec = `image: ghcr.io/app/app:1.0
tags: [latest, "1"]
annotations: {team: founders}
media-type: oci
expect: [linux/amd64, linux/arm/v7]
ignore-missing: true
manifests:
  - image: ghcr.io/app/app:1.0-amd64
    platform:
      architecture: amd64
      os: linux
  - image: oci-archive:arm.tar
    platform: linux/arm/v7
    fix-config: true
    annotations:
      note: fast
  - image: ghcr.io/app/app:1.0-win
    platform: {os: windows, architecture: amd64, os.version: "10.0.17763.1", os.features: [win32k]}
`

func TestParseSpec(t *testing.T) {
	t.Parallel()
	got, err := index.ParseSpec("app.yaml", []byte(fullSpec))
	if err != nil {
		t.Fatal(err)
	}
	want := index.Spec{
		Names: []string{"ghcr.io/app/app:1.0", "ghcr.io/app/app:latest", "ghcr.io/app/app:1"},
		Composition: index.Composition{
			Annotations: []index.Annotation{{Level: index.LevelIndex, Key: "team", Value: "founders"}},
			MediaType:   index.OCI, IgnoreMissing: true, Expect: []platforms.Platform{must("linux/amd64"), must("linux/arm/v7")},
			Members: []index.Member{
				{Source: "ghcr.io/app/app:1.0-amd64", Platform: must("linux/amd64"), Place: "app.yaml:8", Annotations: map[string]string{}},
				{Source: "oci-archive:arm.tar", Platform: must("linux/arm/v7"), FixConfig: true, Place: "app.yaml:12", Annotations: map[string]string{"note": "fast"}},
				{Source: "ghcr.io/app/app:1.0-win", Place: "app.yaml:17", Annotations: map[string]string{},
					Platform: platforms.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.17763.1", OSFeatures: "win32k"}},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestSpecMistakes (31): each is told with its file and line, and bombs do not go off.
func TestSpecMistakes(t *testing.T) {
	t.Parallel()
	bomb := []byte("a: &a [x,x,x,x,x,x,x,x,x]\n")
	for c := 'b'; c < 'k'; c++ {
		bomb = fmt.Appendf(bomb, "%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
	}
	for name, row := range map[string]struct{ src, want string }{
		"a typing error":     {"image: a\nmanifest:\n  - image: b\n", `s.yaml:2: unknown field "manifest"; did you mean "manifests"?`},
		"an unknown field":   {"image: a\nmanifests:\n  - image: b\n    colour: red\n", `s.yaml:4: unknown field "colour"; the fields here are annotations, fix-config, image, platform`},
		"in a platform":      {"manifests:\n- image: b\n  platform: {arch: arm}\n", `s.yaml:3: unknown field "arch"; the fields here are architecture, features, os`},
		"twice":              {"image: a\nimage: b\nmanifests: [{image: c}]\n", `s.yaml:2: the field "image" is there twice`},
		"no manifests":       {"image: a\n", `s.yaml:1: it names no manifests`},
		"no image":           {"manifests:\n- platform: linux/amd64\n", `s.yaml:2: it names no image`},
		"an unknown machine": {"manifests:\n- image: b\n  platform: {os: linux, architecture: amd46}\n", `s.yaml:3: invalid platform "linux/amd46": unknown architecture "amd46"; did you mean "linux/amd64"?`},
		"an unknown variant": {"manifests:\n- image: b\n  platform: {os: linux, architecture: arm, variant: v77}\n", `s.yaml:3: invalid platform "linux/arm/v77"`},
		"an unknown system":  {"manifests:\n- image: b\n  platform: {os: lniux}\n", `s.yaml:3: invalid platform "lniux/amd64"`},
		"a bad name":         {"image: A:1\nmanifests: [{image: c}]\n", `s.yaml:1: invalid image reference "A:1"`},
		"a bad tag":          {"image: a:1\ntags: ['x y']\nmanifests: [{image: c}]\n", `s.yaml:1: tag "x y": invalid image reference`},
		"no YAML":            {"image: a\n  b: [\n", `s.yaml:2: mapping values are not allowed in this context`},
		"a list":             {"- a\n", `s.yaml:1: here stands a list, a mapping with the fields annotations, expect, ignore-missing, image, manifests, media-type, tags is wanted`},
		"a word":             {"manifests: none\n", `s.yaml:1: here stands "none", a list is wanted`},
		"no truth":           {"ignore-missing: perhaps\nmanifests: [{image: c}]\n", `s.yaml:1: "perhaps" is neither true nor false`},
		"a kind":             {"media-type: appc\nmanifests: [{image: c}]\n", `s.yaml:1: media type "appc" is none of auto, oci, docker`},
		"empty":              {"", "s.yaml:1: the file is empty"},
		"large":              {"#" + strings.Repeat(" ", 1<<20), "s.yaml:1: the file has 1048577 bytes, at most 1048576 are accepted"},
		"deep":               {"image: " + strings.Repeat("[", 100) + strings.Repeat("]", 100), "s.yaml:1: nested more than 32 deep"},
		"very deep":          {strings.Repeat("[", 1<<19), "s.yaml:1: "},
		"an alias bomb":      {string(bomb), "unfold to more than 20000 values"},
		"an alias of itself": {"a: &a [*a]\n", "s.yaml:1: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			_, err := index.ParseSpec("s.yaml", []byte(row.src))
			var se *index.SpecError
			if err == nil || !strings.Contains(err.Error(), row.want) || !errors.As(err, &se) || se.Line == 0 {
				t.Errorf("error %v\nwant  %s", err, row.want)
			}
			if d := time.Since(begun); d > 2*time.Second { // 100 ms on a machine that does nothing else
				t.Errorf("it took %s", d)
			}
		})
	}
}

// TestSpecFeatures: the processor features of manifest-tool's files are left out, and that is said.
func TestSpecFeatures(t *testing.T) {
	t.Parallel()
	got, err := index.ParseSpec("s.yaml", []byte("manifests:\n- image: b\n  platform: {os: linux, architecture: amd64, features: [sse4]}\n"))
	if err != nil || len(got.Notes) != 1 || !strings.HasPrefix(got.Notes[0], "s.yaml:3: platform features are reserved") {
		t.Errorf("%v, notes %q", err, got.Notes)
	}
}

// TestSpecAliases: aliases and merges that make sense are read.
func TestSpecAliases(t *testing.T) {
	t.Parallel()
	got, err := index.ParseSpec("s.yaml", []byte("manifests:\n- &a {image: b, platform: &p {os: linux, architecture: amd64}}\n- {image: c, platform: {<<: *p}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Composition.Members) != 2 || got.Composition.Members[1].Platform != must("linux/amd64") {
		t.Errorf("got %+v", got.Composition.Members)
	}
}

func FuzzParseSpec(f *testing.F) {
	f.Add([]byte(fullSpec))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		spec, err := index.ParseSpec("s.yaml", src)
		var se *index.SpecError
		if err != nil && !errors.As(err, &se) {
			t.Errorf("error %v has no place", err)
		}
		if err == nil && len(spec.Composition.Members) == 0 {
			t.Error("a spec of nothing")
		}
	})
}

func FuzzParseAnnotation(f *testing.F) {
	for _, s := range []string{"a=b", "index,manifest:a=b", "manifest-descriptor[linux/arm/v7]:a=b=c", "index:=", "manifest[:x=y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := index.ParseAnnotation(s)
		if err != nil {
			return
		}
		for _, a := range list {
			again, err := index.ParseAnnotation(a.String())
			if err != nil || len(again) != 1 || again[0] != a {
				t.Errorf("%q reads as %v, and that as %v, %v", s, a, again, err)
			}
		}
	})
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	got, err := index.Template("foo/bar-OS-ARCH-VARIANT:v1", []string{"linux/amd64", "linux/arm/v7", "linux/arm64/v8"})
	if err != nil {
		t.Fatal(err)
	}
	want := []index.Member{
		{Source: "foo/bar-linux-amd64:v1", Platform: must("linux/amd64")}, {Source: "foo/bar-linux-arm-v7:v1", Platform: must("linux/arm/v7")},
		{Source: "foo/bar-linux-arm64-v8:v1", Platform: must("linux/arm64")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, template := range []string{"foo/bar:v1", "foo/bar-OS:v1"} {
		if _, err := index.Template(template, []string{"linux/amd64", "linux/arm64"}); err == nil {
			t.Errorf("%s is the same for both", template)
		}
	}
	if _, err := index.Template("foo/armVARIANT", []string{"linux/arm/v6", "linux/arm/v7"}); err != nil {
		t.Error(err)
	}
}

// TestResolve is which image hosts take, by either rule.
func TestResolve(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name       string
		images     []string
		host       string
		containerd string
		docker     string // "" as containerd
	}{
		{"its own", []string{"linux/amd64", "linux/arm64"}, "linux/arm64", "linux/arm64", ""},
		{"the best variant", []string{"linux/arm/v5", "linux/arm/v6", "linux/arm/v7"}, "linux/arm/v7", "linux/arm/v7", ""},
		{"a lower variant", []string{"linux/arm/v5", "linux/arm/v6"}, "linux/arm/v7", "linux/arm/v6", ""},
		{"32-bit arm on arm64", []string{"linux/amd64", "linux/arm/v7"}, "linux/arm64", "linux/arm/v7", ""},
		{"386 on amd64", []string{"linux/386", "linux/arm64"}, "linux/amd64", "linux/386", ""},
		{"amd64 before amd64/v3", []string{"linux/amd64", "linux/amd64/v3"}, "linux/amd64", "linux/amd64", ""},
		{"the higher level", []string{"linux/amd64", "linux/amd64/v2", "linux/amd64/v3"}, "linux/amd64/v3", "linux/amd64/v3", ""},
		{"no image", []string{"linux/amd64"}, "linux/s390x", "", ""},
		{"a variant too high", []string{"linux/arm/v7"}, "linux/arm/v6", "", ""},
		{"Windows, a newer host", []string{"windows(10.0.14393.1)/amd64"}, "windows(10.0.17763)/amd64", "", "windows(10.0.14393.1)/amd64"},
		{"Windows, its own build", []string{"windows(10.0.20348.1)/amd64", "windows(10.0.25398.1)/amd64"}, "windows(10.0.25398)/amd64",
			"windows(10.0.20348.1)/amd64", "windows(10.0.25398.1)/amd64"},
		{"Windows, an old build", []string{"windows(10.0.17763.1)/amd64", "windows(10.0.20348.1)/amd64"}, "windows(10.0.17763)/amd64", "windows(10.0.17763.1)/amd64", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var list []index.Image
			for i, p := range row.images {
				list = append(list, index.Image{Platform: must(p), Descriptor: digestOf(i)})
			}
			x, err := index.Assemble(list, index.AssembleOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if row.docker == "" {
				row.docker = row.containerd
			}
			for m, want := range map[index.Matcher]string{index.Containerd: row.containerd, index.DockerClassic: row.docker} {
				image, candidates, err := x.ResolveWith(m, must(row.host))
				if (err == nil) != (want != "") || err == nil && image.Platform.String() != want {
					t.Errorf("%s: %s, %v, want %q", m, image.Platform, err, want)
				}
				if len(candidates) != len(row.images) {
					t.Errorf("%s: %d candidates", m, len(candidates))
				}
				for _, c := range candidates {
					if c.Reason == "" {
						t.Errorf("%s: no reason for %s", m, c.Image.Platform)
					}
				}
			}
		})
	}
}

// TestSpecOfManifestTool reads the files of manifest-tool's own documentation, shaped as they are.
func TestSpecOfManifestTool(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"testdata/manifest-tool.yaml", "testdata/manifest-tool-windows.yaml"} {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := index.ParseSpec(name, src)
		if err != nil || len(spec.Composition.Members) < 3 || len(spec.Names) == 0 {
			t.Errorf("%v: %+v", err, spec)
		}
	}
}
