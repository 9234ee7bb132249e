package stage

import (
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/effect"
	"github.com/manifold-build/manifold/frontend/dockerfile/script"
	"github.com/manifold-build/manifold/frontend/dockerfile/source"
	"github.com/manifold-build/manifold/platforms"
)

// Request is what a stage is read with.
type Request struct {
	File  *source.File
	Stage *source.Stage
	// Target is what the stage is run for, Build the platform that it would run on.
	Target *effect.Target
	Build  platforms.Platform
	// BuildArgs are the arguments the user passed, Global those that hold before the first FROM, and Predefined Manifold's own.
	BuildArgs  map[string]string
	Global     Values
	Predefined map[string]string
	// Parent is the reading of the stage that this one is built FROM; nil if it is built FROM Image. Images are what is known of images, by name.
	Parent *Reading
	Image  string
	Images map[string]BaseImage
	// Other returns the reading of another stage, by its index; nil if where it runs is the user's word.
	Other func(stage int) *Reading
	// Replaced reports whether a build context replaces an image or a stage of that name.
	Replaced func(name string) bool
	// Answers are what nodes said to questions of this stage.
	Answers map[Question]Answer
	// NoCacheMounts leaves Go stages without a cache mount for Go's build cache.
	NoCacheMounts bool
}

// Question is one that the text of a RUN instruction leaves open, and that a small exec on the build platform, in the stage's own tree at that
// line, can answer. Questions are comparable.
type Question struct {
	Kind effect.Kind
	// Line is that of the RUN instruction.
	Line int
	// Commands are the go commands that a question behind a make asks about, as a script, or the files of the build context of which a question asks for the
	// first that exists, one in a line; empty for other questions.
	Commands string
	// Before is how much of the RUN's text is run before them; 0 means all of it.
	Before int
}

// Answer is what was found.
type Answer struct {
	Text string
	// Failed says that nothing was found out.
	Failed bool
}

// Reading is what a stage is, were it run on the build platform.
type Reading struct {
	// Blocked says why it has to run on its target; its Clause is empty if it need not.
	Blocked effect.Reason
	// Told are the commands that take their target from the environment, and Tools those that need none, for people.
	Told  []Told
	Tools []string
	// Edits are what RUN instructions get, by their first line.
	Edits map[int]*Edit
	// Questions are open, and so are Scripts: for the text of scripts in the build context. Until it is known they may do anything.
	Questions, Scripts []Question
	// Runs are the commands that run what the stage itself made.
	Runs []effect.Run
	// Takes are what it takes from other stages.
	Takes []Take
	// Inputs are the images whose files it copies or mounts.
	Inputs   []Input
	Findings []effect.Finding
	Files    *Files
	// End is what holds at its end.
	End World
	// Compiles are the lines of the RUN instructions that compile, or run what may, and can be told of other compilers.
	Compiles []int
	// Installs says that packages of Debian's may be installed.
	Installs bool
	// PureByPlan says that some command is told CGO_ENABLED=0 by the plan and not by the Dockerfile.
	PureByPlan bool

	tools effect.Toolchains
	// portable: nothing that was read depends on the target.
	portable bool
}

// Portable reports whether the reading is that of every target: nothing in the stage, in what it begins with and in what it copies from asked for it.
func (r *Reading) Portable() bool { return r.portable }

// Told is a command that is told its target, and what it makes.
type Told struct {
	effect.Told

	first, last int // of the marks of the stage's files
}

// Made are the files that the command makes.
func (r *Reading) Made(t Told) *Files { return &Files{marks: r.Files.marks[t.first:t.last]} }

// Take is a path that an instruction takes from another stage.
type Take struct {
	// Stage is the other stage's index.
	Stage int
	// Path is absolute, and may be a pattern; To is where it is put, script.Unknown if nobody knows.
	Path, To string
	Line     int
}

// Input is an image whose files a stage copies or mounts.
type Input struct {
	// Name is as the instruction has it.
	Name string
	// Edits have the instruction take it for the build platform.
	Edits []source.Edit
}

// Edit is what a RUN instruction gets so that it works for the target on the build platform.
type Edit struct {
	// Env are variables to export, Unset those to remove.
	Env   []platforms.NameValue
	Unset []string
	// GoEnv says that the variables are Go's own configuration too, for the script empties some.
	GoEnv bool
	// Install is what go install needs; nil if nothing.
	Install *effect.Install
	// CacheDir is where Go's build cache is mounted; empty means nowhere.
	CacheDir string
	// Cargo is the Rust target that a plain cargo build is told; empty if none is needed.
	Cargo string
	// Twin is the name of the named context with the build platform's copy of the image that the stage begins with, whose compilers are to be called
	// in the place of the stage's own; empty if they are not.
	Twin string
	// Toolchain is the name of the named context with compilers of the build platform's that make the target's code; empty if there is none.
	Toolchain string
}

// Accelerates reports whether other compilers are called in the place of the stage's own.
func (e Edit) Accelerates() bool { return e.Twin != "" || e.Toolchain != "" }

// IsZero reports whether there is nothing to change.
func (e Edit) IsZero() bool {
	return len(e.Env) == 0 && len(e.Unset) == 0 && e.Install == nil && e.CacheDir == "" && e.Cargo == "" && !e.Accelerates()
}

// Covers reports whether what is taken may have put a file at a path of the stage that takes it.
func (t Take) Covers(p string) bool {
	to := t.To
	if strings.HasPrefix(to, script.Unknown) {
		return true
	}
	return within(p, effect.Stem(to)) || within(to, p)
}
