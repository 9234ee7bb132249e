package effect

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
	"github.com/manifold-build/manifold/platforms"
)

// RuleArchInDownload is the finding for an architecture that is written out in what is downloaded or added, and that is not the target's.
const RuleArchInDownload = "ArchitectureInDownload"

// LintDownload finds a download that is named for another architecture than the target's.
func LintDownload(what string, line int, target platforms.Platform) (Finding, bool) {
	word := ForeignWord(what, target)
	return Finding{Line: line, Rule: RuleArchInDownload, Message: what + " is named for " + word + ", and the target is " + target.String() +
		"; name it by a variable such as $TARGETARCH"}, word != ""
}

// fetch tells what a download makes. An architecture in its address makes it the machine's own, or the target's: what is named for the target
// is the target's own file wherever it is fetched.
func fetch(c Call, a arguments, e *Effect) {
	own := false
	for _, word := range fetched(a) {
		if ArchWord(word) == "" {
			own = own || !script.Known(word) && c.namesTarget()
			continue
		}
		shown := strings.ReplaceAll(word, script.Unknown, "…")
		if f, ok := LintDownload(shown, c.Line, c.Target.Platform()); ok && c.Certain {
			e.Findings = append(e.Findings, f)
		}
		if !NamedForTarget(word, c.Target.Platform(), c.Build) || !script.Known(word) || c.Substituted {
			e.dependsf(c, "fetches %s, which is named for %s", shown, ArchWord(word))
			return
		}
		own = true
	}
	if a.has("-K", "--config", "-i", "--input-file", "-e", "--execute") && c.Name != "curl" || a.has("-K", "--config") {
		e.dependsf(c, "fetches what the Dockerfile does not name")
	}
	kind := Makes
	if own {
		kind = ForTarget
	}
	to := destinations(c, a)
	for _, p := range to {
		e.file(kind, p)
	}
	if own && len(to) == 0 {
		e.Files = append(e.Files, File{Kind: ForTarget, Path: ""}) // it is piped on, or shown
	}
}

// NamedForTarget reports whether an address is that of the target's own file: it names the target and not the build platform, unless they are one.
func NamedForTarget(word string, target, build platforms.Platform) bool {
	return namedFor(word, target) && (target == build || !namedFor(word, build))
}

// variableOf matches a variable in a script.
var variableOf = regexp.MustCompile(`\$\{?([A-Za-z_][A-Za-z0-9_]*)`)

// namesTarget reports whether the script uses a variable that names a machine, as TARGETARCH does: what is not known of a word may be made of that.
func (c Call) namesTarget() bool {
	for _, m := range variableOf.FindAllStringSubmatch(c.Text, -1) {
		value, set := c.Begin[m[1]]
		if set && (ArchWord(value) != "" || m[1] == "TARGETVARIANT") {
			return true
		}
	}
	return false
}

// fetched are the words of a download that may name what is fetched.
func fetched(a arguments) []string {
	out := append([]string{}, a.operands...)
	for _, f := range a.flags {
		switch f.name {
		case "--url":
			out = append(out, f.value)
		case "-H", "--header", "-o", "--output", "-O", "--output-document", "-P", "--output-dir", "--directory-prefix", "-d", "--dir", "--out":
			if strings.Contains(f.value, "://") {
				out = append(out, f.value) // curl -O URL: the flag takes no value
			}
		}
	}
	return out
}

var printsOut = regexp.MustCompile(`^(-|/dev/stdout)$`)

// destinations are the files that a download writes.
func destinations(c Call, a arguments) []string {
	dir := c.Dir
	if d, ok := a.get("-P", "--directory-prefix", "--output-dir"); ok {
		dir = c.Path(d)
	}
	var out []string
	for _, f := range a.flags {
		named := c.Name == "curl" && (f.name == "-o" || f.name == "--output") || c.Name == "wget" && (f.name == "-O" || f.name == "--output-document") ||
			c.Name == "aria2c" && (f.name == "-o" || f.name == "--out")
		switch {
		case named && printsOut.MatchString(f.value):
			return nil
		case named:
			out = append(out, Resolve(dir, f.value))
		}
	}
	if len(out) > 0 {
		return out
	}
	if c.Name == "curl" && !a.has("-O", "--remote-name", "--remote-name-all", "-J") {
		return nil
	}
	for _, word := range fetched(a) {
		word, _, _ = strings.Cut(word, "?")
		out = append(out, Resolve(dir, path.Base(word)))
	}
	return out
}

var (
	otherRoot = regexp.MustCompile(`^(--root|-p|--installroot|--print-arch|--arch|--forcearch|--releasever|fetch|download|source|build-dep|.*=.*Dir.*)(=.*)?$`)
	// changesPackages are the subcommands that install, remove and refresh; what others say may be about the machine.
	changesPackages = strings.Fields("add del fix update upgrade cache install reinstall remove autoremove purge clean autoclean autopurge dist-upgrade full-upgrade makecache erase " +
		"groupinstall groupremove module in rm ref refresh dup up patch check-update hold unhold manual auto localinstall config-manager swap distro-sync")
)

// installPackages tells what a package installer does: it puts packages for the machine into system folders, which are not the stage's own.
func installPackages(c Call, a arguments, e *Effect) {
	for _, word := range c.Words[1:] {
		switch arch := ArchWord(word); {
		case otherRoot.MatchString(word):
			e.dependsf(c, "runs %q with %s, which depends on the machine", c.Name, Shown(word))
		case arch != "":
			e.dependsf(c, "installs %s, which is named for %s", Shown(word), arch)
		}
	}
	if !c.Kept() {
		return
	}
	for _, word := range a.operands {
		if slices.Contains(changesPackages, word) {
			return
		}
	}
	e.dependsf(c, "keeps what %q says, which may be about the machine", Short(c.Words))
}
