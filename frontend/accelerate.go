package frontend

import (
	"errors"
	"path"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"

	"github.com/manifold-build/manifold/internal/accel"
)

// AcceleratorPath is where the frontend's image holds the command manifold-accel.
const AcceleratorPath = "/bin/manifold-accel"

// hasAccelerator reports whether there is a program to accelerate stages with: in the image that this process was started from, or from the client.
func (b *build) hasAccelerator() bool {
	if b.client == nil {
		return true // there is no node to ask
	}
	self, err := b.image()
	caps := b.client.BuildOpts().LLBCaps
	if err != nil || caps.Supports(pb.CapFileSymlinkCreate) != nil {
		return false
	}
	return self != nil || b.launcher.Folder != ""
}

// accelerator is a folder that holds that program under each of its names. It is told apart by its content alone, so that a step that mounts it is
// cached for whoever builds with the same one.
func (b *build) accelerator() (llb.State, error) {
	self, err := b.image()
	if err != nil {
		return llb.State{}, err
	}
	name := llb.WithCustomName("[internal] load the accelerator")
	var from llb.State
	var file string
	switch {
	case self != nil:
		from, file = *self, AcceleratorPath
	case b.launcher.Folder != "":
		from = llb.Local(b.launcher.Folder, llb.SessionID(b.client.BuildOpts().SessionID), llb.SharedKeyHint(b.launcher.Folder), name)
		file = path.Join("/", b.launcher.Path)
	default:
		return llb.State{}, errors.New("there is no program to accelerate with")
	}
	files := llb.Copy(from, file, "/"+accel.Name, llb.WithUser("0:0"), &llb.CopyInfo{Mode: &llb.ChmodOpt{Mode: 0o755}}) //nolint:mnd // as any program
	for _, n := range accel.Names() {
		if dir, _ := path.Split(n); dir != "" {
			files = files.Mkdir("/"+path.Clean(dir), 0o755, llb.WithParents(true)).Symlink("../"+accel.Name, "/"+n)
		} else if n != accel.Name {
			files = files.Symlink(accel.Name, "/"+n)
		}
	}
	return llb.Scratch().File(files, name), nil
}
