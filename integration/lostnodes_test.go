package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client"

	"github.com/manifold-build/manifold/builder"
	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/integration/sandbox"
)

// once calls something when a step, or a part of one, has begun whose name has a part.
func once(part string, do func()) func(*client.SolveStatus) {
	var done atomic.Bool
	return func(s *client.SolveStatus) {
		for _, v := range s.Vertexes {
			if strings.Contains(v.Name, part) && v.Started != nil && done.CompareAndSwap(false, true) {
				do()
			}
		}
		for _, v := range s.Statuses {
			if strings.Contains(v.ID, part) && v.Started != nil && done.CompareAndSwap(false, true) {
				do()
			}
		}
	}
}

// listen listens until the test is over.
func listen(t *testing.T, network, addr string) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// digestOf is what a tag is, empty if there is none.
func digestOf(t *testing.T, ref string) string {
	t.Helper()
	x, err := index.NewClient(index.ClientOptions{}).Pull(t.Context(), ref)
	if errors.Is(err, index.ErrNotFound) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return x.Descriptor.Digest.String()
}

// TestBlackholedNode cuts the network of one of two nodes: whatever is sent vanishes, no connection is refused or reset. The other one takes over.
func TestBlackholedNode(t *testing.T) {
	t.Parallel() // it mostly waits
	sb := sandbox.Start(t)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", slowDockerfile)
	other := sb.NewNode(t, sandbox.NodeOptions{Apart: true, Platforms: armNode.Platforms})
	nodes := fleetOf(t, map[string]string{"amd": sb.Node.Addr, "arm": other.TCP}, "amd", "arm")
	r := reproducible(dir, sb.Ref("app:1"), parseTargets(t, "linux/amd64,linux/arm64"))
	r.NoCache = true
	r.Progress = once("arm [linux/arm64 2/2] RUN", func() {
		if err := other.Blackhole(t.Context()); err != nil {
			t.Error(err)
		}
	})
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
	for _, target := range result.Targets {
		if target.Target.String() == "linux/arm64" && (len(target.Attempts) != 2 || !strings.Contains(target.Attempts[0].Error, "has not answered for 30s")) {
			t.Errorf("%+v", target.Attempts)
		}
	}
}

// TestFullNode has a node whose disk is too small (TRUST, row 18): another one takes over; if it is the only one, the error says so.
func TestFullNode(t *testing.T) {
	sb := sandbox.Start(t)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", "FROM busybox:1.35\nRUN dd if=/dev/zero of=/large bs=1M count=200 && rm /large && echo made > /made\n")
	small := sb.NewNode(t, sandbox.NodeOptions{Space: 64, Platforms: armNode.Platforms})
	nodes := fleetOf(t, map[string]string{"amd": sb.Node.Addr, "small": small.Addr}, "amd", "small")
	targets := parseTargets(t, "linux/amd64,linux/arm64")
	begun := time.Now()
	result, err := builder.Builder{Nodes: nodes}.Build(t.Context(), reproducible(dir, sb.Ref("app:1"), targets))
	if err != nil {
		t.Fatal(err)
	}
	if where := nodesOf(result); where["linux/arm64"] != "amd" {
		t.Errorf("%v", where)
	}
	tag := digestOf(t, sb.Ref("app:1"))
	archive := filepath.Join(t.TempDir(), "out.tar")
	r := builder.Request{Context: dir, Targets: targets, Tags: []string{sb.Ref("app:1")}, Push: true, Outputs: []builder.Output{{Type: "oci", Dest: archive}}}
	_, err = builder.Builder{Nodes: nodes[1:]}.Build(t.Context(), r)
	if err == nil || !strings.Contains(strings.ToLower(err.Error()), "no space left") {
		t.Errorf("it says %v", err)
	}
	if now := digestOf(t, sb.Ref("app:1")); now != tag {
		t.Errorf("the tag was %s and is %s", tag, now)
	}
	if _, err := os.Stat(archive); err == nil {
		t.Error("half an archive is left")
	}
	if took := time.Since(begun); took > 60*time.Second {
		t.Errorf("it took %s", took)
	}
	t.Log(err)
}

// TestFullClient has no room for an archive where the command runs: it says so, and leaves none.
func TestFullClient(t *testing.T) {
	sb := sandbox.Start(t)
	dir, small := t.TempDir(), t.TempDir()
	write(t, dir, "Dockerfile", "FROM busybox:1.35\nRUN head -c 20000000 /dev/urandom > /large\n")
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(small, 0) })
	for name, nodes := range map[string][]string{"one": {sb.Node.Addr}, "two": {sb.Node.Addr, sb.NewNode(t, armNode).Addr}} {
		args := []string{"manifold", "build", "--progress=plain", "--platform", "linux/amd64,linux/arm64", "-o", "type=oci,dest=" + small + "/out.tar"}
		for i, addr := range nodes {
			args = append(args, "--builder", fmt.Sprintf("n%d=%s", i, addr))
		}
		out := mustFail(t, sb, append(args, dir)...)
		if !strings.Contains(out.Stderr, "no space left on device") || !strings.Contains(out.Stderr, small+"/out.tar") {
			t.Errorf("%s: %s", name, out.Stderr)
		}
		if left, err := os.ReadDir(small); err != nil || len(left) > 0 {
			t.Errorf("%s: %v is left, %v", name, left, err)
		}
	}
}

// TestLastNodeDiesWhilePushing loses one node while it builds, and the other while it pushes (TRUST, row 15).
func TestLastNodeDiesWhilePushing(t *testing.T) {
	sb := sandbox.Start(t)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", "FROM busybox:1.35\nRUN head -c 3000000 /dev/urandom > /large; sleep 2\n")
	ref := sb.Ref("app:1")
	targets := parseTargets(t, "linux/amd64,linux/arm64")
	both := []*sandbox.Node{sb.NewNode(t, sandbox.NodeOptions{}), sb.NewNode(t, armNode)}
	nodes := fleetOf(t, map[string]string{"amd": both[0].Addr, "arm": both[1].Addr}, "amd", "arm")
	if _, err := (builder.Builder{Nodes: nodes}).Build(t.Context(), reproducible(dir, ref, targets)); err != nil {
		t.Fatal(err)
	}
	tag := digestOf(t, ref)
	first, last := once("arm [linux/arm64 2/2] RUN", func() { _ = both[1].Signal(syscall.SIGKILL) }), once("pushing layers", func() { _ = both[0].Signal(syscall.SIGKILL) })
	r := reproducible(dir, ref, targets)
	r.NoCache = true
	r.Progress = func(s *client.SolveStatus) {
		first(s)
		last(s)
	}
	begun := time.Now()
	_, err := builder.Builder{Nodes: nodes}.Build(t.Context(), r)
	if err == nil || !strings.Contains(err.Error(), "the node amd was lost") || !strings.Contains(err.Error(), "linux/amd64") {
		t.Errorf("it says %v", err)
	}
	if took := time.Since(begun); took > 60*time.Second {
		t.Errorf("it took %s", took)
	}
	if now := digestOf(t, ref); now != tag {
		t.Errorf("the tag was %s and is %s", tag, now)
	}
}

// TestGarbage has a node's address taken by something that is no BuildKit, from the beginning and in the middle of a build.
func TestGarbage(t *testing.T) {
	sb := sandbox.Start(t)
	l := listen(t, "tcp", "127.0.0.1:0")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(strings.Repeat("SSH-2.0-OpenSSH_9.2\r\n", 1000)))
			_ = c.Close()
		}
	}()
	_, err := builder.DialNode(t.Context(), builder.NodeConfig{Name: "odd", Address: "tcp://" + l.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "odd") {
		t.Errorf("it says %v", err)
	}
	t.Log(err)

	// A proxy that passes bytes on, until it answers nonsense.
	dir := t.TempDir()
	write(t, dir, "Dockerfile", slowDockerfile)
	certs := sb.NewNode(t, armNode)
	var broken atomic.Bool
	socket := filepath.Join(t.TempDir(), "p.sock")
	proxy := listen(t, "unix", socket)
	go func() {
		for {
			in, err := proxy.Accept()
			if err != nil {
				return
			}
			go through(in, strings.TrimPrefix(certs.Addr, "unix://"), &broken)
		}
	}()
	nodes := fleetOf(t, map[string]string{"amd": sb.Node.Addr, "arm": "unix://" + socket}, "amd", "arm")
	r := reproducible(dir, sb.Ref("app:1"), parseTargets(t, "linux/amd64,linux/arm64"))
	r.NoCache = true
	r.Progress = once("arm [linux/arm64 2/2] RUN", func() { broken.Store(true) })
	result, err := builder.Builder{Nodes: nodes}.Build(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if where := nodesOf(result); where["linux/arm64"] != "amd" {
		t.Errorf("%v: %+v", where, result.Targets)
	}
}

// through passes a connection on to a socket; once it is broken, what comes back is noise.
func through(in net.Conn, socket string, broken *atomic.Bool) {
	defer func() { _ = in.Close() }()
	out, err := (&net.Dialer{}).DialContext(context.Background(), "unix", socket)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	pass := func(to, from net.Conn, spoil bool) {
		b := make([]byte, 32<<10)
		for {
			n, err := from.Read(b)
			if n > 0 {
				if spoil && broken.Load() {
					for i := range n {
						b[i] ^= byte(i*7 + 1)
					}
				}
				if _, err := to.Write(b[:n]); err != nil {
					return
				}
			}
			if err != nil {
				_ = to.Close()
				return
			}
		}
	}
	go pass(out, in, false)
	pass(in, out, true)
}

// TestStoppedFleet sends the command SIGINT and SIGTERM while two nodes build: no build is left on either, no file here, and the exit code is 130.
func TestStoppedFleet(t *testing.T) {
	sb := sandbox.Start(t)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", strings.ReplaceAll(slowDockerfile, "1 2 3", "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 1 2 3"))
	other := sb.NewNode(t, armNode)
	nodes := fleetOf(t, map[string]string{"amd": sb.Node.Addr, "arm": other.Addr}, "amd", "arm")
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		tmp := t.TempDir()
		cmd, stderr := fleetCommand(t, sb, tmp, []string{sb.Node.Addr, other.Addr}, "--no-cache", "-o", "type=oci,dest="+filepath.Join(tmp, "out.tar"), dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			eventually(t, func() string {
				if status, err := n.Status(t.Context()); err != nil || status.Running == 0 {
					return fmt.Sprintf("nothing runs on %s: %v", n.Name, err)
				}
				return ""
			})
		}
		time.Sleep(time.Second)
		begun := time.Now()
		_ = cmd.Process.Signal(signal)
		err := cmd.Wait()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 130 {
			t.Errorf("%s: %v\n%s", signal, err, stderr)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("%s: it took %s", signal, took)
		}
		for _, n := range nodes {
			eventually(t, func() string {
				if status, err := n.Status(t.Context()); err != nil || status.Running > 0 {
					return fmt.Sprintf("%s: %s runs %d builds, %v", signal, n.Name, status.Running, err)
				}
				return ""
			})
		}
		if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
			t.Errorf("%s: %v is left, %v", signal, left, err)
		}
	}
}

// fleetCommand is a build on several nodes by the command, with a folder of its own for temporary files.
func fleetCommand(t *testing.T, sb *sandbox.Sandbox, tmp string, addrs []string, args ...string) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	env, err := sb.Env(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	path := strings.TrimSpace(mustExec(t, sb, "sh", "-c", "command -v manifold").Stdout)
	all := []string{"build", "--progress=plain", "--platform", "linux/amd64,linux/arm64"}
	for i, addr := range addrs {
		all = append(all, "--builder", fmt.Sprintf("n%d=%s", i, addr))
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), path, append(all, args...)...)
	cmd.Env = append(append(os.Environ(), env...), "TMPDIR="+tmp)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	return cmd, &stderr
}

// TestKilledAtEachRequest kills the command at every request that a build on two nodes makes of the registry, its own and the nodes' (TRUST, row 14): the
// tag is the old index or the new one, whole, and running it again makes it the new one.
func TestKilledAtEachRequest(t *testing.T) {
	sb := sandbox.Start(t)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", "FROM busybox:1.35\nARG V\nRUN echo $V > /version\n")
	other := sb.NewNode(t, armNode)
	var requests, killAt atomic.Int64
	kill := make(chan struct{}, 1)
	l := listen(t, "tcp", "127.0.0.1:0")
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(&url.URL{Scheme: "http", Host: sb.Registry.Addr})
		p.Out.Host = p.In.Host
	}}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := requests.Add(1); n == killAt.Load() {
			kill <- struct{}{}
			time.Sleep(20 * time.Millisecond)
		}
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	ref := strings.Replace(sb.Ref("app:1"), sb.Registry.Addr, l.Addr().String(), 1)
	build := func(version string) (*exec.Cmd, *strings.Builder) {
		return fleetCommand(t, sb, t.TempDir(), []string{sb.Node.Addr, other.Addr}, "--build-arg", "V="+version, "--build-arg", "SOURCE_DATE_EPOCH=1700000000",
			"-t", ref, "--push", dir)
	}
	finish := func(version string) string {
		cmd, stderr := build(version)
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, stderr)
		}
		return digestOf(t, sb.Ref("app:1"))
	}
	finish("first")
	requests.Store(0)
	finish("warm") // as many requests as each round has
	all := requests.Load()
	step := int64(1)
	if os.Getenv("MANIFOLD_DIFFERENTIAL") != "all" {
		step = max(1, all/12)
	}
	old := digestOf(t, sb.Ref("app:1"))
	for at := all; at > 0; at -= step {
		version := fmt.Sprint("v", at)
		requests.Store(0)
		killAt.Store(at)
		cmd, _ := build(version)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			_ = cmd.Wait() // killed, in most rounds
			close(done)
		}()
		select {
		case <-kill:
			_ = cmd.Process.Kill()
			<-done
		case <-done:
		}
		killAt.Store(0)
		time.Sleep(200 * time.Millisecond) // what is on its way arrives
		now := digestOf(t, sb.Ref("app:1"))
		x, err := index.NewClient(index.ClientOptions{}).Pull(t.Context(), sb.Ref("app:1"))
		if err != nil || len(x.Images) != 2 {
			t.Fatalf("killed at request %d of %d: %d images, %v", at, all, len(x.Images), err)
		}
		fresh := finish(version)
		if now != old && now != fresh {
			t.Errorf("killed at request %d of %d: the tag was %s, neither %s nor %s", at, all, now, old, fresh)
		}
		old = fresh
	}
	t.Logf("%d requests, every %d-th", all, step)
}
