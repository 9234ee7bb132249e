package builder

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client"

	"github.com/manifold-build/manifold/index"
)

// Keys of BuildKit's exporters. They are written in this file only.
const (
	exportName         = "name"
	exportPush         = "push"
	exportPushByDigest = "push-by-digest"
	exportOCITypes     = "oci-mediatypes"
	exportInsecure     = "registry.insecure"
	exportCompression  = "compression"
	exportLevel        = "compression-level"
)

// fastestGzip is the level that new layers are compressed at: gzip's fastest, as ko and crane do. BuildKit's own choice, 6, takes
// three times as long for a program and makes it 5 % smaller.
const fastestGzip = "1"

// exportPlan is what a request's outputs come to.
type exportPlan struct {
	entries []client.ExportEntry
	// tags are the names to publish under; repos the repositories they are in, each once. Empty means no push.
	tags  []string
	repos []string
	// insecure: the output says registry.insecure=true, so this process speaks plain http to the repositories' hosts too.
	insecure bool
	// archives are files that are renamed into place when the build is done.
	archives []*archive
}

// planExports translates outputs to BuildKit's exporters. Whatever pushes tags is turned into a push by digest: the
// tags are moved by package index.
func (r Request) planExports() (*exportPlan, error) {
	p := &exportPlan{}
	push, pushAttrs := r.Push, map[string]string{}
	tags := slices.Clone(r.Tags)
	for _, o := range r.Outputs {
		attrs := maps.Clone(o.Attrs)
		if attrs == nil {
			attrs = map[string]string{}
		}
		pushes := o.Type == "registry"
		if v, ok := attrs[exportPush]; ok && !pushes {
			b, err := strconv.ParseBool(v)
			if err != nil {
				return nil, fmt.Errorf("output %s: push=%q is neither true nor false", o.Type, v)
			}
			pushes = b
		}
		byDigest, err := flagged(attrs, exportPushByDigest)
		if err != nil {
			return nil, fmt.Errorf("output %s: %w", o.Type, err)
		}
		if o.Type == client.ExporterDocker && len(r.Targets) > 1 {
			return nil, fmt.Errorf("output docker holds one image, and %d targets are built: name one with --platform, or take type=oci", len(r.Targets))
		}
		switch {
		case (o.Type == "registry" || o.Type == client.ExporterImage) && pushes && !byDigest:
			push = true
			if names := attrs[exportName]; names != "" {
				tags = append(tags, strings.Split(names, ",")...)
			}
			delete(attrs, exportName)
			delete(attrs, exportPush)
			maps.Copy(pushAttrs, attrs)
		default:
			if o.Type == "registry" {
				o.Type, attrs[exportPush] = client.ExporterImage, "true"
			}
			if err := p.add(o, attrs, tags); err != nil {
				return nil, err
			}
		}
	}
	if push {
		if err := p.addPush(tags, pushAttrs); err != nil {
			return nil, err
		}
	}
	for _, e := range p.entries {
		maps.Copy(e.Attrs, r.Annotations)
		compress(e)
	}
	return p, nil
}

// flagged reads a switch among an exporter's attributes, as BuildKit does: one without a value is on.
func flagged(attrs map[string]string, key string) (bool, error) {
	v, ok := attrs[key]
	if !ok || v == "" {
		return ok, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("%s=%q is neither true nor false", key, v)
	}
	return b, nil
}

// compress chooses how an exporter compresses new layers, where the user does not say.
func compress(e client.ExportEntry) {
	images := e.Type == client.ExporterImage || e.Type == client.ExporterOCI || e.Type == client.ExporterDocker
	if images && e.Attrs[exportCompression] == "" && e.Attrs[exportLevel] == "" {
		e.Attrs[exportLevel] = fastestGzip
	}
}

// addPush adds the one exporter that pushes to every repository by digest.
func (p *exportPlan) addPush(tags []string, attrs map[string]string) error {
	if len(tags) == 0 {
		return errors.New("nothing to push to: name the result with -t")
	}
	for _, t := range tags {
		named, err := index.ParseReference(t)
		if err != nil {
			return err
		}
		if _, ok := named.(reference.Canonical); ok {
			return fmt.Errorf("tag %q: a digest cannot be pushed to", t)
		}
		if !slices.Contains(p.tags, named.String()) {
			p.tags = append(p.tags, named.String())
		}
		if repo := reference.TrimNamed(named).String(); !slices.Contains(p.repos, repo) {
			p.repos = append(p.repos, repo)
		}
	}
	entry := client.ExportEntry{Type: client.ExporterImage, Attrs: map[string]string{exportOCITypes: "true"}}
	maps.Copy(entry.Attrs, attrs)
	if v, ok := attrs[exportInsecure]; ok {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("output: %s=%q is neither true nor false", exportInsecure, v)
		}
		p.insecure = b
	}
	entry.Attrs[exportName] = strings.Join(p.repos, ",")
	entry.Attrs[exportPush], entry.Attrs[exportPushByDigest] = "true", "true"
	p.entries = append(p.entries, entry)
	return nil
}

// client returns the client that reaches the repositories, and tells BuildKit, which has one word for both, of plain http and of certificates that
// are not checked.
func (p *exportPlan) client(c *index.Client) *index.Client {
	if c == nil {
		c = index.NewClient(index.ClientOptions{})
	}
	opt := c.Options()
	hosts := map[string]bool{}
	for _, repo := range p.repos {
		named, err := index.ParseReference(repo)
		if err != nil {
			continue
		}
		hosts[reference.Domain(named)] = true
		if unsafe(opt, reference.Domain(named)) {
			last := p.entries[len(p.entries)-1] // addPush adds it last
			last.Attrs[exportInsecure] = "true"
		}
	}
	if !p.insecure || opt.PlainHTTP != nil {
		return c
	}
	opt.PlainHTTP = func(host string) (bool, error) {
		if hosts[host] {
			return true, nil
		}
		return docker.MatchLocalhost(host)
	}
	return index.NewClient(opt)
}

// unsafe reports whether a host is asked to be reached in a way that BuildKit has to be told of.
func unsafe(opt index.ClientOptions, host string) bool {
	if opt.PlainHTTP == nil {
		return opt.Insecure
	}
	plain, err := opt.PlainHTTP(host)
	local, _ := docker.MatchLocalhost(host)
	return opt.Insecure || err == nil && plain && !local
}

// add adds one output that is no push of tags.
func (p *exportPlan) add(o Output, attrs map[string]string, tags []string) error {
	entry := client.ExportEntry{Type: o.Type, Attrs: attrs}
	switch o.Type {
	case client.ExporterLocal:
		if o.Dest == "" {
			return errors.New("output local needs dest=FOLDER")
		}
		entry.OutputDir = o.Dest
	case client.ExporterOCI, client.ExporterDocker, client.ExporterTar:
		if o.Type != client.ExporterTar && attrs[exportName] == "" && len(tags) > 0 {
			attrs[exportName] = strings.Join(tags, ",")
		}
		if attrs["tar"] == "false" {
			if o.Dest == "" {
				return fmt.Errorf("output %s with tar=false needs dest=FOLDER", o.Type)
			}
			entry.OutputDir = o.Dest
			break
		}
		a, err := newArchive(o)
		if err != nil {
			return err
		}
		p.archives = append(p.archives, a)
		entry.Output = func(map[string]string) (io.WriteCloser, error) { return a.open() }
	case client.ExporterImage:
		if attrs[exportName] == "" && len(tags) > 0 {
			attrs[exportName] = strings.Join(tags, ",")
		}
	default:
		return fmt.Errorf("unknown output type %q: it is one of local, tar, oci, docker, image, registry", o.Type)
	}
	p.entries = append(p.entries, entry)
	return nil
}

// archive is a file that appears under its name when it is complete.
type archive struct {
	kind string // exporter type
	dest string // "-" is standard output
	// whole: dest is a regular file or none yet, and is replaced; anything else is written to.
	whole bool
	tmp   string // what is written until then; empty before it is opened
	// opened: something may have been written.
	opened bool
	failed error // the first that went wrong while it was written
}

// archiveFile notes what goes wrong with an archive: BuildKit's client passes on only what it says.
type archiveFile struct {
	*os.File

	of *archive
}

// Write writes to the archive.
func (f archiveFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	return n, f.of.note(err)
}

// Close ends the archive.
func (f archiveFile) Close() error { return f.of.note(f.File.Close()) }

func (a *archive) note(err error) error {
	if err == nil || a.failed != nil {
		return err
	}
	a.failed = fmt.Errorf("writing %s: %w", a.dest, err)
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		a.failed = fmt.Errorf("writing %s: %w", a.dest, at.Err) // it has another name until it is complete
	}
	return err
}

func newArchive(o Output) (*archive, error) {
	a := &archive{kind: o.Type, dest: o.Dest}
	if a.dest == "" {
		a.dest = "-"
	}
	if a.dest == "-" {
		if info, err := os.Stdout.Stat(); err == nil && info.Mode()&fs.ModeCharDevice != 0 {
			return nil, fmt.Errorf("output %s: refusing to write an archive to a terminal, name a file with dest=FILE", o.Type)
		}
		return a, nil
	}
	if target, err := filepath.EvalSymlinks(a.dest); err == nil {
		a.dest = target // a link goes on pointing to it
	}
	switch info, err := os.Stat(a.dest); {
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("output %s: dest=%s is a folder", o.Type, a.dest)
	case err == nil && !info.Mode().IsRegular():
		return a, nil // a device or a pipe is written to, not replaced
	}
	if _, err := os.Stat(filepath.Dir(a.dest)); err != nil {
		return nil, fmt.Errorf("output %s: dest=%s: %w", o.Type, a.dest, err)
	}
	a.whole = true
	return a, nil
}

// open opens it for writing, anew if it was opened before and is whole.
func (a *archive) open() (io.WriteCloser, error) {
	a.opened = true
	if a.tmp != "" {
		if err := a.finish(true); err != nil {
			return nil, err
		}
	}
	switch {
	case a.dest == "-":
		return os.Stdout, nil
	case !a.whole:
		f, err := os.OpenFile(a.dest, os.O_WRONLY, 0)
		return archiveFile{f, a}, a.note(err)
	}
	// Unlike os.CreateTemp's, the file's mode is what the umask makes of it. Two builds of one file do not meet.
	a.tmp = filepath.Join(filepath.Dir(a.dest), ".manifold-"+filepath.Base(a.dest)+"-"+rand.Text()[:8]+".part")
	f, err := os.OpenFile(a.tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666) //nolint:gosec // as above
	return archiveFile{f, a}, a.note(err)
}

// finish renames the archive into place, or removes what there is of it if the build failed.
func (a *archive) finish(failed bool) error {
	switch {
	case a.tmp == "":
		return nil
	case failed:
		if err := os.Remove(a.tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return os.Rename(a.tmp, a.dest)
}

// cause is why a build failed: what went wrong with an archive here, if anything did.
func (p *exportPlan) cause(err error) error {
	for _, a := range p.archives {
		if err != nil && a.failed != nil {
			return a.failed
		}
	}
	return err
}

// finish ends every archive.
func (p *exportPlan) finish(failed bool) error {
	var errs []error
	for _, a := range p.archives {
		errs = append(errs, a.finish(failed))
	}
	return errors.Join(errs...)
}
