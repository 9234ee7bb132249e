package sandbox

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
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
	p, err := start(ctx, dir, name, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/v2/", http.NoBody)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		return res.Body.Close()
	}, filepath.Join(bin, "registry"), "serve", config)
	if err != nil {
		return nil, err
	}
	return &Registry{Addr: addr, process: p}, nil
}

func (r *Registry) stop() error { return r.process.stop() }
