package frontend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/util/grpcerrors"
	fstypes "github.com/tonistiigi/fsutil/types"
	"google.golang.org/grpc/codes"
)

// refFS is the root filesystem of a result, read through the gateway.
type refFS struct {
	ctx context.Context //nolint:containedctx // io/fs has none
	ref client.Reference
	// left is how many folders may still be listed. Nil means all.
	left *atomic.Int64
}

var (
	_ fs.ReadDirFS = refFS{}
	_ fs.StatFS    = refFS{}
)

// Stat describes a file; links are followed.
func (r refFS) Stat(name string) (fs.FileInfo, error) {
	if name == "." {
		return refInfo{&fstypes.Stat{Path: ".", Mode: uint32(fs.ModeDir)}}, nil
	}
	st, err := r.ref.StatFile(r.ctx, client.StatRequest{Path: name})
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return refInfo{st}, nil
}

// Open opens a file. Its bytes are asked for when they are read.
func (r refFS) Open(name string) (fs.File, error) { return &refFile{fs: r, name: name}, nil }

// ReadDir lists a directory.
func (r refFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if r.left != nil && r.left.Add(-1) < 0 {
		return nil, errManyFolders
	}
	list, err := r.list(name, names{})
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	out := make([]fs.DirEntry, 0, len(list))
	for _, st := range list {
		out = append(out, refInfo{st})
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return slices.CompactFunc(out, func(a, b fs.DirEntry) bool { return a.Name() == b.Name() }), nil
}

// Filled returns the subdirectories of a directory that hold anything: BuildKit lists those above whatever matches.
func (r refFS) Filled(name string) (map[string]bool, error) {
	list, err := r.ref.ReadDir(r.ctx, client.ReadDirRequest{Path: name, IncludePattern: "*/*"})
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	out := make(map[string]bool, len(list))
	for _, st := range list {
		out[path.Base(st.GetPath())] = true
	}
	return out, nil
}

// nameClasses are the characters that names are told apart by where a directory does not fit one message. Neighbours are in different classes, so
// that numbers and words are split evenly.
var nameClasses = []string{"[0369adgjmpsvyADGJMPSVY]", "[147behknqtwzBEHKNQTWZ]", "[^0369adgjmpsvyADGJMPSVY147behknqtwzBEHKNQTWZ]"}

// names are the names that begin and end with characters of certain classes.
type names struct{ first, last []string }

// maxClasses bounds the characters that names are told apart by: no name is longer.
const maxClasses = 255

// pattern matches the names that are at least as long as they have classes.
func (n names) pattern() string { return strings.Join(n.first, "") + "*" + strings.Join(n.last, "") }

// exact matches the names that are just as long.
func (n names) exact() string { return strings.Join(n.first, "") + strings.Join(n.last, "") }

// parts are the longer names, told apart by one more character: from the back and from the front by turns, as many names have long endings or
// beginnings in common.
func (n names) parts() []names {
	out := make([]names, 0, len(nameClasses))
	for _, class := range nameClasses {
		part := names{slices.Clone(n.first), slices.Clone(n.last)}
		if len(n.first) < len(n.last) {
			part.first = append(part.first, class)
		} else {
			part.last = slices.Insert(part.last, 0, class)
		}
		out = append(out, part)
	}
	return out
}

// list lists a directory. A message holds so much; a larger directory is asked for in parts.
func (r refFS) list(name string, which names) ([]*fstypes.Stat, error) {
	all := len(which.last) == 0
	req := client.ReadDirRequest{Path: name}
	if !all {
		req.IncludePattern = which.pattern()
	}
	list, err := r.ref.ReadDir(r.ctx, req)
	if grpcerrors.Code(err) != codes.ResourceExhausted || len(which.first)+len(which.last) >= maxClasses {
		return list, err
	}
	list = nil
	if !all {
		if list, err = r.ref.ReadDir(r.ctx, client.ReadDirRequest{Path: name, IncludePattern: which.exact()}); err != nil {
			return nil, err
		}
	}
	for _, part := range which.parts() {
		more, err := r.list(name, part)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	return list, nil
}

// refInfo describes a file of a result.
type refInfo struct{ *fstypes.Stat }

// Name is the last part of the file's path.
func (i refInfo) Name() string { return path.Base(i.GetPath()) }

// Size is the file's size in bytes. A further name of a hard link has none here.
func (i refInfo) Size() int64 { return i.GetSize() }

// Mode, Type, ModTime, IsDir, Sys and Info are as in io/fs.
func (i refInfo) Mode() fs.FileMode { return fs.FileMode(i.GetMode()) }

// Type is the file's type.
func (i refInfo) Type() fs.FileMode { return i.Mode().Type() }

// ModTime is when the file was changed.
func (i refInfo) ModTime() time.Time { return time.Unix(0, i.GetModTime()) }

// IsDir reports whether it is a directory.
func (i refInfo) IsDir() bool { return i.Mode().IsDir() }

// Sys is what BuildKit says of the file.
func (i refInfo) Sys() any { return i.Stat }

// Info is the file's description.
func (i refInfo) Info() (fs.FileInfo, error) { return i, nil }

// ReadLink is where a link leads.
func (i refInfo) ReadLink() (string, error) { return i.GetLinkname(), nil }

// refFile is a file of a result.
type refFile struct {
	fs   refFS
	name string
	at   int
	// ahead is what was read and not yet asked for.
	ahead []byte
}

var _ io.ReaderAt = (*refFile)(nil)

// leastRead is how much of a file is asked for at least, in bytes: a program's headers fit.
const leastRead = 4 << 10

// Stat describes the file.
func (f *refFile) Stat() (fs.FileInfo, error) { return f.fs.Stat(f.name) }

// Read returns the next bytes.
func (f *refFile) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(f.ahead) == 0 {
		dt, err := f.fs.read(f.name, f.at, max(len(p), leastRead))
		if err != nil {
			return 0, err
		}
		if len(dt) == 0 {
			return 0, io.EOF
		}
		f.at += len(dt)
		f.ahead = dt
	}
	n := copy(p, f.ahead)
	f.ahead = f.ahead[n:]
	return n, nil
}

// ReadAt reads anywhere in the file.
func (f *refFile) ReadAt(p []byte, offset int64) (int, error) {
	dt, err := f.fs.read(f.name, int(offset), len(p))
	n := copy(p, dt)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (r refFS) read(name string, offset, n int) ([]byte, error) {
	dt, err := r.ref.ReadFile(r.ctx, client.ReadRequest{Filename: name, Range: &client.FileRange{Offset: offset, Length: min(n, maxRead)}})
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return dt, nil
}

// Close does nothing.
func (f *refFile) Close() error { return nil }

// sameFile reports whether two results hold the same file under a path, as far as size and time tell.
func sameFile(ctx context.Context, a, b client.Reference, name string) (bool, error) {
	if a == nil || b == nil {
		return false, nil
	}
	sa, errA := a.StatFile(ctx, client.StatRequest{Path: name})
	sb, errB := b.StatFile(ctx, client.StatRequest{Path: name})
	if err := errors.Join(errA, errB); err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	return sa.GetSize() == sb.GetSize() && sa.GetModTime() == sb.GetModTime() && sa.GetMode() == sb.GetMode(), nil
}
