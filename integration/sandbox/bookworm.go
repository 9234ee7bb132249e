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

// Debian's packages, each list without what the one it stands on holds.
const (
	debianPackages = "base-files base-passwd bash coreutils dash debianutils diffutils dpkg findutils grep gzip hostname libacl1 libattr1 libbz2-1.0 libc-bin libc6 libcrypt1 " +
		"libdebconfclient0 libgcc-s1 libgmp10 liblzma5 libmd0 libpcre2-8-0 libselinux1 libtinfo6 libzstd1 mawk ncurses-base perl-base sed tar xz-utils zlib1g"
	gccPackages = "gcc gcc-12 cpp-12 binutils binutils-common libbinutils libctf-nobfd0 libctf0 libjansson4 libisl23 libmpc3 libmpfr6 libgcc-12-dev libatomic1 libgomp1 " +
		"libc6-dev libcrypt-dev linux-libc-dev make"
	nodePackages = "nodejs libnode108 node-acorn node-busboy node-cjs-module-lexer node-undici node-xtend libbrotli1 libc-ares2 libicu72 libnghttp2-14 libssl3 libuv1 libstdc++6"
	rustPackages = "cargo rustc libstd-rust-1.63 libstd-rust-dev libllvm14 libstdc++6 libffi8 libedit2 libbsd0 libxml2 libicu72 libz3-4 libgit2-1.5 libcurl3-gnutls libgnutls30 " +
		"libhogweed6 libnettle8 libp11-kit0 libtasn1-6 libunistring2 libidn2-0 libhttp-parser2.9 libmbedcrypto7 libmbedtls14 libmbedx509-1 libssh2-1 libssl3 libnghttp2-14 libpsl5 " +
		"librtmp1 libldap-2.5-0 libsasl2-2 libbrotli1 libgssapi-krb5-2 libkrb5-3 libk5crypto3 libkrb5support0 libcom-err2 libkeyutils1"
)

// binutilsPackages are the parts of binutils that are for one machine.
var binutilsPackages = map[string]string{"amd64": "binutils-x86-64-linux-gnu", "arm64": "binutils-aarch64-linux-gnu"}

// pruned is what no program needs of the packages, as patterns below the root.
var pruned = strings.Fields("usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/lintian usr/share/bug usr/share/doc-base usr/share/gcc usr/share/gdb " +
	"usr/share/bash-completion usr/share/common-licenses usr/lib/*/gconv usr/lib/*/audit usr/sbin/zic usr/bin/localedef usr/lib/systemd etc/cron.daily etc/logrotate.d " +
	"usr/lib/gcc/*/12/lto1 usr/lib/gcc/*/12/plugin usr/lib/gcc/*/12/lib*san* usr/lib/gcc/*/12/libitm.* usr/lib/gcc/*/12/libquadmath.* usr/bin/*lto-dump* usr/bin/*gcov* " +
	"usr/bin/*gprof* usr/bin/*dwp usr/bin/*gold usr/bin/*cpp-12 usr/lib/compat-ld usr/lib/gold-ld usr/share/nodejs/@types usr/bin/perl5.36.0")

// makeBookworm makes library/debian:12, library/golang:1.26-bookworm and library/rust:1.63-bookworm with a C compiler, and
// library/node:18-bookworm, below work.
func makeBookworm(ctx context.Context, work string, ca []byte) error {
	names := []string{"debian", "golang-bookworm", "node-bookworm", "rust-bookworm"}
	layouts := make([]layout, len(names))
	images := make([][]ocispec.Descriptor, len(names))
	for i, name := range names {
		var err error
		if layouts[i], err = newLayout(filepath.Join(work, name)); err != nil {
			return err
		}
	}
	npm := filepath.Join(work, "npm") // makeNode has fetched it
	for _, name := range toolchainPlatforms {
		p, err := platforms.Parse(name)
		if err != nil {
			return err
		}
		arch := debianName(p)
		roots := map[string]string{}
		for kind, packages := range map[string]string{
			"debian": debianPackages, "gcc": gccPackages + " " + binutilsPackages[arch], "nodejs": nodePackages, "rust": rustPackages,
		} {
			if roots[kind], err = bookwormRoot(ctx, work, arch, kind, strings.Fields(packages)); err != nil {
				return fmt.Errorf("%s for %s: %w", kind, arch, err)
			}
		}
		goroot, err := toolchain(ctx, p)
		if err != nil {
			return err
		}
		for i, l := range layouts {
			image, err := bookwormImage(l, names[i], p, roots, goroot, npm, ca)
			if err != nil {
				return err
			}
			images[i] = append(images[i], image)
		}
	}
	for i, l := range layouts {
		if err := l.finish(images[i]); err != nil {
			return err
		}
	}
	return nil
}

// bookwormImage adds one platform's image to a layout.
func bookwormImage(l layout, name string, p platforms.Platform, roots map[string]string, goroot, npm string, ca []byte) (ocispec.Descriptor, error) {
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
	tree(roots["debian"], "", nil)
	files(entry{Name: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777}, entry{Name: "var/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		folder("etc/ssl"), folder("etc/ssl/certs"), entry{Name: "etc/ssl/certs/ca-certificates.crt", Mode: 0o644, Data: ca})
	config := ocispec.ImageConfig{Env: []string{"PATH=" + searchPath}, Cmd: []string{"bash"}}
	switch name {
	case "golang-bookworm":
		tree(roots["gcc"], "", nil)
		files(entry{Name: "usr/bin/cc", Link: "gcc"})
		tree(goroot, "usr/local/go", func(path string) bool { return strings.HasPrefix(path, "bin/") || strings.HasPrefix(path, "pkg/tool/") })
		files(folder("go"), entry{Name: "go/src", Mode: fs.ModeDir | 0o777}, entry{Name: "go/bin", Mode: fs.ModeDir | 0o777})
		config.Env = []string{"PATH=/go/bin:/usr/local/go/bin:" + searchPath, "GOLANG_VERSION=" + goVersion, "GOTOOLCHAIN=local", "GOPATH=/go"}
		config.WorkingDir = "/go"
	case "rust-bookworm":
		tree(roots["gcc"], "", nil)
		files(entry{Name: "usr/bin/cc", Link: "gcc"})
		tree(roots["rust"], "", nil)
	case "node-bookworm":
		tree(roots["nodejs"], "", nil)
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

// bookwormRoot unpacks packages into a root as dpkg would have, their scripts apart: the top folders are links into usr. The root of debian is
// whole, the others are for a layer on top of it.
func bookwormRoot(ctx context.Context, work, arch, kind string, packages []string) (string, error) {
	root, err := fetchPackages(ctx, filepath.Join(work, "bookworm-"+kind), arch, packages...)
	if err != nil {
		return "", err
	}
	for _, top := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := mergeInto(filepath.Join(root, top), filepath.Join(root, "usr", top)); err != nil {
			return "", err
		}
		if _, err := os.Stat(filepath.Join(root, "usr", top)); err == nil && kind == "debian" {
			if err := os.Symlink("usr/"+top, filepath.Join(root, top)); err != nil {
				return "", err
			}
		}
	}
	if kind == "debian" {
		if err := settleDebian(root); err != nil {
			return "", err
		}
	}
	for _, pattern := range pruned {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return "", err
		}
		for _, p := range found {
			if err := os.RemoveAll(p); err != nil {
				return "", err
			}
		}
	}
	if kind == "debian" {
		err = os.Symlink("perl", filepath.Join(root, "usr/bin/perl5.36.0"))
	}
	return root, err
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
