package accel

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestReadUnit reads what cargo tells a compiler, and leaves alone what a twin would do otherwise.
func TestReadUnit(t *testing.T) {
	const cargos = "--crate-name serde --edition=2018 src/lib.rs --error-format=json --json=artifacts --crate-type lib --emit=dep-info,metadata,link -C opt-level=3 " +
		"-C metadata=ab -C extra-filename=-cd --out-dir /t/deps -L dependency=/t/deps --extern serde_derive=/t/deps/libserde_derive-ef.so --cap-lints allow"
	u, ok := readUnit(strings.Fields(cargos))
	if !ok || u.stem() != "libserde-cd" || u.outDir != "/t/deps" || !slices.Equal(u.deps, []string{"/t/deps"}) || !slices.Equal(u.crates, []string{"/t/deps/libserde_derive-ef.so"}) || u.links() {
		t.Errorf("%+v, %v", u, ok)
	}
	for more, want := range map[string]bool{
		"-C target-cpu=neoverse-n1": true, "-C target-cpu=native": false, "-Ctarget-cpu=native": false, "--codegen=target_cpu=native": false, "-Ztime-passes": false,
		"--print=cfg": false, "--print cfg": false, "--sysroot /x": false, "@args": false, "--target=x.json": false, "--target aarch64-unknown-linux-musl": true, "-vV": false, "-v": false,
	} {
		if _, ok := readUnit(strings.Fields(cargos + " " + more)); ok != want {
			t.Errorf("%s: %v", more, ok)
		}
	}
	for more, want := range map[string]bool{"": false, "-C linker=cc": false, "-C linker=rust-lld": true, "-Clinker-flavor=gnu-lld-cc": true, "-C link-self-contained=yes": true} {
		if u, _ := readUnit(strings.Fields(cargos + " " + more)); u.lld != want {
			t.Errorf("%s: %v", more, u.lld)
		}
	}
	for _, args := range []string{"-vV", "--crate-name x -", "- --crate-name ___ --print=file-names"} {
		if _, ok := readUnit(strings.Fields(args)); ok {
			t.Error(args)
		}
	}
	if u, _ := readUnit([]string{"--crate-name", "m", "--emit=link", "--crate-type=proc-macro"}); !u.links() || !u.is("proc-macro") {
		t.Errorf("%+v", u)
	}
}

func TestHostTriple(t *testing.T) {
	for target, want := range map[string]string{
		"s390x-unknown-linux-gnu": "-unknown-linux-gnu", "armv7-unknown-linux-gnueabihf": "-unknown-linux-gnu", "armv7-unknown-linux-musleabihf": "-unknown-linux-musl",
		"aarch64-alpine-linux-musl": "-alpine-linux-musl", "x86_64-pc-windows-msvc": "", "thumbv7em-none-eabihf": "", "": "",
	} {
		got, err := hostTriple(target)
		if _, rest, _ := strings.Cut(got, "-"); (err == nil) != (want != "") || err == nil && "-"+rest != want {
			t.Errorf("%s: %q, %v", target, got, err)
		}
	}
}

// rustImage makes a compiler of the stage's and its twin, as scripts that say what they are. They cannot be the twin's: that has to be of this machine.
func rustImage(t *testing.T) machine {
	t.Helper()
	dir := t.TempDir()
	m := machine{
		Root: filepath.Join(dir, "root"), Twin: filepath.Join(dir, "twin"), Bin: "/bin-of-accel", State: filepath.Join(dir, "state"), Memory: filepath.Join(dir, "shm"),
		Getenv: func(string) string { return "" }, Stderr: new(bytes.Buffer),
	}
	for _, d := range []string{m.State, m.Memory} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// TestResolve follows links of the twin inside of it, and never out of it.
func TestResolve(t *testing.T) {
	m := rustImage(t)
	put(t, filepath.Join(m.Twin, "usr/lib64/ld.so"), "")
	for name, to := range map[string]string{"lib64": "usr/lib64", "usr/abs": "/usr/lib64", "up": "../../../../usr/lib64", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(m.Twin, name)); err != nil {
			t.Fatal(err)
		}
	}
	for path, ok := range map[string]bool{"/lib64/ld.so": true, "/usr/abs/ld.so": true, "/up/ld.so": true, "/usr/lib64/../lib64/ld.so": true, "/loop/ld.so": false, "/etc/passwd": false} {
		at, err := m.resolve(path)
		if (err == nil) != ok || ok && at != filepath.Join(m.Twin, "usr/lib64/ld.so") {
			t.Errorf("%s: %q, %v", path, at, err)
		}
	}
}

// TestRustupsCompiler finds the compiler behind rustup's proxy by the tool chain that rustup has named.
func TestRustupsCompiler(t *testing.T) {
	m := rustImage(t)
	home := filepath.Join(m.Root, "usr/local/rustup")
	own := filepath.Join(home, "toolchains/1.85.1-aarch64-unknown-linux-gnu/bin/rustc")
	put(t, own, "")
	proxy := filepath.Join(m.Root, "usr/local/cargo/bin/rustup")
	put(t, proxy, "rustup")
	for _, name := range []string{"rustc", "cargo"} {
		if err := os.Link(proxy, filepath.Join(filepath.Dir(proxy), name)); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{}
	m.Getenv = func(name string) string { return env[name] }
	for _, tc := range []struct{ command, chain, want string }{
		{own, "", own},
		{filepath.Join(filepath.Dir(proxy), "rustc"), "1.85.1-aarch64-unknown-linux-gnu", own},
		{filepath.Join(filepath.Dir(proxy), "rustc"), filepath.Dir(filepath.Dir(own)), own},
		{filepath.Join(filepath.Dir(proxy), "rustc"), "", ""},
		{filepath.Join(filepath.Dir(proxy), "rustc"), "nightly", ""},
	} {
		env = map[string]string{"RUSTUP_HOME": home, "RUSTUP_TOOLCHAIN": tc.chain}
		if got, err := m.withoutProxy(tc.command); got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s with %q: %q, %v", tc.command, tc.chain, got, err)
		}
	}
}

// TestSamePackages compares what a distribution has built twice: a rebuild is the same source, a revision is not.
func TestSamePackages(t *testing.T) {
	const status = "Package: rustc\nStatus: install ok installed\nVersion: %s\n\nPackage: libllvm19\nVersion: 1:19.1.7-3+b1\n\nPackage: libc6\nVersion: %s\n\n"
	for versions, same := range map[[4]string]bool{
		{"1.85.0+dfsg3-1", "2.41-12", "1.85.0+dfsg3-1", "2.41-12"}:         true,
		{"1.85.0+dfsg3-1", "2.41-12", "1.85.0+dfsg3-1+b2", "2.41-12+b2"}:   true,
		{"1.85.0+dfsg3-1", "2.41-12", "1.85.0+dfsg3-1", "2.41-13"}:         true,
		{"1.85.0+dfsg3-1", "2.41-12", "1.85.0+dfsg3-1+deb13u1", "2.41-12"}: false,
	} {
		m := rustImage(t)
		put(t, filepath.Join(m.Root, "var/lib/dpkg/status"), fmt.Sprintf(status, versions[0], versions[1]))
		put(t, filepath.Join(m.Twin, "var/lib/dpkg/status"), fmt.Sprintf(status, versions[2], versions[3]))
		if err := m.samePackages(); (err == nil) != same {
			t.Errorf("%v: %v", versions, err)
		}
	}
	m := rustImage(t)
	put(t, filepath.Join(m.Root, "lib/apk/db/installed"), "P:rust\nV:1.83.0-r0\n\n")
	if err := m.samePackages(); err == nil {
		t.Error("a twin without the package is the same")
	}
}

// TestStateIsOwn keeps what is loaded in a folder that nobody else can write to.
func TestStateIsOwn(t *testing.T) {
	m := rustImage(t)
	dir, ok := m.ownFolder()
	if !ok || filepath.Dir(dir) != m.State {
		t.Fatal(dir, ok)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if dir, ok := m.ownFolder(); !ok || filepath.Dir(dir) != m.Memory {
		t.Error("a folder of everybody's is used", dir, ok)
	}
	if err := errors.Join(os.Chmod(dir, 0o700), os.Lchown(dir, 65534, -1)); err != nil {
		t.Fatal(err)
	}
	if dir, ok := m.ownFolder(); !ok || filepath.Dir(dir) != m.Memory {
		t.Error("another user's folder is used", dir, ok)
	}
	if err := os.RemoveAll(m.Memory); err != nil {
		t.Fatal(err)
	}
	if dir, ok := m.ownFolder(); ok {
		t.Error("there is none", dir)
	}
}

// TestConfiguredWrapper reads cargo's configuration for a wrapper: the nearest counts, and a path is the folder's that .cargo lies in.
func TestConfiguredWrapper(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	project, home := filepath.Join(dir, "a/b"), filepath.Join(dir, "home/.cargo")
	for name, tc := range map[string]struct {
		files map[string]string
		want  string
	}{
		"none":            {},
		"project's":       {files: map[string]string{project + "/.cargo/config.toml": "[build]\nrustc-wrapper = \"sccache\"\n"}, want: "sccache"},
		"above, old name": {files: map[string]string{dir + "/a/.cargo/config": "build.rustc-wrapper = '/x y'"}, want: "/x y"},
		"user's":          {files: map[string]string{home + "/config.toml": "[build]\nrustc-wrapper = \"sccache\""}, want: "sccache"},
		"off":             {files: map[string]string{project + "/.cargo/config.toml": "[build]\nrustc-wrapper = \"\"", home + "/config.toml": "[build]\nrustc-wrapper = \"sccache\""}},
		"a path":          {files: map[string]string{dir + "/a/.cargo/config.toml": "[build]\nrustc-wrapper = \"bin/wrap\""}, want: dir + "/a/bin/wrap"},
		"commented out":   {files: map[string]string{project + "/.cargo/config.toml": "[build]\n# rustc-wrapper = \"a\"\n"}},
		"another wrapper": {files: map[string]string{project + "/.cargo/config.toml": "[build]\nrustc-workspace-wrapper = \"a\"\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			for file, text := range tc.files {
				put(t, file, text)
				t.Cleanup(func() { _ = os.Remove(file) })
			}
			m := machine{Getenv: func(name string) string { return map[string]string{"CARGO_HOME": home}[name] }}
			if got, ok := m.wrapperBelow(project); got != tc.want || ok != (tc.want != "") {
				t.Errorf("%q, %v", got, ok)
			}
		})
	}
}

// TestCompilation leaves to the stage's own compiler what its twin would do otherwise.
func TestCompilation(t *testing.T) {
	m := rustImage(t)
	r := rust{target: "aarch64-unknown-linux-gnu", sysroot: m.Root, twin: filepath.Join(m.Twin, "rustc")}
	put(t, r.twin, "")
	program(t, r.twin)
	for more, tc := range map[string]struct {
		ok      bool
		preload string
	}{
		"": {ok: true}, "--target aarch64-unknown-linux-musl": {ok: true}, "--target wasm32-unknown-unknown": {}, "-C linker=rust-lld": {}, "--cfg a": {preload: "/lib/libjemalloc.so"},
	} {
		m.Getenv = func(name string) string { return map[string]string{"LD_PRELOAD": tc.preload}[name] }
		u, ok := readUnit(strings.Fields("--crate-name x --crate-type bin --emit=link " + more))
		if args, err := m.compilation(r, u); !ok || (err == nil) != tc.ok || tc.ok && !slices.Contains(args, "--sysroot") {
			t.Errorf("%s: %q, %v", more, args, err)
		}
	}
	m.Getenv = func(string) string { return "" }
	r.target = "x86_64-unknown-linux-gnu"
	put(t, filepath.Join(r.sysroot, "lib/rustlib", r.target, "bin/gcc-ld/ld.lld"), "")
	u, _ := readUnit(strings.Fields("--crate-name x --crate-type bin --emit=link"))
	if args, err := m.compilation(r, u); err == nil {
		t.Errorf("a release that links with its own linker: %q", args)
	}
}

// TestSayOnce writes to the step's log once, and not to a file that a shell has put in its place.
func TestSayOnce(t *testing.T) {
	m := rustImage(t)
	m.Log = filepath.Join(m.Root, "log")
	redirected := filepath.Join(m.Root, "file")
	put(t, m.Log, "")
	put(t, redirected, "")
	dir, ok := m.ownFolder()
	if !ok {
		t.Fatal("no folder")
	}
	m.sayOnce("before it is known")
	put(t, filepath.Join(dir, "log"), fileOf(m.Log))
	m.sayOnce("rustc is emulated")
	m.sayOnce("rustc is emulated")
	other := m
	other.Log = redirected
	other.sayOnce("another thing")
	for file, want := range map[string]string{m.Log: "manifold: rustc is emulated\n", redirected: ""} {
		if dt, err := os.ReadFile(file); err != nil || string(dt) != want {
			t.Errorf("%s: %q, %v", file, dt, err)
		}
	}
}

// sayer is a static program of this machine that prints the file beside it, and notes its arguments in another.
var sayer = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "accel-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	const src = "package main\n\nimport (\n\t\"os\"\n\t\"strings\"\n)\n\nfunc main() {\n\t_ = os.WriteFile(os.Args[0]+\".args\", []byte(strings.Join(os.Args[1:], \" \")), 0o600)\n\tdt, _ := os.ReadFile(os.Args[0] + \".said\")\n\tos.Stdout.Write(dt)\n}\n"
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(src), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "build", "-o", dir+"/sayer", dir+"/main.go")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	return os.ReadFile(dir + "/sayer")
})

// TestSameRust breaks a twin in every way that is known: each time the stage's own compiler is run.
func TestSameRust(t *testing.T) {
	const said = "rustc 1.85.1 (4eb161250 2025-03-15)\nbinary: rustc\ncommit-hash: 4eb1612\nhost: %s\nrelease: 1.85.1\nLLVM version: 19.1.7\n"
	const target = "armv7-unknown-linux-gnueabihf"
	host, err := hostTriple(target)
	if err != nil {
		t.Fatal(err)
	}
	program, err := sayer()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, own, twin string)
		ok    bool
	}{
		"the same":          {ok: true},
		"another release":   {spoil: func(t *testing.T, _, twin string) { t.Helper(); replace(t, twin+".said", "1.85.1", "1.85.2") }},
		"another commit":    {spoil: func(t *testing.T, _, twin string) { t.Helper(); replace(t, twin+".said", "4eb1612\n", "4eb1613\n") }},
		"another LLVM":      {spoil: func(t *testing.T, _, twin string) { t.Helper(); replace(t, twin+".said", "19.1.7", "19.1.8") }},
		"another machine's": {spoil: func(t *testing.T, _, twin string) { t.Helper(); replace(t, twin+".said", host, target) }},
		"another revision": {spoil: func(t *testing.T, own, twin string) {
			t.Helper()
			for root, version := range map[string]string{strings.TrimSuffix(own, "/usr/bin/rustc"): "1", strings.TrimSuffix(strings.TrimSuffix(twin, own), "/"): "2"} {
				put(t, filepath.Join(root, "var/lib/dpkg/status"), "Package: rustc\nVersion: "+version+"\n\n")
			}
		}},
		"says nothing":     {spoil: func(t *testing.T, _, twin string) { t.Helper(); put(t, twin+".said", "") }},
		"own says nothing": {spoil: func(t *testing.T, own, _ string) { t.Helper(); put(t, own+".said", "") }},
		"no twin":          {spoil: func(_ *testing.T, _, twin string) { _ = os.Remove(twin) }},
		"a script":         {spoil: func(t *testing.T, _, twin string) { t.Helper(); put(t, twin, "#!/bin/sh\n") }},
		"foreign":          {spoil: func(t *testing.T, _, twin string) { t.Helper(); foreign(t, twin) }},
		"truncated":        {spoil: func(_ *testing.T, _, twin string) { _ = os.Truncate(twin, 4096) }},
		"no library": {spoil: func(_ *testing.T, own, _ string) {
			_ = os.RemoveAll(filepath.Dir(filepath.Dir(own)) + "/lib/rustlib/" + target)
		}},
		"no library of its own": {spoil: func(_ *testing.T, _, twin string) {
			_ = os.RemoveAll(filepath.Dir(filepath.Dir(twin)) + "/lib/rustlib/" + host)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := rustImage(t)
			own := filepath.Join(m.Root, "usr/bin/rustc")
			twin := filepath.Join(m.Twin, own)
			for file, triple := range map[string]string{own: target, twin: host} {
				put(t, file, string(program))
				put(t, file+".said", fmt.Sprintf(said, triple))
				put(t, filepath.Join(filepath.Dir(filepath.Dir(file)), "lib/rustlib", triple, "lib/libstd.rlib"), "")
			}
			if tc.spoil != nil {
				tc.spoil(t, own, twin)
			}
			r, err := m.sameRust(own)
			if (err == nil) != tc.ok {
				t.Fatalf("%+v, %v", r, err)
			}
			if tc.ok && (r.target != target || r.host != host || r.twin != twin || r.sysroot != filepath.Dir(filepath.Dir(own))) {
				t.Errorf("%+v", r)
			}
		})
	}
}

func replace(t *testing.T, name, old, with string) {
	t.Helper()
	dt, err := os.ReadFile(name)
	if err != nil || !strings.Contains(string(dt), old) {
		t.Fatal(name, err)
	}
	put(t, name, strings.ReplaceAll(string(dt), old, with))
}
