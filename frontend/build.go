package frontend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	ctdplatforms "github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/frontend/gateway/client"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

// keyPlatform is the gateway option that lists the platforms to build for.
const keyPlatform = "platform"

// build is one gateway request.
type build struct {
	client    client.Client
	started   client.Client     // as BuildKit gave it
	cacheDir  string            // as in Config
	program   Program           // as in Config
	launcher  Program           // as in Config
	request   settings          // Manifold's options in the request
	rest      map[string]string // the request's other options
	host      platforms.Host    // see node
	hostMu    sync.RWMutex
	hostKnown bool // false where BuildKit does not say what it can execute
	targets   []*target
	groups    map[string]*group
	images    map[string]dockerfile.BaseImage // that stages are built from, looked at so far
	most      int                             // targets at once; 0 is automatic
	whole     *bound                          // of whole targets
	solves    *bound                          // of their solves
	builds    bool                            // targets are going to be built, not only asked about
	outline   bool                            // as in Config
	failFast  bool                            // as in Config
	optional  []platforms.Pattern             // as in Config
	missing   []platforms.Platform            // targets that were left out
	ahead     sync.WaitGroup                  // what was asked for ahead of its use
	// mu guards images and the groups' planners while targets are built: one of them may have a stage put back.
	mu sync.Mutex
}

// target is one platform of the build.
type target struct {
	platform platforms.Platform
	// implicit: nobody named a platform. The build platform is meant, and the base image may decide otherwise.
	implicit bool
	strategy platforms.Strategy
	group    *group
	text     []byte // what the target is built from
	plan     dockerfile.Plan
	planned  bool // plan is of this target's file; a file that does not parse has none
	noMounts bool // cache-mounts=off
	slow     bool // accelerate=off
	// toolchains is the repository of tool chain images; empty if none is to be used.
	toolchains string
	// verify is strict, warn or off; except are patterns of paths that may hold another machine's code; tests are run in the image.
	verify        string
	except, tests []string
	judgement     Judgement
}

// group is what the targets with equal options share: the options, and the Dockerfile read with them.
type group struct {
	opts map[string]string
	ui   *dockerui.Client
	src  *dockerui.Source
	// file is nil if the Dockerfile does not parse; parseErr says why.
	file     *dockerfile.File
	parseErr error
	// planner plans the file for the targets of the group; nil until it is planned, or if the file does not parse.
	planner *dockerfile.Planner
	inputs  *inputs
	// scripts are those of the build context that were asked for, by the files that they may be.
	scriptsMu sync.Mutex
	scripts   map[string]func() (text string, failed bool)
}

func newBuild(c client.Client) (*build, error) {
	request, rest, err := readRequest(c.BuildOpts().Opts)
	if err != nil {
		return nil, err
	}
	b := &build{client: c, request: request, rest: rest, groups: map[string]*group{}, images: map[string]dockerfile.BaseImage{}}
	b.host.Native = platforms.FromOCI(ctdplatforms.DefaultSpec())
	if workers := c.BuildOpts().Workers; len(workers) > 0 && len(workers[0].Platforms) > 0 {
		reported := make([]platforms.Platform, len(workers[0].Platforms))
		for i, p := range workers[0].Platforms {
			reported[i] = platforms.FromOCI(p)
		}
		if b.host, err = platforms.HostOf(reported); err != nil {
			return nil, err
		}
		b.hostKnown = true
	}
	return b, nil
}

// node is what the node can execute, as far as is known: while targets are built, one of them may find an emulator.
func (b *build) node() platforms.Host {
	b.hostMu.RLock()
	defer b.hostMu.RUnlock()
	return b.host
}

// open reads the Dockerfile with the given options, once for equal ones.
func (b *build) open(ctx context.Context, opts map[string]string) (*group, error) {
	key := fmt.Sprintf("%q", sortedPairs(opts))
	if g, ok := b.groups[key]; ok {
		return g, nil
	}
	inputs := &inputs{build: b, opts: maps.Clone(opts), states: map[string]*input{}}
	ui, err := dockerui.NewClient(withInputs{withOpts{b.client, inputs.opts}, inputs})
	if err != nil {
		return nil, err
	}
	src, err := ui.ReadEntrypoint(ctx, "Dockerfile")
	if err != nil {
		return nil, err
	}
	g := &group{opts: opts, ui: ui, src: src, inputs: inputs}
	g.file, g.parseErr = dockerfile.Parse(src.Filename, src.Data)
	if g.file != nil {
		inputs.add(g.file.Inputs())
	}
	b.groups[key] = g
	return g, nil
}

// openFirst reads the Dockerfile of the first target that the request names, or else of the build platform.
func (b *build) openFirst(ctx context.Context) (*group, error) {
	first := b.node().Native
	list, err := platforms.ParseList(b.rest[keyPlatform])
	named := err == nil && len(list) > 0
	if named {
		first = list[0]
	}
	opts, err := b.request.apply(b.rest, first)
	if err != nil {
		return nil, err
	}
	// dockerui reads the platforms too, and takes the missing parts of one from the machine it runs on.
	if delete(opts, keyPlatform); named {
		opts[keyPlatform] = platforms.Format(list)
	}
	return b.open(ctx, opts)
}

// resolve finds out what the targets are, and with which options and from which file each is built.
func (b *build) resolve(ctx context.Context, first *group) error {
	list, err := b.targetList(first)
	if err != nil {
		return err
	}
	all, err := b.withHeader(first)
	if err != nil {
		return err
	}
	if b.most, err = all.parallelism(); err != nil {
		return err
	}
	if len(list) > 0 {
		b.rest[keyPlatform] = platforms.Format(list)
	}
	if first.opts[keyPlatform] != b.rest[keyPlatform] {
		b.groups = map[string]*group{} // read without the platforms
	}
	for _, p := range list {
		b.targets = append(b.targets, &target{platform: p})
	}
	if len(list) == 0 {
		b.targets = []*target{{platform: b.node().Native, implicit: true}}
	}
	for _, t := range b.targets {
		if err := b.resolveTarget(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// targetList returns the platforms to build for: what the request asks for, else what the option platforms says.
func (b *build) targetList(first *group) ([]platforms.Platform, error) {
	list, err := platforms.ParseList(b.rest[keyPlatform])
	if err != nil || len(list) > 0 {
		return list, err
	}
	all, err := b.withHeader(first)
	if err != nil {
		return nil, err
	}
	s, ok, err := all.lookup(optionPlatforms, b.node().Native)
	if err != nil || !ok {
		return nil, err
	}
	return platforms.ParseList(s.value)
}

// resolveTarget opens the file a target is built from. The header of that file holds for the target; a header may
// send the target to another file, whose header then holds.
func (b *build) resolveTarget(ctx context.Context, t *target) error {
	opts, err := b.request.apply(b.rest, t.platform)
	if err != nil {
		return err
	}
	if t.group, err = b.open(ctx, opts); err != nil {
		return err
	}
	all, err := b.withHeader(t.group)
	if err != nil {
		return err
	}
	if opts, err = all.apply(b.rest, t.platform); err != nil {
		return err
	}
	if name := opts[optionFilename]; name != t.group.opts[optionFilename] {
		other, err := b.open(ctx, opts)
		if err != nil {
			return err
		}
		if all, err = b.withHeader(other); err != nil {
			return err
		}
		if opts, err = all.apply(b.rest, t.platform); err != nil {
			return err
		}
		opts[optionFilename] = name
	}
	if t.group, err = b.open(ctx, opts); err != nil {
		return err
	}
	if s, ok := foreignSyntax(b.rest, t.group.src.Data); ok {
		return fmt.Errorf("%s: its syntax line names %s, which cannot be built together with other files", t.group.src.Filename, s.ref)
	}
	if t.noMounts, err = all.off(optionCacheMounts, t.platform); err != nil {
		return err
	}
	if t.slow, err = all.off(optionAccelerate, t.platform); err != nil {
		return err
	}
	if t.toolchains, err = all.toolchains(t.platform); err != nil {
		return err
	}
	if t.verify, err = all.verify(t.platform); err != nil {
		return err
	}
	t.except = splitLists(all.several(optionExcept, t.platform), ",\n")
	t.tests = splitLists(all.several(optionTest, t.platform), "\n")
	t.strategy, err = all.strategy(t.platform)
	return err
}

// named lists the targets that somebody named.
func (b *build) named() []platforms.Platform {
	var out []platforms.Platform
	for _, t := range b.targets {
		if !t.implicit {
			out = append(out, t.platform)
		}
	}
	return out
}

// withHeader returns the request's settings and those of a file's header.
func (b *build) withHeader(g *group) (settings, error) {
	if bad, ok := errors.AsType[*dockerfile.HeaderError](g.parseErr); ok {
		return nil, withSource(bad, g.src.SourceMap, lineRange(bad.Line))
	}
	if g.file == nil {
		return b.request, nil
	}
	header, err := readHeader(g.file)
	return slices.Concat(b.request, header), err
}

// refuseOwnOptions is an error if the request holds options that the frontend it is passed on to would not see.
func (b *build) refuseOwnOptions(s syntax, g *group) error {
	origins := b.request.requested()
	if len(origins) == 0 {
		return nil
	}
	err := fmt.Errorf("%s are Manifold's, and %s asks for the frontend %s, which does not know them: remove the syntax line, or the options",
		strings.Join(origins, ", "), g.src.Filename, s.ref)
	return withSource(err, g.src.SourceMap, s.location)
}

// planTarget is a target as the planner takes it.
func (b *build) planTarget(t *target) dockerfile.Target {
	return dockerfile.Target{
		Platform: t.platform, Strategy: t.strategy, Stage: t.group.opts[optionTarget], BuildArgs: t.group.buildArgs(),
		Contexts: t.group.contexts(), NoCacheMounts: t.noMounts, NoAccelerate: t.slow || !b.hasAccelerator(),
		Toolchains: t.toolchains != "",
	}
}

// buildArgs are the arguments that the group is built with.
func (g *group) buildArgs() map[string]string {
	out := map[string]string{}
	for key, value := range g.opts {
		if name, ok := strings.CutPrefix(key, optionBuildArg); ok {
			out[name] = value
		}
	}
	return out
}

// contexts lists the named build contexts: "context:NAME", or "context:NAME::PLATFORM" for one that is for that platform only.
func (g *group) contexts() []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(g.opts)) {
		if key, ok := strings.CutPrefix(key, "context:"); ok {
			out = append(out, key)
		}
	}
	return out
}

// warn shows a plan's findings as warnings at their lines.
func (g *group) warn(ctx context.Context, findings []dockerfile.Finding) {
	for _, f := range g.wanted(findings) {
		g.src.Warn(ctx, linter.LintFormatShort(f.Rule, f.Message, f.Line), warnOpts(lineRange(f.Line), nil, ""))
	}
}

// wanted lists the findings that the file's check directive does not skip: for each line and rule the first, with the other targets
// it is true for.
func (g *group) wanted(findings []dockerfile.Finding) []dockerfile.Finding {
	checks, _, _, _ := parser.ParseDirective("check", g.src.Data) //nolint:dogsled // only what it says matters
	config, err := linter.ParseLintOptions(checks)
	if err != nil || config.SkipAll {
		return nil // the converter reports the directive
	}
	var out []dockerfile.Finding
	for _, f := range findings {
		i := slices.IndexFunc(out, func(o dockerfile.Finding) bool { return o.Line == f.Line && o.Rule == f.Rule })
		switch {
		case slices.Contains(config.SkipRules, f.Rule):
		case i < 0:
			out = append(out, f)
		case out[i].Target != f.Target && !strings.HasSuffix(out[i].Message, alsoOthers):
			out[i].Message += alsoOthers
		}
	}
	return out
}

// alsoOthers ends a finding that is true for more targets than the one it names.
const alsoOthers = " (and for other targets)"

// convertOpt is what dockerfile2llb converts the group's file with. Warnings are shown if asked for.
func (g *group) convertOpt(ctx context.Context, c client.Client, warn bool) dockerfile2llb.ConvertOpt {
	opt := dockerfile2llb.ConvertOpt{Config: g.ui.Config, Client: g.ui, SourceMap: g.src.SourceMap, MetaResolver: c}
	opt.BuildArgs = maps.Clone(opt.BuildArgs)
	if !warn {
		return opt
	}
	opt.Warn = func(rule, description, url, msg string, location []parser.Range) {
		line := 0
		if len(location) > 0 {
			line = location[0].Start.Line
		}
		g.src.Warn(ctx, linter.LintFormatShort(rule, msg, line), warnOpts(location, [][]byte{[]byte(description)}, url))
	}
	return opt
}

func sortedPairs(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k, m[k])
	}
	return out
}
