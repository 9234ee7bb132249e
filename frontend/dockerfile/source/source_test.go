package source_test

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/manifold-build/manifold/frontend/dockerfile/source"
)

// runsOf reads the RUN instructions of a text with BuildKit's own parser.
func runsOf(text []byte) ([]*instructions.RunCommand, error) {
	ast, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	stages, _, err := instructions.Parse(ast.AST, linter.New(&linter.Config{SkipAll: true}))
	if err != nil {
		return nil, err
	}
	var out []*instructions.RunCommand
	for _, s := range stages {
		for _, c := range s.Commands {
			if c, ok := c.(*instructions.RunCommand); ok {
				out = append(out, c)
			}
		}
	}
	return out, nil
}

const (
	mark     = "export MANIFOLD=1; "
	markFlag = "--network=none"
)

// checkRuns holds a file to BuildKit's parser: the text of each RUN is what BuildKit hands the shell, every offset in it has its line, and what is put in
// front of it and among its flags arrives there and nowhere else.
func checkRuns(t *testing.T, src []byte) {
	t.Helper()
	f, err := source.Parse("Dockerfile", src)
	if err != nil {
		return
	}
	before, err := runsOf(src)
	if err != nil {
		t.Fatalf("source reads it and BuildKit does not: %v", err)
	}
	var edits []source.Edit
	edited := map[int]bool{}
	i := 0
	rows := bytes.Split(src, []byte("\n"))
	for _, s := range f.Stages {
		for _, c := range s.Body {
			c, ok := c.(*instructions.RunCommand)
			if !ok {
				continue
			}
			r := s.Run(c)
			if r.Form == source.ShellForm && r.Problem == "" && len(c.Files) == 0 {
				if r.Text != before[i].CmdLine[0] {
					t.Errorf("line %d: BuildKit reads %q, source %q", r.Line, before[i].CmdLine[0], r.Text)
				}
				for offset := range len(r.Text) {
					if line := r.LineOf(offset); line < r.Line || line > len(rows) || !bytes.Contains(rows[line-1], []byte{r.Text[offset]}) {
						t.Errorf("line %d: offset %d (%q) is said to be on line %d", r.Line, offset, r.Text[offset], line)
						break
					}
				}
			}
			if r.Form == source.ShellForm && r.Problem == "" && r.Editable() && !strings.Contains(r.Flags, "network") {
				edits = append(edits, r.Prepend(mark), r.AddFlag(markFlag))
				edited[i] = true
			}
			i++
		}
	}
	text, err := f.Rewrite(edits)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := bytes.Count(src, []byte("\n")), bytes.Count(text, []byte("\n")); a != b {
		t.Errorf("%d lines became %d", a, b)
	}
	after, err := runsOf(text)
	if err != nil {
		t.Fatalf("BuildKit does not read the edited text: %v\n%s", err, text)
	}
	if len(after) != len(before) {
		t.Fatalf("%d RUN instructions became %d\n%s", len(before), len(after), text)
	}
	for i, c := range after {
		want := slices.Clone(before[i].CmdLine)
		if edited[i] {
			want[0] = mark + want[0]
		}
		if !slices.Equal(c.CmdLine, want) {
			t.Errorf("RUN %d is %q, want %q\n%s", i, c.CmdLine, want, text)
		}
		if edited[i] && instructions.GetNetwork(c) != "none" {
			t.Errorf("RUN %d lacks its flag\n%s", i, text)
		}
	}
}

// dockerfiles are the ones of the planner's tables.
func dockerfiles(tb testing.TB) [][]byte {
	tb.Helper()
	var out [][]byte
	for _, dir := range []string{"plan", "table", "coverage"} {
		files, err := filepath.Glob(filepath.Join("..", "testdata", dir, "*.txtar"))
		if err != nil || len(files) == 0 {
			tb.Fatal("no cases", err)
		}
		for _, name := range files {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				tb.Fatal(err)
			}
			for _, f := range archive.Files {
				if strings.HasSuffix(f.Name, "Dockerfile") {
					out = append(out, f.Data)
				}
			}
		}
	}
	return out
}

func TestRunsAsBuildKitReadsThem(t *testing.T) {
	for _, src := range dockerfiles(t) {
		checkRuns(t, src)
	}
}

// FuzzRun holds every Dockerfile that parses to the same.
func FuzzRun(f *testing.F) {
	for _, src := range dockerfiles(f) {
		f.Add(src)
	}
	f.Add([]byte("FROM a\nRUN --mount=type=cache,target=/x  \\\n  # note\n\n  a && \\\n\tb\nRUN <<E\na\nE\n"))
	f.Add([]byte("# escape=`\nFROM a\nRUN a `\n b\n"))
	f.Fuzz(func(t *testing.T, src []byte) { checkRuns(t, src) })
}

func TestRewrite(t *testing.T) {
	f, err := source.Parse("Dockerfile", []byte("FROM golang AS a\r\nARG X \\\r\n  Y=1\r\nCOPY --from=node:20 --chown=1 /a /b\r\nRUN --mount=from=node:20,target=/n x"))
	if err != nil {
		t.Fatal(err)
	}
	s := f.Stages[0]
	pin, ok := s.Pin("$BUILDPLATFORM")
	if !ok {
		t.Fatal("the stage cannot be pinned")
	}
	edits := append([]source.Edit{pin}, f.SetArgs(f.ArgLines[0], []string{"X=2", "Y=1"})...)
	for _, c := range s.Body[1:] {
		more, ok := f.ReplaceFrom(c, "node:20", "other")
		if !ok {
			t.Fatal("an image is not found in", c)
		}
		edits = append(edits, more...)
	}
	got, err := f.Rewrite(edits)
	if err != nil {
		t.Fatal(err)
	}
	want := "FROM --platform=$BUILDPLATFORM golang AS a\r\nARG X=2 Y=1\r\n\r\nCOPY --from=other --chown=1 /a /b\r\nRUN --mount=from=other,target=/n x"
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, bad := range [][]source.Edit{
		{{Line: 9}}, {{Line: 1, From: 3, To: 2}}, {{Line: 1, From: 0, To: 99}}, {{Line: 1, Text: "\n"}}, {{Line: 1, From: 0, To: 4}, {Line: 1, From: 2, To: 3}},
	} {
		if _, err := f.Rewrite(bad); err == nil {
			t.Errorf("%v is no error", bad)
		}
	}
}
