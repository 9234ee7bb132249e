package effect

import (
	"regexp"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// makeToolchain reads make: what it runs stands in a makefile, so a node has to tell.
type makeToolchain struct{ *GoToolchain }

func (t makeToolchain) read(c Call, e *Effect) {
	if c.Behind {
		return // its own lines follow
	}
	if !c.Chain || c.Through != "" || c.Substituted {
		e.dependsf(c, "runs %q inside another command, which may depend on the machine", Short(c.Words))
		return
	}
	e.Told = &Told{Name: "\"" + Short(c.Words) + "\"", How: ByPlan, Line: c.Line}
	t.needEnv(c, e)
	switch v, set := t.value(c, "CGO_ENABLED"); {
	case v == "":
		e.need(c, "CGO_ENABLED", "0", set)
	case v != "0":
		e.cgof(c, "runs %q with CGO_ENABLED=%s", Short(c.Words), v)
	}
	e.Unproven = true
	e.GoCache = goCache(c)
	e.Asks = &Question{Kind: Make, Certain: c.Certain, Go: GoCommand{Call: c, sub: "make"}}
}

// MakeAnswer is what make was found to run.
type MakeAnswer struct {
	// Lines are the command lines, each with the directory it runs in, and those that make runs itself while it reads its files.
	Lines []MakeLine
	// Vars are Go's variables as the makefiles leave them, where they set them.
	Vars []MakeVariable
}

// MakeLine is a command line of make's, which gives each a shell of its own.
type MakeLine struct {
	Dir, Text string
	// Early: make runs it while it reads its files, and uses what it prints.
	Early bool
}

// MakeVariable is one of Go's variables in a makefile.
type MakeVariable struct{ Name, Value string }

// Keeps reports whether what make read from go version, which names a platform, is in the commands that it would run.
func (a MakeAnswer) Keeps(platform string) bool {
	asks := slices.ContainsFunc(a.Lines, func(l MakeLine) bool { return l.Early && strings.Contains(l.Text, "go version") })
	return asks && slices.ContainsFunc(a.Lines, func(l MakeLine) bool {
		return !l.Early && strings.Contains(l.Text, platform) && !strings.HasPrefix(strings.TrimSpace(l.Text), "echo ")
	})
}

// makeSays matches what make says of itself.
var makeSays = regexp.MustCompile(`^[^ ]*make(\[\d+\])?: (Entering directory ['\x60](.*)'|Leaving directory .*|Nothing to be done .*|.* is up to date\.)$`)

// ReadMakeAnswer reads the answer of a node about the make at hand. Each line has a letter in front: "p", printed by make -n; "s", run by make itself
// while it read its files; "v", a variable. Not ok means that the answer, which is then returned, is another.
func ReadMakeAnswer(text, dir string) (out MakeAnswer, said string, ok bool) {
	parts := map[byte]*strings.Builder{'p': {}, 's': {}, 'v': {}}
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		b := parts[line[0]]
		if b == nil {
			return MakeAnswer{}, strings.TrimSpace(line), false
		}
		b.WriteString(line[1:])
	}
	for line := range strings.Lines(parts['v'].String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			out.Vars = append(out.Vars, MakeVariable{name, value})
		}
	}
	out.Lines = append(makeLines(parts['s'].String(), dir, true), makeLines(parts['p'].String(), dir, false)...)
	return out, "", true
}

// makeLines splits what make prints into command lines, in the directories it says it is in.
func makeLines(text, dir string, early bool) []MakeLine {
	var out []MakeLine
	line := ""
	for part := range strings.Lines(text) {
		part = strings.TrimSuffix(part, "\n")
		if m := makeSays.FindStringSubmatch(part); m != nil && line == "" {
			if m[3] != "" {
				dir = m[3]
			}
			continue
		}
		line += part
		if strings.HasSuffix(part, "\\") {
			line += "\n"
			continue
		}
		out = append(out, MakeLine{Dir: dir, Text: line, Early: early})
		line = ""
	}
	if line != "" {
		out = append(out, MakeLine{Dir: dir, Text: line, Early: early})
	}
	return out
}

// Section is the part of an answer that is about the n-th make of a RUN, counted from 1: each begins with a line "m".
func Section(text string, n int) string {
	sections := strings.Split("\n"+text, "\nm\n")
	switch {
	case len(sections) == 1:
		return text
	case n >= len(sections):
		return "eit was not reached"
	}
	return sections[n] + "\n"
}

// GoNames are the variables that change what Go builds, and where its programs and caches lie.
func GoNames() []string {
	return append(slices.Clone(GoTargetNames), "CGO_ENABLED", "GOFLAGS", "GOBIN", "GOPATH", "CC", "CXX", "GOCACHE", "HOME", "PATH")
}

// Script is a command that a question behind a make asks about, for a shell in its directory. Not ok means that it is only known when it runs.
func (g GoCommand) Script() (string, bool) {
	words := slices.DeleteFunc(slices.Clone(g.Words), func(w string) bool { return !script.Known(w) && strings.HasPrefix(w, "-") })
	if !script.Known(g.Dir) || slices.ContainsFunc(words, func(w string) bool { return !script.Known(w) && !strings.Contains(w, " ") }) {
		return "", false
	}
	return "(cd " + Quote(g.Dir) + " && " + Quote(words...) + ")\n", true
}

// Quote quotes words for the shell.
func Quote(words ...string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.Join(out, " ")
}

// CgoAnswer is what a node found about compilations.
type CgoAnswer struct {
	// Found is how many were asked about.
	Found int
	// Generated says that one was go generate, NoCompiler that the image holds no C compiler.
	Generated, NoCompiler bool
	// Runs are the lines that go generate would run.
	Runs []string
	// Package needs cgo; empty if none does. Runner is a program for go run that runs programs, and so may have Go compile with cgo; empty if there is none.
	// Said is a line that is none of these; empty if there is none.
	Package, Runner, Said string
}

// ReadCgoAnswer reads the answer of a node: for each command a line "pure", "cgo PACKAGE", "runs PROGRAM", "run LINE" (what go generate would
// run) or anything else.
func ReadCgoAnswer(text string) CgoAnswer {
	var out CgoAnswer
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "":
		case "generate":
			out.Found++
			out.Generated = true
		case "pure":
			out.Found++
		case "nocc":
			out.NoCompiler = true
		case "run":
			out.Runs = append(out.Runs, rest)
		case "runs":
			out.Runner = rest
			return out
		case "cgo":
			out.Package = rest
			return out
		default:
			out.Said = line
			return out
		}
	}
	return out
}
