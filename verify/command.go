package verify

import (
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
	noVariant       bool // it says arm, and not which
}

func readConfig(image ocispec.Image) config {
	return config{
		platform: platforms.FromOCI(image.Platform), entrypoint: image.Config.Entrypoint, cmd: image.Config.Cmd,
		env: image.Config.Env, dir: path.Join("/", image.Config.WorkingDir), noVariant: image.Architecture == "arm" && image.Variant == "",
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

// loaderDirs are where the dynamic loaders of glibc and musl look for the platform's libraries. Folders for another word size are none of them.
func loaderDirs(p platforms.Platform) []string {
	out := []string{"/lib", "/usr/lib", "/usr/local/lib"}
	if triple := p.Names().GNU; triple != "" {
		out = append(out, "/lib/"+triple, "/usr/lib/"+triple, "/usr/local/lib/"+triple)
	}
	if strings.Contains(p.Architecture, "64") || p.Architecture == "s390x" {
		out = append(out, "/lib64", "/usr/lib64", "/usr/local/lib64")
	}
	return out
}

// rolesOf finds out which directories programs and libraries are looked for in.
func (t tree) rolesOf(c config, p platforms.Platform) roles {
	out := roles{}
	add := func(r role, dirs ...string) {
		for _, d := range dirs {
			if d != "" {
				out[t.dir(strings.Trim(path.Clean("/"+d), "/"))] = r
			}
		}
	}
	add(libraryPath, loaderDirs(p)...)
	add(libraryPath, strings.Split(c.variable("LD_LIBRARY_PATH"), ":")...)
	for _, d := range c.searchPath() {
		if path.IsAbs(d) {
			add(executablePath, d)
		}
	}
	add(executablePath, strings.Split(defaultPath, ":")...)
	return out
}

// of is what a file is to the image.
func (r roles) of(e entry) role {
	is := r[parent(e.path)]
	switch {
	case is == executablePath && !e.executable:
		return other // nothing starts it
	case is == libraryPath && isLoader(path.Base(e.path)):
		return other // a loader alone loads nothing
	case is == other && runTimeLoads(e.path):
		return libraryPath
	}
	return is
}

// isLoader reports whether a file is a dynamic loader by its name.
func isLoader(base string) bool {
	return strings.HasPrefix(base, "ld-") && strings.Contains(base, ".so") || strings.HasPrefix(base, "ld64.so") || strings.HasPrefix(base, "ld.so")
}

func isShell(name string) bool {
	return slices.Contains([]string{"sh", "bash", "ash", "dash"}, path.Base(name))
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
