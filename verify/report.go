package verify

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"

	"github.com/manifold-build/manifold/platforms"
)

// Want is what an image is held against.
type Want struct {
	// Platform is what the image is to be for.
	Platform platforms.Platform
	// Descriptor is what the image's entry in an index says; zero if it is in none, or the entry says nothing.
	Descriptor platforms.Platform
	// Except are patterns of paths that may hold another machine's code, as in a .dockerignore file: "/usr/lib/firmware/**". Nil
	// means none.
	Except []string
	// Base reports whether a file, by its path from the root, came with the base image unchanged; it is asked only about files that are for
	// another machine. Nil means that nothing is known beyond BaseLayers.
	Base func(path string) bool
	// Likely looks only at files that are executable or named like a library: reading any other takes a round trip of some file systems.
	// Machine code in a file that is neither is then not seen; nothing can start it.
	Likely bool
	// BaseLayers is how many of the image's first layers are its base image's: a foreign file that came with them is a warning, unless
	// it is what the image starts. Zero means that nothing is known of a base.
	BaseLayers int
}

// Report is what was found in one image.
type Report struct {
	// Platform is what was asked for, Config what the image's config says, and Descriptor what the index says; nil if it says
	// nothing.
	Platform   platforms.Platform  `json:"platform"`
	Config     platforms.Platform  `json:"config"`
	Descriptor *platforms.Platform `json:"descriptor,omitempty"`
	Verdict    Verdict             `json:"verdict,omitzero"`
	// Machines counts the programs and libraries by what they are for, the most frequent first. Nil means that there are none.
	Machines []Machine `json:"machines,omitempty"`
	// Interpreter is what loads the program that the image starts, or else most of its programs; empty if all are static.
	Interpreter string `json:"interpreter,omitempty"`
	// Refused are the reasons for that verdict, Excepted what an exception allows, and Warnings what is worth a look. Nil means none.
	Refused  []Finding `json:"refused,omitempty"`
	Excepted []Finding `json:"excepted,omitempty"`
	Warnings []Finding `json:"warnings,omitempty"`
}

// Machine is how many files are for what.
type Machine struct {
	Name  string `json:"name"`
	Files int    `json:"files"`
}

// Finding is something that was found.
type Finding struct {
	// Path is the file's, from the root; empty if it is about the image as a whole.
	Path string `json:"path,omitempty"`
	// Message says what is wrong with it.
	Message string `json:"message"`
}

// String is the finding on one line.
func (f Finding) String() string {
	if f.Path == "" {
		return f.Message
	}
	return f.Path + " " + f.Message
}

// Err is an error that names everything that is refused; nil if nothing is.
func (r Report) Err() error {
	var errs []error
	for _, f := range r.Refused {
		errs = append(errs, fmt.Errorf("%s: %s", r.Platform, f))
	}
	return errors.Join(errs...)
}

// inspection is the making of one report.
type inspection struct {
	tree   tree
	want   Want
	except *patternmatcher.PatternMatcher
	roles  roles
	report Report
	counts map[string]int
	interp map[string]int
	fits   int
}

// inspect judges a root filesystem.
func (t tree) inspect(c config, want Want) (Report, error) {
	except, err := exceptions(want.Except)
	if err != nil {
		return Report{}, err
	}
	in := &inspection{tree: t, want: want, except: except, counts: map[string]int{}, interp: map[string]int{}}
	in.report.Platform, in.report.Config = want.Platform, c.platform
	in.checkPlatforms()
	in.roles = t.rolesOf(c, want.Platform)
	started := in.checkCommands(c)
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if e := t[name]; e.code != nil && !started[name] {
			in.checkFile(e)
		}
	}
	in.conclude()
	return in.report, nil
}

func exceptions(patterns []string) (*patternmatcher.PatternMatcher, error) {
	var clean []string
	for _, p := range patterns {
		if strings.HasPrefix(p, "!") {
			clean = append(clean, "!"+strings.TrimPrefix(p[1:], "/"))
			continue
		}
		clean = append(clean, strings.TrimPrefix(p, "/"))
	}
	m, err := patternmatcher.New(clean)
	if err != nil {
		return nil, fmt.Errorf("verify-except: %w", err)
	}
	return m, nil
}

// checkPlatforms compares what the config and the index say with what was asked for.
func (in *inspection) checkPlatforms() {
	want := in.want.Platform
	if in.report.Config.IsZero() {
		in.refuse("", "its config names no platform, and "+want.String()+" was asked for")
	} else if !sameMachine(in.report.Config, want) {
		in.refuse("", fmt.Sprintf("its config says %s, and %s was asked for", in.report.Config, want))
	}
	if d := in.want.Descriptor; !d.IsZero() {
		in.report.Descriptor = &d
		if !sameMachine(d, want) {
			in.refuse("", fmt.Sprintf("the index says %s, and %s was asked for", d, want))
		}
	}
}

// sameMachine compares operating system, architecture and variant. Windows builds differ in os.version, which a base image decides.
func sameMachine(a, b platforms.Platform) bool {
	return a.OS == b.OS && a.Architecture == b.Architecture && a.Variant == b.Variant
}

func (in *inspection) refuse(path, message string) {
	in.report.Refused = append(in.report.Refused, Finding{path, message})
}

func (in *inspection) warn(path, message string) {
	in.report.Warnings = append(in.report.Warnings, Finding{path, message})
}

// checkFile judges machine code that the image does not start by itself.
func (in *inspection) checkFile(e entry) {
	c := *e.code
	at := "/" + e.path
	in.count(c)
	if c.Object || c.Arch == "" && c.Invalid == "" {
		return
	}
	role := in.roles.of(e)
	if !c.Fits(in.want.Platform) {
		if c.Format == PE && in.want.Platform.OS != "windows" {
			return // nothing executes it there
		}
		in.judge(e, role != other, at, mismatch(c, in.want.Platform))
		return
	}
	in.fits++
	if role != executablePath || !e.executable {
		return
	}
	if problem := in.loader(c); problem != "" {
		in.judge(e, true, at, problem)
	}
}

// judge sorts what is wrong with a file.
func (in *inspection) judge(e entry, matters bool, at, message string) {
	in.sort(e, matters, false, at, message)
}

// sort is judge for a file that the image starts, too.
func (in *inspection) sort(e entry, matters, started bool, at, message string) {
	allowed, err := in.except.MatchesOrParentMatches(e.path)
	switch {
	case err == nil && allowed:
		in.report.Excepted = append(in.report.Excepted, Finding{at, message})
	case !matters:
		in.warn(at, message)
	case e.base || !started && in.want.Base != nil && in.want.Base(at):
		in.warn(at, message+"; it came with the base image")
	default:
		in.refuse(at, message)
	}
}

func mismatch(c Code, p platforms.Platform) string {
	if c.Invalid != "" {
		return fmt.Sprintf("is no %s file that can run: %s", c.Format, c.Invalid)
	}
	out := fmt.Sprintf("is for %s", c)
	if p.Variant == "v5" && c.Arch == "arm" && c.HardFloat {
		out = "passes floating-point numbers in registers, which " + p.String() + " does not have"
	}
	return out
}

// loader says what is wrong with a program's interpreter; empty if nothing is, or it has none.
func (in *inspection) loader(c Code) string {
	if c.Interp == "" {
		return ""
	}
	e, ok := in.tree.find(c.Interp)
	switch {
	case !ok:
		return fmt.Sprintf("needs the interpreter %s, which is not in the image; link it statically (CGO_ENABLED=0 with Go), or use a base image that has it", c.Interp)
	case e.code == nil:
		return fmt.Sprintf("needs the interpreter %s, which is no machine code", c.Interp)
	case !e.code.Fits(in.want.Platform):
		return fmt.Sprintf("needs the interpreter %s, which is for %s", c.Interp, e.code)
	case c.Arch != e.code.Arch:
		return fmt.Sprintf("is for %s and needs the interpreter %s, which is for %s", c, c.Interp, e.code)
	}
	return ""
}

// count adds a file to the summary.
func (in *inspection) count(c Code) {
	if c.Object || c.Arch == "" && c.Invalid == "" {
		return
	}
	in.counts[c.String()]++
	if c.Interp != "" && c.Fits(in.want.Platform) {
		in.interp[c.Interp]++
	}
}

// conclude says the verdict.
func (in *inspection) conclude() {
	r := &in.report
	for _, name := range slices.Sorted(maps.Keys(in.counts)) {
		r.Machines = append(r.Machines, Machine{name, in.counts[name]})
	}
	slices.SortStableFunc(r.Machines, func(a, b Machine) int { return cmp.Compare(b.Files, a.Files) })
	if r.Interpreter == "" {
		for _, name := range slices.Sorted(maps.Keys(in.interp)) {
			if in.interp[name] > in.interp[r.Interpreter] {
				r.Interpreter = name
			}
		}
	}
	switch {
	case len(r.Refused) > 0:
		r.Verdict = Refused
	case len(r.Excepted) > 0:
		r.Verdict = Excepted
	case in.fits > 0:
		r.Verdict = Verified
	default:
		r.Verdict = NothingToVerify
	}
}
