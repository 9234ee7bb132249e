package main

import (
	"context"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/index"
)

// showTransfers shows the blobs that do brings somewhere, as BuildKit shows its own.
func showTransfers(ctx context.Context, s streams, mode string, do func(index.Progress) error) error {
	display, err := progressui.NewDisplay(s.err, progressui.DisplayMode(mode))
	if err != nil {
		return err
	}
	status := make(chan *client.SolveStatus)
	var eg errgroup.Group
	eg.Go(func() error {
		_, err := display.UpdateFrom(context.WithoutCancel(ctx), status)
		return err
	})
	eg.Go(func() error {
		defer close(status)
		t := transfers{status: status, begun: map[string]*client.Vertex{}, started: map[string]time.Time{}}
		err := do(t.tell)
		t.end(err)
		return err
	})
	return eg.Wait()
}

// transfers makes BuildKit's status of ours: a vertex for each place, a line for each blob.
type transfers struct {
	status  chan<- *client.SolveStatus
	begun   map[string]*client.Vertex
	order   []string
	started map[string]time.Time
}

func (t *transfers) tell(one index.Transfer) {
	now := time.Now()
	v := t.begun[one.To]
	st := &client.SolveStatus{}
	if v == nil {
		v = &client.Vertex{Digest: digest.FromString(one.To), Name: "[manifold] bringing blobs to " + printable(one.To), Started: &now}
		t.begun[one.To] = v
		t.order = append(t.order, one.To)
		st.Vertexes = []*client.Vertex{v}
	}
	id := one.To + one.Digest.String()
	began, ok := t.started[id]
	if !ok {
		began = now
		t.started[id] = now
	}
	line := &client.VertexStatus{
		ID: one.Digest.String(), Vertex: v.Digest, Name: one.How, Current: one.Current, Total: one.Total, Timestamp: now, Started: &began,
	}
	if one.Done {
		line.Completed = &now
	}
	st.Statuses = []*client.VertexStatus{line}
	t.status <- st
}

// end ends every vertex.
func (t *transfers) end(err error) {
	now := time.Now()
	st := &client.SolveStatus{}
	for _, to := range t.order {
		v := *t.begun[to]
		v.Completed = &now
		if err != nil {
			v.Error = "broken off"
		}
		st.Vertexes = append(st.Vertexes, &v)
	}
	if len(st.Vertexes) > 0 {
		t.status <- st
	}
}
