package sandbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/internal/accel"
	"github.com/manifold-build/manifold/platforms"
)

// A tool chain image holds, for one release of Debian and one target, the compilers, the assembler and the linker of Debian's cross packages: built
// from the same sources as the target's own, for the machine that builds. Its list names each of the target's programs by its digest (see
// internal/accel, Programs). Where the sources are not the same to the last patch, a program is left out: the cross compiler of bookworm is one that
// protects stacks on arm64 otherwise than its own does.

// Toolchain names a tool chain image.
type Toolchain struct {
	// Suite is a release of Debian: trixie. GCC is the compiler's major version in it.
	Suite string
	GCC   int
	// Target is the platform whose code it makes.
	Target platforms.Platform
}

// Name is the image's tag: "trixie-arm64", "trixie-arm-v7".
func (t Toolchain) Name() string {
	return t.Suite + "-" + dockerfile.ToolchainArch(t.Target)
}

// suites are the releases of Debian whose compilers are looked at, with each one's own gcc.
var suites = []struct {
	name string
	gcc  int
}{{"trixie", 14}, {"bookworm", 12}, {"bullseye", 10}}

// triples are GNU's names of the machines that Debian has cross compilers for, by platform.
var triples = map[string]string{
	"linux/amd64": "x86_64-linux-gnu", "linux/arm64": "aarch64-linux-gnu", "linux/arm/v7": "arm-linux-gnueabihf", "linux/arm/v6": "arm-linux-gnueabi",
	"linux/ppc64le": "powerpc64le-linux-gnu", "linux/s390x": "s390x-linux-gnu", "linux/riscv64": "riscv64-linux-gnu",
}

// Toolchains lists those that can be made on this machine, for the targets that match.
func Toolchains(targets ...platforms.Platform) []Toolchain {
	var out []Toolchain
	for _, s := range suites {
		for _, p := range targets {
			if p.Architecture == runtime.GOARCH || triples[p.String()] == "" || p.Architecture == "riscv64" && s.name != "trixie" {
				continue
			}
			out = append(out, Toolchain{Suite: s.name, GCC: s.gcc, Target: p})
		}
	}
	return out
}

// MakeToolchain writes the image as an OCI layout, and returns what it leaves out and why.
func MakeToolchain(ctx context.Context, t Toolchain, dir string) (left []string, err error) {
	work, err := os.MkdirTemp("", "manifold-toolchain-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	return makeToolchain(ctx, t, work, dir)
}

func makeToolchain(ctx context.Context, t Toolchain, work, dir string) (left []string, err error) {
	l, err := newLayout(dir)
	if err != nil {
		return nil, err
	}
	root := filepath.Join(work, "toolchain-"+t.Name())
	if left, err = t.fill(ctx, work, root); err != nil {
		return nil, fmt.Errorf("tool chain %s: %w", t.Name(), err)
	}
	layer, err := l.addTree(root, "", nil)
	if err != nil {
		return nil, err
	}
	host := platforms.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}.Normalize()
	image, err := l.addImage(host, ocispec.ImageConfig{}, layer)
	if err != nil {
		return nil, err
	}
	return left, l.finish([]ocispec.Descriptor{image})
}

// toolchainImages is where the bench's registry has the tool chain images: where the frontend looks for them.
const toolchainImages = "manifold-build/toolchains"

// makeToolchains makes those that the tests call, in folders below work, and returns the names to push them under.
func makeToolchains(ctx context.Context, work string) (map[string][]string, error) {
	out := map[string][]string{}
	for _, t := range Toolchains(platforms.Platform{OS: "linux", Architecture: "arm64"}) {
		if t.Suite != "trixie" {
			continue
		}
		if _, err := makeToolchain(ctx, t, work, filepath.Join(work, t.Name())); err != nil {
			return nil, err
		}
		out[t.Name()] = []string{toolchainImages + ":" + t.Name()}
	}
	return out, nil
}

// gccPrograms are the programs of gcc's that are run in the place of the target's.
var gccPrograms = []string{"cc1", "cc1plus", "lto1", "collect2", "liblto_plugin.so"}

// fill makes the image's files.
func (t Toolchain) fill(ctx context.Context, work, root string) (left []string, err error) {
	triple, host := triples[t.Target.String()], platforms.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}.Normalize()
	suffix := strings.ReplaceAll(triple, "_", "-")
	cross, crossVersions, err := t.unpack(ctx, work, debianArch(host), fmt.Sprintf("g++-%d-%s", t.GCC, suffix))
	if err != nil {
		return nil, err
	}
	own, ownVersions, err := t.unpack(ctx, work, debianArch(t.Target), fmt.Sprintf("g++-%d", t.GCC))
	if err != nil {
		return nil, err
	}
	image := toolchainImage{root: root, libraries: filepath.Join(cross, "usr/lib", triples[host.String()])}
	same := func(ownPackage, crossPackage string) bool {
		a, b := ownVersions[ownPackage], crossVersions[crossPackage]
		if a == "" || withoutRebuild(a) != withoutRebuild(b) {
			left = append(left, fmt.Sprintf("%s %s: the cross package is %s", ownPackage, a, b))
			return false
		}
		return true
	}
	if gcc := fmt.Sprintf("gcc-%d", t.GCC); same(gcc, gcc+"-"+suffix) {
		for _, name := range gccPrograms {
			in := fmt.Sprintf("%s/%d/%s", triple, t.GCC, name)
			if err := image.add(own, "usr/lib*/gcc/"+in, cross, "usr/lib*/gcc-cross/"+in, gcc+"/"+name); err != nil {
				return nil, err
			}
		}
	}
	if same("binutils-"+suffix, "binutils-"+suffix) {
		for name, program := range map[string]string{"as": "as", "ld": "ld.bfd"} {
			in := "usr/bin/" + triple + "-" + program
			if err := image.add(own, in, cross, in, "binutils/"+name); err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(image.lines)
	return left, os.WriteFile(filepath.Join(root, accel.Programs), []byte(strings.Join(image.lines, "")), 0o644)
}

// unpack fetches a compiler for a machine with all that it needs, and returns the folder and the version of each package.
func (t Toolchain) unpack(ctx context.Context, work, arch, compiler string) (root string, versions map[string]string, err error) {
	a := apt{dir: filepath.Join(work, arch+"-"+compiler), lists: filepath.Join(work, "lists-"+t.Suite+"-"+arch), arch: arch, suite: t.Suite}
	debs, err := a.withDependencies(ctx, compiler)
	if err != nil {
		return "", nil, err
	}
	versions = map[string]string{}
	for _, deb := range debs {
		name, rest, _ := strings.Cut(filepath.Base(deb), "_")
		versions[name], _, _ = strings.Cut(rest, "_")
	}
	root = filepath.Join(a.dir, "x")
	if err := unpackDebs(ctx, debs, root); err != nil {
		return "", nil, err
	}
	return root, versions, mergeInto(filepath.Join(root, "lib"), filepath.Join(root, "usr/lib"))
}

// rebuilt matches what a package's version says of being built again, or as a cross package, from the same sources.
var rebuilt = regexp.MustCompile(`(cross\d+|\+b\d+)$`)

func withoutRebuild(version string) string { return rebuilt.ReplaceAllString(version, "") }

// debianArch is Debian's name of a platform that there are cross compilers for.
func debianArch(p platforms.Platform) string {
	if p.Architecture == "riscv64" {
		return "riscv64"
	}
	return debianName(p)
}

// toolchainImage is the root of a tool chain image.
type toolchainImage struct {
	root, libraries string
	lines           []string
}

// add puts the twin of a program into the image, with the libraries that it needs, and both into the list.
func (i *toolchainImage) add(ownRoot, ownPattern, crossRoot, crossPattern, at string) error {
	own, err := one(ownRoot, ownPattern)
	if err != nil {
		return err
	}
	twin, err := one(crossRoot, crossPattern)
	if err != nil {
		return err
	}
	ownSum, size, err := digestFile(own)
	if err != nil {
		return err
	}
	twinSum, _, err := digestFile(twin)
	if err != nil {
		return err
	}
	i.lines = append(i.lines, fmt.Sprintf("%s %d %s %s\n", ownSum, size, twinSum, at))
	if err := copyProgram(twin, filepath.Join(i.root, at)); err != nil {
		return err
	}
	return i.needs(twin)
}

// needs puts a program's libraries and its loader into the image.
func (i *toolchainImage) needs(name string) error {
	f, err := elf.Open(name)
	if err != nil {
		return err
	}
	libraries, err := f.ImportedLibraries()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			loader, err := io.ReadAll(p.Open())
			if err != nil {
				return err
			}
			if err := copyProgram(filepath.Join(i.libraries, filepath.Base(string(bytes.TrimRight(loader, "\x00")))), filepath.Join(i.root, "lib/ld.so")); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, library := range libraries {
		at := filepath.Join(i.root, "lib", library)
		if _, err := os.Stat(at); err == nil || strings.HasPrefix(library, "ld-linux") {
			continue
		}
		from := filepath.Join(i.libraries, library)
		if err := copyProgram(from, at); err != nil {
			return err
		}
		if err := i.needs(from); err != nil {
			return err
		}
	}
	return nil
}

// one is the file below a folder that a pattern matches.
func one(root, pattern string) (string, error) {
	found, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil || len(found) == 0 {
		return "", errors.Join(fmt.Errorf("no %s in the packages", pattern), err)
	}
	return filepath.EvalSymlinks(found[0])
}

func digestFile(name string) (sum string, size int64, err error) {
	dt, err := os.ReadFile(name)
	h := sha256.Sum256(dt)
	return hex.EncodeToString(h[:]), int64(len(dt)), err
}

func copyProgram(from, to string) error {
	dt, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: is it in a package that apt did not fetch?", err)
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, dt, 0o755)
}
