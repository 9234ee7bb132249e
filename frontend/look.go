package frontend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/gateway/client"

	"github.com/manifold-build/manifold/frontend/dockerfile"
)

const (
	maxLooked = 64 << 20 // of the answer of a look, in bytes
	readAhead = 1 << 20
	// maxRead is how much of a file is asked for at once: a message of the gateway holds 16 MiB.
	maxRead = 8 << 20
	// maxLinks bounds the symbolic links that one path leads through.
	maxLinks = 40
)

// check looks at what is taken from a stage of a target, and returns why it has to be put back: machine code of the build platform was found, or
// nobody could look. A stage that fails is no matter of the check's.
func (b *build) check(ctx context.Context, t *target, c dockerfile.Check) *dockerfile.PutBack {
	b.mu.Lock()
	src, err := t.group.planner.StageText(c.Stage, c.Target)
	b.mu.Unlock()
	var res *client.Result
	var converted *dockerfile2llb.Result
	if err == nil {
		res, converted, err = b.solveText(ctx, t.group, src, c.Target)
	}
	if err != nil || ctx.Err() != nil {
		return nil // the target's own build says what is wrong with the stage
	}
	all, err := b.lookAtStage(ctx, t.group, res, converted.State, c)
	reason := b.chosenHere(all, c.Target)
	if err != nil {
		reason = fmt.Sprintf("what is taken from it could not be looked at (%v)", err)
	}
	if reason == "" {
		return nil
	}
	return &dockerfile.PutBack{Stage: c.Stage, Target: t.platform, Reason: reason}
}

// lookAtStage lists the machine code in what is taken from a stage: by an exec of our own program on the stage, else by asking for its files one by one.
func (b *build) lookAtStage(ctx context.Context, g *group, res *client.Result, stage llb.State, c dockerfile.Check) ([]code, error) {
	s, err := b.ownScanner()
	if err != nil {
		return nil, err
	}
	if s == nil {
		s = b.sentScanner()
	}
	if s != nil {
		dt, ok, err := b.runScanner(ctx, s, stage, scanRequest{Look: c.Paths}, "[manifold] what machine code is taken from stage "+c.Title, g.ui.CacheImports)
		if err != nil {
			return nil, err
		}
		var found lookReport
		if ok && json.Unmarshal(dt, &found) == nil {
			if found.Problem != "" {
				return nil, errors.New(found.Problem)
			}
			return found.Code, nil
		}
	}
	ref, err := res.SingleRef()
	if err != nil || ref == nil {
		return nil, errors.Join(err, errors.New("the stage is empty"))
	}
	return lookAt(refFS{ctx: ctx, ref: ref}, c.Paths, func(name string) (io.ReaderAt, func() error, error) {
		return &fileAt{ctx: ctx, ref: ref, name: name}, func() error { return nil }, nil
	})
}

// lookReport is what a look by our own program leaves.
type lookReport struct {
	Code []code `json:"code,omitempty"`
	// Problem says why not all could be looked at; empty if it could.
	Problem string `json:"problem,omitempty"`
}

// lookIn looks at a root filesystem of this machine.
func lookIn(root *os.Root, paths []string) lookReport {
	found, err := lookAt(root.FS(), paths, func(name string) (io.ReaderAt, func() error, error) {
		f, err := root.Open(name)
		if err != nil {
			return nil, nil, err
		}
		return f, f.Close, nil
	})
	if err != nil {
		return lookReport{Problem: err.Error()}
	}
	return lookReport{Code: found}
}

// opener opens a file for reading at any place.
type opener func(name string) (io.ReaderAt, func() error, error)

// lookAt lists the machine code at and below paths, which may be patterns; what is not there is the converter's to report.
func lookAt(fsys fs.FS, paths []string, open opener) ([]code, error) {
	var out []code
	for _, pattern := range paths {
		matches := []string{within(fsys, pattern)}
		if strings.ContainsAny(matches[0], "*?[") { // a name alone may be a link that leads out of its folder, which Glob does not see
			var err error
			if matches, err = fs.Glob(fsys, matches[0]); err != nil {
				return nil, fmt.Errorf("%s: %w", pattern, err)
			}
		}
		for _, name := range matches {
			found, err := lookBelow(fsys, followed(fsys, name), open)
			if err != nil {
				return nil, err
			}
			out = append(out, found...)
		}
	}
	return out, nil
}

// within is a path of the stage as the file system names it, links in its folders followed.
func within(fsys fs.FS, p string) string {
	dir, base := path.Split(path.Clean("/" + p))
	if strings.ContainsAny(dir, "*?[") {
		return strings.TrimPrefix(path.Join(dir, base), "/")
	}
	dir = followed(fsys, strings.Trim(dir, "/"))
	if base == "" {
		return dir
	}
	return path.Join(dir, base)
}

// followed follows the symbolic links of a path inside the root filesystem.
func followed(fsys fs.FS, name string) string {
	done, rest := ".", name
	for links := 0; rest != "" && rest != "."; {
		first, more, _ := strings.Cut(rest, "/")
		rest = more
		next := path.Join(done, first)
		to, err := fs.ReadLink(fsys, next)
		if err != nil || links >= maxLinks {
			done = next
			continue
		}
		links++
		if path.IsAbs(to) {
			done = "."
		}
		rest = strings.TrimPrefix(path.Clean(path.Join("/", done, to, rest)), "/")
		done = "."
	}
	return done
}

func lookBelow(fsys fs.FS, name string, open opener) ([]code, error) {
	var out []code
	err := fs.WalkDir(fsys, name, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		found, err := lookInto(p, info.Size(), open)
		out = append(out, found...)
		return err
	})
	return out, err
}

func lookInto(name string, size int64, open opener) (found []code, err error) {
	if size < headSize {
		return nil, nil
	}
	r, done, err := open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	a := archive{left: maxArchive}
	if err := a.file(io.NewSectionReader(r, 0, size), "/"+name, maxArchiveDeep); err != nil {
		return nil, fmt.Errorf("/%s: %w", name, err)
	}
	return a.found, nil
}

// fileAt reads a file of a result in parts, and keeps the last one: zip reads in small steps.
type fileAt struct {
	ctx  context.Context //nolint:containedctx // io.ReaderAt has none
	ref  client.Reference
	name string
	at   int64
	kept []byte
}

// ReadAt reads from an offset.
func (f *fileAt) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at < f.at || at >= f.at+int64(len(f.kept)) {
			dt, err := f.ref.ReadFile(f.ctx, client.ReadRequest{
				Filename: f.name, Range: &client.FileRange{Offset: int(at), Length: min(max(len(p)-n, readAhead), maxRead)},
			})
			if err != nil {
				return n, err
			}
			if len(dt) == 0 {
				return n, io.EOF
			}
			f.at, f.kept = at, dt
		}
		n += copy(p[n:], f.kept[at-f.at:])
	}
	return n, nil
}
