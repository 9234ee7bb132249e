package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/integration/sandbox"
)

const (
	figureIndex   = "an index of 8 images of one repository, 50 ms a request"
	figureMounted = "an index of 8 images of 8 repositories, mounted, 50 ms a request"
	figureInspect = "inspect an index of 8 platforms with attestations, 50 ms a request"
	figureCopy    = "copy an image of 1 GiB, 4 platforms, between two registries"

	latency = 50 * time.Millisecond
	// imageSize is what is copied, in bytes, copyPlatforms how many images it is in.
	imageSize     = 1 << 30
	copyPlatforms = 4
)

// eight are the platforms of the bench's busybox.
var eight = []string{"amd64", "arm64", "arm/v7", "arm/v6", "386", "ppc64le", "s390x", "mips64le"}

// peers are the programs that make indexes.
type peers struct {
	bench *sandbox.Bench
	dir   string // regctl and manifest-tool
	home  string
}

// regctl begins a command of regctl that speaks plain http to hosts.
func (p peers) regctl(hosts ...string) []string {
	args := []string{filepath.Join(p.dir, "regctl")}
	for _, h := range hosts {
		args = append(args, "--host", "reg="+h+",tls=disabled")
	}
	return args
}

func (p peers) buildx(args ...string) []string {
	return append([]string{"env", "BUILDX_CONFIG=" + p.home, "buildx", "imagetools"}, args...)
}

// indexes prepares the figures of the index toolbox.
func indexes(ctx context.Context, b *sandbox.Bench, match *regexp.Regexp) ([]figure, error) {
	if !match.MatchString(figureIndex + figureMounted + figureInspect + figureCopy) {
		return nil, nil
	}
	dir, err := b.Indexers(ctx)
	if err != nil {
		return nil, err
	}
	p := peers{b, dir, filepath.Join(b.Dir, "buildx")}
	far, err := b.Registry.Behind(ctx, latency) // it ends with the process
	if err != nil {
		return nil, err
	}
	out, err := p.distant(ctx, far.Addr)
	if err != nil || !match.MatchString(figureCopy) {
		return out, err
	}
	one, err := p.copying(ctx)
	return append(out, one), err
}

// distant prepares the figures that are about round trips.
func (p peers) distant(ctx context.Context, far string) ([]figure, error) {
	near := p.bench.Registry.Addr
	var one, several []string
	for i, arch := range eight {
		a, b := fmt.Sprintf("/bench/one:p%d", i), fmt.Sprintf("/bench/part%d:1", i)
		for _, to := range []string{a, b} {
			if _, err := timed(ctx, p.bench, []string{"manifold", "copy", "-q", "--platform", "linux/" + arch, near + "/library/busybox:1.35", near + to}); err != nil {
				return nil, err
			}
		}
		one, several = append(one, far+a), append(several, far+b)
	}
	dir, err := folder(p.bench, map[string]string{"Dockerfile": "FROM busybox:1.35\nLABEL for=bench\n"})
	if err != nil {
		return nil, err
	}
	var list []string
	for _, arch := range eight {
		list = append(list, "linux/"+arch)
	}
	build := []string{"manifold", "build", "-q", "--provenance=true", "--platform", strings.Join(list, ","), "-t", near + "/bench/attested:1", "--push", dir}
	if _, err := timed(ctx, p.bench, build); err != nil {
		return nil, err
	}
	return []figure{
		{
			name: figureIndex, rounds: 5, most: 0.2,
			ours:   p.side("manifold create", func(to string) []string { return append([]string{"manifold", "create", "-q", "-t", to}, one...) }, far+"/bench/one:ours"),
			theirs: p.fastest(far+"/bench/one:theirs", far, one),
		},
		{
			name: figureMounted, rounds: 5, most: 0.5,
			ours: p.side("manifold create", func(to string) []string { return append([]string{"manifold", "create", "-q", "-t", to}, several...) }, far+"/bench/many-ours-N:1"),
			// crane append and docker manifest take what is in the repository only
			theirs: p.fastest(far+"/bench/many-theirs-N:1", far, several),
		},
		{
			name: figureInspect, rounds: 5, most: 1,
			ours: p.side("manifold inspect", func(string) []string { return []string{"manifold", "inspect", far + "/bench/attested:1"} }, ""),
			theirs: p.side("buildx imagetools inspect, all it knows", func(string) []string {
				return p.buildx("inspect", "--format", "{{json .}}", far+"/bench/attested:1")
			}, ""),
		},
	}, nil
}

// side runs a command whose destination is new each time, if it holds an N.
func (p peers) side(name string, args func(to string) []string, to string) side {
	n := 0
	return side{name, func(ctx context.Context) (time.Duration, error) {
		n++
		return timed(ctx, p.bench, args(strings.ReplaceAll(to, "-N", fmt.Sprintf("-%d", n))))
	}}
}

// fastest runs every peer, and counts the one that was fastest.
func (p peers) fastest(to, far string, sources []string) side {
	n := 0
	return side{"the fastest of crane, manifest-tool, buildx and regctl", func(ctx context.Context) (time.Duration, error) {
		n++
		var best time.Duration
		for _, peer := range []string{"crane", "mt", "buildx", "regctl"} {
			name := strings.ReplaceAll(to, "-N", fmt.Sprintf("-%s-%d", peer, n))
			args, err := p.create(peer, name, far, sources)
			if err != nil {
				return 0, err
			}
			took, err := timed(ctx, p.bench, args)
			if err != nil {
				return 0, err
			}
			if best == 0 || took < best {
				best = took
			}
		}
		return best, nil
	}}
}

// create is a peer's command that makes an index.
func (p peers) create(peer, to, far string, sources []string) ([]string, error) {
	each := func(flag string) []string {
		var out []string
		for _, s := range sources {
			out = append(out, flag, s)
		}
		return out
	}
	switch peer {
	case "crane":
		return append([]string{"crane", "index", "append", "--insecure", "-t", to}, each("-m")...), nil
	case "mt":
		spec := "image: " + to + "\nmanifests:\n- image: " + strings.Join(sources, "\n- image: ") + "\n"
		dir, err := folder(p.bench, map[string]string{"spec.yaml": spec})
		return []string{filepath.Join(p.dir, "manifest-tool"), "--plain-http", "push", "--type", "oci", "from-spec", filepath.Join(dir, "spec.yaml")}, err
	case "buildx":
		return append(p.buildx("create", "-t", to), sources...), nil
	}
	return append(append(p.regctl(far), "index", "create", to), each("--ref")...), nil
}

// copying prepares the copy of a large image.
func (p peers) copying(ctx context.Context) (figure, error) {
	from, err := p.bench.StartRegistry(ctx)
	if err != nil {
		return figure{}, err
	}
	dir, err := os.MkdirTemp(p.bench.Dir, "layout-")
	if err != nil {
		return figure{}, err
	}
	if err := largeIndex(dir); err != nil {
		return figure{}, err
	}
	src := from.Addr + "/bench/large:1"
	if _, err := timed(ctx, p.bench, []string{"manifold", "copy", "-q", "oci-layout:" + dir, src}); err != nil {
		return figure{}, err
	}
	// Each copy goes to a registry that has never seen a blob: some tools remember where else there one is.
	empty := func(ctx context.Context, args func(name string) []string) (_ time.Duration, err error) {
		to, err := p.bench.StartRegistry(ctx)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, to.Remove()) }()
		return timed(ctx, p.bench, args(to.Addr+"/bench/copy:1"))
	}
	commands := map[string]func(string) []string{
		"crane": func(name string) []string { return []string{"crane", "copy", "--insecure", src, name} },
		"regctl": func(name string) []string {
			return append(p.regctl(from.Addr, strings.TrimSuffix(name, "/bench/copy:1")), "image", "copy", src, name)
		},
		"skopeo": func(name string) []string {
			return []string{"skopeo", "copy", "--quiet", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://" + src, "docker://" + name}
		},
		"buildx": func(name string) []string { return p.buildx("create", "-t", name, src) },
	}
	names := []string{"crane", "regctl", "skopeo", "buildx"}
	return figure{
		name: figureCopy, rounds: 5, most: 1.1,
		ours: side{"manifold copy", func(ctx context.Context) (time.Duration, error) {
			return empty(ctx, func(name string) []string { return []string{"manifold", "copy", "-q", src, name} })
		}},
		theirs: side{"the fastest of " + strings.Join(names, ", "), func(ctx context.Context) (time.Duration, error) {
			var all []time.Duration
			for _, peer := range names {
				took, err := empty(ctx, commands[peer])
				if err != nil {
					return 0, err
				}
				all = append(all, took)
			}
			return slices.Min(all), nil
		}},
	}, nil
}

// largeIndex writes an OCI layout of imageSize bytes that do not compress.
func largeIndex(dir string) error {
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	put := func(mediaType string, raw []byte) (ocispec.Descriptor, error) {
		d := digest.FromBytes(raw)
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}, os.WriteFile(filepath.Join(blobs, d.Encoded()), raw, 0o600)
	}
	var x ocispec.Index
	for _, arch := range eight[:copyPlatforms] {
		var m ocispec.Manifest
		const layers = 4
		for range layers {
			raw := make([]byte, imageSize/copyPlatforms/layers)
			if _, err := rand.Read(raw); err != nil {
				return err
			}
			d, err := put(ocispec.MediaTypeImageLayer, raw)
			if err != nil {
				return err
			}
			m.Layers = append(m.Layers, d)
		}
		name, variant, _ := strings.Cut(arch, "/")
		platform := ocispec.Platform{OS: "linux", Architecture: name, Variant: variant}
		config, err := json.Marshal(ocispec.Image{Platform: platform})
		if err != nil {
			return err
		}
		if m.Config, err = put(ocispec.MediaTypeImageConfig, config); err != nil {
			return err
		}
		m.SchemaVersion, m.MediaType = 2, ocispec.MediaTypeImageManifest
		raw, err := json.Marshal(m)
		if err != nil {
			return err
		}
		d, err := put(m.MediaType, raw)
		if err != nil {
			return err
		}
		d.Platform = &platform
		x.Manifests = append(x.Manifests, d)
	}
	x.SchemaVersion, x.MediaType = 2, ocispec.MediaTypeImageIndex
	raw, err := json.Marshal(x)
	if err != nil {
		return err
	}
	d, err := put(x.MediaType, raw)
	if err != nil {
		return err
	}
	top, err := json.Marshal(ocispec.Index{Manifests: []ocispec.Descriptor{d}})
	return errors.Join(err,
		os.WriteFile(filepath.Join(dir, "index.json"), top, 0o600),
		os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o600))
}
