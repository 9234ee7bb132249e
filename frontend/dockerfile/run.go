package dockerfile

import (
	"bytes"
	"regexp"
	"strings"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// run is what a RUN instruction runs, and where its text stands.
type run struct {
	line int
	form form
	// text is what the shell is given; script is the same parsed, nil where it cannot be, which problem then says.
	text    string
	script  *script.Script
	problem string
	argv    []string // of the exec form
	// spots say from which line of the file each stretch of text is.
	spots []spot
	// row and column, both counted from 0, are where text begins in the file: where something can be put before it. column is
	// -1 where nothing can be.
	row, column int
	mounts      []mount
	flags       string // as written, with the space after them
	takesAway   bool   // the script may take away a variable that is put before it
	// tied says what ties the instruction to the machine, as a flag; empty if nothing does.
	tied string
}

// mount is one --mount flag, its variables not expanded.
type mount struct {
	cache                bool // type=cache
	from, source, target string
}

// readMounts reads the --mount flags of an instruction. One that BuildKit refuses is left for it to report.
func readMounts(flags []string) []mount {
	var out []mount
	for _, flag := range flags {
		value, ok := strings.CutPrefix(flag, "--mount=")
		if !ok {
			continue
		}
		fields, err := csvvalue.Fields(value, nil)
		if err != nil {
			continue
		}
		var m mount
		for _, field := range fields {
			key, value, _ := strings.Cut(field, "=")
			switch strings.ToLower(key) {
			case "type":
				m.cache = strings.EqualFold(value, string(instructions.MountTypeCache))
			case "from":
				m.from = value
			case "source", "src":
				m.source = value
			case "target", "dst", "destination":
				m.target = value
			}
		}
		out = append(out, m)
	}
	return out
}

// form is how a RUN instruction is written.
type form uint8

const (
	shellForm form = iota + 1
	execForm
	documentForm // a here-document and nothing else
)

// spot says that text from the offset on, in bytes, is from the line, counted from 1.
type spot struct {
	offset, line int
	column       int // of that offset in the line
}

// lineOf is the file's line that an offset in the text is from.
func (r *run) lineOf(offset int) int {
	line := r.line
	for _, s := range r.spots {
		if s.offset > offset {
			break
		}
		line = s.line
	}
	return line
}

// readRun reads a RUN instruction. Lines are the file's, without their ends.
func readRun(c *instructions.RunCommand, node *parser.Node, lines [][]byte, escape rune) *run {
	r := &run{tied: tie(c), column: -1}
	r.line = lineOf(c)
	if node == nil {
		r.problem = "is written in a way that is not read"
		return r
	}
	r.mounts = readMounts(node.Flags)
	if !runKeyword.Match(lines[node.StartLine-1]) || len(c.CmdLine) == 0 {
		r.problem = "is written in a way that is not read"
		return r
	}
	joined, spots, next := join(lines, node.StartLine-1, escape)
	text, start := commandText(joined)
	r.flags = strings.TrimLeft(strings.TrimLeftFunc(joined[:start], isLetter), " \t")
	switch {
	case !c.PrependShell:
		r.form, r.argv = execForm, c.CmdLine
		r.place(spots, start)
		return r
	case len(c.Files) == 0:
		r.form, r.text = shellForm, text
		r.spots = shift(spots, start)
		r.place(spots, start)
	case parser.MustParseHeredoc(c.CmdLine[0]) != nil:
		r.readDocument(c.Files[0], next)
	default:
		r.form, r.text = shellForm, text
		r.spots = shift(spots, start)
		r.place(spots, start)
		for _, f := range c.Files {
			r.text += "\n"
			r.addLines(f.Data, next)
			r.text += f.Name
			next += strings.Count(f.Data, "\n") + 1
		}
	}
	if r.problem != "" {
		return r
	}
	if !strings.HasPrefix(r.text, c.CmdLine[0]) && r.form == shellForm {
		r.problem, r.column = "is written in a way that is not read", -1
		return r
	}
	r.takesAway = takesAway.MatchString(r.text)
	var err error
	if r.script, err = script.Parse(r.text); err != nil {
		r.problem = "holds a script that is not read (" + err.Error() + ")"
	}
	return r
}

// readDocument reads RUN <<EOF. A document that begins with #! is run by what that names.
func (r *run) readDocument(f instructions.ShellInlineFile, first int) {
	r.form = documentForm
	data := f.Data
	if f.Chomp {
		data = parser.ChompHeredocContent(data)
	}
	r.row, r.column = first, 0
	if interpreter, ok := strings.CutPrefix(data, "#!"); ok {
		interpreter, _, _ = strings.Cut(interpreter, "\n")
		if !isShell(strings.Fields(interpreter)) {
			r.problem = "is run by " + strings.TrimSpace(interpreter)
			return
		}
		r.row++
		if strings.Count(data, "\n") < 2 {
			r.column = -1
		}
	}
	r.addLines(data, first)
}

// isShell reports whether the words of a #! line name a shell whose language is read.
func isShell(words []string) bool {
	if len(words) > 1 && strings.HasSuffix(words[0], "/env") {
		words = words[1:]
	}
	return len(words) > 0 && shellName.MatchString(words[0])
}

// shellName matches the shells whose language is read.
var shellName = regexp.MustCompile(`^(.*/)?(sh|bash|ash|dash)$`)

// addLines adds whole lines of the file, from row first on, to the text.
func (r *run) addLines(data string, first int) {
	for line := range strings.Lines(data) {
		r.spots = append(r.spots, spot{offset: len(r.text), line: first + 1})
		r.text += line
		first++
	}
}

func (r *run) place(spots []spot, start int) {
	for _, s := range spots {
		if s.offset <= start {
			r.row, r.column = s.line-1, s.column+start-s.offset
		}
	}
}

// shift returns the spots of a text that begins at start.
func shift(spots []spot, start int) []spot {
	out := make([]spot, 0, len(spots))
	for _, s := range spots {
		s.offset = max(s.offset-start, 0)
		out = append(out, s)
	}
	return out
}

// join puts the lines of an instruction together, from a row on, as BuildKit's parser does: continuations are removed,
// comments and empty lines between them are left out. It returns the row after the last line.
func join(lines [][]byte, row int, escape rune) (string, []spot, int) {
	var text strings.Builder
	var spots []spot
	for first := true; row < len(lines); first = false {
		line := bytes.TrimRight(lines[row], "\r\n")
		row++
		column := 0
		if trimmed := bytes.TrimLeftFunc(line, unicode.IsSpace); first {
			column, line = len(line)-len(trimmed), trimmed
		} else if len(trimmed) == 0 || trimmed[0] == '#' {
			continue
		}
		rest, continued := continuation(line, escape)
		spots = append(spots, spot{offset: text.Len(), line: row, column: column})
		text.Write(rest)
		if !continued {
			break
		}
	}
	return text.String(), spots, row
}

// continuation cuts the escape character that continues a line.
func continuation(line []byte, escape rune) ([]byte, bool) {
	trimmed := bytes.TrimRight(line, " \t")
	end := len(trimmed) - 1
	if end < 0 || rune(trimmed[end]) != escape {
		return line, false
	}
	if end > 0 && rune(trimmed[end-1]) == escape {
		return line, false
	}
	return trimmed[:end], true
}

func isLetter(r rune) bool { return unicode.IsLetter(r) }

// runKeyword matches the beginning of a RUN line.
var runKeyword = regexp.MustCompile(`(?i)^[ \t]*RUN(?:[ \t]|$)`)

// leadingFlag matches one flag of an instruction and the space after it.
var leadingFlag = regexp.MustCompile(`^--(?:[^\s"'\\]|"[^"]*"|'[^']*'|\\.)*\s+`)

// commandText returns an instruction's text after its keyword and flags, and where it begins.
func commandText(joined string) (string, int) {
	start := strings.IndexAny(joined, " \t")
	if start < 0 {
		return "", len(joined)
	}
	skip := func() { start += len(joined[start:]) - len(strings.TrimLeft(joined[start:], " \t\r\n\f\v")) }
	skip()
	for {
		loc := leadingFlag.FindStringIndex(joined[start:])
		if loc == nil {
			break
		}
		start += loc[1]
	}
	skip()
	return strings.TrimSpace(joined[start:]), start
}

// tie names the flag of a RUN instruction that ties it to the machine it runs on.
func tie(c *instructions.RunCommand) string {
	if s := instructions.GetSecurity(c); s == "insecure" {
		return "--security=insecure"
	}
	if len(instructions.GetDevices(c)) > 0 {
		return "--device"
	}
	return ""
}
