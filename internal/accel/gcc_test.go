package accel

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// gccImage makes a compiler of the stage's and a tool chain that has its twin.
func gccImage(t *testing.T) (m machine, own string) {
	t.Helper()
	dir := t.TempDir()
	m = machine{
		Root: filepath.Join(dir, "root"), Bin: "/bin-of-accel", Toolchain: filepath.Join(dir, "toolchain"), Memory: filepath.Join(dir, "shm"),
		Getenv: func(string) string { return "" }, Stderr: new(bytes.Buffer),
	}
	own = filepath.Join(m.Root, "usr/libexec/gcc/s390x-linux-gnu/14/cc1")
	put(t, own, "the target's compiler")
	program(t, filepath.Join(m.Toolchain, "gcc-14/cc1"))
	program(t, m.loader())
	list(t, m, own, "gcc-14/cc1")
	if err := os.MkdirAll(m.Memory, 0o755); err != nil {
		t.Fatal(err)
	}
	return m, own
}

// list writes the tool chain's list.
func list(t *testing.T, m machine, own, twin string) {
	t.Helper()
	a, err := digestOf(own)
	b, err2 := digestOf(filepath.Join(m.Toolchain, twin))
	info, err3 := os.Stat(own)
	if err := errors.Join(err, err2, err3); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(m.Toolchain, Programs), fmt.Sprintf("%s %d %s %s\n", a, info.Size(), b, twin))
}

// TestToolTwin breaks a tool chain in every way that is known: each time the stage's own program is run.
func TestToolTwin(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(m machine, own string)
		ok    bool
	}{
		"the same":                  {ok: true},
		"another build, other size": {spoil: func(_ machine, own string) { put(t, own, "another compiler of the target's") }},
		"another build, equal size": {spoil: func(_ machine, own string) { put(t, own, "The target's compiler") }},
		"no list":                   {spoil: func(m machine, _ string) { _ = os.Remove(filepath.Join(m.Toolchain, Programs)) }},
		"a list of another kind":    {spoil: func(m machine, _ string) { put(t, filepath.Join(m.Toolchain, Programs), "gcc 14\n") }},
		"a path out of the image":   {spoil: func(m machine, own string) { outside(t, m, own) }},
		"no twin":                   {spoil: func(m machine, _ string) { _ = os.Remove(filepath.Join(m.Toolchain, "gcc-14/cc1")) }},
		"another twin than listed":  {spoil: func(m machine, _ string) { put(t, filepath.Join(m.Toolchain, "gcc-14/cc1"), "#!/bin/sh\n") }},
		"a mended twin, not listed": {spoil: func(m machine, _ string) {
			name := filepath.Join(m.Toolchain, "gcc-14/cc1")
			dt, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			put(t, name, string(dt)+"x")
		}},
		"no loader":                {spoil: func(m machine, _ string) { _ = os.Remove(m.loader()) }},
		"another machine's loader": {spoil: func(m machine, _ string) { foreign(t, m.loader()) }},
		"a twin of another machine's": {spoil: func(m machine, own string) {
			foreign(t, filepath.Join(m.Toolchain, "gcc-14/cc1"))
			list(t, m, own, "gcc-14/cc1")
		}},
		"truncated": {spoil: func(m machine, _ string) {
			if err := os.Truncate(filepath.Join(m.Toolchain, "gcc-14/cc1"), 4096); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m, own := gccImage(t)
			if tc.spoil != nil {
				tc.spoil(m, own)
			}
			for range 2 { // the second time from memory
				if twin, ok := m.toolTwin(own); ok != tc.ok || ok && twin != filepath.Join(m.Toolchain, "gcc-14/cc1") {
					t.Fatalf("twin %q, %v", twin, ok)
				}
			}
		})
	}
}

func foreign(t *testing.T, name string) {
	t.Helper()
	dt, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	dt[18] = 22 // e_machine, EM_S390
	put(t, name, string(dt))
}

func outside(t *testing.T, m machine, own string) {
	t.Helper()
	a, err := digestOf(own)
	info, err2 := os.Stat(own)
	b, err3 := digestOf("/bin/sh")
	if err := errors.Join(err, err2, err3); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(m.Toolchain, Programs), fmt.Sprintf("%s %d %s ../../../../../../bin/sh\n", a, info.Size(), b))
}

// TestMemory finds another compiler in the place of one that was looked at, and does not believe a folder that others can write to.
func TestMemory(t *testing.T) {
	m, own := gccImage(t)
	if _, ok := m.toolTwin(own); !ok {
		t.Fatal("no twin")
	}
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	put(t, own, "The target's compiler")
	if twin, ok := m.toolTwin(own); ok {
		t.Errorf("%s is the twin of a compiler that was installed in its place", twin)
	}
	dir := filepath.Join(m.Memory, fmt.Sprintf(".manifold-%d", os.Getuid()))
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	// The answer that lies there is right, and is found out anew: anybody can have written it.
	asked := 0
	for range 2 {
		if _, err := m.remember("key", func() (string, error) { asked++; return "", nil }); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times where others can write", asked)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := m.remember("key", func() (string, error) { asked++; return "", nil }); err != nil || asked != 3 {
			t.Errorf("asked %d times, %v: what this user wrote is remembered", asked, err)
		}
	}
}

// TestSuits are the options with which a compiler's twin would do something else.
func TestSuits(t *testing.T) {
	m, own := gccImage(t)
	for args, ok := range map[string]bool{
		"-quiet -O2 a.c -o a.s": true, "-nostdinc -O2 a.c -o a.s": true,
		"-fplugin=/x.so a.c": false, "-isysroot /x a.c": false, "--output-pch x.gch a.h": false, "-o a.h.gch a.h": false, "-finput-charset=latin1 a.c": false,
		"-v a.c": false, "-version a.c": false, "@args": false, "-fmodules-ts a.cc": false,
	} {
		// Where headers are found is asked of a real compiler, in the cases of integration/testdata/differential.
		words := strings.Fields(args)
		if ok {
			words = append(words, "-nostdinc")
		}
		if _, got := m.suits("cc1plus", own, own, words); got != ok {
			t.Errorf("cc1plus %s: %v, want %v", args, got, ok)
		}
	}
	for args, ok := range map[string]bool{"-o a.o a.s": true, "--version": false, "-v": false} {
		if _, got := m.suits("as", own, own, strings.Fields(args)); got != ok {
			t.Errorf("as %s: %v, want %v", args, got, ok)
		}
	}
	for args, ok := range map[string]bool{"-o a a.o": true, "-fuse-ld=gold -o a a.o": false} {
		if _, got := m.suits("collect2", own, own, strings.Fields(args)); got != ok {
			t.Errorf("collect2 %s: %v, want %v", args, got, ok)
		}
	}
	m.Getenv = func(name string) string { return map[string]string{"LD_PRELOAD": "/usr/lib/libjemalloc.so"}[name] }
	if _, ok := m.suits("as", own, own, []string{"-o", "a.o", "a.s"}); ok {
		t.Error("a library of the target's is loaded into its twin")
	}
}

// TestPrecompiled finds the headers that a compiler may take from its own memory.
func TestPrecompiled(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "with/all.h.gch"), "")
	put(t, filepath.Join(dir, "without/all.h"), "")
	t.Chdir(dir)
	for args, want := range map[string]bool{
		"-quiet main.c": false, "-quiet -I with main.c": true, "-Iwith main.c": true, "-Iwithout main.c": false, "-quiet with/main.c": true,
		"-include with/all.h without/main.c": true, "without/all.h -o without/all.h.gch": true,
	} {
		if got := precompiled(strings.Fields(args)); got != want {
			t.Errorf("%s: %v, want %v", args, got, want)
		}
	}
}

// TestCompilerPath joins the user's own folders with ours, says which compilers there is no tool chain for, and does nothing without one.
func TestCompilerPath(t *testing.T) {
	m, own := gccImage(t)
	m.Getenv = func(name string) string { return map[string]string{"COMPILER_PATH": "/opt/own:/opt/other"}[name] }
	said := new(bytes.Buffer)
	m.Stderr = said
	if v, ok := m.compilerPath(); !ok || v != "/opt/own:/opt/other:/bin-of-accel/gcc" || said.Len() > 0 {
		t.Errorf("COMPILER_PATH=%q, %v, said %q", v, ok, said)
	}
	put(t, own, "a compiler that somebody built")
	if _, ok := m.compilerPath(); !ok || !strings.Contains(said.String(), own) {
		t.Errorf("said %q", said)
	}
	m.Toolchain = t.TempDir()
	if v, ok := m.compilerPath(); ok {
		t.Errorf("COMPILER_PATH=%q without a tool chain", v)
	}
}

// TestWithPlugin gives a linker the twin of gcc's plug-in, and steps aside from every other.
func TestWithPlugin(t *testing.T) {
	m, own := gccImage(t)
	at := t.TempDir()
	put(t, filepath.Join(at, "with"), "-plugin /x.so\n")
	put(t, filepath.Join(at, "without"), "a.o b.o\n")
	got, ok := m.withPlugin([]string{"-plugin", own, "-o", "a", "@" + at + "/without"})
	if want := []string{"-plugin", filepath.Join(m.Toolchain, "gcc-14/cc1"), "-o", "a", "@" + at + "/without"}; !ok || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, ok, want)
	}
	for _, args := range [][]string{{"-plugin", "/elsewhere.so"}, {"-plugin=/x.so"}, {"--plugin", "/x.so"}, {"@" + at + "/with"}, {"@/nowhere"}} {
		if got, ok := m.withPlugin(args); ok {
			t.Errorf("%q: %q", args, got)
		}
	}
}

// TestSearchList reads what gcc says of its folders.
func TestSearchList(t *testing.T) {
	const said = "ignoring nonexistent directory \"/x\"\n#include \"...\" search starts here:\n /q\n#include <...> search starts here:\n /usr/lib/gcc/x/14/include\n /usr/include\nEnd of search list.\n"
	if dirs, ok := searchList(said); !ok || !slices.Equal(dirs, []string{"/usr/lib/gcc/x/14/include", "/usr/include"}) {
		t.Errorf("%q, %v", dirs, ok)
	}
	if dirs, ok := searchList("#include <...> search starts here:\n /usr/include\n"); ok {
		t.Errorf("a list without an end: %q", dirs)
	}
}

// TestOwnTool asks a driver for a program that is not there at first: that is not remembered.
func TestOwnTool(t *testing.T) {
	m, own := gccImage(t)
	dir := t.TempDir()
	driver, asked := filepath.Join(dir, "g++"), filepath.Join(dir, "asked")
	m.Getenv = func(name string) string {
		return map[string]string{"COLLECT_GCC": driver, "PATH": os.Getenv("PATH"), "COMPILER_PATH": "/opt/own:" + filepath.Join(m.Bin, gccDir)}[name]
	}
	t.Setenv("COMPILER_PATH", m.Getenv("COMPILER_PATH"))
	put(t, driver, "#!/bin/sh\necho \"$COMPILER_PATH\" >>"+asked+"\ncat "+dir+"/answer\n")
	put(t, filepath.Join(dir, "answer"), "cc1plus-of-nobody\n")
	if got, _, err := m.ownTool("cc1plus"); err == nil || !strings.Contains(err.Error(), "cc1plus") {
		t.Fatalf("%q, %v", got, err)
	}
	put(t, filepath.Join(dir, "answer"), own+"\n")
	for range 2 {
		if got, called, err := m.ownTool("cc1plus"); err != nil || got != own || called != own {
			t.Fatalf("%q, called %q, %v", got, called, err)
		}
	}
	dt, err := os.ReadFile(asked)
	if err != nil || string(dt) != "/opt/own\n/opt/own\n" {
		t.Errorf("asked with COMPILER_PATH %q, %v", dt, err)
	}
}

// TestLinker finds the linker that collect2 would have, whose place this program has in a folder of its own.
func TestLinker(t *testing.T) {
	m, _ := gccImage(t)
	dir := t.TempDir()
	ours := filepath.Join(m.Bin, gccDir)
	put(t, filepath.Join(dir, "b/ld"), "")
	put(t, filepath.Join(dir, "path/ld"), "")
	t.Setenv("PATH", filepath.Join(dir, "path"))
	for list, want := range map[string]string{ours + "/:/usr/libexec/nowhere/": "path/ld", dir + "/b/:" + ours + "/": "b/ld", ours + ":" + dir + "/b": "b/ld"} {
		t.Setenv("COMPILER_PATH", list)
		m.Getenv = os.Getenv
		m.setLinker()
		if got := os.Getenv("COMPILER_PATH"); !strings.Contains(got, filepath.Join(m.Bin, linkerDir)) || strings.Contains(got, ours) {
			t.Errorf("COMPILER_PATH=%s for %s", got, list)
		}
		if got, err := m.ownLinker(); err != nil || got != filepath.Join(dir, want) {
			t.Errorf("%s: %q, %v, want %s", list, got, err, want)
		}
	}
}

// TestSameFolders uses a twin only where it looks for headers in the folders that the stage's own compiler looks in, and in no others.
func TestSameFolders(t *testing.T) {
	const said = "#!/bin/sh\nprintf '#include <...> search starts here:\\n /usr/lib/gcc/x/14/include\\n /usr/include%s\\nEnd of search list.\\n' >&2\n"
	for more, ok := range map[string]bool{"": true, "\\n /usr/x-linux-gnu/include": false} {
		m, own := gccImage(t)
		put(t, own, strings.Replace(said, "%s", "", 1))
		put(t, m.loader(), strings.Replace(said, "%s", more, 1))
		list, err := m.sameFolders("cc1", own, own, []string{"-E"})
		if (err == nil) != ok || ok && list != "/usr/lib/gcc/x/14/include\n/usr/include" {
			t.Errorf("the twin has %q more: %q, %v", more, list, err)
		}
		if args, got := m.headers("cc1", own, own, nil); got != ok || slices.Contains(args, "-nostdinc") {
			t.Errorf("the twin has %q more: %q, %v", more, args, got)
		}
	}
}
