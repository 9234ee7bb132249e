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
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/manifold-build/manifold/verify"
)

// Through the gateway every directory of an image is a round trip, and every file that may be a program is one more. Most of them are the base
// image's, which its digest names for ever: what is in there is read once and remembered in a folder. Where an image is a base and copies, only
// the places that were copied to are then read.

const (
	maxBases    = 128     // base images that are remembered
	maxBaseSize = 8 << 20 // of one, in bytes
)

// maxFolders is how many folders of an image are listed through the gateway if there is another way.
const maxFolders = 64

// errManyFolders says that they are more.
var errManyFolders = errors.New("many folders")

// files reads what counts in a target's image. The error is errManyFolders if more folders than most would have to be listed; 0 means all.
func (b *build) files(ctx context.Context, out built, most int) (verify.Files, error) {
	root := refFS{ctx: ctx, ref: out.result.Reference}
	if most > 0 {
		root.left = &atomic.Int64{}
		root.left.Store(int64(most))
	}
	if b.cacheDir != "" {
		files, ok, err := b.sinceBase(ctx, out, root)
		if ok || errors.Is(err, errManyFolders) || ctx.Err() != nil {
			return files, err
		}
	}
	return verify.Scan(root, true)
}

// sinceBase reads what was copied onto a target's base image, and adds what is known of that. Not ok means that the image is something else than
// a base image and copies, or that it cannot be told apart.
func (b *build) sinceBase(ctx context.Context, out built, root refFS) (_ verify.Files, ok bool, _ error) {
	def, err := out.converted.State.Marshal(ctx)
	if err != nil {
		return verify.Files{}, false, err
	}
	base, paths, ok := copiesOf(def.ToPB())
	if !ok {
		return verify.Files{}, false, nil
	}
	var known verify.Files
	if base != nil {
		if known, err = b.baseFiles(ctx, base); err != nil {
			return verify.Files{}, false, err
		}
	}
	return known.Copied(root, true, paths)
}

// baseFiles is what counts in a base image, as it is remembered, or else read.
func (b *build) baseFiles(ctx context.Context, base *pb.Definition) (files verify.Files, _ error) {
	memory := bases(b.cacheDir)
	key := digest.FromBytes(base.GetDef()[0])
	if memory.get(key, &files) {
		return files, nil
	}
	res, err := b.client.Solve(ctx, client.SolveRequest{Definition: base, Evaluate: true})
	if err != nil {
		return files, fmt.Errorf("the base image: %w", err)
	}
	ref, err := res.SingleRef()
	if err != nil {
		return files, err
	}
	if files, err = verify.Scan(refFS{ctx: ctx, ref: ref}, true); err != nil {
		return files, fmt.Errorf("the base image: %w", err)
	}
	memory.put(key, files)
	return files, nil
}

// copiesOf takes a definition apart into a base image, nil for none, and the paths that are copied to, in order. Not ok means that it is something
// else: a command changes whatever it likes, and an archive is unpacked by rules of its own. Nor is it if a copy goes to the root: then all is read.
func copiesOf(def *pb.Definition) (base *pb.Definition, paths []string, ok bool) {
	ops := map[digest.Digest]*pb.Op{}
	encoded := map[digest.Digest][]byte{}
	var last *pb.Op
	for _, dt := range def.GetDef() {
		var op pb.Op
		if err := op.UnmarshalVT(dt); err != nil {
			return nil, nil, false
		}
		id := digest.FromBytes(dt)
		ops[id], encoded[id], last = &op, dt, &op
	}
	if len(last.GetInputs()) != 1 {
		return nil, nil, false // scratch
	}
	at := last.GetInputs()[0]
	for {
		id := digest.Digest(at.GetDigest())
		op := ops[id]
		if name, ok := strings.CutPrefix(op.GetSource().GetIdentifier(), "docker-image://"); ok {
			slices.Reverse(paths)
			base, err := vertex(def, encoded[id])
			return base, paths, err == nil && strings.Contains(name, "@sha256:")
		}
		to, input, ok := copies(op.GetFile(), at.GetIndex(), len(op.GetInputs()))
		if paths = append(paths, to...); !ok {
			return nil, nil, false
		}
		if input < 0 {
			slices.Reverse(paths)
			return nil, paths, true
		}
		at = op.GetInputs()[input]
	}
}

// vertex is the definition of one vertex of another definition, which has no inputs: the same vertex, and so the same bytes.
func vertex(def *pb.Definition, dt []byte) (*pb.Definition, error) {
	id := digest.FromBytes(dt).String()
	last, err := (&pb.Op{Inputs: []*pb.Input{{Digest: id}}}).MarshalVT()
	if err != nil {
		return nil, err
	}
	meta := def.GetMetadata()[id].CloneVT()
	if meta != nil {
		meta.IgnoreCache = false // it was solved just now
	}
	return &pb.Definition{Def: [][]byte{dt, last}, Metadata: map[string]*pb.OpMetadata{id: meta}}, nil
}

// copies follows an output of a file operation back to the input that it changes, which is negative for scratch, and lists the paths that it copies
// to, the last first.
func copies(op *pb.FileOp, output int64, inputs int) (paths []string, input int64, ok bool) {
	i := slices.IndexFunc(op.GetActions(), func(a *pb.FileAction) bool { return a.GetOutput() == output })
	for i >= 0 {
		a := op.GetActions()[i]
		switch c := a.GetCopy(); {
		case a.GetMkdir() != nil: // a directory counts for nothing
		case c == nil, c.GetAttemptUnpackDockerCompatibility(), c.GetAlwaysReplaceExistingDestPaths():
			return nil, 0, false
		case !c.GetFollowSymlink() && !onlyRoot(c):
			return nil, 0, false // a link may be copied to the very path
		case path.Clean("/"+c.GetDest()) == "/":
			return nil, 0, false
		default:
			paths = append(paths, c.GetDest())
		}
		if input = a.GetInput(); input < int64(inputs) {
			return paths, input, true
		}
		i = int(input) - inputs // the output of an earlier action
		if i >= len(op.GetActions()) {
			return nil, 0, false
		}
	}
	return nil, 0, false
}

// onlyRoot reports whether a copy takes a whole root, which is a directory.
func onlyRoot(c *pb.FileActionCopy) bool { return c.GetSrc() == "/" && !c.GetAllowWildcard() }

// bases is the folder in which base images are remembered, whatever node they were read on.
type bases string

// get reads what is remembered. A file that cannot be read, or is not as it was written, is as good as none.
func (d bases) get(key digest.Digest, to *verify.Files) bool {
	name, ok := d.file(key)
	if !ok {
		return false
	}
	f, err := os.Open(name) //nolint:gosec // the caller names the folder
	if err != nil {
		return false
	}
	dt, err := io.ReadAll(io.LimitReader(f, maxBaseSize+sumSize))
	if errors.Join(err, f.Close()) != nil || len(dt) < sumSize {
		return false
	}
	sum, body := dt[:sumSize], dt[sumSize:]
	if digest.FromBytes(body).Encoded() != string(sum) || json.Unmarshal(body, to) != nil {
		return false
	}
	now := time.Now()
	_ = os.Chtimes(name, now, now) // the least used is forgotten first
	return true
}

// sumSize is the length of the digest that a file begins with.
const sumSize = 64

// put remembers. What cannot be written is read again.
func (d bases) put(key digest.Digest, files verify.Files) {
	name, ok := d.file(key)
	dt, err := json.Marshal(files)
	if !ok || err != nil || len(dt) > maxBaseSize || os.MkdirAll(string(d), 0o700) != nil {
		return
	}
	f, err := os.CreateTemp(string(d), ".new-*")
	if err != nil {
		return
	}
	_, err = f.WriteString(digest.FromBytes(dt).Encoded() + string(dt))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	d.prune()
}

// file is where a base image is remembered by this very program. Not ok means that it is not known which program this is.
func (d bases) file(key digest.Digest) (_ string, ok bool) {
	program := thisProgram()
	return filepath.Join(string(d), digest.FromString(key.String()+program).Encoded()), program != ""
}

// thisProgram tells this program from other versions, which may look for other things; empty if it cannot be told.
var thisProgram = sync.OnceValue(func() string {
	name, err := os.Executable()
	if _, e := os.Stat(procSelf); e == nil {
		name, err = procSelf, nil // this process's, even if another version has taken its place
	}
	if err != nil {
		return ""
	}
	info, err := os.Stat(name)
	if err != nil {
		return ""
	}
	build, _ := debug.ReadBuildInfo()
	return fmt.Sprintln(info.Size(), info.ModTime().UnixNano(), build)
})

// procSelf is a process's own program on Linux.
const procSelf = "/proc/self/exe"

// prune forgets the least used.
func (d bases) prune() {
	list, err := os.ReadDir(string(d))
	if err != nil || len(list) <= maxBases {
		return
	}
	used := func(e fs.DirEntry) time.Time {
		info, err := e.Info()
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return used(a).Compare(used(b)) })
	for _, e := range list[:len(list)-maxBases] {
		_ = os.Remove(filepath.Join(string(d), e.Name()))
	}
}
