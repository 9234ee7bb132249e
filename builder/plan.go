package builder

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"

	"github.com/moby/buildkit/client"
	gateway "github.com/moby/buildkit/frontend/gateway/client"

	"github.com/manifold-build/manifold/frontend"
	"github.com/manifold-build/manifold/platforms"
)

// Plan says how every stage would be run for every target, and why. What the text of the Dockerfile leaves open is asked
// on the node; nothing is built.
func (b Builder) Plan(ctx context.Context, r Request) (frontend.Plan, error) {
	n, err := b.first()
	if err != nil {
		return frontend.Plan{}, err
	}
	return worker{b, n}.plan(ctx, r, frontend.Config{}, &watcher{call: r.Progress})
}

// Call asks the frontend something about the Dockerfile instead of building it, by the name that the question has in BuildKit (package
// frontend/subrequests): frontend.lint, frontend.outline or frontend.targets. The answer is the result's metadata, "result.json" in it.
func (b Builder) Call(ctx context.Context, r Request, question string) (map[string][]byte, error) {
	n, err := b.first()
	if err != nil {
		return nil, err
	}
	r.Options = maps.Clone(r.Options)
	if r.Options == nil {
		r.Options = map[string]string{}
	}
	r.Options["requestid"], r.CacheTo = question, nil
	var out map[string][]byte
	_, err = worker{b, n}.run(ctx, r, client.SolveOpt{}, &watcher{call: r.Progress}, func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		res, err := frontend.Config{}.Build(ctx, c)
		if err != nil {
			return nil, err
		}
		out = res.Metadata
		return gateway.NewResult(), nil
	})
	return out, err
}

// plan asks the node for its plan.
func (b worker) plan(ctx context.Context, r Request, front frontend.Config, watch *watcher) (frontend.Plan, error) {
	r.Options = maps.Clone(r.Options)
	if r.Options == nil {
		r.Options = map[string]string{}
	}
	r.Options["requestid"] = frontend.RequestPlan
	r.CacheTo = nil
	var plan frontend.Plan
	opt := client.SolveOpt{}
	front.Launcher = b.offer(&opt, b.launcher(), launcherFolder)
	_, err := b.run(ctx, r, opt, watch, func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		res, err := front.Build(ctx, c)
		if err != nil {
			return nil, err
		}
		return gateway.NewResult(), json.Unmarshal(res.Metadata["result.json"], &plan)
	})
	return plan, err
}

// PlanOffline is [Builder.Plan] without a node: what only a node could answer stays open. The host is assumed to have an emulator
// for every target. It reads contexts that are folders of this machine, and no others.
func PlanOffline(r Request, native platforms.Platform) (_ frontend.Plan, err error) {
	var opt client.SolveOpt
	done, err := r.prepare(&opt)
	if err != nil {
		return frontend.Plan{}, err
	}
	defer func() { err = errors.Join(err, done()) }()
	folder, ok := opt.LocalMounts["dockerfile"]
	if !ok {
		return frontend.Plan{}, errors.New("a plan without a node needs a context that is a folder of this machine")
	}
	return frontend.PlanOffline(opt.FrontendAttrs, native, func(name string) (_ []byte, err error) {
		f, err := folder.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		return io.ReadAll(f)
	}, r.contextFolder())
}

// contextFolder is the main build context, if it is a folder of this machine; nil if not.
func (r Request) contextFolder() fs.FS {
	if info, err := os.Stat(r.Context); err != nil || !info.IsDir() {
		return nil
	}
	return os.DirFS(r.Context)
}
