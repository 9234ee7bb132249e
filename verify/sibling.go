package verify

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Packages bring what they hold for several platforms at once: esbuild-linux-x64 beside esbuild-linux-arm64, prebuilds/darwin-arm64, lib/x86_64-linux-gnu. A file
// for another machine is none to complain of where the one for this machine stands beside it, named as it is but for the platform.

// platformWord matches the names of systems, machines and their libraries in a path.
var platformWord = regexp.MustCompile(`(^|[^a-z0-9])(` + strings.Join([]string{
	`linux(musl|gnu)?`, `darwin`, `macos(x)?`, `osx`, `apple`, `win(dows|32|64)?`, `pc`, `freebsd`, `netbsd`, `openbsd`, `solaris`, `sunos`, `illumos`, `android(eabi)?`, `aix`, `unknown`,
	`(gnu|musl)(eabi(hf)?|x32|abi64|_ilp32)?`, `glibc`, `msvc`, `mingw`, `x86[-_]64`, `x64`, `amd64`, `ia32`, `x86`, `i[3-6]86`, `386`, `aarch64(_be)?`, `arm64(v8|e)?`, `arm(v?[5-8][a-z]*)?(hf|el|eb)?`,
	`powerpc(64)?(le)?`, `ppc(64)?(le|el)?`, `s390x?`, `riscv(32|64)(gc)?`, `loong(arch)?64`, `mips(64)?(el|le)?(r6)?`, `sparc(v9|64)?`, `universal2?`, `64`, `32`, `x32`, `v[1-8]`,
}, "|") + `)($|[^a-z0-9])`)

// libFolder matches folders of libraries that are named for a word size.
var libFolder = regexp.MustCompile(`(^|/)lib(x32|32|64|o32|n32)?(/|$)`)

// place is a path without what names a platform in it; the same for all files of a kind. Not named means that nothing in it does.
func place(name string) (key string, named bool) {
	key = strings.TrimSuffix(strings.ToLower(name), ".exe")
	for range 12 {
		next := platformWord.ReplaceAllStringFunc(key, func(m string) string {
			first, last := "", ""
			if c := m[0]; !isWord(c) {
				first = m[:1]
			}
			if c := m[len(m)-1]; !isWord(c) {
				last = m[len(m)-1:]
			}
			return first + "*" + last
		})
		if next == key {
			break
		}
		key = next
	}
	key = libFolder.ReplaceAllString(key, "${1}lib${3}")
	var out strings.Builder
	named = strings.Contains(key, "*")
	for i := 0; i < len(key); i++ { // "*-*_*" is one
		if key[i] == '*' {
			out.WriteByte('*')
			for i+1 < len(key) && (key[i+1] == '*' || strings.IndexByte("-_.+", key[i+1]) >= 0 && i+2 < len(key) && key[i+2] == '*') {
				i++
			}
			continue
		}
		out.WriteByte(key[i])
	}
	return out.String(), named
}

func isWord(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

// packages are the files of an image by what they are called without their platform.
type packages struct {
	// fitting are where those lie that fit, two at most: one's own place, and another. machines are what there is machine code for.
	fitting, machines map[string][]string
}

// packagesOf is made when the first file is found that does not fit: most images have none.
func (in *inspection) packagesOf() packages {
	if in.packages.fitting != nil {
		return in.packages
	}
	p := packages{map[string][]string{}, map[string][]string{}}
	add := func(list map[string][]string, key, value string, most int) {
		if len(list[key]) < most && !slices.Contains(list[key], value) {
			list[key] = append(list[key], value)
		}
	}
	const two = 2
	for name, e := range in.tree {
		if e.code == nil || e.code.Object || e.code.Arch == "" || e.code.Invalid != "" {
			continue
		}
		key, named := place(name)
		folder, at := platformFolder(key, name)
		if e.code.fitsMachine(in.want.Platform) {
			add(p.fitting, key, name, two)
			if folder != "" {
				add(p.fitting, folder, at, two)
			}
		}
		if named {
			add(p.machines, cmp.Or(folder, key), e.code.OS+"/"+e.code.Arch, two)
		}
	}
	in.packages = p
	return p
}

// sibling reports whether a file that fits stands beside one that does not.
func (p packages) sibling(name string) bool {
	key, named := place(name)
	if !named && !libFolder.MatchString(parent(name)) {
		return false
	}
	folder, own := platformFolder(key, name)
	isOther := func(mine string) func(string) bool { return func(at string) bool { return at != mine } }
	return slices.ContainsFunc(p.fitting[key], isOther(name)) || folder != "" && slices.ContainsFunc(p.fitting[folder], isOther(own))
}

// several reports whether a file's package brings machine code for several machines: it chooses by itself, and does without where there is none for the one at hand.
func (p packages) several(name string) bool {
	key, named := place(name)
	folder, _ := platformFolder(key, name)
	return named && len(p.machines[cmp.Or(folder, key)]) > 1
}

// platformFolder is the innermost folder that is named for a platform, as its key and as it is: whatever it holds, what the folder beside it holds is for
// another one. Not every platform's package has the same files. Empty if there is none.
func platformFolder(key, name string) (folder, at string) {
	i := strings.LastIndexByte(key[:max(strings.LastIndexByte(key, '/'), 0)], '*')
	if i < 0 {
		return "", ""
	}
	folder = key[:i+strings.IndexByte(key[i:], '/')+1]
	parts := strings.SplitAfter(name, "/")
	return folder, strings.Join(parts[:min(strings.Count(folder, "/"), len(parts))], "")
}

// runTimeLoads reports whether a run time loads a library from where it lies, by its own rules and not by the loader's.
func runTimeLoads(name string) bool {
	base := path.Base(name)
	switch {
	case strings.HasSuffix(base, ".node"):
		return true
	case !strings.HasSuffix(base, ".so"):
		return false
	}
	parts := strings.Split(name, "/")
	return slices.Contains(parts, "site-packages") || slices.Contains(parts, "dist-packages") || slices.Contains(parts, "lib-dynload") ||
		slices.Contains(parts, "postgresql") && slices.Contains(parts, "lib") || slices.Contains(parts, "php") && slices.Contains(parts, "extensions")
}
