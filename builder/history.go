package builder

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/manifold-build/manifold/platforms"
)

// history is how long what is built took the last time, in seconds. It only helps to place targets: what is wrong or missing in it makes a build slower,
// not different.
type history struct {
	file string
	// Targets holds what a target's own stages took, by the target and how well it was done; Stages what a shared stage took.
	Targets map[string]map[fit]float64 `json:"targets"`
	Shared  map[string]float64         `json:"stages"`
}

// history reads what is known of a request.
func (b Builder) history(r Request) *history {
	h := &history{}
	if b.CacheDir == "" {
		return h
	}
	sum := sha256.Sum256([]byte(r.key()))
	h.file = filepath.Join(b.CacheDir, "history", hex.EncodeToString(sum[:8])+".json")
	if dt, err := os.ReadFile(h.file); err == nil {
		_ = json.Unmarshal(dt, h)
	}
	return h
}

func (h *history) cost(t platforms.Platform, f fit) time.Duration {
	return time.Duration(h.Targets[t.String()][f] * float64(time.Second))
}

func (h *history) stages() map[string]time.Duration {
	out := map[string]time.Duration{}
	for name, s := range h.Shared {
		out[name] = time.Duration(s * float64(time.Second))
	}
	return out
}

// leastNoted is what is worth to be remembered: less was mostly in the cache.
const leastNoted = time.Second

// target remembers what a target's own stages took.
func (h *history) target(t platforms.Platform, f fit, took time.Duration) {
	if took < leastNoted {
		return
	}
	if h.Targets == nil {
		h.Targets = map[string]map[fit]float64{}
	}
	if h.Targets[t.String()] == nil {
		h.Targets[t.String()] = map[fit]float64{}
	}
	h.Targets[t.String()][f] = took.Seconds()
}

// stage remembers what a shared stage took.
func (h *history) stage(name string, took time.Duration) {
	if took < leastNoted {
		return
	}
	if h.Shared == nil {
		h.Shared = map[string]float64{}
	}
	h.Shared[name] = took.Seconds()
}

// write keeps it; what cannot be kept is done without.
func (h *history) write() {
	if h.file == "" {
		return
	}
	dt, err := json.Marshal(h)
	if err != nil || os.MkdirAll(filepath.Dir(h.file), 0o700) != nil {
		return
	}
	tmp, err := os.CreateTemp(filepath.Dir(h.file), "new-")
	if err != nil {
		return
	}
	_, err = tmp.Write(dt)
	if tmp.Close() != nil || err != nil || os.Rename(tmp.Name(), h.file) != nil {
		_ = os.Remove(tmp.Name())
	}
}
