package builder

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client"

	"github.com/manifold-build/manifold/platforms"
)

// cacheKeys are the attributes by which a cache of a type is found, as BuildKit names them, for what is written and what is read.
var cacheKeys = map[string]struct{ to, from string }{
	"registry": {"ref", "ref"}, "local": {"dest", "src"}, "gha": {"scope", "scope"}, "s3": {"name", "name"}, "azblob": {"name", "name"},
}

// tolerant has a cache that cannot be written be a warning, unless the user says otherwise: the image is built all the same.
func tolerant(list []client.CacheOptionsEntry) []client.CacheOptionsEntry {
	return eachCache(list, func(e *client.CacheOptionsEntry) {
		if _, ok := e.Attrs["ignore-error"]; !ok && e.Type != "inline" {
			e.Attrs["ignore-error"] = "true"
		}
	})
}

// cacheOf is where the group of targets that begins with one writes its cache: several groups of a build, each on a node of its own, must not
// overwrite each other's.
func cacheOf(list []client.CacheOptionsEntry, first platforms.Platform) []client.CacheOptionsEntry {
	return eachCache(tolerant(list), func(e *client.CacheOptionsEntry) {
		if key := cacheKeys[e.Type].to; key != "" {
			e.Attrs[key] = cacheName(e.Type, e.Attrs[key], first)
		}
	})
}

// cacheName is a cache's name for a target.
func cacheName(kind, name string, t platforms.Platform) string {
	suffix := strings.ReplaceAll(t.String(), "/", "-")
	switch kind {
	case "local":
		return filepath.Join(name, suffix)
	case "registry":
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return name // BuildKit says what is wrong with it
		}
		tag := "latest"
		if tagged, ok := named.(reference.Tagged); ok {
			tag = tagged.Tag()
		}
		if tagged, err := reference.WithTag(reference.TrimNamed(named), tag+"-"+suffix); err == nil {
			return tagged.String()
		}
		return name
	}
	if name == "" {
		name = "buildkit" // the default of each of them
	}
	return name + "-" + suffix
}

// cacheUnion adds to the caches that are read those that groups of the same build may have written. Of a registry's only those are asked for that are
// there; the others BuildKit passes over by itself.
func (b Builder) cacheUnion(ctx context.Context, list []client.CacheOptionsEntry, targets []platforms.Platform) []client.CacheOptionsEntry {
	if len(targets) < 2 {
		return list
	}
	out := slices.Clone(list)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, e := range list {
		key := cacheKeys[e.Type].from
		if key == "" {
			continue
		}
		for _, t := range targets {
			own := client.CacheOptionsEntry{Type: e.Type, Attrs: maps.Clone(e.Attrs)}
			if own.Attrs == nil {
				own.Attrs = map[string]string{}
			}
			own.Attrs[key] = cacheName(e.Type, e.Attrs[key], t)
			if own.Attrs[key] == e.Attrs[key] || e.Type == "local" && !isFolder(own.Attrs[key]) {
				continue
			}
			wg.Go(func() {
				if own.Type == "registry" && !b.Registry.Exists(ctx, own.Attrs[key]) {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				out = append(out, own)
			})
		}
	}
	wg.Wait()
	added := out[len(list):]
	slices.SortFunc(added, func(a, b client.CacheOptionsEntry) int {
		return strings.Compare(a.Attrs[cacheKeys[a.Type].from], b.Attrs[cacheKeys[b.Type].from])
	})
	return out
}

func eachCache(list []client.CacheOptionsEntry, change func(*client.CacheOptionsEntry)) []client.CacheOptionsEntry {
	out := make([]client.CacheOptionsEntry, len(list))
	for i, e := range list {
		out[i] = client.CacheOptionsEntry{Type: e.Type, Attrs: maps.Clone(e.Attrs)}
		if out[i].Attrs == nil {
			out[i].Attrs = map[string]string{}
		}
		change(&out[i])
	}
	return out
}
