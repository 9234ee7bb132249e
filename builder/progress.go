package builder

import (
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"github.com/manifold-build/manifold/frontend/dockerfile"
)

// watcher passes progress on, one event at a time.
type watcher struct {
	mu   sync.Mutex
	call func(*client.SolveStatus)
}

func (w *watcher) send(s *client.SolveStatus) {
	if w.call == nil {
		return
	}
	for _, v := range s.Vertexes { // the node has an instruction as it runs it
		v.Error = dockerfile.Unaccelerated(v.Error)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.call(s)
}

// step shows something this package does itself as a step of the build.
func (w *watcher) step(name string, do func() error) error {
	started := time.Now()
	v := client.Vertex{Digest: digest.FromString(name + started.String()), Name: "[manifold] " + name, Started: &started}
	begun := v
	w.send(&client.SolveStatus{Vertexes: []*client.Vertex{&begun}})
	err := do()
	completed := time.Now()
	v.Completed = &completed
	if err != nil {
		v.Error = err.Error()
	}
	w.send(&client.SolveStatus{Vertexes: []*client.Vertex{&v}})
	return err
}
