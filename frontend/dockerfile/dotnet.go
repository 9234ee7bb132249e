package dockerfile

import (
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

// judgeDotnet judges a dotnet command.
func judgeDotnet(j *judge, c script.Command) {
	line := j.r.lineOf(c.Offset)
	if len(c.Words) < 2 {
		return
	}
	arch, portable, told := "", false, false
	for i, word := range c.Words {
		name, value, cut := strings.Cut(word, "=")
		switch {
		case contains([]string{"-a", "--arch", "-r", "--runtime"}, name) && !cut && i+1 < len(c.Words):
			arch, told = c.Words[i+1], true
		case contains([]string{"--arch", "--runtime"}, name) && cut:
			arch, told = value, true
		case contains([]string{"--ucr", "--use-current-runtime"}, name):
			j.blockf(line, "line %d runs dotnet with %s, the machine's own", line, name)
		case strings.Contains(strings.ToLower(word), "publishaot=true"), strings.Contains(strings.ToLower(word), "publishreadytorun=true"):
			j.blockf(line, "line %d runs dotnet with %s, which makes machine code", line, word)
		case strings.Contains(strings.ToLower(word), "useapphost=false"):
			portable = true
		case (word == "-o" || word == "--output") && i+1 < len(c.Words):
			j.v.files.make(c.Path(c.Words[i+1]), line)
		}
	}
	switch c.Words[1] {
	case "publish", "build", "pack", "msbuild":
	case "restore", "nuget", "new", "sln", "add", "clean", "--version", "--info", "dev-certs":
		return
	default:
		j.blockf(line, "line %d runs %q, which may depend on the machine", line, "dotnet "+c.Words[1])
		return
	}
	switch {
	case told && contains(dotnetArchs(j.g.target.Platform), arch):
		j.v.told = append(j.v.told, toldCommand{name: "dotnet " + c.Words[1], how: howTold, line: line})
	case told:
		j.blockf(line, "line %d runs \"dotnet %s\" for %s, and the target is %s", line, c.Words[1], strings.ReplaceAll(arch, script.Unknown, "…"), j.g.target.Platform)
	case portable:
		j.v.tools = appendNew(j.v.tools, "dotnet")
	default:
		j.blockf(line, "line %d runs \"dotnet %s\", whose program starter is the machine's; write ARG TARGETARCH and dotnet %s -a $TARGETARCH", line, c.Words[1], c.Words[1])
	}
}
