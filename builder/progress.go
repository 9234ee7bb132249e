package builder

import (
	"bytes"
	"errors"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/manifold-build/manifold/frontend/dockerfile"
)

// watcher passes progress on, one event at a time.
type watcher struct {
	mu   sync.Mutex
	call func(*client.SolveStatus)
	// times takes what steps took; nil if nobody wants to know.
	times *timings
	// full holds the steps whose programs said that the disk is full.
	full map[digest.Digest]bool
	// node is whose steps are passed on, where there are several: equal steps of two nodes are two steps. Parent is then where they go.
	node   string
	parent *watcher
}

// on passes the steps of one of several nodes on.
func (w *watcher) on(node string) *watcher { return &watcher{node: node, parent: w, times: w.times} }

// NameSteps gives the steps of one of several builds that are shown together names of their own: equal steps of two builds are two.
func NameSteps(build string, s *client.SolveStatus) {
	other := func(d digest.Digest) digest.Digest { return digest.FromString(build + " " + d.String()) }
	for _, v := range s.Vertexes {
		v.Digest, v.Name = other(v.Digest), build+" "+v.Name
		for i, d := range v.Inputs {
			v.Inputs[i] = other(d)
		}
	}
	for _, v := range s.Statuses {
		v.Vertex = other(v.Vertex)
	}
	for _, v := range s.Logs {
		v.Vertex = other(v.Vertex)
	}
	for _, v := range s.Warnings {
		v.Vertex = other(v.Vertex)
	}
}

// noSpace is how C libraries say ENOSPC.
var noSpace = []byte("No space left on device")

// ranFull reports whether the step that a build failed at had said that the disk is full.
func (w *watcher) ranFull(err error) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, ok := errors.AsType[*errdefs.VertexError](err)
	return ok && w.full[digest.Digest(at.Digest)]
}

// noteFull takes note of steps that say that the disk is full.
func (w *watcher) noteFull(logs []*client.VertexLog) {
	for _, l := range logs {
		if !bytes.Contains(l.Data, noSpace) {
			continue
		}
		w.mu.Lock()
		if w.full == nil {
			w.full = map[digest.Digest]bool{}
		}
		w.full[l.Vertex] = true
		w.mu.Unlock()
	}
}

func (w *watcher) send(s *client.SolveStatus) {
	w.noteFull(s.Logs)
	if w.parent != nil {
		if w.times != nil {
			w.times.note(s)
		}
		NameSteps(w.node, s)
		w.parent.send(s)
		return
	}
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
