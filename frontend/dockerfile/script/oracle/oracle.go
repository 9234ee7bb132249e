package oracle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// Names are the commands that scripts under test may call.
var Names = []string{"a", "b", "c", "go"}

// Vars are the variables that a script begins with, exported.
var Vars = map[string]string{"ARCH": "arm64", "EMPTY": ""}

// limit bounds one run.
const limit = 5 * time.Second

// Oracle runs scripts.
type Oracle struct {
	dir   string
	files map[string]string // scripts in files, as [script.Options] has them
}

// New makes the recorders below a folder.
func New(ctx context.Context, dir string) (*Oracle, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	o := &Oracle{dir: dir}
	bin := filepath.Join(dir, "bin")
	for _, d := range []string{bin, filepath.Join(dir, "work", "d1", "d2")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	recorder := filepath.Join(bin, "recorder")
	build := exec.CommandContext(ctx, "go", "build", "-o", recorder, "github.com/manifold-build/manifold/frontend/dockerfile/script/oracle/recorder")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	for _, name := range Names {
		if err := os.Symlink("recorder", filepath.Join(bin, name)); err != nil {
			return nil, err
		}
	}
	for _, tool := range []string{"sh", "env", "xargs", "timeout", "nice"} { // what is looked through has to be the real one
		if p, err := exec.LookPath(tool); err == nil {
			if err := os.Symlink(p, filepath.Join(bin, tool)); err != nil {
				return nil, err
			}
		}
	}
	return o, nil
}

// Ran is a command that was run.
type Ran struct {
	Words []string
	Dir   string
	Env   map[string]string
}

// Result is one run of a script.
type Result struct {
	Ran []Ran
	// Ended is false for a script that did not come to its end in time.
	Ended bool
	// OK says that it ended with 0.
	OK bool
}

// Dir is the folder that scripts begin in.
func (o *Oracle) Dir() string { return filepath.Join(o.dir, "work") }

// Write puts a script into a file of the folder that scripts begin in, where others may run it.
func (o *Oracle) Write(name, text string) error {
	file := filepath.Join(o.Dir(), name)
	if o.files == nil {
		o.files = map[string]string{}
	}
	o.files[file] = text
	return os.WriteFile(file, []byte(text), 0o700)
}

// Run runs a script. Outcomes are digits, one for each command in the order in which they begin: 1 fails. They are repeated.
func (o *Oracle) Run(ctx context.Context, shell []string, text, outcomes string) (Result, error) {
	bin := filepath.Join(o.dir, "bin")
	if err := errors.Join(os.WriteFile(filepath.Join(bin, "outcomes"), []byte(outcomes), 0o600), os.WriteFile(filepath.Join(bin, "log"), nil, 0o600)); err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, shell[0], append(slices.Clone(shell[1:]), "-c", text)...)
	cmd.Dir = o.Dir()
	cmd.Env = []string{"PATH=" + bin}
	for k, v := range Vars {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = limit
	err := cmd.Run()
	if ctx.Err() != nil {
		return Result{}, nil // it does not end
	}
	log, readErr := os.ReadFile(filepath.Join(bin, "log"))
	if readErr != nil {
		return Result{}, readErr
	}
	out := Result{Ended: true, OK: err == nil}
	for line := range bytes.Lines(log) {
		r, err := readLine(string(bytes.TrimSuffix(line, []byte("\n"))))
		if err != nil {
			return Result{}, err
		}
		out.Ran = append(out.Ran, r)
	}
	return out, nil
}

// Reads reports whether a shell reads a script at all: bash's language is more than that of others.
func (o *Oracle) Reads(ctx context.Context, shell []string, text string) bool {
	out, err := exec.CommandContext(ctx, shell[0], append(slices.Clone(shell[1:]), "-n", "-c", text)...).CombinedOutput()
	return err == nil && len(out) == 0
}

// noted are the variables that the recorder notes, in its order.
var noted = []string{"V", "W", "X", "ARCH", "EMPTY"}

// readLine reads a line of the recorder's: quoted, the directory, the variables, each behind an equals sign if it is set, and the words.
func readLine(line string) (Ran, error) {
	var fields []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		q, err := strconv.QuotedPrefix(line)
		if err != nil {
			return Ran{}, fmt.Errorf("%q: %w", line, err)
		}
		s, err := strconv.Unquote(q)
		if err != nil {
			return Ran{}, err
		}
		fields, line = append(fields, s), line[len(q):]
	}
	if len(fields) < len(noted)+2 {
		return Ran{}, fmt.Errorf("%q is short", fields)
	}
	out := Ran{Dir: fields[0], Env: map[string]string{}, Words: fields[len(noted)+1:]}
	for i, name := range noted {
		if v, ok := strings.CutPrefix(fields[i+1], "="); ok {
			out.Env[name] = v
		}
	}
	return out, nil
}

// Compare reads the script and says what was run that the reading lacks; empty if nothing is. A reading with problems need not have all.
// Bash says that the shell is known to be bash; what is read for sh has to hold in each. Complete says that every command ended well and so did the script: then what is certain to run has to have run, too.
func (o *Oracle) Compare(text string, bash bool, r Result, complete bool) string {
	s, err := script.Parse(text)
	if err != nil {
		return ""
	}
	read := s.Read(script.Options{Vars: Vars, Dir: o.Dir(), Files: o.files, Bash: bash})
	if len(read.Problems) > 0 {
		return ""
	}
	for _, ran := range r.Ran {
		if !slices.ContainsFunc(read.Commands, func(c script.Command) bool { return fits(c, ran) }) {
			return fmt.Sprintf("ran %q in %s with %v, read:\n%s", ran.Words, ran.Dir, ran.Env, describe(read))
		}
	}
	if !complete || !r.OK {
		return ""
	}
	for _, c := range read.Commands {
		if c.Certain && slices.Contains(Names, c.Words[0]) && !slices.ContainsFunc(r.Ran, func(ran Ran) bool { return fits(c, ran) }) {
			return fmt.Sprintf("%q is certain to run and did not, ran: %v, read:\n%s", c.Words, r.Ran, describe(read))
		}
	}
	return ""
}

// fits reports whether a command that was read may be one that was run.
func fits(c script.Command, ran Ran) bool {
	if script.Known(c.Dir) && c.Dir != ran.Dir {
		return false
	}
	if !matches(c.Words, ran.Words) {
		return false
	}
	for _, name := range noted {
		want, set := c.Getenv(name)
		is, ok := ran.Env[name]
		if !script.Known(want) {
			continue
		}
		if set != ok || want != is {
			return false
		}
	}
	return true
}

// matches reports whether words that are known in part may be others.
func matches(read, ran []string) bool {
	var pattern, text strings.Builder
	for _, w := range read {
		switch {
		case w == script.Unknown:
			pattern.WriteString(`(?:\x00[\s\S]*)?`)
		case strings.ContainsAny(w, "*?["):
			pattern.WriteString(`(?:\x00[\s\S]*)?`) // it may be the names of files
		default:
			pattern.WriteString(`\x00` + strings.ReplaceAll(regexp.QuoteMeta(w), script.Unknown, `[\s\S]*`))
		}
	}
	for _, w := range ran {
		text.WriteString("\x00" + w)
	}
	ok, err := regexp.MatchString(`\A`+pattern.String()+`\z`, text.String())
	return err == nil && ok
}

func describe(r script.Reading) string {
	var b strings.Builder
	for _, c := range r.Commands {
		fmt.Fprintf(&b, "  %q in %s certain=%v", c.Words, c.Dir, c.Certain)
		for _, name := range []string{"V", "W", "X"} {
			if v, ok := c.Getenv(name); ok {
				fmt.Fprintf(&b, " %s=%q", name, v)
			}
		}
		b.WriteString("\n")
	}
	return strings.ReplaceAll(b.String(), script.Unknown, "?")
}
