package stage

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
	"github.com/manifold-build/manifold/frontend/dockerfile/source"
)

// Values are variables by name.
type Values map[string]string

// Get and Keys make values a shell.EnvGetter.
func (v Values) Get(key string) (string, bool) {
	s, ok := v[key]
	return s, ok
}

// Keys lists the names, sorted.
func (v Values) Keys() []string { return slices.Sorted(maps.Keys(v)) }

var _ shell.EnvGetter = Values{}

// BaseImage is what a planner may know of an image that a stage is built FROM or takes files from.
type BaseImage struct {
	// Env holds its variables, each as NAME=value.
	Env []string
	// WorkingDir and User are as in its config; empty means / and root.
	WorkingDir, User string
	// Shell is what runs a RUN instruction's text; empty means /bin/sh -c.
	Shell []string
	// OnBuild holds the instructions that run in each stage built from it.
	OnBuild []string
	// NotFor says, as a clause, that the image is not there for the build platform; empty means that it is.
	NotFor string
}

// World is what holds in a stage where an instruction is reached: what a RUN there would find.
type World struct {
	// Env are the variables, Dir is the working directory and User who runs it.
	Env       Values
	Dir, User string
	// Shell is what runs a RUN instruction's text; empty means /bin/sh -c.
	Shell   []string
	origins origins
	placed  []placed
	onBuild []string // what the stages built from it run first
	onLine  int
}

func (w World) clone() World {
	w.Env = maps.Clone(w.Env)
	w.onBuild, w.origins = slices.Clone(w.onBuild), slices.Clip(w.origins)
	return w
}

// defaultImages are what images are taken to set where nobody looked: the ones whose settings a Dockerfile commonly
// relies on without saying so. The key is the last part of the image's name.
var defaultImages = map[string]BaseImage{
	"golang": {Env: []string{"GOPATH=/go", "PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, WorkingDir: "/go"},
	"gradle": {WorkingDir: "/home/gradle"},
	"rust":   {Env: []string{"CARGO_HOME=/usr/local/cargo", "RUSTUP_HOME=/usr/local/rustup"}},
}

// begin is what a stage begins with.
func (req Request) begin() World {
	if req.Parent != nil {
		return req.Parent.End.clone()
	}
	base, ok := req.Images[req.Image]
	if !ok {
		base = defaultImages[imageName(req.Image)]
	}
	w := World{Env: Values{}, Dir: "/", User: base.User, Shell: base.Shell, onBuild: base.OnBuild, onLine: req.Stage.Line}
	for _, kv := range base.Env {
		name, value, _ := strings.Cut(kv, "=")
		w.Env[name] = value
	}
	if base.WorkingDir != "" {
		w.Dir = base.WorkingDir
	}
	return w
}

// imageName is the last part of an image's name, without tag and digest.
func imageName(ref string) string {
	ref, _, _ = strings.Cut(ref, "@")
	name, _, _ := strings.Cut(path.Base(ref), ":")
	return name
}

// advance carries out an instruction on the world it is reached in.
func (req Request) advance(w *World, c instructions.Command) {
	switch c := c.(type) {
	case *instructions.ArgCommand:
		// One after the other: B=$A sees what A was given before it in the same instruction (dockerfile2llb, dispatchArg).
		for _, a := range c.Args {
			if v, ok := req.argValue(*w, a); ok {
				w.Env[a.Key] = v
			}
		}
	case *instructions.EnvCommand:
		before := maps.Clone(w.Env)
		for _, kv := range c.Env {
			w.Env[kv.Key] = req.word(before, kv.Value)
		}
	case *instructions.WorkdirCommand:
		dir := req.word(w.Env, c.Path)
		switch {
		case strings.HasPrefix(dir, script.Unknown):
			w.Dir = script.Unknown
		case path.IsAbs(dir):
			w.Dir = path.Clean(dir)
		default:
			w.Dir = path.Join(w.Dir, dir)
		}
	case *instructions.UserCommand:
		w.User = req.word(w.Env, c.User)
	case *instructions.ShellCommand:
		w.Shell = c.Shell
	case *instructions.OnbuildCommand:
		w.onBuild, w.onLine = append(w.onBuild, c.Expression), source.LineOf(c)
	}
}

// argValue is the value an ARG instruction gives, in the order of BuildKit: what the user passed, the default, what was
// declared before the first FROM or is automatic; and what Manifold predefines, where the stage has no value yet.
func (req Request) argValue(w World, a instructions.KeyValuePairOptional) (string, bool) {
	if v, ok := req.BuildArgs[a.Key]; ok {
		return v, true
	}
	if a.Value != nil {
		return req.word(w.Env, *a.Value), true
	}
	if v, ok := req.Global[a.Key]; ok {
		req.Target.Ask()
		return v, true
	}
	if _, ok := w.Env[a.Key]; ok {
		return "", false
	}
	v, ok := req.Predefined[a.Key]
	if ok {
		req.Target.Ask()
	}
	return v, ok
}

// word expands a word of an instruction; one that does not expand is unknown, and the converter reports it.
func (req Request) word(env Values, word string) string {
	if !strings.ContainsAny(word, `$"'`+string(req.File.Escape)) {
		return word
	}
	res, err := shell.NewLex(req.File.Escape).ProcessWordWithMatches(word, env)
	if err != nil {
		return script.Unknown
	}
	return res.Result
}
