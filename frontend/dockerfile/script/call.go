package script

import (
	"path"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// emit adds a command.
func (w *walker) emit(st *state, n syntax.Node, words []string, io files) {
	at := w.place(n)
	w.out.Commands = append(w.out.Commands, Command{
		Words: slices.Clip(words), Reads: io.reads, Writes: io.writes, Document: io.document, Dir: st.dir, Offset: at.offset, End: at.end,
		Chain: st.chain && w.within == nil, Certain: st.certain, Substituted: st.substituted, Piped: st.piped, Feeds: st.feeds, Through: st.through,
		vars: st.vars,
	})
}

// call reads a simple command.
func (w *walker) call(st *state, c *syntax.CallExpr, io files) outcome {
	before, first := *st, len(w.out.Commands)
	words := w.fields(st, c.Args)
	if len(words) > 0 && (words[0] == "echo" || words[0] == "printf") && !st.substituted && !st.feeds && len(io.writes) == 0 {
		for i := range w.out.Commands[first:] {
			w.out.Commands[first+i].Shown = true
		}
	}
	if len(words) == 1 && words[0] == "exec" && len(io.writes) > 0 {
		st.feeds = true // whatever is printed from here on
	}
	if len(words) == 0 {
		for _, a := range c.Assigns {
			w.assign(st, a, false)
		}
		if io.any() {
			w.emit(st, c, []string{":"}, io)
		}
		if hasSubstitution(c) {
			return assumed
		}
		if w.doubtful(c, nil) {
			return w.tried(st, before, success)
		}
		return success
	}
	if w.doubtful(c, words) {
		return w.tried(st, before, w.simple(st, c, words, io))
	}
	return w.simple(st, c, words, io)
}

// simple reads a simple command whose words are expanded already.
func (w *walker) simple(st *state, c *syntax.CallExpr, words []string, io files) outcome {
	env := *st // assignments in front of a command hold for it alone
	for _, a := range c.Assigns {
		w.assign(&env, a, true)
	}
	return w.run(st, &env, c, words, io)
}

// run reads a command that is already expanded: what the shell does itself changes st, anything else runs in env.
func (w *walker) run(st, env *state, n syntax.Node, words []string, io files) outcome {
	if io.any() && runsOthers(st, words) {
		w.emit(env, n, []string{":"}, io)
		defer st.redirect(io)()
		if env != st {
			defer env.redirect(io)()
		}
	}
	if fn, ok := st.funcs[words[0]]; ok {
		if o, done := w.callFunction(st, env, n, fn, settled(words[1:])); done {
			return o
		}
		env.certain = false // perhaps it is a function
	}
	if read, ok := builtins[words[0]]; ok {
		return read(w, st, n, words, io)
	}
	if w.executed(env, n, words) || w.through(st, env, n, words, io) {
		return assumed
	}
	if (words[0] == "." || words[0] == "source") && w.sourced(st, n, words) {
		return either
	}
	w.emit(env, n, words, io)
	switch words[0] {
	case "echo":
		return success
	case "time":
		return either
	case "printf":
		if len(words) > 2 && words[1] == "-v" {
			w.named(n, words[2])
			w.setVar(st, words[2], Unknown)
		}
		return success
	case "source", ".": // a shell leaves where it cannot read the file (POSIX, 2.8.1)
		if !st.fatal {
			st.certain, st.left = false, true
		}
		return either
	case "let", "select", "enable":
		return either
	case "grep", "egrep", "fgrep", "cmp", "diff", "which", "type", "hash":
		return either
	}
	return assumed
}

// runsOthers reports whether a command's redirections are those of the commands that it runs.
func runsOthers(st *state, words []string) bool {
	name := path.Base(words[0])
	_, isFunction := st.funcs[words[0]]
	_, isWrapper := wrappers[name]
	return isFunction || isWrapper || slices.Contains(shells, name) || slices.Contains([]string{"eval", ".", "source", "su", "runuser", "find"}, name)
}

// redirect notes that what is run goes elsewhere, until the function that it returns is called.
func (st *state) redirect(io files) (restore func()) {
	piped, feeds := st.piped, st.feeds
	st.piped, st.feeds = piped || io.document != nil, feeds || len(io.writes) > 0
	return func() { st.piped, st.feeds = piped, feeds }
}

// nested reads a script that stands in a word of the one being read.
func (w *walker) nested(st *state, n syntax.Node, text string) outcome {
	switch {
	case !Known(text):
		w.problemf(n, "runs a script that is made while it runs")
		return either
	case w.depth >= maxDepth:
		w.problemf(n, "holds scripts in scripts too deeply")
		return either
	}
	s, err := Parse(text)
	if err != nil {
		w.problemf(n, "holds a script that is not read (%v)", err)
		return either
	}
	within := w.within
	if within == nil {
		at := w.place(n)
		w.within = &at
	}
	w.depth++
	w.texts = append(w.texts, s.file.Stmts)
	o := w.stmts(st, s.file.Stmts)
	w.depth--
	w.within = within
	return o
}

// setVar assigns a variable as name=value does.
func (w *walker) setVar(st *state, name, value string) {
	before := st.vars.get(name)
	st.vars = st.vars.with(name, st.exported(variable{value: value, set: true, exported: before.exported, perhaps: before.perhaps}))
}

// exported is a variable as an assignment leaves it: set -a exports it, and where nobody knows whether that holds, nobody knows what commands
// find.
func (st *state) exported(v variable) variable {
	switch {
	case st.exports == success:
		v.exported, v.perhaps = true, false
	case st.exports == either && !v.exported:
		v.perhaps = true
	}
	return v
}

// assign carries out one assignment.
func (w *walker) assign(st *state, a *syntax.Assign, export bool) {
	if a.Name == nil {
		return
	}
	name := a.Name.Value
	before := st.vars.get(name)
	v := variable{set: true, exported: before.exported || export, perhaps: before.perhaps && !export}
	switch {
	case a.Array != nil || a.Index != nil:
		w.substitutions(st, a)
		v.value = Unknown
	case a.Append:
		v.value = before.value + w.literal(st, a.Value)
	default:
		v.value = w.literal(st, a.Value)
	}
	st.vars = st.vars.with(name, st.exported(v))
}

// declare reads export, local, readonly and their kin.
func (w *walker) declare(st *state, d *syntax.DeclClause) outcome {
	export, unexport := d.Variant.Value == "export", false
	w.out.Shows = w.out.Shows || showsAll(d)
	local := st.locals != nil && (d.Variant.Value == "local" || d.Variant.Value == "declare" || d.Variant.Value == "typeset")
	for _, a := range d.Args {
		if local && a.Name != nil {
			*st.locals = append(*st.locals, kept{a.Name.Value, st.vars.get(a.Name.Value)})
		}
		if a.Name == nil {
			flag := w.literal(st, a.Value)
			export = export || strings.HasPrefix(flag, "-") && strings.Contains(flag, "x")
			unexport = unexport || d.Variant.Value == "export" && flag == "-n"
			if name, value, ok := strings.Cut(flag, "="); ok && syntax.ValidName(name) {
				st.vars = st.vars.with(name, variable{value: value, set: true, exported: export})
			} else if !Known(flag) {
				w.problemf(a, "declares a variable whose name is not known")
			}
			continue
		}
		if !a.Naked {
			w.assign(st, a, export)
		}
		v := st.vars.get(a.Name.Value)
		v.exported = (v.exported || export) && !unexport
		v.perhaps = v.perhaps && !export && !unexport
		st.vars = st.vars.with(a.Name.Value, v)
	}
	return success
}

// showsAll reports whether a declaration declares nothing, and lists what is declared.
func showsAll(d *syntax.DeclClause) bool {
	for _, a := range d.Args {
		switch flag := ""; {
		case a.Name != nil:
			return false
		default:
			if a.Value != nil {
				flag = a.Value.Lit()
			}
			if strings.HasPrefix(flag, "-") && strings.Contains(flag, "p") {
				return true
			}
			if flag == "" || !strings.HasPrefix(flag, "-") {
				return false // it makes a name
			}
		}
	}
	return true
}

// builtin reads a command that the shell carries out itself.
type builtin func(w *walker, st *state, n syntax.Node, words []string, io files) outcome

var builtins map[string]builtin

func init() { //nolint:gochecknoinits // the table refers to the walker, which refers to the table
	builtins = map[string]builtin{
		"cd": changeDir, "pushd": changeDir, "popd": func(w *walker, st *state, n syntax.Node, words []string, io files) outcome {
			st.dir = Unknown
			return assumed
		},
		"unset": unset, "set": set, "shift": shift, "read": readVars, "mapfile": readVars, "readarray": readVars, "getopts": readVars,
		"eval": func(w *walker, st *state, n syntax.Node, words []string, _ files) outcome {
			return w.nested(st, n, strings.Join(words[1:], " "))
		},
		"trap": trap, "exit": leave, "return": comeBack,
		"true": ends(success), ":": ends(success), "false": ends(failure), "wait": ends(assumed), "umask": ends(success),
		"ulimit": ends(assumed), "break": ends(success), "continue": ends(success), "shopt": ends(success), "alias": alias,
		"[": bracket, "test": bracket,
	}
}

func ends(o outcome) builtin {
	return func(w *walker, st *state, n syntax.Node, words []string, io files) outcome {
		if io.any() {
			w.emit(st, n, words, io)
		}
		return o
	}
}

// trap notes what is run later.
func trap(w *walker, st *state, n syntax.Node, words []string, _ files) outcome {
	w.out.Traps = true
	if len(words) > 2 && words[1] != "-" && words[1] != "" && len(w.traps) < maxDepth {
		c := *st
		w.traps = append(w.traps, trapped{n, words[1], &c})
	}
	if !w.bash && slices.ContainsFunc(words[min(2, len(words)):], func(s string) bool { return s == "ERR" || s == "DEBUG" || s == "RETURN" }) {
		return assumed
	}
	return success
}

// comeBack reads return.
func comeBack(w *walker, st *state, n syntax.Node, words []string, io files) outcome {
	if st.returns == nil { // dash leaves, bash says that it cannot and goes on
		st.certain, st.left = false, true
		return either
	}
	way := *st
	*st.returns = append(*st.returns, &way)
	st.dead = true
	return either
}

func leave(_ *walker, st *state, _ syntax.Node, words []string, _ files) outcome {
	st.dead = true
	if len(words) > 1 && words[1] != "0" && Known(words[1]) {
		return failure
	}
	st.quiet = true
	return success
}

// alias makes the names of later commands mean something else.
func alias(w *walker, _ *state, n syntax.Node, _ []string, _ files) outcome {
	w.problemf(n, "defines an alias")
	return success
}

func changeDir(w *walker, st *state, n syntax.Node, words []string, _ files) outcome {
	to := ""
	for _, word := range words[1:] {
		if len(word) > 1 && word[0] == '-' && word[1] != '-' {
			continue
		}
		to = word
		if to != "--" {
			break
		}
	}
	switch {
	case to == "" && words[0] == "cd":
		to = environ{w, st, n}.Get("HOME").Str
	case to == "" || to == "-" || isGlob(to):
		to = Unknown
	}
	st.dir = resolve(st.dir, to)
	return assumed
}

// resolve is a path as seen from a directory. What begins with something unknown may lie anywhere.
func resolve(dir, to string) string {
	switch {
	case strings.HasPrefix(to, Unknown):
		return Unknown
	case path.IsAbs(to):
		return path.Clean(to)
	case strings.HasPrefix(dir, Unknown) || dir == "":
		return Unknown
	default:
		return path.Join(dir, to)
	}
}

// Path is a file's path as the command sees it: absolute where its directory is known, [Unknown] where not.
func (c Command) Path(name string) string { return resolve(c.Dir, name) }

func unset(w *walker, st *state, n syntax.Node, words []string, _ files) outcome {
	functions := false
	for _, name := range words[1:] {
		switch {
		case !Known(name):
			w.problemf(n, "unsets a variable whose name is not known")
		case name == "-f":
			functions = true
		case strings.HasPrefix(name, "-"):
		case functions:
			st.funcs = st.funcs.without(name)
		default:
			st.vars = st.vars.with(name, variable{})
			if _, ok := st.funcs[name]; ok { // without a flag some shells unset a function of that name
				st.funcs = st.funcs.or(st.funcs.without(name))
			}
		}
	}
	return success
}

// set reads the options and the positional parameters that set gives.
func set(w *walker, st *state, n syntax.Node, words []string, _ files) outcome {
	if len(words) == 1 {
		w.out.Shows = true
		return success
	}
	o := success
	words = settled(words)
	for i := 1; i < len(words); i++ {
		word := words[i]
		switch {
		case word == "--" || word == "-":
			st.params = slices.Clone(words[i+1:])
			return o
		case strings.HasPrefix(word, Unknown):
			st.params, st.exports, st.stops = []string{Unknown}, either, either
			w.nounset = true
			return success
		case len(word) > 1 && (word[0] == '-' || word[0] == '+'):
			on := failure
			if word[0] == '-' {
				on = success
			}
			if strings.Contains(word, "a") {
				st.exports = on
			}
			if strings.Contains(word, "e") {
				st.stops = on
			}
			w.nounset = w.nounset || strings.Contains(word, "u") || i+1 < len(words) && words[i+1] == "nounset"
			if strings.Contains(word[1:], "o") && i+1 < len(words) { // -eou pipefail too
				switch i++; words[i] {
				case "allexport":
					st.exports = on
				case "errexit":
					st.stops = on
				case "nounset", "xtrace", "verbose", "noglob", "noexec", "noclobber":
				default: // pipefail: the first shells that have it are of 2024
					o = assumed
				}
			}
			if strings.Contains(word, "n") {
				w.problemf(n, "sets -n, which runs nothing more")
			}
		default:
			st.params = slices.Clone(words[i:])
			return o
		}
	}
	return o
}

func shift(_ *walker, st *state, _ syntax.Node, words []string, _ files) outcome {
	if len(words) == 1 && len(st.params) > 0 && st.params[0] != Unknown { // which may stand for several
		st.params = st.params[1:]
		return success
	}
	st.certain = false // dash leaves where there is none to shift
	st.params = []string{Unknown}
	return assumed
}

func readVars(w *walker, st *state, n syntax.Node, words []string, io files) outcome {
	w.setVar(st, "REPLY", Unknown)
	for i, name := range words[1:] {
		if syntax.ValidName(name) {
			w.setVar(st, name, Unknown)
		}
		if option := i > 0 && strings.HasPrefix(words[i], "-"); !option && words[0] != "getopts" { // whose first word is none
			w.named(n, name)
		}
	}
	if io.any() {
		w.emit(st, n, words, io)
	}
	return either
}

// named says that a variable is assigned whose name is not known, if that is so.
func (w *walker) named(n syntax.Node, name string) {
	if !Known(name) {
		w.problemf(n, "assigns a variable whose name is not known")
	}
}

func hasSubstitution(n syntax.Node) bool {
	found := false
	syntax.Walk(n, func(n syntax.Node) bool {
		_, ok := n.(*syntax.CmdSubst)
		found = found || ok
		return !found
	})
	return found
}
