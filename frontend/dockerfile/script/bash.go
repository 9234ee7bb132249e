package script

import (
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// The language that is read is bash's. A script that sh runs may be read by dash, by busybox or by bash, which differ in what lies beyond POSIX: a command
// that is none, a word that stands for itself, an expansion that ends the shell. So where the shell is not known to be bash, a statement that uses any of it
// may fail, and what it assigns or expands to is not known.

// bashCommands are commands that bash carries out itself, and other shells do not know. Options of set and signals of trap are told apart where they are read.
var bashCommands = strings.Fields("declare typeset let source shopt mapfile readarray pushd popd dirs enable builtin caller compgen complete disown help history logout suspend function select time")

// bashOnly reports whether a word is expanded by bash alone.
func bashOnly(word *syntax.Word) bool {
	if word == nil {
		return false
	}
	if !elaborate(word.Parts) {
		return false
	}
	found, inBraces := false, 0
	for _, part := range word.Parts {
		switch p := part.(type) {
		case *syntax.Lit:
			inBraces += strings.Count(p.Value, "{")
			found = found || inBraces > 0 && (strings.Contains(p.Value, ",") || strings.Contains(p.Value, ".."))
		case *syntax.SglQuoted:
			found = found || p.Dollar
		case *syntax.DblQuoted:
			found = found || p.Dollar
		case *syntax.ExtGlob, *syntax.ProcSubst:
			return true
		}
	}
	syntax.Walk(word, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.CmdSubst: // whose commands are read by themselves
			return false
		case *syntax.ParamExp:
			found = found || n.Excl || n.Slice != nil || n.Repl != nil || n.Index != nil || n.Names != 0 ||
				n.Exp != nil && (n.Exp.Op >= syntax.UpperFirst || n.Param != nil && (n.Param.Value == "@" || n.Param.Value == "*") && n.Exp.Op >= syntax.RemSmallPrefix)
		case *syntax.ArithmExp:
			found = found || n.Bracket
		case *syntax.UnaryArithm:
			found = found || n.Op == syntax.Inc || n.Op == syntax.Dec
		case *syntax.BinaryArithm:
			found = found || n.Op == syntax.Pow || n.Op == syntax.Comma
		}
		return !found
	})
	return found
}

// elaborate reports whether parts of a word are more than text and the values of variables: most are not, and need no second look.
func elaborate(parts []syntax.WordPart) bool {
	for _, part := range parts {
		switch p := part.(type) {
		case *syntax.Lit:
			if strings.Contains(p.Value, "{") {
				return true
			}
		case *syntax.SglQuoted:
			if p.Dollar {
				return true
			}
		case *syntax.DblQuoted:
			if p.Dollar || elaborate(p.Parts) {
				return true
			}
		case *syntax.ParamExp:
			if p.Exp != nil || p.Excl || p.Slice != nil || p.Repl != nil || p.Index != nil || p.Names != 0 || p.Length {
				return true
			}
		case *syntax.CmdSubst: // whose commands are read by themselves
		default:
			return true
		}
	}
	return false
}

// doubtful reports whether a simple command, with its words expanded, is read by bash alone.
func (w *walker) doubtful(c *syntax.CallExpr, words []string) bool {
	if w.bash {
		return false
	}
	if len(words) > 1 && words[0] == "printf" && words[1] == "-v" {
		return true
	}
	if len(words) > 0 && slices.Contains(bashCommands, words[0]) || slices.ContainsFunc(c.Args, bashOnly) {
		return true
	}
	return slices.ContainsFunc(c.Assigns, func(a *syntax.Assign) bool { return a.Append || a.Array != nil || a.Index != nil || bashOnly(a.Value) })
}

// tried is how a statement ends that only bash is known to read: its outcome o in bash, or it failed and nothing has changed since before.
func (w *walker) tried(st *state, before state, o outcome) outcome {
	if w.bash || st.dead {
		return o
	}
	if o == success {
		o = assumed
	}
	if !st.fatal {
		st.orAs(before)
	}
	return o
}

// uncertain reports whether a word's arithmetic depends on what is not a number, or not known.
func (w *walker) uncertain(st *state, word *syntax.Word) bool {
	if !elaborate(word.Parts) {
		return false
	}
	found := false
	number := func(s string) bool {
		digits := strings.TrimPrefix(s, "-")
		return s == "" || s == "0" || len(digits) > 0 && len(digits) < 10 && digits[0] != '0' && strings.Trim(digits, "0123456789") == "" // 010 is octal
	}
	syntax.Walk(word, func(n syntax.Node) bool {
		a, ok := n.(*syntax.ArithmExp)
		if !ok {
			return !found
		}
		syntax.Walk(a.X, func(n syntax.Node) bool {
			switch n := n.(type) {
			case *syntax.CmdSubst:
				found = true
			case *syntax.ParamExp:
				found = found || n.Param == nil || n.Exp != nil || n.Length || !number(environ{w, st, word}.Get(n.Param.Value).String())
				return false
			case *syntax.Word:
				if name := n.Lit(); syntax.ValidName(name) {
					found = found || !number(environ{w, st, word}.Get(name).String())
				}
			}
			return !found
		})
		return !found
	})
	return found
}

// settled are words of which those are unknown that may stand for the names of files.
func settled(words []string) []string {
	if !slices.ContainsFunc(words, isGlob) {
		return words
	}
	out := slices.Clone(words)
	for i, s := range out {
		if isGlob(s) {
			out[i] = Unknown
		}
	}
	return out
}

// in has what follows read as a script of another shell, until the function that it returns is called.
func (w *walker) in(st *state, n syntax.Node, shell string) (restore func()) {
	was := w.bash
	w.bash = shell == "bash"
	if w.bash {
		w.begins(st, n)
	}
	return func() { w.bash = was }
}

// begins notes what bash runs before a script (Bash Startup Files, "Invoked non-interactively").
func (w *walker) begins(st *state, n syntax.Node) {
	if v := st.vars.get("BASH_ENV"); v.set && v.value != "" {
		w.problemf(n, "is run by bash, which first runs the file that BASH_ENV names")
	}
}
