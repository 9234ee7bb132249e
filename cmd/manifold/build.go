package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/manifold-build/manifold/builder"
	"github.com/manifold-build/manifold/frontend"
	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/platforms"
)

const buildExample = `  manifold build --platform linux/amd64,linux/arm64 -t ghcr.io/app/app:1.0 --push .
  manifold build --platform linux/amd64,linux/arm64 -o type=oci,dest=app.tar .
  manifold build --builder mybuilder --cache ghcr.io/app/app:cache -t ghcr.io/app/app:1.0 --push https://github.com/app/app.git#main
  manifold build --platform linux/arm64 --test '/app --version' -f linux/arm64=Dockerfile.arm64 --load .`

func buildCommand(s streams) *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:     "build [flags] CONTEXT",
		Example: buildExample,
		Short:   "Build a Dockerfile for several platforms and publish one index",
		Long: "Build a Dockerfile for several platforms and publish one index.\n\n" +
			"CONTEXT is a folder, the URL of a git repository or of an archive, or - for standard input: an archive of the\n" +
			"context, or a Dockerfile that needs none.\n" +
			"-f, --target, --strategy and --build-arg can be given for some platforms only: -f linux/arm64=Dockerfile_arm64,\n" +
			"--strategy 'linux/arm*=cross', --build-arg linux/arm/v7:GOFLAGS=-tags=soft.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), s, args[0])
		},
	}
	f.register(cmd.Flags())
	return cmd
}

// run builds and prints what came of it.
func (f *buildFlags) run(ctx context.Context, s streams, dir string) (err error) {
	if f.debug {
		logrus.SetLevel(logrus.DebugLevel)
	}
	// What the flags say is checked before anything is asked of a node.
	f.loadsDocker()
	r, err := f.request(dir)
	if err != nil {
		return misused(err)
	}
	for flag, name := range map[string]string{"--iidfile": f.iidFile, "--metadata-file": f.metadataFile} {
		if err := writable(name); err != nil {
			return misused(fmt.Errorf("%s: %w", flag, err))
		}
	}
	versionControl(ctx, &r)
	for _, p := range platforms.Repeats(strings.Join(f.platforms, ",")) {
		fmt.Fprintf(s.err, "warning: --platform names %s twice, it is built once\n", p)
	}
	question, form, err := callOf(f.call, f.check)
	if err != nil {
		return misused(err)
	}
	if question != "" {
		return f.ask(ctx, s, r, question, form)
	}
	if f.dryRun {
		plan, err := f.plan(ctx, s, dir)
		if err == nil {
			err = f.printPlan(s, formatTable, plan)
		}
		return err
	}
	var load *loader
	if f.load {
		if load, err = newLoader(&r); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, load.Close()) }()
	}
	nodes, err := dialOrStart(ctx, s, f.builders)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll(nodes)) }()
	if err := f.local(&r, nodes[0]); err != nil {
		return err
	}
	b := builder.Builder{Nodes: nodes, Placement: f.placement, Registry: f.client(s), CacheDir: cacheDir(), Program: ownProgram(), Accelerator: accelerator()}
	var result builder.Result
	err = f.display(ctx, s, func(progress func(*client.SolveStatus)) (err error) {
		r.Progress = progress
		result, err = b.Build(ctx, r)
		return err
	})
	if err != nil {
		return errors.Join(err, f.writeMetadata(r, result, err))
	}
	if load != nil {
		if err := load.load(ctx, s, f); err != nil {
			return errors.Join(err, f.writeMetadata(r, result, err))
		}
	}
	if !f.quiet {
		missAccelerator(s, b, result.Steps)
	}
	return f.report(s, r, result, len(nodes))
}

// display shows the progress of what do does.
func (f *buildFlags) display(ctx context.Context, s streams, do func(progress func(*client.SolveStatus)) error) error {
	mode := progressui.DisplayMode(f.progress)
	if f.quiet {
		mode = progressui.QuietMode
	}
	display, err := progressui.NewDisplay(s.err, mode)
	if err != nil {
		return err
	}
	status := make(chan *client.SolveStatus)
	var warnings []client.VertexWarning
	lost := map[string]bool{} // caches that were not written
	var eg errgroup.Group
	eg.Go(func() error {
		// The display outlives a cancelled build, to show how it ended.
		found, err := display.UpdateFrom(context.WithoutCancel(ctx), status)
		warnings = found
		return err
	})
	eg.Go(func() error {
		defer close(status)
		return do(func(st *client.SolveStatus) {
			st.Warnings = slices.DeleteFunc(st.Warnings, isAboutHeader)
			for _, v := range st.Vertexes {
				if v.Error != "" && strings.Contains(v.Name, "exporting cache to") {
					lost["the cache was not written: "+v.Name+": "+v.Error] = true
				}
			}
			status <- st
		})
	})
	err = eg.Wait()
	if mode != progressui.QuietMode && mode != progressui.RawJSONMode {
		printWarnings(s, warnings)
		for _, line := range slices.Sorted(maps.Keys(lost)) {
			if err == nil {
				fmt.Fprintln(s.err, "warning:", line)
			}
		}
	}
	return err
}

// isAboutHeader reports whether BuildKit wonders at platforms that the request does not name: the Dockerfile's header does, and
// the result is compared with that.
func isAboutHeader(w *client.VertexWarning) bool {
	return strings.HasPrefix(string(w.Short), "Requested platforms ")
}

// printWarnings lists the warnings of a build under its progress, each once.
func printWarnings(s streams, warnings []client.VertexWarning) {
	var lines []string
	for _, w := range warnings {
		if line := string(w.Short); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	for _, line := range lines {
		fmt.Fprintln(s.err, "warning:", line)
	}
}

// report prints the result and writes the files that the flags name.
func (f *buildFlags) report(s streams, r builder.Request, result builder.Result, nodes int) error {
	if !f.quiet {
		if err := printResult(s, r, result, nodes); err != nil {
			return err
		}
	}
	digest := result.Descriptor.Digest.String()
	switch {
	case len(result.Tags) > 0:
		// As ko does: a reference that stays what it is, ready for a script.
		out := s.out
		if f.toStdout() {
			out = s.err // standard output is an archive
		}
		fmt.Fprintln(out, pinned(result.Tags[len(result.Tags)-1]))
	case digest != "" && !f.toStdout():
		fmt.Fprintln(s.out, digest)
	}
	if f.iidFile != "" {
		if err := os.WriteFile(f.iidFile, []byte(imageID(result)), 0o644); err != nil { //nolint:gosec // a digest is no secret
			return err
		}
	}
	return f.writeMetadata(r, result, nil)
}

// loadsDocker takes an output of type docker that names no file for --load, as docker buildx does.
func (f *buildFlags) loadsDocker() {
	list, err := outputs(f.outputs)
	if err != nil {
		return // it is reported with the other flags
	}
	f.outputs = slices.DeleteFunc(slices.Clone(f.outputs), func(s string) bool {
		o := list[slices.Index(f.outputs, s)]
		loads := o.Type == client.ExporterDocker && o.Dest == "" && o.Attrs["tar"] == ""
		f.load = f.load || loads
		if name := o.Attrs["name"]; loads && name != "" {
			f.tags = append(f.tags, strings.Split(name, ",")...)
		}
		return loads
	})
}

// writable reports whether a file can be written, before an hour is spent on what it is to hold. Empty means that none is wanted.
func writable(name string) error {
	if name == "" {
		return nil
	}
	_, err := os.Stat(name)
	made := errors.Is(err, fs.ErrNotExist)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644) //nolint:gosec // as it will be written
	if err != nil {
		return err
	}
	err = f.Close()
	if made {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// writeMetadata writes the file of --metadata-file, also for a build that failed.
func (f *buildFlags) writeMetadata(r builder.Request, result builder.Result, failed error) error {
	if f.metadataFile == "" {
		return nil
	}
	out := metadata(r, result)
	if failed != nil {
		out["manifold.error"] = failed.Error()
	}
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(f.metadataFile, append(b, '\n'), 0o644) //nolint:gosec // as above
}

// imageID is what --iidfile holds, as docker buildx writes it: the config's digest of a single image, otherwise the index's.
func imageID(result builder.Result) string {
	if id := result.Exporter[exptypes.ExporterImageConfigDigestKey]; id != "" {
		return id
	}
	return result.Descriptor.Digest.String()
}

// pinned is the reference of a tag with its digest instead.
func pinned(t index.Receipt) string {
	if file, ok := index.FileOf(t.Ref); ok {
		if strings.HasPrefix(file, "docker-archive:") {
			return t.Ref // it has no digests
		}
		return file + "@" + t.Digest.String()
	}
	name := t.Ref
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		name = name[:i]
	}
	return name + "@" + t.Digest.String()
}

// metadata is what --metadata-file holds: buildx's keys, and ours under "manifold".
func metadata(r builder.Request, result builder.Result) map[string]any {
	out := map[string]any{"manifold": result}
	if result.Descriptor.Digest != "" {
		out["containerimage.digest"] = result.Descriptor.Digest
	}
	if result.Descriptor.Size > 0 {
		out["containerimage.descriptor"] = result.Descriptor
	}
	if len(r.Tags) > 0 {
		out["image.name"] = strings.Join(r.Tags, ",")
	}
	return out
}

// printResult prints the closing table: each target, how it was built, and what it is called.
func printResult(s streams, r builder.Request, result builder.Result, nodes int) error {
	var rows [][]string
	for _, image := range result.Images {
		row := []string{
			image.Platform.String(), orDash(strategies(result.Steps, image.Platform)), image.Descriptor.Digest.String(), size(image.Size),
			verdict(result, image.Platform), tested(result, image.Platform),
		}
		if nodes > 1 {
			row = append(row, orDash(nodeOf(result, image.Platform)))
		}
		rows = append(rows, row)
	}
	if len(rows) > 0 {
		fmt.Fprintln(s.err)
		head := []string{"TARGET", "STRATEGY", "DIGEST", "SIZE", "VERDICT", "TESTED"}
		if nodes > 1 {
			head = append(head, "NODE")
		}
		if err := printTable(s.err, head, rows); err != nil {
			return err
		}
	}
	for _, t := range result.Targets {
		if t.Missing {
			fmt.Fprintf(s.err, "warning: %s is missing from the result, as it may be: %s\n", t.Target, t.Attempts[len(t.Attempts)-1].Error)
		}
	}
	for _, t := range result.Tags {
		fmt.Fprintf(s.err, "published %s\n", t.Ref)
	}
	if len(r.Outputs) == 0 && !r.Push {
		fmt.Fprintln(s.err, "warning: no output was asked for, the result stays in the node's cache: use --push or --output")
	}
	return nil
}

// nodeOf is the node that a platform's image was built on.
func nodeOf(result builder.Result, p platforms.Platform) string {
	for _, t := range result.Targets {
		if t.Target == p {
			return t.Node
		}
	}
	return ""
}

// judged is what the gate found for a platform; of a build that named none there is one.
func judged(result builder.Result, p platforms.Platform) frontend.Judgement {
	for _, j := range result.Gate {
		if j.Report.Platform == p || len(result.Gate) == 1 {
			return j
		}
	}
	return frontend.Judgement{}
}

// verdict is what is said of a platform's image.
func verdict(result builder.Result, p platforms.Platform) string {
	if v := judged(result, p).Report.Verdict; v != 0 {
		return v.String()
	}
	return "not verified"
}

// tested says how a platform's image was tested.
func tested(result builder.Result, p platforms.Platform) string {
	return orDash(judged(result, p).Tested)
}

// strategies lists how the stages that run something were run for a target, each once.
func strategies(steps []dockerfile.Step, target platforms.Platform) string {
	var out []string
	for _, s := range steps {
		if name := s.Strategy.String(); s.Target == target && s.Executes && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return strings.Join(out, ", ")
}
