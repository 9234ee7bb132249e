package oracle

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Generate makes a random script of the language of POSIX shells, and with bash of what bash adds.
func Generate(r *rand.Rand, bash bool) string {
	g := &generator{Rand: r, bash: bash, left: 6 + r.IntN(18)}
	return g.list(3)
}

type generator struct {
	*rand.Rand

	bash bool
	left int // statements
	docs int
}

func (g *generator) pick(list ...string) string { return list[g.IntN(len(list))] }

// list is some statements.
func (g *generator) list(deep int) string {
	n := 1 + g.IntN(4)
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(g.pick("; ", "\n", "\n", " && ", " || "))
		}
		s := g.statement(deep)
		if strings.Contains(s, "<<") { // a here-document ends with its line
			b.WriteString(s)
			b.WriteString("\n")
			b.WriteString(g.simple())
			continue
		}
		b.WriteString(s)
	}
	return b.String()
}

// block is statements for a place where lines may end.
func (g *generator) block(deep int) string { return "\n" + g.list(deep) + "\n" }

func (g *generator) statement(deep int) string {
	g.left--
	if deep <= 0 || g.left <= 0 {
		return g.simple()
	}
	switch g.IntN(28) {
	case 0, 1:
		return "if " + g.condition() + "; then" + g.block(deep-1) + g.otherwise(deep) + "fi"
	case 2:
		return "case " + g.word() + " in " + g.clauses(deep) + "esac"
	case 3:
		return "for " + g.variable() + " in " + g.pick("1 2", "a \"$V\"", "$(a)", "") + "; do" + g.block(deep-1) + g.pick("", "", "break\n", "continue\n") + "done"
	case 4:
		return "while " + g.command() + "; do" + g.block(deep-1) + g.pick("", "break\n") + "done"
	case 5:
		return "(" + g.block(deep-1) + ")"
	case 6:
		return "{" + g.block(deep-1) + "}"
	case 7, 8:
		return g.pick("f", "g", "a") + "() {" + g.block(deep-1) + g.pick("", "return\n", "return 1\n") + "}"
	case 9:
		return g.pick("f", "g") + " " + g.word()
	case 10:
		return g.command() + " | " + g.command()
	case 11:
		return "! " + g.command()
	case 12:
		return g.command() + " & wait"
	case 13:
		return "eval " + g.quoted(g.simple())
	case 14:
		return "trap " + g.quoted(g.simple()) + " EXIT"
	case 15:
		return g.pick("set -e", "set -a", "set +a", "set -u", "set -ea", "set -- x y", "set -o allexport", "shift")
	case 16:
		g.docs++
		end := fmt.Sprintf("EOF%d", g.docs)
		open := g.pick(end, "'"+end+"'", "\""+end+"\"")
		return "sh <<" + open + "\n" + g.simple() + "\n" + end
	case 17:
		return g.pick("sh -c ", "env sh -c ", "sh -ec ") + g.quoted(g.simple())
	case 18:
		return g.pick("env V=1 ", "command ", "exec ", "env -u V ", "env -i PATH=\"$PATH\" ", "nice ", "timeout 5 ", "echo x | xargs ") + g.command()
	case 19:
		return "cd " + g.pick("d1", "d1/d2", "..", "nowhere", "\"$V\"") + g.pick("", " && "+g.command())
	case 20:
		return g.pick("unset ", "unset -f ") + g.pick("V", "W", "f", "a")
	case 21:
		return g.test() + g.pick(" && ", " || ") + g.command()
	case 22:
		return g.pick("exit", "exit 1", ": ${V:=w}", ": ${V:?no}", "read W", "wait", "alias a=b")
	case 23:
		return g.beyond(deep)
	case 24:
		return g.counts(deep)
	default:
		return g.simple()
	}
}

// beyond is what shells read each in a way of its own.
func (g *generator) beyond(deep int) string {
	v := g.variable()
	return g.pick("[ \"$"+v+"\" == x ]", "[[ \"$"+v+"\" == x ]]", v+"+=b", v+"=$'a'", "for X in {a,b}; do"+g.block(deep-1)+"done", "time "+g.pick("f", g.command()), "time { "+v+"=t; }",
		"declare "+v+"=d", "typeset "+v+"=d", "(set -o pipefail)", "trap : ERR", v+"=\"${"+v+"^^}\"", v+"=\"${"+v+"/a/b}\"", v+"=\"${"+v+":1:2}\"", "return", "(return 0)", "false &> log", "let W=1", "source ./nothing",
		"function g { "+g.command()+"; }", "printf -v "+v+" %s x", "shopt -s nullglob") + g.pick("", " 2>/dev/null") + g.pick("", " && "+g.command(), " || "+g.command(), " && "+g.command()+" || "+g.command())
}

// counts is what is counted: in numbers, by parameters, in files.
func (g *generator) counts(deep int) string {
	v := g.variable()
	return g.pick(v+"=$(("+v+"+1))", v+"=$((W*2))", "X=0; while [ $X -lt 3 ]; do X=$((X+1)); [ $X = 2 ] && "+g.command()+"; done", "f *", "f $EMPTY \"$V\"", "set -- *", "set -- $V", "[ d* = d1 ]", "a $#", "f() { a $# \"$1\"; }; f *",
		"case $# in 0)"+g.block(deep-1)+";; *)"+g.block(deep-1)+";; esac", "a \"$(basename \"$V\")\"", "[ \"$(dirname d1/d2)\" = d1 ]", "[ \"$(dirname x/)\" = . ]")
}

func (g *generator) otherwise(deep int) string {
	switch g.IntN(3) {
	case 0:
		return "else" + g.block(deep-1)
	case 1:
		return "elif " + g.condition() + "; then" + g.block(deep-1)
	}
	return ""
}

func (g *generator) clauses(deep int) string {
	var b strings.Builder
	for range 1 + g.IntN(3) {
		end := ";;"
		if g.bash {
			end = g.pick(";;", ";;", ";&", ";;&")
		}
		b.WriteString(g.pick("arm64", "x|y", "\"$V\"", "*", "1*") + ")" + g.block(deep-1) + end + "\n")
	}
	return b.String()
}

// condition is what may or may not be known.
func (g *generator) condition() string {
	return g.pick(g.test(), g.command(), "! "+g.test(), "true", "false")
}

func (g *generator) test() string {
	operand := func() string { return g.pick("\"$V\"", "\"$ARCH\"", "arm64", "x", "\"\"", "\"$(a)\"") }
	one := func() string {
		return g.pick(operand()+" = "+operand(), operand()+" != "+operand(), "-n "+operand(), "-z "+operand(), operand(), "! -n "+operand(), "-d d1")
	}
	switch g.IntN(4) {
	case 0:
		return "[ " + one() + g.pick(" -a ", " -o ") + one() + " ]"
	case 1:
		return "[ " + one() + g.pick(" -a ", " -o ") + one() + g.pick(" -a ", " -o ") + one() + " ]"
	default:
		return "[ " + one() + " ]"
	}
}

// simple is an assignment or a command.
func (g *generator) simple() string {
	switch g.IntN(8) {
	case 0:
		return g.variable() + "=" + g.word()
	case 1:
		return "export " + g.variable() + g.pick("", "="+g.word())
	case 2:
		return g.variable() + "=" + g.word() + " " + g.variable() + "=" + g.word()
	case 3:
		return g.variable() + "=" + g.word() + " " + g.command()
	default:
		return g.command()
	}
}

func (g *generator) command() string {
	words := []string{g.pick(Names...)}
	for range g.IntN(3) {
		words = append(words, g.word())
	}
	return strings.Join(words, " ")
}

func (g *generator) variable() string { return g.pick("V", "W", "X") }

func (g *generator) word() string {
	v := g.variable()
	return g.pick("x", "arm64", "1", "\"$"+v+"\"", "$"+v, "\"a $"+v+"\"", "${"+v+":-d}", "${"+v+"-d}", "${"+v+":+s}", "\"${"+v+"#a}\"", "\"${"+v+"%4}\"",
		"'$"+v+"'", "$(a)", "\"$(b x)\"", "\"$@\"", "$1", "\"$ARCH\"", "$EMPTY", "\\$"+v, "\"$"+v+"\"y", "$((1+1))", "\"\"")
}

// quoted is a script as one word.
func (g *generator) quoted(s string) string {
	if g.IntN(2) == 0 {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`").Replace(s) + `"`
}
