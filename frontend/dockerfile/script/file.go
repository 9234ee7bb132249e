package script

import (
	"path"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// FileRead is a script in a file that was read where a command runs it.
type FileRead struct {
	// Path is absolute.
	Path string
	// Before is how many commands were read before it.
	Before int
}

// fileAsked is a file that was asked for while a script was read; none says that its text is not known.
type fileAsked struct {
	path, text string
	none       bool
}

// file is the text of a script in a file, if it is known.
func (w *walker) file(st *state, name string) (p, text string, ok bool) {
	if p = resolve(st.dir, name); !Known(p) || !path.IsAbs(p) || st.through != "" {
		return "", "", false
	}
	text, ok = w.opt.Files[p]
	w.asked = append(w.asked, fileAsked{p, text, !ok})
	return p, text, ok
}

// executed reads a script in a file that is run by its path.
func (w *walker) executed(env *state, n syntax.Node, words []string) bool {
	if !strings.Contains(words[0], "/") {
		return false
	}
	p, text, ok := w.file(env, words[0])
	if !ok {
		return false
	}
	shell, flags, ok := Interpreter(text)
	if !ok {
		return false
	}
	w.inFile(env, n, shell, flags, p, words[0], text, words[1:])
	return true
}

// inFile reads a script in a file that a shell of its own runs, with options and parameters, under a name.
func (w *walker) inFile(env *state, n syntax.Node, shell string, flags []string, p, name, text string, params []string) {
	in := *env
	in.chain, in.funcs, in.exports, in.locals, in.returns, in.vars = false, nil, failure, nil, nil, env.vars.exportedOnly()
	in.stops, in.params, in.name = failure, slices.Clone(params), name
	for _, f := range flags {
		if strings.HasPrefix(f, "-") && !strings.HasPrefix(f, "--") && strings.Contains(f, "e") {
			in.stops = success
		}
	}
	source := variable{value: name, set: true}
	if shell != "bash" { // sh may be bash, or not
		source.value, source.perhaps = Unknown, shell == "sh"
		source.set = source.perhaps
	}
	in.vars = in.vars.with("BASH_SOURCE", source)
	w.out.Files = append(w.out.Files, FileRead{Path: p, Before: len(w.out.Commands)})
	defer w.in(&in, n, shell)()
	w.nested(&in, n, text)
}

// sourced reads a file that the shell itself runs: . FILE.
func (w *walker) sourced(st *state, n syntax.Node, words []string) bool {
	if len(words) < 2 || !strings.Contains(words[1], "/") { // else it is looked for in PATH
		return false
	}
	p, text, ok := w.file(st, words[1])
	if !ok || strings.Contains(text, "return") || strings.Contains(text, "BASH_SOURCE") {
		return false
	}
	params := st.params
	if len(words) > 2 {
		st.params = slices.Clone(words[2:])
	}
	w.out.Files = append(w.out.Files, FileRead{Path: p, Before: len(w.out.Commands)})
	w.nested(st, n, text)
	if len(words) > 2 {
		st.params = params
	}
	return true
}

// Interpreter is the shell that runs a script in a file when that is executed, and its options, by the script's first line; not ok if it is none of those
// whose language is read. A file without such a line is run by the shell that calls it (POSIX, Shell Command Language, 2.9.1.6).
func Interpreter(text string) (shell string, flags []string, ok bool) {
	if strings.Contains(text, "\r\n") || strings.Contains(text, "\x00") {
		return "", nil, false
	}
	line, _, _ := strings.Cut(text, "\n")
	rest, has := strings.CutPrefix(line, "#!")
	if !has {
		return "sh", nil, true
	}
	words := strings.Fields(rest)
	if len(words) > 0 && path.Base(words[0]) == "env" {
		words = words[1:]
		if len(words) > 0 && words[0] == "-S" {
			words = words[1:]
		} else if len(words) > 1 {
			return "", nil, false // the kernel hands it over as one word
		}
	} else if len(words) > 2 {
		return "", nil, false
	}
	if len(words) == 0 || !slices.Contains(shells, path.Base(words[0])) {
		return "", nil, false
	}
	for _, f := range words[1:] {
		if !strings.HasPrefix(f, "-") || strings.ContainsAny(f, "cs") && !strings.HasPrefix(f, "--") {
			return "", nil, false
		}
	}
	return path.Base(words[0]), words[1:], true
}
