package planner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/place"
	"github.com/manifold-build/manifold/frontend/dockerfile/source"
	"github.com/manifold-build/manifold/platforms"
)

// Text returns the text that the target is built from: the file's own, line for line, with --platform=$BUILDPLATFORM
// in the FROM line of each stage that the plan moves, the target's environment and Go's build cache in the RUN instructions that need
// them, what accelerated stages call other compilers by, the images of both named as [Plan.Inputs], and the target's values behind the predefined arguments that are declared
// without a default. A target that is not in the plan is an error.
func (p *Planner) Text(target platforms.Platform) ([]byte, error) {
	i := slices.IndexFunc(p.list, func(t *planned) bool { return t.target.Platform == target })
	if i < 0 {
		return nil, fmt.Errorf("%s: %s is not a target of the plan", p.file.Name, target)
	}
	t := p.list[i]
	var edits []source.Edit
	if t.graph != nil {
		for j := range p.file.Stages {
			edits = append(edits, stageEdits(t.graph, t.graph.Node(j))...)
		}
	}
	return p.file.Rewrite(append(edits, p.arguments(t)...))
}

// stageEdits are those that moving a stage takes, or telling it its target.
func stageEdits(g *place.Graph, n *place.Node) []source.Edit {
	m := n.Move
	var out []source.Edit
	if m.Moved && n.Parent == nil && g.Target.Platform != g.Build() {
		if pin, ok := n.Stage.Pin("$BUILDPLATFORM"); ok {
			out = append(out, pin)
		}
	}
	for line, e := range m.Edits {
		out = append(out, editsOf(n.RunAt(line), e)...)
	}
	if m.Moved && g.Target.Platform != g.Build() {
		for _, in := range m.Inputs {
			out = append(out, in.Edits...)
		}
	}
	return out
}

// arguments gives the predefined arguments that are declared and have no value yet the target's, and tells a stage that strategy=cross
// moves all of its target where it first declares some.
func (p *Planner) arguments(t *planned) []source.Edit {
	told := map[int]bool{}
	var out []source.Edit
	for _, a := range p.file.ArgLines {
		var node *place.Node
		predefined := place.Predefined(p.host.Native, t.target.Platform)
		var more []string
		if t.graph != nil {
			if a.Stage >= 0 {
				node = t.graph.Node(a.Stage)
			}
			predefined = t.graph.Predefined(node)
			if node != nil && node.Move.Kin && node.Move.Moved && !told[a.Stage] && place.DeclaresTarget(a) {
				more, told[a.Stage] = t.graph.Kin(node), true
			}
		}
		words, changed := []string{}, len(more) > 0
		for _, w := range a.Words {
			value, known := predefined[w]
			_, passed := t.target.BuildArgs[w]
			if !known || passed || a.Stage >= 0 && (p.file.GlobalDefault(w) || p.file.HasValue(w, a.Stage, a.Line)) {
				words = append(words, w)
				continue
			}
			words, changed = append(words, w+"="+value), true
		}
		if changed {
			out = append(out, p.file.SetArgs(a, append(words, more...))...)
		}
	}
	return out
}

// TextUntil returns the text to build for one stage of a target up to the instruction that begins at a line. The text's last stage is the one to build.
func (p *Planner) TextUntil(target platforms.Platform, stageIndex, line int) ([]byte, error) {
	last, err := p.lastLine(stageIndex)
	if err != nil {
		return nil, err
	}
	for _, c := range p.file.Stages[stageIndex].Body {
		if ranges := c.Location(); len(ranges) > 0 && ranges[0].Start.Line == line {
			last = ranges[len(ranges)-1].End.Line
		}
	}
	return p.until(target, last)
}

// StageText returns the text to build for one stage of a target alone, by the stage's index: everything up
// to its last line. The text's last stage is the one to build.
func (p *Planner) StageText(stageIndex int, target platforms.Platform) ([]byte, error) {
	last, err := p.lastLine(stageIndex)
	if err != nil {
		return nil, err
	}
	return p.until(target, last)
}

func (p *Planner) lastLine(stageIndex int) (int, error) {
	if stageIndex < 0 || stageIndex >= len(p.file.Stages) {
		return 0, fmt.Errorf("%s: no stage %d", p.file.Name, stageIndex)
	}
	return p.file.Stages[stageIndex].LastLine, nil
}

// until is a target's text up to the end of a line.
func (p *Planner) until(target platforms.Platform, line int) ([]byte, error) {
	text, err := p.Text(target)
	if err != nil {
		return nil, err
	}
	rows := strings.SplitAfter(string(text), "\n")
	return []byte(strings.Join(rows[:min(line, len(rows))], "")), nil
}
