package accel

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// library makes a shared library of 64 bits with symbols and metadata, as far as a reader of them sees it (System V ABI, chapter 4).
func library(t *testing.T, name, metadata string, symbols ...string) string {
	t.Helper()
	names, table := "\x00", slices.Repeat([]byte{0}, 24) // the first symbol is none
	for _, s := range symbols {
		table = binary.LittleEndian.AppendUint32(table, uint32(len(names)))
		table = append(table, 0x11, 0, 1, 0) // global, of the first section
		table = append(table, make([]byte, 16)...)
		names += s + "\x00"
	}
	const titles = "\x00.dynsym\x00.dynstr\x00.rustc\x00.shstrtab\x00"
	parts := []struct {
		title   string
		kind    uint32
		content string
		link    uint32
		size    uint64
	}{{".dynsym", 11, string(table), 2, 24}, {".dynstr", 3, names, 0, 0}, {".rustc", 1, metadata, 0, 0}, {".shstrtab", 3, titles, 0, 0}}
	out := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 57)...)
	headers := slices.Repeat([]byte{0}, 64)
	for _, p := range parts {
		h := make([]byte, 64)
		binary.LittleEndian.PutUint32(h, uint32(strings.Index(titles, p.title)))
		binary.LittleEndian.PutUint32(h[4:], p.kind)
		binary.LittleEndian.PutUint64(h[24:], uint64(len(out)))
		binary.LittleEndian.PutUint64(h[32:], uint64(len(p.content)))
		binary.LittleEndian.PutUint32(h[40:], p.link)
		binary.LittleEndian.PutUint64(h[56:], p.size)
		headers = append(headers, h...)
		out = append(out, p.content...)
	}
	for at, v := range map[int]uint16{16: 3, 18: 22, 52: 64, 58: 64, 60: uint16(len(parts) + 1), 62: uint16(len(parts))} {
		binary.LittleEndian.PutUint16(out[at:], v)
	}
	binary.LittleEndian.PutUint32(out[20:], 1)
	binary.LittleEndian.PutUint64(out[40:], uint64(len(out)))
	put(t, name, string(append(out, headers...)))
	return name
}

const (
	theirs, here = "s390x-unknown-linux-gnu", "x86_64-unknown-linux-gnu"
	decls        = "__rustc_proc_macro_decls_7656d02ff8847117__"
)

// header is what metadata says first of a crate.
func header(triple, hash string) string {
	return "rust\x00\x00\x00\x09...\x00" + string(rune(len(triple))) + triple + "\xc1" + hash + " and more"
}

// TestWithHashOf gives a library of this machine's the hash of the target's, and nothing where it is not certain that they are of one crate.
func TestWithHashOf(t *testing.T) {
	const ours, another = "0123456789abcdef", "FEDCBA9876543210"
	for name, tc := range map[string]struct {
		own, here string
		symbols   []string
		ok        bool
	}{
		"the same":          {header(theirs, ours), header(here, another), []string{decls}, true},
		"other macros":      {header(theirs, ours), header(here, another), []string{"__rustc_proc_macro_decls_0000d02ff8847117__"}, false},
		"no macros":         {header(theirs, ours), header(here, another), nil, false},
		"another target":    {header(here, ours), header(here, another), []string{decls}, false},
		"another host":      {header(theirs, ours), header(theirs, another), []string{decls}, false},
		"said twice":        {header(theirs, ours), header(here, another) + header(here, another), []string{decls}, false},
		"no metadata":       {"", header(here, another), []string{decls}, false},
		"ends in the hash":  {strings.TrimSuffix(header(theirs, ours[:9]), " and more"), header(here, another), []string{decls}, false},
		"in another manner": {header(theirs, ours), strings.ReplaceAll(header(here, another), "\xc1", "\xc2"), []string{decls}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a := library(t, filepath.Join(dir, "own/libm.so"), tc.own, decls)
			b := library(t, filepath.Join(dir, "here/libm.so"), tc.here, tc.symbols...)
			dt, hash, err := withHashOf(rust{target: theirs, host: here}, a, b)
			if (err == nil) != tc.ok {
				t.Fatalf("%q, %v", hash, err)
			}
			if was, err := os.ReadFile(b); tc.ok && (err != nil || string(hash) != ours || !bytes.Equal(dt, bytes.ReplaceAll(was, []byte(another), []byte(ours)))) {
				t.Errorf("%q, %v", hash, err)
			}
		})
	}
	if _, _, err := crateHash(filepath.Join(t.TempDir(), "none"), theirs); err == nil {
		t.Error("a hash of nothing")
	}
}

// deps makes a folder of cargo's: serde consists of a macro that is there for this machine too, and of a library; other has a macro that is not.
func deps(t *testing.T) (m machine, dir, macro string) {
	t.Helper()
	m = rustImage(t)
	dir = filepath.Join(m.Root, "deps")
	for _, name := range []string{"libserde_derive.so", "libother_derive.so"} {
		library(t, filepath.Join(dir, name), "", decls)
	}
	library(t, filepath.Join(dir, "libshared.so"), "", "shared")
	for _, name := range []string{"serde", "other", "plain", "app"} {
		put(t, filepath.Join(dir, "lib"+name+".rlib"), "")
	}
	for name, externs := range map[string][]string{
		"serde": {"libserde_derive.so", "libshared.so"}, "other": {"libother_derive.so"}, "plain": nil, "shared": nil, "app": {"libserde.rmeta", "libplain.rmeta"},
	} {
		m.record(crate(t, name, dir, externs...))
	}
	own, ok := m.ownFolder()
	if !ok {
		t.Fatal("no folder")
	}
	macro = m.macroPath(own, filepath.Join(dir, "libserde_derive.so"))
	put(t, macro, "this machine's")
	return m, dir, macro
}

func crate(t *testing.T, name, dir string, externs ...string) unit {
	t.Helper()
	args := []string{"--crate-name", name, "--crate-type", "lib", "--emit=link", "--out-dir", dir, "-L", "dependency=" + dir, "-Cincremental=" + dir, "-C", "target-cpu=z13", "-Copt-level=3"}
	for _, e := range externs {
		args = append(args, "--extern", strings.TrimPrefix(strings.TrimSuffix(e, filepath.Ext(e)), "lib")+"="+filepath.Join(dir, e))
	}
	u, ok := readUnit(args)
	if !ok {
		t.Fatal(args)
	}
	return u
}

// TestMacrosOf follows what crates consist of, and does not know what was compiled before.
func TestMacrosOf(t *testing.T) {
	m, dir, _ := deps(t)
	for file, want := range map[string]string{
		"libapp.rlib": "libserde_derive.so libshared.so", "libplain.rlib": "", "libother.rmeta": "libother_derive.so", "libother_derive.so": "libother_derive.so", "libearlier.rlib": "unknown",
	} {
		libraries, known := m.macrosOf(crate(t, "x", dir, file))
		names := make([]string, 0, len(libraries))
		for l := range libraries {
			names = append(names, filepath.Base(l))
		}
		slices.Sort(names)
		got := strings.Join(names, " ")
		if !known {
			got = "unknown"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}

// TestWithMacros names the macros of this machine's where the target's were named, and shows the compiler no others.
func TestWithMacros(t *testing.T) {
	m, dir, macro := deps(t)
	args, err := m.withMacros(rust{}, crate(t, "x", dir, "libapp.rlib", "libserde_derive.so"))
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.Index(args, "--extern"); args[i+1] != "app="+filepath.Join(dir, "libapp.rlib") || args[i+3] != "serde_derive="+macro {
		t.Error(args)
	}
	i := slices.Index(args, "-L")
	mirror, ok := strings.CutPrefix(args[i+1], "dependency=")
	if !ok || mirror == dir {
		t.Fatal(args)
	}
	for name, want := range map[string]string{
		"libserde_derive.so": macro, "libother_derive.so": "", "libshared.so": filepath.Join(dir, "libshared.so"), "libapp.rlib": filepath.Join(dir, "libapp.rlib"),
	} {
		if at, err := os.Readlink(filepath.Join(mirror, name)); at != want {
			t.Errorf("%s leads to %q, want %q: %v", name, at, want, err)
		}
	}
	for name, u := range map[string]unit{
		"named": crate(t, "x", dir, "libother_derive.so"), "behind another": crate(t, "x", dir, "libother.rlib"), "of something compiled before": crate(t, "x", dir, "libearlier.rlib"),
	} {
		if args, err := m.withMacros(rust{}, u); err == nil {
			t.Errorf("a macro that is not there, %s: %q", name, args)
		}
	}
	other := filepath.Join(dir, "libother_derive.so")
	if _, _, err := m.macroFor(rust{}, other); err == nil || !strings.Contains(err.Error(), "in one RUN") {
		t.Error("nobody is told what to do", err)
	}
	m.refuse(other, []byte("it asks"))
	if _, _, err := m.macroFor(rust{}, other); err == nil || !strings.HasSuffix(err.Error(), ": it asks") {
		t.Error("what was found out is not told", err)
	}
	library(t, filepath.Join(dir, "libserde_derive.so"), "made again", decls)
	if args, err := m.withMacros(rust{}, crate(t, "x", dir, "libserde_derive.so")); err == nil {
		t.Error("the macro of this machine's is the former one's", args)
	}
}

// TestCompileHere compiles for this machine without what is the target's, what a crate consists of first.
func TestCompileHere(t *testing.T) {
	m, dir, _ := deps(t)
	program, err := sayer()
	if err != nil {
		t.Fatal(err)
	}
	twin := filepath.Join(m.Twin, "usr/bin/rustc")
	put(t, twin, string(program))
	to, err := m.crates(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := rust{host: here, twin: twin, twinSysroot: "/twin/usr"}
	how := recorded{Dir: m.Root}
	if err := m.compileHere(r, crate(t, "x", dir, "libplain.rmeta"), how, to); err != nil {
		t.Fatal(err)
	}
	dt, err := os.ReadFile(twin + ".args")
	want := "--target " + here + " --sysroot /twin/usr -Clinker=/bin-of-accel/host/cc -Clinker-flavor=gcc --crate-name x --crate-type lib --emit=link --out-dir " + to +
		" -L dependency=" + to + " -Copt-level=3 --extern plain=" + filepath.Join(to, "libplain.rlib")
	if err != nil || string(dt) != want {
		t.Errorf("%s\nwant %s, %v", dt, want, err)
	}
	for _, file := range []string{"libearlier.rlib", "libother_derive.so"} {
		if err := m.compileHere(r, crate(t, "x", dir, file), how, to); err == nil {
			t.Errorf("%s is not there for this machine", file)
		}
	}
}
