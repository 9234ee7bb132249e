package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/types"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/frontend"
	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/platforms"
)

// Builder builds on one node, or on several.
type Builder struct {
	// Nodes run the build. With several each target is built on one of them, which [Placement] has a say in; the first is asked what no single target
	// is about. None is an error.
	Nodes []*Node
	// Placement says which targets are built where, of several nodes.
	Placement Placement
	// Registry is how this process reaches registries; nil means Docker's way. One client may serve many builds. BuildKit reaches registries by its
	// own configuration, with the same credentials.
	Registry *index.Client
	// CacheDir is a folder in which is remembered what base images hold (see [frontend.Config]), and how long stages took, which helps to place targets on
	// several nodes. Empty means that nothing is remembered.
	CacheDir string
	// Program is the path of a program that answers [frontend.ScanCommand], as the CLI does: images of very many folders are then read on the node
	// in one step that is cached. Empty means that they are always read through the gateway, as they are where the program is not static or the
	// node another machine.
	Program string
	// Accelerator is the path of the command manifold-accel, as it is installed beside the CLI: stages are accelerated with it. If the node is another
	// machine than the program's, it is the one for that machine that lies beside it: manifold-accel-linux-arm64, or linux_arm64/manifold-accel as go
	// install calls it. Empty means that no stage is accelerated.
	Accelerator string
}

// Result is what a build made.
type Result struct {
	// Descriptor is that of the index or, where one target was built without attestations, of the image. It is zero if
	// no output makes an image.
	Descriptor ocispec.Descriptor `json:"descriptor,omitzero"`
	// Images are the targets' images, in the targets' order. They are known if the result was pushed or written to an
	// archive of type oci; otherwise the slice is nil.
	Images []index.Image `json:"images,omitempty"`
	// Tags are the tags that were moved and read back.
	Tags []index.Receipt `json:"tags,omitempty"`
	// Steps say how every stage was run for every target.
	Steps []dockerfile.Step `json:"steps,omitempty"`
	// Gate is what was found in every target's image, and whether its tests passed, in the targets' order. It is known even if the build failed
	// there.
	Gate []frontend.Judgement `json:"gate,omitempty"`
	// Exporter is what BuildKit's exporters answered.
	Exporter map[string]string `json:"exporter,omitempty"`

	// Targets say what became of each target, in their order, also if the build failed. Nil means that it did not get as far as to know them.
	Targets []TargetResult `json:"targets,omitempty"`

	targets []platforms.Platform // named by the request or by the Dockerfile's header
}

// TargetResult is what became of one target.
type TargetResult struct {
	Target platforms.Platform `json:"target"`
	// Digest is its image's; empty if it is not known.
	Digest digest.Digest `json:"digest,omitempty"`
	// Node is the name of the node that built it last.
	Node string `json:"node"`
	// Strategies are how its stages that run something were run, each once.
	Strategies []platforms.Strategy `json:"strategies,omitempty"`
	// Attempts are all that were made, the last one included.
	Attempts []Attempt `json:"attempts"`
	// Seconds is how long the last attempt took, with those of its targets that were built beside it.
	Seconds float64 `json:"seconds"`
	// Verdict and Tested are the gate's; empty if it did not come to that.
	Verdict string `json:"verdict,omitempty"`
	Tested  string `json:"tested,omitempty"`
	// Missing says that it failed and is left out of the result: see [Request.Optional].
	Missing bool `json:"missing,omitempty"`
}

// Attempt is one try to build a target on a node.
type Attempt struct {
	Node string `json:"node"`
	// Error is why it failed; empty if it did not.
	Error string `json:"error,omitempty"`
}

// note adds an attempt for targets.
func (r *Result) note(node string, took time.Duration, targets []platforms.Platform, err error) {
	for _, t := range targets {
		i := slices.IndexFunc(r.Targets, func(o TargetResult) bool { return o.Target == t })
		if i < 0 {
			i = len(r.Targets)
			r.Targets = append(r.Targets, TargetResult{Target: t})
		}
		one := &r.Targets[i]
		one.Node, one.Seconds = node, took.Seconds()
		one.Attempts = append(one.Attempts, Attempt{Node: node, Error: errorOf(err, t)})
	}
}

// errorOf is the part of a build's error that is about a target; empty if none is.
func errorOf(err error, t platforms.Platform) string {
	if err == nil {
		return ""
	}
	if several, ok := errors.AsType[*TargetsError](err); ok {
		for _, e := range several.Errs {
			if one, ok := errors.AsType[*TargetError](e); ok && one.Target == t {
				return one.Error()
			}
		}
		return ""
	}
	if one, ok := errors.AsType[*TargetError](err); ok && one.Target != t {
		return ""
	}
	return err.Error()
}

// fillTargets adds what is known of each target's image.
func (r *Result) fillTargets() {
	for i := range r.Targets {
		one := &r.Targets[i]
		one.Strategies = nil
		for _, s := range r.Steps {
			if s.Target == one.Target && s.Executes && !slices.Contains(one.Strategies, s.Strategy) {
				one.Strategies = append(one.Strategies, s.Strategy)
			}
		}
		for _, image := range r.Images {
			if satisfies(image.Platform, one.Target) {
				one.Digest = image.Descriptor.Digest
			}
		}
		for _, j := range r.Gate {
			if j.Report.Platform == one.Target && j.Report.Verdict != 0 {
				one.Verdict, one.Tested = j.Report.Verdict.String(), j.Tested
			}
		}
	}
}

// TargetError is the failure of one target on a node.
type TargetError struct {
	// Target is the platform that was built for, Node the address of the node.
	Target platforms.Platform
	Node   string
	// Stage, File and Line say where, as far as it is known: see [frontend.TargetError].
	Stage, File string
	Line        int
	// Err is what happened.
	Err error
}

// Error is that of the failure itself: it names target, stage, file and line.
func (e *TargetError) Error() string { return e.Err.Error() }

// Unwrap returns what happened.
func (e *TargetError) Unwrap() error { return e.Err }

// Build builds a request and, if it says so, publishes the result. If targets fail, the error is the join of a
// [*TargetError] for each of them, in their order, and no tag has moved.
func (b Builder) Build(ctx context.Context, r Request) (_ Result, err error) {
	exports, err := r.planExports()
	if err != nil {
		return Result{}, err
	}
	// Targets that the request names can have their tags checked before anything is built.
	if _, err := targetTags(r.TargetTag, exports.tags, r.Targets); err != nil {
		return Result{}, err
	}
	b.Registry = exports.client(b.Registry)
	watch := &watcher{call: r.Progress}
	first, err := b.first()
	if err != nil {
		return Result{}, err
	}
	if err := b.checkPins(); err != nil {
		return Result{}, err
	}
	// The repositories are asked while the Dockerfile is read and planned.
	asking, stop := context.WithCancel(ctx)
	var mayPush errgroup.Group
	var takingBack sync.WaitGroup
	mayPush.Go(func() error { return b.checkRepositories(asking, exports.repos, &takingBack) })
	var result Result
	var joined *index.Draft
	if len(b.Nodes) > 1 {
		result, joined, err = b.buildOnMany(ctx, r, exports, watch, mayPush.Wait)
	} else {
		result, err = b.buildOnOne(ctx, first, r, exports, watch, mayPush.Wait)
	}
	stop() // where the build did not get that far
	_ = mayPush.Wait()
	defer takingBack.Wait()
	if joined != nil {
		defer func() { err = errors.Join(err, joined.Close()) }()
	}
	if err := errors.Join(exports.cause(err), exports.finish(err != nil)); err != nil {
		return result, err
	}
	if len(exports.tags) > 0 {
		own, err := targetTags(r.TargetTag, exports.tags, result.targets)
		if err != nil {
			return result, err
		}
		if r.TargetTag != "" && len(result.targets) == 0 {
			return result, errors.New("per-target tags need the targets: name them with --platform or in the Dockerfile's header")
		}
		err = b.publish(ctx, &result, exports, own, joined, watch)
		result.fillTargets()
		return result, err
	}
	if joined == nil {
		err = result.readArchives(ctx, b.Registry, exports)
	}
	result.fillTargets()
	return result, err
}

// checkPins is an error if a target is to be built on a node that is not there.
func (b Builder) checkPins() error {
	for _, pin := range b.Placement.Pins {
		if !slices.ContainsFunc(b.Nodes, func(n *Node) bool { return n.Name == pin.Node }) {
			return fmt.Errorf("%s is to be built on %s, and there is no node of that name: there are %s", pin.Pattern, pin.Node, names(b.Nodes))
		}
	}
	return nil
}

// first is the node that is asked what no single target is about.
func (b Builder) first() (*Node, error) {
	if len(b.Nodes) == 0 {
		return nil, errors.New("there is no node to build on")
	}
	return b.Nodes[0], nil
}

// buildOnOne builds all targets on one node, whose BuildKit writes the result.
func (b Builder) buildOnOne(ctx context.Context, n *Node, r Request, exports *exportPlan, watch *watcher, ready func() error) (Result, error) {
	r.CacheTo, r.CacheFrom = tolerant(r.CacheTo), b.cacheUnion(ctx, r.CacheFrom, r.Targets)
	if most := n.config.Max; most > 0 && (r.MaxParallelism == 0 || most < r.MaxParallelism) {
		r.MaxParallelism = most
	}
	living, stop := n.alive(ctx)
	defer stop()
	begun := time.Now()
	result, err := worker{b, n}.solve(living, r, exports.entries, watch, ready)
	if lost := n.lost(ctx, watch, err, r.writes()...); lost != nil {
		err = lost
	}
	targets := result.targets
	if len(targets) == 0 {
		targets = []platforms.Platform{n.Host.Native}
	}
	result.note(n.Name, time.Since(begun), targets, err)
	return result, err
}

// checkRepositories asks every repository whether it takes a push, before anything is built. What asking left there is taken back meanwhile.
func (b Builder) checkRepositories(ctx context.Context, repos []string, takingBack *sync.WaitGroup) error {
	errs := make([]error, len(repos))
	var eg errgroup.Group
	for i, repo := range repos {
		eg.Go(func() error {
			takeBack, err := b.Registry.BeginPush(ctx, repo)
			if err == nil {
				takingBack.Go(func() {
					ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recheck)
					defer cancel()
					takeBack(ctx)
				})
			}
			errs[i] = err
			return nil
		})
	}
	_ = eg.Wait()
	return errors.Join(errs...)
}

// writes are the places of this machine that the build writes to.
func (r Request) writes() []string {
	out := []string{os.TempDir()}
	for _, o := range r.Outputs {
		out = append(out, o.Dest)
	}
	for _, c := range r.CacheTo {
		out = append(out, c.Attrs["dest"])
	}
	return out
}

// worker is a builder on one of its nodes.
type worker struct {
	Builder

	node *Node
}

// solve runs the frontend in this process against the node. Before anything is built, ready has to return nil.
func (b worker) solve(ctx context.Context, r Request, entries []client.ExportEntry, watch *watcher, ready func() error) (result Result, err error) {
	opt := client.SolveOpt{Exports: entries}
	program, launcher := b.offer(&opt, b.Program, programFolder), b.offer(&opt, b.launcher(), launcherFolder)
	front := frontend.Config{CacheDir: b.CacheDir, Program: program, Launcher: launcher, FailFast: r.FailFast, Optional: r.Optional, Pins: r.pins, Planned: func(targets []platforms.Platform, steps []dockerfile.Step) error {
		result.targets, result.Steps = targets, steps
		return ready()
	}, Judged: func(gate []frontend.Judgement) { result.Gate = gate }}
	response, err := b.run(ctx, r, opt, watch, func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		if r.pins != nil {
			c = r.pins.Pinned(c)
		}
		return front.Build(ctx, waiting{c, ready})
	})
	if err != nil {
		return result, err
	}
	result.Exporter = response.ExporterResponse
	result.Descriptor.Digest = digest.Digest(response.ExporterResponse[exptypes.ExporterImageDigestKey])
	return result, nil
}

// waiting is a gateway client that passes a build on to another frontend only when that may begin: there is no plan of it.
type waiting struct {
	gateway.Client

	ready func() error
}

// Solve solves a request.
func (w waiting) Solve(ctx context.Context, req gateway.SolveRequest) (*gateway.Result, error) {
	if req.Frontend != "" {
		if err := w.ready(); err != nil {
			return nil, err
		}
	}
	return w.Client.Solve(ctx, req)
}

// run runs a frontend in this process against the node.
func (b worker) run(ctx context.Context, r Request, opt client.SolveOpt, watch *watcher, front gateway.BuildFunc) (_ *client.SolveResponse, err error) {
	credentials, err := b.credentials()
	if err != nil {
		return nil, err
	}
	opt.Session = append(slices.Clone(r.Session),
		authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{AuthConfigProvider: credentials}))
	done, err := r.prepare(&opt)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()

	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	for name, folder := range opt.LocalMounts {
		opt.LocalMounts[name] = honest{folder, fail}
	}
	var failed error
	status := make(chan *client.SolveStatus)
	var eg errgroup.Group
	eg.Go(func() error {
		for s := range status {
			watch.send(s)
		}
		return nil
	})
	response, err := b.node.client.Build(ctx, opt, "manifold", func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		res, err := front(ctx, c)
		failed = err
		return res, err
	}, status)
	_ = eg.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case failed != nil:
		return nil, b.targetErrors(failed)
	case err != nil:
		return nil, err
	}
	return response, nil
}

// credentials serves BuildKit the credentials that this process uses itself.
func (b Builder) credentials() (authprovider.AuthConfigProvider, error) {
	own := b.Registry.Options().Credentials
	if own == nil {
		file, err := config.Load(config.Dir())
		if err != nil {
			return nil, fmt.Errorf("docker's credentials: %w", err)
		}
		return authprovider.LoadAuthConfig(file), nil
	}
	return func(_ context.Context, host string, _ []string, _ authprovider.ExpireCachedAuthCheck) (types.AuthConfig, error) {
		user, secret, err := own(host)
		if user == "" {
			return types.AuthConfig{ServerAddress: host, IdentityToken: secret}, err
		}
		return types.AuthConfig{ServerAddress: host, Username: user, Password: secret}, err
	}, nil
}

// targetErrors adds the node to each target's failure.
func (b worker) targetErrors(err error) error {
	if several, ok := errors.AsType[frontend.TargetsError](err); ok {
		errs := make([]error, len(several.Errs))
		for i, e := range several.Errs {
			errs[i] = b.targetError(e)
		}
		return &TargetsError{Message: several.Error(), Errs: errs}
	}
	if one, ok := errors.AsType[*frontend.TargetError](err); ok {
		return b.targetError(one)
	}
	return err
}

func (b worker) targetError(e *frontend.TargetError) *TargetError {
	return &TargetError{Target: e.Target, Node: b.node.Name, Stage: e.Stage, File: e.File, Line: e.Line, Err: e}
}

// TargetsError is the failure of several targets.
type TargetsError struct {
	// Message lists them for people, those that failed alike on one line.
	Message string
	// Errs has a [*TargetError] for each, in target order.
	Errs []error
}

// Error is the message.
func (f *TargetsError) Error() string { return f.Message }

// Unwrap returns each failure.
func (f *TargetsError) Unwrap() []error { return f.Errs }

// missingTarget is the error for a result that does not hold what was asked for.
func missingTarget(t platforms.Platform, where string) error {
	return &TargetError{Target: t, Err: fmt.Errorf("%s: the result in %s holds no image for it", t, where)}
}
