package builder

import (
	"context"
	"debug/elf"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"

	"github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"

	"github.com/manifold-build/manifold/frontend"
)

// A program is offered to BuildKit as the only file of a folder. No build context can have such a name.
const (
	programFolder  = "_manifold-program"
	launcherFolder = "_manifold-accelerator"
	programName    = "manifold"
)

// offer lets BuildKit fetch a program of this machine, if it runs on the node without any other file.
func (b Builder) offer(opt *client.SolveOpt, file, folder string) frontend.Program {
	native := b.Node.Host.Native
	if file == "" || native.OS != runtime.GOOS || native.Architecture != runtime.GOARCH || !isStatic(file) {
		return frontend.Program{}
	}
	if opt.LocalMounts == nil {
		opt.LocalMounts = map[string]fsutil.FS{}
	}
	opt.LocalMounts[folder] = oneFile(file)
	return frontend.Program{Folder: folder, Path: programName}
}

// isStatic reports whether a program is an ELF file that needs no interpreter.
func isStatic(name string) bool {
	f, err := elf.Open(name)
	if err != nil {
		return false
	}
	interp := slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
	return f.Close() == nil && !interp
}

// oneFile is a folder that holds one file of this machine as programName, and nothing of what is beside it.
type oneFile string

var _ fsutil.FS = oneFile("")

// Walk visits the file.
func (o oneFile) Walk(_ context.Context, target string, visit fs.WalkDirFunc) error {
	if target = path.Clean("/" + target); target != "/" && target != "/"+programName {
		return nil
	}
	info, err := os.Stat(string(o))
	if err != nil {
		return err
	}
	return visit(programName, &fsutil.DirEntryInfo{Stat: &types.Stat{
		Path: programName, Mode: 0o755, Size: info.Size(), ModTime: info.ModTime().UnixNano(),
	}}, nil)
}

// Open opens the file.
func (o oneFile) Open(name string) (io.ReadCloser, error) {
	if name != programName {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return os.Open(string(o))
}
