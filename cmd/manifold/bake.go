package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/builder"
	"github.com/manifold-build/manifold/index"
)

// bakeFlags are the flags of "manifold bake". Those that docker buildx bake has keep its names and meaning.
type bakeFlags struct {
	buildFlags

	definitions []string
	sets        []string
	vars        []string
	print       bool
	merge       []string
}

func bakeCommand(s streams) *cobra.Command {
	var f bakeFlags
	cmd := &cobra.Command{
		Use:   "bake [flags] [TARGET…]",
		Short: "Build the targets of a bake or compose file, and merge them if need be",
		Long: "Build the targets of a bake file (HCL or JSON) or of a compose file, each as manifold build does.\n\n" +
			"The files are read by docker buildx bake --print, which has to be installed. --merge builds targets and makes one index of what they\n" +
			"have pushed, which is how a target for each platform becomes one image.",
		Example: `  manifold bake --push
  manifold bake -f docker-bake.hcl --set '*.platform=linux/amd64,linux/arm64' --push app
  manifold bake --push --merge ghcr.io/app/app:1.0=app-amd64,app-arm64`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), s, args) },
	}
	f.registerBake(cmd.Flags())
	return cmd
}

func (f *bakeFlags) registerBake(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.StringArrayVarP(&f.definitions, "file", "f", nil, "bake or compose file (default: those that docker buildx bake finds)")
	fs.StringArrayVar(&f.sets, "set", nil, "value of a target in place of the file's, TARGETPATTERN.KEY=VALUE")
	fs.StringArrayVar(&f.vars, "var", nil, "value of a variable, NAME=VALUE")
	fs.StringArrayVar(&f.merge, "merge", nil, "make one index of what targets have pushed, NAME=TARGET,TARGET; may be repeated")
	fs.BoolVar(&f.print, "print", false, "print what would be built, and build nothing")
	var all pflag.FlagSet
	f.register(&all)
	// What a bake file says for each target is no flag here.
	for _, name := range []string{
		"push", "load", "pull", "no-cache", "strategy", "verify", "verify-except", "test", "accelerate", "toolchains", "cache-mounts", "max-parallelism", "builder", "node-for",
		"optional", "fail-fast", "metadata-file", "provenance", "sbom", "progress", "quiet", "debug", "insecure", "plain-http", "certs-dir", "trusted-host",
	} {
		fs.AddFlag(all.Lookup(name))
	}
}

// merged is an index that is made of targets.
type merged struct {
	name    string
	targets []string
}

func (f *bakeFlags) merges(b bakeFile) ([]merged, error) {
	var out []merged
	for _, v := range f.merge {
		name, list, ok := strings.Cut(v, "=")
		if !ok || name == "" || list == "" {
			return nil, misused(fmt.Errorf("--merge %s: it is written NAME=TARGET,TARGET", v))
		}
		m := merged{name: name, targets: strings.Split(list, ",")}
		for _, t := range m.targets {
			switch {
			case b.Target[t] == nil:
				return nil, misused(fmt.Errorf("--merge %s: there is no target %s", v, t))
			case len(b.Target[t].Tags) == 0:
				return nil, misused(fmt.Errorf("--merge %s: target %s has no tag to be pushed under", v, t))
			}
		}
		out = append(out, m)
	}
	if out != nil && !f.push {
		return nil, misused(errors.New("--merge takes what is pushed: add --push"))
	}
	return out, nil
}

// baked is what became of a target.
type baked struct {
	name    string
	request builder.Request
	result  builder.Result
	layout  string // for those that are made of it
	err     error
	done    chan struct{}
}

func (f *bakeFlags) run(ctx context.Context, s streams, targets []string) (err error) {
	var args []string
	for flag, list := range map[string][]string{"--file": f.definitions, "--set": f.sets, "--var": f.vars} {
		for _, v := range list {
			args = append(args, flag, v)
		}
	}
	for _, v := range f.merge { // what is merged is built
		_, list, _ := strings.Cut(v, "=")
		for name := range strings.SplitSeq(list, ",") {
			if name != "" && !slices.Contains(targets, name) {
				targets = append(targets, name)
			}
		}
	}
	file, err := readBake(ctx, append(args, targets...))
	if err != nil {
		return misused(err)
	}
	order, wanted, err := file.order()
	if err != nil {
		return misused(err)
	}
	merges, err := f.merges(file)
	if err != nil {
		return err
	}
	if f.print {
		return printJSON(s.out, file.Target)
	}
	dir, err := os.MkdirTemp("", "manifold-bake-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	all, err := f.requests(file, order, wanted, dir)
	if err != nil {
		return err
	}
	nodes, err := dialOrStart(ctx, s, f.builders)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll(nodes)) }()
	b := builder.Builder{Nodes: nodes, Placement: f.placement, Registry: f.client(s), CacheDir: cacheDir(), Program: ownProgram(), Accelerator: accelerator()}
	err = f.display(ctx, s, func(progress func(*client.SolveStatus)) error { return bakeAll(ctx, b, all, progress) })
	if err := errors.Join(err, f.reportBaked(s, all, wanted, len(nodes))); err != nil {
		return err
	}
	for _, m := range merges {
		if err := f.mergeInto(ctx, s, b.Registry, m, all); err != nil {
			return err
		}
	}
	return nil
}

// requests translates the targets. It asks nothing of a node.
func (f *bakeFlags) requests(file bakeFile, order []string, wanted map[string]bool, dir string) ([]*baked, error) {
	var out []*baked
	needed := map[string]bool{}
	for _, name := range order {
		for _, on := range file.Target[name].linked() {
			needed[on] = true
		}
	}
	for _, name := range slices.Backward(order) { // what a target is made of is built for its platforms
		for _, on := range file.Target[name].linked() {
			if t := file.Target[on]; !wanted[on] {
				for _, p := range file.Target[name].Platforms {
					if !slices.Contains(t.Platforms, p) {
						t.Platforms = append(t.Platforms, p)
					}
				}
			}
		}
	}
	for _, name := range order {
		own := filepath.Join(dir, name)
		if err := os.Mkdir(own, 0o700); err != nil {
			return nil, err
		}
		t := file.Target[name]
		links := map[string]string{}
		for k, v := range t.Contexts {
			if on, ok := strings.CutPrefix(v, linked); ok {
				links[k] = on
				delete(t.Contexts, k)
			}
		}
		flags, dirOf, err := t.flags(f.buildFlags, own)
		if err != nil {
			return nil, misused(fmt.Errorf("target %s: %w", name, err))
		}
		if !wanted[name] {
			flags.push, flags.load, flags.outputs, flags.tags = false, false, nil, nil
		}
		if flags.load {
			return nil, misused(fmt.Errorf("target %s: bake does not load images; use manifold build --load, or output = [\"type=docker,dest=FILE\"]", name))
		}
		r, err := flags.request(dirOf)
		if err != nil {
			return nil, misused(fmt.Errorf("target %s: %w", name, err))
		}
		one := &baked{name: name, request: r, done: make(chan struct{})}
		if needed[name] {
			one.layout = filepath.Join(own, "layout")
			one.request.Outputs = append(one.request.Outputs, builder.Output{Type: client.ExporterOCI, Dest: one.layout, Attrs: map[string]string{"tar": "false"}})
		}
		for k, on := range links {
			if one.request.Contexts == nil {
				one.request.Contexts = map[string]string{}
			}
			one.request.Contexts[k] = linked + on
		}
		f.placement = flags.placement
		out = append(out, one)
	}
	return out, nil
}

// bakeAll builds targets, each when what it is made of is there.
func bakeAll(ctx context.Context, b builder.Builder, all []*baked, progress func(*client.SolveStatus)) error {
	var mu sync.Mutex
	byName := map[string]*baked{}
	for _, one := range all {
		byName[one.name] = one
	}
	var eg errgroup.Group
	for _, one := range all {
		eg.Go(func() error {
			defer close(one.done)
			for k, v := range one.request.Contexts {
				on, ok := strings.CutPrefix(v, linked)
				if !ok {
					continue
				}
				<-byName[on].done
				if byName[on].err != nil {
					one.err = fmt.Errorf("target %s: what it is made of, %s, has failed", one.name, on)
					return one.err
				}
				one.request.Contexts[k] = "oci-layout://" + byName[on].layout
			}
			one.request.Progress = func(st *client.SolveStatus) {
				if len(all) > 1 {
					builder.NameSteps(one.name, st)
				}
				mu.Lock()
				defer mu.Unlock()
				progress(st)
			}
			if one.result, one.err = b.Build(ctx, one.request); one.err != nil {
				one.err = fmt.Errorf("target %s: %w", one.name, one.err)
			}
			return nil // all are built to their end
		})
	}
	_ = eg.Wait()
	var errs []error
	for _, one := range all {
		errs = append(errs, one.err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}

// reportBaked prints what came of each target and writes the file of --metadata-file, which has a key for each.
func (f *bakeFlags) reportBaked(s streams, all []*baked, wanted map[string]bool, nodes int) error {
	meta := map[string]any{}
	for _, one := range all {
		if !wanted[one.name] {
			continue
		}
		own := metadata(one.request, one.result)
		if one.err != nil {
			own["manifold.error"] = one.err.Error()
		}
		meta[one.name] = own
		if one.err != nil {
			continue
		}
		if !f.quiet {
			fmt.Fprintf(s.err, "\ntarget %s\n", one.name)
			if err := printResult(s, one.request, one.result, nodes); err != nil {
				return err
			}
		}
		if n := len(one.result.Tags); n > 0 {
			fmt.Fprintln(s.out, pinned(one.result.Tags[n-1]))
		}
	}
	if f.metadataFile == "" {
		return nil
	}
	dt, err := json.MarshalIndent(meta, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(f.metadataFile, append(dt, '\n'), 0o644) //nolint:gosec // it holds no secret
}

// mergeInto makes one index of what targets have pushed.
func (f *bakeFlags) mergeInto(ctx context.Context, s streams, c *index.Client, m merged, all []*baked) (err error) {
	var what index.Composition
	for _, name := range m.targets {
		i := slices.IndexFunc(all, func(b *baked) bool { return b.name == name })
		if i < 0 || len(all[i].result.Tags) == 0 {
			return fmt.Errorf("--merge %s: target %s was not built", m.name, name)
		}
		what.Members = append(what.Members, index.Member{Source: pinned(all[i].result.Tags[0])})
	}
	draft, err := c.Compose(ctx, what)
	if err != nil {
		return fmt.Errorf("--merge %s: %w", m.name, err)
	}
	defer func() { err = errors.Join(err, draft.Close()) }()
	receipts, err := draft.Publish(ctx, []string{m.name}, index.PublishOptions{})
	if err != nil {
		return fmt.Errorf("--merge %s: %w", m.name, err)
	}
	for _, r := range receipts {
		if !f.quiet {
			fmt.Fprintf(s.err, "published %s\n", r.Ref)
		}
		fmt.Fprintln(s.out, pinned(r))
	}
	return nil
}
