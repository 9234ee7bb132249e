package effect

import (
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
	"github.com/manifold-build/manifold/platforms"
)

// The rules of .NET: its compiler makes the same code for every machine, but the starter of a published program (the apphost) and
// native libraries are those of the machine it ran on, unless -a or -r names another (dotnet publish, --arch).

// dotnetArchs are .NET's names of architectures, and what its SDK takes for them.
func dotnetArchs(p platforms.Platform) []string {
	name := p.Architecture
	switch p.Architecture {
	case "amd64":
		name = "x64"
	case "386":
		name = "x86"
	}
	return []string{name, p.Architecture, "linux-" + name, "linux-musl-" + name}
}

// dotnet tells what a dotnet command does.
type dotnet struct{}

func (dotnet) read(c Call, e *Effect) {
	if len(c.Words) < 2 {
		return
	}
	arch, portable, told := "", false, false
	for i, word := range c.Words {
		name, value, cut := strings.Cut(word, "=")
		switch {
		case slices.Contains([]string{"-a", "--arch", "-r", "--runtime"}, name) && !cut && i+1 < len(c.Words):
			arch, told = c.Words[i+1], true
		case slices.Contains([]string{"--arch", "--runtime"}, name) && cut:
			arch, told = value, true
		case slices.Contains([]string{"--ucr", "--use-current-runtime"}, name):
			e.dependsf(c, "runs dotnet with %s, the machine's own", name)
		case strings.Contains(strings.ToLower(word), "publishaot=true"), strings.Contains(strings.ToLower(word), "publishreadytorun=true"):
			e.dependsf(c, "runs dotnet with %s, which makes machine code", word)
		case strings.Contains(strings.ToLower(word), "useapphost=false"):
			portable = true
		case (word == "-o" || word == "--output") && i+1 < len(c.Words):
			e.file(Makes, c.Path(c.Words[i+1]))
		}
	}
	switch c.Words[1] {
	case "publish", "build", "pack", "msbuild":
	case "restore", "nuget", "new", "sln", "add", "clean", "--version", "--info", "dev-certs":
		return
	default:
		e.dependsf(c, "runs %q, which may depend on the machine", "dotnet "+c.Words[1])
		return
	}
	switch {
	case told && slices.Contains(dotnetArchs(c.Target.Platform()), arch):
		e.Told = &Told{Name: "dotnet " + c.Words[1], How: ByFile, Line: c.Line}
	case told:
		e.dependsf(c, "runs \"dotnet %s\" for %s, and the target is %s", c.Words[1], strings.ReplaceAll(arch, script.Unknown, "…"), c.Target.Platform())
	case portable:
		e.Tool = "dotnet"
	default:
		e.dependsf(c, "runs \"dotnet %s\", whose program starter is the machine's; write ARG TARGETARCH and dotnet %s -a $TARGETARCH", c.Words[1], c.Words[1])
	}
}
