package verify

import (
	"fmt"
	"path"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/platforms"
)

// config is what matters of an image's config.
type config struct {
	platform        platforms.Platform
	entrypoint, cmd []string
	env             []string
	dir             string
}

func readConfig(image ocispec.Image) config {
	return config{
		platform: platforms.FromOCI(image.Platform), entrypoint: image.Config.Entrypoint, cmd: image.Config.Cmd,
		env: image.Config.Env, dir: path.Join("/", image.Config.WorkingDir),
	}
}

// defaultPath is where programs are looked for if the image does not say, as container engines have it.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func (c config) variable(name string) string {
	for _, kv := range slices.Backward(c.env) {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

// searchPath lists where programs are looked for.
func (c config) searchPath() []string {
	list := c.variable("PATH")
	if list == "" {
		list = defaultPath
	}
	return strings.Split(list, ":")
}

// role is what a file is to the image.
type role uint8

const (
	other role = iota
	executablePath
	libraryPath
)

// roles are the directories whose files are executed or loaded.
type roles map[string]role

// loaderDirs are where the dynamic loaders of glibc and musl look.
var loaderDirs = []string{"/lib", "/lib64", "/lib32", "/usr/lib", "/usr/lib64", "/usr/lib32", "/usr/local/lib", "/usr/local/lib64"}

// rolesOf finds out which directories programs and libraries are looked for in. The root and the working directory are among them: that is where
// images of one program have it.
func (t tree) rolesOf(c config, p platforms.Platform) roles {
	out := roles{}
	add := func(r role, dirs ...string) {
		for _, d := range dirs {
			if d != "" {
				out[t.dir(strings.Trim(path.Clean("/"+d), "/"))] = r
			}
		}
	}
	add(libraryPath, loaderDirs...)
	if triple := p.Names().GNU; triple != "" {
		add(libraryPath, "/lib/"+triple, "/usr/lib/"+triple)
	}
	add(libraryPath, strings.Split(c.variable("LD_LIBRARY_PATH"), ":")...)
	add(executablePath, c.searchPath()...)
	add(executablePath, strings.Split(defaultPath, ":")...)
	add(executablePath, "/", c.dir)
	return out
}

// of is what a file is to the image.
func (r roles) of(e entry) role {
	dir := parent(e.path)
	if is, ok := r[dir]; ok {
		return is
	}
	switch path.Base(dir) {
	case "bin", "sbin", "libexec":
		return executablePath
	}
	return other
}

// checkCommands judges what the image starts, and returns the paths of the files it has judged.
func (in *inspection) checkCommands(c config) map[string]bool {
	judged := map[string]bool{}
	if in.want.Platform.OS == "windows" {
		return judged // paths there are another matter; every file is looked at
	}
	argv := slices.Concat(c.entrypoint, c.cmd)
	what := "entrypoint"
	if len(c.entrypoint) == 0 {
		what = "command"
	}
	if len(argv) == 0 {
		return judged
	}
	at, ok := in.tree.program(c, argv[0])
	if !ok {
		in.warn("", fmt.Sprintf("its %s %q is not in the image, or is not executable", what, argv[0]))
	} else {
		in.checkStarted(at, what, judged)
	}
	// What the program is told to run, where that is a program too.
	rest := argv[1:]
	if len(c.entrypoint) > 0 && len(c.cmd) > 0 {
		rest = append([]string{c.cmd[0]}, rest...)
	}
	for i, word := range rest {
		if isShell(argv[0]) && i > 0 && rest[i-1] == "-c" {
			word = firstWord(word)
		}
		if at, ok := in.tree.program(c, word); ok && (strings.Contains(word, "/") || i == 0 || isShell(argv[0])) {
			in.checkStarted(at, "command", judged)
		}
	}
	return judged
}

func isShell(name string) bool {
	return slices.Contains([]string{"sh", "bash", "ash", "dash"}, path.Base(name))
}

// firstWord is the first command of a shell script of one line, as the shell form of ENTRYPOINT and CMD has it.
func firstWord(script string) string {
	for word := range strings.FieldsSeq(script) {
		if word != "exec" && !strings.Contains(word, "=") {
			return strings.Trim(word, `"'`)
		}
	}
	return ""
}

// program finds the file that a command starts.
func (t tree) program(c config, name string) (string, bool) {
	if name == "" {
		return "", false
	}
	var places []string
	switch {
	case strings.HasPrefix(name, "/"):
		places = []string{name}
	case strings.Contains(name, "/"):
		places = []string{path.Join(c.dir, name)}
	default:
		for _, dir := range c.searchPath() {
			places = append(places, path.Join(c.dir, dir, name))
			if path.IsAbs(dir) {
				places[len(places)-1] = path.Join(dir, name)
			}
		}
	}
	for _, place := range places {
		if e, ok := t.find(place); ok && e.executable {
			return e.path, true
		}
	}
	return "", false
}

// checkStarted judges a file that the image starts. No base image excuses it.
func (in *inspection) checkStarted(at, what string, judged map[string]bool) {
	for range maxLinks { // a script's interpreter may be a script
		if judged[at] {
			return
		}
		judged[at] = true
		e := in.tree[at]
		name := fmt.Sprintf("(%s) ", what)
		switch {
		case e.code != nil:
			in.count(*e.code)
			if in.report.Interpreter == "" {
				in.report.Interpreter = e.code.Interp
			}
			switch problem := in.loader(*e.code); {
			case e.code.Object, !e.code.Fits(in.want.Platform):
				in.sort(e, true, true, "/"+at, name+mismatch(*e.code, in.want.Platform))
			case problem != "":
				in.sort(e, true, true, "/"+at, name+problem)
			default:
				in.report.Fitting++
			}
			return
		case e.script != "":
			next, ok := in.tree.find(e.script)
			if !ok || !next.executable {
				in.sort(e, true, true, "/"+at, fmt.Sprintf("%sis a script for %s, which is not in the image", name, e.script))
				return
			}
			at, what = next.path, "interpreter of the "+what
		default:
			return // text without a #! line, which shells run
		}
	}
}
