package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/platforms"
)

// Images that no one here made: Debian's own packages, unpacked. A golang image that holds a C compiler hides nothing of cgo, and programs of a
// real system depend on the libraries of their machine.

// release is a release of Debian that images are made of.
type release struct {
	suite string
	// kinds are lists of packages, each without what the ones before it hold.
	kinds []kind
	// images are those that are made of it.
	images []debianImage
}

// kind is a list of packages that lies in a layer of its own.
type kind struct{ name, packages string }

// debianImage is an image: the layers of these kinds, and perhaps Go or npm on top.
type debianImage struct {
	layout string
	kinds  []string
	golang bool
	npm    bool
}

const basePackages = "base-files base-passwd bash coreutils dash debianutils diffutils dpkg findutils grep gzip hostname libc-bin mawk perl-base sed tar xz-utils zlib1g"

// releases are the releases, and what of them is there. What is compiled lies on trixie, whose cross compilers are built from the same sources as its own.
var releases = []release{
	{
		suite: "bookworm", kinds: []kind{{"base", basePackages}, {"node", "nodejs"}},
		images: []debianImage{{layout: "debian", kinds: []string{"base"}}, {layout: "node-bookworm", kinds: []string{"base", "node"}, npm: true}},
	},
	{
		suite: "trixie",
		kinds: []kind{{"base", basePackages}, {"gcc", "gcc g++ libc6-dev make pkgconf libsqlite3-dev zlib1g-dev"}, {"rustup", "patchelf rustup"}, {"rust", "cargo rustc"}, {"build", "cmake ninja-build meson"}},
		images: []debianImage{
			{layout: "golang-trixie", kinds: []string{"base", "gcc"}, golang: true},
			{layout: "rust-trixie", kinds: []string{"base", "gcc", "rustup", "rust"}},
			{layout: "gcc-trixie", kinds: []string{"base", "gcc", "build"}},
		},
	},
}

// pruned is what no program needs of the packages, as patterns below the root.
var pruned = strings.Fields("usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/lintian usr/share/bug usr/share/doc-base usr/share/gcc usr/share/gdb " +
	"usr/share/bash-completion usr/share/common-licenses usr/lib/*/gconv usr/lib/*/audit usr/sbin/zic usr/bin/localedef usr/lib/systemd etc/cron.daily etc/logrotate.d " +
	"usr/lib/gcc/*/*/plugin usr/lib/gcc/*/*/lib*san* usr/lib/gcc/*/*/libitm.* usr/lib/gcc/*/*/libquadmath.* usr/bin/*lto-dump* usr/bin/*gcov* " +
	"usr/bin/*gprof* usr/bin/*dwp usr/bin/*gold usr/lib/compat-ld usr/lib/gold-ld usr/share/nodejs/@types usr/bin/perl5.* usr/lib/*/perl/*/CORE")

// makeDebian makes the images of every release, in folders below work.
func makeDebian(ctx context.Context, work string, ca []byte) error {
	for _, r := range releases {
		if err := r.make(ctx, work, ca); err != nil {
			return fmt.Errorf("%s: %w", r.suite, err)
		}
	}
	return nil
}

func (r release) make(ctx context.Context, work string, ca []byte) error {
	layouts := make([]layout, len(r.images))
	images := make([][]ocispec.Descriptor, len(r.images))
	for i, image := range r.images {
		var err error
		if layouts[i], err = newLayout(filepath.Join(work, image.layout)); err != nil {
			return err
		}
	}
	for _, name := range toolchainPlatforms {
		p, err := platforms.Parse(name)
		if err != nil {
			return err
		}
		roots, err := r.roots(ctx, work, debianName(p))
		if err != nil {
			return err
		}
		goroot, err := toolchain(ctx, p)
		if err != nil {
			return err
		}
		for i, image := range r.images {
			desc, err := image.add(layouts[i], p, roots, goroot, filepath.Join(work, "npm"), ca) // makeNode has fetched it
			if err != nil {
				return err
			}
			images[i] = append(images[i], desc)
		}
	}
	for i, l := range layouts {
		if err := l.finish(images[i]); err != nil {
			return err
		}
	}
	return nil
}

// add adds one platform's image to a layout.
func (d debianImage) add(l layout, p platforms.Platform, roots map[string]string, goroot, npm string, ca []byte) (ocispec.Descriptor, error) {
	layers := make([]layer, 0, 5)
	var errs []error
	tree := func(src, dst string, exec func(string) bool) {
		layer, err := l.addTree(src, dst, exec)
		layers, errs = append(layers, layer), append(errs, err)
	}
	files := func(entries ...entry) {
		layer, err := l.addFiles(entries)
		layers, errs = append(layers, layer), append(errs, err)
	}
	for _, k := range d.kinds {
		tree(roots[k], "", nil)
		if k == "gcc" {
			files(entry{Name: "usr/bin/cc", Link: "gcc"}, entry{Name: "usr/bin/c++", Link: "g++"})
		}
	}
	files(entry{Name: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777}, entry{Name: "var/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		folder("etc/ssl"), folder("etc/ssl/certs"), entry{Name: "etc/ssl/certs/ca-certificates.crt", Mode: 0o644, Data: ca})
	config := ocispec.ImageConfig{Env: []string{"PATH=" + searchPath}, Cmd: []string{"bash"}}
	if d.golang {
		tree(goroot, "usr/local/go", func(path string) bool { return strings.HasPrefix(path, "bin/") || strings.HasPrefix(path, "pkg/tool/") })
		files(folder("go"), entry{Name: "go/src", Mode: fs.ModeDir | 0o777}, entry{Name: "go/bin", Mode: fs.ModeDir | 0o777})
		config.Env = []string{"PATH=/go/bin:/usr/local/go/bin:" + searchPath, "GOLANG_VERSION=" + GoVersion, "GOTOOLCHAIN=local", "GOPATH=/go"}
		config.WorkingDir = "/go"
	}
	if d.npm {
		tree(npm, "usr/local/lib/node_modules/npm", func(path string) bool { return strings.HasPrefix(path, "bin/") })
		files(entry{Name: "usr/local/bin/npm", Link: "../lib/node_modules/npm/bin/npm-cli.js"}, entry{Name: "usr/local/bin/npx", Link: "../lib/node_modules/npm/bin/npx-cli.js"})
		config.Env = append(config.Env, "NODE_EXTRA_CA_CERTS="+caBundle)
		config.Cmd = []string{"node"}
	}
	if err := errors.Join(errs...); err != nil {
		return ocispec.Descriptor{}, err
	}
	return l.addImage(p, config, layers...)
}

// roots unpacks the packages of each kind into a root as dpkg would have, their scripts apart: the top folders are links into usr. The root of the
// first kind is whole, the others are for a layer on top of it.
func (r release) roots(ctx context.Context, work, arch string) (map[string]string, error) {
	out := map[string]string{}
	held := map[string]map[string]bool{} // the packages of each kind
	for _, k := range r.kinds {
		a := apt{dir: filepath.Join(work, strings.Join([]string{r.suite, arch, k.name}, "-")), lists: filepath.Join(work, "lists-"+r.suite+"-"+arch), arch: arch, suite: r.suite}
		debs, err := a.withDependencies(ctx, strings.Fields(k.packages)...)
		if err != nil {
			return nil, err
		}
		held[k.name] = map[string]bool{}
		debs = slices.DeleteFunc(debs, func(deb string) bool {
			name, _, _ := strings.Cut(filepath.Base(deb), "_")
			held[k.name][name] = true
			return slices.ContainsFunc(r.below(k.name), func(below string) bool { return held[below][name] })
		})
		root := filepath.Join(a.dir, "x")
		if err := unpackDebs(ctx, debs, root); err != nil {
			return nil, err
		}
		if err := errors.Join(settle(root, k.name == "base"), prune(root)); err != nil {
			return nil, fmt.Errorf("%s for %s: %w", k.name, arch, err)
		}
		out[k.name] = root
	}
	return out, nil
}

// DebianRoot unpacks packages of a suite of Debian's, with all that they depend on, as dpkg would have, their scripts apart, for one of Debian's architectures. It
// returns the folder, which lies below work.
func DebianRoot(ctx context.Context, work, suite, arch string, packages ...string) (string, error) {
	name := strings.ReplaceAll(strings.Join(append([]string{suite, arch}, packages...), "-"), "/", "-")
	a := apt{dir: filepath.Join(work, name[:min(len(name), 100)]), lists: filepath.Join(work, "lists-"+suite+"-"+arch), arch: arch, suite: suite} //nolint:mnd // names of files are bounded
	debs, err := a.withDependencies(ctx, append(strings.Fields(basePackages), packages...)...)
	if err != nil {
		return "", err
	}
	root := filepath.Join(a.dir, "x")
	if err := unpackDebs(ctx, debs, root); err != nil {
		return "", err
	}
	return root, settle(root, true)
}

// NPM installs packages of npm's below a folder, for whatever machine they are, without their scripts.
func NPM(ctx context.Context, dir string, packages ...string) error {
	if err := install(ctx, map[string]string{"npm": "npm"}); err != nil {
		return err
	}
	_, err := run(ctx, command{Args: append([]string{"npm", "install", "--prefix", dir, "--ignore-scripts", "--no-audit", "--no-fund", "--force"}, packages...)})
	return err
}

// below lists the kinds that a kind lies on.
func (r release) below(name string) []string {
	for _, image := range r.images {
		if i := slices.Index(image.kinds, name); i >= 0 {
			return image.kinds[:i]
		}
	}
	return nil
}

// settle brings a root into the shape that an installed system has.
func settle(root string, whole bool) error {
	for _, top := range []string{"bin", "sbin", "lib", "lib64"} {
		if info, err := os.Lstat(filepath.Join(root, top)); err != nil || info.IsDir() {
			if err := mergeInto(filepath.Join(root, top), filepath.Join(root, "usr", top)); err != nil {
				return err
			}
		} else if err := os.Remove(filepath.Join(root, top)); err != nil { // a link already
			return err
		}
		if _, err := os.Stat(filepath.Join(root, "usr", top)); err == nil && whole {
			if err := os.Symlink("usr/"+top, filepath.Join(root, top)); err != nil {
				return err
			}
		}
	}
	if whole {
		if err := settleDebian(root); err != nil {
			return err
		}
	}
	return nil
}

// prune takes away what no program needs.
func prune(root string) error {
	for _, pattern := range pruned {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		for _, p := range found {
			if err := os.RemoveAll(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// mergeInto moves what is in one folder into another, and takes the folder away. One that is not there is no error.
func mergeInto(from, to string) error {
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, e := range entries {
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		info, err := os.Lstat(dst)
		if err == nil && info.IsDir() && e.IsDir() {
			err = mergeInto(src, dst)
		} else {
			err = os.Rename(src, dst)
		}
		if err != nil {
			return err
		}
	}
	return os.Remove(from)
}

// settleDebian does what the packages' scripts would have.
func settleDebian(root string) error {
	for dir := range strings.FieldsSeq("dev proc sys run mnt media opt srv home root tmp boot usr/local/bin usr/local/sbin usr/local/lib usr/local/share usr/local/include usr/local/etc " +
		"usr/local/src var/tmp var/cache var/lib var/log var/spool var/mail") {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{"passwd", "group"} {
		dt, err := os.ReadFile(filepath.Join(root, "usr/share/base-passwd", name+".master"))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, "etc", name), dt, 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc/nsswitch.conf"), []byte("hosts: files dns\n"), 0o644); err != nil {
		return err
	}
	links := map[string]string{"usr/bin/awk": "mawk", "usr/bin/which": "which.debianutils", "var/run": "/run", "var/lock": "/run/lock"}
	for _, name := range slices.Sorted(maps.Keys(links)) {
		at := filepath.Join(root, name)
		if err := os.RemoveAll(at); err != nil {
			return err
		}
		if err := os.Symlink(links[name], at); err != nil {
			return err
		}
	}
	return nil
}
