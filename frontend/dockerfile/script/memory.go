package script

import (
	"slices"
	"sync"
)

// memory holds readings of one script. Targets differ in a few variables, which most scripts never look at.
type memory struct {
	mu    sync.Mutex
	known []remembered
}

// remembered is a reading, and all it depends on.
type remembered struct {
	dir     string
	errexit bool
	bash    bool
	asked   map[string]variable
	outputs []output
	files   []fileAsked
	reading Reading
}

// output is what a command was said to print.
type output struct {
	of     Command
	prints string
}

// maxKnown bounds the readings that are kept of one script.
const maxKnown = 16

// find returns the reading of the script with the options, if it was read before with others that make no difference.
func (m *memory) find(opt Options) (Reading, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.known {
		if k.holds(opt) {
			return k.reading.from(opt.Vars), true
		}
	}
	return Reading{}, false
}

func (m *memory) add(k remembered) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.known) < maxKnown {
		m.known = append(m.known, k)
	}
}

func (k remembered) holds(opt Options) bool {
	if k.dir != opt.Dir || k.errexit != opt.Errexit || k.bash != opt.Bash {
		return false
	}
	for name, v := range k.asked {
		if value, set := opt.Vars[name]; set != v.set || value != v.value {
			return false
		}
	}
	for _, f := range k.files {
		if text, known := opt.Files[f.path]; known == f.none || text != f.text {
			return false
		}
	}
	w := walker{opt: opt}
	for _, o := range k.outputs {
		if w.output(o.of.from(&begin{vars: opt.Vars})) != o.prints {
			return false
		}
	}
	return true
}

// from returns the command as one of a script that began with other variables.
func (c Command) from(b *begin) Command {
	if c.vars.begin != nil {
		c.vars.begin = b
	}
	return c
}

// from returns the reading as that of a script which began with other variables, of which it asked for none.
func (r Reading) from(env map[string]string) Reading {
	b := &begin{vars: env}
	r.Commands = slices.Clone(r.Commands)
	for i, c := range r.Commands {
		r.Commands[i] = c.from(b)
	}
	r.Problems = slices.Clip(r.Problems)
	return r
}
