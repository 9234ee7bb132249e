package stage

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/manifold-build/manifold/frontend/dockerfile/effect"
	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

// applyFiles notes what a command does with files.
func (f *runFold) applyFiles(c effect.Call, e effect.Effect) {
	piped := c.Piped && f.pipe
	f.pipe = false
	if piped && (len(e.Depends) > 0 || e.Told != nil || e.Tool != "") {
		f.blockf(c.Line, "hands %q what is fetched for the target", effect.Short(c.Words))
	}
	for _, op := range e.Files {
		if piped && op.Kind == effect.Makes {
			op.Kind = effect.ForTarget
		}
		f.applyFile(c, op, piped)
	}
	f.pipe = f.pipe || piped && c.Feeds
}

func (f *runFold) applyFile(c effect.Call, op effect.File, piped bool) {
	files, line := f.out.Files, c.Line
	switch op.Kind {
	case effect.Makes:
		files.make(op.Path, line)
	case effect.Program:
		files.program(op.Path, line)
	case effect.Programs:
		files.programs(op.Path, line)
	case effect.Suspects:
		files.suspect(op.Path, line, op.By)
	case effect.Spoils:
		files.spoil(op.Path, line, op.By)
	case effect.Looks:
		f.looks(op, line)
	case effect.Moves:
		f.moves(c, op)
	case effect.Packs:
		f.packs(op, line)
	case effect.Unpacks:
		f.unpacks(op, line, piped)
	case effect.ForTarget:
		f.forTarget(c, op)
	}
}

// forTarget notes a file that was fetched for the target by its name: it is the target's own, and running it is running the target's.
func (f *runFold) forTarget(c effect.Call, op effect.File) {
	if op.Path != "" {
		f.ofTarget(op.Path, c.Line)
		return
	}
	for _, w := range c.Writes {
		f.ofTarget(c.Path(w), c.Line)
	}
	f.pipe = c.Feeds
}

func (f *runFold) ofTarget(p string, line int) {
	if strings.HasPrefix(p, script.Unknown) {
		f.blockf(line, "puts a file for the target where nobody knows")
		return
	}
	f.out.Files.program(p, line)
	f.out.Files.add(mark{path: p, class: Own, tool: true, line: line})
}

// looks refuses a look at a file that the base image or a package put there for the machine.
func (f *runFold) looks(op effect.File, line int) {
	p := effect.Stem(op.Path)
	lib := strings.HasPrefix(p, "/lib") || strings.HasPrefix(p, "/usr/lib")
	bin := slices.Contains(machineBins, path.Dir(p)) && !op.Names()
	if (lib || bin) && !f.out.Files.isData(p) && !f.out.Files.isMade(p) {
		f.blockf(line, "looks at %s, which is the machine's own", op.By)
	}
}

var machineBins = []string{"/bin", "/sbin", "/usr/bin", "/usr/sbin"}

// moves notes files that are put elsewhere.
func (f *runFold) moves(c effect.Call, op effect.File) {
	files, line, to := f.out.Files, c.Line, op.Path
	for _, src := range op.From {
		switch class, why := files.ClassOf(src); class {
		case Foreign:
			files.spoil(to, line, "is put there by line "+strconv.Itoa(line)+" from "+f.named(c, src)+", which "+why)
			return
		case Suspected:
			files.suspect(to, line, "line "+strconv.Itoa(line))
		case Own:
		}
		if files.isProgram(src, "") {
			files.program(to, line)
			files.program(path.Join(to, path.Base(src)), line)
		}
		if files.ofTarget(src) {
			for _, p := range []string{to, path.Join(to, path.Base(src))} {
				files.add(mark{path: p, class: Own, tool: true, line: line})
			}
		}
		if effect.IsSystemDir(to) {
			files.make(path.Join(to, path.Base(src)), line)
		}
	}
	if !effect.IsSystemDir(to) {
		files.make(to, line)
	}
}

// named is a file as the command's words name it.
func (f *runFold) named(c effect.Call, p string) string {
	for _, w := range c.Words[1:] {
		if c.Path(w) == p {
			return strings.ReplaceAll(w, script.Unknown, "…")
		}
	}
	return strings.ReplaceAll(p, script.Unknown, "…")
}

// packs notes an archive: it is as suspected as the worst that goes into it.
func (f *runFold) packs(op effect.File, line int) {
	files := f.out.Files
	for _, src := range op.From {
		switch class, why := files.ClassOf(src); {
		case class == Foreign && op.By == "tar":
			f.blockf(line, "packs %s, which the stage does not make itself", strings.ReplaceAll(src, script.Unknown, "…"))
			return
		case class == Foreign:
			files.spoil(op.Path, line, "line "+strconv.Itoa(line)+" packs from "+src+", which "+why)
			return
		case class == Suspected && op.Path == "":
			f.blockf(line, "packs %s, which may hold machine code, and pipes it on", src)
			return
		case class == Suspected:
			files.suspect(op.Path, line, "line "+strconv.Itoa(line))
		}
	}
	if op.Path != "" {
		files.make(op.Path, line)
	}
}

// unpacks notes what an archive, or what is piped in, is unpacked to.
func (f *runFold) unpacks(op effect.File, line int, piped bool) {
	files := f.out.Files
	forTarget, suspected := piped, false
	for _, src := range op.From {
		class, _ := files.ClassOf(src)
		forTarget = forTarget || files.ofTarget(src)
		suspected = suspected || class == Suspected
	}
	if forTarget {
		files.add(mark{path: op.Path, class: Own, tool: true, line: line})
		files.programs(op.Path, line)
	}
	if suspected {
		files.suspect(path.Join(op.Path, script.Unknown), line, "line "+strconv.Itoa(line))
	}
	files.make(path.Join(op.Path, script.Unknown), line)
	files.make(op.Path, line)
}
