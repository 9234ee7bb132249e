package sandbox

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/platforms"
)

// Suite is what BuildKit's own Dockerfile tests need to run offline.
type Suite struct {
	// Bin is the folder with the pinned programs.
	Bin string
	// Test is the compiled test package of the pinned BuildKit module.
	Test string
	// Mirror is a registry store that answers for the images the tests use. A run works on a copy: see CopyMirror.
	Mirror string
}

// OpenSuite prepares the suite.
func OpenSuite(ctx context.Context) (Suite, error) {
	err := install(ctx, map[string]string{"runc": "runc", "git": "git", "ssh": "openssh-client", "ldd": "libc-bin"})
	if err != nil {
		return Suite{}, err
	}
	if err := registerQEMU(ctx); err != nil {
		return Suite{}, err
	}
	s := Suite{}
	if s.Bin, err = tools(ctx); err != nil {
		return Suite{}, err
	}
	root, err := repoRoot()
	if err != nil {
		return Suite{}, err
	}
	mod := filepath.Join(root, "tools")
	key, err := keyOf([]string{filepath.Join(mod, "go.mod"), filepath.Join(mod, "go.sum")}, runtime.Version())
	if err != nil {
		return Suite{}, err
	}
	test, err := kept("suite", key, func(dir string) error {
		sayf("compiling BuildKit's Dockerfile suite (about a minute, once)")
		_, err := run(ctx, command{
			Dir: mod, Env: []string{"GOFLAGS=-mod=mod"},
			Args: []string{"go", "test", "-c", "-trimpath", "-o", filepath.Join(dir, "dockerfile.test"), "github.com/moby/buildkit/frontend/dockerfile"},
		})
		return err
	})
	if err != nil {
		return Suite{}, err
	}
	s.Test = filepath.Join(test, "dockerfile.test")
	s.Mirror, err = suiteImages(ctx, s.Bin)
	return s, err
}

// CopyMirror copies the mirror to a folder that a run may write to.
func (s Suite) CopyMirror(dst string) error { return linkTree(s.Mirror, dst) }

// ReferenceLayout writes an OCI layout with the reference frontend as its image.
func (s Suite) ReferenceLayout(dir string) error {
	return frontendLayout(dir, filepath.Join(s.Bin, "dockerfile-frontend"))
}

// suiteVersion is part of the cache key of the suite's images: raise it when what they hold changes.
const suiteVersion = "2"

// suiteImages returns a registry store with stand-ins for the images that the suite uses. They are made of Debian's
// busybox; the alpine one has the machine's own git, because some tests run it.
func suiteImages(ctx context.Context, bin string) (string, error) {
	key, err := keyOf([]string{"/usr/bin/git"}, suiteVersion)
	if err != nil {
		return "", err
	}
	return kept("suite-images", key, func(dir string) error {
		work, err := os.MkdirTemp("", "manifold-suite-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(work) }()
		box, err := suiteBusybox(ctx, work)
		if err != nil {
			return err
		}
		git, err := gitFiles(ctx)
		if err != nil {
			return err
		}
		for name, image := range map[string]suiteImage{
			"busybox":      {files: suiteBase(box), cmd: []string{"sh"}},
			"busybox-musl": {files: append(suiteBase(box), file("etc/musl", "no\n")), cmd: []string{"sh"}},
			"alpine": {cmd: []string{"/bin/sh"}, files: append(append(suiteBase(box), git...),
				folder("etc/apk"), folder("opt"), folder("srv"), folder("media"), file("etc/alpine-release", "3.18.0\n"),
				file("etc/os-release", "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.18.0\n"))},
			"debian":  {files: append(suiteBase(box), file("etc/debian_version", "11.6\n")), cmd: []string{"bash"}},
			"hellofs": {files: []entry{program("hellofs", []byte("#!/bin/sh\nexit 1\n"))}, noEnv: true},
		} {
			if err := image.write(filepath.Join(work, name), box.Platform); err != nil {
				return err
			}
		}
		return seed(ctx, bin, filepath.Join(dir, "data"), work, map[string][]string{
			"busybox":      {"library/busybox:latest"},
			"busybox-musl": {"library/busybox:stable-musl"},
			"alpine":       {"library/alpine:latest"},
			"debian":       {"amd64/debian:bullseye-20230109-slim"},
			"hellofs":      {"tonistiigi/hellofs:latest"},
		})
	})
}

type suiteImage struct {
	files []entry
	cmd   []string
	noEnv bool
}

// write writes the image as a layout that names it alone: the suite wants no index.
func (s suiteImage) write(dir string, p platforms.Platform) error {
	l, err := newLayout(dir)
	if err != nil {
		return err
	}
	layer, err := l.addFiles(s.files)
	if err != nil {
		return err
	}
	config := ocispec.ImageConfig{Cmd: s.cmd}
	if !s.noEnv {
		config.Env = []string{"PATH=" + searchPath}
	}
	image, err := l.addImage(p, config, layer)
	if err != nil {
		return err
	}
	return l.finish([]ocispec.Descriptor{image})
}

func suiteBusybox(ctx context.Context, work string) (busybox, error) {
	p, err := platforms.Parse(debianArchs[0].Platform)
	if err != nil {
		return busybox{}, err
	}
	b, err := fetchBusybox(ctx, work, debianArchs[0].Debian)
	if err != nil {
		return busybox{}, err
	}
	applets, err := appletsOf(ctx, work, b)
	return busybox{Platform: p, Program: b, Applets: applets}, err
}

// suiteBase is a system with the users, and the commands to add more, that the suite's Dockerfiles expect.
func suiteBase(b busybox) []entry {
	var out []entry
	for _, e := range base(b) {
		if e.Name != "etc/passwd" && e.Name != "etc/group" && e.Name != "bin/adduser" && e.Name != "bin/addgroup" {
			out = append(out, e)
		}
	}
	users := "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nbin:x:2:2:bin:/bin:/bin/false\n" +
		"sys:x:3:3:sys:/dev:/bin/false\nsync:x:4:100:sync:/bin:/bin/sync\nmail:x:8:8:mail:/var/spool/mail:/bin/false\n" +
		"www-data:x:33:33:www-data:/var/www:/bin/false\noperator:x:37:37:Operator:/var:/bin/false\n" +
		"nobody:x:65534:65534:nobody:/home:/bin/false\n"
	groups := "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nwheel:x:10:root\nmail:x:8:\n" +
		"www-data:x:33:\noperator:x:37:\nusers:x:100:\nnobody:x:65534:\n"
	return append(out, file("etc/passwd", users), file("etc/group", groups), file("etc/shadow", "root:*::0:::::\n"),
		folder("var/spool"), folder("var/spool/mail"),
		program("bin/adduser", []byte(addUser)), program("bin/addgroup", []byte(addGroup)))
}

// Debian's busybox has no adduser and addgroup; these know what the suite asks of them.
const (
	addGroup = `#!/bin/sh
id=1000
while [ $# -gt 0 ]; do case "$1" in -g) id=$2; shift;; -*) ;; *) name=$1;; esac; shift; done
while grep -q ":x:$id:" /etc/group; do id=$((id+1)); done
echo "$name:x:$id:" >> /etc/group
`
	addUser = `#!/bin/sh
id=1000
while [ $# -gt 0 ]; do case "$1" in -u) id=$2; shift;; -h) home=$2; shift;; -G|-s|-g) shift;; -*) ;; *) name=$1;; esac; shift; done
while grep -q "^[^:]*:x:$id:" /etc/passwd; do id=$((id+1)); done
: "${home:=/home/$name}"
echo "$name:x:$id:$id::$home:/bin/sh" >> /etc/passwd
grep -q "^$name:" /etc/group || echo "$name:x:$id:" >> /etc/group
mkdir -p "$home" && chown "$id:$id" "$home"
`
	// apk only has to agree that git is there.
	apkAddGit = `#!/bin/sh
[ "$1" = add ] && [ "$#" = 2 ] && [ "$2" = git ] && exit 0
echo "apk: there is no package repository here" >&2
exit 127
`
)

// gitFiles lists the machine's git and the libraries it needs.
func gitFiles(ctx context.Context) ([]entry, error) {
	const git = "/usr/bin/git"
	out, err := run(ctx, command{Args: []string{"ldd", git}})
	if err != nil {
		return nil, err
	}
	files := []string{git}
	for word := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(word, "/") {
			files = append(files, word)
		}
	}
	entries := []entry{program("sbin/apk", []byte(apkAddGit)), folder("lib64"), folder("lib/" + multiarch(files))}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		entries = append(entries, program(strings.TrimPrefix(path, "/"), b))
	}
	return entries, nil
}

// multiarch is the name of the folder below /lib that the libraries are in.
func multiarch(files []string) string {
	for _, f := range files {
		if rest, ok := strings.CutPrefix(f, "/lib/"); ok {
			if dir, _, below := strings.Cut(rest, "/"); below {
				return dir
			}
		}
	}
	return "."
}
