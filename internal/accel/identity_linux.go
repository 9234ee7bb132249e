package accel

import (
	"fmt"
	"syscall"
)

// identity is what tells a file apart from what may come in its place while an instruction runs.
func identity(name string) string {
	var st syscall.Stat_t
	if err := syscall.Stat(name, &st); err != nil {
		return name
	}
	return fmt.Sprintf("%s %d %d %d %d.%d", name, st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec)
}
