package script

import (
	"fmt"
	"slices"

	"mvdan.cc/sh/v3/syntax"
)

const (
	maxRead   = 4096 // statements of one script, each as often as it is read
	maxRounds = 32   // of one loop that are read one by one
	maxDepth  = 16   // of calls of functions, and of scripts in scripts
)

// Read reads the script.
func (s *Script) Read(opt Options) Reading {
	if r, ok := s.known.find(opt); ok {
		return r
	}
	w := &walker{opt: opt, funcs: map[string]*syntax.Stmt{}}
	from := &begin{vars: opt.Vars, asked: map[string]variable{}}
	st := &state{vars: vars{begin: from}, dir: opt.Dir, chain: true, certain: true}
	w.stmts(st, s.file.Stmts)
	if !from.all {
		s.known.add(remembered{dir: opt.Dir, asked: from.asked, outputs: w.outputs, reading: w.out})
	}
	return w.out.from(opt.Vars)
}

// ReadArgs reads a command that is given by its words, without a shell, as the exec form of RUN gives it.
func ReadArgs(words []string, opt Options) Reading {
	w := &walker{opt: opt, funcs: map[string]*syntax.Stmt{}, within: &span{}}
	st := &state{vars: vars{begin: &begin{vars: opt.Vars}}, dir: opt.Dir, certain: true}
	if len(words) > 0 && !w.through(st, st, &syntax.Lit{}, words, files{}) {
		w.emit(st, &syntax.Lit{}, words, files{})
	}
	return w.out
}

// walker reads one script.
type walker struct {
	opt    Options
	out    Reading
	funcs  map[string]*syntax.Stmt
	read   int
	depth  int
	within *span // of the command that holds the script being read, where that is not the script itself
	// outputs are what the options were asked of.
	outputs []output
}

type span struct{ offset, end int }

// state is what holds where the walker stands.
type state struct {
	vars   vars
	dir    string
	params []string
	// chain, certain, substituted, piped, feeds and through are as in Command.
	chain, certain, substituted, piped, feeds bool
	through                                   string
	// dead: the shell has left; nothing more is run on this way.
	dead bool
}

// sub is the state a subshell begins with.
func (st *state) sub() *state {
	c := *st
	c.chain = false
	return &c
}

// branch is the state a way begins with that may not be taken.
func (st *state) branch() *state {
	c := st.sub()
	c.certain = false
	return c
}

// join continues after one of several ways that began at st was taken.
func (st *state) join(ways ...*state) {
	ways = slices.DeleteFunc(ways, func(w *state) bool { return w.dead })
	if len(ways) == 0 {
		st.dead = true
		return
	}
	v, dir := ways[0].vars, ways[0].dir
	for _, w := range ways[1:] {
		v = merge(st.vars, v, w.vars)
		if w.dir != dir {
			dir = Unknown
		}
	}
	st.vars, st.dir = v, dir
}

// outcome is how a command ends.
type outcome uint8

const (
	either  outcome = iota // it is not known
	assumed                // it succeeds if all is well
	success
	failure
)

func (o outcome) not() outcome {
	switch o {
	case success:
		return failure
	case failure:
		return success
	case either, assumed:
	}
	return either
}

func (w *walker) problemf(n syntax.Node, format string, args ...any) {
	p := Problem{Offset: w.place(n).offset, What: fmt.Sprintf(format, args...)}
	if !slices.Contains(w.out.Problems, p) {
		w.out.Problems = append(w.out.Problems, p)
	}
}

// place is where a node stands in the outermost script.
func (w *walker) place(n syntax.Node) span {
	if w.within != nil {
		return *w.within
	}
	return span{int(n.Pos().Offset()), int(n.End().Offset())}
}

func (w *walker) stmts(st *state, list []*syntax.Stmt) outcome {
	o := success
	for _, s := range list {
		if st.dead {
			break
		}
		o = w.stmt(st, s)
	}
	return o
}

func (w *walker) stmt(st *state, s *syntax.Stmt) outcome {
	if w.read++; w.read > maxRead {
		w.problemf(s, tooMany)
		return either
	}
	if s.Background || s.Coprocess || s.Disown {
		st = st.sub()
	}
	io := w.redirections(st, s.Redirs)
	var o outcome
	if call, ok := s.Cmd.(*syntax.CallExpr); ok {
		o = w.call(st, call, io)
	} else {
		if io.any() {
			w.emit(st, s, []string{":"}, io)
		}
		o = w.compound(st, s, io)
	}
	if s.Negated {
		return o.not()
	}
	return o
}

const tooMany = "holds more than is read"

func (w *walker) compound(st *state, s *syntax.Stmt, io files) outcome {
	inner := st
	if io.document != nil {
		c := *st
		c.piped, inner = true, &c
		defer func() { st.vars, st.dir, st.dead = c.vars, c.dir, c.dead }()
	}
	switch c := s.Cmd.(type) {
	case nil:
		return success
	case *syntax.BinaryCmd:
		return w.binary(inner, c)
	case *syntax.Block:
		return w.inBlock(inner, c.Stmts)
	case *syntax.Subshell:
		return w.stmts(inner.sub(), c.Stmts)
	case *syntax.IfClause:
		return w.ifClause(inner, c)
	case *syntax.CaseClause:
		return w.caseClause(inner, c)
	case *syntax.ForClause:
		return w.forClause(inner, c)
	case *syntax.WhileClause:
		return w.loop(inner, append(slices.Clone(c.Cond), c.Do...))
	case *syntax.FuncDecl:
		if c.Name != nil {
			w.funcs[c.Name.Value] = c.Body
		}
		return success
	case *syntax.DeclClause:
		return w.declare(inner, c)
	case *syntax.TestClause:
		return w.testClause(inner, c.X)
	case *syntax.TimeClause:
		if c.Stmt == nil {
			return success
		}
		return w.stmt(inner.sub(), c.Stmt)
	case *syntax.ArithmCmd, *syntax.LetClause:
		w.substitutions(inner, s.Cmd)
		w.forgetAssigned(inner, []*syntax.Stmt{s})
		return either
	default:
		w.problemf(s, "holds a %T, which is not read", c)
		return either
	}
}

// inBlock reads the statements of { }, whose commands end no chain.
func (w *walker) inBlock(st *state, list []*syntax.Stmt) outcome {
	chain := st.chain
	st.chain = false
	o := w.stmts(st, list)
	st.chain = chain
	return o
}

func (w *walker) binary(st *state, b *syntax.BinaryCmd) outcome {
	switch b.Op {
	case syntax.AndStmt:
		o := w.stmt(st, b.X)
		switch {
		case st.dead || o == failure:
			return o
		case o == either:
			return w.perhaps(st, func(way *state) outcome { return w.stmt(way, b.Y) })
		default:
			return w.stmt(st, b.Y)
		}
	case syntax.OrStmt:
		o := w.stmt(st, b.X)
		switch {
		case st.dead || o == success:
			return o
		case o == failure:
			return w.stmt(st, b.Y)
		default:
			w.perhaps(st, func(way *state) outcome { return w.stmt(way, b.Y) })
			return assumed
		}
	default: // a pipe
		left := st.sub()
		left.feeds = true
		w.stmt(left, b.X)
		right := st.sub()
		right.piped = true
		if o := w.stmt(right, b.Y); o == assumed {
			return assumed
		}
		return either
	}
}

// perhaps reads a way that may or may not be taken.
func (w *walker) perhaps(st *state, read func(*state) outcome) outcome {
	taken, not := st.branch(), *st
	read(taken)
	st.join(taken, &not)
	return either
}

func (w *walker) ifClause(st *state, c *syntax.IfClause) outcome {
	if len(c.Cond) == 0 { // else
		return w.inBlock(st, c.Then)
	}
	o := w.inBlock(st, c.Cond)
	if st.dead {
		return o
	}
	switch o {
	case success:
		return w.inBlock(st, c.Then)
	case failure:
		if c.Else == nil {
			return success
		}
		return w.ifClause(st, c.Else)
	case either, assumed:
	}
	then, other := st.branch(), st.branch()
	w.stmts(then, c.Then)
	if c.Else != nil {
		w.ifClause(other, c.Else)
	}
	st.join(then, other)
	return assumed
}

func (w *walker) caseClause(st *state, c *syntax.CaseClause) outcome {
	subject := w.literal(st, c.Word)
	ways := []*state{}
	for _, item := range c.Items {
		switch o := w.matches(st, subject, item.Patterns); {
		case o == failure:
			continue
		case o == success && len(ways) == 0 && item.Op == syntax.Break:
			return w.inBlock(st, item.Stmts)
		default:
			way := st.branch()
			w.stmts(way, item.Stmts)
			ways = append(ways, way)
			if o == success && item.Op == syntax.Break {
				st.join(ways...)
				return assumed
			}
		}
	}
	if len(ways) > 0 {
		not := *st
		st.join(append(ways, &not)...)
	}
	return assumed
}

func (w *walker) forClause(st *state, c *syntax.ForClause) outcome {
	iter, ok := c.Loop.(*syntax.WordIter)
	if !ok {
		w.substitutions(st, c.Loop)
		return w.loop(st, c.Do)
	}
	items := slices.Clone(st.params)
	if iter.InPos.IsValid() {
		items = w.fields(st, iter.Items)
	}
	sure := len(items) <= maxRounds && !slices.ContainsFunc(items, func(s string) bool { return !Known(s) || isGlob(s) }) && !leaves(c.Do)
	if !sure {
		st.vars = st.vars.assigned(iter.Name.Value, Unknown)
		return w.loop(st, c.Do)
	}
	for _, item := range items {
		if st.dead {
			break
		}
		st.vars = st.vars.assigned(iter.Name.Value, item)
		w.inBlock(st, c.Do)
	}
	return assumed
}

// loop reads the body of a loop whose rounds are not known: what it assigns is unknown from the start.
func (w *walker) loop(st *state, body []*syntax.Stmt) outcome {
	not := *st
	way := st.branch()
	w.forgetAssigned(way, body)
	w.stmts(way, body)
	st.join(way, &not)
	return assumed
}

// forgetAssigned makes unknown what the statements may assign, and the working directory if they may change it.
func (w *walker) forgetAssigned(st *state, body []*syntax.Stmt) {
	for _, s := range body {
		syntax.Walk(s, func(n syntax.Node) bool {
			switch n := n.(type) {
			case *syntax.Assign:
				if n.Name != nil {
					st.vars = st.vars.assigned(n.Name.Value, Unknown)
				}
			case *syntax.CallExpr:
				if len(n.Args) > 0 && slices.Contains([]string{"cd", "pushd", "popd"}, n.Args[0].Lit()) {
					st.dir = Unknown
				}
			case *syntax.UnaryArithm, *syntax.BinaryArithm:
				forgetArithm(st, n)
			}
			return true
		})
	}
}

// forgetArithm makes unknown what an arithmetic expression may assign.
func forgetArithm(st *state, n syntax.Node) {
	var x syntax.ArithmExpr
	switch n := n.(type) {
	case *syntax.UnaryArithm:
		x = n.X
	case *syntax.BinaryArithm:
		x = n.X
	}
	if word, ok := x.(*syntax.Word); ok && syntax.ValidName(word.Lit()) {
		st.vars = st.vars.assigned(word.Lit(), Unknown)
	}
}

// leaves reports whether a loop's body may leave its round early.
func leaves(body []*syntax.Stmt) bool {
	found := false
	for _, s := range body {
		syntax.Walk(s, func(n syntax.Node) bool {
			if call, ok := n.(*syntax.CallExpr); ok && len(call.Args) > 0 {
				found = found || slices.Contains([]string{"break", "continue"}, call.Args[0].Lit())
			}
			return !found
		})
	}
	return found
}
