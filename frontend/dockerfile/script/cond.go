package script

import (
	"regexp"
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
	return test(args)
}

func test(args []string) outcome {
	switch {
	case len(args) == 0:
		return failure
	case len(args) == 1:
		return notEmpty(args[0])
	case args[0] == "!":
		return test(args[1:]).not()
	case len(args) == 2 && args[0] == "-n":
		return notEmpty(args[1])
	case len(args) == 2 && args[0] == "-z":
		return notEmpty(args[1]).not()
	case len(args) == 3 && (args[1] == "=" || args[1] == "=="):
		return equal(args[0], args[2])
	case len(args) == 3 && args[1] == "!=":
		return equal(args[0], args[2]).not()
	}
	for i, word := range args {
		switch word {
		case "-o":
			return or(test(args[:i]), test(args[i+1:]))
		case "-a":
			return or(test(args[:i]).not(), test(args[i+1:]).not()).not()
		}
	}
	return either
}

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
		return or(w.testClause(st, x.X).not(), w.testClause(st, x.Y).not()).not()
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
