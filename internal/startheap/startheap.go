// Package startheap lets a short program begin with a larger heap: most runs of Manifold's commands end before they have made as much
// garbage as a first collection is worth.
package startheap

import (
	"os"
	"runtime"
	"runtime/debug"
)

// size is what is allocated before the first collection, in bytes; the runtime's own heap begins with smallest at GOGC=100.
const (
	size     = 64 << 20
	smallest = 4 << 20
)

// Grow puts the first garbage collection off until the heap holds 64 MiB. From then on the heap grows as it would have without. Nothing
// is changed where the user chose how memory is collected (GOGC, GOMEMLIMIT).
func Grow() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	before := debug.SetGCPercent(100 * size / smallest)
	runtime.AddCleanup(new([16]byte), func(percent int) { debug.SetGCPercent(percent) }, before)
}
