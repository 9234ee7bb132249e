package dockerfile

import (
	"encoding/json"
	"path"
	"strings"
)

// What is put into RUN instructions, so that they work for the target on the build platform.

// goenvPath is where Go's configuration is put for the time of one RUN. The folder is in memory and no part of any layer.
const goenvPath = "/dev/shm/manifold-goenv"

// prefix is what a script begins with. It ends so that a command can follow on the same line.
func (e *edit) prefix() string {
	var b strings.Builder
	if len(e.unset) > 0 {
		b.WriteString("unset " + strings.Join(e.unset, " ") + "; ")
	}
	if len(e.env) > 0 {
		b.WriteString("export")
		for _, v := range e.env {
			b.WriteString(" " + v.Name + "=" + v.Value)
		}
		b.WriteString("; ")
	}
	if e.goenv {
		b.WriteString(`{ cat "$(go env GOENV 2>/dev/null)" 2>/dev/null; printf '%s\n'`)
		for _, v := range e.env {
			b.WriteString(" " + v.Name + "=" + v.Value)
		}
		b.WriteString("; } >" + goenvPath + "; export GOENV=" + goenvPath + "; ")
	}
	if e.cargo != "" {
		b.WriteString(cargoWrapper(e.cargo))
	}
	if e.binDir != "" {
		link := `"` + e.bin + "/" + e.binDir + `"`
		into := firstSet(e.binInto, ".")
		b.WriteString(`mkdir -p "` + e.bin + `"; `)
		if e.binInto != "" {
			b.WriteString(`mkdir -p "` + e.binInto + `"; `)
		}
		b.WriteString(`ln -sfn "` + into + `" ` + link + `; trap 'rm -f ` + link + `' EXIT; `)
	}
	return b.String()
}

// inject puts an edit into the lines of a RUN instruction.
func (e *edit) inject(text [][]byte, r *run) {
	if p := e.before(r); p != "" && r.column >= 0 && r.row < len(text) {
		column := r.column
		if r.form == execForm {
			column += len("[")
		}
		insert(text, r.row, column, p)
	}
	if e.cacheDir != "" {
		row := r.line - 1
		line := string(text[row])
		column := len(line) - len(strings.TrimLeft(line, " \t")) + len("RUN")
		insert(text, row, column, " --mount=type=cache,target="+e.cacheDir)
	}
}

// before is what goes in front of the RUN's text in its own form.
func (e *edit) before(r *run) string {
	if r.form != execForm {
		return e.prefix()
	}
	if len(e.env)+len(e.unset) == 0 {
		return ""
	}
	words := []string{"env"}
	for _, name := range e.unset {
		words = append(words, "-u", name)
	}
	for _, v := range e.env {
		words = append(words, v.Name+"="+v.Value)
	}
	var b strings.Builder
	for _, w := range words {
		q, err := json.Marshal(w)
		if err != nil {
			return ""
		}
		b.WriteString(string(q) + ", ")
	}
	return b.String()
}

func insert(text [][]byte, row, column int, what string) {
	line := text[row]
	column = min(column, len(line))
	text[row] = []byte(string(line[:column]) + what + string(line[column:]))
}

// binOf is the directory of go install's programs as a script spells it.
func binOf(goPath string) string {
	if goPath == "" {
		return `${GOPATH:-$HOME/go}/bin`
	}
	return path.Join(goPath, "bin")
}
