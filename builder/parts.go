package builder

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/client"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/platforms"
)

// parts are what the nodes of one build export, each its targets', until they are put together.
type parts struct {
	plan *exportPlan
	dir  string // of what is put together; removed at the end
	// pushed are the indexes in the first repository; layouts and tars are those of each entry of the plan.
	pushed        []string
	layouts, tars map[int][]string
}

func newParts(plan *exportPlan) (*parts, error) {
	for _, e := range plan.entries {
		switch {
		case e.Type == client.ExporterDocker:
			return nil, errors.New("output docker holds one image, and several targets are built: name one with --platform, or take type=oci")
		case e.Type == client.ExporterImage && e.Attrs[exportPush] == "true" && len(plan.repos) == 0:
			return nil, errors.New("output image with push-by-digest=true is what one node pushes, and several build: push a tag (--push), or name one --builder")
		case e.Type == client.ExporterLocal && e.Attrs["mode"] == "delete", e.Attrs["platform-split"] == "false":
			return nil, fmt.Errorf("output %s: mode=delete and platform-split=false do not work with several nodes, which write into one folder: name one --builder", e.Type)
		}
	}
	dir, err := os.MkdirTemp("", "manifold-parts-")
	return &parts{plan: plan, dir: dir, layouts: map[int][]string{}, tars: map[int][]string{}}, err
}

// entries are what the n-th group of targets exports. Keep is called if its build has passed, with the digest of its index.
func (p *parts) entries(n int, targets []platforms.Platform) (list []client.ExportEntry, keep func(digest string)) {
	layouts, tars := map[int]string{}, map[int]string{}
	for i, e := range p.plan.entries {
		own := client.ExportEntry{Type: e.Type, Attrs: annotationsFor(e.Attrs, targets), OutputDir: e.OutputDir}
		at := filepath.Join(p.dir, strconv.Itoa(i)+"-"+strconv.Itoa(n))
		switch e.Type {
		case client.ExporterOCI:
			// An archive: of folders BuildKit's client takes one.
			delete(own.Attrs, "tar")
			delete(own.Attrs, exportName)
			own.OutputDir = ""
			own.Output = func(map[string]string) (io.WriteCloser, error) { return os.Create(at) } //nolint:gosec // below our own folder
			layouts[i] = at
		case client.ExporterTar:
			own.Output = func(map[string]string) (io.WriteCloser, error) { return os.Create(at) } //nolint:gosec // below our own folder
			tars[i] = at
		}
		list = append(list, own)
	}
	return list, func(digest string) {
		if len(p.plan.repos) > 0 {
			p.pushed = append(p.pushed, p.plan.repos[0]+"@"+digest)
		}
		for i, at := range layouts {
			p.layouts[i] = append(p.layouts[i], "oci-archive:"+at)
		}
		for i, at := range tars {
			p.tars[i] = append(p.tars[i], at)
		}
	}
}

// annotationsFor leaves out annotations that are for other targets: BuildKit refuses them.
func annotationsFor(attrs map[string]string, targets []platforms.Platform) map[string]string {
	out := maps.Clone(attrs)
	if out == nil {
		out = map[string]string{}
	}
	maps.DeleteFunc(out, func(key, _ string) bool {
		head, _, ok := strings.Cut(key, "].")
		kind, platform, scoped := strings.Cut(head, "[")
		if !ok || !scoped || !strings.HasPrefix(kind, "annotation") {
			return false
		}
		of, err := platforms.Parse(platform)
		return err == nil && !slices.Contains(targets, of)
	})
	return out
}

// join puts the parts together. The draft is that of what was pushed, or of the first archive or layout; nil if there is neither. The caller closes it.
func (p *parts) join(ctx context.Context, c *index.Client, targets []platforms.Platform, more map[string]string) (draft *index.Draft, err error) {
	if len(p.pushed) > 0 && len(p.plan.tags) > 0 {
		for _, ref := range p.pushed {
			if err := c.Await(ctx, ref); err != nil {
				return nil, err
			}
		}
		if draft, err = c.Join(ctx, p.pushed, targets, more); err != nil {
			return nil, err
		}
	}
	archives := slices.Clone(p.plan.archives)
	for i, e := range p.plan.entries {
		var a *archive
		if e.Output != nil {
			a, archives = archives[0], archives[1:]
		}
		switch {
		case len(p.layouts[i]) > 0:
			d, err := c.Join(ctx, p.layouts[i], targets, more)
			if err != nil {
				return draft, err
			}
			_, err = d.Publish(ctx, layoutNames(e, a), index.PublishOptions{})
			if draft == nil {
				draft = d
			} else {
				err = errors.Join(err, d.Close())
			}
			if err != nil {
				return draft, err
			}
		case len(p.tars[i]) > 0:
			if err := joinTars(a, p.tars[i]); err != nil {
				return draft, err
			}
		}
	}
	return draft, nil
}

// layoutNames are the names of an output of type oci, as package index writes them.
func layoutNames(e client.ExportEntry, a *archive) []string {
	at := "oci-layout:" + e.OutputDir
	if a != nil {
		at = "oci-archive:" + a.dest
	}
	var out []string
	for name := range strings.SplitSeq(e.Attrs[exportName], ",") {
		if name != "" {
			out = append(out, at+":"+name)
		}
	}
	if out == nil {
		out = []string{at}
	}
	return out
}

// joinTars writes what is in several tar archives into one. Each target has a folder of its own in them.
func joinTars(a *archive, files []string) (err error) {
	w, err := a.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	out := tar.NewWriter(w)
	for _, file := range files {
		if err := copyTar(out, file); err != nil {
			return err
		}
	}
	return out.Close()
}

func copyTar(out *tar.Writer, file string) (err error) {
	f, err := os.Open(file) //nolint:gosec // below our own folder
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	in := tar.NewReader(f)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil { //nolint:gosec // what the node sent
			return err
		}
	}
}
