package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client"

	"github.com/manifold-build/manifold/builder"
	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/integration/sandbox"
	"github.com/manifold-build/manifold/platforms"
)

// armNode is a buildkitd that says it is of arm64. What it runs of it goes through QEMU, which it does not know.
var armNode = sandbox.NodeOptions{Platforms: []string{"linux/arm64", "linux/arm/v7", "linux/amd64"}}

// fleetDockerfile runs something on its target, beside a shared stage and a cross-compiled one.
const fleetDockerfile = `FROM busybox:1.35 AS page
RUN mkdir /page && echo hello > /page/index.html

FROM busybox:1.35
RUN uname -m > /machine
COPY --from=page /page /page
CMD ["cat", "/machine"]
`

func fleetOf(t *testing.T, addrs map[string]string, order ...string) []*builder.Node {
	t.Helper()
	var out []*builder.Node
	for _, name := range order {
		n, err := builder.DialNode(t.Context(), builder.NodeConfig{Name: name, Address: addrs[name]})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Close() })
		out = append(out, n)
	}
	return out
}

func parseTargets(t *testing.T, list string) []platforms.Platform {
	t.Helper()
	out, err := platforms.ParseList(list)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// reproducible is a request whose result has the same bytes wherever and whenever it is made.
func reproducible(dir, ref string, targets []platforms.Platform) builder.Request {
	return builder.Request{
		Context: dir, Targets: targets, Tags: []string{ref}, BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": "1700000000"},
		Outputs: []builder.Output{{Type: "registry", Attrs: map[string]string{"rewrite-timestamp": "true"}}},
	}
}

// TestOneNodeAndThree builds the same on one node and on three, of which one says it is of arm64: each target is built where it is native, and the
// indexes, pushed and in archives, have the same bytes.
func TestOneNodeAndThree(t *testing.T) {
	sb := sandbox.Start(t)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", fleetDockerfile)
	addrs := map[string]string{
		"amd1": sb.Node.Addr, "amd2": sb.NewNode(t, sandbox.NodeOptions{}).Addr, "arm1": sb.NewNode(t, armNode).Addr,
	}
	targets := parseTargets(t, "linux/amd64,linux/arm64,linux/arm/v7,linux/s390x")
	one, err := builder.Builder{Nodes: fleetOf(t, addrs, "amd1")}.Build(t.Context(), reproducible(dir, sb.Ref("one:1"), targets))
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "three.tar")
	r := reproducible(dir, sb.Ref("three:1"), targets)
	r.Outputs = append(r.Outputs, builder.Output{Type: "oci", Dest: archive, Attrs: map[string]string{"rewrite-timestamp": "true"}},
		builder.Output{Type: "tar", Dest: filepath.Join(t.TempDir(), "all.tar")})
	local := t.TempDir()
	r.Outputs = append(r.Outputs, builder.Output{Type: "local", Dest: local})
	three, err := builder.Builder{Nodes: fleetOf(t, addrs, "amd1", "amd2", "arm1")}.Build(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if one.Descriptor.Digest != three.Descriptor.Digest {
		t.Errorf("one node makes %s, three %s", one.Descriptor.Digest, three.Descriptor.Digest)
		for i := range one.Images {
			t.Log(one.Images[i].Platform, one.Images[i].Descriptor.Digest, three.Images[i].Descriptor.Digest)
		}
	}
	x, err := index.NewClient(index.ClientOptions{}).Pull(t.Context(), "oci-archive:"+archive)
	if err != nil || x.Descriptor.Digest != one.Descriptor.Digest {
		t.Errorf("the archive holds %s, %v", x.Descriptor.Digest, err)
	}
	for _, p := range []string{"linux_amd64", "linux_arm64", "linux_arm_v7", "linux_s390x"} {
		if _, err := os.Stat(filepath.Join(local, p, "machine")); err != nil {
			t.Error(err)
		}
	}
	where := nodesOf(three)
	for _, target := range targets[1:2] {
		if where[target.String()] != "arm1" {
			t.Errorf("%s was built on %s", target, where[target.String()])
		}
	}
	if n := where["linux/amd64"]; n != "amd1" && n != "amd2" {
		t.Errorf("linux/amd64 was built on %s", n)
	}
	for _, target := range three.Targets {
		if target.Digest == "" || target.Verdict == "" || len(target.Attempts) != 1 || len(target.Strategies) == 0 {
			t.Errorf("of %s is known: %+v", target.Target, target)
		}
	}
}

// nodesOf says which node built each target.
func nodesOf(r builder.Result) map[string]string {
	out := map[string]string{}
	for _, target := range r.Targets {
		out[target.Target.String()] = target.Node
	}
	return out
}

// slowDockerfile takes some seconds on each target.
const slowDockerfile = "FROM busybox:1.35\nRUN for i in 1 2 3 4 5 6; do sleep 0.5; done; uname -m > /machine\n"

// TestDeadNodeLeavesOldTag kills one of two nodes, and both, at random moments of a build (TRUST, row 15): its targets move to the other one, whose
// index has the bytes that it would have had, or the build fails and the tag stays what it was.
func TestDeadNodeLeavesOldTag(t *testing.T) {
	t.Parallel() // it mostly waits
	sb := sandbox.Start(t)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", slowDockerfile)
	targets := parseTargets(t, "linux/amd64,linux/arm64")
	ref := sb.Ref("app:1")
	good, err := builder.Builder{Nodes: fleetOf(t, map[string]string{"a": sb.Node.Addr}, "a")}.Build(t.Context(), reproducible(dir, ref, targets))
	if err != nil {
		t.Fatal(err)
	}
	rounds := 4
	if os.Getenv("MANIFOLD_DIFFERENTIAL") == "all" {
		rounds = 20
	}
	for round := range rounds {
		other := sb.NewNode(t, armNode)
		nodes := fleetOf(t, map[string]string{"amd": sb.Node.Addr, "arm": other.Addr}, "amd", "arm")
		after := time.Duration(rand.IntN(4000)) * time.Millisecond
		signal := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[round%2] // dead at once, or shut down
		kill := time.AfterFunc(after, func() { _ = other.Signal(signal) })
		r := reproducible(dir, ref, targets)
		r.NoCache = true
		begun := time.Now()
		result, err := builder.Builder{Nodes: nodes}.Build(t.Context(), r)
		kill.Stop()
		if err != nil {
			t.Fatalf("round %d, %s after %s: %v", round, signal, after, err)
		}
		if took := time.Since(begun); took > 60*time.Second {
			t.Errorf("round %d took %s", round, took)
		}
		if result.Descriptor.Digest != good.Descriptor.Digest {
			t.Errorf("round %d, killed after %s: the index is %s, not %s", round, after, result.Descriptor.Digest, good.Descriptor.Digest)
		}
	}
	both := []*sandbox.Node{sb.NewNode(t, sandbox.NodeOptions{}), sb.NewNode(t, armNode)}
	nodes := fleetOf(t, map[string]string{"amd": both[0].Addr, "arm": both[1].Addr}, "amd", "arm")
	time.AfterFunc(1500*time.Millisecond, func() {
		for _, n := range both {
			_ = n.Signal(syscall.SIGKILL)
		}
	})
	r := reproducible(dir, ref, targets)
	r.NoCache = true
	r.BuildArgs["SOURCE_DATE_EPOCH"] = "1800000000"
	begun := time.Now()
	result, err := builder.Builder{Nodes: nodes}.Build(t.Context(), r)
	if err == nil || !strings.Contains(err.Error(), "lost") {
		t.Errorf("both nodes are dead, and the build says %v", err)
	}
	if took := time.Since(begun); took > 60*time.Second {
		t.Errorf("it took %s", took)
	}
	for _, target := range result.Targets {
		if last := target.Attempts[len(target.Attempts)-1]; last.Error == "" {
			t.Errorf("%s has no failed attempt: %+v", target.Target, target)
		}
	}
	now, err := index.NewClient(index.ClientOptions{}).Pull(t.Context(), ref)
	if err != nil || now.Descriptor.Digest != good.Descriptor.Digest {
		t.Errorf("the tag is %s, %v", now.Descriptor.Digest, err)
	}
}

// TestHungNode stops a node in the middle of a build: it is taken for lost when it has not answered for a while, and its target is built elsewhere.
func TestHungNode(t *testing.T) {
	t.Parallel() // it mostly waits
	sb := sandbox.Start(t)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", slowDockerfile)
	other := sb.NewNode(t, armNode)
	nodes := fleetOf(t, map[string]string{"amd": sb.Node.Addr, "arm": other.Addr}, "amd", "arm")
	defer func() { _ = other.Signal(syscall.SIGCONT) }()
	var stopped atomic.Bool
	r := reproducible(dir, sb.Ref("app:1"), parseTargets(t, "linux/amd64,linux/arm64"))
	r.NoCache = true
	r.Progress = func(s *client.SolveStatus) {
		for _, v := range s.Vertexes {
			if strings.HasPrefix(v.Name, "arm [") && strings.Contains(v.Name, "RUN") && v.Started != nil && stopped.CompareAndSwap(false, true) {
				_ = other.Signal(syscall.SIGSTOP)
			}
		}
	}
	begun := time.Now()
	result, err := builder.Builder{Nodes: nodes}.Build(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 75*time.Second {
		t.Errorf("it took %s", took)
	}
	if diff := cmp.Diff(map[string]string{"linux/amd64": "amd", "linux/arm64": "amd"}, nodesOf(result)); diff != "" {
		t.Error(diff)
	}
}

// TestCancelledFleet cancels a build on two nodes: it ends soon, no build is left on either node, and no goroutine here.
func TestCancelledFleet(t *testing.T) {
	sb := sandbox.Start(t)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", strings.ReplaceAll(slowDockerfile, "1 2 3 4 5 6", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"))
	nodes := fleetOf(t, map[string]string{"amd": sb.Node.Addr, "arm": sb.NewNode(t, armNode).Addr}, "amd", "arm")
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	r := reproducible(dir, sb.Ref("app:1"), parseTargets(t, "linux/amd64,linux/arm64"))
	r.NoCache = true
	begun := time.Now()
	_, err := builder.Builder{Nodes: nodes}.Build(ctx, r)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it says %v", err)
	}
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("it ended after %s", took)
	}
	for _, n := range nodes {
		eventually(t, func() string {
			status, err := n.Status(t.Context())
			if err != nil || status.Running > 0 {
				return fmt.Sprintf("%s runs %d builds, %v", n.Name, status.Running, err)
			}
			return ""
		})
	}
	eventually(t, func() string {
		if n := runtime.NumGoroutine(); n > before+2 {
			return fmt.Sprintf("%d goroutines, %d before", n, before)
		}
		return ""
	})
}

func eventually(t *testing.T, wrong func() string) {
	t.Helper()
	last := ""
	for range 100 {
		if last = wrong(); last == "" {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error(last)
}

// TestTenCheckouts builds the same repository from ten folders on three nodes: each time on the same node, whose cache has it.
func TestTenCheckouts(t *testing.T) {
	sb := sandbox.Start(t)
	addrs := map[string]string{"a": sb.Node.Addr, "b": sb.NewNode(t, sandbox.NodeOptions{}).Addr, "c": sb.NewNode(t, sandbox.NodeOptions{}).Addr}
	nodes := fleetOf(t, addrs, "a", "b", "c")
	seen := map[string]bool{}
	run, cached := 0, 0
	for i := range 10 {
		dir := filepath.Join(t.TempDir(), fmt.Sprintf("checkout-%d", i))
		for name, text := range map[string]string{
			"Dockerfile": fleetDockerfile, ".git/config": "[remote \"origin\"]\n\turl = https://example.com/app.git\n",
		} {
			at := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Dir(at), filepath.Base(at), text)
		}
		r := builder.Request{Context: dir, Targets: parseTargets(t, "linux/amd64,linux/386")}
		steps := map[string]bool{}
		r.Progress = func(s *client.SolveStatus) {
			for _, v := range s.Vertexes {
				if strings.Contains(v.Name, "] RUN ") && v.Completed != nil {
					steps[v.Digest.String()] = v.Cached
				}
			}
		}
		result, err := builder.Builder{Nodes: nodes}.Build(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		seen[fmt.Sprint(nodesOf(result))] = true
		for _, c := range steps {
			if i > 0 {
				run++
				if c {
					cached++
				}
			}
		}
	}
	if len(seen) != 1 {
		t.Errorf("the targets went to %v", seen)
	}
	if run == 0 || cached*100 < run*95 {
		t.Errorf("%d of %d steps came from the cache", cached, run)
	}
}

// TestOptionalTarget leaves out a target that fails, and one that no node can build; the index says so.
func TestOptionalTarget(t *testing.T) {
	sb := sandbox.Start(t)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", "FROM busybox:1.35\nARG TARGETARCH\nRUN test $TARGETARCH != arm64\n")
	for name, nodes := range map[string][]*builder.Node{
		"one":   fleetOf(t, map[string]string{"a": sb.Node.Addr}, "a"),
		"three": fleetOf(t, map[string]string{"a": sb.Node.Addr, "b": sb.NewNode(t, armNode).Addr}, "a", "b"),
	} {
		r := builder.Request{Context: dir, Targets: parseTargets(t, "linux/amd64,linux/arm64,linux/386"), Tags: []string{sb.Ref(name + ":1")}, Push: true}
		if _, err := (builder.Builder{Nodes: nodes}).Build(t.Context(), r); err == nil {
			t.Errorf("%s: it passes without linux/arm64, which nobody said is optional", name)
		}
		p, err := platforms.ParsePattern("linux/arm64")
		if err != nil {
			t.Fatal(err)
		}
		r.Optional = []platforms.Pattern{p}
		result, err := builder.Builder{Nodes: nodes}.Build(t.Context(), r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		x, err := index.NewClient(index.ClientOptions{}).Pull(t.Context(), r.Tags[0])
		if err != nil {
			t.Fatal(err)
		}
		if len(x.Images) != 2 || x.Annotations["io.github.manifold-build.missing"] != "linux/arm64" {
			t.Errorf("%s: %d images, annotations %v; %+v", name, len(x.Images), x.Annotations, result.Targets)
		}
	}
}

// TestNodesExample plans the example for two nodes: its README shows what is printed.
func TestNodesExample(t *testing.T) {
	sb := sandbox.Start(t)
	dir := filepath.Join("..", "examples", "12-nodes")
	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	out := mustExec(t, sb, "manifold", "plan", "--builder", "one="+sb.Node.Addr, "--builder", "two="+sb.NewNode(t, sandbox.NodeOptions{}).Addr,
		"--platform", "linux/amd64,linux/arm64", "--node-for", "linux/arm64=two", dir)
	if !strings.Contains(string(readme), out.Stdout) {
		t.Errorf("README.md does not hold:\n%s", out.Stdout)
	}
}

// TestCrash says what an exit code means that no program chose.
func TestCrash(t *testing.T) {
	sb := sandbox.Start(t)
	dir := t.TempDir()
	for signal, want := range map[string]string{
		"KILL": "it was killed, as the kernel does when memory runs out", "SEGV": "QEMU which emulates linux/arm64 for it, crashed (signal 11, segmentation fault)",
	} {
		write(t, dir, "Dockerfile", "FROM busybox:1.35\nRUN sh -c 'kill -"+signal+" $$'; exit $?\n")
		_, err := builder.Builder{Nodes: fleetOf(t, map[string]string{"a": sb.Node.Addr}, "a")}.Build(t.Context(),
			builder.Request{Context: dir, Targets: parseTargets(t, "linux/arm64")})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", signal, err)
		}
	}
}

// TestFailFast builds two targets on two nodes, one of which fails at once: the other one is given up only if that was asked for.
func TestFailFast(t *testing.T) {
	sb := sandbox.Start(t)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", "FROM busybox:1.35\nARG TARGETARCH\nRUN test $TARGETARCH != arm64 && sleep 8\n")
	nodes := fleetOf(t, map[string]string{"amd": sb.Node.Addr, "arm": sb.NewNode(t, armNode).Addr}, "amd", "arm")
	for _, fast := range []bool{true, false} {
		begun := time.Now()
		_, err := builder.Builder{Nodes: nodes}.Build(t.Context(), builder.Request{Context: dir, Targets: parseTargets(t, "linux/amd64,linux/arm64"), FailFast: fast, NoCache: true})
		failed, ok := errors.AsType[*builder.TargetError](err)
		if !ok || failed.Target.String() != "linux/arm64" || failed.Node != "arm" || failed.Line != 3 {
			t.Errorf("%v", err)
		}
		if took := time.Since(begun); (took < 8*time.Second) != fast {
			t.Errorf("fail-fast %v: it took %s", fast, took)
		}
	}
}

// TestCachesOfAFleet writes a cache from two nodes, and reads it on one that is empty: what each of them ran for its target is not run there, and neither
// is what they share.
func TestCachesOfAFleet(t *testing.T) {
	sb := sandbox.Start(t)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", strings.Replace(fleetDockerfile, "RUN mkdir /page", "RUN echo it is run; mkdir /page", 1))
	targets := parseTargets(t, "linux/amd64,linux/arm64")
	nodes := fleetOf(t, map[string]string{"amd": sb.Node.Addr, "arm": sb.NewNode(t, armNode).Addr}, "amd", "arm")
	cache := []client.CacheOptionsEntry{{Type: "registry", Attrs: map[string]string{"ref": sb.Ref("app:cache"), "mode": "max"}}}
	if _, err := (builder.Builder{Nodes: nodes}).Build(t.Context(), builder.Request{Context: dir, Targets: targets, CacheTo: cache}); err != nil {
		t.Fatal(err)
	}
	steps := map[string]bool{}
	empty := fleetOf(t, map[string]string{"new": sb.NewNode(t, sandbox.NodeOptions{}).Addr}, "new")
	_, err := builder.Builder{Nodes: empty}.Build(t.Context(), builder.Request{
		Context: dir, Targets: targets, CacheFrom: cache, Options: map[string]string{"manifold:verify": "off"},
		Progress: func(s *client.SolveStatus) {
			for _, v := range s.Vertexes {
				if strings.Contains(v.Name, "] RUN uname") && v.Completed != nil {
					steps[v.Name] = v.Cached
				}
			}
			for _, l := range s.Logs { // its layers are fetched, which the progress does not call cached
				if strings.Contains(string(l.Data), "it is run") {
					t.Error("the shared stage was run")
				}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, cached := range steps {
		if !cached {
			t.Errorf("%s was run", name)
		}
	}
	if len(steps) != 2 {
		t.Errorf("the steps are %v", steps)
	}
}

// TestAttestationsOfAFleet joins what two nodes made with provenance: each image keeps what attests it, and the gate's own client finds it.
func TestAttestationsOfAFleet(t *testing.T) {
	sb := sandbox.Start(t)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", fleetDockerfile)
	nodes := fleetOf(t, map[string]string{"amd": sb.Node.Addr, "arm": sb.NewNode(t, armNode).Addr}, "amd", "arm")
	r := builder.Request{
		Context: dir, Targets: parseTargets(t, "linux/arm64,linux/amd64"), Tags: []string{sb.Ref("attested:1")}, Push: true,
		Attest: map[string]string{"provenance": "mode=max"},
	}
	if _, err := (builder.Builder{Nodes: nodes}).Build(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	x, err := index.NewClient(index.ClientOptions{}).Pull(t.Context(), r.Tags[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(x.Images) != 2 || x.Images[0].Platform.String() != "linux/arm64" {
		t.Fatalf("the images are %v", x.Images)
	}
	for _, image := range x.Images {
		if len(image.Attestations) != 1 || len(image.Attestations[0].Predicates) == 0 {
			t.Errorf("%s has %d attestations", image.Platform, len(image.Attestations))
		}
	}
}

// TestCarried builds a stage that makes other bytes each time, as bundlers do that name what they make by chance, for targets on two nodes: both
// images take what one of the nodes made, with its owners and modes, links and times.
func TestCarried(t *testing.T) {
	sb := sandbox.Start(t)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", `FROM busybox:1.35 AS Page
RUN mkdir -p /page/a /other && head -c 16 /dev/urandom | md5sum > /page/a/id && ln -s a /page/b && chown -R 5:6 /page/a && chmod 750 /page/a && touch -d @1000000000 /page/a/id
RUN head -c 16 /dev/urandom | md5sum > /other/x.txt

FROM busybox:1.35
RUN uname -m > /machine
COPY --from=page /page /page
COPY --from=page /other/*.txt /texts/
`)
	addrs := map[string]string{"amd": sb.Node.Addr, "arm": sb.NewNode(t, armNode).Addr}
	for _, fresh := range []bool{false, true} {
		local := t.TempDir()
		r := builder.Request{
			Context: dir, Targets: parseTargets(t, "linux/amd64,linux/arm64,linux/386"), NoCache: fresh,
			Outputs: []builder.Output{{Type: "local", Dest: local}},
		}
		result, err := builder.Builder{Nodes: fleetOf(t, addrs, "amd", "arm")}.Build(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if where := nodesOf(result); where["linux/amd64"] != "amd" || where["linux/arm64"] != "arm" {
			t.Errorf("%v", where)
		}
		seen := map[string]bool{}
		for _, target := range []string{"linux_amd64", "linux_arm64", "linux_386"} {
			out := mustExec(t, sb, "sh", "-ec", `cd "$0"; cat page/a/id texts/x.txt; stat -c '%n %f %u %g' page page/a page/b page/a/id texts texts/x.txt; stat -c %Y page/a/id; readlink page/b`, filepath.Join(local, target))
			seen[out.Stdout] = true
		}
		if len(seen) != 1 {
			t.Errorf("the targets do not have the same: %v", seen)
		}
		if !slices.ContainsFunc(result.Steps, func(s dockerfile.Step) bool { return strings.EqualFold(s.Stage, "page") }) {
			t.Errorf("the steps do not have the stage: %+v", result.Steps)
		}
	}
}
