package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	ctdplatforms "github.com/containerd/platforms"

	"github.com/manifold-build/manifold/builder"
	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/platforms"
)

// loaders are the programs that take an image in, by the order in which they are looked for, with what they are told.
var loaders = []struct {
	program string
	args    []string
}{
	{"docker", []string{"load"}}, {"podman", []string{"load"}}, {"nerdctl", []string{"load"}}, {"ctr", []string{"images", "import", "-"}},
}

// loader hands the result to the engine of this machine.
type loader struct {
	program string
	args    []string
	dir     string // holds the archive that is loaded
	names   []string
}

// newLoader looks for an engine, before anything is built, and has the request write what it is going to take in. The caller closes it.
func newLoader(r *builder.Request) (*loader, error) {
	for _, l := range loaders {
		if _, err := exec.LookPath(l.program); err != nil {
			continue
		}
		dir, err := os.MkdirTemp("", "manifold-load-")
		if err != nil {
			return nil, err
		}
		out := &loader{program: l.program, args: l.args, dir: dir}
		for _, tag := range r.Tags {
			named, err := index.ParseReference(tag)
			if err != nil {
				return nil, errors.Join(err, out.Close())
			}
			out.names = append(out.names, "docker-archive:-:"+named.String())
		}
		if out.names == nil {
			out.names = []string{"docker-archive:-"}
		}
		r.Outputs = append(r.Outputs, builder.Output{Type: "oci", Dest: out.archive()})
		return out, nil
	}
	return nil, errors.New("--load: there is no docker, podman, nerdctl or ctr on PATH that could take the image in: install one, or write an archive with -o type=docker,dest=FILE")
}

func (l *loader) archive() string { return filepath.Join(l.dir, "image.tar") }

// Close removes the archive.
func (l *loader) Close() error { return os.RemoveAll(l.dir) }

// load has the engine take in the only image, or that for this machine of several.
func (l *loader) load(ctx context.Context, s streams, f *buildFlags) (err error) {
	x, err := f.client(s).Pull(ctx, "oci-archive:"+l.archive())
	if err != nil {
		return err
	}
	which := x.Images[0].Platform
	var only []platforms.Platform
	if x.IsIndex() {
		here := platforms.FromOCI(ctdplatforms.DefaultSpec())
		here.OS = "linux" // what an engine on a Mac or on Windows runs
		image, _, err := x.Resolve(here)
		if err != nil {
			return fmt.Errorf("--load: none of the targets is for this machine, %s: name it with --platform, or --push all of them", here)
		}
		which, only = image.Platform, []platforms.Platform{image.Platform}
	}
	cmd := exec.CommandContext(ctx, l.program, l.args...) //nolint:gosec // one of loaders
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return err
	}
	opt := f.client(s).Options()
	opt.Stdout = in
	_, err = index.NewClient(opt).Copy(ctx, index.CopyRequest{Source: "oci-archive:" + l.archive(), Names: l.names, Platforms: only})
	err = errors.Join(err, in.Close())
	if ended := cmd.Wait(); ended != nil {
		return fmt.Errorf("--load: %s: %w: %s", l.program, ended, strings.TrimSpace(said.String()))
	}
	if err != nil || f.quiet {
		return err
	}
	fmt.Fprintf(s.err, "loaded into %s: the image for %s\n", l.program, which)
	if len(x.Images) > 1 {
		fmt.Fprintln(s.err, "warning: the other targets are not: an engine takes in one image; --push publishes all")
	}
	return nil
}
