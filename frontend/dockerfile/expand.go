package dockerfile

import (
	"maps"
	"slices"
	"strings"

	ctdplatforms "github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/manifold-build/manifold/platforms"
)

// values are the variables that FROM lines see for one target.
type values map[string]string

// Get and Keys make values a shell.EnvGetter.
func (v values) Get(key string) (string, bool) {
	s, ok := v[key]
	return s, ok
}

func (v values) Keys() []string { return slices.Sorted(maps.Keys(v)) }

var _ shell.EnvGetter = values{}

// globalValues evaluates the ARG instructions before the first FROM as BuildKit does: the automatic platform
// arguments first, then each declaration in turn, a value the user passed before its default.
func (f *File) globalValues(build platforms.Platform, t Target) (values, error) {
	stageName := t.Stage
	if stageName == "" {
		stageName = "default"
		if last := f.stages[len(f.stages)-1].name; last != "" {
			stageName = last
		}
	}
	v := values{
		"BUILDPLATFORM": ctdplatforms.Format(build.OCI()), "BUILDOS": build.OS, "BUILDOSVERSION": build.OSVersion,
		"BUILDARCH": build.Architecture, "BUILDVARIANT": build.Variant,
		"TARGETPLATFORM": t.Platform.String(), "TARGETOS": t.Platform.OS, "TARGETOSVERSION": t.Platform.OSVersion,
		"TARGETARCH": t.Platform.Architecture, "TARGETVARIANT": t.Platform.Variant, "TARGETSTAGE": stageName,
	}
	for k := range v {
		if s, ok := t.BuildArgs[k]; ok {
			v[k] = s
		}
	}
	predefined := Predefined(build, t.Platform)
	lex := shell.NewLex(f.escape)
	for _, a := range f.args {
		if s, ok := t.BuildArgs[a.name]; ok {
			v[a.name] = s
			continue
		}
		if a.value == nil {
			if s, ok := predefined[a.name]; ok {
				v[a.name] = s
			}
			continue
		}
		res, err := lex.ProcessWordWithMatches(*a.value, v)
		if err != nil {
			return nil, err
		}
		v[a.name] = res.Result
	}
	return v, nil
}

// expand expands one word of a FROM line.
func (f *File) expand(word string, v values) (string, error) {
	if !strings.ContainsAny(word, `$"'`+string(f.escape)) {
		return word, nil
	}
	res, err := shell.NewLex(f.escape).ProcessWordWithMatches(word, v)
	return res.Result, err
}
