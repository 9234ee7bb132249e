package place

import (
	"strings"

	ctdplatforms "github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/manifold-build/manifold/frontend/dockerfile/source"
	"github.com/manifold-build/manifold/frontend/dockerfile/stage"
	"github.com/manifold-build/manifold/platforms"
)

// automatic are the platform arguments that BuildKit gives to FROM lines and to the stages that declare them.
func automatic(f *source.File, build platforms.Platform, t Target) stage.Values {
	name := t.Stage
	if name == "" {
		name = "default"
		if last := f.Stages[len(f.Stages)-1].Name; last != "" {
			name = last
		}
	}
	return stage.Values{
		"BUILDPLATFORM": ctdplatforms.Format(build.OCI()), "BUILDOS": build.OS, "BUILDOSVERSION": build.OSVersion,
		"BUILDARCH": build.Architecture, "BUILDVARIANT": build.Variant,
		"TARGETPLATFORM": t.Platform.String(), "TARGETOS": t.Platform.OS, "TARGETOSVERSION": t.Platform.OSVersion,
		"TARGETARCH": t.Platform.Architecture, "TARGETVARIANT": t.Platform.Variant, "TARGETSTAGE": name,
	}
}

// globalValues evaluates the ARG instructions before the first FROM as BuildKit does: the automatic platform
// arguments first, then each declaration in turn, a value the user passed before its default.
func globalValues(f *source.File, build platforms.Platform, t Target, predefined map[string]string) (stage.Values, error) {
	v := automatic(f, build, t)
	for k := range v {
		if s, ok := t.BuildArgs[k]; ok {
			v[k] = s
		}
	}
	lex := shell.NewLex(f.Escape)
	for _, a := range f.Args {
		if s, ok := t.BuildArgs[a.Name]; ok {
			v[a.Name] = s
			continue
		}
		if a.Value == nil {
			if s, ok := predefined[a.Name]; ok {
				v[a.Name] = s
			}
			continue
		}
		res, err := lex.ProcessWordWithMatches(*a.Value, v)
		if err != nil {
			return nil, err
		}
		v[a.Name] = res.Result
	}
	return v, nil
}

// expand expands one word of a FROM line.
func expand(f *source.File, word string, v stage.Values) (string, error) {
	if !strings.ContainsAny(word, `$"'`+string(f.Escape)) {
		return word, nil
	}
	res, err := shell.NewLex(f.Escape).ProcessWordWithMatches(word, v)
	return res.Result, err
}

// Word expands a word as an ARG instruction before the first FROM has it; empty if it does not expand.
func (g *Graph) Word(word string) string {
	s, err := expand(g.File, word, g.global)
	if err != nil {
		return ""
	}
	return s
}
