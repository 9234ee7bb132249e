package script

// variable is a shell variable.
type variable struct {
	value         string
	set, exported bool
	// perhaps: whether it is exported is not known.
	perhaps bool
}

// vars are a script's variables: a list of changes, the newest first, to what the script began with. It is immutable, so
// that a branch or a subshell costs nothing.
type vars struct {
	last  *change
	begin *begin
}

// begin is what a script begins with.
type begin struct {
	vars map[string]string
	// asked holds what was asked for while the script is read, nil before and after that. all: everything was asked for.
	asked map[string]variable
	all   bool
	open  bool // others may be set
}

func (b *begin) get(name string) variable {
	if b == nil {
		return variable{} // env -i
	}
	value, ok := b.vars[name]
	v := variable{value: value, set: ok, exported: ok}
	if !ok && b.open {
		v = variable{value: Unknown, set: true, perhaps: true}
	}
	if b.asked != nil {
		b.asked[name] = v
	}
	return v
}

type change struct {
	variable

	name   string
	before *change
}

func (v vars) get(name string) variable {
	for c := v.last; c != nil; c = c.before {
		if c.name == name {
			return c.variable
		}
	}
	return v.begin.get(name)
}

// maxValue bounds a variable's value, in bytes; a longer one counts as unknown. A=$A$A in a loop grows fast.
const maxValue = 4 << 10

// with returns the variables after a change.
func (v vars) with(name string, to variable) vars {
	if len(to.value) > maxValue {
		to.value = Unknown
	}
	v.last = &change{name: name, variable: to, before: v.last}
	return v
}

// exportedOnly are the variables that another shell begins with.
func (v vars) exportedOnly() vars {
	out := v
	for _, name := range v.since(vars{}) {
		if is := v.get(name); is.set && !is.exported && !is.perhaps {
			out = out.with(name, variable{})
		} else if is.perhaps {
			out = out.with(name, variable{value: Unknown, set: true, perhaps: true})
		}
	}
	return out
}

// since lists the names changed after an earlier state of the same variables.
func (v vars) since(earlier vars) []string {
	var out []string
	seen := map[string]bool{}
	for c := v.last; c != nil && c != earlier.last; c = c.before {
		if !seen[c.name] {
			seen[c.name] = true
			out = append(out, c.name)
		}
	}
	return out
}

// oneOf is a variable that is one of two.
func oneOf(a, b variable) variable {
	out := variable{value: a.value, set: true, exported: a.exported && b.exported, perhaps: a.perhaps || b.perhaps || a.exported != b.exported}
	if a.value != b.value || a.set != b.set {
		out.value = Unknown
	}
	return out
}

// merge returns what holds after one of two ways that both began at from was taken: a variable that they leave
// different is unknown.
func merge(from, a, b vars) vars {
	out := from
	for _, name := range append(a.since(from), b.since(from)...) {
		va, vb := a.get(name), b.get(name)
		if va != vb {
			va = oneOf(va, vb)
		}
		if out.get(name) != va {
			out = out.with(name, va)
		}
	}
	return out
}
