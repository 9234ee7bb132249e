package builder

import (
	"debug/elf"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"

	"github.com/manifold-build/manifold/frontend"
	"github.com/manifold-build/manifold/platforms"
)

// programFolder is the name under which the folder of the gate's program is offered to BuildKit.
const programFolder = "manifold-program"

// offer lets BuildKit fetch the gate's program, if that can run on a node of a platform without any other file.
func (b Builder) offer(opt *client.SolveOpt, node platforms.Platform) (frontend.Program, error) {
	if b.Program == "" || node.OS != runtime.GOOS || node.Architecture != runtime.GOARCH || !isStatic(b.Program) {
		return frontend.Program{}, nil
	}
	dir, name := filepath.Split(b.Program)
	folder, err := fsutil.NewFS(dir)
	if err != nil {
		return frontend.Program{}, err
	}
	opt.LocalMounts = map[string]fsutil.FS{programFolder: folder}
	return frontend.Program{Folder: programFolder, Path: name}, nil
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
