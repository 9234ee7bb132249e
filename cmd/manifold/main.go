// Command manifold builds one Dockerfile into one multi-platform image.
//
//	manifold build --platform linux/amd64,linux/arm64 -t ghcr.io/app/app:1.0 --push .
//	manifold plan --platform linux/amd64,linux/arm64 .
//	manifold nodes
//	manifold inspect ghcr.io/app/app:1.0
//	manifold create -t ghcr.io/app/app:1.0 ghcr.io/app/app:1.0-amd64 ghcr.io/app/app:1.0-arm64
//
// Human output goes to standard error, results to standard output. Every reading command has --format json.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/moby/buildkit/solver/errdefs"
	_ "github.com/moby/buildkit/util/grpcutil/encoding/proto" // BuildKit's wire encoding
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/manifold-build/manifold/internal/startheap"
)

// version is set by the linker. Without, it is what the build information has: the module's version, or the commit.
var version = built()

// built is the version by the build information.
func built() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "dev-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "dev"
}

func main() {
	startheap.Grow()
	// Libraries log retries and the like; what matters comes back as an error, but for warnings about caches.
	logrus.SetLevel(logrus.WarnLevel)
	logrus.SetFormatter(&logrus.TextFormatter{DisableTimestamp: true})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	args := os.Args[1:]
	if isPlugin(os.Args[0]) {
		var err error
		if args, err = pluginArgs(args); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(exitFailed)
		}
	}
	code := run(ctx, args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program but for the process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := rootCommand(streams{stdout, stderr})
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		// What failed because of it may say more, which tags have moved for example.
		if msg := err.Error(); msg != context.Cause(ctx).Error() {
			fmt.Fprintln(stderr, "error:", msg)
		}
		fmt.Fprintln(stderr, "error: interrupted")
		return exitInterrupted
	}
	printSources(stderr, err)
	if logrus.IsLevelEnabled(logrus.DebugLevel) {
		fmt.Fprintf(stderr, "%+v\n", err) // with where it came from, as far as libraries note it
	}
	fmt.Fprintln(stderr, "error:", err)
	if isUnknownCommand(err) {
		return exitUsage
	}
	return exitCode(err)
}

// printSources shows the Dockerfile's lines that an error belongs to, each place once.
func printSources(w io.Writer, err error) {
	seen := map[string]bool{}
	for _, e := range flatten(err) {
		for _, s := range errdefs.Sources(e) {
			key := fmt.Sprint(s.GetInfo().GetFilename(), s.GetRanges())
			if seen[key] {
				continue
			}
			seen[key] = true
			_ = s.Print(w)
		}
	}
}

// flatten lists the parts of a joined error, however deep.
func flatten(err error) []error {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if joined, ok := e.(interface{ Unwrap() []error }); ok {
			var out []error
			for _, part := range joined.Unwrap() {
				out = append(out, flatten(part)...)
			}
			return out
		}
	}
	return []error{err}
}

// streams are where a command writes.
type streams struct{ out, err io.Writer }

func rootCommand(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:           "manifold",
		Short:         "One Dockerfile in, one multi-platform image out",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	for _, g := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"build", "Building:", []*cobra.Command{buildCommand(s), bakeCommand(s), planCommand(s)}},
		{"index", "Images and indexes that are there:", []*cobra.Command{
			createCommand(s), inspectCommand(s), verifyCommand(s), resolveCommand(s), copyCommand(s), tagsCommand(s), deleteCommand(s),
		}},
		{"nodes", "Nodes and registries:", []*cobra.Command{nodesCommand(s), duCommand(s), pruneCommand(s), doctorCommand(s)}},
	} {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.id
			root.AddCommand(c)
		}
	}
	root.AddCommand(scanCommand(), pluginCommand(s), versionCommand(s))
	setHelp(root)
	complete(root)
	strict(root)
	return root
}
