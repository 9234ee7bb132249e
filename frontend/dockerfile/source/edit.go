package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// Edit replaces the bytes [From, To) of one line by a text that holds no line end.
type Edit struct {
	// Line is counted from 1, From and To are columns in bytes, counted from 0. Equal ones insert.
	Line, From, To int
	Text           string
}

// Rewrite returns the file's text with edits made. Several that insert at one place are made in the order given; edits that overlap, lie
// outside a line or hold a line end are an error.
func (f *File) Rewrite(edits []Edit) ([]byte, error) {
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(a, b Edit) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.From - b.From
	})
	text := bytes.SplitAfter(f.src, []byte("\n"))
	for i := 0; i < len(edits); {
		line := edits[i].Line
		if line < 1 || line > len(text) {
			return nil, fmt.Errorf("%s: no line %d to edit", f.Name, line)
		}
		row := text[line-1]
		end := len(row) - len(lineEnd(row))
		var out []byte
		at := 0
		for ; i < len(edits) && edits[i].Line == line; i++ {
			e := edits[i]
			if e.From < at || e.To < e.From || e.To > end || strings.Contains(e.Text, "\n") {
				return nil, fmt.Errorf("%s:%d: the edit %q of columns %d to %d does not fit", f.Name, line, e.Text, e.From, e.To)
			}
			out = append(append(out, row[at:e.From]...), e.Text...)
			at = e.To
		}
		text[line-1] = append(out, row[at:]...)
	}
	return bytes.Join(text, nil), nil
}

// lineEnd returns the line's own line ending: LF, CRLF, or nothing at the end of the file.
func lineEnd(line []byte) string { return string(line[len(bytes.TrimRight(line, "\r\n")):]) }

// Pin puts --platform into the stage's FROM line. Not ok means that it cannot be put there.
func (s *Stage) Pin(platform string) (Edit, bool) {
	return Edit{Line: s.Line, From: s.keyword, To: s.keyword, Text: " --platform=" + platform}, !s.Fixed
}

// SetArgs writes an ARG instruction anew, on its first line; the lines it was continued on become blank.
func (f *File) SetArgs(a ArgLine, words []string) []Edit {
	first := f.row(a.Line)
	begin := len(first) - len(strings.TrimLeft(first, " \t")) + len("ARG")
	end := func(row string) int { return len(strings.TrimRight(row, "\r")) }
	out := []Edit{{Line: a.Line, From: min(begin, end(first)), To: end(first), Text: " " + strings.Join(words, " ")}}
	for line := a.Line + 1; line <= a.EndLine && line <= len(f.rows); line++ {
		out = append(out, Edit{Line: line, To: end(f.row(line))})
	}
	return out
}

// Prepend puts a script in front of the RUN's own, in its form. The script has to end so that a command can follow on the same line.
// It must not be used where [Run.Editable] says no, or for a RUN in exec form.
func (r *Run) Prepend(script string) Edit { return r.before(script) }

// PrependWords puts words in front of those of a RUN in exec form.
func (r *Run) PrependWords(words []string) Edit {
	var b strings.Builder
	for _, w := range words {
		q, err := json.Marshal(w)
		if err != nil {
			continue // a string always marshals
		}
		b.Write(q)
		b.WriteString(", ")
	}
	e := r.before(b.String())
	e.From += len("[")
	e.To = e.From
	return e
}

func (r *Run) before(text string) Edit {
	return Edit{Line: r.row + 1, From: r.column, To: r.column, Text: text}
}

// Editable reports whether something can be put before the RUN's command.
func (r *Run) Editable() bool { return r.column >= 0 }

// AddFlag puts a flag behind the keyword of a RUN instruction.
func (r *Run) AddFlag(flag string) Edit {
	return Edit{Line: r.Line, From: r.keyword, To: r.keyword, Text: " " + flag}
}

// ReplaceFrom has every --from= or from= of an instruction that names an image name another one. Not ok means that it is written in a way
// that is not read.
func (f *File) ReplaceFrom(c instructions.Command, image, by string) ([]Edit, bool) {
	joined, spots, _ := join(f.rows, LineOf(c)-1, f.Escape)
	_, start := commandText(joined)
	var out []Edit
	for i := 0; ; {
		at := strings.Index(joined[i:start], "from="+image)
		if at < 0 {
			return out, len(out) > 0
		}
		from := i + at + len("from=")
		i = from + len(image)
		if i < len(joined) && !strings.ContainsRune(" \t,\"'", rune(joined[i])) {
			continue // a longer name
		}
		line, column := placeOf(spots, from)
		endLine, end := placeOf(spots, i-1)
		if line != endLine {
			return nil, false
		}
		out = append(out, Edit{Line: line, From: column, To: end + 1, Text: by})
	}
}

// placeOf is the line, counted from 1, and the column, from 0, of an offset in joined lines.
func placeOf(spots []spot, offset int) (line, column int) {
	for _, s := range spots {
		if s.offset > offset {
			break
		}
		line, column = s.line, s.column+offset-s.offset
	}
	return line, column
}
