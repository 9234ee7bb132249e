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
	w := &walker{opt: opt, bash: opt.Bash, nounset: opt.Errexit}
	from := &begin{vars: opt.Vars, open: opt.Open, asked: map[string]variable{}}
	st := &state{vars: vars{begin: from}, dir: opt.Dir, chain: true, certain: true, fatal: true, exports: failure, stops: known(opt.Errexit)}
	if w.bash {
		w.begins(st, s.file)
	}
	w.stmts(st, s.file.Stmts)
	w.readTraps(st, s.file.Stmts)
	if !from.all && !opt.Open {
		s.known.add(remembered{dir: opt.Dir, errexit: opt.Errexit, bash: opt.Bash, asked: from.asked, outputs: w.outputs, files: w.asked, reading: w.out})
	}
	return w.out.from(opt.Vars)
}

// ReadArgs reads a command that is given by its words, without a shell, as the exec form of RUN gives it.
func ReadArgs(words []string, opt Options) Reading {
	w := &walker{opt: opt, bash: opt.Bash, within: &span{}, nounset: opt.Errexit}
	st := &state{vars: vars{begin: &begin{vars: opt.Vars, open: opt.Open}}, dir: opt.Dir, certain: true, fatal: true, exports: failure, stops: known(opt.Errexit)}
	if len(words) > 0 && !w.executed(st, &syntax.Lit{}, words) && !w.through(st, st, &syntax.Lit{}, words, files{}) {
		w.emit(st, &syntax.Lit{}, words, files{})
	}
	w.readTraps(st, nil)
	return w.out
}

// walker reads one script.
type walker struct {
	opt   Options
	out   Reading
	read  int
	depth int
	// nounset says that set -u may hold.
	nounset bool
	bash    bool  // the script being read is bash's
	within  *span // of the command that holds the script being read, where that is not the script itself
	// outputs are what the options were asked of.
	outputs []output
	asked   []fileAsked
	traps   []trapped
	texts   [][]*syntax.Stmt // scripts in the script, which may assign what a trap uses
}

type span struct{ offset, end int }

// state is what holds where the walker stands.
type state struct {
	vars   vars
	dir    string
	name   string // $0; empty means that it is not known
	params []string
	// chain, certain, substituted, piped, feeds and through are as in Command.
	chain, certain, substituted, piped, feeds bool
	through                                   string
	// dead: the shell has left; nothing more is run on this way.
	dead bool
	// quiet: it has left without saying that it failed.
	quiet bool
	// left: on one of the ways that lead here it may have left so.
	left bool
	// fatal: if the statement being read fails, the script fails.
	fatal bool
	funcs functions
	// exports says whether an assignment exports (set -a), and stops whether a failure ends the script (set -e).
	exports, stops outcome
	// locals are the variables that the function being read has made its own, with what they were before; nil outside of functions.
	locals *[]kept
	// returns are the ways on which the function being read has returned; nil outside of functions.
	returns *[]*state
}

// kept is a variable's value outside of a function.
type kept struct {
	name string
	was  variable
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
	c.certain, c.left = false, false
	return c
}

// join continues after one of several ways that began at st was taken.
func (st *state) join(ways ...*state) {
	quiet := slices.ContainsFunc(ways, func(w *state) bool { return w.dead && w.quiet || w.left })
	ways = slices.DeleteFunc(ways, func(w *state) bool { return w.dead })
	if len(ways) == 0 {
		st.dead, st.quiet = true, quiet
		return
	}
	if quiet {
		st.certain, st.left = false, true // the script may be over
	}
	v, dir, funcs, exports, stops := ways[0].vars, ways[0].dir, ways[0].funcs, ways[0].exports, ways[0].stops
	params := ways[0].params
	for _, w := range ways[1:] {
		v, funcs = merge(st.vars, v, w.vars), funcs.or(w.funcs)
		if w.dir != dir {
			dir = Unknown
		}
		if w.exports != exports {
			exports = either
		}
		if w.stops != stops {
			stops = either
		}
		if !slices.Equal(w.params, params) {
			params = []string{Unknown}
		}
	}
	st.vars, st.dir, st.funcs, st.exports, st.stops, st.params = v, dir, funcs, exports, stops, params
}

// orAs continues after what may have changed nothing since before.
func (st *state) orAs(before state) {
	out, was := before, before
	out.join(&was, st.copied())
	*st = out
}

// joined is a way that begins where one of two others ended. Nil stands for a way that is not taken.
func (st *state) joined(a, b *state) *state {
	switch {
	case a == nil || a.dead:
		return b
	case b == nil || b.dead:
		return a
	}
	way := st.branch()
	way.join(a, b)
	return way
}

// outcome is how a command ends.
type outcome uint8

const (
	either  outcome = iota // it is not known
	assumed                // it succeeds if all is well
	success
	failure
)

// mayFail reports whether a command may fail without the script failing by it: then it is not known what follows.
func (st *state) mayFail(o outcome) bool { return (o == either || o == assumed) && !st.fatal }

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
	fatal := st.fatal
	for i, s := range list {
		if st.dead {
			break
		}
		st.fatal = fatal && i == len(list)-1
		before := *st
		o = w.stmt(st, s)
		if !st.fatal && !st.dead && st.stops != success && changesDir(s) {
			st.orAs(before) // it may have failed
		}
	}
	st.fatal = fatal
	return o
}

func (st *state) copied() *state {
	c := *st
	return &c
}

// changesDir reports whether a statement is a cd alone.
func changesDir(s *syntax.Stmt) bool {
	call, ok := s.Cmd.(*syntax.CallExpr)
	return ok && len(call.Args) > 0 && slices.Contains([]string{"cd", "pushd", "popd"}, call.Args[0].Lit())
}

// stmt reads a statement.
func (w *walker) stmt(st *state, s *syntax.Stmt) outcome {
	if w.read++; w.read > maxRead {
		w.problemf(s, tooMany)
		return either
	}
	if s.Background || s.Coprocess || s.Disown {
		beside := st.sub()
		beside.fatal, beside.certain = false, false // nobody is told if it cannot be begun, as with set -u
		w.statement(beside, s)
		return success // it was begun
	}
	if s.Negated {
		fatal := st.fatal
		st.fatal = false
		o := w.statement(st, s)
		st.fatal = fatal
		return o.not()
	}
	return w.statement(st, s)
}

func (w *walker) statement(st *state, s *syntax.Stmt) outcome {
	if !w.bash && slices.ContainsFunc(s.Redirs, func(r *syntax.Redirect) bool { return r.Op == syntax.RdrAll || r.Op == syntax.AppAll }) {
		w.problemf(s, "uses &>, which some shells read as the end of a command in the background")
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
	return o
}

const tooMany = "holds more than is read"

func (w *walker) compound(st *state, s *syntax.Stmt, io files) outcome {
	inner := st
	if io.document != nil || len(io.writes) > 0 {
		c := *st
		c.piped, c.feeds, inner = c.piped || io.document != nil, c.feeds || len(io.writes) > 0, &c
		defer func() {
			st.vars, st.dir, st.dead, st.funcs, st.exports = c.vars, c.dir, c.dead, c.funcs, c.exports
			st.certain, st.quiet, st.params = c.certain, c.quiet, c.params
		}()
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
		return w.loop(inner, c.Cond, c.Do)
	case *syntax.FuncDecl:
		if c.Name == nil {
			return success
		}
		if whole, ok := c.Body.Cmd.(*syntax.BinaryCmd); ok { // the parser takes what follows the body for a part of it
			return w.binary(inner, afterBody(c, whole))
		}
		inner.funcs = inner.funcs.with(c.Name.Value, c.Body)
		return success
	case *syntax.DeclClause:
		before := *inner
		o := w.declare(inner, c)
		if slices.Contains(bashCommands, c.Variant.Value) || slices.ContainsFunc(c.Args, func(a *syntax.Assign) bool { return a.Append || a.Array != nil || bashOnly(a.Value) }) {
			return w.tried(inner, before, o)
		}
		return o
	case *syntax.TestClause:
		if o := w.testClause(inner, c.X); w.bash {
			return o
		}
		return either
	case *syntax.TimeClause:
		if c.Stmt == nil {
			return success
		}
		before := *inner
		if !w.bash && !inner.fatal {
			inner.certain = false // it may be a program, which need not be there
		}
		o := w.tried(inner, before, w.stmt(inner, c.Stmt))
		inner.certain = before.certain && !inner.left
		return o
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
	b = chained(b)
	fatal := st.fatal
	defer func() { st.fatal = fatal }()
	switch b.Op {
	case syntax.AndStmt:
		before := *st
		o := w.stmt(st, b.X)
		switch {
		case st.dead || o == failure:
			return o
		case st.mayFail(o):
			failed := before.joined(&before, st.copied())
			taken := st.branch()
			w.stmt(taken, b.Y)
			st.join(taken, failed)
			return either
		default:
			return w.stmt(st, b.Y)
		}
	case syntax.OrStmt:
		st.fatal = false
		before := *st
		o := w.stmt(st, b.X)
		st.fatal = fatal
		switch {
		case st.dead || o == success:
			return o
		case o == failure:
			return w.stmt(st, b.Y)
		default:
			failed := before.joined(&before, st.copied()).branch()
			failed.fatal = fatal
			w.stmt(failed, b.Y)
			st.join(st.copied(), failed)
			return assumed
		}
	default: // a pipe
		left := st.sub()
		left.feeds, left.fatal = true, false
		w.stmt(left, b.X)
		right := st.sub()
		right.piped = true
		if o := w.stmt(right, b.Y); o == assumed {
			return assumed
		}
		return either
	}
}

func (w *walker) ifClause(st *state, c *syntax.IfClause) outcome {
	if len(c.Cond) == 0 { // else
		return w.inBlock(st, c.Then)
	}
	fatal := st.fatal
	st.fatal = false
	o := w.inBlock(st, c.Cond)
	st.fatal = fatal
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

// caseClause follows the clauses that may be entered. After ;& the next one is entered whatever its patterns, after ;;& the patterns that
// follow are tried as well.
func (w *walker) caseClause(st *state, c *syntax.CaseClause) outcome {
	subject := w.literal(st, c.Word)
	begin := *st
	trying, falling := &begin, (*state)(nil)
	var ways []*state
	for _, item := range c.Items {
		var in *state
		if trying != nil {
			switch w.matches(trying, subject, item.Patterns) {
			case success:
				in, trying = trying, nil
			case either, assumed:
				in, trying = trying.branch(), trying.branch()
			case failure:
			}
		}
		if in, falling = st.joined(in, falling), nil; in == nil {
			continue
		}
		w.inBlock(in, item.Stmts)
		switch item.Op {
		case syntax.Fallthrough:
			falling = in
		case syntax.Resume, syntax.ResumeKorn:
			trying = st.joined(in, trying)
		default:
			ways = append(ways, in)
		}
	}
	for _, way := range []*state{trying, falling} {
		if way != nil {
			ways = append(ways, way)
		}
	}
	st.join(ways...)
	return assumed
}
