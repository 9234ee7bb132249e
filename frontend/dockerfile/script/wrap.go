package script

import (
	"path"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// wrapper is a command that runs another one, given by its own words.
type wrapper struct {
	valued []string // its flags that take the next word
	skip   int      // words between its flags and the command
	query  []string // flags with which it runs nothing
	assign bool     // NAME=value words before the command hold for it
	clear  []string // flags with which the command gets no variables
	keep   []string // flags without which it gets none; nil means that it gets them
	unset  []string // flags that take away the variable that the next word names
	adds   bool     // further words are added to the command's
}

// wrappers are the commands that are looked through.
var wrappers = map[string]wrapper{
	"env":      {assign: true, unset: []string{"-u", "--unset"}, valued: []string{"-u", "--unset", "-C", "--chdir"}, clear: []string{"-i", "-", "--ignore-environment"}},
	"command":  {query: []string{"-v", "-V"}},
	"builtin":  {},
	"exec":     {valued: []string{"-a"}},
	"nohup":    {},
	"setsid":   {},
	"time":     {valued: []string{"-f", "-o"}},
	"nice":     {valued: []string{"-n"}},
	"ionice":   {valued: []string{"-c", "-n"}},
	"timeout":  {valued: []string{"-s", "-k"}, skip: 1},
	"stdbuf":   {valued: []string{"-i", "-o", "-e"}},
	"sudo":     {assign: true, keep: []string{"-E", "--preserve-env"}, valued: []string{"-u", "-g"}},
	"gosu":     {skip: 1},
	"su-exec":  {skip: 1},
	"xargs":    {adds: true, valued: []string{"-n", "-P", "-I", "-L", "-d", "-s", "-E", "-a", "--max-args", "--max-procs"}},
	"parallel": {adds: true, valued: []string{"-j", "-n"}},
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
	case name == "su":
		return w.su(env, n, words)
	}
	wrap, ok := wrappers[name]
	if !ok || words[0] != name && name != "env" {
		return false
	}
	rest, ok := wrap.command(words[1:])
	if !ok {
		return false
	}
	in := *env
	in.vars = wrap.variables(env.vars, words[1:len(words)-len(rest)])
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
	if wrap.adds {
		in.through = name
		if !slices.ContainsFunc(rest, func(s string) bool { return s == "{}" }) {
			rest = append(slices.Clone(rest), Unknown)
		}
		for i, word := range rest {
			rest[i] = strings.ReplaceAll(word, "{}", Unknown)
		}
	}
	if name == "exec" {
		w.out.Traps = true // nothing of this shell runs afterwards
	}
	if io.any() {
		w.emit(st, n, []string{":"}, files{reads: io.reads, writes: io.writes})
	}
	w.run(&in, &in, n, rest, files{document: io.document})
	return true
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
		}
	}
	if !kept {
		return vars{}
	}
	return v
}

// command returns the words of the command that is run. Not ok means that none is, or that it cannot be told.
func (wrap wrapper) command(args []string) ([]string, bool) {
	i := 0
	for i < len(args) && strings.HasPrefix(args[i], "-") {
		switch {
		case slices.Contains(wrap.query, args[i]):
			return nil, false
		case args[i] == "--":
			i++
			return tail(args, i+wrap.skip)
		case slices.Contains(wrap.valued, args[i]):
			i++
		}
		i++
	}
	return tail(args, i+wrap.skip)
}

func tail(args []string, from int) ([]string, bool) {
	if from >= len(args) {
		return nil, false
	}
	return slices.Clone(args[from:]), true
}

// shell reads sh -c SCRIPT, and a shell that reads a here-document.
func (w *walker) shell(env *state, n syntax.Node, words []string, io files) bool {
	commanded := false
	i := 1
	for ; i < len(words) && len(words[i]) > 1 && strings.ContainsAny(words[i][:1], "-+"); i++ {
		switch {
		case words[i] == "--":
		case words[i] == "-o" || words[i] == "+o" || words[i] == "-O":
			i++
		case strings.HasPrefix(words[i], "--"):
		default:
			commanded = commanded || words[i][0] == '-' && strings.Contains(words[i], "c")
		}
	}
	in := *env
	in.chain = false
	switch {
	case commanded && i < len(words):
		in.params = slices.Clone(words[min(i+2, len(words)):])
		w.nested(&in, n, words[i])
		return true
	case io.document != nil && (i >= len(words) || slices.Contains(words, "-s")):
		in.params = slices.Clone(words[min(i, len(words)):])
		w.nested(&in, n, *io.document)
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
			in.chain = false
			if slices.ContainsFunc(words, func(s string) bool { return s == "-" || s == "-l" || s == "--login" }) {
				in.vars = vars{}
			}
			w.nested(&in, n, words[i+1])
			return true
		}
	}
	return false
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
			in.through, in.certain, in.chain = "find", false, false
			if word == "-execdir" {
				in.dir = Unknown
			}
			w.run(&in, &in, n, command, files{})
		}
	}
}
