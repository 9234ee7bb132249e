package verify

import (
	"archive/tar"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var (
	armV8Library = program{machine: 40, arch: 14, hard: true, kind: elfShared}.bytes()
	armV6        = program{machine: 40, arch: 6, hard: true}.bytes()
	armV7        = program{machine: 40, arch: 10, hard: true}.bytes()
	debugFile    = program{machine: 183, wide: true, interp: muslLoader, debug: true}.bytes()
	windowsARM64 = peFile(0xaa64)
)

// peFile is a program for Windows.
func peFile(machine uint16) []byte {
	b := make([]byte, 0x80+24+240)
	copy(b, "MZ")
	b[0x3c] = 0x80
	copy(b[0x80:], "PE\x00\x00")
	b[0x84], b[0x85] = byte(machine), byte(machine>>8)
	b[0x94] = 240
	b[0x98], b[0x99] = 0x0b, 0x02
	return b
}

// TestRules judges layouts that real images have: those that are right, and those in which something is not.
func TestRules(t *testing.T) {
	t.Parallel()
	type files = []item
	script := func(text string) []byte { return []byte(text) }
	plain := func(name string, data []byte) item { return item{name: name, data: data, mode: 0o644} }
	for _, tc := range []struct {
		name     string
		platform string // linux/arm64 if empty
		says     string // what the index says, where that is something else
		config   ocispec.ImageConfig
		layers   []files // on top of alpine
		verdict  Verdict
		// refused are the beginnings of what is refused, warned of what is warned of.
		refused, warned []string
	}{
		// Right as they are.
		{name: "level of a library", platform: "linux/arm/v7", layers: []files{{plain("usr/lib/libgcrypt.so.20", armV8Library), {name: "usr/bin/app", data: armV7}}}, verdict: Verified},
		{name: "config without a variant", platform: "linux/arm", says: "linux/arm/v6", layers: []files{{{name: "usr/bin/app", data: armV6}}}, verdict: Verified, warned: []string{"its config says linux/arm"}},
		{name: "bin of a package", layers: []files{{{name: "srv/node_modules/@esbuild/linux-x64/bin/esbuild", data: amd64Static}, {name: "srv/node_modules/@esbuild/linux-arm64/bin/esbuild", data: arm64Static}}}, verdict: Verified},
		{name: "packages for many platforms", layers: []files{{
			{name: "srv/node_modules/@openai/codex/vendor/x86_64-unknown-linux-musl/codex/codex", data: amd64Static}, {name: "srv/node_modules/@openai/codex/vendor/aarch64-unknown-linux-musl/codex/codex", data: arm64Static},
			{name: "srv/node_modules/turbo-linux-64/bin/turbo", data: amd64Static}, {name: "srv/node_modules/turbo-linux-arm64/bin/turbo", data: arm64Static},
			{name: "srv/node_modules/@cloudflare/workerd-linux-64/bin/workerd", data: amd64Static}, {name: "srv/node_modules/@cloudflare/workerd-linux-arm64/bin/workerd", data: arm64Static},
			plain("srv/node_modules/x/prebuilds/linux-x64/x.node", amd64Library), plain("srv/node_modules/x/prebuilds/linux-arm64/x.glibc.node", arm64Library),
			plain("usr/lib/python3/dist-packages/a/_x.cpython-311-x86_64-linux-gnu.so", amd64Library), plain("usr/lib/python3/dist-packages/a/_x.cpython-311-aarch64-linux-gnu.so", arm64Library),
		}}, verdict: Verified},
		{name: "agents side by side", config: ocispec.ImageConfig{WorkingDir: "/srv"}, layers: []files{{{name: "srv/agent-linux-amd64", data: amd64Static}, {name: "srv/agent-linux-arm64", data: arm64Static}, plain("srv/firmware.elf", amd64Static)}},
			verdict: Verified, warned: []string{"/srv/firmware.elf is for amd64"}},
		{name: "a cross tool chain", layers: []files{{{name: "opt/x/sysroot/sbin/ldconfig", data: amd64Static}, plain("opt/x/sysroot/lib/libc.so.6", amd64Library)}}, verdict: Verified, warned: []string{"/opt/x/sysroot/lib/libc.so.6 is for amd64", "/opt/x/sysroot/sbin/ldconfig is for amd64"}},
		{name: "debug files", layers: []files{{{name: "usr/bin/app.debug", data: debugFile}, plain("usr/lib/debug/.build-id/aa/bb.debug", debugFile)}}, verdict: Verified},
		{name: "a foreign loader alone", layers: []files{{{name: "lib64/ld-linux-x86-64.so.2", data: amd64Library}}}, verdict: Verified, warned: []string{"/lib64/ld-linux-x86-64.so.2 is for amd64"}},
		{name: "libraries of another word size", platform: "linux/386", layers: []files{{plain("lib64/libc.so.6", amd64Library), plain("usr/libx32/libc.so.6", program{machine: 62, kind: elfShared}.bytes())}}, verdict: NothingToVerify,
			warned: []string{"/lib64/libc.so.6 is for amd64", "/usr/libx32/libc.so.6 is for x32"}},
		{name: "a script that an interpreter is handed", config: ocispec.ImageConfig{Entrypoint: []string{"/usr/bin/python3"}, Cmd: []string{"/app/main.py"}},
			layers: []files{{{name: "usr/bin/python3", data: arm64Static}, {name: "app/main.py", data: script("#!/usr/local/bin/nothing\n")}}}, verdict: Verified},
		{name: "a program that an emulator is handed", config: ocispec.ImageConfig{Entrypoint: []string{"qemu-x86_64", "/opt/app"}}, layers: []files{{{name: "usr/bin/qemu-x86_64", data: arm64Static}, {name: "opt/app", data: amd64Static}}},
			verdict: Verified, warned: []string{"/opt/app is for amd64"}},
		{name: "a program that the script may make", config: ocispec.ImageConfig{Cmd: []string{"sh", "-c", "cp /a /tmp/b && /tmp/b"}}, verdict: Verified},
		{name: "an environment that a script brings", config: ocispec.ImageConfig{Cmd: []string{"sh", "-c", ". /venv/bin/activate && gunicorn app"}}, verdict: Verified},
		{name: "an option of the user's", config: ocispec.ImageConfig{Entrypoint: []string{"/entry.sh"}}, layers: []files{{{name: "entry.sh", data: script("#!/bin/sh\nif [ -n \"$DEBUG\" ]; then /opt/debugger; fi\n${SERVER:-/opt/server}\n")}, {name: "opt/debugger", data: amd64Static}}},
			verdict: Verified, warned: []string{"/opt/debugger is for amd64"}},
		{name: "a directory where a link was", layers: []files{{{name: "srv/bin", link: "other"}, {name: "srv/other/app", data: amd64Static}}, {{name: "srv/bin/", kind: tar.TypeDir}, {name: "srv/bin/app", data: arm64Static}}}, verdict: Verified, warned: []string{"/srv/other/app is for amd64"}},
		{name: "text written through a link", layers: []files{{{name: "usr/bin/app", data: amd64Static}}, {plain("bin/app", []byte("x"))}}, verdict: Verified},
		{name: "text written through any link", layers: []files{{{name: "usr/local/bin", link: "../../opt/tools"}, {name: "opt/tools/app", data: amd64Static}}, {plain("usr/local/bin/app", []byte("x"))}}, verdict: Verified},
		{name: "wrapper and entry script", config: ocispec.ImageConfig{Entrypoint: []string{"/usr/bin/tini", "--", "/entry.sh"}, Cmd: []string{"/opt/server"}},
			layers: []files{{{name: "usr/bin/tini", data: arm64Static}, {name: "entry.sh", data: script("#!/bin/sh\nset -e\nexec \"$@\"\n")}, {name: "opt/server", data: arm64Static}}}, verdict: Verified},

		{name: "prebuilt for some", layers: []files{{plain("srv/node_modules/bufferutil/prebuilds/linux-x64/bufferutil.node", amd64Library),
			plain("srv/node_modules/bufferutil/prebuilds/darwin-x64/bufferutil.node", []byte("\xcf\xfa\xed\xfe\x07\x00\x00\x01\x03\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00"))}},
			verdict: Verified, warned: []string{"/srv/node_modules/bufferutil/prebuilds/darwin-x64/bufferutil.node is for darwin/amd64", "/srv/node_modules/bufferutil/prebuilds/linux-x64/bufferutil.node is for amd64"}},

		{name: "data with a command for tools", platform: "linux/386", config: ocispec.ImageConfig{Cmd: []string{"/nothing"}}, layers: []files{{plain("data", []byte("x"))}}, verdict: NothingToVerify,
			warned: []string{`its command "/nothing" is not in the image`}},

		{name: "a script that handles files for another machine", config: ocispec.ImageConfig{Entrypoint: []string{"/entry.sh"}}, layers: []files{{
			{name: "entry.sh", data: script("#!/bin/sh\nset -e\nchmod +x /opt/tool-x\ncp /opt/tool-x /srv/\nexec sh\n")}, {name: "opt/tool-x", data: amd64Static},
			{name: "usr/bin/chmod", data: arm64Static}, {name: "usr/bin/cp", data: arm64Static}}}, verdict: Verified, warned: []string{"/opt/tool-x is for amd64"}},

		{name: "many files of one package", layers: []files{{plain("srv/node_modules/@a/b/1.o", amd64Library), plain("srv/node_modules/@a/b/2.o", amd64Library), plain("srv/node_modules/@a/b/c/3.o", amd64Library), plain("srv/node_modules/@a/b/c/4.o", amd64Library)}},
			verdict: Verified, warned: []string{"/srv/node_modules/@a/b holds 4 files for amd64, such as /srv/node_modules/@a/b/1.o"}},
		{name: "a program by env, its line split", config: ocispec.ImageConfig{Entrypoint: []string{"/app"}}, layers: []files{{{name: "app", data: script("#!/usr/bin/env -S A=b busybox sh\n")}}}, verdict: Verified},

		// Wrong.
		{name: "a program by env that is not there, its line split", config: ocispec.ImageConfig{Entrypoint: []string{"/app"}}, layers: []files{{{name: "app", data: script("#!/usr/bin/env -S A=b python3 -u\n")}}}, verdict: Refused,
			refused: []string{"/app (entrypoint) is a script for python3 by env, which is not in the image"}},
		{name: "installed for another machine", layers: []files{{plain("srv/node_modules/@swc/core-linux-x64-gnu/swc.linux-x64-gnu.node", amd64Library)}}, verdict: Refused, refused: []string{"/srv/node_modules/@swc/core-linux-x64-gnu/swc.linux-x64-gnu.node is for amd64"}},
		{name: "a link in PATH", layers: []files{{{name: "usr/bin/tool", link: "/opt/tool/bin/tool"}, {name: "opt/tool/bin/tool", data: amd64Static}}}, verdict: Refused, refused: []string{"/usr/bin/tool leads to /opt/tool/bin/tool, which is for amd64"}},
		{name: "an entry script's command", config: ocispec.ImageConfig{Entrypoint: []string{"/entry.sh"}}, layers: []files{{{name: "entry.sh", data: script("#!/bin/sh\nset -e\nmkdir -p /data\nexec /app/dist/server --port 80\n")}, {name: "app/dist/server", data: amd64Static}}},
			verdict: Refused, refused: []string{"/app/dist/server (command) is for amd64"}},
		{name: "cd and run", config: ocispec.ImageConfig{Cmd: []string{"sh", "-c", "cd /opt/app && ./server"}}, layers: []files{{{name: "opt/app/server", data: amd64Static}}}, verdict: Refused, refused: []string{"/opt/app/server (command) is for amd64"}},
		{name: "mkdir and exec", config: ocispec.ImageConfig{Cmd: []string{"sh", "-c", "mkdir -p /x && exec /opt/app/server"}}, layers: []files{{{name: "opt/app/server", data: amd64Static}}}, verdict: Refused, refused: []string{"/opt/app/server (command) is for amd64"}},
		{name: "a variable of the image", config: ocispec.ImageConfig{Cmd: []string{"sh", "-c", "$APP/server"}, Env: []string{"APP=/opt/app"}}, layers: []files{{{name: "opt/app/server", data: amd64Static}}}, verdict: Refused, refused: []string{"/opt/app/server (command) is for amd64"}},
		{name: "a command that is not there", config: ocispec.ImageConfig{Cmd: []string{"sh", "-c", "exec /opt/app/server"}}, verdict: Refused, refused: []string{`its command "/opt/app/server" is not in the image`}},
		{name: "behind tini", config: ocispec.ImageConfig{Entrypoint: []string{"tini", "--", "/opt/server"}}, layers: []files{{{name: "usr/bin/tini", data: arm64Static}, {name: "opt/server", data: amd64Static}}}, verdict: Refused, refused: []string{"/opt/server (command) is for amd64"}},
		{name: "behind an entrypoint that is no script", config: ocispec.ImageConfig{Entrypoint: []string{"/entry"}, Cmd: []string{"/opt/server"}}, layers: []files{{{name: "entry", data: arm64Static}, {name: "opt/server", data: amd64Static}}}, verdict: Refused, refused: []string{"/opt/server (command) is for amd64"}},
		{name: "a native add-on", layers: []files{{plain("srv/node_modules/better-sqlite3/build/Release/better_sqlite3.node", amd64Library)}}, verdict: Refused, refused: []string{"/srv/node_modules/better-sqlite3/build/Release/better_sqlite3.node is for amd64"}},
		{name: "an extension of Python", layers: []files{{plain("usr/lib/python3/site-packages/numpy/_umath.so", amd64Library)}}, verdict: Refused, refused: []string{"/usr/lib/python3/site-packages/numpy/_umath.so is for amd64"}},
		{name: "an extension of PostgreSQL", layers: []files{{plain("usr/lib/postgresql/15/lib/plpgsql.so", amd64Library)}}, verdict: Refused, refused: []string{"/usr/lib/postgresql/15/lib/plpgsql.so is for amd64"}},
		{name: "a folder", config: ocispec.ImageConfig{Entrypoint: []string{"/srv"}}, layers: []files{{{name: "srv/x", data: arm64Static}}}, verdict: Refused, refused: []string{`its entrypoint "/srv" is not in the image`}},
		{name: "not executable", config: ocispec.ImageConfig{Entrypoint: []string{"/app"}}, layers: []files{{plain("app", arm64Static)}}, verdict: Refused, refused: []string{`its entrypoint "/app" is not in the image, or is not executable`}},
		{name: "empty", config: ocispec.ImageConfig{Entrypoint: []string{"/app"}}, layers: []files{{{name: "app"}}}, verdict: Refused, refused: []string{"/app (entrypoint) is an empty file"}},
		{name: "a page", config: ocispec.ImageConfig{Entrypoint: []string{"/app"}}, layers: []files{{{name: "app", data: script("<!doctype html><h1>404</h1>")}}}, verdict: Refused, refused: []string{"/app (entrypoint) is no program"}},
		{name: "a mark before the line", config: ocispec.ImageConfig{Entrypoint: []string{"/app"}}, layers: []files{{{name: "app", data: script("\xef\xbb\xbf#!/bin/sh\n")}}}, verdict: Refused, refused: []string{"/app (entrypoint) is no program"}},
		{name: "lines of Windows", config: ocispec.ImageConfig{Entrypoint: []string{"/app"}}, layers: []files{{{name: "app", data: script("#!/bin/sh\r\necho\r\n")}}}, verdict: Refused, refused: []string{`/app (entrypoint) is a script for /bin/sh\r, which is not in the image: its lines end as Windows has them`}},
		{name: "env without the program", config: ocispec.ImageConfig{Entrypoint: []string{"/app"}}, layers: []files{{{name: "app", data: script("#!/usr/bin/env python3\n")}}}, verdict: Refused, refused: []string{"/app (entrypoint) is a script for python3 by env, which is not in the image"}},
		{name: "cut short", config: ocispec.ImageConfig{Entrypoint: []string{"/app"}}, layers: []files{{{name: "app", data: program{machine: 183, wide: true, load: 5000}.bytes()}}}, verdict: Refused, refused: []string{"/app (entrypoint) is no ELF file that can run: it is cut short"}},
		{name: "a library that is loaded before all", config: ocispec.ImageConfig{Cmd: []string{"sh"}, Env: []string{"LD_PRELOAD=/opt/libx.so"}}, layers: []files{{plain("opt/libx.so", amd64Library)}}, verdict: Refused, refused: []string{"/opt/libx.so (loaded before every program) is for amd64"}},
		{name: "a library that passes numbers in another way", platform: "linux/arm/v7", layers: []files{{plain("usr/lib/arm-linux-gnueabihf/libx.so.1", softLibrary)}}, verdict: Refused,
			refused: []string{"/usr/lib/arm-linux-gnueabihf/libx.so.1 passes floating-point numbers in another way than the programs of its folder's platform"}},
		{name: "a library that passes numbers as its folder's do", platform: "linux/arm/v7", layers: []files{{plain("usr/lib/arm-linux-gnueabihf/libx.so.1", hardLibrary), plain("usr/arm-linux-gnueabi/lib/libx.so.1", softLibrary)}}, verdict: Verified},
		{name: "a program for another Windows", platform: "windows/amd64", config: ocispec.ImageConfig{Entrypoint: []string{`C:\app\app.exe`}}, layers: []files{{{name: "Files/app/app.exe", data: windowsARM64}}}, verdict: Refused, refused: []string{"/Files/app/app.exe (entrypoint) is for windows/arm64"}},
		{name: "a program for Linux on Windows", platform: "windows/amd64", config: ocispec.ImageConfig{Entrypoint: []string{`app.exe`}, WorkingDir: `C:\app`}, layers: []files{{{name: "Files/app/app.exe", data: amd64Static}}}, verdict: Refused, refused: []string{"/Files/app/app.exe (entrypoint) is for amd64"}},
		{name: "written into a directory where a link was", layers: []files{{{name: "srv/bin", link: "other"}}, {{name: "srv/bin/", kind: tar.TypeDir}, {name: "usr/bin/x", data: amd64Static}}}, verdict: Refused, refused: []string{"/usr/bin/x is for amd64"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := store{}
			p := parsed(t, "linux/arm64")
			layers := [][]byte{alpine}
			if tc.platform != "" {
				p, layers = parsed(t, tc.platform), nil
			}
			for _, l := range tc.layers {
				layers = append(layers, archive(l...))
			}
			is, want := p, Want{Platform: p}
			if tc.says != "" {
				want.Platform = parsed(t, tc.says)
				want.Descriptor = want.Platform
				is.Variant = ""
			}
			report, err := NewReader(s).Image(t.Context(), s.image(is, tc.config, layers...), want)
			if err != nil {
				t.Fatal(err)
			}
			if report.Verdict != tc.verdict {
				t.Errorf("verdict %q, want %q", report.Verdict, tc.verdict)
			}
			for kind, list := range map[string]struct {
				want []string
				got  []Finding
			}{"refused": {tc.refused, report.Refused}, "warned": {tc.warned, report.Warnings}} {
				ok := len(list.want) == len(list.got)
				for i := range list.want {
					ok = ok && strings.HasPrefix(list.got[i].String(), list.want[i])
				}
				if !ok {
					t.Errorf("%s: (-want +got)\n%s", kind, cmp.Diff(list.want, said(Report{Refused: list.got})))
				}
			}
		})
	}
}

// TestSearchOfLibraries holds the search to what the loaders of glibc and musl do, each way by itself.
func TestSearchOfLibraries(t *testing.T) {
	t.Parallel()
	arm64 := parsed(t, "linux/arm64")
	code := func(c Code) *Code {
		c.Format = ELF
		if c.Arch == "" {
			c.Arch = "arm64"
		}
		return &c
	}
	loader, musl := entry{path: "lib/ld-linux.so.1", code: code(Code{})}, entry{path: "lib/ld-musl-aarch64.so.1", code: code(Code{})}
	app := func(c Code) entry {
		if c.Interp == "" {
			c.Interp = "/lib/ld-linux.so.1"
		}
		return entry{path: "opt/app/bin/app", executable: true, code: code(c)}
	}
	lib := func(at string, needs ...string) entry { return entry{path: at, code: code(Code{Needs: needs})} }
	needs := []string{"liba.so"}
	for _, tc := range []struct {
		name  string
		env   []string
		files []entry
		lacks string // "" means that nothing is missing
	}{
		{name: "nowhere", files: []entry{loader, app(Code{Needs: needs})}, lacks: "needs the library liba.so, which is not in the image"},
		{name: "a standard folder", files: []entry{loader, app(Code{Needs: needs}), lib("usr/lib/liba.so")}},
		{name: "the triplet's folder", files: []entry{loader, app(Code{Needs: needs}), lib("usr/lib/aarch64-linux-gnu/liba.so")}},
		{name: "DT_RUNPATH by origin", files: []entry{loader, app(Code{Needs: needs, RunPath: []string{"$ORIGIN/../lib"}}), lib("opt/app/lib/liba.so")}},
		{name: "DT_RPATH for what a library needs", files: []entry{loader, app(Code{Needs: needs, RPath: []string{"${ORIGIN}/../lib"}}), lib("opt/app/lib/liba.so", "libb.so"), lib("opt/app/lib/libb.so")}},
		{name: "DT_RUNPATH is not for what a library needs", files: []entry{loader, app(Code{Needs: needs, RunPath: []string{"$ORIGIN/../lib"}}), lib("opt/app/lib/liba.so", "libb.so"), lib("opt/app/lib/libb.so")},
			lacks: "needs the library libb.so, which is not in the image (by /opt/app/lib/liba.so)"},
		{name: "LD_LIBRARY_PATH", env: []string{"LD_LIBRARY_PATH=/x:/opt/more"}, files: []entry{loader, app(Code{Needs: needs}), lib("opt/more/liba.so")}},
		{name: "ld.so.conf", files: []entry{loader, app(Code{Needs: needs}), lib("opt/conf/liba.so"),
			{path: "etc/ld.so.conf", text: "include /etc/ld.so.conf.d/*.conf\n"}, {path: "etc/ld.so.conf.d/a.conf", text: "# a\n/opt/conf\n"}}},
		{name: "for another machine alone", files: []entry{loader, app(Code{Needs: needs, RunPath: []string{"/opt/more"}}), {path: "opt/more/liba.so", code: code(Code{Arch: "amd64"})}}, lacks: "needs the library liba.so, which is there for amd64 alone"},
		{name: "another machine's first", files: []entry{loader, app(Code{Needs: needs, RunPath: []string{"/opt/more"}}), {path: "opt/more/liba.so", code: code(Code{Arch: "amd64"})}, lib("usr/lib/liba.so")}},
		{name: "musl's own", files: []entry{musl, app(Code{Interp: "/lib/ld-musl-aarch64.so.1", Needs: []string{"libc.musl-aarch64.so.1", "libpthread.so.0"}})}},
		{name: "musl's folders", files: []entry{musl, app(Code{Interp: "/lib/ld-musl-aarch64.so.1", Needs: needs}), lib("opt/musl/liba.so"), {path: "etc/ld-musl-aarch64.path", text: "/lib:/opt/musl\n"}}},
		{name: "what could not be read", files: []entry{loader, app(Code{Unread: true})}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			root := tree{}
			for _, f := range tc.files {
				f.kind = file
				root[f.path] = f
			}
			report, err := root.inspect(config{platform: arm64, cmd: []string{"/opt/app/bin/app"}, dir: "/", env: tc.env}, Want{Platform: arm64})
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			if tc.lacks != "" {
				want = []string{"refused: /opt/app/bin/app (command) " + tc.lacks}
			}
			if diff := cmp.Diff(want, said(Report{Refused: report.Refused})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestDiffIDs verifies an image whose layer unpacks to other bytes than its config says, and one that lists too few.
func TestDiffIDs(t *testing.T) {
	t.Parallel()
	arm64 := parsed(t, "linux/arm64")
	for _, tc := range []struct {
		name string
		ids  []digest.Digest
		says string
	}{
		{name: "other bytes", ids: []digest.Digest{digest.FromString("x")}, says: "layer 1 unpacks to " + digest.FromBytes(alpine).String() + ", and its config says " + digest.FromString("x").String()},
		{name: "none", says: "its config lists 0 layers, and its manifest 1"},
		{name: "the right ones", ids: []digest.Digest{digest.FromBytes(alpine)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := store{}
			img := ocispec.Image{Platform: arm64.OCI(), RootFS: ocispec.RootFS{Type: "layers", DiffIDs: tc.ids}}
			m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{s.put(ocispec.MediaTypeImageLayerGzip, gz(alpine))}}
			m.Config = s.put(ocispec.MediaTypeImageConfig, img)
			report, err := NewReader(s).Image(t.Context(), s.put(ocispec.MediaTypeImageManifest, m), Want{Platform: arm64})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if len(report.Refused) > 0 {
				got = report.Refused[0].Message
			}
			if got != tc.says {
				t.Errorf("%q, want %q", got, tc.says)
			}
		})
	}
}

// TestInherited: what nobody is held to is a warning, and no verified image.
func TestInherited(t *testing.T) {
	t.Parallel()
	arm64 := parsed(t, "linux/arm64")
	for _, inherited := range []bool{false, true} {
		s := store{}
		report, err := NewReader(s).Image(t.Context(), s.image(arm64, ocispec.ImageConfig{Entrypoint: []string{"/nothing"}}, alpine), Want{Platform: arm64, Inherited: inherited})
		if err != nil {
			t.Fatal(err)
		}
		want := map[bool]Verdict{false: Refused, true: Excepted}[inherited]
		if report.Verdict != want || report.Broken != inherited || len(report.Refused)+len(report.Warnings) != 1 {
			t.Errorf("inherited %v: %v %+v", inherited, report.Verdict, report)
		}
	}
}

// TestLevels: a program that is started is held to its variant, unless the base image brought it; a loader for amd64 and libraries are not.
func TestLevels(t *testing.T) {
	t.Parallel()
	amd64, armV6 := parsed(t, "linux/amd64"), parsed(t, "linux/arm/v6")
	program := func(name string, c Code) entry { return entry{path: name, kind: file, executable: true, code: &c} }
	for _, tc := range []struct {
		name    string
		want    Want
		files   []entry
		verdict Verdict
		level   bool
	}{
		{name: "for v3", want: Want{Platform: amd64}, files: []entry{program("app", Code{Format: ELF, Arch: "amd64", Level: "v3", Built: true})}, verdict: Refused, level: true},
		{name: "for v3 as asked", want: Want{Platform: parsed(t, "linux/amd64/v3")}, files: []entry{program("app", Code{Format: ELF, Arch: "amd64", Level: "v3", Built: true})}, verdict: Verified},
		{name: "a distribution for v2", want: Want{Platform: amd64}, files: []entry{program("app", Code{Format: ELF, Arch: "amd64", Interp: "/lib64/ld.so", Needs: []string{"libc.so.6"}}), program("lib64/ld.so", Code{Format: ELF, Arch: "amd64", Level: "v2"}), program("lib64/libc.so.6", Code{Format: ELF, Arch: "amd64", Level: "v2"})}, verdict: Verified},
		{name: "v7 on v6", want: Want{Platform: armV6}, files: []entry{program("app", Code{Format: ELF, Arch: "arm", Level: "v7", Built: true})}, verdict: Refused, level: true},
		{name: "a loader of v7 on v6", want: Want{Platform: armV6}, files: []entry{program("app", Code{Format: ELF, Arch: "arm", Level: "v6", Interp: "/lib/ld.so"}), program("lib/ld.so", Code{Format: ELF, Arch: "arm", Level: "v7"})}, verdict: Refused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			root := tree{}
			for _, f := range tc.files {
				root[f.path] = f
			}
			report, err := root.inspect(config{platform: tc.want.Platform, cmd: []string{"/app"}, dir: "/"}, tc.want)
			if err != nil || report.Verdict != tc.verdict {
				t.Fatal(report.Verdict, report.Refused, err)
			}
			if tc.verdict != Refused {
				return
			}
			if report.Refused[0].Level != tc.level {
				t.Errorf("level %v, want %v", report.Refused[0].Level, tc.level)
			}
			report.Excuse(func(string) bool { return true })
			if excused := report.Verdict != Refused; excused != tc.level {
				t.Errorf("of the base image: %s", report.Verdict)
			}
		})
	}
}
