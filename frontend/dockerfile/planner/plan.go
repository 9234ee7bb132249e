package planner

import (
	"maps"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/frontend/dockerfile/place"
	"github.com/manifold-build/manifold/frontend/dockerfile/source"
	"github.com/manifold-build/manifold/frontend/dockerfile/stage"
	"github.com/manifold-build/manifold/platforms"
)

// Request is what a plan is made for.
type Request struct {
	// Host is what the node can execute. Its native platform is the build platform.
	Host platforms.Host
	// Targets are planned in this order.
	Targets []place.Target
	// Images are what is known of base images, by name as FROM lines have it after expansion (see [Plan.Bases]). Of those that
	// are not in it the planner assumes what is common. Nil means nobody looked.
	Images map[string]stage.BaseImage
	// Answers are what the probes of an earlier plan of the same request found. Nil means none was made.
	Answers []Answer
	// PutBacks are stages that an earlier plan of the same request moved in vain: they stay on their targets. Nil means none.
	PutBacks []PutBack
}

// PutBack is why a stage that was moved for a target has to stay on it after all.
type PutBack struct {
	// Stage is the stage's index.
	Stage  int
	Target platforms.Platform
	// Reason is one line for people.
	Reason string
}

// Step says how one stage is run for one target.
type Step struct {
	// Stage is the stage's name, or its index where it has none; Line is its FROM line, counted from 1.
	Stage string `json:"stage"`
	Line  int    `json:"line"`
	// Target is what the stage is run for, Platform what it is run on.
	Target   platforms.Platform `json:"target"`
	Platform platforms.Platform `json:"platform"`
	Strategy platforms.Strategy `json:"strategy"`
	// Reason is one line for people.
	Reason string `json:"reason"`
	// Moved reports whether the stage runs on the build platform because the plan says so, not the Dockerfile. Told reports whether it runs on
	// its target, which the node executes itself, and is told what it is told for the other targets.
	Moved bool `json:"moved"`
	Told  bool `json:"told,omitempty"`
	// Probes are open: the step is as it says if they are answered well, and emulate otherwise. Nil means none is.
	Probes []ProbeKind `json:"probes,omitempty"`
	// Executes reports whether the stage has a RUN instruction at all; RunLine is the first one's line.
	Executes bool `json:"executes"`
	RunLine  int  `json:"runLine,omitempty"`

	index    int
	root     int // the line of the chain's first FROM
	exported bool
}

// Index is the stage's index in the file.
func (s Step) Index() int { return s.index }

// Finding is something in the Dockerfile that the user should know of.
type Finding struct {
	// Target is the target it was found for.
	Target platforms.Platform `json:"target"`
	// Line is where, counted from 1.
	Line int `json:"line"`
	// Rule is the finding's name, in the style of BuildKit's lint rules.
	Rule string `json:"rule"`
	// Message says what is wrong and what to write instead.
	Message string `json:"message"`
}

// Plan is how every stage that a target needs is run.
type Plan struct {
	// Steps are ordered by target as requested, then by stage as written. Stages that the exported one does not need
	// have no step, and neither do stages that a build context replaces.
	Steps []Step
	// Findings are in the same order.
	Findings []Finding
	// Probes are the questions to ask before anything is built, in the same order. While they are open, the plan is what holds if
	// all are answered well.
	Probes []Probe
	// Checks are to be made when the moved stages have been run: what is taken from them must hold no machine code
	// of the build platform. A stage of which one fails is to be planned again as a [PutBack].
	Checks []Check
	// Images are the base images of all stages that are needed, by target and stage.
	Images []StageImage
	// Bases are the images that moved stages are built FROM or take files from, as [Request.Images] names them.
	Bases []string
	// Inputs are the images that moved stages take files from, by the name that the texts have for them: whoever converts a text has to give a named
	// context of that name, with the image for the build platform.
	Inputs map[string]string

	planner *Planner
}

// StageImage is an image that a stage is built FROM for a target.
type StageImage struct {
	// Name is as the FROM line has it after expansion, Line where that is.
	Name string
	Line int
	// Target is what the stage is run for, Platform that of the image.
	Target, Platform platforms.Platform
	// Exported reports whether the exported image begins with it. Pin is the word of the FROM line's --platform, empty if there is
	// none.
	Exported bool
	Pin      string
}

// Planner plans one file for some targets, and keeps what it knows from one plan to the next.
type Planner struct {
	file   *source.File
	host   platforms.Host
	images map[string]stage.BaseImage
	list   []*planned
}

// planned is one target.
type planned struct {
	target place.Target
	graph  *place.Graph // nil if a FROM line does not expand
	dirty  bool         // the graph has yet to decide
	// part is what a plan says of the target, errs what the node cannot do for it; nil if that is to be said anew.
	part *Plan
	errs []*StageError
	// unlike says that the last plan put stages of the target back because of others.
	unlike bool
}

// Open begins to plan a file.
//
// A stage that cannot be planned (a FROM line whose variables do not expand, a target stage that does not exist) is left
// as it is written, for the converter to report.
func Open(f *source.File, req Request) *Planner {
	p := &Planner{file: f, host: req.Host, images: req.Images, list: make([]*planned, len(req.Targets))}
	shared := &place.Shared{}
	each(len(req.Targets), func(i int) {
		one := &planned{target: req.Targets[i], dirty: true}
		if g, err := place.Open(f, req.Host, one.target, req.Images, shared); err == nil {
			one.graph = g
		}
		p.list[i] = one
	})
	p.Answer(req.Answers...)
	p.PutBack(req.PutBacks...)
	return p
}

// Answer takes note of what probes found.
func (p *Planner) Answer(answers ...Answer) {
	for _, a := range answers {
		for _, t := range p.list {
			if t.graph != nil && t.target.Platform == a.Probe.Target {
				t.graph.Answer(a.Probe.stage, a.Probe.question, stage.Answer{Text: a.Text, Failed: a.Failed})
				t.dirty = true
			}
		}
	}
}

// PutBack takes note of stages that were moved in vain.
func (p *Planner) PutBack(list ...PutBack) {
	for _, b := range list {
		for _, t := range p.list {
			if t.graph != nil && t.target.Platform == b.Target && b.Stage >= 0 && b.Stage < len(p.file.Stages) {
				t.graph.PutBack(b.Stage, b.Reason)
				t.dirty = true
			}
		}
	}
}

// Look takes note of what base images are. The map holds all that is known; fresh names what is new in it.
func (p *Planner) Look(images map[string]stage.BaseImage, fresh []string) {
	p.images = images
	for _, t := range p.list {
		if t.graph != nil {
			t.graph.Look(images, fresh)
			t.dirty = true
		}
	}
}

// CanRun takes note of what the node can execute, where more was found out.
func (p *Planner) CanRun(host platforms.Host) {
	p.host = host
	for _, t := range p.list {
		if t.graph != nil {
			t.graph.Host = host
			t.dirty = true
		}
	}
}

// Plan says how each stage is run for each target, as far as is known. Errors are of type [*StageError], joined in target order: a stage
// that the node cannot execute for its target, or a strategy that cannot be had.
func (p *Planner) Plan() (Plan, error) {
	p.decide()
	out := Plan{planner: p, Inputs: map[string]string{}}
	var errs stageErrors
	steps, images, probes, checks := 0, 0, 0, 0
	for _, t := range p.list {
		if t.part != nil {
			steps, images = steps+len(t.part.Steps), images+len(t.part.Images)
			probes, checks = probes+len(t.part.Probes), checks+len(t.part.Checks)
		}
	}
	out.Steps, out.Images = slices.Grow(out.Steps, steps), slices.Grow(out.Images, images)
	out.Probes, out.Checks = slices.Grow(out.Probes, probes), slices.Grow(out.Checks, checks)
	for _, t := range p.list {
		if t.part != nil {
			out.join(t.part)
			errs = append(errs, t.errs...)
		}
	}
	return out, errs.join()
}

// join adds what is planned for one target.
func (out *Plan) join(part *Plan) {
	out.Steps = append(out.Steps, part.Steps...)
	out.Findings = append(out.Findings, part.Findings...)
	out.Probes = append(out.Probes, part.Probes...)
	out.Checks = append(out.Checks, part.Checks...)
	out.Images = append(out.Images, part.Images...)
	for _, b := range part.Bases {
		out.Bases = appendNew(out.Bases, b)
	}
	maps.Copy(out.Inputs, part.Inputs)
}

// each does something for each of n targets, beside each other where there are several.
func each(n int, do func(int)) {
	var wg errgroup.Group
	wg.SetLimit(max(runtime.GOMAXPROCS(0), 1))
	for i := range n {
		wg.Go(func() error {
			do(i)
			return nil
		})
	}
	_ = wg.Wait() // nothing fails
}

// decide has the graphs decide that do not know yet, has all agree, and says anew what has become of those that may have changed.
func (p *Planner) decide() {
	graphs := make([]*place.Graph, len(p.list))
	var todo []*planned
	for i, t := range p.list {
		if graphs[i] = t.graph; t.graph != nil && t.dirty {
			todo = append(todo, t)
		}
	}
	each(len(todo), func(i int) { todo[i].graph.Decide() })
	changed := place.Agree(graphs)
	todo = todo[:0]
	for _, t := range p.list {
		if t.graph != nil && (t.dirty || t.part == nil || t.unlike || changed[t.graph]) {
			todo = append(todo, t)
		}
	}
	each(len(todo), func(i int) {
		t := todo[i]
		t.part = &Plan{}
		t.errs = p.describe(t, t.part)
		t.dirty, t.unlike = false, changed[t.graph]
	})
}

// describe says what is planned for one target, and returns what the node cannot do.
func (p *Planner) describe(t *planned, out *Plan) []*StageError {
	g := t.graph
	var errs []*StageError
	out.Steps = make([]Step, 0, len(g.Needed()))
	asks := p.asksScripts()
	for _, n := range g.Needed() {
		step := p.step(g, n)
		if n.Parent == nil {
			out.Images = append(out.Images, StageImage{
				Name: n.Image, Line: n.Line, Target: step.Target, Platform: step.Platform, Exported: step.exported, Pin: n.Platform,
			})
		}
		out.Steps = append(out.Steps, step)
		if err := p.check(step, t.target, n.Move.Stays); err != nil {
			errs = append(errs, err)
		}
		if asks {
			for _, q := range g.Reading(n).Scripts {
				out.Probes = append(out.Probes, probeOf(g, n, q))
			}
		}
		out.add(g, n)
	}
	if g.Foreign() || len(p.list) > 1 {
		out.Findings = append(out.Findings, p.lint(g)...)
	}
	return errs
}

func probeOf(g *place.Graph, n *place.Node, q stage.Question) Probe {
	return Probe{Kind: ProbeKind(q.Kind), Stage: n.Title(), Line: q.Line, Target: g.Target.Platform, stage: n.Index, question: q}
}

// asksScripts reports whether it matters if scripts compile: some stage may be accelerated for a target that the node does not execute itself.
func (p *Planner) asksScripts() bool {
	return slices.ContainsFunc(p.list, func(t *planned) bool {
		return t.graph != nil && t.graph.Foreign() && !t.target.NoAccelerate && (t.target.Strategy == platforms.Auto || t.target.Strategy == platforms.Accelerate)
	})
}

// add notes what moving a stage takes.
func (out *Plan) add(g *place.Graph, n *place.Node) {
	m := n.Move
	if !m.Moved && g.Compiles(n) {
		for _, image := range g.CompilersFrom(n) {
			out.Bases = appendNew(out.Bases, image)
		}
	}
	if !m.Moved && !m.Told && !m.Accelerated {
		return
	}
	for _, q := range m.Questions {
		out.Probes = append(out.Probes, probeOf(g, n, q))
	}
	if m.Check != nil {
		out.Checks = append(out.Checks, Check{Stage: n.Index, Title: n.Title(), Line: m.Check.Line, Target: g.Target.Platform, Paths: m.Check.Paths, Last: g.IsLastMoved(n)})
	}
	if n.Parent == nil && m.Moved {
		out.Bases = appendNew(out.Bases, n.Image)
	}
	for _, in := range m.Inputs {
		out.Bases = appendNew(out.Bases, in.Name)
		if out.Inputs == nil {
			out.Inputs = map[string]string{}
		}
		out.Inputs[stage.InputName(in.Name)] = in.Name
	}
}

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// Twins lists the images whose copies for the build platform a text may take compilers from, by the names that it has for them, and the program that
// calls those. They do not change while the file is planned.
func (p *Planner) Twins() map[string]string {
	out := map[string]string{}
	for _, t := range p.list {
		if t.graph == nil || t.target.NoAccelerate {
			continue
		}
		for _, n := range t.graph.Needed() {
			if n.Parent == nil && len(n.Image) > 0 {
				out[stage.InputName(n.Image)] = n.Image
			}
		}
		out[stage.Accelerator] = ""
	}
	return out
}

// Toolchain is a tool chain that a text may take compilers from.
type Toolchain struct {
	// Name is what the texts have for it, Image what the stages begin with that take it, Target whose code it makes.
	Name, Image string
	Target      platforms.Platform
	// Installs reports whether such a stage installs packages, which the image does not hold.
	Installs bool
}

// Toolchains lists the tool chains that texts may take compilers from. They do not change while the file is planned.
func (p *Planner) Toolchains() []Toolchain {
	var out []Toolchain
	for _, t := range p.list {
		if t.graph == nil || t.target.NoAccelerate || !t.target.Toolchains {
			continue
		}
		for _, n := range t.graph.Needed() {
			image := n.Root().Image
			if image == "" {
				continue
			}
			tc := Toolchain{Name: stage.ToolchainName(image, t.target.Platform), Image: image, Target: t.target.Platform, Installs: t.graph.Installs(n)}
			if i := slices.IndexFunc(out, func(o Toolchain) bool { return o.Name == tc.Name }); i >= 0 {
				out[i].Installs = out[i].Installs || tc.Installs
				continue
			}
			out = append(out, tc)
		}
	}
	return out
}

// Planner is what made the plan; nil for the zero value. Its texts are those of its latest plan.
func (out *Plan) Planner() *Planner { return out.planner }

// Changed lists the stages that the plan moved or told their target, among a stage and those that it begins with or takes from: what fails there may
// fail because of the plan. For a stage that is not there it lists all that the target has.
func (p *Planner) Changed(target platforms.Platform, stageIndex int) []int {
	return p.changed(target, func(g *place.Graph) []*place.Node {
		if stageIndex < 0 || stageIndex >= len(p.file.Stages) {
			return g.Needed()
		}
		return g.Behind(stageIndex)
	})
}

// ChangedAt lists the same among the stages that what lies at a path of the exported image may have come from.
func (p *Planner) ChangedAt(target platforms.Platform, path string) []int {
	return p.changed(target, func(g *place.Graph) []*place.Node { return g.Origins(path) })
}

func (p *Planner) changed(target platforms.Platform, among func(*place.Graph) []*place.Node) []int {
	var out []int
	for _, t := range p.list {
		if t.graph == nil || t.target.Platform != target || t.target.Strategy != platforms.Auto && t.target.Strategy != platforms.Accelerate {
			continue
		}
		for _, n := range among(t.graph) {
			if n.Move.Moved || n.Move.Accelerated || n.Move.Told && len(n.Move.Edits) > 0 {
				out = append(out, n.Index)
			}
		}
	}
	return out
}

// Exported reports whether the stage is the exported one, or one that the exported one is built FROM.
func (s Step) Exported() bool { return s.exported }
