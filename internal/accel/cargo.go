package accel

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// configuredWrapper is the wrapper that cargo's configuration names, which the variable has taken the place of (The Cargo Book, Configuration).
func (m machine) configuredWrapper() (string, bool) {
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", os.Getppid())) // cargo's, which runs the compiler elsewhere
	if err != nil {
		return "", false
	}
	return m.wrapperBelow(cwd)
}

// wrapperBelow is the wrapper of a cargo that runs in a folder.
func (m machine) wrapperBelow(cwd string) (string, bool) {
	home := m.Getenv("CARGO_HOME")
	if home == "" {
		home = filepath.Join(m.Getenv("HOME"), ".cargo")
	}
	dirs := []string{}
	for d := cwd; ; d = filepath.Dir(d) {
		dirs = append(dirs, filepath.Join(d, ".cargo"))
		if d == "/" {
			break
		}
	}
	for _, d := range append(dirs, home) {
		for _, name := range []string{"config", "config.toml"} {
			dt, err := os.ReadFile(filepath.Join(d, name))
			if err != nil {
				continue
			}
			if found := wrapperSetting.FindSubmatch(dt); found != nil {
				wrapper := string(found[2])
				if strings.Contains(wrapper, "/") && !filepath.IsAbs(wrapper) { // the folder of a path is that of .cargo
					wrapper = filepath.Join(filepath.Dir(d), wrapper)
				}
				return wrapper, wrapper != ""
			}
		}
	}
	return "", false
}

var wrapperSetting = regexp.MustCompile(`(?m)^\s*(build\.)?rustc-wrapper\s*=\s*["']([^"']*)["']`)
