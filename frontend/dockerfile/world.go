package dockerfile

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// BaseImage is what a planner may know of an image that a stage is built FROM.
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

// world is what holds in a stage where an instruction is reached: what a RUN there would find.
type world struct {
	env       values
	dir, user string
	shell     []string
	shellLine int      // of the SHELL instruction, 0 if there is none
	onBuild   []string // what the stages built from it run first
	onLine    int
}

func (w world) clone() world {
	w.env = maps.Clone(w.env)
	w.onBuild = slices.Clone(w.onBuild)
	return w
}

// defaultImages are what images are taken to set where nobody looked: the ones whose settings a Dockerfile commonly
// relies on without saying so. The key is the last part of the image's name.
var defaultImages = map[string]BaseImage{
	"golang": {Env: []string{"GOPATH=/go", "PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, WorkingDir: "/go"},
	"gradle": {WorkingDir: "/home/gradle"},
	"rust":   {Env: []string{"CARGO_HOME=/usr/local/cargo", "RUSTUP_HOME=/usr/local/rustup"}},
}

// worldOf is what a stage begins with.
func (g *graph) worldOf(n *node) world {
	if n.parent != nil {
		return g.endOf(n.parent).clone()
	}
	w := world{env: values{}, dir: "/"}
	base, ok := g.images[n.image]
	if !ok {
		base = defaultImages[imageName(n.image)]
		w.user = base.User
	}
	for _, kv := range base.Env {
		name, value, _ := strings.Cut(kv, "=")
		w.env[name] = value
	}
	if base.WorkingDir != "" {
		w.dir = base.WorkingDir
	}
	w.user, w.shell, w.onBuild = base.User, base.Shell, base.OnBuild
	w.onLine = n.line
	return w
}

// imageName is the last part of an image's name, without tag and digest.
func imageName(ref string) string {
	ref, _, _ = strings.Cut(ref, "@")
	ref = path.Base(ref)
	name, _, _ := strings.Cut(ref, ":")
	return name
}

// endOf is what holds at a stage's end.
func (g *graph) endOf(n *node) world {
	if n.end == nil {
		w := g.worldOf(n)
		for _, c := range n.body {
			g.advance(&w, c)
		}
		n.end = &w
	}
	return *n.end
}

// advance carries out an instruction on the world it is reached in.
func (g *graph) advance(w *world, c instructions.Command) {
	switch c := c.(type) {
	case *instructions.ArgCommand:
		before := maps.Clone(w.env)
		for _, a := range c.Args {
			if v, ok := g.argValue(before, *w, a); ok {
				w.env[a.Key] = v
			}
		}
	case *instructions.EnvCommand:
		before := maps.Clone(w.env)
		for _, kv := range c.Env {
			w.env[kv.Key] = g.word(before, kv.Value)
		}
	case *instructions.WorkdirCommand:
		dir := g.word(w.env, c.Path)
		switch {
		case strings.HasPrefix(dir, script.Unknown):
			w.dir = script.Unknown
		case path.IsAbs(dir):
			w.dir = path.Clean(dir)
		default:
			w.dir = path.Join(w.dir, dir)
		}
	case *instructions.UserCommand:
		w.user = g.word(w.env, c.User)
	case *instructions.ShellCommand:
		w.shell, w.shellLine = c.Shell, lineOf(c)
	case *instructions.OnbuildCommand:
		w.onBuild, w.onLine = append(w.onBuild, c.Expression), lineOf(c)
	}
}

// argValue is the value an ARG instruction gives, in the order of BuildKit: what the user passed, the default, what was
// declared before the first FROM or is automatic; and what Manifold predefines, where the stage has no value yet.
func (g *graph) argValue(env values, w world, a instructions.KeyValuePairOptional) (string, bool) {
	if v, ok := g.target.BuildArgs[a.Key]; ok {
		return v, true
	}
	if a.Value != nil {
		return g.word(env, *a.Value), true
	}
	if v, ok := g.global[a.Key]; ok {
		return v, true
	}
	if _, ok := w.env[a.Key]; ok {
		return "", false
	}
	v, ok := g.predefined[a.Key]
	return v, ok
}

// word expands a word of an instruction; one that does not expand is unknown, and the converter reports it.
func (g *graph) word(env values, word string) string {
	if !strings.ContainsAny(word, `$"'`+string(g.file.escape)) {
		return word
	}
	res, err := shell.NewLex(g.file.escape).ProcessWordWithMatches(word, env)
	if err != nil {
		return script.Unknown
	}
	return res.Result
}

func lineOf(c instructions.Command) int {
	first, _ := lines(c.Location())
	return first
}
