package place

import (
	"maps"
	"slices"
	"sync"

	"github.com/manifold-build/manifold/frontend/dockerfile/stage"
)

// Shared keeps readings that are the same for several targets of a file: nothing in them depends on the target. Nil keeps nothing.
type Shared struct {
	mu    sync.Mutex
	known map[int]sharedReading // by stage
}

// sharedReading is a reading, and what it was made with besides the file.
type sharedReading struct {
	target  Target
	image   string
	reading *stage.Reading
}

// find returns the reading of a stage that was made for another target; nil if there is none that holds.
func (s *Shared) find(g *Graph, n *Node) *stage.Reading {
	if s == nil || len(g.answers[n.Index]) > 0 || n.Root().Platform != "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.known[n.Index]
	if !ok || k.image != n.Image || !alike(k.target, g.Target) {
		return nil
	}
	return k.reading
}

// alike reports whether two targets differ in nothing but the platform.
func alike(a, b Target) bool {
	return a.Strategy == b.Strategy && a.Stage == b.Stage && a.NoCacheMounts == b.NoCacheMounts && maps.Equal(a.BuildArgs, b.BuildArgs) && slices.Equal(a.Contexts, b.Contexts)
}

func (s *Shared) keep(g *Graph, n *Node) {
	if s == nil || !n.reading.Portable() || len(g.answers[n.Index]) > 0 || len(g.contexts) > 0 || n.Root().Platform != "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[int]sharedReading{}
	}
	s.known[n.Index] = sharedReading{g.Target, n.Image, n.reading}
}

// forget forgets all.
func (s *Shared) forget() {
	if s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.known = nil
	}
}
