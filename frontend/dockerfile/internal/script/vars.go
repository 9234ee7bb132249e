package script

// variable is a shell variable.
type variable struct {
	value         string
	set, exported bool
}

// vars are a script's variables: a list of changes, the newest first, to what the script began with. It is immutable, so
// that a branch or a subshell costs nothing.
type vars struct {
	last  *change
	begin map[string]string
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
	value, ok := v.begin[name]
	return variable{value: value, set: ok, exported: ok}
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

// assigned returns the variables after name=value: a variable that is exported stays so.
func (v vars) assigned(name, value string) vars {
	return v.with(name, variable{value: value, set: true, exported: v.get(name).exported})
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

// merge returns what holds after one of two ways that both began at from was taken: a variable that they leave
// different is unknown.
func merge(from, a, b vars) vars {
	out := from
	for _, name := range append(a.since(from), b.since(from)...) {
		va, vb := a.get(name), b.get(name)
		if va != vb {
			va = variable{value: Unknown, set: true, exported: va.exported || vb.exported}
		}
		if out.get(name) != va {
			out = out.with(name, va)
		}
	}
	return out
}
