package script

import (
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"
)

// maxBraces bounds the brace expressions of one word; each may double its fields.
const maxBraces = 4

// machineVars are variables that a shell itself sets to what it runs on.
var machineVars = []string{"HOSTTYPE", "MACHTYPE", "OSTYPE"}

// setVars are variables that some shells set by themselves.
var setVars = strings.Fields("BASH BASHOPTS BASHPID BASH_COMMAND BASH_REMATCH OPTARG BASH_LINENO BASH_SUBSHELL BASH_VERSINFO BASH_VERSION COLUMNS DIRSTACK EPOCHREALTIME EPOCHSECONDS EUID FUNCNAME GROUPS HOSTNAME " +
	"KSH_VERSION LINENO LINES OLDPWD OPTIND PIPESTATUS RANDOM SECONDS SHELL SHELLOPTS SHLVL SRANDOM UID")

// environ shows the expander the variables of a state.
type environ struct {
	w  *walker
	st *state
	at syntax.Node
}

var _ expand.WriteEnviron = environ{}

func (e environ) Get(name string) expand.Variable {
	str := func(s string) expand.Variable { return expand.Variable{Set: true, Kind: expand.String, Str: s} }
	switch {
	case name == "@" || name == "*":
		return expand.Variable{Set: true, Kind: expand.Indexed, List: slices.Clone(e.st.params)}
	case name == "0" && e.st.name != "":
		return str(e.st.name)
	case name == "#" && !slices.Contains(e.st.params, Unknown):
		return str(strconv.Itoa(len(e.st.params)))
	case name == "#" || name == "?" || name == "$" || name == "!" || name == "-" || name == "0" || name == "PPID" || name == "_":
		return str(Unknown)
	case len(name) == 1 && name[0] >= '1' && name[0] <= '9':
		if i := int(name[0] - '1'); i < len(e.st.params) {
			return str(e.st.params[i])
		}
		if slices.Contains(e.st.params, Unknown) { // which may stand for several
			return str(Unknown)
		}
		return expand.Variable{}
	case len(name) > 1 && name[0] >= '1' && name[0] <= '9' && strings.Trim(name, "0123456789") == "":
		return str(Unknown) // ${10}
	case strings.HasPrefix(name, "HOME "):
		return str(Unknown)
	case name == "PWD":
		return str(e.st.dir)
	}
	v := e.st.vars.get(name)
	if name == "IFS" && (!v.set || !Known(v.value)) {
		return str(" \t\n")
	}
	if !v.set && slices.Contains(machineVars, name) {
		e.w.problemf(e.at, "reads $%s, which tells the machine", name)
	}
	if !v.set && (name == "HOME" || slices.Contains(setVars, name)) {
		return str(Unknown)
	}
	return expand.Variable{Set: v.set, Exported: v.exported, Kind: expand.String, Str: v.value}
}

func (e environ) Each(yield func(string, expand.Variable) bool) {
	if e.st.vars.begin == nil {
		return
	}
	e.st.vars.begin.all = true
	for _, name := range slices.Sorted(maps.Keys(e.st.vars.begin.vars)) {
		if !yield(name, e.Get(name)) {
			return
		}
	}
}

func (e environ) Set(name string, v expand.Variable) error {
	e.w.setVar(e.st, name, v.Str)
	return nil
}

func (w *walker) config(st *state, at syntax.Node) *expand.Config {
	return &expand.Config{
		Env: environ{w, st, at},
		CmdSubst: func(out io.Writer, c *syntax.CmdSubst) error {
			_, err := io.WriteString(out, w.substitution(st, c.Stmts))
			return err
		},
		ProcSubst: func(p *syntax.ProcSubst) (string, error) {
			w.substitution(st, p.Stmts)
			return Unknown, nil
		},
	}
}

// substitution reads the commands of a substitution and returns what they print, as far as that is known.
func (w *walker) substitution(st *state, list []*syntax.Stmt) string {
	sub := st.sub()
	sub.substituted, sub.piped, sub.feeds = true, false, false
	sub.fatal = false
	before := len(w.out.Commands)
	w.stmts(sub, list)
	commands := w.out.Commands[before:]
	if len(commands) != 1 || len(list) != 1 || len(list[0].Redirs) > 0 {
		return Unknown
	}
	if _, ok := list[0].Cmd.(*syntax.CallExpr); !ok {
		return Unknown
	}
	if s, ok := prints(commands[0]); ok {
		return s
	}
	return w.output(commands[0])
}

// output asks what a command prints.
func (w *walker) output(c Command) string {
	if w.opt.Output == nil {
		return Unknown
	}
	s, ok := w.opt.Output(c)
	if !ok {
		s = Unknown
	}
	w.outputs = append(w.outputs, output{c, s})
	return s
}

// prints is what a command prints that does no more than print its words.
func prints(c Command) (string, bool) {
	switch {
	case c.Name() == "pwd":
		return c.Dir, true
	case c.Name() == "echo" && !slices.ContainsFunc(c.Words[1:], func(s string) bool { return strings.ContainsAny(s, `\`) || isGlob(s) || strings.HasPrefix(s, "-") }):
		return strings.Join(c.Words[1:], " "), true
	default:
		return "", false
	}
}

// fields expands words into fields.
func (w *walker) fields(st *state, words []*syntax.Word) []string {
	var out []string
	for _, word := range words {
		if lit := word.Lit(); lit != "" && !strings.ContainsAny(lit, "\\{}~") {
			out = append(out, lit)
			continue
		}
		if isAllParams(word) {
			out = append(out, st.params...) // none at all where there are none
			continue
		}
		w.unseen(st, word)
		if manyBraces(word) || w.measuresUnknown(st, word) || w.uncertain(st, word) || !w.bash && bashOnly(word) {
			w.substitutions(st, word)
			out = append(out, Unknown)
			continue
		}
		fields, err := expand.Fields(w.config(st, word), word)
		if err != nil {
			w.problemf(word, "holds an expansion that is not read (%v)", err)
			fields = []string{Unknown}
		}
		out = append(out, fields...)
	}
	return out
}

// isAllParams reports whether a word is "$@".
func isAllParams(word *syntax.Word) bool {
	if len(word.Parts) != 1 {
		return false
	}
	q, ok := word.Parts[0].(*syntax.DblQuoted)
	if !ok || len(q.Parts) != 1 {
		return false
	}
	p, ok := q.Parts[0].(*syntax.ParamExp)
	return ok && p.Param != nil && p.Param.Value == "@" && p.Exp == nil && p.Slice == nil && p.Repl == nil && !p.Length
}

// literal expands a word to one string.
func (w *walker) literal(st *state, word *syntax.Word) string {
	return w.text(st, unescaped(word), expand.Literal)
}

// unescaped is a word whose backslashes outside of quotes have done their work, for the expander leaves them in a string.
func unescaped(word *syntax.Word) *syntax.Word {
	escapes := func(part syntax.WordPart) bool {
		lit, ok := part.(*syntax.Lit)
		return ok && strings.Contains(lit.Value, `\`)
	}
	if word == nil || !slices.ContainsFunc(word.Parts, escapes) {
		return word
	}
	out := &syntax.Word{}
	for _, part := range word.Parts {
		if escapes(part) {
			part = &syntax.SglQuoted{Value: unescape(part.(*syntax.Lit).Value)} //nolint:forcetypeassert // escapes says so
		}
		out.Parts = append(out.Parts, part)
	}
	return out
}

// unescape takes away each backslash that quotes the character behind it.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
			if s[i] == '\n' {
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// document expands a here-document: as it stands if its delimiter is quoted, and without the tabs that begin its lines after <<-.
func (w *walker) document(st *state, r *syntax.Redirect) string {
	if r.Hdoc == nil {
		return ""
	}
	word := r.Hdoc
	if r.Op == syntax.DashHdoc {
		word = withoutTabs(word)
	}
	if !quoted(r.Word) {
		return w.text(st, word, expand.Document)
	}
	var b strings.Builder
	for _, part := range word.Parts {
		lit, ok := part.(*syntax.Lit)
		if !ok {
			w.problemf(word, "holds a here-document that is not read")
			return Unknown
		}
		b.WriteString(lit.Value)
	}
	return b.String()
}

// quoted reports whether some of a here-document's delimiter is quoted.
func quoted(word *syntax.Word) bool {
	return slices.ContainsFunc(word.Parts, func(part syntax.WordPart) bool {
		lit, ok := part.(*syntax.Lit)
		return !ok || strings.Contains(lit.Value, `\`)
	})
}

// withoutTabs is a here-document without the tabs that begin its lines.
func withoutTabs(word *syntax.Word) *syntax.Word {
	out := &syntax.Word{}
	begins := true
	for _, part := range word.Parts {
		lit, ok := part.(*syntax.Lit)
		if !ok {
			out.Parts, begins = append(out.Parts, part), false
			continue
		}
		lines := strings.SplitAfter(lit.Value, "\n")
		for i, line := range lines {
			if i > 0 || begins {
				lines[i] = strings.TrimLeft(line, "\t")
			}
		}
		c := *lit
		c.Value = strings.Join(lines, "")
		out.Parts, begins = append(out.Parts, &c), strings.HasSuffix(lit.Value, "\n")
	}
	return out
}

func (w *walker) text(st *state, word *syntax.Word, how func(*expand.Config, *syntax.Word) (string, error)) string {
	if word == nil {
		return ""
	}
	if lit := word.Lit(); lit != "" && !strings.ContainsAny(lit, "\\~") {
		return lit
	}
	w.unseen(st, word)
	if w.measuresUnknown(st, word) || w.uncertain(st, word) || !w.bash && bashOnly(word) {
		w.substitutions(st, word)
		return Unknown
	}
	s, err := how(w.config(st, word), word)
	if err != nil {
		w.problemf(word, "holds an expansion that is not read (%v)", err)
		return Unknown
	}
	return s
}

// unseen reads the substitutions in a word that the expander leaves out because it takes an unknown value for one that
// is set and not empty, as in ${X:-$(uname -m)}.
func (w *walker) unseen(st *state, word *syntax.Word) {
	w.mayLeave(st, word)
	if !elaborate(word.Parts) {
		return
	}
	syntax.Walk(word, func(n syntax.Node) bool {
		p, ok := n.(*syntax.ParamExp)
		if !ok || p.Exp == nil || p.Exp.Word == nil || p.Param == nil {
			return true
		}
		if !Known(st.vars.get(p.Param.Value).value) {
			w.substitutions(st, p.Exp.Word)
		}
		return true
	})
}

// mayLeave notes that the shell leaves where it expands a variable that is not set: by ${X:?}, or with set -u. If the script fails by that, it is as good
// as any other failure; where nobody is told, in a part of a pipe or a script that may fail, it is not certain what follows.
func (w *walker) mayLeave(st *state, word *syntax.Word) {
	if st.fatal || !w.nounset && !elaborate(word.Parts) {
		return
	}
	if !w.bash && badSubstitution(word) { // dash and busybox leave at a substitution that they do not know
		st.certain, st.left = false, true
	}
	syntax.Walk(word, func(n syntax.Node) bool {
		p, ok := n.(*syntax.ParamExp)
		if !ok || p.Param == nil {
			_, inner := n.(*syntax.CmdSubst)
			return !inner
		}
		v := environ{w, st, word}.Get(p.Param.Value)
		leaves := w.nounset && !v.IsSet()
		if p.Exp != nil {
			switch p.Exp.Op {
			case syntax.ErrorUnset, syntax.ErrorUnsetOrNull:
				leaves = !v.IsSet() || !Known(v.String()) || p.Exp.Op == syntax.ErrorUnsetOrNull && v.String() == ""
			case syntax.DefaultUnset, syntax.DefaultUnsetOrNull, syntax.AlternateUnset, syntax.AlternateUnsetOrNull, syntax.AssignUnset, syntax.AssignUnsetOrNull:
				leaves = false
			default: // of a part of the value
			}
		}
		if leaves {
			st.certain, st.left = false, true
		}
		return true
	})
}

// badSubstitution reports whether a word changes the case of a parameter's letters, or expands it by another's name: all shells but bash leave there.
func badSubstitution(word *syntax.Word) bool {
	found := false
	syntax.Walk(word, func(n syntax.Node) bool {
		if p, ok := n.(*syntax.ParamExp); ok {
			found = found || p.Excl || p.Names != 0 || p.Exp != nil && p.Exp.Op >= syntax.UpperFirst
		}
		_, inner := n.(*syntax.CmdSubst)
		return !inner && !found
	})
	return found
}

// measuresUnknown reports whether a word takes the length or a part of what is not known, or asks whether it is empty: the expander
// would answer for the mark that stands for it.
func (w *walker) measuresUnknown(st *state, word *syntax.Word) bool {
	if !elaborate(word.Parts) {
		return false
	}
	found := false
	syntax.Walk(word, func(n syntax.Node) bool {
		p, ok := n.(*syntax.ParamExp)
		if !ok || p.Param == nil {
			return !found
		}
		asks := p.Length || p.Width || p.Excl || p.Slice != nil || p.Repl != nil || p.Index != nil ||
			p.Exp != nil && p.Exp.Op != syntax.DefaultUnset && p.Exp.Op != syntax.DefaultUnsetOrNull
		found = found || asks && !Known(environ{w, st, word}.Get(p.Param.Value).String())
		return !found
	})
	return found
}

// substitutions reads every substitution below a node.
func (w *walker) substitutions(st *state, n syntax.Node) {
	syntax.Walk(n, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.CmdSubst:
			w.substitution(st.branch(), n.Stmts)
			return false
		case *syntax.ProcSubst:
			w.substitution(st.branch(), n.Stmts)
			return false
		}
		return true
	})
}

// manyBraces reports whether a word's brace expressions could make very many fields.
func manyBraces(word *syntax.Word) bool {
	var literal strings.Builder
	for _, part := range word.Parts {
		if lit, ok := part.(*syntax.Lit); ok {
			literal.WriteString(lit.Value)
		}
	}
	braces := strings.Count(literal.String(), "{")
	return braces > maxBraces || braces > 0 && strings.Contains(literal.String(), "..")
}

// isGlob reports whether a field may stand for the names of files.
func isGlob(s string) bool { return strings.ContainsAny(s, "*?[") }

// files are what a command is redirected from and to.
type files struct {
	reads, writes []string
	document      *string
}

func (f files) any() bool { return len(f.reads)+len(f.writes) > 0 }

func (w *walker) redirections(st *state, list []*syntax.Redirect) files {
	var f files
	for _, r := range list {
		switch r.Op {
		case syntax.Hdoc, syntax.DashHdoc:
			s := w.document(st, r)
			f.document = &s
		case syntax.WordHdoc:
			s := w.literal(st, r.Word) + "\n"
			f.document = &s
		case syntax.RdrIn:
			f.reads = append(f.reads, w.literal(st, r.Word))
		case syntax.DplIn, syntax.DplOut:
			if to := w.literal(st, r.Word); r.Op == syntax.DplOut && strings.Trim(to, "0123456789-") != "" { // >&FILE
				f.writes = append(f.writes, to)
			}
		default:
			f.writes = append(f.writes, w.literal(st, r.Word))
		}
	}
	return f
}
