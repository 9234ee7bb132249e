package stage

import (
	"regexp"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
	"github.com/manifold-build/manifold/platforms"
)

// A script may notice the variables that the plan puts before it. What that does to the words, the files and the folders of its commands is found by reading it
// again; the rest is found here, in its text.

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
