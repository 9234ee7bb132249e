package verify

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
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
	// Inherited says that it is a warning if what the image starts is not there or lacks something: the base image has it so, or nobody asked for a platform.
	Inherited bool
	// Likely looks only at files that are executable or named like a library: reading any other takes a round trip of some file systems.
	// Machine code in a file that is neither is then not seen; nothing can start it.
	Likely bool
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
	// Fitting is how many of them run on the platform; zero means that there is nothing to verify.
	Fitting int `json:"fitting,omitempty"`
	// Interpreter is what loads the program that the image starts, or else most of its programs; empty if all are static.
	Interpreter string `json:"interpreter,omitempty"`
	// Broken says that what the image starts is not there or lacks something, and that this refuses nothing ([Want.Inherited]): such an image is not verified.
	Broken bool `json:"broken,omitempty"`
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
	// Machine is what its machine code is for, where that is what is wrong with it; empty if something else is.
	Machine string `json:"machine,omitempty"`
	// Level says that the machine is right, and that the program is for a higher variant of it.
	Level bool `json:"level,omitempty"`
	// Started reports whether the file is what the image starts.
	Started bool `json:"started,omitempty"`
	// Base reports whether the file came with the base image, as [Report.Excuse] finds out.
	Base bool `json:"base,omitempty"`
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
	// packages are made when first asked for; started are the files that the image starts.
	packages packages
	started  map[string]bool
	libs     *libraries
	report   Report
	counts   map[string]int
	interp   map[string]int
}

// inspect judges a root filesystem.
func (t tree) inspect(c config, want Want) (Report, error) {
	except, err := exceptions(want.Except)
	if err != nil {
		return Report{}, err
	}
	in := &inspection{tree: t, want: want, except: except, counts: map[string]int{}, interp: map[string]int{}}
	in.report.Platform, in.report.Config = want.Platform, c.platform
	in.checkPlatforms(c.noVariant)
	in.roles, in.libs = t.rolesOf(c, want.Platform), in.newLibraries(c)
	in.started = in.checkCommands(c)
	names := slices.Sorted(maps.Keys(t))
	for _, name := range names {
		if e := t[name]; e.kind == symlink {
			in.checkLink(e)
		}
	}
	for _, name := range names {
		if e := t[name]; e.code != nil && !in.started[name] {
			in.checkFile(e)
		}
	}
	in.report.Warnings = grouped(in.report.Warnings)
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
func (in *inspection) checkPlatforms(noVariant bool) {
	want, asked := in.want.Platform, "was asked for"
	if in.want.Descriptor == want {
		asked = "is what the index says"
	}
	switch c := in.report.Config; {
	case c.IsZero():
		in.refuse("", "its config names no platform, and "+want.String()+" "+asked)
	case noVariant && c.OS == want.OS && c.Architecture == want.Architecture:
		if c.Variant != want.Variant {
			in.warn("", fmt.Sprintf("its config says %s/%s and names no variant, and %s %s", c.OS, c.Architecture, want, asked))
		}
	case !sameMachine(c, want):
		in.refuse("", fmt.Sprintf("its config says %s, and %s %s", c, want, asked))
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
	in.report.Refused = append(in.report.Refused, Finding{Path: path, Message: message})
}

func (in *inspection) warn(path, message string) {
	in.report.Warnings = append(in.report.Warnings, Finding{Path: path, Message: message})
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
	switch {
	case c.Format == PE && in.want.Platform.OS != "windows":
		return // nothing executes it there
	case !c.fitsMachine(in.want.Platform):
		if c.Invalid == "" && in.packagesOf().sibling(e.path) {
			return // its package brings one for each platform
		}
		matters := role != other
		if runTimeLoads(e.path) { // which asks for those of its own system, and of the bundle's for its own machine
			matters = (c.OS == "" || c.OS == in.want.Platform.OS) && !in.packagesOf().several(e.path)
		}
		in.sort(e, matters, false, at, mismatch(c, in.want.Platform))
		return
	}
	if role == libraryPath && misplaced(e.path, c) {
		in.sort(e, true, false, at, otherFloat+" than the programs of its folder's platform")
		return
	}
	in.report.Fitting++
	if role != executablePath {
		return
	}
	switch problem := in.loader(c); {
	case !c.Fits(in.want.Platform):
		in.sort(e, true, false, at, mismatch(c, in.want.Platform))
	case problem != "":
		in.sort(e, true, false, at, problem)
	default:
		if lacks, found := in.libs.of(e); found {
			in.sort(e, false, false, at, lacks.String())
		}
	}
}

// checkLink judges a name in PATH, or in a folder of libraries, that leads to a file elsewhere.
func (in *inspection) checkLink(e entry) {
	role := in.roles[parent(e.path)]
	if role == other {
		return
	}
	to, ok := in.tree.find(e.path)
	if !ok || to.code == nil || to.code.Object || in.roles.of(to) != other || in.started[to.path] || role == executablePath && !to.executable || isLoader(path.Base(e.path)) {
		return
	}
	if c := *to.code; !c.fitsMachine(in.want.Platform) && (c.Format != PE || in.want.Platform.OS == "windows") && !in.packagesOf().sibling(to.path) {
		in.started[to.path] = true // said once
		in.sort(to, true, false, "/"+e.path, "leads to /"+to.path+", which "+mismatch(c, in.want.Platform))
	}
}

// sort sorts what is wrong with a file. It matters if the file is executed or loaded.
func (in *inspection) sort(e entry, matters, started bool, at, message string) {
	f := Finding{Path: at, Message: message, Started: started}
	if e.code != nil && !e.code.Fits(in.want.Platform) {
		f.Machine = e.code.String()
		f.Level = e.code.fitsMachine(in.want.Platform)
	}
	r := &in.report
	switch allowed, err := in.except.MatchesOrParentMatches(e.path); {
	case err == nil && allowed:
		r.Excepted = append(r.Excepted, f)
	case matters:
		r.Refused = append(r.Refused, f)
	default:
		r.Warnings = append(r.Warnings, f)
	}
}

func mismatch(c Code, p platforms.Platform) string {
	if c.Invalid != "" {
		return fmt.Sprintf("is no %s file that can run: %s", c.Format, c.Invalid)
	}
	out := fmt.Sprintf("is for %s", c)
	if c.fitsMachine(p) && !c.Built {
		out += " by its linker's word, which is the most that any part of it may use"
	}
	if p.Variant == "v5" && c.Arch == "arm" && c.HardFloat {
		out = "passes floating-point numbers in registers, which " + p.String() + " does not have"
	}
	return out
}

// grouped puts what is found of one package, or below one folder, together where it is much.
func grouped(list []Finding) []Finding {
	const many = 4
	type group struct{ folder, machine string }
	of := func(f Finding) group {
		if f.Machine == "" || f.Started {
			return group{}
		}
		return group{packageOf(f.Path), f.Machine}
	}
	count := map[group]int{}
	for _, f := range list {
		count[of(f)]++
	}
	var out []Finding
	said := map[group]bool{}
	for _, f := range list {
		g := of(f)
		if g.folder == "" || count[g] < many {
			out = append(out, f)
			continue
		}
		if !said[g] {
			said[g] = true
			out = append(out, Finding{Path: g.folder, Message: fmt.Sprintf("holds %d files for %s, such as %s", count[g], g.machine, f.Path), Machine: g.machine})
		}
	}
	return out
}

// packageOf is the folder of the package that a file belongs to, or the one at the top that it lies below.
func packageOf(name string) string {
	parts := strings.Split(strings.TrimPrefix(path.Dir(name), "/"), "/")
	most := min(len(parts), 3) //nolint:mnd // /usr/lib/firmware
	for i, part := range parts {
		if part == "node_modules" || part == "site-packages" || part == "dist-packages" {
			if most = min(i+2, len(parts)); i+1 < len(parts) && strings.HasPrefix(parts[i+1], "@") {
				most = min(i+3, len(parts)) //nolint:mnd // its scope too
			}
		}
	}
	if parts[0] == "" {
		return ""
	}
	return "/" + strings.Join(parts[:most], "/")
}

// loader says what is wrong with a program's interpreter; empty if nothing is, or it has none.
func (in *inspection) loader(c Code) string {
	if c.Interp == "" {
		return ""
	}
	e, ok := in.tree.find(c.Interp)
	switch {
	case !ok:
		return fmt.Sprintf("needs the interpreter %s, which is not in the image; %suse a base image that has it", c.Interp, statically(c))
	case e.code == nil:
		return fmt.Sprintf("needs the interpreter %s, which is no machine code", c.Interp)
	case !e.code.fitsMachine(in.want.Platform), c.Arch == "arm" && !e.code.fitsLevel(in.want.Platform): // whole distributions for amd64 note a higher level
		return fmt.Sprintf("needs the interpreter %s, which is for %s", c.Interp, e.code)
	case c.Arch != e.code.Arch:
		return fmt.Sprintf("is for %s and needs the interpreter %s, which is for %s", c, c.Interp, e.code)
	}
	return ""
}

// statically is what helps with a program of Go's, which need not be linked with libraries.
func statically(c Code) string {
	if c.Built || len(c.Needs) > 0 && !slices.ContainsFunc(c.Needs, func(s string) bool {
		return !strings.HasPrefix(s, "libc.") && !strings.HasPrefix(s, "libpthread.") && !strings.HasPrefix(s, "libresolv.")
	}) {
		return "link it statically (CGO_ENABLED=0 with Go), or "
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

// conclude sums up.
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
	r.decide()
}

// decide says the verdict.
func (r *Report) decide() {
	switch {
	case len(r.Refused) > 0:
		r.Verdict = Refused
	case len(r.Excepted) > 0 || r.Broken:
		r.Verdict = Excepted
	case r.Fitting > 0:
		r.Verdict = Verified
	default:
		r.Verdict = NothingToVerify
	}
}

// Excuse turns the refusal of files that came with the base image into warnings, unless the image starts them, and decides anew. One that is started is excused too if it is only
// for a higher variant: that is the base image's choice. Its argument tells of a path from the root whether the file is the base image's, unchanged; it is asked about refused files only.
func (r *Report) Excuse(came func(path string) bool) {
	var still []Finding
	for _, f := range r.Refused {
		if f.Base = f.Path != "" && came(f.Path); f.Base {
			f.Message += "; it came with the base image"
		}
		if f.Base && (!f.Started || f.Level) {
			r.Warnings = append(r.Warnings, f)
			continue
		}
		still = append(still, f)
	}
	r.Refused = still
	r.decide()
}
