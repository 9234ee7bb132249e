package builder

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/manifold-build/manifold/frontend"
	"github.com/manifold-build/manifold/platforms"
)

// Placement says where targets are built. The zero value leaves it to the schedule: each on a node that does it best.
type Placement struct {
	// Pins are nodes for some targets; the most specific pattern wins. Nil means none.
	Pins []Pin
}

// Pin is a node, by its name, for some targets.
type Pin struct {
	Pattern platforms.Pattern
	Node    string
}

// Place is where a target is built.
type Place struct {
	Target platforms.Platform `json:"target"`
	Node   string             `json:"node"`
}

// outline is what a node would do, without anything that only a step on it could answer.
type outline struct {
	node *Node
	plan frontend.Plan
	err  error
	// other is true if the Dockerfile asks for another frontend, which has no plan.
	other bool
}

// outlines asks every node for its outline; those that can execute the same answer alike, so one of them is asked.
func (b Builder) outlines(ctx context.Context, r Request, pins *frontend.Pins, watch *watcher) []outline {
	out := make([]outline, len(b.Nodes))
	first := map[string]int{}
	var wg sync.WaitGroup
	for i, n := range b.Nodes {
		out[i].node = n
		class := n.class()
		if _, ok := first[class]; ok {
			continue
		}
		first[class] = i
		wg.Go(func() {
			out[i].plan, out[i].err = worker{b, n}.outline(ctx, r, pins, watch)
			out[i].other = errors.Is(out[i].err, frontend.ErrOtherFrontend)
		})
	}
	wg.Wait()
	for i, n := range b.Nodes {
		class := n.class()
		if from := first[class]; from != i {
			out[i].plan, out[i].err, out[i].other = out[from].plan, out[from].err, out[from].other
			if out[from].err != nil && !out[from].other && n.answers(ctx, recheck) == nil { // the other one may be down
				out[i].plan, out[i].err = worker{b, n}.outline(ctx, r, pins, watch)
			}
		}
	}
	return out
}

// class is the same for nodes that can execute the same.
func (n *Node) class() string {
	return platforms.Format(n.Host.NativePlatforms()) + "|" + platforms.Format(n.Host.Emulated)
}

// outline asks the node for its outline, for as long as it answers at all.
func (b worker) outline(ctx context.Context, r Request, pins *frontend.Pins, watch *watcher) (frontend.Plan, error) {
	ctx, stop := b.node.alive(ctx)
	defer stop()
	return b.plan(ctx, r, frontend.Config{Outline: true, Pins: pins}, watch.on(b.node.Name))
}

// fitOf says how well a node builds a target, by its outline.
func (o outline) fitOf(t platforms.Platform) fit {
	switch {
	case o.other && o.node.Host.RunsNatively(t):
		return runsNatively
	case o.other && o.node.Host.Runs(t):
		return emulates
	case o.err != nil || !slices.Contains(o.plan.Targets, t) || slices.Contains(o.plan.Unable, t):
		return unable
	}
	worst := runsNatively
	for _, s := range o.plan.Steps {
		if s.Target != t || !s.Executes {
			continue
		}
		f := runsNatively
		switch s.Strategy {
		case platforms.Cross, platforms.Shared:
			f = crosses
		case platforms.Accelerate:
			f = accelerates
		case platforms.Emulate:
			if !o.node.Host.RunsNatively(s.Platform) {
				f = emulates
			}
		case platforms.Native, platforms.Auto:
		}
		worst = max(worst, f)
	}
	return worst
}

// placing puts together what a schedule is made of.
func (b Builder) placing(r Request, targets []platforms.Platform, outlines []outline, running []int) placing {
	h := b.history(r)
	p := placing{key: r.key(), stages: h.stages(), pins: b.Placement.Pins}
	for i, n := range b.Nodes {
		l := lane{name: n.Name, host: n.Host, max: n.config.Max, prefers: n.config.Platforms}
		if running != nil {
			l.running = running[i]
		}
		if !outlines[i].other {
			l.err = outlines[i].err
		}
		p.lanes = append(p.lanes, l)
	}
	shared := map[string]bool{}
	for _, o := range outlines {
		for _, s := range o.plan.Steps {
			if s.Strategy == platforms.Shared && s.Executes {
				shared[s.Stage] = true
			}
		}
	}
	for _, t := range targets {
		j := job{target: t}
		best := unable
		for _, o := range outlines {
			f := o.fitOf(t)
			j.fits = append(j.fits, f)
			if f != unable && (best == unable || f < best) {
				best = f
			}
			for _, s := range o.plan.Steps {
				if s.Target == t && shared[s.Stage] && !slices.Contains(j.shared, s.Stage) {
					j.shared = append(j.shared, s.Stage)
				}
			}
		}
		j.cost = h.cost(t, best)
		p.jobs = append(p.jobs, j)
	}
	return p
}

// loads asks every node how many builds it runs. One that does not say counts as idle.
func (b Builder) loads(ctx context.Context) []int {
	out := make([]int, len(b.Nodes))
	ctx, cancel := context.WithTimeout(ctx, recheck)
	defer cancel()
	var wg sync.WaitGroup
	for i, n := range b.Nodes {
		wg.Go(func() { out[i], _ = n.running(ctx) })
	}
	wg.Wait()
	return out
}

// key names what is built, wherever it lies: the remote of the context's git repository, else the name of its folder; the Dockerfile and the stage.
func (r Request) key() string {
	what := r.Context
	if isFolder(cmp.Or(what, ".")) {
		abs, err := filepath.Abs(cmp.Or(what, "."))
		if err == nil {
			what = filepath.Base(abs)
		}
		for dir := abs; err == nil; dir = filepath.Dir(dir) {
			if remote := gitRemote(dir); remote != "" {
				rel, _ := filepath.Rel(dir, abs)
				what = remote + "#" + filepath.ToSlash(rel)
				break
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	} else if before, _, ok := strings.Cut(what, "#"); ok {
		what = before // of a URL, not the commit
	}
	file := r.Dockerfile
	if filepath.IsAbs(file) {
		file = filepath.Base(file)
	}
	return strings.Join([]string{what, file, r.Stage}, "\x00")
}

// gitRemote is the URL of a repository's remote origin, empty if the folder is no repository or has none.
func gitRemote(dir string) string {
	f, err := os.Open(filepath.Join(dir, ".git", "config")) //nolint:gosec // the context's own
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	origin := false
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			origin = line == `[remote "origin"]`
		}
		if name, value, ok := strings.Cut(line, "="); ok && origin && strings.TrimSpace(name) == "url" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// timings collects how long steps took, from the progress.
type timings struct {
	mu    sync.Mutex
	steps map[string]step
}

// step is one step of a build as the progress names it: "[linux/amd64->arm64 build 3/5] RUN …".
type step struct {
	platform, stage string
	took            time.Duration
}

// note takes the steps that have ended and were run.
func (t *timings) note(s *client.SolveStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, v := range s.Vertexes {
		if v.Started == nil || v.Completed == nil || v.Cached || v.Error != "" {
			continue
		}
		head, _, ok := strings.Cut(strings.TrimPrefix(v.Name, "["), "] ")
		words := strings.Fields(head)
		if !ok || len(words) < 2 || !strings.Contains(words[0], "/") {
			continue
		}
		if t.steps == nil {
			t.steps = map[string]step{}
		}
		t.steps[v.Digest.String()] = step{platform: words[0], stage: words[1], took: v.Completed.Sub(*v.Started)}
	}
}

// of says what a target's own steps took, and each stage's of those that are shared.
func (t *timings) of(target platforms.Platform, shared []string) (own time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.steps {
		on, to, crossed := strings.Cut(s.platform, "->")
		if slices.Contains(shared, s.stage) {
			continue
		}
		if !crossed && on == target.String() || crossed && strings.HasSuffix("/"+target.Architecture+target.Variant, "/"+strings.ReplaceAll(to, "/", "")) {
			own += s.took
		}
	}
	return own
}

// stage says what all steps of a stage took.
func (t *timings) stage(name string) (all time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.steps {
		if s.stage == name {
			all += s.took
		}
	}
	return all
}

// describe says where the targets are built, for the progress.
func (p placing) describe(at []int) string {
	var out []string
	for i, j := range p.jobs {
		out = append(out, fmt.Sprintf("%s on %s", j.target, p.lanes[at[i]].name))
	}
	return strings.Join(out, ", ")
}
