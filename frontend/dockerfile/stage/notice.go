package stage

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/effect"
	"github.com/manifold-build/manifold/frontend/dockerfile/script"
	"github.com/manifold-build/manifold/frontend/dockerfile/source"
	"github.com/manifold-build/manifold/platforms"
)

// A script may notice the variables that the plan puts before it. What that does to the words, the files and the folders of its commands is found by reading it
// again; the rest is found here, in its text.

// mayNotice matches what a script must hold to take away, or to look at, a variable that was put before it.
var mayNotice = regexp.MustCompile(`GO|CGO_|unset|env|sudo|\bsu\b|export|declare|set`)

// confirm reads the RUN again with what is put before it. The same commands have to be run with the same words, and every one that is told its target by
// the plan has to find just what the plan put there, or what the script itself gave it without the plan.
func (f *runFold) confirm() {
	e := f.edit
	if len(e.Env) == 0 || f.run.Form != source.ExecForm && !mayNotice.MatchString(f.text) {
		return
	}
	env := maps.Clone(f.w.Env)
	for _, v := range e.Env {
		env[v.Name] = v.Value
	}
	if e.GoEnv {
		env["GOENV"] = GoEnvPath
	}
	again := f.reading(env, nil)
	if len(again.Commands) != len(f.read.Commands) || notices(f.text, e.Env) {
		f.blockf(f.run.Line, "does other things where %s is set", names(e.Env))
		return
	}
	for i, c := range again.Commands {
		was := f.read.Commands[i]
		line := f.run.LineOf(c.Offset)
		if f.keepsEnvironment(i) {
			f.blockf(line, "keeps what %q shows, and %s is set", effect.Short(c.Words), names(e.Env))
			return
		}
		if !slices.Equal(c.Words, was.Words) || c.Dir != was.Dir || !slices.Equal(c.Reads, was.Reads) || !slices.Equal(c.Writes, was.Writes) || !sameText(c.Document, was.Document) || !sameVariables(f.text, c, was, e.Env) {
			f.blockf(line, "does other things where %s is set", names(e.Env))
			return
		}
		if name := effect.NameOf(c.Words[0]); name != "go" && name != "make" && name != "gmake" && !f.out.Files.isProgram(c.Path(c.Words[0]), c.Words[0]) {
			continue
		}
		for _, v := range e.Env {
			if !f.finds(c, was, v) {
				f.blockf(line, "runs %q without %s=%s, which the script takes away", effect.Short(c.Words), v.Name, v.Value)
			}
		}
	}
}

func sameText(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

// keepsEnvironment reports whether a command shows the whole environment, and that is kept in a file or a word.
func (f *runFold) keepsEnvironment(i int) bool {
	c := f.read.Commands[i]
	if name := effect.NameOf(c.Words[0]); name != "env" && name != "printenv" || slices.ContainsFunc(c.Words[1:], func(w string) bool { return !strings.HasPrefix(w, "-") }) {
		return false
	}
	if c.Substituted && !c.Shown {
		return true
	}
	for ; i < len(f.read.Commands); i++ {
		c := f.read.Commands[i]
		if effect.NameOf(c.Words[0]) == "tee" || slices.ContainsFunc(c.Writes, func(w string) bool { return !strings.HasPrefix(w, "/dev/") }) {
			return true
		}
		if !c.Feeds {
			return false
		}
		if i+1 == len(f.read.Commands) || !f.read.Commands[i+1].Piped {
			return true // what it stands in is redirected
		}
	}
	return false
}

// finds reports whether a command finds a variable as it has to: as the script itself gave it, else as the plan puts it.
func (f *runFold) finds(c, was script.Command, v platforms.NameValue) bool {
	is, _ := c.Getenv(v.Name)
	if own, _ := was.Getenv(v.Name); own != "" {
		return is == own
	}
	goenv, _ := c.Getenv("GOENV")
	return is == v.Value || is == "" && f.edit.GoEnv && goenv == GoEnvPath
}

func names(env []platforms.NameValue) string {
	out := make([]string, len(env))
	for i, v := range env {
		out[i] = v.Name
	}
	return strings.Join(out, ", ")
}

// showsVariables matches what shows, or looks into, the whole environment.
var showsVariables = regexp.MustCompile(`\b(declare|typeset|export|readonly|local)\s+-[a-zA-Z]*p\b|\b(declare|typeset|export)\s+-x\s*($|[|;&>)\n])|(^|[;&|({\n]|\bthen|\bdo)\s*set\s*($|[|;&>)\n])|\benvsubst\b|\bENVIRON\b|\$ENV\b|` +
	`\benv\.[A-Z]|\bstrenv\b|\bcompgen\b|\benv\s*\|\s*(grep|egrep|awk|sed|cut|while|wc|tee)\b|go\s+env\s+[^;&|\n]*-changed|\.Target\b`)

// unread matches constructs whose outcome is not read from the words in them.
var unread = regexp.MustCompile(`\[\[|\(\(|=\(|\]=|<<<|\bset\s+--|\bread\b|\bcd\b`)

// notices reports whether a text may do something else where variables are set.
func notices(text string, env []platforms.NameValue) bool {
	if showsVariables.MatchString(text) {
		return true
	}
	for _, v := range env {
		if !strings.Contains(text, v.Name) {
			continue
		}
		name := regexp.QuoteMeta(v.Name)
		odd := regexp.MustCompile(`\$\{[#!]` + name + `\b|\$\{` + name + `:?\+|-v\s+["']?` + name + `\b|\bprintenv\s+[^;&|\n]*` + name + `\b|\b(declare|typeset)\s+[-+][^;&|\n]*\b` + name + `\b|\b(declare|typeset|local)\s+-n\b|` +
			`go\s+env\s+[^;&|\n)]*CGO_ENABLED`)
		if odd.MatchString(text) {
			return true
		}
		for line := range strings.Lines(text) {
			if strings.Contains(line, "$"+v.Name) || strings.Contains(line, "${"+v.Name) {
				if unread.MatchString(line) {
					return true
				}
			}
		}
	}
	return false
}

// assigned matches the names of variables that a script assigns.
var assigned = regexp.MustCompile(`\b([A-Za-z_][A-Za-z0-9_]*)=`)

// sameVariables reports whether a command finds the same in the variables that the script assigns, but for those that the plan sets.
func sameVariables(text string, a, b script.Command, env []platforms.NameValue) bool {
	for _, m := range assigned.FindAllStringSubmatch(text, -1) {
		if slices.ContainsFunc(env, func(v platforms.NameValue) bool { return v.Name == m[1] }) {
			continue
		}
		x, setX := a.Getenv(m[1])
		y, setY := b.Getenv(m[1])
		if x != y || setX != setY {
			return false
		}
	}
	return true
}

// notRead matches what shells can do that changes how they read or run what follows, in ways that the reader does not follow.
var notRead = regexp.MustCompile(`\bshopt\s+-s\s+[^;&|\n]*(nocasematch|extglob|lastpipe)|\b(declare|typeset|local)\s+-[a-zA-Z]*[gilun]|(^|[;&|({\n]|\bthen|\bdo)\s*readonly\s|\bprintf\s+-v|\bexport\s+-f|\bhash\s+-p|\bPS4=|\bBASH_ENV=|\bENV=/|\bCDPATH=|` +
	`(\[\[|\bcase\b|\s)[^\n]*[^$\w][@!+]\([^)]*\)|\bBASH_VERSINFO\b|\b(HOST|MACH|OS)TYPE\b`)

// machinePaths matches what tells the machine, where no command names it as a file that it reads: conditions, lists of files, options of other programs.
var machinePaths = regexp.MustCompile(`\[\[[^\]\n]*\s/(proc|sys|lib|usr/lib|usr/libexec|usr/include|bin|sbin|usr/bin|usr/sbin)[/\w]|/proc/(cpuinfo|version|device-tree|[*?\[])|\bcd\s+/(proc|sys|lib|usr/lib|usr/include|bin|sbin|usr/bin|usr/sbin)\b|` +
	`/(usr/lib|lib|usr/include)/[*?\w-]*\*|\b(command\s+-v|type|which|hash)\s+[^;&|\n]*(x86_64|aarch64|armv?[678]|i[3-6]86|s390x|ppc64|riscv64)`)
