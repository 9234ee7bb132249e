//go:build unix

package accel

import (
	"fmt"
	"os"
	"syscall"
)

// fileOf tells a file apart from all others of the machine.
func fileOf(name string) string {
	var st syscall.Stat_t
	if err := syscall.Stat(name, &st); err != nil {
		return ""
	}
	return fmt.Sprintf("%d %d", st.Dev, st.Ino)
}

// isOwn reports whether a folder is this user's, and nobody else can write to it.
func isOwn(dir string) bool {
	var st syscall.Stat_t
	err := syscall.Lstat(dir, &st)
	return err == nil && st.Mode&syscall.S_IFMT == syscall.S_IFDIR && int(st.Uid) == os.Getuid() && st.Mode&0o077 == 0
}

// lock waits for a lock on a file, which ends with it.
func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX) }
