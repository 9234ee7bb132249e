package stage

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/manifold-build/manifold/frontend/dockerfile/effect"
	"github.com/manifold-build/manifold/frontend/dockerfile/script"
	"github.com/manifold-build/manifold/frontend/dockerfile/source"
)

// RulePrebuiltForOne is the finding for a file that is copied from the context and whose name says that it is for another architecture.
const RulePrebuiltForOne = "PrebuiltForOneArchitecture"

// fold reads one stage.
type fold struct {
	req Request
	w   World
	out *Reading
	// paths is what was found of the PATH that was last asked for.
	paths searched
}

// Read reads a stage.
func Read(req Request) *Reading {
	f := &fold{req: req, out: &Reading{Edits: map[int]*Edit{}, Files: &Files{marks: make([]mark, 0, usualMarks)}}}
	if p := req.Parent; p != nil {
		f.out.Files, f.out.tools = p.Files.clone(), p.tools.Clone()
	}
	if req.Parent != nil && !req.Parent.portable {
		req.Target.Ask()
	}
	f.w = req.begin()
	f.beginning()
	for _, c := range req.Stage.Body {
		f.instruction(c)
		req.advance(&f.w, c)
	}
	f.out.End = f.w
	f.out.portable = !req.Target.Asked()
	return f.out
}

// beginning looks at what the stage is built FROM.
func (f *fold) beginning() {
	s, image := f.req.Stage, f.req.Image
	if len(f.w.onBuild) > 0 {
		f.block(effect.Reason{Line: s.Line, Why: effect.Stage, Clause: fmt.Sprintf("its base has ONBUILD instructions (line %d), which run in it", f.w.onLine)})
	}
	if f.req.Parent != nil {
		return
	}
	if word := effect.ArchWord(image); word != "" {
		f.block(effect.Reason{Line: s.Line, Why: effect.Named, Clause: fmt.Sprintf("its base image %s is named for %s", image, word)})
	}
	if f.req.Replaced(image) {
		f.block(effect.Reason{Line: s.Line, Why: effect.Stage, Clause: "a build context replaces its base image " + image})
	}
	if not := f.req.Images[image].NotFor; not != "" {
		f.block(effect.Reason{Line: s.Line, Why: effect.Stage, Clause: fmt.Sprintf("its base image %s %s", image, not)})
	}
	if s.Fixed && s.Platform == "" {
		f.block(effect.Reason{Line: s.Line, Why: effect.Stage, Clause: "its FROM line is written in a way that is not read"})
	}
}

// block notes why the stage cannot move; the first reason stays.
func (f *fold) block(r effect.Reason) {
	if f.out.Blocked.Clause == "" {
		f.out.Blocked = r
	}
}

func (f *fold) blockf(line int, format string, args ...any) {
	f.block(effect.Reason{Line: line, Why: effect.Machine, Clause: fmt.Sprintf(format, args...)})
}

func (f *fold) findf(line int, rule, format string, args ...any) {
	f.out.Findings = append(f.out.Findings, effect.Finding{Line: line, Rule: rule, Message: fmt.Sprintf(format, args...)})
}

func (f *fold) instruction(c instructions.Command) {
	switch c := c.(type) {
	case *instructions.WorkdirCommand:
		after := f.w.clone()
		f.req.advance(&after, c)
		f.out.Files.make(after.Dir, source.LineOf(c))
	case *instructions.CopyCommand:
		f.copy(c)
	case *instructions.AddCommand:
		f.add(c)
	case *instructions.OnbuildCommand:
		// It runs in the stages built from this one.
	case *instructions.RunCommand:
		f.run(f.req.Stage.Run(c), c)
	}
}

// copy notes where a COPY puts files, and from where.
func (f *fold) copy(c *instructions.CopyCommand) {
	line := source.LineOf(c)
	dest := f.destination(c.DestPath)
	f.copied(dest, c.SourcePaths, plainCopy(c))
	from := f.req.word(f.w.Env, c.From)
	if c.From == "" {
		f.lintCopy(c)
		f.place(dest, c.SourcePaths, strings.HasSuffix(c.DestPath, "/"), line)
		f.made(dest, c.SourcePaths, line)
		return
	}
	if i := f.req.File.FindSource(from); i >= 0 {
		for _, src := range c.SourcePaths {
			src = path.Join("/", f.req.word(f.w.Env, src))
			f.out.Takes = append(f.out.Takes, Take{Stage: i, Path: src, To: into(dest, src, len(c.SourcePaths) > 1), Line: line})
			f.programsOf(i, src, dest, line)
		}
		f.made(dest, c.SourcePaths, line)
		return
	}
	if f.req.Replaced(from) {
		for range c.SourcePaths {
			f.toolsOfTarget(dest, line)
		}
		f.made(dest, c.SourcePaths, line)
		return
	}
	f.input(c, from, line)
	for _, src := range c.SourcePaths {
		if !f.out.Files.isData(path.Join("/", f.req.word(f.w.Env, src))) {
			f.out.Files.spoil(dest, line, "is copied from the image "+from+" on line "+strconv.Itoa(line))
			return
		}
	}
	f.made(dest, c.SourcePaths, line)
}

// into is where a path is put: in the destination if that is a directory, else to it; what a pattern matches lies below.
func into(dest, src string, several bool) string {
	if strings.HasPrefix(dest, script.Unknown) {
		return script.Unknown
	}
	if several || strings.HasSuffix(dest, "/") || effect.IsSystemDir(dest) {
		return path.Join(dest, path.Base(src))
	}
	return dest
}

// input notes an image whose files the stage takes: in a moved stage they are to be the build platform's, as the stage is.
func (f *fold) input(c instructions.Command, image string, line int) {
	edits, ok := f.req.File.ReplaceFrom(c, image, InputName(image))
	if !ok {
		f.blockf(line, "takes files from the image %s in a way that is not read", image)
		return
	}
	if not := f.req.Images[image].NotFor; not != "" {
		f.blockf(line, "takes files from the image %s, which %s", image, not)
	}
	f.out.Inputs = append(f.out.Inputs, Input{Name: image, Edits: edits})
}

// programsOf notes programs that are copied or mounted from another stage to where programs are found: if that stage stays on the target,
// they are the target's. What a stage makes with Go runs either way, under emulation.
func (f *fold) programsOf(stage int, src, dest string, line int) {
	if !effect.IsSystemDir(dest) && !effect.IsSystemDir(path.Dir(dest)) && !within(dest, "/usr/local") {
		return
	}
	made := f.req.Other(stage)
	if made != nil && !made.portable {
		f.req.Target.Ask()
	}
	to := dest
	if effect.IsSystemDir(dest) && !strings.ContainsAny(src, "*?[") {
		to = path.Join(dest, path.Base(src))
	}
	switch {
	case made == nil:
		// Its programs are unknown, and so is what runs them.
	case made.Files.isData(src):
	case made.Files.isProgram(src, "") && made.Blocked.Clause == "":
		f.out.Files.program(to, line)
	default:
		f.toolsOfTarget(to, line)
	}
}

// toolsOfTarget notes programs of the target where programs may be found.
func (f *fold) toolsOfTarget(to string, line int) {
	f.out.Files.add(mark{path: to, class: Own, tool: true, line: line})
}

func (f *fold) add(c *instructions.AddCommand) {
	line := source.LineOf(c)
	dest := f.destination(c.DestPath)
	f.copied(dest, c.SourcePaths, plainAdd(c))
	f.place(dest, c.SourcePaths, strings.HasSuffix(c.DestPath, "/"), line)
	for _, src := range c.SourcePaths {
		expanded := f.req.word(f.w.Env, src)
		word := effect.ArchWord(expanded)
		if word == "" || !strings.Contains(src, "://") {
			continue
		}
		if finding, ok := effect.LintDownload(expanded, line, f.req.Target.Platform()); ok {
			f.out.Findings = append(f.out.Findings, finding)
		}
		if !effect.NamedForTarget(expanded, f.req.Target.Platform(), f.req.Build) || !script.Known(expanded+dest) {
			f.blockf(line, "adds %s, which is named for %s", src, word)
			continue
		}
		to := into(dest, expanded, strings.HasSuffix(c.DestPath, "/") || len(c.SourcePaths) > 1)
		f.out.Files.program(to, line)
		f.toolsOfTarget(to, line)
	}
	f.made(dest, c.SourcePaths, line)
}

// made notes that sources are put at a destination: into it if it is a directory.
func (f *fold) made(dest string, sources []string, line int) {
	if !effect.IsSystemDir(dest) {
		f.out.Files.make(dest, line)
		return
	}
	for _, src := range sources {
		f.out.Files.make(path.Join(dest, path.Base(f.req.word(f.w.Env, src))), line)
	}
}

// destination is the absolute path that an instruction copies to.
func (f *fold) destination(word string) string {
	dest := f.req.word(f.w.Env, word)
	switch {
	case strings.HasPrefix(dest, script.Unknown):
		return script.Unknown
	case path.IsAbs(dest):
		return path.Clean(dest)
	default:
		return path.Join(f.w.Dir, dest)
	}
}

// lintCopy finds a prebuilt file for one architecture.
func (f *fold) lintCopy(c *instructions.CopyCommand) {
	for _, src := range c.SourcePaths {
		src = f.req.word(f.w.Env, src)
		if word := f.foreignWord(path.Base(src)); word != "" && !f.copiesForTarget() {
			f.findf(source.LineOf(c), RulePrebuiltForOne, "%s is named for %s, and the target is %s; name it by a variable such as $TARGETARCH", src, word, f.req.Target.Platform())
		}
	}
}

// foreignWord returns the architecture written in a name, if it is not the target's.
func (f *fold) foreignWord(name string) string {
	if effect.ArchWord(name) == "" {
		return ""
	}
	return effect.ForeignWord(name, f.req.Target.Platform())
}

// copiesForTarget reports whether the stage copies a file that is named for the target: then it brings one for each.
func (f *fold) copiesForTarget() bool {
	for _, c := range f.req.Stage.Body {
		c, ok := c.(*instructions.CopyCommand)
		if !ok {
			continue
		}
		for _, src := range c.SourcePaths {
			if effect.ArchWord(src) != "" && f.foreignWord(src) == "" {
				return true
			}
		}
	}
	return false
}
