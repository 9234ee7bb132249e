package builder

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"

	"github.com/manifold-build/manifold/frontend"
	"github.com/manifold-build/manifold/platforms"
)

// A program is offered to BuildKit as the only file of a folder. No build context can have such a name.
const (
	programFolder  = "_manifold-program"
	launcherFolder = "_manifold-accelerator"
	programName    = "manifold"
)

// offer lets BuildKit fetch a program, if it runs on the node without any other file.
func (b worker) offer(opt *client.SolveOpt, file, folder string) frontend.Program {
	if file == "" || !runsOn(file, b.node.Host.Native) {
		return frontend.Program{}
	}
	if opt.LocalMounts == nil {
		opt.LocalMounts = map[string]fsutil.FS{}
	}
	opt.LocalMounts[folder] = oneFile(file)
	return frontend.Program{Folder: folder, Path: programName}
}

// launcher is the command manifold-accel for the node's machine, empty if there is none: one that is named for it, one where go install puts what is for
// another machine, or that of this machine.
func (b worker) launcher() string {
	native := b.node.Host.Native
	dir, name := filepath.Split(b.Accelerator)
	for _, file := range []string{strings.Join([]string{b.Accelerator, native.OS, native.Architecture}, "-"), filepath.Join(dir, native.OS+"_"+native.Architecture, name), b.Accelerator} {
		if b.Accelerator != "" && runsOn(file, native) {
			return file
		}
	}
	return ""
}

// Accelerates reports whether there is an accelerator for a node's machine: see [Builder.Accelerator].
func (b Builder) Accelerates(n *Node) bool { return worker{b, n}.launcher() != "" }

// machines are those of ELF, by Go's names (System V ABI, e_machine).
var machines = map[string]elf.Machine{
	"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "arm": elf.EM_ARM, "386": elf.EM_386, "ppc64le": elf.EM_PPC64, "s390x": elf.EM_S390, "riscv64": elf.EM_RISCV,
}

// runsOn reports whether a file is a program for a machine that runs Linux, and needs no interpreter.
func runsOn(name string, p platforms.Platform) bool {
	f, err := elf.Open(name)
	if err != nil {
		return false
	}
	interp := slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
	machine, known := machines[p.Architecture]
	return f.Close() == nil && p.OS == "linux" && known && f.Machine == machine && (f.ByteOrder == binary.LittleEndian) == (p.Architecture != "s390x") && !interp
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
