package effect

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
	"github.com/manifold-build/manifold/platforms"
)

// The rules of Go: the toolchain stays on the build platform, and what it makes is the target's, because GOOS, GOARCH and
// kin in its environment say so (go help environment).

// RuleTargetSet is the finding for a compiler that is told another target than the image's by a literal.
const RuleTargetSet = "TargetSetLiterally"

// goValued are the flags of go build, test, run and their kin that take the next argument (go help build, go help testflag).
var goValued = strings.Fields("C o p asmflags buildmode compiler gccgoflags gcflags installsuffix ldflags mod modfile overlay pgo pkgdir tags toolexec " +
	"exec covermode coverpkg coverprofile run bench benchtime count cpu parallel timeout skip shuffle list fuzz fuzztime blockprofile cpuprofile memprofile " +
	"mutexprofile trace outputdir vet vettool")

// GoCommand is a go command's line, taken apart.
type GoCommand struct {
	Call

	sub      string
	flags    map[string]string // by name without dashes; a flag without a value is "true"
	operands []string
	unsure   bool // a word that is not known may be a flag
}

func parseGo(c Call) GoCommand {
	g := GoCommand{Call: c, flags: map[string]string{}}
	for word := range strings.FieldsSeq(c.Getvar("GOFLAGS")) {
		name, value, ok := strings.Cut(strings.TrimLeft(word, "-"), "=")
		if !ok {
			value = "true"
		}
		g.flags[name] = value
	}
	args := c.Words[1:]
	if len(args) > 1 && args[0] == "-C" {
		g.Dir, args = c.Path(args[1]), args[2:]
	}
	if len(args) == 0 {
		return g
	}
	g.sub, args = args[0], args[1:]
	for i := 0; i < len(args); i++ {
		if strings.HasPrefix(args[i], script.Unknown) && (c.Through != "" || slices.ContainsFunc(args[i+1:], isFlag)) {
			g.unsure = true
		}
		if !isFlag(args[i]) {
			g.operands = args[i:]
			break
		}
		name, value, ok := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		switch {
		case ok:
		case slices.Contains(goValued, name) && i+1 < len(args):
			i++
			value = args[i]
		default:
			value = "true"
		}
		g.flags[name] = value
		if name == "C" {
			g.Dir = c.Path(value)
		}
	}
	return g
}

func isFlag(word string) bool { return len(word) > 1 && word[0] == '-' }

// GoToolchain is what a stage has set up for Go.
type GoToolchain struct {
	// Env is what "go env -w" has set. Nil means nothing.
	Env map[string]string
}

func (t GoToolchain) clone() GoToolchain { return GoToolchain{Env: maps.Clone(t.Env)} }

// read tells what a go command does.
func (t *GoToolchain) read(c Call, e *Effect) {
	g := parseGo(c)
	switch g.sub {
	case "build", "install", "run", "test", "generate", "vet", "list", "get":
		t.told(g, e)
	case "tool":
		goTool(g, e)
	case "env":
		t.env(g, e)
	case "version":
		goVersion(g, e)
	case "", "mod", "work", "clean", "fmt", "fix", "doc", "help", "bug", "telemetry":
	default:
		e.dependsf(c, "runs \"go %s\", which is not a command of go that is known", Shown(g.sub))
	}
}

// goVersion reads go version, which names the machine: what it prints must not be kept, but for the version itself.
func goVersion(g GoCommand, e *Effect) {
	if !g.Kept() {
		return
	}
	if g.Feeds && len(g.Later) > 0 && g.Later[0].Piped && (slices.Equal(g.Later[0].Words, []string{"awk", "{print $3}"}) || slices.Equal(g.Later[0].Words, []string{"awk", "{ print $3 }"})) {
		return
	}
	e.dependsf(g.Call, "keeps what \"go version\" prints, which names the machine")
}

// goTools are the tools of the distribution whose output does not depend on where they run.
var goTools = strings.Fields("cover vet nm objdump buildid pprof trace test2json covdata doc fix")

// goTool reads go tool: a tool of the module is built for the machine, whatever GOARCH says.
func goTool(g GoCommand, e *Effect) {
	if len(g.operands) > 0 && slices.Contains(goTools, g.operands[0]) && g.flags["n"] == "" || len(g.operands) > 1 && g.operands[0] == "dist" && g.operands[1] == "list" {
		return
	}
	e.dependsf(g.Call, "runs \"go tool\", which builds its tool for the machine it runs on")
}

// env reads go env, which can change what later commands build.
func (t *GoToolchain) env(g GoCommand, e *Effect) {
	if g.flags["w"] == "" && g.flags["u"] == "" {
		host := slices.ContainsFunc(g.operands, func(s string) bool { return strings.HasPrefix(s, "GOHOST") || s == "GOTOOLDIR" || !script.Known(s) })
		if g.Kept() && (host || len(g.operands) == 0) {
			e.dependsf(g.Call, "keeps what \"go env\" says of the machine")
		}
		t.needEnv(g.Call, e)
		return
	}
	for _, word := range append(slices.Clone(g.operands), g.flags["w"], g.flags["u"]) {
		name, value, _ := strings.Cut(word, "=")
		switch {
		case strings.HasPrefix(name, script.Unknown):
			e.dependsf(g.Call, "changes what is not known by \"go env\"")
		case name == "CGO_ENABLED" || slices.Contains(GoTargetNames, name):
			t.Env = maps.Clone(t.Env)
			if t.Env == nil {
				t.Env = map[string]string{}
			}
			t.Env[name] = value
		case slices.Contains([]string{"GOFLAGS", "CC", "CXX", "GOBIN", "GOPATH", "GOCACHE"}, name):
			e.dependsf(g.Call, "changes %s by \"go env\"", name)
		}
	}
}

// value is that of one of Go's variables as go finds it: in its environment, or as "go env -w" left it.
func (t *GoToolchain) value(c Call, name string) (value string, set bool) {
	if value, set = c.Getenv(name); value == "" && t.Env[name] != "" {
		return t.Env[name], true
	}
	return value, set
}

// GoTargetNames are the variables by which Go is told its target.
var GoTargetNames = func() []string {
	var out []string
	for _, v := range (platforms.GoNames{}).Env() {
		out = append(out, v.Name)
	}
	return out
}()

// told reads a command that takes its target from the environment.
func (t *GoToolchain) told(g GoCommand, e *Effect) {
	if g.unsure {
		e.dependsf(g.Call, "runs \"go %s\" with flags that are only known when it runs", g.sub)
		return
	}
	if why, problem := goProblem(g); problem != "" {
		e.Depends = append(e.Depends, Reason{Line: g.Line, Why: why, Clause: fmt.Sprintf("runs \"go %s\" %s", g.sub, problem)})
		return
	}
	if file := g.Getvar("GOENV"); file != "" && file != "off" && file != "/dev/null" {
		e.dependsf(g.Call, "takes Go's configuration from %s, which is not read", Shown(file))
		return
	}
	other, ok := t.target(g, e)
	if !ok || other {
		return
	}
	compiles := slices.Contains([]string{"build", "install", "run", "test"}, g.sub)
	if compiles || g.sub == "generate" {
		t.cgo(g, e)
		e.GoCache = goCache(g.Call)
	}
	switch g.sub {
	case "build":
		goOutput(g, e)
	case "test":
		if g.flags["c"] != "" {
			goOutput(g, e)
			break
		}
		t.executes(g.Call, "go test", e)
	case "run", "generate":
		t.executes(g.Call, "go "+g.sub, e)
	case "install":
		t.install(g, e)
	}
}

// executes reads a command that runs what the stage made for its target.
func (t *GoToolchain) executes(c Call, what string, e *Effect) {
	e.Runs = &Run{Line: c.Line, What: what}
	t.needEnv(c, e)
	switch v, set := t.value(c, "CGO_ENABLED"); {
	case v == "0" || v == "1":
	case buildTool.MatchString(c.Words[0]):
		e.dependsf(c, "runs %q, which may build with cgo", what)
	default:
		e.need(c, "CGO_ENABLED", "0", set)
	}
}

// goProblem says which flag makes a command depend on the machine, or on a C compiler for the target.
func goProblem(g GoCommand) (Why, string) {
	target := g.Target.Platform()
	for _, name := range []string{"race", "msan", "asan"} {
		if on(g.flags[name]) {
			return NeedsCgo, "with -" + name + ", which needs cgo"
		}
	}
	for _, name := range []string{"toolexec", "exec", "vettool"} {
		if g.flags[name] != "" {
			return Machine, "with -" + name + ", a program of its own"
		}
	}
	if c := g.flags["compiler"]; c != "" && c != "gc" {
		return Machine, "with -compiler=" + c
	}
	switch mode := g.flags["buildmode"]; mode {
	case "", "default", "exe", "archive":
	case "pie":
		if !slices.Contains(pieWithoutCgo, target.OS+"/"+target.Architecture) {
			return NeedsCgo, "with -buildmode=pie, which needs cgo for " + target.String()
		}
	default:
		return NeedsCgo, "with -buildmode=" + mode + ", which needs cgo"
	}
	if strings.Contains(g.Getvar("GOEXPERIMENT"), "boringcrypto") {
		return NeedsCgo, "with GOEXPERIMENT=boringcrypto, which needs cgo"
	}
	if linkExternal.MatchString(g.flags["ldflags"]) {
		return NeedsCgo, "with -linkmode=external, which needs a C linker for the target"
	}
	return 0, ""
}

func on(flag string) bool { return flag != "" && flag != "false" && flag != "0" }

var linkExternal = regexp.MustCompile(`-linkmode[= ]['"]?external`)

// pieWithoutCgo are the targets for which Go's own linker makes position-independent executables (internal/platform,
// InternalLinkPIESupported).
var pieWithoutCgo = []string{
	"darwin/amd64", "darwin/arm64", "linux/amd64", "linux/arm64", "linux/loong64", "linux/ppc64le", "linux/riscv64", "linux/s390x",
	"windows/386", "windows/amd64", "windows/arm64",
}

// target sees to it that a command is told the target. It reports whether the user told it another one, which
// is theirs and left as it is, and whether all is well.
func (t *GoToolchain) target(g GoCommand, e *Effect) (other, ok bool) {
	want := g.Target.Names().Go
	goos, _ := t.value(g.Call, "GOOS")
	goarch, _ := t.value(g.Call, "GOARCH")
	if goarch == "wasm" && (goos == "js" || goos == "wasip1") {
		e.Tool = "go build for wasm"
		goOutput(g, e)
		return true, true
	}
	for _, v := range []struct{ name, is, want string }{{"GOOS", goos, want.GOOS}, {"GOARCH", goarch, want.GOARCH}} {
		switch {
		case !script.Known(v.is):
			e.dependsf(g.Call, "sets %s to what is only known when it runs", v.name)
			return false, false
		case v.is != "" && v.is != v.want:
			e.findf(g.Call, RuleTargetSet, "go %s is told %s=%s, and the target is %s; write %s=$TARGET%s, or leave it out", g.sub, v.name, v.is,
				g.Target.Platform(), v.name, strings.TrimPrefix(v.name, "GO"))
			e.dependsf(g.Call, "tells go %s=%s, and the target is %s", v.name, v.is, g.Target.Platform())
			return true, false
		}
	}
	for _, v := range want.Env() { // GOARM and its kin
		if is, _ := t.value(g.Call, v.Name); !script.Known(is) {
			e.dependsf(g.Call, "sets %s to what is only known when it runs", v.Name)
			return false, false
		}
	}
	how := t.needEnv(g.Call, e)
	if slices.Contains([]string{"list", "get", "vet"}, g.sub) {
		return false, true
	}
	// On the build platform, what is not said is the build platform's own.
	build := g.Build.Names().Go
	enough := (goos != "" || want.GOOS == build.GOOS) && (goarch != "" || want.GOARCH == build.GOARCH)
	e.Told = &Told{Name: "go " + g.sub, How: how, Enough: enough, Line: g.Line}
	return false, true
}

// needEnv adds what the command's environment does not say of the target, and returns how it is told.
func (t *GoToolchain) needEnv(c Call, e *Effect) How {
	how := ByFile
	for _, v := range c.Target.Names().Go.Env() {
		is, set := t.value(c, v.Name)
		level := v.Name != "GOOS" && v.Name != "GOARCH"
		switch {
		case v.Value == "" || is != "":
			continue
		case level && c.Target.Platform().Architecture != "arm" && c.Target.Platform().Variant == "":
			continue // Go's own default, the same everywhere
		}
		e.need(c, v.Name, v.Value, set)
		if !level {
			how = ByPlan
		}
	}
	return how
}

// need adds a variable. One that the script itself empties needs Go's configuration.
func (e *Effect) need(c Call, name, value string, emptied bool) {
	v := Variable{platforms.NameValue{Name: name, Value: value}, emptied && c.empties(name)}
	if !slices.Contains(e.Env, v) {
		e.Env = append(e.Env, v)
	}
}

// empties reports whether the RUN's own text mentions the variable, so that a value put before it may be lost.
func (c Call) empties(name string) bool {
	return strings.Contains(c.Text, name+"=") || slices.ContainsFunc(c.Exec, func(s string) bool { return strings.HasPrefix(s, name+"=") })
}

// cgo sees to it that a compilation does without C, or asks whether it can.
func (t *GoToolchain) cgo(g GoCommand, e *Effect) {
	v, set := t.value(g.Call, "CGO_ENABLED")
	ask := &Question{Kind: Cgo, Certain: g.Certain, Go: g}
	if g.sub == "generate" {
		e.Asks = ask // what its directives run is in no Dockerfile
	}
	switch {
	case v == "0":
	case v == "":
		e.need(g.Call, "CGO_ENABLED", "0", set)
		if g.sub == "run" && buildTool.MatchString(strings.Join(g.operands, " ")) {
			e.cgof(g.Call, "runs %q, which may build with cgo", Short(append([]string{"go run"}, g.operands...)))
		}
		if g.sub != "generate" {
			e.Asks = ask
		}
	case !script.Known(v):
		e.cgof(g.Call, "sets CGO_ENABLED to what is only known when it runs")
	default:
		e.cgof(g.Call, "runs \"go %s\" with CGO_ENABLED=%s, which needs a C compiler for the target", g.sub, v)
	}
}

// buildTool matches programs that call go themselves.
var buildTool = regexp.MustCompile(`@|\b(mage|task|goreleaser|ko|gox|bazel|please|xgo)\b`)

// goOutput notes what go build writes.
func goOutput(g GoCommand, e *Effect) {
	out, ok := g.flags["o"]
	if !ok {
		for _, name := range programNames(g.operands) {
			e.file(Program, Resolve(g.Dir, name))
		}
		if len(g.operands) == 0 || slices.ContainsFunc(g.operands, func(s string) bool { return strings.Trim(s, "./") == "" }) {
			e.file(Makes, Resolve(g.Dir, script.Unknown))
		}
		return
	}
	to := Resolve(g.Dir, out)
	if IsSystemDir(to) || strings.HasSuffix(out, "/") {
		for _, name := range programNames(g.operands) {
			e.file(Program, path.Join(to, name))
		}
		if !IsSystemDir(to) {
			e.file(Programs, to)
		}
		return
	}
	e.file(Program, to)
	for _, name := range programNames(g.operands) {
		e.file(Program, path.Join(to, name))
	}
}

// programNames are the names that Go gives the programs of packages: the last element of the import path that is no
// major version, as far as the words tell.
func programNames(packages []string) []string {
	var out []string
	for _, p := range packages {
		p, _, _ = strings.Cut(p, "@")
		p = strings.TrimSuffix(p, "/")
		base := path.Base(p)
		if majorVersion.MatchString(base) {
			base = path.Base(path.Dir(p))
		}
		switch {
		case strings.HasSuffix(base, ".go"):
			out = append(out, strings.TrimSuffix(base, ".go"))
		case base != "." && base != ".." && base != "...":
			out = append(out, base)
		}
	}
	return out
}

var majorVersion = regexp.MustCompile(`^v[0-9]+$`)
