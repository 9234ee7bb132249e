package effect

import (
	"regexp"
	"slices"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// Programs that stand in a command's own words: of node, sed, awk. One that is not read makes the command depend on the machine.

// requiresData matches a program of node that prints a part of one of the project's files.
var requiresData = regexp.MustCompile(`^(?:(?:console\.log|process\.stdout\.write)\()?require\(["']\.{0,2}/[^"']*\.json["']\)(?:\.\w+|\[["'][\w-]+["']\])*\)?;?$`)

func readNode(c Call, a arguments, e *Effect) {
	for _, f := range a.flags {
		switch f.name {
		case "-e", "--eval", "-p", "--print", "-pe":
			if !requiresData.MatchString(strings.TrimSpace(f.value)) {
				e.dependsf(c, "runs %q with a program that is not read", c.Name)
			}
		case "-r", "--require", "--import", "--loader", "--experimental-loader":
			if !strings.HasPrefix(f.value, ".") && !strings.HasPrefix(f.value, "/") && script.Known(f.value) {
				continue // a module of the project's dependencies
			}
		case "-v", "--version", "--v8-options":
		}
	}
	if len(a.operands) > 0 && a.operands[0] == "-" || len(c.Words) == 1 && (c.Piped || c.Document != nil) {
		e.dependsf(c, "runs %q with a program that is not read", c.Name)
	}
}

// readNPM looks at what npm is told to run besides the project's own scripts.
func readNPM(c Call, a arguments, e *Effect) {
	if _, ok := a.get("-c", "--call"); ok && (c.Name == "npx" || c.Name == "npm") {
		e.dependsf(c, "runs %q with a script that is not read", c.Name)
	}
	ops := a.operands
	switch {
	case c.Name == "npx" || c.Name == "pnpx" || c.Name == "bunx":
	case len(ops) > 1 && (ops[0] == "exec" || ops[0] == "x" || ops[0] == "dlx"):
		ops = ops[1:]
	case len(ops) > 0 && (ops[0] == "node" || ops[0] == "explore" || ops[0] == "config" && c.Kept()):
		e.dependsf(c, "runs %q, which may depend on the machine", Short(c.Words))
		return
	case len(ops) > 0 && ops[0] == "pack":
		e.Files = append(e.Files, File{Kind: Packs, From: []string{c.Path(".")}, Path: c.Path(script.Unknown)})
		return
	default:
		return
	}
	if len(ops) == 0 {
		return
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(ops[0], "@"), "@")
	if r, ok := rows[name]; ok && r.nature != builds || name == "node" || name == "nodejs" {
		e.dependsf(c, "runs %q, which may depend on the machine", c.Name+" "+Shown(ops[0]))
	}
}

func readJava(c Call, _ arguments, e *Effect) {
	for _, word := range c.Words[1:] {
		if (word == "-version" || word == "--version" || word == "-fullversion") && c.Kept() {
			e.dependsf(c, "keeps what %q prints, which names the machine", c.Name+" "+word)
		}
	}
}

// awkRuns matches what makes a program of awk run commands or ask about the machine, its strings and regular expressions left out.
var awkRuns = regexp.MustCompile(`system *\(|getline|\||@load|@include|PROCINFO|@[a-zA-Z_]`)

// awkCode is a program of awk without its strings, regular expressions, comments and the operator ||.
func awkCode(program string) string {
	var b strings.Builder
	last := byte('{') // the last byte that is no space: behind an operand a slash divides
	for i := 0; i < len(program); i++ {
		c := program[i]
		switch {
		case c == '"' || c == '/' && strings.IndexByte("(,{};!~&|=\n?:", last) >= 0:
			for i++; i < len(program) && program[i] != c && program[i] != '\n'; i++ {
				if program[i] == '\\' {
					i++
				}
			}
			b.WriteByte('0')
			last = '0'
			continue
		case c == '#':
			for i < len(program) && program[i] != '\n' {
				i++
			}
			c = '\n'
		case c == '|' && i+1 < len(program) && program[i+1] == '|':
			i++
			c = '&'
		}
		b.WriteByte(c)
		if c != ' ' && c != '\t' {
			last = c
		}
	}
	return b.String()
}

func readAwk(c Call, a arguments, e *Effect) {
	if a.has("-f", "--file", "-i", "--include", "-E", "--exec", "-l", "--load") {
		e.dependsf(c, "runs %q with a program that is not read", c.Name)
		return
	}
	var program string
	if p, ok := a.get("-e", "--source"); ok {
		program = p
	} else if len(a.operands) > 0 {
		program = a.operands[0]
	}
	if strings.HasPrefix(program, script.Unknown) || awkRuns.MatchString(awkCode(program)) {
		e.dependsf(c, "runs %q with a program that is not read", c.Name)
	}
}

func readSed(c Call, a arguments, e *Effect) {
	programs := []string{}
	for _, f := range a.flags {
		switch f.name {
		case "-e", "--expression":
			programs = append(programs, f.value)
		case "-f", "--file":
			e.dependsf(c, "runs %q with a program that is not read", c.Name)
			return
		}
	}
	if len(programs) == 0 && len(a.operands) > 0 {
		programs = a.operands[:1]
	}
	if sedRuns(strings.Join(programs, "\n")) {
		e.dependsf(c, "runs %q with a program that is not read", c.Name)
	}
}

// sedRuns reports whether a program of sed runs commands (e, and s///e of GNU sed), or is not read.
func sedRuns(program string) bool {
	p := sedProgram(program)
	for len(p) > 0 {
		p = sedProgram(strings.TrimLeft(string(p), " \t\n;{}"))
		if !p.address() {
			return true
		}
		if len(p) == 0 {
			return false
		}
		command := p[0]
		p = p[1:]
		switch command {
		case 's', 'y':
			flags, ok := p.substitution()
			if !ok || command == 's' && strings.ContainsAny(flags, "e") {
				return true
			}
		case 'a', 'i', 'c', 'r', 'R', 'w', 'W', ':', 'b', 't', 'T', '#':
			p.line()
		case 'd', 'D', 'g', 'G', 'h', 'H', 'n', 'N', 'p', 'P', 'q', 'Q', 'x', 'z', 'l', 'L', 'F', '=':
			p = sedProgram(strings.TrimLeft(string(p), " 0123456789"))
			if len(p) > 0 && !strings.ContainsRune("\n;}#", rune(p[0])) {
				return true
			}
		default:
			return true
		}
	}
	return false
}

// sedProgram is what is left to read of a program of sed.
type sedProgram string

// address reads the addresses in front of a command. It reports whether they are read.
func (p *sedProgram) address() bool {
	for len(*p) > 0 {
		switch c := (*p)[0]; {
		case c >= '0' && c <= '9' || strings.ContainsRune("$,!~+ \t", rune(c)):
			*p = (*p)[1:]
		case c == '/':
			*p = (*p)[1:]
			if !p.until('/') {
				return false
			}
			for len(*p) > 0 && ((*p)[0] == 'I' || (*p)[0] == 'M') {
				*p = (*p)[1:]
			}
		case c == '\\':
			return false
		case c == '{' || c == '}' || c == ';' || c == '\n':
			*p = sedProgram(strings.TrimLeft(string(*p), " \t\n;{}"))
		default:
			return true
		}
	}
	return true
}

// until reads up to a delimiter that no backslash stands before.
func (p *sedProgram) until(delimiter byte) bool {
	for i := 0; i < len(*p); i++ {
		switch (*p)[i] {
		case '\\':
			i++
		case '[': // a delimiter in a bracket expression is itself in some implementations
			if end := strings.IndexByte(string((*p)[i:]), ']'); end > 0 && strings.IndexByte(string((*p)[i:i+end]), delimiter) >= 0 {
				return false
			}
		case delimiter:
			*p = (*p)[i+1:]
			return true
		}
	}
	return false
}

// substitution reads what follows s or y and returns the flags.
func (p *sedProgram) substitution() (flags string, ok bool) {
	if len(*p) == 0 || strings.HasPrefix(string(*p), script.Unknown) {
		return "", false
	}
	delimiter := (*p)[0]
	*p = (*p)[1:]
	for range 2 {
		if !p.until(delimiter) {
			return "", false
		}
	}
	end := strings.IndexAny(string(*p), ";}\n ")
	if end < 0 {
		end = len(*p)
	}
	flags = string((*p)[:end])
	if strings.ContainsAny(flags, "wW") {
		p.line()
		return flags, script.Known(flags)
	}
	*p = (*p)[end:]
	return flags, script.Known(flags)
}

// line reads to the end of a line, and on behind a backslash.
func (p *sedProgram) line() {
	for {
		end := strings.IndexByte(string(*p), '\n')
		if end < 0 {
			*p = ""
			return
		}
		more := end > 0 && (*p)[end-1] == '\\'
		if *p = (*p)[end+1:]; !more {
			return
		}
	}
}

// gitKnown are the subcommands of git that are git's own; another may be an alias or a program.
var gitKnown = strings.Fields("add am apply archive blame branch bundle cat-file check-ignore checkout cherry-pick clean clone commit config count-objects describe diff " +
	"diff-index diff-tree fetch for-each-ref format-patch fsck gc grep hash-object init lfs log ls-files ls-remote ls-tree merge merge-base mv name-rev notes pull push " +
	"read-tree rebase reflog remote reset restore rev-list rev-parse revert rm shortlog show show-ref sparse-checkout stash status submodule switch symbolic-ref tag update-index " +
	"update-ref update-server-info verify-commit verify-tag version worktree write-tree")

func readGit(c Call, a arguments, e *Effect) {
	for _, f := range a.flags {
		key, _, _ := strings.Cut(f.value, "=")
		if f.name == "-c" && gitRuns(key) || f.name == "--exec" || f.name == "-x" && len(a.operands) > 0 && a.operands[0] == "rebase" ||
			f.name == "--upload-pack" || f.name == "--receive-pack" || f.name == "--template" || f.name == "--ext-diff" {
			e.dependsf(c, "runs git with %s, which may run a program", Shown(f.name+" "+f.value))
		}
	}
	ops := a.operands
	switch {
	case c.Name != "git" || len(ops) == 0 || c.Through == "git":
	case !slices.Contains(gitKnown, ops[0]):
		e.dependsf(c, "runs %q, which may depend on the machine", "git "+Shown(ops[0]))
	case ops[0] == "config" && len(ops) > 1 && gitRuns(ops[1]):
		e.dependsf(c, "sets %s for git, which may run a program", Shown(ops[1]))
	case ops[0] == "version" && a.has("--build-options"):
		e.dependsf(c, "runs \"git version --build-options\", which asks about the machine")
	}
}

// gitRuns reports whether a variable of git's configuration may hold a command.
func gitRuns(key string) bool {
	key = strings.ToLower(key)
	for _, part := range []string{"alias.", "core.fsmonitor", "core.hookspath", "core.sshcommand", "core.pager", "core.editor", "filter.", "diff.external", "merge.", "difftool.", "init.templatedir"} {
		if strings.HasPrefix(key, part) && !strings.HasPrefix(key, "merge.ff") && !strings.HasPrefix(key, "filter.lfs") {
			return true
		}
	}
	return strings.HasSuffix(key, ".textconv") || strings.HasPrefix(key, script.Unknown)
}
