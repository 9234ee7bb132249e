package accel

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// goTool is the name that -toolexec has: Go's own command runs it with a tool and the tool's arguments (go help build).
const goTool = "go-tool"

// goTools are the tools whose result depends on their release and on what the go command tells them, and not on the machine that they run on.
var goTools = []string{"compile", "asm", "link", "cgo", "cover", "vet", "preprofile", "fix", "pack", "buildid"}

// goFlags is GOFLAGS with what has the go command call its tools through this program; not ok if that is not to be changed. What a
// configuration file of Go's says is repeated, since the variable takes its place (go help environment).
func (m machine) goFlags() (string, bool) {
	command, err := exec.LookPath("go")
	if err != nil {
		return "", false
	}
	if command, err = filepath.EvalSymlinks(command); err != nil {
		return "", false
	}
	goroot := filepath.Dir(filepath.Dir(command))
	if own := m.Getenv("GOROOT"); own != "" {
		goroot = own
	}
	if _, err := m.sameGo(goroot); err != nil {
		if !errors.Is(err, errNoTwin) {
			m.sayf("Go's tools are emulated: %v", err)
		}
		return "", false
	}
	flags := m.Getenv("GOFLAGS")
	if flags == "" {
		flags = m.configured("GOFLAGS", goroot)
	}
	if strings.Contains(flags, "-toolexec") {
		m.sayf("Go's tools are emulated: GOFLAGS has a -toolexec of its own")
		return "", false
	}
	return strings.TrimSpace(flags + " -toolexec=" + filepath.Join(m.Bin, goTool)), true
}

// configured is what Go's configuration files say of a variable: the user's, else the release's. Empty means nothing.
func (m machine) configured(name, goroot string) string {
	user := m.Getenv("GOENV")
	if user == "" {
		dir, err := os.UserConfigDir()
		if err == nil {
			user = filepath.Join(dir, "go/env")
		}
	}
	for _, file := range []string{user, filepath.Join(goroot, "go.env")} {
		if file == "" || file == "off" {
			continue
		}
		dt, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		found := ""
		for line := range strings.Lines(string(dt)) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && key == name {
				found = value
			}
		}
		if found != "" {
			return found
		}
	}
	return ""
}

// goTool runs a tool of Go's by its twin, if that is the same, else the tool.
func (m machine) goTool(args []string) error {
	if len(args) == 0 {
		return errors.New("no tool to run")
	}
	if twin, more, ok := m.goTwin(args); ok {
		return execve(twin, slices.Concat(args[:1], more, args[1:]))
	}
	return become(args[0], args)
}

// goTwin is the build platform's build of a tool, with the arguments that it needs more.
func (m machine) goTwin(args []string) (twin string, more []string, ok bool) {
	dir, name := filepath.Split(args[0])
	dir = filepath.Clean(dir)
	tools := filepath.Dir(dir)
	goroot := filepath.Dir(filepath.Dir(tools))
	if !filepath.IsAbs(dir) || tools != filepath.Join(goroot, "pkg/tool") || !slices.Contains(goTools, name) {
		return "", nil, false
	}
	same, err := m.sameGo(goroot)
	if err != nil {
		return "", nil, false
	}
	if twin, err = m.resolve(filepath.Join(goroot, "pkg/tool", same.host, name)); err != nil || !runsAlone(twin) {
		return "", nil, false
	}
	if name == "link" && !slices.Contains(args, "-V=full") {
		// The loader of the machine is the default only where a linker works for the machine that it runs on.
		if same.loader != "" && !slices.ContainsFunc(args, func(a string) bool { return a == "-I" || strings.HasPrefix(a, "-I=") }) {
			more = []string{"-I", same.loader}
		}
	}
	return twin, more, true
}

// sameRelease is what two builds of one release have.
type sameRelease struct {
	host   string // of the twin: linux_amd64
	loader string // that programs of the container's machine are linked with by default; empty means Go's own
}

// errNoTwin is that the build platform's image has no Go in the same place.
var errNoTwin = errors.New("its image for the build platform has none")

// sameGo compares a release with the build platform's in the same place.
func (m machine) sameGo(goroot string) (sameRelease, error) {
	own, err := os.ReadFile(filepath.Join(goroot, "VERSION"))
	if err != nil || len(own) == 0 {
		return sameRelease{}, errNoTwin // a build of its own has no release
	}
	twin, err := m.readTwin(filepath.Join(goroot, "VERSION"))
	if err != nil {
		return sameRelease{}, errNoTwin
	}
	if !bytes.Equal(own, twin) {
		return sameRelease{}, fmt.Errorf("%s is %s, and the image for the build platform has %s", goroot, firstLine(own), firstLine(twin))
	}
	const settings = "src/internal/buildcfg/zbootstrap.go"
	ownSet, err := os.ReadFile(filepath.Join(goroot, settings))
	twinSet, twinErr := m.readTwin(filepath.Join(goroot, settings))
	if err := errors.Join(err, twinErr); err != nil {
		return sameRelease{}, err
	}
	was, is := defaults(ownSet), defaults(twinSet)
	for _, name := range []string{"version", "defaultGOEXPERIMENT", "defaultGO_EXTLINK_ENABLED", "DefaultCGO_ENABLED"} {
		if was[name] != is[name] {
			return sameRelease{}, fmt.Errorf("%s was built with %s=%q, and the build platform's with %q", goroot, name, was[name], is[name])
		}
	}
	loader, known := was["defaultGO_LDSO"]
	if !known {
		return sameRelease{}, fmt.Errorf("%s does not say what loader it links with", goroot)
	}
	dirs, err := fs.Glob(os.DirFS(m.Twin), strings.TrimPrefix(filepath.Join(goroot, "pkg/tool/linux_*/compile"), "/"))
	if err != nil || len(dirs) != 1 {
		return sameRelease{}, errNoTwin
	}
	return sameRelease{host: filepath.Base(filepath.Dir(dirs[0])), loader: loader}, nil
}

// defaults are the constants of internal/buildcfg that cmd/dist wrote when Go was built.
func defaults(src []byte) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(string(src)) {
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "const "), " = ")
		if !ok || !strings.HasPrefix(line, "const ") {
			continue
		}
		if s, err := strconv.Unquote(strings.TrimSpace(value)); err == nil {
			out[name] = s
		}
	}
	return out
}

func firstLine(dt []byte) string {
	line, _, _ := strings.Cut(string(dt), "\n")
	return line
}

// runsAlone reports whether a file is a program of this program's machine that needs no loader and no libraries: those of the container are another machine's.
func runsAlone(name string) bool {
	f, err := elf.Open(name)
	if err != nil {
		return false
	}
	loads := slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
	ok := f.Machine == ownMachine && f.Type == elf.ET_EXEC && !loads || f.Machine == ownMachine && f.Type == elf.ET_DYN && !loads
	return f.Close() == nil && ok && whole(name, f)
}

// whole reports whether a file is as long as its headers say.
func whole(name string, f *elf.File) bool {
	info, err := os.Stat(name)
	if err != nil {
		return false
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Off+p.Filesz > uint64(info.Size()) {
			return false
		}
	}
	return true
}
