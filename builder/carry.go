package builder

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"

	"github.com/manifold-build/manifold/frontend"
	"github.com/manifold-build/manifold/platforms"
)

// carried is what targets take from a stage that they share and that several nodes would run: made on one of them, it is brought to the others. A
// bundler that names its files by chance would otherwise put other ones into each target's image.
type carried struct {
	stage string
	node  int
	// targets are those that share the stage.
	targets []platforms.Platform
	done    chan struct{}
	layout  string // oci-layout://DIR@DIGEST when done is closed; empty if it is not carried
}

// carry begins to make what the placed jobs share and that is not on one node alone.
func (f *fleet) carry(ctx context.Context, at []int) error {
	f.carried = f.toCarry(at)
	if len(f.carried) == 0 {
		return nil
	}
	dir, err := os.MkdirTemp("", "manifold-carried-")
	if err != nil {
		return err
	}
	f.carriedDir = dir
	for i, c := range f.carried {
		f.wg.Go(func() {
			defer close(c.done)
			layout, err := f.fetch(ctx, c, filepath.Join(dir, strconv.Itoa(i)))
			if err != nil && ctx.Err() == nil {
				_ = f.watch.step(fmt.Sprintf("each node makes its own of stage %s: %v", c.stage, err), func() error { return nil })
			}
			c.layout = layout
		})
	}
	return nil
}

// toCarry lists the stages whose results are to be carried.
func (f *fleet) toCarry(at []int) []*carried {
	if !f.request.sharesAlike() {
		return nil
	}
	byStage := map[string]*carried{}
	nodes := map[string]map[int]bool{}
	var order []string
	for i, j := range f.placing.jobs {
		for _, s := range j.shared {
			if unnamed(s) {
				continue
			}
			c := byStage[s]
			if c == nil {
				c = &carried{stage: s, node: -1, done: make(chan struct{})}
				byStage[s], nodes[s] = c, map[int]bool{}
				order = append(order, s)
			}
			c.targets = append(c.targets, j.target)
			nodes[s][at[i]] = true
			// It is run where a node would share it with the target of another one.
			if c.node < 0 && len(f.outlines[at[i]].sharing(s, f.targets)) > 0 {
				c.node = at[i]
			}
		}
	}
	var out []*carried
	for _, s := range order {
		if len(nodes[s]) > 1 && byStage[s].node >= 0 {
			out = append(out, byStage[s])
		}
	}
	return out
}

// unnamed reports whether a stage is known by its number alone, which no build context can replace.
func unnamed(stage string) bool { return stage[0] >= '0' && stage[0] <= '9' }

// sharesAlike reports whether a stage of a name is the same for all targets.
func (r Request) sharesAlike() bool {
	for _, o := range r.PerTarget {
		if o.Dockerfile != "" || o.Stage != "" || o.Strategy != platforms.Auto {
			return false
		}
	}
	for key := range r.BuildArgs {
		if strings.Contains(key, ":") {
			return false // for some targets alone
		}
	}
	return true
}

// sharing lists the targets for which the node would run a stage as shared.
func (o outline) sharing(stage string, targets []platforms.Platform) []platforms.Platform {
	var out []platforms.Platform
	for _, s := range o.plan.Steps {
		if s.Stage == stage && s.Strategy == platforms.Shared && slices.Contains(targets, s.Target) && !slices.Contains(o.plan.Unable, s.Target) {
			out = append(out, s.Target)
		}
	}
	return out
}

// fetch has a node make what is taken from a stage, and returns the layout that it is fetched into.
func (f *fleet) fetch(ctx context.Context, c *carried, dir string) (string, error) {
	node := f.Nodes[c.node]
	r := f.request
	r.Targets, r.CacheTo, r.Attest = f.outlines[c.node].sharing(c.stage, c.targets), nil, nil
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	opt := client.SolveOpt{Exports: []client.ExportEntry{{Type: client.ExporterOCI, OutputDir: dir, Attrs: map[string]string{"tar": "false"}}}}
	w := worker{f.Builder, node}
	front := frontend.Config{
		CacheDir: f.CacheDir, Program: w.offer(&opt, f.Program, programFolder), Launcher: w.offer(&opt, w.launcher(), launcherFolder), Pins: f.pins, Carry: c.stage,
	}
	living, stop := node.alive(ctx)
	defer stop()
	response, err := w.run(living, r, opt, f.watch.on(node.Name), func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		return front.Build(ctx, f.pins.Pinned(c))
	})
	if err != nil {
		return "", err
	}
	return "oci-layout://" + dir + "@" + response.ExporterResponse[exptypes.ExporterImageDigestKey], nil
}

// carriedTo lists what is carried to some targets.
func (f *fleet) carriedTo(targets []platforms.Platform) []*carried {
	var out []*carried
	for _, c := range f.carried {
		if slices.ContainsFunc(targets, func(t platforms.Platform) bool { return slices.Contains(c.targets, t) }) {
			out = append(out, c)
		}
	}
	return out
}

// solve builds targets on a node. Where they take something that is carried, they are built twice: first as the Dockerfile has it, so that nobody waits for
// another node, and without a result; then with what was carried in the place of its stages, which is all that is still to do.
func (f *fleet) solve(ctx context.Context, w worker, r Request, entries []client.ExportEntry, watch *watcher) (Result, error) {
	ready := func() error { return nil }
	list := f.carriedTo(r.Targets)
	if len(list) == 0 {
		return w.solve(ctx, r, entries, watch, ready)
	}
	// The cache holds what was run, so it is written by the first; one in the image itself by the second.
	early := r
	early.CacheTo, r.CacheTo = splitCaches(r.CacheTo)
	early.Attest, early.Gate = nil, Gate{Verify: "off"}
	first, err := w.solve(ctx, early, nil, watch, ready)
	if err != nil {
		return first, err
	}
	r.Contexts = maps.Clone(r.Contexts)
	if r.Contexts == nil {
		r.Contexts = map[string]string{}
	}
	for _, c := range list {
		select {
		case <-c.done:
		case <-ctx.Done():
			return first, context.Cause(ctx)
		}
		if c.layout != "" {
			r.Contexts[strings.ToLower(c.stage)] = c.layout
		}
	}
	r.NoCache, r.NoCacheStages = false, nil // all has just been run
	out, err := w.solve(ctx, r, entries, watch, ready)
	out.Steps = first.Steps // the second time, a stage is replaced
	return out, err
}

// splitCaches parts caches that are written somewhere from those that are written into the image.
func splitCaches(list []client.CacheOptionsEntry) (elsewhere, inline []client.CacheOptionsEntry) {
	for _, e := range list {
		if e.Type == "inline" {
			inline = append(inline, e)
		} else {
			elsewhere = append(elsewhere, e)
		}
	}
	return elsewhere, inline
}
