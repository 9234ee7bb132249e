package sandbox

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"syscall"
	"time"
)

// Distant is a registry as it is seen from far away: each request takes a while longer.
type Distant struct {
	// Addr is host:port of the proxy.
	Addr string

	server *http.Server
}

// Behind puts latency before a registry.
func (r *Registry) Behind(ctx context.Context, latency time.Duration) (*Distant, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
	transport.MaxIdleConnsPerHost = 100
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: r.Addr})
			p.Out.Host = p.In.Host // the registry's own links lead here again
		},
	}
	d := &Distant{Addr: l.Addr().String(), server: &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		time.Sleep(latency)
		proxy.ServeHTTP(w, req)
	})}}
	go func() { _ = d.server.Serve(l) }()
	return d, nil
}

// Close ends the proxy.
func (d *Distant) Close() error { return d.server.Close() }

// inMemory is where Linux keeps files in memory, roomy how much has to be free there, in bytes.
const (
	inMemory = "/dev/shm"
	roomy    = 6 << 30
)

// StartRegistry starts a further registry with a store of its own, in memory if there is room: then a benchmark measures programs and not the
// disk. Close stops it.
func (b *Bench) StartRegistry(ctx context.Context) (*Registry, error) {
	parent := b.Dir
	var fs syscall.Statfs_t
	if syscall.Statfs(inMemory, &fs) == nil && fs.Bavail*uint64(fs.Bsize) > roomy {
		parent = inMemory
	}
	dir, err := os.MkdirTemp(parent, "manifold-registry-")
	if err != nil {
		return nil, err
	}
	r, err := startRegistry(ctx, b.Bin, dir, b.Dir)
	if err != nil {
		return nil, err
	}
	r.store = dir
	b.mu.Lock()
	defer b.mu.Unlock()
	b.registries = append(b.registries, r)
	return r, nil
}

// Remove stops a registry of StartRegistry early, and removes its store.
func (r *Registry) Remove() error { return errors.Join(r.stop(), os.RemoveAll(r.store)) }
