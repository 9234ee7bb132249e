package dockerfile

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/manifold-build/manifold/platforms"
)

// fromKeyword is the beginning of a FROM line, up to where a flag can be put.
var fromKeyword = regexp.MustCompile(`(?i)^[ \t]*FROM(?:[ \t]|$)`)

// For returns the text that the target is built from: the file's own, line for line, with --platform=$BUILDPLATFORM
// in the FROM line of each stage that the plan moves, the target's environment and Go's build cache in the RUN instructions that need
// them, and the target's values behind the predefined arguments that are declared without a default. A target that is not in the
// plan is an error.
func (f *File) For(target platforms.Platform, plan Plan) ([]byte, error) {
	t, ok := plan.targets[target]
	if !ok {
		return nil, fmt.Errorf("%s: %s is not a target of the plan", f.name, target)
	}
	text := bytes.SplitAfter(f.src, []byte("\n"))
	predefined := Predefined(t.build, target)
	at, told := -1, false
	for _, n := range f.nodes {
		switch strings.ToLower(n.Value) {
		case "from":
			at++
			told = false
			if t.moved(at) && target != t.build && f.find(f.stages[at].base, at) < 0 {
				moveFrom(text, n)
			}
		case "arg":
			var more []string
			if t.kin && at >= 0 && t.moved(at) && !told && declaresTarget(n) {
				more, told = f.goKin(at, t), true
			}
			f.fillArg(text, n, at, t.target, predefined, more)
		case "run":
			if e := t.edits[n.StartLine]; e != nil && at >= 0 {
				e.inject(text, f.stages[at].runAtLine(n.StartLine))
			}
		}
	}
	return bytes.Join(text, nil), nil
}

// moveFrom puts the build platform into a FROM line.
func moveFrom(text [][]byte, n *parser.Node) {
	line := text[n.StartLine-1]
	if loc := fromKeyword.FindIndex(line); loc != nil {
		end := len(bytes.TrimRight(line[:loc[1]], " \t\r\n"))
		text[n.StartLine-1] = []byte(string(line[:end]) + " --platform=$BUILDPLATFORM" + string(line[end:]))
	}
}

// fillArg gives the arguments of one ARG instruction of the stage at (-1 before the first) that are predefined and have no
// value yet the target's, and adds the words more to it. The instruction is then written on its first line; the lines it was continued on
// become blank.
func (f *File) fillArg(text [][]byte, n *parser.Node, at int, t Target, predefined map[string]string, more []string) {
	words, changed := []string{}, len(more) > 0
	for w := n.Next; w != nil; w = w.Next {
		value, known := predefined[w.Value]
		_, passed := t.BuildArgs[w.Value]
		if !known || passed || at >= 0 && (f.globalDefault(w.Value) || f.hasValue(w.Value, at, n.StartLine)) {
			words = append(words, w.Value)
			continue
		}
		words, changed = append(words, w.Value+"="+value), true
	}
	if !changed {
		return
	}
	first := n.StartLine - 1
	keyword := text[first][:len(text[first])-len(bytes.TrimLeft(text[first], " \t"))+len("ARG")]
	text[first] = []byte(string(keyword) + " " + strings.Join(append(words, more...), " ") + lineEnd(text[first]))
	for i := n.StartLine; i < n.EndLine && i < len(text); i++ {
		text[i] = []byte(lineEnd(text[i]))
	}
}

// hasValue reports whether the stage before the line, or a stage it inherits from, gives the variable a value. An ARG
// without a default leaves that value as it is, and so do we.
func (f *File) hasValue(name string, at, line int) bool {
	if first, ok := f.stages[at].set[name]; ok && first < line {
		return true
	}
	for i := f.find(f.stages[at].base, at); i >= 0; i = f.find(f.stages[i].base, i) {
		if _, ok := f.stages[i].set[name]; ok {
			return true
		}
	}
	return false
}

// lineEnd returns the line's own line ending: LF, CRLF, or nothing at the end of the file.
func lineEnd(line []byte) string { return string(line[len(bytes.TrimRight(line, "\r\n")):]) }

// goKin lists Go's variables that a moved stage needs besides those it declares, with the target's values: a stage
// that says only ARG GOARCH means GOOS and GOARM too, and one that says only ARG TARGETARCH must not run a bare go build
// for the build platform. What the stage or one of its ancestors sets stays theirs.
// TARGETPLATFORM, which BuildKit fills in, is among them because BuildKit's progress reads it to show what a step on
// the build platform is for ("linux/amd64->arm64").
func (f *File) goKin(at int, t targetPlan) []string {
	set := map[string]bool{}
	for i := at; i >= 0; i = f.find(f.stages[i].base, i) {
		for _, a := range f.stages[i].args {
			set[a.name] = true
		}
		for k := range f.stages[i].env {
			set[k] = true
		}
	}
	var out []string
	for _, v := range t.target.Platform.Names().Go.Env() {
		if _, passed := t.target.BuildArgs[v.Name]; passed {
			return nil // the user speaks for the whole family
		}
		if v.Value != "" && !set[v.Name] && !f.globalDefault(v.Name) {
			out = append(out, v.Name+"="+v.Value)
		}
	}
	if !set[targetPlatform] {
		out = append(out, targetPlatform)
	}
	return out
}

// targetPlatform is BuildKit's automatic argument for the whole of the target's name.
const targetPlatform = "TARGETPLATFORM"

// declaresTarget reports whether an ARG instruction declares an argument by which a stage is told its target.
func declaresTarget(n *parser.Node) bool {
	for w := n.Next; w != nil; w = w.Next {
		name, _, _ := strings.Cut(w.Value, "=")
		if tellsTarget[name] {
			return true
		}
	}
	return false
}
