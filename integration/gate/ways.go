package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/platforms"
)

// breaking is what an image is broken with.
type breaking struct {
	program  string // what the image starts, below the root
	interp   string // its loader
	library  string // one that it needs
	original []byte
	foreign  []byte // a program for another machine
	shared   []byte // a library for another machine
	other    platforms.Platform
}

// breaker finds out what an image starts and needs.
func breaker(root, foreign, start string) (b breaking, err error) {
	find := func(root, name string) string {
		for _, dir := range []string{"", "usr/sbin", "usr/bin"} {
			if info, err := os.Stat(filepath.Join(root, dir, name)); err == nil && !info.IsDir() {
				return filepath.Join(dir, name)
			}
		}
		return ""
	}
	if b.program = strings.TrimPrefix(find(root, start), "/"); b.program == "" {
		return b, fmt.Errorf("%s is not there", start)
	}
	if real, err := filepath.EvalSymlinks(filepath.Join(root, b.program)); err == nil && strings.HasPrefix(real, root) { //nolint:predeclared // the name that links lead to
		b.program = strings.TrimPrefix(real, root+"/")
	}
	if b.original, err = os.ReadFile(filepath.Join(root, b.program)); err != nil {
		return b, err
	}
	f, err := elf.Open(filepath.Join(root, b.program))
	if err != nil {
		return b, err
	}
	defer func() { _ = f.Close() }()
	libs, err := f.ImportedLibraries()
	if err != nil || len(libs) == 0 {
		return b, errors.Join(err, errors.New("it needs no libraries"))
	}
	b.interp = strings.TrimPrefix(strings.TrimRight(string(section(f, ".interp")), "\x00"), "/")
	err = filepath.WalkDir(filepath.Join(root, "usr/lib"), func(name string, d fs.DirEntry, err error) error {
		if err == nil && b.library == "" && slices.Contains(libs, d.Name()) && !strings.HasPrefix(d.Name(), "ld-") {
			b.library = strings.TrimPrefix(name, root+"/")
		}
		return err
	})
	if err != nil {
		return b, err
	}
	b.other, err = platforms.Parse("linux/amd64")
	if b.foreign, b.shared = nil, nil; err == nil {
		b.foreign, err = os.ReadFile(filepath.Join(foreign, "usr/bin/tini-static"))
	}
	if err == nil {
		b.shared, err = os.ReadFile(filepath.Join(foreign, "usr/lib/x86_64-linux-gnu/libc.so.6"))
	}
	return b, err
}

func section(f *elf.File, name string) []byte {
	s := f.Section(name)
	if s == nil {
		return nil
	}
	dt, err := s.Data()
	if err != nil {
		return nil
	}
	return dt
}

// ways are all ways of breaking it.
func (b breaking) ways() []way {
	cmd := func(words ...string) func(*ocispec.ImageConfig) {
		return func(c *ocispec.ImageConfig) { c.Cmd = words }
	}
	entry := func(words ...string) func(*ocispec.ImageConfig) {
		return func(c *ocispec.ImageConfig) { c.Entrypoint, c.Cmd = words, nil }
	}
	dir, base := filepath.Split(b.library)
	whiteout := func(name string) file {
		dir, base := filepath.Split(name)
		return file{name: dir + ".wh." + base, mode: 0o644}
	}
	text := func(name, s string) file { return file{name: name, data: []byte(s)} }
	foreign := func(name string) file { return file{name: name, data: b.foreign} }
	return []way{
		{name: "its program is foreign", files: []file{foreign(b.program)}},
		{name: "its program is gone", files: []file{whiteout(b.program)}},
		{name: "its program may not be executed", files: []file{{name: b.program, data: b.original, mode: 0o644}}},
		{name: "its program is cut short", files: []file{{name: b.program, data: b.original[:len(b.original)*2/3]}}},
		{name: "its program is empty", files: []file{text(b.program, "")}},
		{name: "its program is a page", files: []file{text(b.program, "<html>404</html>")}},
		{name: "its program leads to a foreign one", files: []file{{name: b.program, link: "/opt/tool"}, foreign("opt/tool")}},
		{name: "its loader is gone", files: []file{whiteout(b.loader())}},
		{name: "its loader is foreign", files: []file{{name: b.loader(), data: b.shared}}},
		{name: "a library is gone", files: []file{whiteout(b.library)}},
		{name: "a library is foreign", files: []file{whiteout(b.library), {name: dir + base, data: b.shared}}},
		{name: "a script with lines of Windows", files: []file{text("entry.sh", "#!/bin/sh\r\nexec true\r\n")}, config: entry("/entry.sh")},
		{name: "a script with a mark before it", files: []file{text("entry.sh", "\xef\xbb\xbf#!/bin/sh\n")}, config: entry("/entry.sh")},
		{name: "a script by env without the program", files: []file{text("entry.sh", "#!/usr/bin/env nothing\n")}, config: entry("/entry.sh")},
		{name: "a script for a shell that is not there", files: []file{text("entry.sh", "#!/opt/zsh\n")}, config: entry("/entry.sh")},
		{name: "a script that runs a foreign program", files: []file{text("entry.sh", "#!/bin/sh\nset -e\nmkdir -p /data\nexec /srv/dist/server\n"), foreign("srv/dist/server")}, config: entry("/entry.sh")},
		{name: "a script that runs its command", files: []file{text("entry.sh", "#!/bin/bash\nset -euo pipefail\nexec \"$@\"\n"), foreign("srv/server")},
			config: func(c *ocispec.ImageConfig) {
				c.Entrypoint, c.Cmd = []string{"/entry.sh"}, []string{"/srv/server", "-v"}
			}},
		{name: "a shell that runs a foreign program", files: []file{foreign("srv/server")}, config: cmd("/bin/sh", "-c", "cd /srv && ./server --port 80")},
		{name: "a shell behind mkdir", files: []file{foreign("srv/server")}, config: cmd("/bin/sh", "-c", "mkdir -p /run/x && exec /srv/server")},
		{name: "a shell with a variable", files: []file{foreign("srv/server")}, config: func(c *ocispec.ImageConfig) {
			c.Cmd, c.Env = []string{"/bin/sh", "-c", "exec $APP/server"}, []string{"APP=/srv"}
		}},
		{name: "a shell that runs what is not there", config: cmd("/bin/sh", "-c", "exec /srv/server")},
		{name: "env runs what is not there", config: cmd("env", "A=b", "/srv/server")},
		{name: "a foreign library is loaded before all", files: []file{{name: "opt/x.so", data: b.shared}}, config: func(c *ocispec.ImageConfig) { c.Env = []string{"LD_PRELOAD=/opt/x.so"} }},
		{name: "a foreign program in PATH", files: []file{foreign("usr/local/bin/tool")}},
		{name: "a link in PATH to a foreign program", files: []file{foreign("opt/tool/bin/tool"), {name: "usr/local/bin/tool", link: "/opt/tool/bin/tool"}}},
		{name: "a foreign add-on of node", files: []file{{name: "srv/node_modules/a/build/Release/a.node", data: b.shared, mode: 0o644}}},
		{name: "a foreign extension of python", files: []file{{name: "usr/local/lib/python3.11/site-packages/a/_a.so", data: b.shared, mode: 0o644}}},
		{name: "a foreign library where the loader looks", files: []file{{name: "usr/local/lib/liba.so.1", data: b.shared, mode: 0o644}}},
		{name: "its config is for another platform", platform: b.other},
	}
}

// loader is the path of the loader, with the link of its first folder followed.
func (b breaking) loader() string {
	if strings.HasPrefix(b.interp, "lib/") || strings.HasPrefix(b.interp, "lib64/") {
		return "usr/" + b.interp
	}
	return b.interp
}
