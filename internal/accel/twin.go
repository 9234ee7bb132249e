package accel

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// resolve is where a path of the container's lies in the twin, its links followed inside of the twin as if that were the root.
func (m machine) resolve(path string) (string, error) {
	at, left := "/", strings.Split(filepath.Clean(path), "/")
	for hops := 0; len(left) > 0; {
		next := filepath.Join(at, left[0])
		left = left[1:]
		info, err := os.Lstat(filepath.Join(m.Twin, next))
		if err != nil {
			return "", err
		}
		if info.Mode()&os.ModeSymlink == 0 {
			at = next
			continue
		}
		to, err := os.Readlink(filepath.Join(m.Twin, next))
		if hops++; err != nil || hops > maxLinks {
			return "", errors.Join(fmt.Errorf("%s: too many links", path), err)
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		left = slices.Concat(strings.Split(to, "/"), left)
	}
	return filepath.Join(m.Twin, at), nil
}

const maxLinks = 40

// running are the words that run a program of the twin's, loaded by the twin's own loader with the twin's libraries; nil if there is no loader.
func (m machine) running(program string) []string {
	f, err := elf.Open(program)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(p.Open())
		if err != nil {
			return nil
		}
		loader, err := m.resolve(strings.TrimRight(string(name), "\x00"))
		if err != nil || !isOurs(loader) {
			return nil
		}
		run := []string{loader, "--library-path", m.libraries(), program}
		if !strings.HasPrefix(filepath.Base(loader), "ld-musl") {
			run = slices.Insert(run, 1, "--inhibit-cache") // the container's
		}
		return run
	}
	return []string{program}
}

// libraries is where the twin's libraries lie, as a list.
func (m machine) libraries() string {
	multi := map[string]string{"amd64": "x86_64", "arm64": "aarch64", "ppc64le": "powerpc64le"}[runtime.GOARCH]
	if multi == "" {
		multi = runtime.GOARCH
	}
	multi += "-linux-gnu"
	var out []string
	for _, d := range []string{"/usr/local/lib", "/lib/" + multi, "/usr/lib/" + multi, "/lib64", "/usr/lib64", "/lib", "/usr/lib"} {
		if at, err := m.resolve(d); err == nil && !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	return strings.Join(out, ":")
}

// first is the first program of these that the twin has.
func (m machine) first(paths ...string) (string, error) {
	var errs []error
	for _, p := range paths {
		at, err := m.resolve(p)
		if err == nil {
			return at, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

func (m machine) readTwin(path string) ([]byte, error) {
	at, err := m.resolve(path)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(at)
}

// preloads reports whether programs are to be loaded with libraries of the container's.
func (m machine) preloads() bool { return m.Getenv("LD_PRELOAD") != "" || m.Getenv("LD_AUDIT") != "" }
