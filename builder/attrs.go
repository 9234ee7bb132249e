package builder

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"

	"github.com/manifold-build/manifold/platforms"
)

// prepare fills a solve's options with all that the frontend reads. The caller calls done when the solve has ended.
func (r Request) prepare(opt *client.SolveOpt) (done func() error, err error) {
	attrs := map[string]string{}
	maps.Copy(attrs, r.Options)
	opt.FrontendAttrs = attrs
	if opt.LocalMounts == nil {
		opt.LocalMounts = map[string]fsutil.FS{}
	}
	opt.OCIStores = map[string]content.Store{}
	c := contexts{request: r, opt: opt}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.done())
		}
	}()
	if err := c.main(); err != nil {
		return nil, err
	}
	for name, value := range r.Contexts {
		if err := c.named(name, value); err != nil {
			return nil, fmt.Errorf("build context %s: %w", name, err)
		}
	}
	if len(r.Targets) > 0 {
		attrs["platform"] = platforms.Format(r.Targets)
	}
	if r.Stage != "" {
		attrs["target"] = r.Stage
	}
	if r.Strategy != platforms.Auto {
		attrs["manifold:strategy"] = r.Strategy.String()
	}
	if r.CacheMounts != "" {
		attrs["manifold:cache-mounts"] = r.CacheMounts
	}
	if r.Accelerate != "" {
		attrs["manifold:accelerate"] = r.Accelerate
	}
	if r.Toolchains != "" {
		attrs["manifold:toolchains"] = r.Toolchains
	}
	if r.MaxParallelism > 0 {
		attrs["manifold:max-parallelism"] = strconv.Itoa(r.MaxParallelism)
	}
	r.Gate.write(attrs, "")
	for _, o := range r.PerTarget {
		scope := o.Pattern.String() + ":"
		if o.Stage != "" {
			attrs[scope+"target"] = o.Stage
		}
		if o.CacheMounts != "" {
			attrs[scope+"manifold:cache-mounts"] = o.CacheMounts
		}
		if o.Accelerate != "" {
			attrs[scope+"manifold:accelerate"] = o.Accelerate
		}
		o.Gate.write(attrs, scope)
		if o.Strategy != platforms.Auto {
			attrs[scope+"manifold:strategy"] = o.Strategy.String()
		}
	}
	for prefix, values := range map[string]map[string]string{"build-arg:": r.BuildArgs, "label:": r.Labels, "attest:": r.Attest} {
		for k, v := range values {
			attrs[prefix+k] = v
		}
	}
	switch {
	case r.NoCache:
		attrs["no-cache"] = ""
	case len(r.NoCacheStages) > 0:
		attrs["no-cache"] = strings.Join(r.NoCacheStages, ",")
	}
	if r.Pull {
		attrs["image-resolve-mode"] = "pull"
	}
	opt.CacheExports, opt.CacheImports, opt.AllowedEntitlements = r.CacheTo, r.CacheFrom, r.Allow
	return c.done, nil
}

// write writes the gate's options. Those that can be given several times are added to what is there.
func (g Gate) write(attrs map[string]string, scope string) {
	if g.Verify != "" {
		attrs[scope+"manifold:verify"] = g.Verify
	}
	for name, values := range map[string][]string{"manifold:verify-except": g.Except, "manifold:test": g.Tests} {
		for _, v := range values {
			if before := attrs[scope+name]; before != "" {
				v = before + "\n" + v
			}
			attrs[scope+name] = v
		}
	}
}
