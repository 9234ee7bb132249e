package accel

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestBuildCommand reads command lines of cargo's, an emulator's words before them or not.
func TestBuildCommand(t *testing.T) {
	for line, want := range map[string]string{
		"cargo build": "cargo build",
		"/usr/bin/qemu-aarch64-static /usr/bin/cargo cargo build --release":                  "cargo build --release",
		"/usr/local/cargo/bin/cargo +1.85 b -r -j4 --target-dir /t -p app":                   "cargo build -r -p app",
		"cargo build --features=a,b --target-dir=/t --target aarch64-unknown-linux-musl -Fc": "cargo build --features a,b --target aarch64-unknown-linux-musl -F c",
		"cargo run --release --bin app -- build --all":                                       "cargo build --release --bin app",
		"cargo rustc -v --lib --profile=dist -- -C lto":                                      "cargo build --lib --profile dist",
		"cargo test --no-fail-fast --manifest-path a/Cargo.toml":                             "cargo build --manifest-path a/Cargo.toml --tests",
		"cargo t --tests --config net.retry=1 --color always":                                "cargo build --tests --config net.retry=1",
		"cargo bench --profile fast":                                                         "cargo build --profile fast --benches",
		"cargo install --path crates/cli --root /out --locked":                               "cargo build --manifest-path crates/cli/Cargo.toml --locked --release",
		"cargo install --debug --path .":                                                     "cargo build --manifest-path Cargo.toml",
		"cargo build -pone -vv --all-features --no-default-features --frozen --build-plan":   "cargo build -p one --all-features --no-default-features --frozen",
		"cargo b --workspace --exclude x --all-targets --offline --message-format json -p":   "cargo build --workspace --exclude x --all-targets --offline -p ",
		"cargo clippy": "", "build": "", "make build": "", "cargo": "", "": "", "sh -c cargo": "", "cargo-build build": "",
	} {
		got, err := buildCommand(strings.Fields(line))
		if strings.Join(got, " ") != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", line, got, err, want)
		}
	}
}

// replayOf prepares a target folder that was filled before, and one that cargo fills again.
func replayOf(t *testing.T) (m machine, before, now string) {
	t.Helper()
	m = rustImage(t)
	before, now = filepath.Join(m.Root, "src/target"), filepath.Join(m.Root, "state/replay")
	put(t, filepath.Join(before, targetTag), "")
	put(t, filepath.Join(now, "release/deps/x"), "")
	vars := map[string]string{replayed: before, "CARGO_TARGET_DIR": now, "OUT_DIR": filepath.Join(now, "release/build/words-1/out")}
	was := m.Getenv
	m.Getenv = func(name string) string {
		if v, ok := vars[name]; ok {
			return v
		}
		return was(name)
	}
	return m, before, now
}

// TestRustRecord records the crates whose libraries are there, as they were compiled, and leaves what cargo looks for in the other folder alone.
func TestRustRecord(t *testing.T) {
	m, before, now := replayOf(t)
	t.Setenv("OUT_DIR", filepath.Join(now, "release/build/words-1/out"))
	t.Setenv(replayed, before)
	t.Setenv("CARGO_MANIFEST_DIR", filepath.Join(m.Root, "vendor/words"))
	deps := filepath.Join(before, "release/deps")
	put(t, filepath.Join(deps, "libwords-1.rlib"), "code")
	put(t, filepath.Join(deps, "libshape.rlib"), "code")
	compile := func(crate, kind, extra string) []string {
		return []string{"rustc", "--crate-name", crate, "--crate-type", kind, "--emit=link", "-C", "extra-filename=" + extra, "--out-dir", filepath.Join(now, "release/deps"),
			"-L", "dependency=" + filepath.Join(now, "release/deps"), "--extern", "a=" + filepath.Join(now, "release/deps/liba-3.rmeta")}
	}
	m.record(crate(t, "shape", deps)) // in this instruction
	was, err := os.ReadFile(filepath.Join(mustCrates(t, m, deps), "libshape.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{compile("words", "lib", "-1"), compile("gone", "lib", "-9"), compile("shape", "lib", ""), compile("app", "bin", "-4"), compile("build_script_build", "bin", "-5")} {
		if err := m.rustRecord(words); err != nil {
			t.Fatal(err)
		}
	}
	how, err := m.recorded(filepath.Join(deps, "libwords-1"))
	if err != nil || !how.Earlier || how.Dir == "" || strings.Contains(strings.Join(how.Args, " "), now) || !slices.Contains(how.Args, "a="+filepath.Join(deps, "liba-3.rmeta")) {
		t.Errorf("%+v, %v", how.Args, err)
	}
	for _, v := range how.Env {
		if strings.Contains(v, now) || strings.HasPrefix(v, replayed) || strings.HasPrefix(v, "OUT_DIR=") && v != "OUT_DIR="+filepath.Join(before, "release/build/words-1/out") {
			t.Error("in the environment of then:", v)
		}
	}
	if _, err := m.recorded(filepath.Join(deps, "libgone-9")); err == nil {
		t.Error("a crate that was not compiled has a record")
	}
	if is, err := os.ReadFile(filepath.Join(mustCrates(t, m, deps), "libshape.json")); err != nil || !bytes.Equal(is, was) {
		t.Errorf("what was recorded in this instruction is now %s, %v", is, err)
	}
	for name, there := range map[string]bool{"libwords-1.rmeta": true, "libgone-9.rlib": true, "words-1.d": true, "app-4.d": true, "libapp-4.rlib": false} {
		if exists(filepath.Join(now, "release/deps", name)) != there {
			t.Errorf("%s: %v", name, !there)
		}
	}
	if to, err := os.Readlink(filepath.Join(now, "release/deps/build_script_build-5")); err != nil || to != filepath.Join(m.Bin, Name) {
		t.Error(to, err)
	}
	if exists(filepath.Join(before, "release/deps/libgone-9.rlib")) {
		t.Error("something was written into the target folder")
	}
	outside := compile("words", "lib", "-1")
	outside[9] = m.Root
	if err := m.rustRecord(outside); err == nil {
		t.Error("a crate of another folder is recorded")
	}

	// Its sources may have changed, unless they are published.
	if how.published() {
		t.Error("a package of the user's is taken for published")
	}
	for _, mark := range []string{".cargo-ok", ".cargo-checksum.json"} {
		put(t, filepath.Join(m.Root, "vendor/words", mark), "")
		if !how.published() {
			t.Error(mark)
		}
		if err := os.Remove(filepath.Join(m.Root, "vendor/words", mark)); err != nil {
			t.Fatal(err)
		}
	}
	program, err := sayer()
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(m.Twin, "usr/bin/rustc"), string(program))
	u, _ := readUnit(how.Args)
	r := rust{target: theirs, host: here, sysroot: "/usr", twin: filepath.Join(m.Twin, "usr/bin/rustc")}
	if err := m.compileHere(r, u, how, t.TempDir()); err == nil || !strings.Contains(err.Error(), "from other sources than are there now; to have") {
		t.Error("a package whose sources may have changed is compiled", err)
	}
	if dt, err := os.ReadFile(filepath.Join(m.Twin, "usr/bin/rustc.args")); err != nil || !strings.HasPrefix(string(dt), "--sysroot /usr --target "+theirs+" --crate-name words ") || strings.Contains(string(dt), "--out-dir "+deps) {
		t.Errorf("compiled again by %s, %v", dt, err)
	}
}

func mustCrates(t *testing.T, m machine, dir string) string {
	t.Helper()
	to, err := m.crates(dir)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestReplayScript says what a build script has said, if that was for the same folder.
func TestReplayScript(t *testing.T) {
	m, before, _ := replayOf(t)
	dir := filepath.Join(before, "release/build/words-1")
	var out bytes.Buffer
	if err := m.replayScript(&out); err == nil {
		t.Error("a script that never ran says something")
	}
	put(t, filepath.Join(dir, "output"), "cargo:rustc-cfg=loud\n")
	put(t, filepath.Join(dir, "root-output"), "/elsewhere/target/release/build/words-1/out")
	if err := m.replayScript(&out); err == nil || out.Len() > 0 {
		t.Error("a script that ran for another folder says something", out.String())
	}
	put(t, filepath.Join(dir, "root-output"), filepath.Join(dir, "out"))
	if err := m.replayScript(&out); err != nil || out.String() != "cargo:rustc-cfg=loud\n" {
		t.Error(out.String(), err)
	}
	if dir, err := targetFolder(filepath.Join(before, "release/deps")); err != nil || dir != before {
		t.Error(dir, err)
	}
	if dir, err := targetFolder(m.Root); err == nil {
		t.Error("no target folder is found to be", dir)
	}
}
