package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/distribution/reference"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/builder"
	"github.com/manifold-build/manifold/integration/sandbox"
	"github.com/manifold-build/manifold/platforms"
)

// arm64ELF is the header of a program.
var arm64ELF = "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00\xb7\x00" + strings.Repeat("\x00", 44)

// copiers put files onto a base image in ways that are told from the definition, and in ways that are not.
var copiers = map[string]string{
	"file":        "COPY --chmod=755 tool /usr/local/bin/tool\n",
	"directory":   "COPY tree /opt/\n",
	"linked":      "COPY --chmod=755 tool /sbin/../linked/tool\n",
	"overwritten": "COPY Dockerfile /bin/busybox\n",
	"under":       "WORKDIR /opt\nCOPY tree ./\nCOPY --chmod=755 tool sub/tool\n",
	"led away":    "COPY links /opt/\nCOPY --chmod=755 tool /opt/away/tool\n",
	"parallel":    "COPY --link --chmod=755 tool /opt/tool\n",
	"archive":     "ADD tree.tar /opt/\n",
	"command":     "COPY --chmod=755 tool /opt/tool\nRUN cp /opt/tool /usr/bin/other && rm /bin/wget\n",
	"heredoc":     "COPY --chmod=755 <<EOF /opt/script\n#!/bin/missing\nEOF\n",
	"none":        "LABEL nothing=copied\n",
	"everything":  "COPY . /\n",
	"wildcard":    "COPY --chmod=755 t?ol nothing* /opt/\n",
	"build stage": "COPY --from=busybox:1.35 /bin/busybox /bin/other\n",
}

// TestRememberedBases builds with a base image that is remembered, and with one that is read: the gate finds the same.
func TestRememberedBases(t *testing.T) {
	sb := sandbox.Start(t)
	node := dial(t, sb.Node.Addr)
	dir, cache := t.TempDir(), filepath.Join(t.TempDir(), "bases")
	for _, sub := range []string{"tree/sub", "links"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir, "tool", "#!/bin/sh\n")
	write(t, dir, "tree/sub/lib.so", "\x7fELF")
	if err := os.Symlink("/srv", filepath.Join(dir, "links", "away")); err != nil {
		t.Fatal(err)
	}
	mustExec(t, sb, "tar", "-C", filepath.Join(dir, "tree"), "-cf", filepath.Join(dir, "tree.tar"), ".")
	// A base with a link among its directories.
	write(t, dir, "Dockerfile", "FROM busybox:1.35\nRUN mkdir -p /srv/linked && ln -s srv/linked /linked\n")
	mustExec(t, sb, "manifold", "build", "--progress=plain", "-t", sb.Ref("linked-base"), "--push", dir)

	build := func(name, cache string) builder.Result {
		t.Helper()
		result, err := builder.Builder{Nodes: []*builder.Node{node}, CacheDir: cache}.Build(t.Context(), builder.Request{
			Context: dir, Targets: []platforms.Platform{{OS: "linux", Architecture: "amd64"}}, Gate: builder.Gate{Verify: "warn"},
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return result
	}
	for _, base := range []string{sb.Ref("linked-base"), "scratch"} {
		for name, text := range copiers {
			if base == "scratch" && name == "command" {
				continue
			}
			write(t, dir, "Dockerfile", "FROM "+base+"\n"+text)
			want := build(name, "")
			for range 2 { // the first may have to read the base
				if diff := cmp.Diff(want.Gate[0].Report, build(name, cache).Gate[0].Report); diff != "" {
					t.Errorf("%s on %s: (-read +remembered)\n%s", name, base, diff)
				}
			}
		}
	}
	list, err := os.ReadDir(cache)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d bases are remembered, %v", len(list), err)
	}
	// It is remembered indeed, and not read again.
	write(t, cache, list[0].Name(), digest.FromString("[]").Encoded()+"[]")
	write(t, dir, "Dockerfile", "FROM "+sb.Ref("linked-base")+"\n"+copiers["file"])
	if found := build("file", cache).Gate[0].Report; found.Fitting > 0 {
		t.Errorf("%d programs are found in an empty base", found.Fitting)
	}
	write(t, dir, "Dockerfile", "FROM "+sb.Ref("linked-base")+"\n"+copiers["command"])
	if found := build("command", cache).Gate[0].Report; found.Fitting == 0 {
		t.Error("what a command left is not read")
	}
}

// TestManyFolders reads an image of very many folders in one step on the node, which is cached, and finds what is found through the gateway.
func TestManyFolders(t *testing.T) {
	sb := sandbox.Start(t)
	node := dial(t, sb.Node.Addr)
	dir := t.TempDir()
	program := strings.TrimSpace(mustExec(t, sb, "sh", "-c", "command -v manifold").Stdout)
	write(t, dir, "foreign", arm64ELF)
	const (
		many = "FROM busybox:1.35\nRUN for i in $(seq 300); do mkdir -p /opt/$i/bin; touch /opt/$i/bin/text; done\nCOPY --chmod=755 foreign /opt/200/bin/\n"
		step = "[linux/amd64] verify"
	)
	build := func(program, text string) (builder.Result, map[string]bool) {
		t.Helper()
		write(t, dir, "Dockerfile", text)
		cached := map[string]bool{}
		result, err := builder.Builder{Nodes: []*builder.Node{node}, Program: program}.Build(t.Context(), builder.Request{
			Context: dir, Targets: []platforms.Platform{{OS: "linux", Architecture: "amd64"}}, Gate: builder.Gate{Verify: "warn"},
			Progress: func(s *client.SolveStatus) {
				for _, v := range s.Vertexes {
					if v.Completed != nil {
						cached[v.Name] = v.Cached
					}
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return result, cached
	}
	want, steps := build("", many)
	if _, ok := steps[step]; ok || len(want.Gate[0].Report.Warnings) != 1 {
		t.Fatalf("without a program: a step %t, %+v", ok, want.Gate[0].Report)
	}
	for again := range 2 {
		got, steps := build(program, many)
		if cached, ok := steps[step]; !ok || cached != (again == 1) {
			t.Errorf("build %d: a step %t, cached %t", again, ok, cached)
		}
		if diff := cmp.Diff(want.Gate[0].Report, got.Gate[0].Report); diff != "" {
			t.Errorf("(-gateway +program)\n%s", diff)
		}
	}
	_, steps = build(program, "FROM busybox:1.35\nRUN touch /x\n")
	if _, ok := steps[step]; ok || len(steps) == 0 {
		t.Errorf("few folders take a step: %v", steps)
	}
	// A program that cannot run there: BuildKit's own reading does.
	script := t.TempDir()
	write(t, script, "program", "#!/bin/sh\n")
	for _, bad := range []string{filepath.Join(script, "program"), filepath.Join(script, "missing")} {
		got, steps := build(bad, many)
		if _, ok := steps[step]; ok {
			t.Errorf("%s is run", bad)
		}
		if diff := cmp.Diff(want.Gate[0].Report, got.Gate[0].Report); diff != "" {
			t.Errorf("%s (-want +got)\n%s", bad, diff)
		}
	}
}

// TestRunAnew makes another image of the same steps, which --no-cache runs anew: the gate looks at that image, and at no report of the one before.
func TestRunAnew(t *testing.T) {
	sb := sandbox.Start(t)
	frontendRef, err := sb.Frontend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir, "foreign", arm64ELF)
	var foreign atomic.Bool // what the steps do not tell
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, foreign.Load()) }))
	defer server.Close()
	// WORKDIR does not ignore the cache: BuildKit finds it by the step's definition.
	text := `FROM busybox:1.35
RUN for i in $(seq 100); do mkdir -p /opt/$i; touch /opt/$i/text; done
COPY foreign /srv/foreign
RUN [ $(wget -qO- ` + server.URL + `/NAME) = false ] || { mkdir -p /usr/local/bin; cp /srv/foreign /usr/local/bin/tool; chmod 755 /usr/local/bin/tool; }
WORKDIR /opt
`
	for name, args := range map[string][]string{
		"process": {"manifold", "build", "--progress=plain", dir},
		"image": {
			"buildctl", "build", "--progress=plain", "--frontend", "gateway.v0", "--opt", "source=" + frontendRef,
			"--local", "context=" + dir, "--local", "dockerfile=" + dir,
		},
	} {
		write(t, dir, "Dockerfile", strings.ReplaceAll(text, "NAME", name))
		foreign.Store(false)
		mustExec(t, sb, args...)
		foreign.Store(true)
		mustExec(t, sb, args...) // the report is found again
		if out := mustFail(t, sb, append(args, "--no-cache")...); !strings.Contains(out.Stderr, "/usr/local/bin/tool is for arm64") {
			t.Errorf("%s: the foreign program is not named:\n%s", name, out.Stderr)
		}
	}
}

// TestMovingBase moves a base image's tag each time that somebody asks for it: all targets are built from the same image nevertheless.
func TestMovingBase(t *testing.T) {
	sb := sandbox.Start(t)
	const targets = "linux/amd64,linux/arm64,linux/s390x,linux/ppc64le"
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		write(t, dir, "which", name)
		write(t, dir, "Dockerfile", "FROM scratch\nCOPY which /which\n")
		mustExec(t, sb, "manifold", "build", "-q", "--platform", targets, "--push", "-t", sb.Ref("base:"+name), dir)
	}
	base, err := reference.ParseNormalizedNamed(sb.Ref("base"))
	if err != nil {
		t.Fatal(err)
	}
	moving := "/v2/" + reference.Path(base) + "/manifests/moving"
	retag := func(to string) {
		mustExec(t, sb, "crane", "--insecure", "tag", sb.Ref("base:"+to), "moving")
	}
	retag("a")
	var mu sync.Mutex
	asked := 0
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: sb.Registry.Addr})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == moving {
			mu.Lock()
			defer mu.Unlock()
			defer retag([]string{"b", "a"}[asked%2])
			asked++
		}
		proxy.ServeHTTP(w, r)
	}))
	defer server.Close()

	front := strings.TrimPrefix(server.URL, "http://") + "/" + reference.Path(base) + ":moving"
	write(t, dir, "Dockerfile", "FROM "+front+"\nCOPY Dockerfile /\n")
	mustExec(t, sb, "manifold", "build", "--progress=plain", "--platform", targets, "--push", "-t", sb.Ref("app:1"), dir)
	layers := map[string]bool{}
	for p := range strings.SplitSeq(targets, ",") {
		var m ocispec.Manifest
		out := mustExec(t, sb, "crane", "--insecure", "manifest", "--platform", p, sb.Ref("app:1"))
		if err := json.Unmarshal([]byte(out.Stdout), &m); err != nil || len(m.Layers) != 2 {
			t.Fatalf("%s: %v\n%s", p, err, out.Stdout)
		}
		layers[m.Layers[0].Digest.String()] = true
	}
	if len(layers) != 1 || asked < 2 {
		t.Errorf("built from %d images, and the registry was asked %d times", len(layers), asked)
	}
}
