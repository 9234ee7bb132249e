package stage

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

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
	if len(again.Commands) != len(f.read.Commands) || f.notices(e.Env) {
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
		if !slices.Equal(c.Words, was.Words) || c.Dir != was.Dir || !slices.Equal(c.Reads, was.Reads) || !slices.Equal(c.Writes, was.Writes) || !sameText(c.Document, was.Document) || !f.sameVariables(c, was, e.Env) {
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

// noted is what was found in a RUN before, or is found now.
func noted[T any](r *source.Run, key string, find func() T) T {
	if v, ok := r.Notes.Load(key); ok {
		return v.(T) //nolint:forcetypeassert // only this function stores
	}
	v := find()
	r.Notes.Store(key, v)
	return v
}

// showsVariables reports whether a command shows, or looks into, the whole environment in a way that its words do not name.
func showsVariables(c script.Command) bool {
	has := func(parts ...string) bool {
		return slices.ContainsFunc(c.Words[1:], func(w string) bool { return containsAny(w, parts) })
	}
	switch effect.NameOf(c.Words[0]) {
	case "envsubst", "compgen":
		return true
	case "awk", "gawk", "mawk":
		return has("ENVIRON")
	case "jq", "yq", "gojq":
		return has("$ENV", "env", "strenv")
	case "perl", "ruby":
		return has("ENV")
	case "go":
		return has("-changed", ".Target")
	}
	return false
}

// filtersVariables reports whether what env shows is looked into.
func filtersVariables(commands []script.Command) bool {
	for i, c := range commands[:max(len(commands)-1, 0)] {
		if c.Feeds && effect.NameOf(c.Words[0]) == "env" && slices.Contains(filters, effect.NameOf(commands[i+1].Words[0])) {
			return true
		}
	}
	return false
}

var filters = strings.Fields("grep egrep awk sed cut read wc tee")

// hard and places are words one of which is in every text that notRead and machinePaths match.
var (
	hard   = strings.Fields("shopt declare typeset local readonly printf export hash PS4= ENV= CDPATH= @( !( +( BASH_VERSINFO TYPE")
	places = strings.Fields("/proc /sys /lib /usr /bin /sbin command type which hash")
)

func containsAny(text string, words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
}

// findAny finds an expression in a text that holds one of these words.
func findAny(re *regexp.Regexp, text string, words []string) string {
	if !containsAny(text, words) {
		return ""
	}
	return re.FindString(text)
}

// unread matches constructs whose outcome is not read from the words in them.
var unread = regexp.MustCompile(`\[\[|\(\(|=\(|\]=|<<<|\bset\s+--|\bread\b|\bcd\b`)

var oddUses sync.Map // by variable

// oddly matches uses of a variable that are not its value in words.
func oddly(variable string) *regexp.Regexp {
	if re, ok := oddUses.Load(variable); ok {
		return re.(*regexp.Regexp) //nolint:forcetypeassert // only this function stores
	}
	name := regexp.QuoteMeta(variable)
	re := regexp.MustCompile(`\$\{[#!]` + name + `\b|\$\{` + name + `:?\+|-v\s+["']?` + name + `\b|\bprintenv\s+[^;&|\n]*` + name + `\b|\b(declare|typeset)\s+[-+][^;&|\n]*\b` + name + `\b|\b(declare|typeset|local)\s+-n\b|` +
		`go\s+env\s+[^;&|\n)]*CGO_ENABLED`)
	oddUses.Store(variable, re)
	return re
}

// notices reports whether the RUN's text may do something else where variables are set.
func (f *runFold) notices(env []platforms.NameValue) bool {
	if f.read.Shows || slices.ContainsFunc(f.read.Commands, showsVariables) || filtersVariables(f.read.Commands) {
		return true
	}
	return slices.ContainsFunc(env, func(v platforms.NameValue) bool {
		return noted(f.run, "notices "+v.Name, func() bool { return noticesOne(f.text, v.Name) })
	})
}

// noticesOne reports whether a text uses a variable in a way that is not its value in words that are read.
func noticesOne(text, variable string) bool {
	if !strings.Contains(text, variable) {
		return false
	}
	if oddly(variable).MatchString(text) {
		return true
	}
	for line := range strings.Lines(text) {
		if (strings.Contains(line, "$"+variable) || strings.Contains(line, "${"+variable)) && unread.MatchString(line) {
			return true
		}
	}
	return false
}

// assigned matches the names of variables that a script assigns.
var assigned = regexp.MustCompile(`\b([A-Za-z_][A-Za-z0-9_]*)=`)

// sameVariables reports whether a command finds the same in the variables that the script assigns, but for those that the plan sets.
func (f *runFold) sameVariables(a, b script.Command, env []platforms.NameValue) bool {
	list := noted(f.run, "assigned", func() (out []string) {
		for _, m := range assigned.FindAllStringSubmatch(f.text, -1) {
			out = append(out, m[1])
		}
		return out
	})
	for _, name := range list {
		if slices.ContainsFunc(env, func(v platforms.NameValue) bool { return v.Name == name }) {
			continue
		}
		x, setX := a.Getenv(name)
		y, setY := b.Getenv(name)
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
