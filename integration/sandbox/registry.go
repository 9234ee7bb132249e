package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Registry is a registry on loopback.
type Registry struct {
	// Addr is host:port. The registry speaks plain http.
	Addr string

	process *process
	store   string // of StartRegistry's, "" otherwise
}

// startRegistry starts a registry whose store is the folder store; its configuration and log go to dir.
func startRegistry(ctx context.Context, bin, store, dir string) (*Registry, error) {
	return startRegistryWith(ctx, bin, store, dir, "")
}

// startRegistryWith adds YAML to the registry's configuration, for example an auth section.
func startRegistryWith(ctx context.Context, bin, store, dir, yaml string) (*Registry, error) {
	return serveRegistry(ctx, filepath.Join(bin, "registry"), store, dir, yaml)
}

// serveRegistry starts a program that is distribution's registry.
func serveRegistry(ctx context.Context, program, store, dir, yaml string) (*Registry, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	name := "registry-" + addr[len("127.0.0.1:"):]
	config := filepath.Join(dir, name+".yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\n"+
		"storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}\nhttp: {addr: %q}\n%s", store, addr, yaml)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p, err := start(ctx, dir, name, answers(addr), program, "serve", config)
	if err != nil {
		return nil, err
	}
	return &Registry{Addr: addr, process: p}, nil
}

// answers asks a registry whether it is there.
func answers(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/v2/", http.NoBody)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		return res.Body.Close()
	}
}

func (r *Registry) stop() error { return r.process.stop() }

// OtherRegistries starts registries that others made, for the length of a test, by name: Debian's docker-registry, of distribution 2.8, and the one of go-containerregistry.
func (s *Sandbox) OtherRegistries(tb testing.TB) map[string]*Registry {
	tb.Helper()
	ctx, dir := tb.Context(), tb.TempDir()
	root, err := fetchPackages(ctx, dir, runtime.GOARCH, "docker-registry")
	if err != nil {
		tb.Fatal(err)
	}
	addr, err := freeAddr()
	if err != nil {
		tb.Fatal(err)
	}
	old, err := serveRegistry(ctx, filepath.Join(root, "usr/bin/docker-registry"), filepath.Join(dir, "store"), s.Dir, "")
	if err != nil {
		tb.Fatal(err)
	}
	p, err := start(ctx, s.Dir, "crane-"+addr[len("127.0.0.1:"):], answers(addr), filepath.Join(s.Bin, "crane"), "registry", "serve", "--address", addr)
	if err != nil {
		tb.Fatal(errors.Join(err, old.stop()))
	}
	out := map[string]*Registry{"distribution 2.8": old, "go-containerregistry": {Addr: addr, process: p}}
	tb.Cleanup(func() {
		for _, r := range out {
			if err := r.stop(); err != nil {
				tb.Error(err)
			}
		}
	})
	return out
}
