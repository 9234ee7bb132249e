package frontend

import (
	"io/fs"

	fstypes "github.com/tonistiigi/fsutil/types"
)

// nothing is the root filesystem of an image without layers.
type nothing struct{}

// Open finds no file but the root.
func (nothing) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// Stat describes the root.
func (nothing) Stat(name string) (fs.FileInfo, error) {
	if name != "." {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return refInfo{&fstypes.Stat{Path: ".", Mode: uint32(fs.ModeDir)}}, nil
}

// ReadDir finds the root empty.
func (nothing) ReadDir(string) ([]fs.DirEntry, error) { return nil, nil }
