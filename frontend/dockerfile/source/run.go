package source

import (
	"bytes"
	"regexp"
	"strings"
	"sync"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// Run is what a RUN instruction runs, and where its text stands.
type Run struct {
	// Interpreter is the first line of a document that names one: "#!/bin/bash"; else empty.
	Interpreter string
	// Notes are what readers of the text have found in it, which is the same for every target, by keys of theirs.
	Notes sync.Map

	// Line is its first line, counted from 1.
	Line int
	Form Form
	// Text is what the shell is given; Script is the same parsed, nil where it cannot be, which Problem then says as a clause.
	Text    string
	Script  *script.Script
	Problem string
	// Argv are the words of the exec form.
	Argv []string
	// Mounts are the --mount flags, and Flags all flags as written, with the space after them.
	Mounts []Mount
	Flags  string
	// Tied names the flag that ties the instruction to the machine; empty if none does.
	Tied string

	// spots say from which line of the file each stretch of text is.
	spots []spot
	// row and column, both counted from 0, are where text begins in the file: where something can be put before it. column is
	// -1 where nothing can be.
	row, column int
	keyword     int // the column behind the keyword, where a flag can be put
}

// Mount is one --mount flag, its variables not expanded.
type Mount struct {
	// Cache reports whether it is of type=cache, Bind whether it is of type=bind, which is the default.
	Cache, Bind bool
	// From, Source and Target are as written; empty if they are not.
	From, Source, Target string
}

// readMounts reads the --mount flags of an instruction. One that BuildKit refuses is left for it to report.
func readMounts(flags []string) []Mount {
	var out []Mount
	for _, flag := range flags {
		value, ok := strings.CutPrefix(flag, "--mount=")
		if !ok {
			continue
		}
		fields, err := csvvalue.Fields(value, nil)
		if err != nil {
			continue
		}
		m := Mount{Bind: true}
		for _, field := range fields {
			key, value, _ := strings.Cut(field, "=")
			switch strings.ToLower(key) {
			case "type":
				m.Cache = strings.EqualFold(value, string(instructions.MountTypeCache))
				m.Bind = strings.EqualFold(value, string(instructions.MountTypeBind))
			case "from":
				m.From = value
			case "source", "src":
				m.Source = value
			case "target", "dst", "destination":
				m.Target = value
			}
		}
		out = append(out, m)
	}
	return out
}

// Form is how a RUN instruction is written.
type Form uint8

const (
	// ShellForm is a command line that the shell reads.
	ShellForm Form = iota + 1
	// ExecForm is a list of words that no shell reads.
	ExecForm
	// DocumentForm is a here-document and nothing else.
	DocumentForm
)

// spot says that text from the offset on, in bytes, is from the line, counted from 1.
type spot struct {
	offset, line int
	column       int // of that offset in the line
}

// LineOf is the file's line that an offset in the text is from.
func (r *Run) LineOf(offset int) int {
	if line, _ := placeOf(r.spots, offset); line > 0 {
		return line
	}
	return r.Line
}

// readRun reads a RUN instruction. Lines are the file's, without their ends.
func readRun(c *instructions.RunCommand, node *parser.Node, lines [][]byte, escape rune) *Run {
	r := &Run{Tied: tie(c), column: -1}
	r.Line = LineOf(c)
	if node == nil {
		r.Problem = "is written in a way that is not read"
		return r
	}
	r.Mounts = readMounts(node.Flags)
	if !runKeyword.Match(lines[node.StartLine-1]) || len(c.CmdLine) == 0 {
		r.Problem = "is written in a way that is not read"
		return r
	}
	first := string(lines[node.StartLine-1])
	r.keyword = len(first) - len(strings.TrimLeft(first, " \t")) + len("RUN")
	joined, spots, next := join(lines, node.StartLine-1, escape)
	text, start := commandText(joined)
	r.Flags = strings.TrimLeft(strings.TrimLeftFunc(joined[:start], isLetter), " \t")
	switch {
	case !c.PrependShell:
		r.Form, r.Argv = ExecForm, c.CmdLine
		r.place(spots, start)
		return r
	case len(c.Files) == 0:
		r.Form, r.Text = ShellForm, text
		r.spots = shift(spots, start)
		r.place(spots, start)
	case parser.MustParseHeredoc(c.CmdLine[0]) != nil:
		r.readDocument(c.Files[0], next)
	default:
		r.Form, r.Text = ShellForm, text
		r.spots = shift(spots, start)
		r.place(spots, start)
		for _, f := range c.Files {
			r.Text += "\n"
			r.addLines(f.Data, next)
			r.Text += f.Name
			next += strings.Count(f.Data, "\n") + 1
		}
	}
	if r.Problem != "" {
		return r
	}
	if !strings.HasPrefix(r.Text, c.CmdLine[0]) && r.Form == ShellForm {
		r.Problem, r.column = "is written in a way that is not read", -1
		return r
	}
	var err error
	if r.Script, err = script.Parse(r.Text); err != nil {
		r.Problem = "holds a script that is not read (" + err.Error() + ")"
	}
	return r
}

// readDocument reads RUN <<EOF. A document that begins with #! is run by what that names.
func (r *Run) readDocument(f instructions.ShellInlineFile, first int) {
	r.Form = DocumentForm
	data := f.Data
	if f.Chomp {
		data = parser.ChompHeredocContent(data)
	}
	r.row, r.column = first, 0
	if interpreter, ok := strings.CutPrefix(data, "#!"); ok {
		interpreter, _, _ = strings.Cut(interpreter, "\n")
		r.Interpreter = "#!" + interpreter
		if !IsShell(strings.Fields(interpreter)) {
			r.Problem = "is run by " + strings.TrimSpace(interpreter)
			return
		}
		r.row++
		if strings.Count(data, "\n") < 2 {
			r.column = -1
		}
	}
	r.addLines(data, first)
}

// IsShell reports whether the words of a #! line name a shell whose language is read.
func IsShell(words []string) bool {
	if len(words) > 1 && strings.HasSuffix(words[0], "/env") {
		words = words[1:]
	}
	return len(words) > 0 && shellName.MatchString(words[0])
}

// shellName matches the shells whose language is read.
var shellName = regexp.MustCompile(`^(.*/)?(sh|bash|ash|dash)$`)

// addLines adds whole lines of the file, from row first on, to the text.
func (r *Run) addLines(data string, first int) {
	for line := range strings.Lines(data) {
		r.spots = append(r.spots, spot{offset: len(r.Text), line: first + 1})
		r.Text += line
		first++
	}
}

func (r *Run) place(spots []spot, start int) {
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
