package effect

import (
	"fmt"
	"path"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
	"github.com/manifold-build/manifold/platforms"
)

// Call is a command where a stage meets it.
type Call struct {
	script.Command

	// Name is what the table knows the command by; empty if its path says nothing.
	Name string
	// Line is where it stands in the file.
	Line int
	// Target is what the stage is run for, Build the platform it would run on.
	Target *Target
	Build  platforms.Platform
	// Later are the commands of the script that follow.
	Later []script.Command
	// Text is the script it stands in, Words those of a RUN in exec form.
	Text string
	Exec []string
	// Begin are the variables that the RUN begins with.
	Begin map[string]string
	// Behind says that the command is one that make, or another program, would run.
	Behind bool
}

// Target is what a stage is run for. It notes whether anybody asked: what is read of a stage without asking is true for every target.
type Target struct {
	platform platforms.Platform
	names    platforms.Names
	asked    bool
}

// NewTarget returns a target that nobody has asked yet.
func NewTarget(p platforms.Platform) *Target { return &Target{platform: p, names: p.Names()} }

// Unasked is the same target, that nobody has asked yet.
func (t *Target) Unasked() *Target { return &Target{platform: t.platform, names: t.names} }

// Platform is the target's platform.
func (t *Target) Platform() platforms.Platform {
	t.asked = true
	return t.platform
}

// Names are the target's in other vocabularies.
func (t *Target) Names() platforms.Names {
	t.asked = true
	return t.names
}

// Ask notes that something depends on the target.
func (t *Target) Ask() { t.asked = true }

// Asked reports whether anybody asked.
func (t *Target) Asked() bool { return t.asked }

// Kept reports whether something else reads what the command prints: it is more than shown.
func (c Call) Kept() bool {
	return c.Substituted && !c.Shown || c.Feeds || len(c.Writes) > 0
}

// Getvar is the value of a variable in the command's environment, empty if it is unset.
func (c Call) Getvar(name string) string {
	v, _ := c.Getenv(name)
	return v
}

// Effect is what a command does.
type Effect struct {
	// Depends are the reasons for which its result depends on the machine. Nil means that it does not.
	Depends []Reason
	// Told says how it is told its target; nil if it is not.
	Told *Told
	// Tool names a tool whose output does not depend on the machine, for people; empty if the command is none.
	Tool string
	// Files are what it does with files, in order.
	Files []File
	// Env are the variables that have to hold for it, Unset those that must not.
	Env   []Variable
	Unset []string
	// Install says where the programs of go install go; nil if it installs none.
	Install *Install
	// Cargo is the Rust target that a plain cargo build is told; empty if none is needed.
	Cargo string
	// GoCache is the directory of Go's build cache that it uses; empty if it uses none.
	GoCache string
	// Runs says that it runs what the stage itself made; nil if it does not.
	Runs *Run
	// Asks is a question that only a node can answer; nil if there is none.
	Asks *Question
	// Unproven says that what it makes is not read, so that programs of the stage are looked at.
	Unproven bool
	// Findings are what the user should know of.
	Findings []Finding
}

// Variable is one that a command needs.
type Variable struct {
	platforms.NameValue

	// Emptied says that the script itself gives it an empty value, so that one that is put before the script is lost.
	Emptied bool
}

// Told says how a command is told its target.
type Told struct {
	// Name is the command for people.
	Name string
	How  How
	// Enough says that what the Dockerfile itself tells it is enough where it runs on the build platform.
	Enough bool
	Line   int
}

// How says by what a command is told its target.
type How uint8

const (
	// ByPlan is told by what the plan puts before it.
	ByPlan How = iota + 1
	// ByFile is told by the Dockerfile itself.
	ByFile
	// ByCargo is told by the plan through CARGO_BUILD_TARGET.
	ByCargo
)

// String says it for people.
func (h How) String() string {
	switch h {
	case ByPlan:
		return "GOOS/GOARCH set"
	case ByFile:
		return "told the target by the Dockerfile"
	case ByCargo:
		return "CARGO_BUILD_TARGET set"
	}
	return fmt.Sprintf("how(%d)", uint8(h))
}

// Install is what go install needs so that its programs land where the native build puts them.
type Install struct {
	// Bin is GOPATH/bin as a script spells it, and Dir the directory in it that a cross-compiling go install uses.
	Bin, Dir string
	// Into is where they go instead; empty means Bin.
	Into string
}

// Run is a command that runs what the stage made.
type Run struct {
	Line int
	// What is the command for people.
	What string
	// Perhaps says that the command only may run such programs, if some are found by their names.
	Perhaps bool
}

// Question is one that only a node can answer.
type Question struct {
	Kind Kind
	// Certain says that the command runs if everything before it succeeds.
	Certain bool
	// Go is the command that a question about cgo is about.
	Go GoCommand
}

// Kind is what a question is about.
type Kind uint8

const (
	// Cgo asks which packages outside the standard library a compilation would build with cgo.
	Cgo Kind = iota + 1
	// Make asks what make would run.
	Make
	// Script asks for the text of a script in the build context.
	Script
)

// Finding is something that the user should know of.
type Finding struct {
	Line int
	// Rule is the finding's name, in the style of BuildKit's lint rules.
	Rule, Message string
}

// Why classes reasons, for those who decide by them.
type Why uint8

const (
	// Machine is that the result depends on the machine, or nobody knows that it does not.
	Machine Why = iota + 1
	// NeedsCgo is that a compilation needs a C compiler for the target.
	NeedsCgo
	// Stage is that it is the stage itself, not a command in it.
	Stage
	// Named is that the base image is for one architecture, so that running the stage elsewhere is no way out.
	Named
	// Taken is that something is taken out of the stage that must not be.
	Taken
	// PutBack is that it was moved in vain.
	PutBack
	// Unlike is that it cannot be told for another target what it would be told for this one.
	Unlike
)

// Reason is why a stage has to run on its target.
type Reason struct {
	// Line is where the reason stands, counted from 1.
	Line int
	Why  Why
	// Clause says it for people: "runs \"uname -m\", which asks about the machine".
	Clause string
}

// String is the reason for people, with its line where that is part of the sentence.
func (r Reason) String() string {
	switch {
	case r.Clause == "":
		return ""
	case r.Why == Stage || r.Why == Named || r.Why == PutBack || r.Why == Unlike:
		return r.Clause
	case strings.HasPrefix(r.Clause, ":"):
		return fmt.Sprintf("line %d%s", r.Line, r.Clause)
	}
	return fmt.Sprintf("line %d %s", r.Line, r.Clause)
}

// FileKind says what becomes of a file.
type FileKind uint8

const (
	// Makes is that the command makes what lies at and below the path.
	Makes FileKind = iota + 1
	// Program is that it makes a program of the target there.
	Program
	// Programs is that it makes programs of the target in the directory, whose names are not known.
	Programs
	// Suspects is that it may leave machine code of the machine there.
	Suspects
	// Spoils is that what lies there is the machine's own.
	Spoils
	// Moves is that what lies at From is put to the path.
	Moves
	// Packs is that what lies at From is packed into an archive at the path.
	Packs
	// Unpacks is that an archive at From, or what is piped in, is unpacked into the directory.
	Unpacks
	// Looks is that it looks at what the file holds.
	Looks
	// ForTarget is that what is put there is named for the target and is the target's own.
	ForTarget
)

// File is what a command does with a file. Paths are absolute, or [script.Unknown] in part.
type File struct {
	Kind FileKind
	Path string
	From []string
	// By is the tool, or says why, for people.
	By string

	names bool
}

// Names reports whether a command that looks only asks whether there is such a file.
func (f File) Names() bool { return f.names }

func (e *Effect) dependsf(c Call, format string, args ...any) {
	e.Depends = append(e.Depends, Reason{Line: c.Line, Why: Machine, Clause: fmt.Sprintf(format, args...)})
}

func (e *Effect) cgof(c Call, format string, args ...any) {
	e.Depends = append(e.Depends, Reason{Line: c.Line, Why: NeedsCgo, Clause: fmt.Sprintf(format, args...)})
}

func (e *Effect) findf(c Call, rule, format string, args ...any) {
	e.Findings = append(e.Findings, Finding{Line: c.Line, Rule: rule, Message: fmt.Sprintf(format, args...)})
}

func (e *Effect) file(kind FileKind, p string) { e.Files = append(e.Files, File{Kind: kind, Path: p}) }

// Toolchains are what a stage has set up for the toolchains that its commands use. The zero value is that of a stage that has set up
// nothing. It is a value: a stage that begins with another one begins with its copy.
type Toolchains struct {
	Go   GoToolchain
	Rust RustToolchain
}

// Clone returns a copy that shares nothing.
func (t Toolchains) Clone() Toolchains { return Toolchains{Go: t.Go.clone(), Rust: t.Rust.clone()} }

// Effect tells what a command does, and keeps what it sets up.
func (t *Toolchains) Effect(c Call) Effect {
	var e Effect
	for _, f := range append(c.Words[1:len(c.Words):len(c.Words)], c.Reads...) {
		if asksKernel(f) {
			e.dependsf(c, "reads %s, which tells the machine", f)
		}
	}
	for _, f := range c.Writes {
		e.file(Makes, c.Path(f))
	}
	if strings.HasPrefix(c.Words[0], script.Unknown) || !script.Known(c.Words[0]) {
		e.dependsf(c, "runs a program whose name is only known when it runs")
		return e
	}
	showsMachine(c, &e)
	row, ok := rows[c.Name]
	if !ok {
		e.dependsf(c, "runs %q, which may depend on the machine", Short(c.Words))
		return e
	}
	row.read(t, c, &e)
	return e
}

// Executes is the effect of a command that runs what the stage itself made: it is the target's.
func (t *Toolchains) Executes(c Call, what string) Effect {
	var e Effect
	for _, f := range c.Writes {
		e.file(Makes, c.Path(f))
	}
	t.Go.executes(c, what, &e)
	return e
}

func asksKernel(file string) bool {
	switch file {
	case "/etc/apk/arch", "/var/lib/dpkg/arch", "/var/lib/dpkg/status":
		return true
	case "/proc/meminfo":
		return false
	}
	return (strings.HasPrefix(file, "/proc/") || strings.HasPrefix(file, "/sys/")) && !strings.Contains(file, "/fd/")
}

// Short is a command's beginning, for people.
func Short(words []string) string {
	out := append([]string{}, words[:min(len(words), 2)]...)
	for i, w := range out {
		out[i] = Shown(w)
	}
	if len(out) == 2 && strings.HasPrefix(out[0], "/") {
		out = out[:1]
	}
	return strings.Join(out, " ")
}

// Shown is a word for people: shortened, and with a mark for what is not known.
func Shown(word string) string {
	word = strings.ReplaceAll(word, script.Unknown, "…")
	if len(word) > 40 {
		return word[:40] + "…"
	}
	return word
}

// Resolve is a path as seen from a directory, unknown if either is.
func Resolve(dir, name string) string {
	switch {
	case strings.HasPrefix(name, script.Unknown) && dir == script.Unknown:
		return script.Unknown
	case path.IsAbs(name):
		return path.Clean(name)
	case strings.HasPrefix(dir, script.Unknown):
		return script.Unknown
	default:
		return path.Join(dir, name)
	}
}
