package builder

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/distribution/reference"
	"github.com/klauspost/compress/gzip"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/ociindex"
	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session/upload/uploadprovider"
	"github.com/moby/buildkit/util/archiveutil"
	"github.com/tonistiigi/fsutil"
)

// The names under which the context and the Dockerfile's folder are offered to the frontend. Strings cross the border to
// the gateway in this file and in attrs.go only.
const (
	localContext    = "context"
	localDockerfile = "dockerfile"
	defaultFilename = "Dockerfile"

	// stdin stands for standard input, as a context or as a Dockerfile.
	stdin = "-"
)

var httpURL = regexp.MustCompile(`^https?://`)

// contexts offers a request's contexts and Dockerfiles to a solve.
type contexts struct {
	request Request
	opt     *client.SolveOpt
	tmp     []string // folders to remove when the solve has ended
}

// done removes what was made for the solve.
func (c *contexts) done() error {
	var errs []error
	for _, dir := range c.tmp {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// tempDir makes a folder that lasts as long as the solve.
func (c *contexts) tempDir() (string, error) {
	dir, err := os.MkdirTemp("", "manifold-")
	if err == nil {
		c.tmp = append(c.tmp, dir)
	}
	return dir, err
}

func (c *contexts) mount(name, dir string) error {
	fs, err := fsutil.NewFS(dir)
	if err != nil {
		return fmt.Errorf("%s %s: %w", name, dir, err)
	}
	c.opt.LocalMounts[name] = fs
	return nil
}

// honest is a folder of which a file that cannot be opened ends the build: the library that sends folders would send an empty one in its place.
type honest struct {
	fsutil.FS

	fail context.CancelCauseFunc
}

// giveUp is how long an empty file is held back until the build has ended, so that no node keeps it.
const giveUp = 2 * time.Second

// Open opens a file, or ends the build.
func (h honest) Open(path string) (io.ReadCloser, error) {
	f, err := h.FS.Open(path)
	if err != nil {
		h.fail(fmt.Errorf("the build context cannot be read: %w", err))
		time.Sleep(giveUp)
	}
	return f, err
}

// main offers the main context and the folder that holds the Dockerfiles. A folder comes before a URL that looks alike.
func (c *contexts) main() error {
	r := c.request
	dir := r.Context
	if dir == "" {
		dir = "."
	}
	if r.Dockerfile == stdin && r.dockerfiles() > 1 {
		return errors.New("a Dockerfile from standard input cannot be combined with Dockerfiles of single platforms")
	}
	switch {
	case dir == stdin:
		return c.fromStdin()
	case isFolder(dir):
		return c.folder(dir)
	case isRemote(dir):
		return c.remote(dir)
	}
	return CheckContext(r.Context)
}

// CheckContext is an error if a context is none that [Request.Context] can name. No URL is asked.
func CheckContext(dir string) error {
	if dir == "" || dir == stdin || isFolder(dir) || isRemote(dir) {
		return nil
	}
	return fmt.Errorf("the build context %q is neither a folder nor a git or https URL", dir)
}

// dockerfiles counts the Dockerfiles that the request names.
func (r Request) dockerfiles() int {
	n := 0
	if r.Dockerfile != "" {
		n++
	}
	for _, o := range r.PerTarget {
		if o.Dockerfile != "" {
			n++
		}
	}
	return n
}

// folder offers a context of this machine.
func (c *contexts) folder(dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := c.mount(localContext, abs); err != nil {
		return err
	}
	// BuildKit sends only what changed since the last build whose session had the same key.
	c.opt.SharedKey = sharedKey(abs)
	if c.request.Dockerfile == stdin {
		return c.dockerfileFrom(c.request.stdin())
	}
	root, err := c.request.dockerfileRoot(abs)
	if err != nil {
		return err
	}
	if err := c.mount(localDockerfile, root); err != nil {
		return err
	}
	return c.filenames(root)
}

func sharedKey(path string) string {
	sum := sha256.Sum256([]byte(path))
	return "manifold-" + hex.EncodeToString(sum[:8])
}

// remote passes a URL on to BuildKit. The Dockerfile is in there, unless its path is absolute or it is standard input.
func (c *contexts) remote(url string) error {
	c.opt.FrontendAttrs["context"] = url
	switch file := c.request.Dockerfile; {
	case file == stdin:
		return c.dockerfileFrom(c.request.stdin())
	case filepath.IsAbs(file):
		root, err := c.request.dockerfileRoot("")
		if err != nil {
			return err
		}
		c.opt.FrontendAttrs["dockerfilekey"] = localDockerfile
		if err := c.mount(localDockerfile, root); err != nil {
			return err
		}
		return c.filenames(root)
	}
	return c.filenames("")
}

// fromStdin takes standard input as the context if it is an archive, otherwise as the Dockerfile of an empty context.
func (c *contexts) fromStdin() error {
	if c.request.Dockerfile == stdin {
		return errors.New("standard input cannot be both the build context and the Dockerfile")
	}
	in := bufio.NewReader(c.request.stdin())
	begin, err := in.Peek(2 * tarBlock)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the build context from standard input: %w", err)
	}
	if known := archiveutil.IsArchive(begin); known || isTar(begin) {
		body := io.NopCloser(in)
		if !known {
			body = gzipped(in) // which BuildKit knows
		}
		up := uploadprovider.New()
		c.opt.FrontendAttrs["context"] = up.Add(body)
		c.opt.Session = append(c.opt.Session, up)
		return c.filenames("")
	}
	if c.request.dockerfiles() > 0 {
		return errors.New("standard input is no archive, and so the Dockerfile itself: it cannot be combined with -f")
	}
	empty, err := c.tempDir()
	if err != nil {
		return err
	}
	if err := c.mount(localContext, empty); err != nil {
		return err
	}
	return c.dockerfileFrom(in)
}

// dockerfileFrom reads the Dockerfile from a stream.
func (c *contexts) dockerfileFrom(r io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(r, maxDockerfile+1))
	if err != nil {
		return fmt.Errorf("reading the Dockerfile from standard input: %w", err)
	}
	if len(text) > maxDockerfile {
		return fmt.Errorf("the Dockerfile on standard input is larger than %d MiB", maxDockerfile>>20)
	}
	dir, err := c.tempDir()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, defaultFilename), text, 0o600); err != nil {
		return err
	}
	c.opt.FrontendAttrs["dockerfilekey"] = localDockerfile
	return c.mount(localDockerfile, dir)
}

// maxDockerfile bounds a Dockerfile on standard input, in bytes.
const maxDockerfile = 16 << 20

func (r Request) stdin() io.Reader {
	if r.kept != "" {
		return &lateFile{name: r.kept}
	}
	if r.Stdin == nil {
		return os.Stdin
	}
	return r.Stdin
}

// lateFile is a file that is opened when it is first read, and closed at its end.
type lateFile struct {
	name string
	file *os.File
	end  bool
}

// Read reads the file.
func (l *lateFile) Read(p []byte) (n int, err error) {
	if l.end {
		return 0, io.EOF
	}
	if l.file == nil {
		if l.file, err = os.Open(l.name); err != nil {
			return 0, err
		}
	}
	n, err = l.file.Read(p)
	if errors.Is(err, io.EOF) {
		l.end = true
		_ = l.file.Close()
	}
	return n, err
}

// tarBlock is the size of a tar header, in bytes.
const tarBlock = 512

// isTar reports whether a stream begins with the header of a tar archive (POSIX.1-2001, pax, ustar Interchange Format). BuildKit itself wants the first file to
// follow within 1024 bytes, and takes an archive that begins with a pax header, as those of git archive do, for a Dockerfile.
func isTar(begin []byte) bool {
	const magicAt, sumAt, sumEnd = 257, 148, 156
	if len(begin) < tarBlock || !bytes.HasPrefix(begin[magicAt:], []byte("ustar")) {
		return false
	}
	var sum int64
	for i, b := range begin[:tarBlock] {
		if i >= sumAt && i < sumEnd {
			b = ' ' // of itself
		}
		sum += int64(b)
	}
	said, err := strconv.ParseInt(strings.Trim(string(begin[sumAt:sumEnd]), " \x00"), 8, 64)
	return err == nil && said == sum
}

// gzipped compresses a stream while it is read.
func gzipped(in io.Reader) io.ReadCloser {
	out, w := io.Pipe()
	go func() {
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // the level is one
		_, err := io.Copy(z, in)
		w.CloseWithError(errors.Join(err, z.Close()))
	}()
	return out
}

// filenames names the Dockerfiles, relative to the folder root; as they are if root is empty.
func (c *contexts) filenames(root string) error {
	set := func(key, path string) error {
		if path == "" {
			return nil
		}
		if root != "" {
			abs, err := filepath.Abs(path)
			if err != nil {
				return err
			}
			if _, err := os.Stat(abs); err != nil {
				return fmt.Errorf("the Dockerfile %q cannot be read: %w", path, err)
			}
			if path, err = filepath.Rel(root, abs); err != nil {
				return err
			}
		}
		c.opt.FrontendAttrs[key] = filepath.ToSlash(path)
		return nil
	}
	if err := set("filename", c.request.Dockerfile); err != nil {
		return err
	}
	for _, o := range c.request.PerTarget {
		if err := set(o.Pattern.String()+":filename", o.Dockerfile); err != nil {
			return err
		}
	}
	return nil
}

// dockerfileRoot is the folder that holds every Dockerfile of the request, the context if it names none.
func (r Request) dockerfileRoot(context string) (string, error) {
	paths := []string{}
	if r.Dockerfile != "" {
		paths = append(paths, r.Dockerfile)
	}
	for _, o := range r.PerTarget {
		if o.Dockerfile != "" {
			paths = append(paths, o.Dockerfile)
		}
	}
	if r.Dockerfile == "" && !r.everyTargetHasDockerfile() {
		if _, err := os.Stat(filepath.Join(context, defaultFilename)); err == nil || len(paths) == 0 {
			paths = append(paths, filepath.Join(context, defaultFilename))
		}
	}
	root := ""
	for _, p := range paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			return "", err
		}
		dir := filepath.Dir(abs)
		if root == "" {
			root = dir
		}
		for !within(root, dir) {
			root = filepath.Dir(root)
		}
	}
	return root, nil
}

func (r Request) everyTargetHasDockerfile() bool {
	for _, t := range r.Targets {
		found := false
		for _, o := range r.PerTarget {
			found = found || o.Dockerfile != "" && o.Pattern.Match(t)
		}
		if !found {
			return false
		}
	}
	return len(r.Targets) > 0
}

// within reports whether the folder dir is root or below it.
func within(root, dir string) bool {
	rel, err := filepath.Rel(root, dir)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// named offers a named context. The name is written as an image's is looked up: without docker.io/library and :latest.
func (c *contexts) named(name, value string) error {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return fmt.Errorf("invalid name: %w", err)
	}
	name = strings.TrimSuffix(reference.FamiliarString(named), ":latest")
	key := "context:" + name
	switch {
	case strings.HasPrefix(value, "docker-image://"), strings.HasPrefix(value, "target:"):
		c.opt.FrontendAttrs[key] = value
		return nil
	case strings.HasPrefix(value, "oci-layout://"):
		return c.layout(key, strings.TrimPrefix(value, "oci-layout://"))
	case isFolder(value):
		abs, err := filepath.Abs(value)
		if err != nil {
			return err
		}
		mount := name
		if name == localContext || name == localDockerfile {
			mount = "_" + name // these are the main context's
		}
		c.opt.FrontendAttrs[key] = "local:" + mount
		c.opt.FrontendAttrs["sharedkey:localdir:"+name] = sharedKey(abs)
		return c.mount(mount, abs)
	case isRemote(value):
		c.opt.FrontendAttrs[key] = value
		return nil
	}
	return fmt.Errorf("%q is neither a folder nor a docker-image://, oci-layout://, git or https URL", value)
}

// layout offers an OCI image layout, DIR[:TAG][@DIGEST], as a named context. Without a digest it is the image that the
// layout's index.json has under the tag, "latest" if there is none, or else the only one it has.
func (c *contexts) layout(key, spec string) error {
	dir, digest, _ := strings.Cut(spec, "@")
	tag := "latest"
	if i := strings.LastIndex(dir, ":"); i > strings.LastIndex(dir, "/") {
		dir, tag = dir[:i], dir[i+1:]
	}
	if !isFolder(dir) {
		return fmt.Errorf("oci-layout://%s: no such folder", dir)
	}
	if digest == "" {
		index := ociindex.NewStoreIndex(dir)
		desc, err := index.Get(tag)
		if err == nil && desc == nil {
			desc, err = index.GetSingle()
		}
		if err != nil {
			return fmt.Errorf("oci-layout://%s: %w", dir, err)
		}
		if desc == nil {
			return fmt.Errorf("oci-layout://%s holds no image under the tag %q, and not just one image", dir, tag)
		}
		digest = desc.Digest.String()
	}
	store, err := local.NewStore(dir)
	if err != nil {
		return err
	}
	id := identity.NewID()
	c.opt.OCIStores[id] = store
	c.opt.FrontendAttrs[key] = "oci-layout://" + id + "@" + digest
	return nil
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// isRemote reports whether a context is a URL that BuildKit fetches itself.
func isRemote(context string) bool {
	if httpURL.MatchString(context) {
		return true
	}
	_, isGit, err := dfgitutil.ParseGitRef(context)
	return isGit && err == nil
}
