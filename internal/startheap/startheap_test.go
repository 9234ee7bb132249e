package startheap

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

// TestGrow: no collection before the heap has grown, the usual ones from the first on.
func TestGrow(t *testing.T) {
	const child = "STARTHEAP_CHILD"
	if os.Getenv(child) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestGrow$")
		cmd.Env = append(os.Environ(), child+"=1", "GOGC=", "GOMEMLIMIT=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	Grow()
	before := collections()
	allocate(size / 2)
	if n := collections() - before; n != 0 {
		t.Errorf("%d collections before the heap held half of %d bytes", n, size)
	}
	allocate(2 * size)
	if collections() == before {
		t.Error("nothing was collected after the heap had grown")
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		percent := debug.SetGCPercent(100)
		if percent == 100 {
			return
		}
		debug.SetGCPercent(percent)
		if time.Now().After(deadline) {
			t.Fatalf("GOGC is still %d", percent)
		}
	}
}

// TestGrowLeavesChoices: what the user says of memory holds.
func TestGrowLeavesChoices(t *testing.T) {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "1GiB")
			before := debug.SetGCPercent(77)
			defer debug.SetGCPercent(before)
			Grow()
			if got := debug.SetGCPercent(77); got != 77 {
				t.Errorf("GOGC became %d", got)
			}
		})
	}
}

func collections() uint32 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.NumGC
}

var kept string

// allocate makes n bytes of garbage.
func allocate(n int) {
	for range n >> 16 {
		kept = strings.Repeat("x", 1<<16)
	}
}
