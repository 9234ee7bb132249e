package source

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// maxSize bounds a Dockerfile, in bytes. BuildKit's own limit for one message of the gateway is 16 MiB.
const maxSize = 16 << 20

// File is a parsed Dockerfile. It is immutable; callers must not change what it holds.
type File struct {
	// Name is what errors call the file.
	Name string
	// Escape is the character that continues lines and takes away the meaning of the next one.
	Escape rune
	// Header holds the options in the comments above the first instruction, in order. Nil means none.
	Header []HeaderOption
	// Stages are as written; there is at least one.
	Stages []*Stage
	// Args are declared before the first FROM, in order. Nil means none.
	Args []Argument
	// ArgLines are all ARG instructions, in order.
	ArgLines []ArgLine

	src  []byte
	rows [][]byte // the lines, without their ends
}

// Stage is what one FROM line and what follows it say, before any variable is expanded.
type Stage struct {
	Index int
	// Name is as written; empty if the stage has none.
	Name string
	// Base is the word after FROM, and Platform that of --platform; empty if there is none.
	Base, Platform string
	// Fixed reports whether nothing can be put into its FROM line.
	Fixed bool
	// Line is that of FROM and LastLine the last one of its instructions, both counted from 1.
	Line, LastLine int
	Args           []Argument
	// Env holds the keys that ENV instructions set. Set holds the variables that ENV, or ARG with a default, sets, each with the first line
	// that does.
	Env map[string]bool
	Set map[string]int
	// RunLines are the lines of RUN instructions.
	RunLines []int
	Body     []instructions.Command
	// Uses are the stages and images named by COPY --from and RUN --mount=from=.
	Uses []string

	runs    map[*instructions.RunCommand]*Run
	keyword int // where a flag can be put into the FROM line
}

// Argument is one name of an ARG instruction.
type Argument struct {
	Name string
	// Value is the default, nil if there is none.
	Value *string
	Line  int
}

// ArgLine is an ARG instruction as its words stand in the file.
type ArgLine struct {
	// Stage is the index of the stage it is in, -1 before the first.
	Stage int
	// Line and EndLine are its first and its last line.
	Line, EndLine int
	// Words are NAME or NAME=value.
	Words []string
}

// Parse reads a Dockerfile. The name is what errors call it. An error of the Dockerfile language is BuildKit's own,
// with its location.
func Parse(name string, src []byte) (*File, error) {
	if len(src) > maxSize {
		return nil, fmt.Errorf("%s: larger than %d MiB", name, maxSize>>20)
	}
	ast, err := parser.Parse(bytes.NewReader(src))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	// A nil linter panics on a "# check=" comment inside the file.
	parsed, global, err := instructions.Parse(ast.AST, linter.New(&linter.Config{SkipAll: true}))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(parsed) == 0 {
		return nil, fmt.Errorf("%s: it holds no stage to build", name)
	}
	header, err := parseHeader(name, src)
	if err != nil {
		return nil, err
	}
	f := &File{Name: name, src: bytes.Clone(src), Escape: ast.EscapeToken, Header: header}
	for i := range global {
		f.Args = append(f.Args, arguments(&global[i])...)
	}
	f.rows = bytes.Split(f.src, []byte("\n"))
	nodes := map[int]*parser.Node{}
	at := -1
	for _, n := range ast.AST.Children {
		nodes[n.StartLine] = n
		switch strings.ToLower(n.Value) {
		case "from":
			at++
		case "arg":
			f.ArgLines = append(f.ArgLines, readArgLine(n, at))
		}
	}
	for i := range parsed {
		s := readStage(i, &parsed[i])
		s.keyword, s.Fixed = flagColumn(nodes[s.Line], f.row(s.Line))
		for _, c := range s.Body {
			if c, ok := c.(*instructions.RunCommand); ok {
				s.runs[c] = readRun(c, nodes[LineOf(c)], f.rows, f.Escape)
			}
		}
		f.Stages = append(f.Stages, s)
	}
	return f, nil
}

func readArgLine(n *parser.Node, stage int) ArgLine {
	out := ArgLine{Stage: stage, Line: n.StartLine, EndLine: n.EndLine}
	for w := n.Next; w != nil; w = w.Next {
		out.Words = append(out.Words, w.Value)
	}
	return out
}

// fromKeyword is the beginning of a FROM line, up to where a flag can be put.
var fromKeyword = regexp.MustCompile(`(?i)^[ \t]*FROM(?:[ \t]|$)`)

// flagColumn is where --platform can be put into a FROM line. It is fixed if the flag is there already, even without a value, or the keyword
// is not where it is expected.
func flagColumn(from *parser.Node, row string) (column int, fixed bool) {
	given := func(flag string) bool { return strings.HasPrefix(flag, "--platform") }
	if from == nil || slices.ContainsFunc(from.Flags, given) {
		return 0, true
	}
	loc := fromKeyword.FindStringIndex(row)
	if loc == nil {
		return 0, true
	}
	return len(strings.TrimRight(row[:loc[1]], " \t\r\n")), false
}

// row returns a line of the file, counted from 1, without its end.
func (f *File) row(line int) string {
	if line < 1 || line > len(f.rows) {
		return ""
	}
	return string(f.rows[line-1])
}

// Text returns the file's bytes. The caller must not change them.
func (f *File) Text() []byte { return f.src }

// StageAt returns the index of the stage that holds the line, counted from 1; -1 for a line before the first FROM.
func (f *File) StageAt(line int) int {
	at := -1
	for _, s := range f.Stages {
		if s.Line <= line {
			at = s.Index
		}
	}
	return at
}

// Title is the stage's name, or its index where it has none.
func (s *Stage) Title() string {
	if s.Name != "" {
		return s.Name
	}
	return strconv.Itoa(s.Index)
}

func readStage(index int, in *instructions.Stage) *Stage {
	s := &Stage{
		Index: index, Name: in.Name, Base: in.BaseName, Platform: in.Platform, Env: map[string]bool{}, Set: map[string]int{},
		Body: in.Commands, runs: map[*instructions.RunCommand]*Run{},
	}
	s.Line, s.LastLine = lines(in.Location)
	for _, c := range in.Commands {
		_, s.LastLine = lines(c.Location())
		s.readCommand(c)
	}
	return s
}

func (s *Stage) readCommand(c instructions.Command) {
	switch c := c.(type) {
	case *instructions.ArgCommand:
		args := arguments(c)
		s.Args = append(s.Args, args...)
		for _, a := range args {
			if a.Value != nil {
				s.sets(a.Name, a.Line)
			}
		}
	case *instructions.EnvCommand:
		for _, kv := range c.Env {
			s.Env[kv.Key] = true
			s.sets(kv.Key, LineOf(c))
		}
	case *instructions.RunCommand:
		s.RunLines = append(s.RunLines, LineOf(c))
		for _, m := range instructions.GetMounts(c) {
			if m.From != "" {
				s.Uses = append(s.Uses, m.From)
			}
		}
	case *instructions.CopyCommand:
		if c.From != "" {
			s.Uses = append(s.Uses, c.From)
		}
	}
}

// Run is what is known of a RUN instruction of the stage; nil for one of another stage.
func (s *Stage) Run(c *instructions.RunCommand) *Run { return s.runs[c] }

// RunAt returns the RUN instruction that begins on a line, nil if none does.
func (s *Stage) RunAt(line int) *Run {
	for _, r := range s.runs {
		if r.Line == line {
			return r
		}
	}
	return nil
}

// sets notes the first line that gives a variable a value.
func (s *Stage) sets(name string, line int) {
	if _, ok := s.Set[name]; !ok {
		s.Set[name] = line
	}
}

func arguments(c *instructions.ArgCommand) []Argument {
	out := make([]Argument, len(c.Args))
	for i, a := range c.Args {
		out[i] = Argument{Name: a.Key, Value: a.Value, Line: LineOf(c)}
	}
	return out
}

// LineOf is the first line of an instruction, counted from 1.
func LineOf(c instructions.Command) int {
	first, _ := lines(c.Location())
	return first
}

// lines returns the first and the last line of a location.
func lines(location []parser.Range) (first, last int) {
	if len(location) == 0 {
		return 0, 0
	}
	return location[0].Start.Line, location[len(location)-1].End.Line
}

// Find returns the index of the stage called name among the stages before limit, case-insensitively as BuildKit
// does, the last one of that name; -1 if there is none.
func (f *File) Find(name string, limit int) int {
	for i := limit - 1; i >= 0; i-- {
		if f.Stages[i].Name != "" && strings.EqualFold(f.Stages[i].Name, name) {
			return i
		}
	}
	return -1
}

// FindSource resolves the value of --from: a stage's name or its index. -1 means an image.
func (f *File) FindSource(from string) int {
	if i, err := strconv.Atoi(from); err == nil {
		if i >= 0 && i < len(f.Stages) {
			return i
		}
		return -1
	}
	return f.Find(from, len(f.Stages))
}

// GlobalDefault reports whether the file declares the argument, before its first FROM, with a default of its own.
func (f *File) GlobalDefault(name string) bool {
	return slices.ContainsFunc(f.Args, func(a Argument) bool { return a.Name == name && a.Value != nil })
}

// HasValue reports whether the stage before the line, or a stage it inherits from, gives the variable a value. An ARG
// without a default leaves that value as it is.
func (f *File) HasValue(name string, stage, line int) bool {
	if first, ok := f.Stages[stage].Set[name]; ok && first < line {
		return true
	}
	for i := f.Find(f.Stages[stage].Base, stage); i >= 0; i = f.Find(f.Stages[i].Base, i) {
		if _, ok := f.Stages[i].Set[name]; ok {
			return true
		}
	}
	return false
}
