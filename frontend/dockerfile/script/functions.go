package script

import (
	"maps"
	"slices"

	"mvdan.cc/sh/v3/syntax"
)

// functions are those that a script has defined so far. It is immutable.
type functions map[string]function

// function is what a name may stand for.
type function struct {
	// bodies are those that it was given on the ways that lead here; perhaps: on one of them it was given none.
	bodies  []*syntax.Stmt
	perhaps bool
}

// with returns the functions after a definition.
func (f functions) with(name string, body *syntax.Stmt) functions {
	out := maps.Clone(f)
	if out == nil {
		out = functions{}
	}
	out[name] = function{bodies: []*syntax.Stmt{body}}
	return out
}

// without returns the functions after "unset -f".
func (f functions) without(name string) functions {
	if _, ok := f[name]; !ok {
		return f
	}
	out := maps.Clone(f)
	delete(out, name)
	return out
}

// or returns the functions after one of two ways: what either defined may be meant.
func (f functions) or(g functions) functions {
	if len(f) == 0 && len(g) == 0 {
		return f
	}
	out := functions{}
	for _, way := range []functions{f, g} {
		for name, fn := range way {
			have := out[name]
			for _, body := range fn.bodies {
				if !slices.Contains(have.bodies, body) {
					have.bodies = append(slices.Clip(have.bodies), body)
				}
			}
			_, inF := f[name]
			_, inG := g[name]
			have.perhaps = have.perhaps || fn.perhaps || !inF || !inG
			out[name] = have
		}
	}
	return out
}

func (f functions) bodies(name string) []*syntax.Stmt { return f[name].bodies }

// afterBody is "f() { …; } && g" as shells read it: the definition, and then what follows.
func afterBody(f *syntax.FuncDecl, whole *syntax.BinaryCmd) *syntax.BinaryCmd {
	out := *whole
	left := *whole.X
	if inner, ok := left.Cmd.(*syntax.BinaryCmd); ok {
		left.Cmd = afterBody(f, inner)
	} else {
		def := *f
		def.Body = whole.X
		left = syntax.Stmt{Cmd: &def, Position: left.Position}
	}
	out.X = &left
	return &out
}

// chained is "g && f() { …; } || h" as shells read it, from left to right: the parser takes "|| h" for a part of the body.
func chained(b *syntax.BinaryCmd) *syntax.BinaryCmd {
	f, ok := b.Y.Cmd.(*syntax.FuncDecl)
	if !ok || !isList(b) {
		return b
	}
	whole, ok := f.Body.Cmd.(*syntax.BinaryCmd)
	if !ok || !isList(whole) {
		return b
	}
	return chained(behind(b, f, whole)) // what follows may be a definition again
}

// behind puts what is left of a function's name, and the definition, before the first part of what the parser took for the function's body.
func behind(b *syntax.BinaryCmd, f *syntax.FuncDecl, whole *syntax.BinaryCmd) *syntax.BinaryCmd {
	out, left := *whole, *whole.X
	if inner, ok := left.Cmd.(*syntax.BinaryCmd); ok && isList(inner) {
		left.Cmd = behind(b, f, inner)
	} else {
		def, first, y := *f, *b, *b.Y
		def.Body = whole.X
		y.Cmd = &def
		first.Y = &y
		left = syntax.Stmt{Cmd: &first, Position: b.X.Position}
	}
	out.X = &left
	return &out
}

func isList(b *syntax.BinaryCmd) bool { return b.Op == syntax.AndStmt || b.Op == syntax.OrStmt }

// bodyOf is a function's body, without what follows it.
func bodyOf(f *syntax.FuncDecl) *syntax.Stmt {
	body := f.Body
	for {
		whole, ok := body.Cmd.(*syntax.BinaryCmd)
		if !ok {
			return body
		}
		body = whole.X
	}
}

// callFunction reads the functions that a name may stand for. Not ok means that it may stand for a command too, which is still to be read.
func (w *walker) callFunction(st, env *state, n syntax.Node, fn function, params []string) (o outcome, ok bool) {
	if len(fn.bodies) == 1 && !fn.perhaps {
		return w.function(st, env, n, fn.bodies[0], params), true
	}
	ways := []*state{}
	for _, body := range fn.bodies {
		way, wayEnv := st.branch(), env.branch()
		w.function(way, wayEnv, n, body, params)
		ways = append(ways, way)
	}
	if fn.perhaps {
		not := *st
		ways = append(ways, &not)
	}
	st.join(ways...)
	return either, !fn.perhaps
}

// function reads the body of a function where it is called.
func (w *walker) function(st, env *state, n syntax.Node, body *syntax.Stmt, params []string) outcome {
	if w.depth >= maxDepth {
		w.problemf(n, "calls functions too deeply")
		return either
	}
	within := w.within
	if within == nil {
		at := w.place(n)
		w.within = &at
	}
	w.depth++
	in := *env
	in.params, in.locals, in.returns = params, &[]kept{}, &[]*state{}
	o := w.stmt(&in, body)
	if len(*in.returns) > 0 {
		end := in
		in.dead = false
		in.join(append(*in.returns, &end)...)
		o = either
	}
	for _, name := range env.vars.since(st.vars) { // NAME=value before the call: shells differ in whether it stays
		if was := st.vars.get(name); in.vars.get(name) != was {
			in.vars = in.vars.with(name, variable{value: Unknown, set: true, perhaps: true})
		}
	}
	for _, l := range slices.Backward(*in.locals) {
		in.vars = in.vars.with(l.name, l.was)
	}
	st.vars, st.dir, st.funcs, st.exports, st.dead = in.vars, in.dir, in.funcs, in.exports, in.dead
	st.stops = in.stops
	st.quiet, st.left, st.certain = in.quiet, st.left || in.left, st.certain && in.certain
	w.depth--
	w.within = within
	return o
}

// trapped is a script that a trap runs.
type trapped struct {
	at   syntax.Node
	text string
	st   *state
}

// readTraps reads what traps run, when all else is read: they run at any time, so that everything the script assigns is unknown to them,
// and the functions are those of the end.
func (w *walker) readTraps(end *state, script []*syntax.Stmt) {
	for i := 0; i < len(w.traps); i++ { //nolint:intrange // a trap may set another
		t := w.traps[i]
		way := t.st.branch()
		way.dead, way.dir, way.fatal = false, Unknown, false
		way.funcs = way.funcs.or(end.funcs)
		w.forgetAssigned(way, script)
		for _, text := range w.texts {
			w.forgetAssigned(way, text)
		}
		w.nested(way, t.at, t.text)
	}
}
