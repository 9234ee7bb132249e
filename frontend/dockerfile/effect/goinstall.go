package effect

import (
	"path"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// GoPath is GOPATH's first directory: as the environment says, else where Go looks by default.
func GoPath(c script.Command) string {
	if p, _ := c.Getenv("GOPATH"); p != "" {
		first, _, _ := strings.Cut(p, ":")
		return first
	}
	home, _ := c.Getenv("HOME")
	return firstSet(home, "/root") + "/go"
}

// install sees to it that go install's programs land where the native build would put them. Cross-compiled they go to
// GOPATH/bin/GOOS_GOARCH, and with GOBIN set Go refuses (go help install).
func (t *GoToolchain) install(g GoCommand, e *Effect) {
	in := Install{}
	bin := g.Getvar("GOBIN")
	switch {
	case bin == "":
		bin = path.Join(GoPath(g.Command), "bin")
	case !script.Known(bin) || !g.Behind && bin != g.Begin["GOBIN"]:
		e.dependsf(g.Call, "sets GOBIN for go install, which Go refuses when it cross-compiles")
		return
	default:
		e.Unset = append(e.Unset, "GOBIN")
		in.Into = bin
	}
	names := g.Target.Names().Go
	goPath, _, _ := strings.Cut(g.Getvar("GOPATH"), ":")
	if !script.Known(goPath) || strings.ContainsAny(goPath+bin, "\"'$`\\") {
		e.dependsf(g.Call, "sets GOPATH for go install to what is not known")
		return
	}
	in.Bin, in.Dir = binOf(goPath), names.GOOS+"_"+names.GOARCH
	e.Install = &in
	for _, name := range programNames(g.operands) {
		e.file(Program, path.Join(bin, name))
	}
	e.file(Programs, bin)
}

// binOf is the directory of go install's programs as a script spells it.
func binOf(goPath string) string {
	if goPath == "" {
		return `${GOPATH:-$HOME/go}/bin`
	}
	return path.Join(goPath, "bin")
}

// goCache is the directory of Go's build cache; empty if it is not known.
func goCache(c Call) string {
	dir := c.Getvar("GOCACHE")
	if dir == "" {
		dir = path.Join(firstSet(c.Getvar("XDG_CACHE_HOME"), path.Join(firstSet(c.Getvar("HOME"), "/root"), ".cache")), "go-build")
	}
	if !script.Known(dir) || !path.IsAbs(dir) || strings.ContainsAny(dir, " ,\"'$\\") {
		return ""
	}
	return dir
}

func firstSet(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// pathPart is what basename and dirname print of a word (POSIX, basename and dirname). Neither tidies what it leaves.
func pathPart(command, word string) (string, bool) {
	if word == "" || strings.HasPrefix(word, "-") || strings.HasSuffix(word, script.Unknown) || strings.Contains(word, "//") {
		return "", false
	}
	dir, base := ".", strings.TrimRight(word, "/")
	if base == "" {
		return "/", true
	}
	if i := strings.LastIndexByte(base, '/'); i >= 0 {
		if dir = base[:i]; dir == "" {
			dir = "/"
		}
		base = base[i+1:]
	}
	if !script.Known(base) { // which may hold a slash
		return "", false
	}
	if command == "basename" {
		return base, true
	}
	return dir, true
}

// Prints tells what a command in a substitution is known to print: go env with the target's values, paths.
func Prints(c script.Command, target *Target) (string, bool) {
	env := func(name string) string {
		v, _ := c.Getenv(name)
		return v
	}
	if len(c.Words) == 2 && (c.Name() == "basename" || c.Name() == "dirname") {
		return pathPart(c.Name(), c.Words[1])
	}
	if c.Name() == "pwd" && len(c.Words) == 1 && script.Known(c.Dir) {
		return c.Dir, true
	}
	if slices.Equal(c.Words, []string{"npm", "bin"}) {
		return c.Path("node_modules/.bin"), true
	}
	if len(c.Words) != 3 || c.Words[0] != "go" || c.Words[1] != "env" {
		return "", false
	}
	names := target.Names().Go
	switch c.Words[2] {
	case "GOARCH":
		return firstSet(env("GOARCH"), names.GOARCH), true
	case "GOOS":
		return firstSet(env("GOOS"), names.GOOS), true
	case "GOPATH":
		return GoPath(c), true
	case "GOROOT":
		if strings.Contains(env("PATH"), "/usr/local/go/bin") {
			return "/usr/local/go", true
		}
	}
	return "", false
}
