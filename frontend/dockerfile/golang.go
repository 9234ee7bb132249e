package dockerfile

import (
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

// goCommand is a go command's line, taken apart.
type goCommand struct {
	script.Command

	sub      string
	dir      string
	flags    map[string]string // by name without dashes; a flag without a value is "true"
	operands []string
	line     int
}

func parseGo(c script.Command, line int) goCommand {
	g := goCommand{Command: c, dir: c.Dir, flags: map[string]string{}, line: line}
	for word := range strings.FieldsSeq(envOf(c, "GOFLAGS")) {
		name, value, ok := strings.Cut(strings.TrimLeft(word, "-"), "=")
		if !ok {
			value = "true"
		}
		g.flags[name] = value
	}
	args := c.Words[1:]
	if len(args) > 1 && args[0] == "-C" {
		g.dir, args = c.Path(args[1]), args[2:]
	}
	if len(args) == 0 {
		return g
	}
	g.sub, args = args[0], args[1:]
	for i := 0; i < len(args); i++ {
		if !strings.HasPrefix(args[i], "-") || args[i] == "-" {
			g.operands = args[i:]
			break
		}
		name, value, ok := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		switch {
		case ok:
		case contains(goValued, name) && i+1 < len(args):
			i++
			value = args[i]
		default:
			value = "true"
		}
		g.flags[name] = value
		if name == "C" {
			g.dir = c.Path(value)
		}
	}
	return g
}

// judgeGo judges a go command.
func judgeGo(j *judge, c script.Command) {
	g := parseGo(c, j.r.lineOf(c.Offset))
	switch g.sub {
	case "build", "install", "run", "test", "generate", "vet", "list", "get":
		j.goTold(g)
	case "tool":
		j.goTool(g)
	case "env":
		j.goEnv(g)
	case "version":
		j.goVersion(g)
	case "", "mod", "work", "clean", "fmt", "fix", "doc", "help", "bug", "telemetry":
	default:
		j.blockf(g.line, "line %d runs \"go %s\", which is not a command of go that is known", g.line, g.sub)
	}
}

// goVersion judges go version, which names the machine: what it prints must not be kept, but for the version itself.
func (j *judge) goVersion(g goCommand) {
	if !g.Substituted && !g.Feeds && len(g.Writes) == 0 {
		return
	}
	for _, c := range j.read.Commands {
		if c.Offset > g.Offset && commandName(c.Words[0]) == "awk" && slices.ContainsFunc(c.Words, func(w string) bool { return strings.Contains(w, "print $3") && !strings.Contains(w, "$4") }) {
			return
		}
	}
	j.blockf(g.line, "line %d keeps what \"go version\" prints, which names the machine", g.line)
}

// goTools are the tools of the distribution whose output does not depend on where they run.
var goTools = strings.Fields("cover vet nm objdump buildid pprof trace test2json covdata doc fix")

// goTool judges go tool: a tool of the module is built for the machine, whatever GOARCH says.
func (j *judge) goTool(g goCommand) {
	if len(g.operands) > 0 && contains(goTools, g.operands[0]) || len(g.operands) > 1 && g.operands[0] == "dist" && g.operands[1] == "list" {
		return
	}
	j.blockf(g.line, "line %d runs \"go tool\", which builds its tool for the machine it runs on", g.line)
}

// goEnv judges go env, which can change what later commands build.
func (j *judge) goEnv(g goCommand) {
	if g.flags["w"] == "" && g.flags["u"] == "" {
		kept := g.Substituted || g.Feeds || len(g.Writes) > 0
		host := slices.ContainsFunc(g.operands, func(s string) bool { return strings.HasPrefix(s, "GOHOST") || s == "GOTOOLDIR" })
		if kept && (host || len(g.operands) == 0) {
			j.blockf(g.line, "line %d keeps what \"go env\" says of the machine", g.line)
		}
		j.needEnv(g)
		return
	}
	for _, word := range append(slices.Clone(g.operands), g.flags["w"], g.flags["u"]) {
		name, value, _ := strings.Cut(word, "=")
		switch {
		case name == "CGO_ENABLED" || contains(goTargetNames, name):
			j.v.goEnv[name] = value
		case contains([]string{"GOFLAGS", "CC", "CXX", "GOBIN", "GOPATH", "GOCACHE"}, name):
			j.blockf(g.line, "line %d changes %s by \"go env\"", g.line, name)
		}
	}
}

// goVar is the value of one of Go's variables as go finds it: in its environment, or as "go env -w" left it.
func (j *judge) goVar(c script.Command, name string) (value string, set bool) {
	if value, set = c.Getenv(name); value == "" && j.v.goEnv[name] != "" {
		return j.v.goEnv[name], true
	}
	return value, set
}

var goTargetNames = func() []string {
	var out []string
	for _, v := range (platforms.GoNames{}).Env() {
		out = append(out, v.Name)
	}
	return out
}()

// goTold judges a command that takes its target from the environment.
func (j *judge) goTold(g goCommand) {
	if problem := goProblem(g, j.g.target.Platform); problem != "" {
		j.blockf(g.line, "line %d runs \"go %s\" %s", g.line, g.sub, problem)
		return
	}
	other, ok := j.goTarget(g)
	if !ok || other {
		return
	}
	compiles := contains([]string{"build", "install", "run", "test"}, g.sub)
	if compiles || g.sub == "generate" {
		j.v.compilesGo = true
		j.goCgo(g)
		j.mountCache(g)
	}
	before := len(j.v.files.marks)
	defer func() {
		if n := len(j.v.told); n > 0 {
			j.v.told[n-1].first, j.v.told[n-1].last = before, len(j.v.files.marks)
		}
	}()
	switch g.sub {
	case "build":
		j.goOutput(g)
	case "test":
		if g.flags["c"] != "" {
			j.goOutput(g)
			break
		}
		j.executes(g.Command, "go test")
	case "run", "generate":
		j.executes(g.Command, "go "+g.sub)
	case "install":
		j.goInstall(g)
	}
}

// goProblem says which flag makes a command depend on the machine, or on a C compiler for the target.
func goProblem(g goCommand, target platforms.Platform) string {
	for _, name := range []string{"race", "msan", "asan"} {
		if on(g.flags[name]) {
			return "with -" + name + ", which needs cgo"
		}
	}
	for _, name := range []string{"toolexec", "exec", "vettool"} {
		if g.flags[name] != "" {
			return "with -" + name + ", a program of its own"
		}
	}
	if c := g.flags["compiler"]; c != "" && c != "gc" {
		return "with -compiler=" + c
	}
	switch mode := g.flags["buildmode"]; mode {
	case "", "default", "exe", "archive":
	case "pie":
		if !contains(pieWithoutCgo, target.OS+"/"+target.Architecture) {
			return "with -buildmode=pie, which needs cgo for " + target.String()
		}
	default:
		return "with -buildmode=" + mode + ", which needs cgo"
	}
	if strings.Contains(envOf(g.Command, "GOEXPERIMENT"), "boringcrypto") {
		return "with GOEXPERIMENT=boringcrypto, which needs cgo"
	}
	if linkExternal.MatchString(g.flags["ldflags"]) {
		return "with -linkmode=external, which needs a C linker for the target"
	}
	return ""
}

func on(flag string) bool { return flag != "" && flag != "false" && flag != "0" }

var linkExternal = regexp.MustCompile(`-linkmode[= ]['"]?external`)

// pieWithoutCgo are the targets for which Go's own linker makes position-independent executables (internal/platform,
// InternalLinkPIESupported).
var pieWithoutCgo = []string{
	"darwin/amd64", "darwin/arm64", "linux/amd64", "linux/arm64", "linux/loong64", "linux/ppc64le", "linux/riscv64", "linux/s390x",
	"windows/386", "windows/amd64", "windows/arm64",
}

// goTarget sees to it that a command is told the target. It reports whether the user told it another one, which
// is theirs and left as it is, and whether all is well.
func (j *judge) goTarget(g goCommand) (other, ok bool) {
	want := j.g.target.Platform.Names().Go
	goos, _ := j.goVar(g.Command, "GOOS")
	goarch, _ := j.goVar(g.Command, "GOARCH")
	if goarch == "wasm" && (goos == "js" || goos == "wasip1") {
		j.v.tools = appendNew(j.v.tools, "go build for wasm")
		j.goOutput(g)
		return true, true
	}
	for _, v := range []struct{ name, is, want string }{{"GOOS", goos, want.GOOS}, {"GOARCH", goarch, want.GOARCH}} {
		switch {
		case !script.Known(v.is):
			j.blockf(g.line, "line %d sets %s to what is only known when it runs", g.line, v.name)
			return false, false
		case v.is != "" && v.is != v.want:
			j.findf(g.line, RuleTargetSet, "go %s is told %s=%s, and the target is %s; write %s=$TARGET%s, or leave it out", g.sub, v.name, v.is,
				j.g.target.Platform, v.name, strings.TrimPrefix(v.name, "GO"))
			j.blockf(g.line, "line %d tells go %s=%s, and the target is %s", g.line, v.name, v.is, j.g.target.Platform)
			return true, false
		}
	}
	how := j.needEnv(g)
	if contains([]string{"list", "get", "vet"}, g.sub) {
		return false, true
	}
	// On the build platform, what is not said is the build platform's own.
	build := j.g.build.Names().Go
	enough := (goos != "" || want.GOOS == build.GOOS) && (goarch != "" || want.GOARCH == build.GOARCH)
	j.v.told = append(j.v.told, toldCommand{name: "go " + g.sub, how: how, enough: enough, line: g.line})
	return false, true
}

// howSet says that a command is told its target by what the plan puts before it.
const howSet = "GOOS/GOARCH set"

// howTold says that the Dockerfile itself tells a command its target.
const howTold = "told the target by the Dockerfile"

// needEnv adds to the RUN what the command's environment does not say of the target, and returns how it is told.
func (j *judge) needEnv(g goCommand) string {
	how := howTold
	target := j.g.target.Platform
	for _, v := range target.Names().Go.Env() {
		is, set := j.goVar(g.Command, v.Name)
		level := v.Name != "GOOS" && v.Name != "GOARCH"
		switch {
		case v.Value == "" || is != "":
			continue
		case level && target.Architecture != "arm" && target.Variant == "":
			continue // Go's own default, the same everywhere
		}
		j.export(v.Name, v.Value, set)
		if !level {
			how = howSet
		}
	}
	return how
}

// export puts a variable into the RUN's environment. One that the script itself empties needs Go's configuration.
func (j *judge) export(name, value string, emptied bool) {
	if !slices.Contains(j.edit.env, platforms.NameValue{Name: name, Value: value}) {
		j.edit.env = append(j.edit.env, platforms.NameValue{Name: name, Value: value})
	}
	j.edit.goenv = j.edit.goenv || emptied && j.emptiesItself(name)
}

// emptiesItself reports whether the RUN's own text mentions the variable, so that a value put before it may be lost.
func (j *judge) emptiesItself(name string) bool {
	return strings.Contains(j.r.text, name+"=") || slices.ContainsFunc(j.r.argv, func(s string) bool { return strings.HasPrefix(s, name+"=") })
}

// goCgo sees to it that a compilation does without C, or asks whether it can.
func (j *judge) goCgo(g goCommand) {
	v, set := j.goVar(g.Command, "CGO_ENABLED")
	if g.sub == "generate" {
		j.askCgo(g) // what its directives run is in no Dockerfile
	}
	switch {
	case v == "0":
	case v == "":
		j.export("CGO_ENABLED", "0", set)
		if g.sub == "run" && buildTool.MatchString(strings.Join(g.operands, " ")) {
			j.blockf(g.line, "line %d runs %q, which may build with cgo", g.line, strings.Join(short(append([]string{"go run"}, g.operands...)), " "))
		}
		if g.sub != "generate" {
			j.askCgo(g)
		}
	case !script.Known(v):
		j.blockf(g.line, "line %d sets CGO_ENABLED to what is only known when it runs", g.line)
	default:
		j.blockf(g.line, "line %d runs \"go %s\" with CGO_ENABLED=%s, which needs a C compiler for the target", g.line, g.sub, v)
	}
}

// buildTool matches programs that call go themselves.
var buildTool = regexp.MustCompile(`@|\b(mage|task|goreleaser|ko|gox|bazel|please|xgo)\b`)

// askCgo has a command asked about by a probe.
func (j *judge) askCgo(g goCommand) {
	if j.inMake {
		j.behindMake = append(j.behindMake, g)
		return
	}
	if g.Certain {
		j.asked++
	}
	j.askedLast = g
}

// goOutput notes what go build writes.
func (j *judge) goOutput(g goCommand) {
	out, ok := g.flags["o"]
	if !ok {
		for _, name := range programNames(g.operands) {
			j.v.files.program(resolveIn(g.dir, name), g.line)
		}
		if len(g.operands) == 0 || slices.ContainsFunc(g.operands, func(s string) bool { return strings.Trim(s, "./") == "" }) {
			j.v.files.make(resolveIn(g.dir, script.Unknown), g.line)
		}
		return
	}
	to := resolveIn(g.dir, out)
	if isSystemDir(to) || strings.HasSuffix(out, "/") {
		for _, name := range programNames(g.operands) {
			j.v.files.program(path.Join(to, name), g.line)
		}
		if !isSystemDir(to) {
			j.v.files.programs(to, g.line)
		}
		return
	}
	j.v.files.program(to, g.line)
	for _, name := range programNames(g.operands) {
		j.v.files.program(path.Join(to, name), g.line)
	}
}

// resolveIn is a path as seen from a directory, unknown if either is.
func resolveIn(dir, name string) string {
	switch {
	case strings.HasPrefix(name, script.Unknown) && dir == script.Unknown:
		return script.Unknown
	case path.IsAbs(name):
		return path.Clean(name)
	case strings.HasPrefix(dir, script.Unknown):
		return script.Unknown
	default:
		return path.Join(dir, name)
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

// goPath is GOPATH's first directory: as the environment says, else where Go looks by default.
func (j *judge) goPath(c script.Command) string {
	if p := envOf(c, "GOPATH"); p != "" {
		first, _, _ := strings.Cut(p, ":")
		return first
	}
	return firstSet(envOf(c, "HOME"), "/root") + "/go"
}

// goInstall sees to it that go install's programs land where the native build would put them. Cross-compiled they go to
// GOPATH/bin/GOOS_GOARCH, and with GOBIN set Go refuses (go help install).
func (j *judge) goInstall(g goCommand) {
	bin := envOf(g.Command, "GOBIN")
	switch inScript, _ := g.Getenv("GOBIN"); {
	case bin == "":
		bin = path.Join(j.goPath(g.Command), "bin")
	case !script.Known(bin) || inScript != j.w.env["GOBIN"]:
		j.blockf(g.line, "line %d sets GOBIN for go install, which Go refuses when it cross-compiles", g.line)
		return
	default:
		j.edit.unset = appendNew(j.edit.unset, "GOBIN")
		j.edit.binInto = bin
	}
	names := j.g.target.Platform.Names().Go
	goPath, _, _ := strings.Cut(envOf(g.Command, "GOPATH"), ":")
	if before := j.edit.bin; !script.Known(goPath) || before != "" && before != binOf(goPath) || strings.ContainsAny(goPath+bin, "\"'$`\\") {
		j.blockf(g.line, "line %d sets GOPATH for go install to what is not known", g.line)
		return
	}
	j.edit.bin = binOf(goPath)
	j.edit.binDir = names.GOOS + "_" + names.GOARCH
	for _, name := range programNames(g.operands) {
		j.v.files.program(path.Join(bin, name), g.line)
	}
	j.v.files.programs(bin, g.line)
}

// mountCache gives the RUN a mount for Go's build cache, unless the user sees to it.
func (j *judge) mountCache(g goCommand) {
	if j.g.target.NoCacheMounts || j.w.user != "" && j.w.user != "root" && j.w.user != "0" {
		return
	}
	dir := envOf(g.Command, "GOCACHE")
	if dir == "" {
		dir = path.Join(firstSet(envOf(g.Command, "XDG_CACHE_HOME"), path.Join(firstSet(envOf(g.Command, "HOME"), "/root"), ".cache")), "go-build")
	}
	if !script.Known(dir) || !path.IsAbs(dir) || strings.ContainsAny(dir, " ,\"'$\\") || j.edit.cacheDir != "" && j.edit.cacheDir != dir {
		return
	}
	for _, m := range j.r.mounts {
		if t := resolveIn(j.w.dir, j.g.word(j.w.env, m.target)); t == script.Unknown || within(t, dir) || within(dir, t) {
			return
		}
	}
	for _, c := range j.read.Commands {
		if c.Name() == "rm" || c.Name() == "chown" || c.Name() == "chmod" || c.Name() == "mv" || c.Name() == "cp" {
			for _, a := range operands(c.Words[1:]) {
				if p := stem(c.Path(a)); !path.IsAbs(p) || p == "/" || within(dir, p) || within(p, dir) {
					return
				}
			}
		}
		if c.Name() == "go" && len(c.Words) > 1 && c.Words[1] == "clean" {
			return
		}
	}
	j.edit.cacheDir = dir
}
