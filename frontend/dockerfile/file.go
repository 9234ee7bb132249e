package dockerfile

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// maxSize bounds a Dockerfile, in bytes. BuildKit's own limit for one message of the gateway is 16 MiB.
const maxSize = 16 << 20

// File is a parsed Dockerfile. It is immutable.
type File struct {
	name   string
	src    []byte
	escape rune
	nodes  []*parser.Node // the instructions
	rows   [][]byte       // the lines, without their ends
	header []HeaderOption
	stages []*stage
	args   []argument // declared before the first FROM, in order
}

// stage is what one FROM line and what follows it say, before any variable is expanded.
type stage struct {
	index    int
	name     string // as written; empty if the stage has none
	base     string // word after FROM
	platform string // word of --platform, empty if there is none
	fixed    bool   // nothing can be put into its FROM line
	line     int
	lastLine int
	args     []argument
	env      map[string]bool // keys that ENV instructions set
	set      map[string]int  // variables that ENV, or ARG with a default, sets, and the first line that does
	runs     []int           // lines of RUN instructions
	body     []instructions.Command
	runAt    map[*instructions.RunCommand]*run
	uses     []string // stages named by COPY --from, ADD --from and RUN --mount=from=
}

// argument is one name of an ARG instruction.
type argument struct {
	name  string
	value *string // default, nil if there is none
	line  int
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
	f := &File{name: name, src: bytes.Clone(src), escape: ast.EscapeToken, header: header, nodes: ast.AST.Children}
	for i := range global {
		f.args = append(f.args, arguments(&global[i])...)
	}
	nodes := map[int]*parser.Node{}
	for _, n := range ast.AST.Children {
		nodes[n.StartLine] = n
	}
	f.rows = bytes.Split(f.src, []byte("\n"))
	for i := range parsed {
		s := readStage(i, &parsed[i])
		s.fixed = !takesFlag(nodes[s.line], f.row(s.line))
		for _, c := range s.body {
			if c, ok := c.(*instructions.RunCommand); ok {
				s.runAt[c] = readRun(c, nodes[lineOf(c)], f.rows, f.escape)
			}
		}
		f.stages = append(f.stages, s)
	}
	return f, nil
}

// takesFlag reports whether --platform can be put into a FROM line: it is not there yet, not even without a value, and the keyword
// is where it is expected.
func takesFlag(from *parser.Node, row string) bool {
	given := func(flag string) bool { return strings.HasPrefix(flag, "--platform") }
	return from != nil && !slices.ContainsFunc(from.Flags, given) && fromKeyword.MatchString(row)
}

// row returns a line of the file, counted from 1, without its end.
func (f *File) row(line int) string {
	if line < 1 || line > len(f.rows) {
		return ""
	}
	return string(f.rows[line-1])
}

// Name returns the name the file was parsed under.
func (f *File) Name() string { return f.name }

// StageAt returns the name of the stage that holds the line, counted from 1, or its index where it has no name. It
// is empty for a line before the first FROM.
func (f *File) StageAt(line int) string {
	name := ""
	for _, s := range f.stages {
		if s.line <= line {
			name = s.title()
		}
	}
	return name
}

// title is the stage's name, or its index where it has none.
func (s *stage) title() string {
	if s.name != "" {
		return s.name
	}
	return strconv.Itoa(s.index)
}

func readStage(index int, in *instructions.Stage) *stage {
	s := &stage{
		index: index, name: in.Name, base: in.BaseName, platform: in.Platform, env: map[string]bool{}, set: map[string]int{},
		body: in.Commands, runAt: map[*instructions.RunCommand]*run{},
	}
	s.line, s.lastLine = lines(in.Location)
	for _, c := range in.Commands {
		_, s.lastLine = lines(c.Location())
		s.readCommand(c)
	}
	return s
}

func (s *stage) readCommand(c instructions.Command) {
	switch c := c.(type) {
	case *instructions.ArgCommand:
		args := arguments(c)
		s.args = append(s.args, args...)
		for _, a := range args {
			if a.value != nil {
				s.sets(a.name, a.line)
			}
		}
	case *instructions.EnvCommand:
		line, _ := lines(c.Location())
		for _, kv := range c.Env {
			s.env[kv.Key] = true
			s.sets(kv.Key, line)
		}
	case *instructions.RunCommand:
		line, _ := lines(c.Location())
		s.runs = append(s.runs, line)
		for _, m := range instructions.GetMounts(c) {
			if m.From != "" {
				s.uses = append(s.uses, m.From)
			}
		}
	case *instructions.CopyCommand:
		if c.From != "" {
			s.uses = append(s.uses, c.From)
		}
	}
}

// runAtLine returns the RUN instruction that begins on a line, nil if none does.
func (s *stage) runAtLine(line int) *run {
	for _, r := range s.runAt {
		if r.line == line {
			return r
		}
	}
	return nil
}

// sets notes the first line that gives a variable a value.
func (s *stage) sets(name string, line int) {
	if _, ok := s.set[name]; !ok {
		s.set[name] = line
	}
}

func arguments(c *instructions.ArgCommand) []argument {
	line, _ := lines(c.Location())
	out := make([]argument, len(c.Args))
	for i, a := range c.Args {
		out[i] = argument{name: a.Key, value: a.Value, line: line}
	}
	return out
}

// lines returns the first and the last line of a location.
func lines(location []parser.Range) (first, last int) {
	if len(location) == 0 {
		return 0, 0
	}
	return location[0].Start.Line, location[len(location)-1].End.Line
}

// find returns the index of the stage called name among the stages before limit, case-insensitively as BuildKit
// does, the last one of that name; -1 if there is none.
func (f *File) find(name string, limit int) int {
	for i := limit - 1; i >= 0; i-- {
		if f.stages[i].name != "" && strings.EqualFold(f.stages[i].name, name) {
			return i
		}
	}
	return -1
}

// findSource resolves the value of --from: a stage's name or its index. -1 means an image.
func (f *File) findSource(from string) int {
	if i, err := strconv.Atoi(from); err == nil {
		if i >= 0 && i < len(f.stages) {
			return i
		}
		return -1
	}
	return f.find(from, len(f.stages))
}
