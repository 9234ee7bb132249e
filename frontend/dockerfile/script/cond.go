package script

import (
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/pattern"
	"mvdan.cc/sh/v3/syntax"
)

// bracket decides test and [ where their words are known; what they ask of files never is.
func bracket(w *walker, st *state, n syntax.Node, words []string, io files) outcome {
	w.emit(st, n, words, io)
	args := words[1:]
	if words[0] == "[" && len(args) > 0 {
		args = args[:len(args)-1]
	}
	if args = settled(args); !w.bash && slices.Contains(args, "==") {
		test(args)
		return either
	}
	return test(args)
}

// testOps are the operators of test that stand between two operands.
var testOps = []string{"=", "==", "!=", "<", ">", "-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-nt", "-ot", "-ef", "=~"}

// test decides an expression as POSIX has it: by the number of its words up to three, and above that by the precedence of !, -a and -o. Shells differ in
// longer expressions whose operands look like operators; those are not known.
func test(args []string) outcome {
	switch len(args) {
	case 0:
		return failure
	case 1:
		return notEmpty(args[0])
	case 2:
		if args[0] == "!" {
			return notEmpty(args[1]).not()
		}
		return testUnary(args[0], args[1])
	case 3:
		switch {
		case slices.Contains(testOps, args[1]):
			return testBinary(args[0], args[1], args[2])
		case args[1] == "-a":
			return and(notEmpty(args[0]), notEmpty(args[2]))
		case args[1] == "-o":
			return or(notEmpty(args[0]), notEmpty(args[2]))
		case args[0] == "!":
			return test(args[1:]).not()
		case args[0] == "(" && args[2] == ")":
			return notEmpty(args[1])
		}
		return either
	}
	p := testParser{args: args}
	o := p.disjunction()
	if p.unsure || len(p.args) > 0 {
		return either
	}
	return o
}

// testParser reads an expression of more than three words.
type testParser struct {
	args   []string
	unsure bool
}

func (p *testParser) next() string {
	if len(p.args) == 0 {
		p.unsure = true
		return ""
	}
	word := p.args[0]
	p.args = p.args[1:]
	return word
}

func (p *testParser) at(word string) bool {
	if len(p.args) == 0 || p.args[0] != word {
		return false
	}
	p.args = p.args[1:]
	return true
}

func (p *testParser) disjunction() outcome {
	o := p.conjunction()
	for p.at("-o") {
		o = or(o, p.conjunction())
	}
	return o
}

func (p *testParser) conjunction() outcome {
	o := p.negation()
	for p.at("-a") {
		o = and(o, p.negation())
	}
	return o
}

func (p *testParser) negation() outcome {
	if p.at("!") {
		// Some shells negate all that follows if four words are there in all.
		p.unsure = p.unsure || slices.Contains(p.args, "-a") || slices.Contains(p.args, "-o")
		return p.negation().not()
	}
	return p.primary()
}

func (p *testParser) primary() outcome {
	if p.at("(") {
		o := p.disjunction()
		if !p.at(")") {
			p.unsure = true
		}
		return o
	}
	first := p.operand()
	if len(p.args) > 0 && slices.Contains(testOps, p.args[0]) {
		op := p.next()
		return testBinary(first, op, p.operand())
	}
	if len(first) == 2 && first[0] == '-' && len(p.args) > 0 && p.args[0] != "-a" && p.args[0] != "-o" && p.args[0] != ")" {
		return testUnary(first, p.operand())
	}
	return notEmpty(first)
}

// operand is a word that is no operator. One that could be taken for one makes the expression unknown.
func (p *testParser) operand() string {
	word := p.next()
	if word == "!" || word == "(" || word == ")" || word == "-a" || word == "-o" || slices.Contains(testOps, word) || !Known(word) && strings.HasPrefix(word, Unknown) {
		p.unsure = true
	}
	return word
}

func testUnary(op, word string) outcome {
	switch op {
	case "-n":
		return notEmpty(word)
	case "-z":
		return notEmpty(word).not()
	}
	return either
}

func testBinary(a, op, b string) outcome {
	switch op {
	case "=", "==":
		return equal(a, b)
	case "!=":
		return equal(a, b).not()
	}
	return either
}

func and(a, b outcome) outcome { return or(a.not(), b.not()).not() }

func or(a, b outcome) outcome {
	switch {
	case a == success || b == success:
		return success
	case a == failure && b == failure:
		return failure
	default:
		return either
	}
}

func known(b bool) outcome {
	if b {
		return success
	}
	return failure
}

func notEmpty(s string) outcome {
	if strings.Trim(s, Unknown) == "" && s != "" {
		return either
	}
	return known(s != "")
}

func equal(a, b string) outcome {
	if !Known(a) || !Known(b) {
		return either
	}
	return known(a == b)
}

// testClause decides [[ ]].
func (w *walker) testClause(st *state, x syntax.TestExpr) outcome {
	switch x := x.(type) {
	case *syntax.Word:
		return notEmpty(w.literal(st, x))
	case *syntax.ParenTest:
		return w.testClause(st, x.X)
	case *syntax.UnaryTest:
		return w.unaryTest(st, x)
	case *syntax.BinaryTest:
		return w.binaryTest(st, x)
	}
	return either
}

func (w *walker) unaryTest(st *state, x *syntax.UnaryTest) outcome {
	o := w.testClause(st, x.X)
	switch x.Op {
	case syntax.TsNot:
		return o.not()
	case syntax.TsNempStr:
		return o
	case syntax.TsEmpStr:
		return o.not()
	default:
		return either
	}
}

func (w *walker) binaryTest(st *state, x *syntax.BinaryTest) outcome {
	switch x.Op {
	case syntax.AndTest:
		return and(w.testClause(st, x.X), w.testClause(st, x.Y))
	case syntax.OrTest:
		return or(w.testClause(st, x.X), w.testClause(st, x.Y))
	case syntax.TsMatch, syntax.TsMatchShort, syntax.TsNoMatch:
		left, ok1 := x.X.(*syntax.Word)
		right, ok2 := x.Y.(*syntax.Word)
		if !ok1 || !ok2 {
			return either
		}
		o := w.matches(st, w.literal(st, left), []*syntax.Word{right})
		if x.Op == syntax.TsNoMatch {
			return o.not()
		}
		return o
	default:
		w.substitutions(st, x)
		return either
	}
}

// matches tells whether a string matches one of several patterns.
func (w *walker) matches(st *state, subject string, patterns []*syntax.Word) outcome {
	o := failure
	for _, word := range patterns {
		w.unseen(st, word)
		pat, err := expand.Pattern(w.config(st, word), word)
		if err != nil {
			w.problemf(word, "holds a pattern that is not read (%v)", err)
			return either
		}
		o = or(o, matchesPattern(subject, pat))
	}
	return o
}

func matchesPattern(subject, pat string) outcome {
	if pat == "*" {
		return success
	}
	if !Known(subject) || !Known(pat) {
		return either
	}
	expr, err := pattern.Regexp(pat, pattern.EntireString)
	if err != nil {
		return either
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return either
	}
	return known(re.MatchString(subject))
}
