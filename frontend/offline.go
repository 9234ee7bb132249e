package frontend

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerui"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

// PlanOffline plans without a node: for the options of a gateway request and the native platform of a host that is taken to have
// an emulator for every target. Dockerfiles are read with read, and scripts that they run from the build context; nil means that there is none. Other probes
// stay open.
func PlanOffline(opts map[string]string, native platforms.Platform, read func(name string) ([]byte, error), context fs.FS) (Plan, error) {
	request, rest, err := readRequest(opts)
	if err != nil {
		return Plan{}, err
	}
	b := &build{request: request, rest: rest, groups: map[string]*group{}, hostKnown: true}
	b.host.Native = native
	files := offline{b, read}
	first, err := files.target(native)
	if err != nil {
		return Plan{}, err
	}
	list, err := b.targetList(first.group)
	if err != nil {
		return Plan{}, err
	}
	if len(list) == 0 {
		list = []platforms.Platform{native}
	}
	b.host.Emulated = list
	for _, p := range list {
		t, err := files.target(p)
		if err != nil {
			return Plan{}, err
		}
		b.targets = append(b.targets, t)
	}
	refused := b.planFiles()
	for range maxRounds {
		if context == nil || !b.answerScripts(context) {
			break
		}
		refused = b.planFiles()
	}
	var errs []error
	for _, se := range refused {
		errs = append(errs, se)
	}
	out := b.answer(errors.Join(errs...))
	seen := map[*group]bool{}
	for _, t := range b.targets {
		if !seen[t.group] {
			out.Findings = append(out.Findings, t.group.wanted(t.plan.Findings)...)
		}
		seen[t.group] = true
	}
	return out, nil
}

// offline reads Dockerfiles without a node.
type offline struct {
	*build

	read func(name string) ([]byte, error)
}

// target reads the file that a target is built from, as resolveTarget does with a node.
func (o offline) target(p platforms.Platform) (*target, error) {
	opts, err := o.request.apply(o.rest, p)
	if err != nil {
		return nil, err
	}
	t := &target{platform: p}
	if t.group, err = o.open(opts); err != nil {
		return nil, err
	}
	all, err := o.withHeader(t.group)
	if err != nil {
		return nil, err
	}
	name := t.group.opts[optionFilename]
	if opts, err = all.apply(o.rest, p); err != nil {
		return nil, err
	}
	if opts[optionFilename] != name {
		if t.group, err = o.open(opts); err != nil {
			return nil, err
		}
		if all, err = o.withHeader(t.group); err != nil {
			return nil, err
		}
	}
	if t.group, err = o.open(opts); err != nil {
		return nil, err
	}
	if t.noMounts, err = all.off(optionCacheMounts, p); err != nil {
		return nil, err
	}
	if t.slow, err = all.off(optionAccelerate, p); err != nil {
		return nil, err
	}
	if t.toolchains, err = all.toolchains(p); err != nil {
		return nil, err
	}
	t.strategy, err = all.strategy(p)
	return t, err
}

// open reads and parses a Dockerfile, once for equal options.
func (o offline) open(opts map[string]string) (*group, error) {
	key := strings.Join(sortedPairs(opts), "\x00")
	if g, ok := o.groups[key]; ok {
		return g, nil
	}
	name := opts[optionFilename]
	if name == "" {
		name = "Dockerfile"
	}
	src, err := o.read(name)
	if err != nil {
		return nil, err
	}
	g := &group{opts: opts, src: &dockerui.Source{SourceMap: &llb.SourceMap{Filename: name, Data: src}}}
	if g.file, err = dockerfile.Parse(name, src); err != nil {
		return nil, err
	}
	o.groups[key] = g
	return g, nil
}
