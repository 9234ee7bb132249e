package effect

import (
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// flagTable says which flags of a command take a value. It is made once from a row's words.
type flagTable map[string]bool

// flagsOf reads a row's flags: "-o --output" are those that take the next word or what is joined to them.
func flagsOf(words string) flagTable {
	out := flagTable{}
	for w := range strings.FieldsSeq(words) {
		out[w] = true
	}
	return out
}

// flag is one flag of a command line, its value empty if it has none.
type flag struct{ name, value string }

// arguments are a command line taken apart.
type arguments struct {
	flags    []flag
	operands []string
	// unsure: a word that is not known stands where a flag may.
	unsure bool
}

// parse takes apart what follows a command's name, as getopt_long does: -xzf FILE, -ofile, --name=value, --name value, and operands
// between them.
func (t flagTable) parse(words []string) arguments {
	var a arguments
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case strings.HasPrefix(w, script.Unknown):
			a.unsure = true
			a.operands = append(a.operands, w)
		case w == "--":
			a.operands = append(a.operands, words[i+1:]...)
			return a
		case len(w) < 2 || w[0] != '-':
			a.operands = append(a.operands, w)
		case strings.HasPrefix(w, "--"):
			name, value, cut := strings.Cut(w, "=")
			if t[name] && !cut && i+1 < len(words) {
				i++
				value = words[i]
			}
			a.flags = append(a.flags, flag{name, value})
		default:
			i = a.short(t, words, i)
		}
	}
	return a
}

// short reads one word of short flags and returns the index of the last word that belongs to it. A word that is a flag by itself, as -pthread,
// is one.
func (a *arguments) short(t flagTable, words []string, i int) int {
	w := words[i]
	if name, value, cut := strings.Cut(w, "="); len(name) > 2 && (t[name] || cut) {
		if t[name] && !cut && i+1 < len(words) {
			i++
			value = words[i]
		}
		a.flags = append(a.flags, flag{name, value})
		return i
	}
	for at := 1; at < len(w); at++ {
		name := "-" + w[at:at+1]
		if !t[name] {
			a.flags = append(a.flags, flag{name: name})
			continue
		}
		value := w[at+1:]
		if value == "" && i+1 < len(words) {
			i++
			value = words[i]
		}
		a.flags = append(a.flags, flag{name, value})
		break
	}
	return i
}

// get returns the value of the last of several flags that mean the same.
func (a arguments) get(names ...string) (string, bool) {
	for _, f := range slices.Backward(a.flags) {
		if slices.Contains(names, f.name) {
			return f.value, true
		}
	}
	return "", false
}

func (a arguments) has(names ...string) bool {
	_, ok := a.get(names...)
	return ok
}
