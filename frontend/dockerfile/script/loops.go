package script

import (
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

func (w *walker) forClause(st *state, c *syntax.ForClause) outcome {
	iter, ok := c.Loop.(*syntax.WordIter)
	if !ok {
		w.substitutions(st, c.Loop)
		return w.loop(st, nil, c.Do)
	}
	items := slices.Clone(st.params)
	if iter.InPos.IsValid() {
		items = w.fields(st, iter.Items)
	}
	sure := len(items) <= maxRounds && !slices.ContainsFunc(items, func(s string) bool { return !Known(s) || isGlob(s) }) && !leaves(c.Do)
	if !sure {
		way := *st
		w.forgetAssigned(&way, c.Do)
		st.exports = way.exports // a later round may assign the name under another set -a
		w.setVar(st, iter.Name.Value, Unknown)
		return w.loop(st, nil, c.Do)
	}
	fatal := st.fatal
	for i, item := range items {
		if st.dead {
			break
		}
		w.setVar(st, iter.Name.Value, item)
		st.fatal = fatal && i == len(items)-1
		w.inBlock(st, c.Do)
	}
	st.fatal = fatal
	return assumed
}

// loop reads the body of a loop whose rounds are not known: what it assigns is unknown from the start.
func (w *walker) loop(st *state, cond, body []*syntax.Stmt) outcome {
	all := append(slices.Clone(cond), body...)
	w.forgetAssigned(st, cond) // it is always tried
	not := *st
	way := st.branch()
	way.fatal, not.fatal = false, false
	w.forgetAssigned(way, all)
	w.stmts(way, all)
	st.join(way, &not)
	w.forgetAssigned(st, all) // break may have left it anywhere
	return assumed
}

// forgetAssigned makes unknown what the statements may assign, also by the functions they may call, and the working directory if they may
// change it.
func (w *walker) forgetAssigned(st *state, body []*syntax.Stmt) {
	seen := map[*syntax.Stmt]bool{}
	var forget func([]*syntax.Stmt)
	visit := func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Assign:
			if n.Name != nil && !n.Naked {
				w.setVar(st, n.Name.Value, Unknown)
			}
		case *syntax.DeclClause:
			for _, a := range n.Args {
				if a.Name != nil { // whether it is exported may change
					st.vars = st.vars.with(a.Name.Value, variable{value: Unknown, set: true, perhaps: true})
				}
			}
		case *syntax.FuncDecl: // a later round may call what an earlier one defines
			if n.Name != nil {
				st.funcs = st.funcs.or(st.funcs.with(n.Name.Value, bodyOf(n)))
			}
		case *syntax.WordIter:
			w.setVar(st, n.Name.Value, Unknown)
		case *syntax.ParamExp:
			if n.Param != nil && n.Exp != nil && (n.Exp.Op == syntax.AssignUnset || n.Exp.Op == syntax.AssignUnsetOrNull) {
				w.setVar(st, n.Param.Value, Unknown)
			}
		case *syntax.CallExpr:
			forget(w.forgetCall(st, n))
		case *syntax.UnaryArithm, *syntax.BinaryArithm:
			w.forgetArithm(st, n)
		}
		return true
	}
	forget = func(list []*syntax.Stmt) {
		for _, s := range list {
			if !seen[s] {
				seen[s] = true
				syntax.Walk(s, visit)
			}
		}
	}
	forget(body)
	if st.exports == either { // which holds for what was assigned before it was found
		clear(seen)
		forget(body)
	}
}

// forgetCall makes unknown what a builtin that is called by its name may change, and returns the bodies of the functions of that name.
func (w *walker) forgetCall(st *state, n *syntax.CallExpr) []*syntax.Stmt {
	if len(n.Args) == 0 {
		return nil
	}
	name := n.Args[0].Lit()
	switch name {
	case "eval":
		return w.evaluated(n)
	case "cd", "pushd", "popd":
		st.dir = Unknown
	case "read", "mapfile", "readarray", "getopts", "unset", "printf":
		for _, a := range n.Args[1:] {
			if syntax.ValidName(a.Lit()) && name != "printf" || name == "printf" && a != n.Args[1] && n.Args[1].Lit() == "-v" {
				w.setVar(st, a.Lit(), Unknown)
			}
		}
	case "set", "shift":
		st.params = []string{Unknown}
		if name == "set" && slices.ContainsFunc(n.Args[1:], func(a *syntax.Word) bool { return a.Lit() == "" || strings.Contains(a.Lit(), "a") }) {
			st.exports = either
		}
		st.stops = either
	}
	return st.funcs.bodies(name)
}

// evaluated is the script that eval runs, as far as its words are written out; what is not stands for a name.
func (w *walker) evaluated(n *syntax.CallExpr) []*syntax.Stmt {
	var text strings.Builder
	for _, word := range n.Args[1:] {
		syntax.Walk(word, func(n syntax.Node) bool {
			switch n := n.(type) {
			case *syntax.Lit:
				text.WriteString(unescape(n.Value))
			case *syntax.SglQuoted:
				text.WriteString(n.Value)
			case *syntax.ParamExp, *syntax.CmdSubst, *syntax.ArithmExp:
				text.WriteString("x")
				return false
			}
			return true
		})
		text.WriteByte(' ')
	}
	s, err := Parse(text.String())
	if err != nil {
		w.problemf(n, "runs eval in a loop")
		return nil
	}
	return s.file.Stmts
}

// forgetArithm makes unknown what an arithmetic expression may assign.
func (w *walker) forgetArithm(st *state, n syntax.Node) {
	var x syntax.ArithmExpr
	switch n := n.(type) {
	case *syntax.UnaryArithm:
		x = n.X
	case *syntax.BinaryArithm:
		x = n.X
	}
	if word, ok := x.(*syntax.Word); ok && syntax.ValidName(word.Lit()) {
		w.setVar(st, word.Lit(), Unknown)
	}
}

// leaves reports whether a loop's body may leave its round early.
func leaves(body []*syntax.Stmt) bool {
	found := false
	for _, s := range body {
		syntax.Walk(s, func(n syntax.Node) bool {
			if call, ok := n.(*syntax.CallExpr); ok && len(call.Args) > 0 {
				found = found || slices.Contains([]string{"break", "continue"}, call.Args[0].Lit())
			}
			return !found
		})
	}
	return found
}
