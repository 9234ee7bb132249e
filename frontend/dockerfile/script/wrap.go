package script

import (
	"path"
	"slices"
	"strings"

	"github.com/google/shlex"
	"mvdan.cc/sh/v3/syntax"
)

// wrapper is a command that runs another one, given by its own words.
type wrapper struct {
	valued string   // its flags that take the next word, or what follows an equals sign
	bare   string   // its flags that take nothing; letters of both may be joined
	skip   int      // words between its flags and the command
	query  []string // flags with which it runs nothing
	script []string // flags whose word is a script of the shell
	split  []string // flags whose word is split into further words
	assign bool     // NAME=value words before the command hold for it
	clear  []string // flags with which the command gets no variables
	keep   []string // flags without which it gets none; nil means that it gets them
	unset  []string // flags that take away the variable that the next word names
	dir    []string // flags whose word is the directory it runs in
	adds   bool     // further words are added to the command's
	alone  bool     // without a command it does nothing of interest
}

// wrappers are the commands that are looked through. A flag that is not in the row is a problem.
var wrappers = map[string]wrapper{
	"env": {
		assign: true, unset: []string{"-u", "--unset"}, valued: "-u --unset -C --chdir -S --split-string -a --argv0", bare: "-i - --ignore-environment -0 --null -v --debug",
		clear: []string{"-i", "-", "--ignore-environment"}, split: []string{"-S", "--split-string"}, dir: []string{"-C", "--chdir"},
	},
	"command":     {query: []string{"-v", "-V"}, bare: "-p -v -V"},
	"builtin":     {},
	"exec":        {valued: "-a", bare: "-c -l", clear: []string{"-c"}},
	"nohup":       {bare: "--"},
	"setsid":      {bare: "-c -f -w --ctty --fork --wait"},
	"time":        {valued: "-f -o --format --output", bare: "-p -a -v -q --portability --append --verbose --quiet"},
	"nice":        {valued: "-n --adjustment", bare: "-0 -1 -2 -3 -4 -5 -6 -7 -8 -9 -10 -11 -12 -13 -14 -15 -16 -17 -18 -19"},
	"ionice":      {valued: "-c -n --class --classdata", bare: "-t --ignore"},
	"chrt":        {bare: "-b -i -o --batch --idle --other", skip: 1},
	"timeout":     {valued: "-s -k --signal --kill-after", bare: "-v --foreground --preserve-status --verbose", skip: 1},
	"stdbuf":      {valued: "-i -o -e --input --output --error", bare: "-iL -oL -eL -i0 -o0 -e0"},
	"sudo":        {assign: true, keep: []string{"-E", "--preserve-env"}, valued: "-u -g --user --group", bare: "-E -H -n --preserve-env --set-home --non-interactive"},
	"doas":        {valued: "-u", bare: "-n", keep: []string{}},
	"gosu":        {skip: 1},
	"su-exec":     {skip: 1},
	"setpriv":     {valued: "--reuid --regid --groups", bare: "--clear-groups --init-groups --no-new-privs"},
	"fakeroot":    {bare: "-u --unknown-is-real"},
	"tini":        {bare: "-s -g -v", valued: "-p -e"},
	"dumb-init":   {bare: "-c -v"},
	"ssh-agent":   {valued: "-a -t -E", bare: "-c -s -k -d -D", query: []string{"-k"}, alone: true},
	"flock":       {valued: "-w -E --timeout --conflict-exit-code", bare: "-s -x -n -u -o -e --shared --exclusive --nonblock --unlock --close --verbose", skip: 1, script: []string{"-c", "--command"}},
	"xargs":       {adds: true, valued: "-n -P -I -L -d -s -E -a --max-args --max-procs --max-lines --delimiter --arg-file --max-chars --replace", bare: "-0 -r -t -x -p --null --no-run-if-empty --verbose --exit -i"},
	"parallel":    {adds: true, valued: "-j -n -I --jobs --max-args", bare: "-0 -k -m -X --null --keep-order --will-cite"},
	"busybox":     {alone: true},
	"catchsegv":   {},
	"unbuffer":    {bare: "-p"},
	"winpty":      {},
	"proxychains": {valued: "-f", bare: "-q"},
}

// shells are the programs that run scripts of the language read here.
var shells = []string{"sh", "bash", "ash", "dash", "ksh"}

// through reads the command that words run, if they run one and the words say which.
func (w *walker) through(st, env *state, n syntax.Node, words []string, io files) bool {
	name := path.Base(words[0])
	switch {
	case name == "find":
		w.find(env, n, words, io)
		return true
	case slices.Contains(shells, name):
		return w.shell(env, n, words, io)
	case name == "su" || name == "runuser":
		return w.su(env, n, words)
	case name == "git":
		return w.git(env, n, words)
	}
	wrap, ok := wrappers[name]
	if !ok || words[0] != name && !strings.HasSuffix(words[0], "bin/"+name) {
		return false
	}
	return w.wrapped(st, env, n, wrap, name, words, io)
}

// wrapped reads the command that a wrapper runs.
func (w *walker) wrapped(st, env *state, n syntax.Node, wrap wrapper, name string, words []string, io files) bool {
	flags, rest, problem := wrap.command(words[1:])
	if problem != "" {
		w.problemf(n, "runs %s %s", name, problem)
		return true
	}
	in := *env
	in.vars = wrap.variables(env.vars, flags)
	in.dir = wrap.directory(env.dir, flags)
	for wrap.assign && len(rest) > 0 {
		key, value, ok := strings.Cut(rest[0], "=")
		if !ok || !syntax.ValidName(key) {
			break
		}
		in.vars = in.vars.with(key, variable{value: value, set: true, exported: true})
		rest = rest[1:]
	}
	if len(rest) == 0 {
		return false
	}
	if len(wrap.script) > 0 && slices.Contains(wrap.script, rest[0]) && len(rest) > 1 {
		in.chain = false
		w.nested(&in, n, rest[1])
		return true
	}
	if wrap.adds {
		in.through = name
		rest = w.replaced(name, flags, rest)
	}
	if io.any() {
		w.emit(st, n, []string{":"}, files{reads: io.reads, writes: io.writes})
	}
	if name == "exec" {
		w.out.Traps = true // nothing of this shell runs afterwards
		w.run(&in, &in, n, rest, files{document: io.document})
		st.dead, st.quiet = true, true
		return true
	}
	if name == "command" || name == "builtin" { // the shell itself runs it, without its functions
		funcs := st.funcs
		st.funcs, in.funcs = nil, nil
		w.run(st, &in, n, rest, files{document: io.document})
		st.funcs = funcs
		return true
	}
	w.outside(&in, n, rest, files{document: io.document})
	return true
}

// outside reads a command that another program runs: functions and most of what the shell does itself are out of its reach.
func (w *walker) outside(in *state, n syntax.Node, words []string, io files) {
	in.funcs = nil
	switch words[0] {
	case "cd", "export", "set", "unset", "eval", "trap", "exit", "return", "shift", "read":
		w.emit(in, n, words, io) // no program, or one that changes nothing here
	default:
		w.run(in, in, n, words, io)
	}
}

// replaced are the words of the command that xargs or parallel runs: what it is handed is not known.
func (w *walker) replaced(name string, flags, rest []string) []string {
	mark := ""
	if name == "parallel" {
		mark = "{}"
	}
	for i, f := range flags {
		switch {
		case f == "-i" || f == "--replace":
			mark = "{}"
		case (f == "-I" || f == "--replace") && i+1 < len(flags):
			mark = flags[i+1]
		case strings.HasPrefix(f, "-I"):
			mark = f[2:]
		case strings.HasPrefix(f, "--replace="):
			_, mark, _ = strings.Cut(f, "=")
		}
	}
	rest = slices.Clone(rest)
	found := false
	for i, word := range rest {
		if mark != "" && strings.Contains(word, mark) {
			rest[i], found = strings.ReplaceAll(word, mark, Unknown), true
		}
	}
	if !found {
		rest = append(rest, Unknown)
	}
	return rest
}

// variables are what the command finds of the variables of the wrapper, by the wrapper's flags.
func (wrap wrapper) variables(v vars, flags []string) vars {
	kept := wrap.keep == nil
	for i, f := range flags {
		name, value, cut := strings.Cut(f, "=")
		switch {
		case slices.Contains(wrap.clear, f):
			v = vars{}
		case slices.Contains(wrap.keep, name):
			kept = true
		case slices.Contains(wrap.unset, name) && cut:
			v = v.with(value, variable{})
		case i > 0 && slices.Contains(wrap.unset, flags[i-1]):
			v = v.with(f, variable{})
		case len(f) > 2 && f[0] == '-' && slices.Contains(wrap.unset, f[:2]):
			v = v.with(f[2:], variable{})
		}
	}
	if !kept {
		return vars{}
	}
	return v
}

// directory is where the command runs, by the wrapper's flags.
func (wrap wrapper) directory(dir string, flags []string) string {
	for i, f := range flags {
		name, value, cut := strings.Cut(f, "=")
		switch {
		case slices.Contains(wrap.dir, name) && cut:
			dir = resolve(dir, value)
		case i > 0 && slices.Contains(wrap.dir, flags[i-1]):
			dir = resolve(dir, f)
		}
	}
	return dir
}

// command splits the wrapper's own flags from the words of the command that is run; none if none is. A problem, as a clause, means that it cannot be told.
func (wrap wrapper) command(args []string) (flags, rest []string, problem string) {
	valued, bare := strings.Fields(wrap.valued), strings.Fields(wrap.bare)
	i := 0
words:
	for ; i < len(args) && strings.HasPrefix(args[i], "-") || i < len(args) && strings.HasPrefix(args[i], Unknown); i++ {
		name, value, cut := strings.Cut(args[i], "=")
		switch {
		case strings.HasPrefix(args[i], Unknown):
			return nil, nil, "with words that are only known when it runs"
		case slices.Contains(wrap.query, args[i]):
			return nil, nil, ""
		case args[i] == "--":
			i++
			break words
		case slices.Contains(wrap.script, args[i]):
			break words
		case slices.Contains(wrap.split, name) && (cut || i+1 < len(args)):
			if !cut {
				i++
				value = args[i]
			}
			words, err := shlex.Split(value)
			if err != nil || !Known(value) || strings.ContainsAny(value, `\$`) {
				return nil, nil, "with a string that is not read"
			}
			return args[:i], append(words, args[i+1:]...), ""
		case slices.Contains(valued, args[i]):
			i++
		case slices.Contains(valued, name) && cut && strings.HasPrefix(name, "--"), slices.Contains(bare, args[i]), joined(args[i], valued, bare):
		default:
			return nil, nil, "with the flag " + strings.ReplaceAll(args[i], Unknown, "…") + ", which is not known"
		}
	}
	flags = args[:i]
	if i += wrap.skip; i >= len(args) {
		return flags, nil, ""
	}
	return flags, slices.Clone(args[i:]), ""
}

// joined reports whether a word is one of several short flags in one, or a short flag with its value: -n1, -0r, -I{}.
func joined(word string, valued, bare []string) bool {
	if len(word) < 3 || word[1] == '-' {
		return false
	}
	for i := 1; i < len(word); i++ {
		flag := "-" + word[i:i+1]
		switch {
		case slices.Contains(valued, flag):
			return i+1 < len(word) // the rest is its value
		case !slices.Contains(bare, flag):
			return false
		}
	}
	return true
}

// shell reads sh -c SCRIPT, and a shell that reads a here-document.
func (w *walker) shell(env *state, n syntax.Node, words []string, io files) bool {
	commanded, stops := false, failure
	i := 1
	for ; i < len(words) && len(words[i]) > 1 && strings.ContainsAny(words[i][:1], "-+"); i++ {
		switch {
		case words[i] == "--":
		case words[i] == "-o" || words[i] == "+o" || words[i] == "-O":
			i++
		case strings.HasPrefix(words[i], "--"):
		default:
			commanded = commanded || words[i][0] == '-' && strings.Contains(words[i], "c")
			if words[i][0] == '-' && strings.Contains(words[i], "e") {
				stops = success
			}
		}
	}
	in := *env
	in.chain, in.funcs, in.exports, in.locals, in.returns, in.vars = false, nil, failure, nil, nil, env.vars.exportedOnly()
	in.stops = stops
	defer w.in(&in, n, path.Base(words[0]))()
	switch {
	case commanded && i < len(words):
		in.params = slices.Clone(words[min(i+2, len(words)):])
		w.nested(&in, n, words[i])
		return true
	case io.document != nil && (i >= len(words) || slices.Contains(words, "-s")):
		in.params = slices.Clone(words[min(i, len(words)):])
		w.nested(&in, n, *io.document)
		return true
	case !commanded && i < len(words) && !slices.ContainsFunc(words[1:i], func(f string) bool { return f[0] == '-' && strings.ContainsAny(f[1:], "nsri") }):
		p, text, ok := w.file(env, words[i])
		if _, _, script := Interpreter("\n" + text); !ok || !script {
			return false
		}
		w.inFile(env, n, path.Base(words[0]), words[1:i], p, words[i], text, words[i+1:])
		return true
	default:
		return false
	}
}

// su reads su USER -c SCRIPT.
func (w *walker) su(env *state, n syntax.Node, words []string) bool {
	for i, word := range words {
		if (word == "-c" || word == "--command") && i+1 < len(words) {
			in := *env
			in.chain, in.funcs, in.exports, in.locals, in.returns, in.vars = false, nil, failure, nil, nil, env.vars.exportedOnly()
			in.stops = failure
			defer w.in(&in, n, "sh")() // the user's own
			if slices.ContainsFunc(words, func(s string) bool { return s == "-" || s == "-l" || s == "--login" }) {
				in.vars = vars{}
			}
			w.nested(&in, n, words[i+1])
			return true
		}
	}
	return false
}

// git reads what git runs in each of its submodules, and git itself.
func (w *walker) git(env *state, n syntax.Node, words []string) bool {
	i := slices.Index(words, "foreach")
	if i < 1 || words[i-1] != "submodule" && !slices.Contains(words[:i], "submodule") {
		return false
	}
	rest := words[i+1:]
	for len(rest) > 0 && strings.HasPrefix(rest[0], "-") {
		rest = rest[1:]
	}
	if len(rest) == 0 {
		return false
	}
	in := *env
	in.through, in.certain, in.chain, in.dir, in.funcs, in.vars = "git", false, false, Unknown, nil, env.vars.exportedOnly()
	defer w.in(&in, n, "sh")()
	if len(rest) == 1 {
		w.nested(&in, n, rest[0])
		return true
	}
	w.outside(&in, n, slices.Clone(rest), files{})
	return true
}

// find reads the commands that find -exec runs, and find itself.
func (w *walker) find(env *state, n syntax.Node, words []string, io files) {
	w.emit(env, n, words, io)
	for i, word := range words {
		if !slices.Contains([]string{"-exec", "-execdir", "-ok", "-okdir"}, word) {
			continue
		}
		var command []string
		for _, word := range words[i+1:] {
			if word == ";" || word == "+" {
				break
			}
			command = append(command, strings.ReplaceAll(word, "{}", Unknown))
		}
		if len(command) > 0 {
			in := *env
			in.through, in.certain, in.chain, in.funcs = "find", false, false, nil
			if word == "-execdir" {
				in.dir = Unknown
			}
			w.outside(&in, n, command, files{})
		}
	}
}
