package stage

import (
	"fmt"
	"maps"
	"slices"

	"github.com/manifold-build/manifold/frontend/dockerfile/effect"
	"github.com/manifold-build/manifold/frontend/dockerfile/script"
	"github.com/manifold-build/manifold/frontend/dockerfile/source"
	"github.com/manifold-build/manifold/platforms"
)

// ask asks a question about the RUN, or reads the answer if there is one.
func (f *runFold) ask(q Question, c effect.Call, g effect.GoCommand) {
	answer, ok := f.req.Answers[q]
	switch {
	case !ok:
		if !slices.Contains(f.out.Questions, q) {
			f.out.Questions = append(f.out.Questions, q)
		}
	case answer.Failed:
		what := "cgo"
		if q.Kind == effect.Make {
			what = "make"
		}
		f.blockf(c.Line, ": the %s probe did not succeed", what)
	case q.Kind == effect.Cgo:
		f.answerCgo(answer.Text, c, g.Dir)
	case q.Kind == effect.Make:
		f.answerMake(answer.Text, c)
	}
}

// answerCgo reads what was found about compilations. At least as many commands have to be answered as are certain to run.
func (f *runFold) answerCgo(text string, c effect.Call, dir string) {
	a := effect.ReadCgoAnswer(text)
	for _, line := range a.Runs {
		f.lines(line, dir, c)
	}
	switch {
	case a.Package != "":
		f.block(effect.Reason{Line: c.Line, Why: effect.NeedsCgo, Clause: "builds " + a.Package + ", which needs cgo"})
	case a.Runner != "":
		f.block(effect.Reason{Line: c.Line, Why: effect.NeedsCgo, Clause: fmt.Sprintf("runs \"go run %s\", which runs other programs and may build with cgo", a.Runner)})
	case a.Said != "":
		f.blockf(c.Line, ": the cgo probe said %q", a.Said)
	case a.Generated && len(f.compiles) > 0 && !a.NoCompiler:
		f.blockf(c.Line, ": what go generate compiles may need cgo")
	case a.Found == 0 || a.Found < f.asked:
		f.blockf(c.Line, ": the cgo probe saw %d of %d compilations", a.Found, max(f.asked, 1))
	}
}

// answerMake reads what make would run.
func (f *runFold) answerMake(text string, c effect.Call) {
	f.makes++
	a, said, ok := effect.ReadMakeAnswer(effect.Section(text, f.makes), c.Dir)
	if !ok {
		f.blockf(c.Line, ": the make probe said %q", said)
		return
	}
	want := f.makeEnv(c)
	for _, v := range a.Vars {
		switch {
		case v.Value == want[v.Name]:
		case v.Name == "GOFLAGS" || v.Name == "GOCACHE":
			f.exported = append(f.exported, platforms.NameValue{Name: v.Name, Value: v.Value}) // judged where go is run
		default:
			f.blockf(c.Line, ": a makefile sets %s to %q", v.Name, v.Value)
		}
	}
	if build := f.req.Build.OS + "/" + f.req.Build.Architecture; a.Keeps(build) {
		f.blockf(c.Line, ": make keeps what \"go version\" prints, which names the machine")
	}
	for _, l := range a.Lines {
		f.lines(l.Text, l.Dir, c)
	}
	f.askBehind(c)
}

// askBehind has what make compiles asked about, each command in its directory.
func (f *runFold) askBehind(c effect.Call) {
	if len(f.compiles) == 0 {
		return
	}
	q := Question{Kind: effect.Cgo, Line: f.run.Line, Before: c.Offset}
	for _, g := range f.compiles {
		text, ok := g.Script()
		if !ok {
			f.blockf(c.Line, ": make compiles what is only known when it runs")
			return
		}
		q.Commands += text
	}
	asked := f.asked
	f.asked = len(f.compiles)
	f.ask(q, c, effect.GoCommand{Call: c})
	f.asked = asked
}

// makeEnv is the environment that make runs in: the RUN's own, and what is put before it.
func (f *runFold) makeEnv(c effect.Call) map[string]string {
	env := map[string]string{}
	for _, name := range effect.GoNames() {
		if v, ok := c.Getenv(name); ok {
			env[name] = v
		}
	}
	for _, v := range append(slices.Clone(f.edit.Env), f.exported...) {
		env[v.Name] = v.Value
	}
	return env
}

// lines reads a script that is run in a directory with the RUN's environment.
func (f *runFold) lines(text, dir string, c effect.Call) {
	s, err := script.Parse(text)
	if err != nil {
		f.blockf(c.Line, ": what is run behind it is not read (%v)", err)
		return
	}
	env := maps.Clone(f.env)
	maps.Copy(env, f.makeEnv(c))
	if v, _ := c.Getenv("CGO_ENABLED"); v == "" {
		delete(env, "CGO_ENABLED") // what is put there is not the user's word
	}
	in := &runFold{
		fold: f.fold, run: &source.Run{Line: c.Line, Form: source.ShellForm}, text: text, env: env, dir: dir, edit: &Edit{}, behind: true, compiles: f.compiles,
	}
	in.read = s.Read(script.Options{Vars: env, Dir: dir, Output: in.prints})
	for _, p := range in.read.Problems {
		f.blockf(c.Line, ": what is run behind it %s", p.What)
	}
	for i, c := range in.read.Commands {
		in.command(i, c)
	}
	f.compiles = in.compiles
	f.adopt(in.edit, c)
}

// adopt takes over what commands behind a make need. What they set themselves is in the lines that make prints.
func (f *runFold) adopt(e *Edit, c effect.Call) {
	if e.GoEnv || e.Install != nil && len(e.Unset) > 0 {
		f.blockf(c.Line, ": make empties a variable of Go's")
	}
	for _, v := range e.Env {
		if !slices.Contains(f.edit.Env, v) {
			f.edit.Env = append(f.edit.Env, v)
		}
	}
	if e.Install != nil {
		f.edit.Install = e.Install
	}
}
