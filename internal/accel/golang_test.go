package accel

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

const bootstrap = "package buildcfg\n\nconst defaultGOEXPERIMENT = ``\nconst defaultGO_EXTLINK_ENABLED = ``\nconst defaultGO_LDSO = ``\nconst version = `go1.26.8`\nconst DefaultCGO_ENABLED = \"\"\n"

// goRoots makes two releases of Go beside each other, one of another machine's and its twin of this machine's, and returns the first one's
// compiler.
func goRoots(t *testing.T) (machine, string) {
	t.Helper()
	dir := t.TempDir()
	m := machine{Twin: filepath.Join(dir, "twin"), Bin: "/bin-of-accel", Getenv: func(string) string { return "" }, Stderr: new(bytes.Buffer)}
	goroot := filepath.Join(dir, "usr/local/go")
	for _, r := range []struct{ root, host string }{{goroot, "linux_s390x"}, {filepath.Join(m.Twin, goroot), "linux_" + runtime.GOARCH}} {
		put(t, filepath.Join(r.root, "VERSION"), "go1.26.8\ntime 2026-08-28T16:20:06Z\n")
		put(t, filepath.Join(r.root, "src/internal/buildcfg/zbootstrap.go"), bootstrap)
		put(t, filepath.Join(r.root, "pkg/tool", r.host, "compile"), "")
		program(t, filepath.Join(r.root, "pkg/tool", r.host, "compile"))
		program(t, filepath.Join(r.root, "pkg/tool", r.host, "link"))
	}
	return m, filepath.Join(goroot, "pkg/tool/linux_s390x/compile")
}

func put(t *testing.T, name, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), 0o755)); err != nil {
		t.Fatal(err)
	}
}

// static is a static program of this machine.
var static = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "accel-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cmd := exec.Command("go", "build", "-o", dir+"/accel", "../../cmd/manifold-accel")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	return os.ReadFile(dir + "/accel")
})

// program puts a static program of this machine.
func program(t *testing.T, name string) {
	t.Helper()
	dt, err := static()
	if err != nil {
		t.Fatal(err)
	}
	put(t, name, string(dt))
}

// TestGoTwin breaks the twin in every way that is known: each time the stage's own tool is run.
func TestGoTwin(t *testing.T) {
	host := "linux_" + runtime.GOARCH
	for name, tc := range map[string]struct {
		// spoil changes the stage's Go or its twin.
		spoil func(goroot, twin string)
		tool  string // empty means the compiler
		ok    bool
		more  []string
	}{
		"the same":      {ok: true},
		"other release": {spoil: func(_, twin string) { put(t, filepath.Join(twin, "VERSION"), "go1.26.7\n") }},
		"no VERSION":    {spoil: func(goroot, _ string) { put(t, filepath.Join(goroot, "VERSION"), "") }},
		"no twin":       {spoil: func(_, twin string) { _ = os.RemoveAll(twin) }},
		"experiment": {spoil: func(goroot, _ string) {
			put(t, filepath.Join(goroot, "src/internal/buildcfg/zbootstrap.go"), strings.Replace(bootstrap, "GOEXPERIMENT = ``", "GOEXPERIMENT = `loopvar`", 1))
		}},
		"settings unknown": {spoil: func(goroot, _ string) {
			put(t, filepath.Join(goroot, "src/internal/buildcfg/zbootstrap.go"), "package buildcfg\n")
		}},
		"no compiler": {spoil: func(_, twin string) { _ = os.Remove(filepath.Join(twin, "pkg/tool", host, "compile")) }},
		"truncated": {spoil: func(_, twin string) {
			if err := os.Truncate(filepath.Join(twin, "pkg/tool", host, "compile"), 4096); err != nil {
				t.Fatal(err)
			}
		}},
		"a script": {spoil: func(_, twin string) {
			put(t, filepath.Join(twin, "pkg/tool", host, "compile"), "#!/bin/sh\n")
		}},
		"another machine's": {spoil: func(_, twin string) {
			name := filepath.Join(twin, "pkg/tool", host, "compile")
			dt, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			dt[18] = 22 // e_machine, EM_S390
			put(t, name, string(dt))
		}},
		"a link out of the image": {spoil: func(_, twin string) {
			name := filepath.Join(twin, "pkg/tool", host, "compile")
			if err := errors.Join(os.Remove(name), os.Symlink("/bin/sh", name)); err != nil {
				t.Fatal(err)
			}
		}},
		"unknown tool": {tool: "objdump"},
		"linker":       {tool: "link", ok: true},
		"musl's loader": {tool: "link", ok: true, more: []string{"-I", "/lib/ld-musl-s390x.so.1"}, spoil: func(goroot, _ string) {
			put(t, filepath.Join(goroot, "src/internal/buildcfg/zbootstrap.go"), strings.Replace(bootstrap, "GO_LDSO = ``", "GO_LDSO = `/lib/ld-musl-s390x.so.1`", 1))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m, tool := goRoots(t)
			goroot := filepath.Join(filepath.Dir(tool), "../../..")
			if tc.spoil != nil {
				tc.spoil(goroot, filepath.Join(m.Twin, goroot))
			}
			if tc.tool != "" {
				tool = filepath.Join(filepath.Dir(tool), tc.tool)
			}
			twin, more, ok := m.goTwin([]string{tool, "-o", "out"})
			if ok != tc.ok || !slices.Equal(more, tc.more) {
				t.Fatalf("twin %q with %q, %v; want %q, %v", twin, more, ok, tc.more, tc.ok)
			}
			if want := filepath.Join(m.Twin, goroot, "pkg/tool", host, filepath.Base(tool)); ok && twin != want {
				t.Errorf("twin %s, want %s", twin, want)
			}
		})
	}
}

// TestGoFlags joins what there is of GOFLAGS with ours.
func TestGoFlags(t *testing.T) {
	const ours = "-toolexec=/bin-of-accel/go-tool"
	for name, tc := range map[string]struct {
		env        map[string]string
		user, root string // Go's configuration files
		want       string
		says       string
	}{
		"none":              {want: ours},
		"environment":       {env: map[string]string{"GOFLAGS": "-trimpath -tags=a"}, user: "-mod=mod", want: "-trimpath -tags=a " + ours},
		"user's":            {user: "-mod=vendor", root: "-mod=mod", want: "-mod=vendor " + ours},
		"release's":         {root: "-mod=mod", want: "-mod=mod " + ours},
		"own toolexec":      {env: map[string]string{"GOFLAGS": "-toolexec=garble"}, says: "GOFLAGS has a -toolexec of its own"},
		"user's are off":    {env: map[string]string{"GOENV": "off"}, user: "-mod=vendor", want: ours},
		"own toolexec, set": {user: "-toolexec=garble", says: "GOFLAGS has a -toolexec of its own"},
	} {
		t.Run(name, func(t *testing.T) {
			m, tool := goRoots(t)
			goroot := filepath.Join(filepath.Dir(tool), "../../..")
			program(t, filepath.Join(goroot, "bin/go"))
			t.Setenv("PATH", filepath.Join(goroot, "bin"))
			t.Setenv("XDG_CONFIG_HOME", filepath.Join(m.Twin, "config"))
			put(t, filepath.Join(m.Twin, "config/go/env"), "GOPROXY=off\nGOFLAGS="+tc.user+"\n")
			put(t, filepath.Join(goroot, "go.env"), "GOFLAGS="+tc.root+"\n")
			m.Getenv = func(name string) string { return tc.env[name] }
			var said bytes.Buffer
			m.Stderr = &said
			got, ok := m.goFlags()
			if got != tc.want || ok != (tc.want != "") || !strings.Contains(said.String(), tc.says) || tc.says == "" && said.Len() > 0 {
				t.Errorf("GOFLAGS=%q, %v, said %q; want %q and %q", got, ok, &said, tc.want, tc.says)
			}
		})
	}
}
