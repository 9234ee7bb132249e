// Command corpus plans every Dockerfile below a folder, for a node of linux/amd64 that emulates linux/arm64, and prints what becomes of their builder stages,
// with reasons, counts and times:
//
//	go run ./integration/cmd/corpus DIR
//
// A builder stage is one that runs something and that the exported stage only copies from. Nothing is built and nothing is asked, so that what only
// a node can tell (does a compilation need cgo, what would make run) is counted as open.
package main

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

// maxFile bounds a Dockerfile, in bytes.
const maxFile = 1 << 20

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: corpus DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "corpus:", err)
		os.Exit(1)
	}
}

// outcome is what becomes of one file.
type outcome struct {
	file, kind, why string
	took            time.Duration
}

func run(dir string) error {
	var all []outcome
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !isDockerfile(d.Name()) {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Size() > maxFile {
			return err
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		o := plan(name, src)
		o.file = strings.TrimPrefix(strings.TrimPrefix(name, dir), "/")
		all = append(all, o)
		return nil
	})
	if err != nil {
		return err
	}
	show(all)
	return nil
}

// isDockerfile reports whether a file is named as Dockerfiles are.
func isDockerfile(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "dockerfile") || strings.HasSuffix(name, ".dockerfile") || strings.HasPrefix(name, "containerfile")
}

// plan plans one file for linux/arm64.
func plan(name string, src []byte) outcome {
	amd64, arm64 := platforms.Platform{OS: "linux", Architecture: "amd64"}, platforms.Platform{OS: "linux", Architecture: "arm64"}
	begin := time.Now()
	file, err := dockerfile.Parse(name, src)
	if err != nil {
		return outcome{kind: "not read", why: err.Error()}
	}
	plan, err := file.Plan(dockerfile.PlanRequest{
		Host: platforms.Host{Native: amd64, Emulated: []platforms.Platform{arm64}}, Targets: []dockerfile.Target{{Platform: arm64}},
	})
	out := judge(plan)
	out.took = time.Since(begin)
	if err != nil {
		out.kind, out.why = "cannot", err.Error()
	}
	return out
}

// judge says what becomes of the file's builder stages: the worst of them counts.
func judge(plan dockerfile.Plan) outcome {
	out := outcome{kind: "no builder"}
	worse := func(kind, why string) {
		if slices.Index(kinds, kind) > slices.Index(kinds, out.kind) {
			out.kind, out.why = kind, why
		}
	}
	for _, s := range plan.Steps {
		switch {
		case !s.Executes || s.Exported():
		case s.Moved && len(s.Probes) > 0:
			worse("open", fmt.Sprintf("%s: a node has to say: %v", s.Stage, s.Probes))
		case s.Moved:
			worse("moved", "")
		case s.Strategy == platforms.Cross:
			worse("pinned", "")
		default:
			worse("stays", s.Stage+": "+s.Reason)
		}
	}
	return out
}

// kinds are the outcomes, the best first.
var kinds = []string{"no builder", "pinned", "moved", "open", "stays", "cannot", "not read"}

func show(all []outcome) {
	tw := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	counts := map[string]int{}
	var total, longest time.Duration
	for _, o := range all {
		fmt.Fprintf(tw, "%s\t%s\t%.1f ms\t%s\n", o.file, o.kind, float64(o.took.Microseconds())/1e3, o.why)
		counts[o.kind]++
		total += o.took
		longest = max(longest, o.took)
	}
	_ = tw.Flush()
	fmt.Printf("\n%d files:", len(all))
	for _, k := range slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return slices.Index(kinds, a) - slices.Index(kinds, b) }) {
		fmt.Printf(" %d %s,", counts[k], k)
	}
	fmt.Printf(" planned in %v, the longest in %v\n", total.Round(time.Millisecond), longest.Round(100*time.Microsecond))
}
