package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/manifold-build/manifold/platforms"
)

// install makes sure that each program is on PATH, installing the Debian package that holds it where it is not.
// Keys are programs, values are packages.
func install(ctx context.Context, programs map[string]string) error {
	missing := map[string]bool{}
	for program, pkg := range programs {
		if _, err := exec.LookPath(program); err != nil {
			missing[pkg] = true
		}
	}
	if len(missing) == 0 {
		return nil
	}
	args := []string{"apt-get", "install", "-y", "-qq", "--no-install-recommends"}
	for pkg := range missing {
		args = append(args, pkg)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("missing programs: run as root, or first: %s", strings.Join(args, " "))
	}
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	unlock, err := lock(filepath.Join(cache, "apt.lock"))
	if err != nil {
		return err
	}
	defer func() { _ = unlock() }()
	sayf("installing %s from Debian", strings.Join(args[5:], ", "))
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	if _, err := run(ctx, command{Args: []string{"apt-get", "update", "-qq"}, Env: env}); err != nil {
		return err
	}
	_, err = run(ctx, command{Args: args, Env: env})
	return err
}

const binfmt = "/proc/sys/fs/binfmt_misc"

// registerQEMU mounts binfmt_misc and registers the handlers that qemu-user-static brings, as systemd would.
func registerQEMU(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(binfmt, "register")); errors.Is(err, fs.ErrNotExist) {
		if _, err := run(ctx, command{Args: []string{"mount", "-t", "binfmt_misc", "binfmt_misc", binfmt}}); err != nil {
			return err
		}
	}
	confs, err := filepath.Glob("/usr/lib/binfmt.d/qemu-*.conf")
	if err != nil {
		return err
	}
	if len(confs) == 0 {
		return errors.New("no QEMU handlers in /usr/lib/binfmt.d: is qemu-user-static installed?")
	}
	for _, conf := range confs {
		text, err := os.ReadFile(conf)
		if err != nil {
			return err
		}
		if err := registerHandlers(text); err != nil {
			return fmt.Errorf("%s: %w", conf, err)
		}
	}
	return nil
}

// registerHandlers registers each line of a binfmt.d file, ":name:type:offset:magic:mask:interpreter:flags".
func registerHandlers(conf []byte) error {
	for lines := bufio.NewScanner(bytes.NewReader(conf)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		name, _, _ := strings.Cut(strings.TrimPrefix(line, ":"), ":")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if _, err := os.Stat(filepath.Join(binfmt, name)); err == nil {
			continue
		}
		err := os.WriteFile(filepath.Join(binfmt, "register"), []byte(line), 0o200)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("registering %s: %w", name, err)
		}
	}
	return nil
}

// debianArchs are the platforms that Debian's busybox-static comes for, and its names of them.
var debianArchs = []struct{ Platform, Debian string }{
	{"linux/amd64", "amd64"},
	{"linux/arm64", "arm64"},
	{"linux/arm/v7", "armhf"},
	{"linux/arm/v6", "armel"},
	{"linux/ppc64le", "ppc64el"},
	{"linux/s390x", "s390x"},
	{"linux/386", "i386"},
	{"linux/mips64le", "mips64el"},
}

// fetchBusybox returns the static busybox of a Debian architecture.
func fetchBusybox(ctx context.Context, dir, arch string) ([]byte, error) {
	root, err := fetchPackages(ctx, dir, arch, "busybox-static")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"bin/busybox", "usr/bin/busybox"} {
		if b, err := os.ReadFile(filepath.Join(root, name)); err == nil {
			return b, nil
		}
	}
	return nil, fmt.Errorf("no busybox in the package for %s", arch)
}

// fetchPackages downloads packages of a Debian architecture and returns the folder in which they are unpacked.
func fetchPackages(ctx context.Context, dir, arch string, packages ...string) (string, error) {
	a := apt{dir: filepath.Join(dir, arch+"-"+packages[0]), lists: filepath.Join(dir, "lists-"+arch), arch: arch}
	debs, err := a.fetch(ctx, append([]string{"download"}, packages...), a.dir)
	if err != nil {
		return "", err
	}
	if len(debs) != len(packages) {
		return "", fmt.Errorf("expected the packages %v for %s, found %v", packages, arch, debs)
	}
	root := filepath.Join(a.dir, "x")
	return root, unpackDebs(ctx, debs, root)
}

// apt fetches packages of a Debian architecture without touching the machine's own dpkg state.
type apt struct {
	dir, arch string
	lists     string // the folder of what the suite has for the machine, which is fetched once
	suite     string // of Debian; empty means the machine's own sources
}

// withDependencies downloads packages and all that they depend on, on a machine that has nothing.
func (a apt) withDependencies(ctx context.Context, packages ...string) (debs []string, err error) {
	archives := filepath.Join(a.dir, "archives")
	if err := os.MkdirAll(filepath.Join(archives, "partial"), 0o755); err != nil {
		return nil, err
	}
	return a.fetch(ctx, append([]string{"-oDir::Cache::archives=" + archives, "install", "--download-only", "--no-install-recommends", "-y"}, packages...), archives)
}

// fetch runs apt-get after an update, and returns the packages that it leaves in a folder.
func (a apt) fetch(ctx context.Context, verb []string, into string) ([]string, error) {
	lists := a.lists
	for _, dir := range []string{filepath.Join(lists, "partial"), into} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	opts := []string{
		"-oAPT::Architecture=" + a.arch, "-oAPT::Architectures=" + a.arch, "-oDir::State::Lists=" + lists,
		"-oDir::State::Status=/dev/null", "-oDir::Etc::Preferences=/dev/null", "-oDir::Etc::PreferencesParts=/dev/null", // nothing of this machine's
		"-oAPT::Sandbox::User=root", "-oDir::Cache::pkgcache=", "-oDir::Cache::srcpkgcache=", "-oAcquire::Retries=3", "-qq",
	}
	if a.suite != "" {
		list := lists + ".list" // apt cleans the folder up
		if err := os.WriteFile(list, []byte("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian "+a.suite+" main\n"), 0o644); err != nil {
			return nil, err
		}
		opts = append(opts, "-oDir::Etc::SourceList="+list, "-oDir::Etc::SourceParts=/dev/null")
	}
	get := func(verb ...string) error {
		_, err := run(ctx, command{Dir: into, Args: append(append([]string{"apt-get"}, opts...), verb...)})
		return err
	}
	// A mirror in the middle of a sync fails the update of one suite; the package may come from another, and often
	// does a moment later.
	const tries = 4
	for try := 1; ; try++ {
		var err error
		if _, fetched := os.Stat(lists + ".fetched"); fetched != nil || try > 1 {
			err = get("update")
		}
		if e := get(verb...); e == nil {
			if err = os.WriteFile(lists+".fetched", nil, 0o644); err != nil {
				return nil, err
			}
			break
		} else if err = errors.Join(err, e); try == tries {
			return nil, err
		}
		time.Sleep(time.Duration(try) * 2 * time.Second)
	}
	debs, err := filepath.Glob(filepath.Join(into, "*.deb"))
	if err == nil && len(debs) == 0 {
		err = fmt.Errorf("no packages for %s after apt-get %s", a.arch, strings.Join(verb, " "))
	}
	return debs, err
}

// unpackDebs unpacks packages into a folder.
func unpackDebs(ctx context.Context, debs []string, root string) error {
	for _, deb := range debs {
		if _, err := run(ctx, command{Args: []string{"dpkg-deb", "-x", deb, root}}); err != nil {
			return err
		}
	}
	return nil
}

// debianName is Debian's name of a platform.
func debianName(p platforms.Platform) string {
	for _, a := range debianArchs {
		if a.Platform == p.String() {
			return a.Debian
		}
	}
	return ""
}
