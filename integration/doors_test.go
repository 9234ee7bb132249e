package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manifold-build/manifold/builder"
	"github.com/manifold-build/manifold/frontend"
	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/integration/sandbox"
	"github.com/manifold-build/manifold/platforms"
)

// epoch makes the times in configs and history the build argument's, so that the doors can be compared byte by byte.
const epoch = "SOURCE_DATE_EPOCH=1700000000"

// TestFiveDoorsOneIndex builds one plain Dockerfile through buildctl with gateway.v0, through its syntax line with
// buildctl and with buildx, through the CLI and through the library: the same index every time.
func TestFiveDoorsOneIndex(t *testing.T) {
	sb := sandbox.Start(t)
	frontendRef, err := sb.Frontend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := example(t, "01-hello")
	withSyntax := example(t, "01-hello")
	prepend(t, filepath.Join(withSyntax, "Dockerfile"), "# syntax="+frontendRef+"\n")

	const list = "linux/amd64,linux/arm64"
	for _, args := range doors(sb, frontendRef, list, dir, withSyntax, "Dockerfile") {
		mustExec(t, sb, args...)
	}
	node := dial(t, sb.Node.Addr)
	targets, err := platforms.ParseList(list)
	if err != nil {
		t.Fatal(err)
	}
	name, value, _ := strings.Cut(epoch, "=")
	result, err := builder.Builder{Nodes: []*builder.Node{node}}.Build(t.Context(), builder.Request{
		Context: dir, Targets: targets, BuildArgs: map[string]string{name: value}, Tags: []string{sb.Ref("library")}, Push: true,
	})
	if err != nil {
		t.Fatal(err)
	}

	want := contents(t, sb.Ref("library"))
	if result.Descriptor.Digest.String() != want[0] {
		t.Errorf("the library says %s, the registry %s", result.Descriptor.Digest, want[0])
	}
	for _, door := range []string{"gateway", "syntax", "buildx", "cli"} {
		if diff := cmp.Diff(want, contents(t, sb.Ref(door))); diff != "" {
			t.Errorf("%s differs from the library (-library +%s)\n%s", door, door, diff)
		}
	}
	for _, p := range targets {
		out, err := sb.RunImage(t.Context(), sb.Ref("syntax"), p.String())
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("hello from %s/%s\n", p.OS, p.Architecture); out != want {
			t.Errorf("%s prints %q, want %q", p, out, want)
		}
	}
}

// doors are the commands that build a Dockerfile and push the index under the door's name. The file in withSyntax names the frontend.
func doors(sb *sandbox.Sandbox, frontendRef, list, dir, withSyntax, file string) map[string][]string {
	image := func(name string) string {
		return "type=image,push=true,oci-mediatypes=true,name=" + sb.Ref(name)
	}
	return map[string][]string{
		"gateway": {
			"buildctl", "build", "--progress=plain", "--frontend", "gateway.v0", "--opt", "source=" + frontendRef, "--opt", "platform=" + list,
			"--opt", "build-arg:" + epoch, "--opt", "filename=" + file, "--local", "context=" + dir, "--local", "dockerfile=" + dir,
			"--output", image("gateway"),
		},
		"syntax": {
			"buildctl", "build", "--progress=plain", "--frontend", "dockerfile.v0", "--opt", "platform=" + list, "--opt", "build-arg:" + epoch,
			"--opt", "filename=" + file, "--local", "context=" + withSyntax, "--local", "dockerfile=" + withSyntax, "--output", image("syntax"),
		},
		"buildx": {
			"sh", "-ec", `export BUILDX_CONFIG=$(mktemp -d); buildx create --name sandbox --driver remote "$BUILDKIT_HOST"
				exec buildx build --builder sandbox --progress=plain --provenance=false "$@"`, "sh",
			"--platform", list, "--build-arg", epoch, "--output", image("buildx"), "-f", filepath.Join(withSyntax, file), withSyntax,
		},
		"cli": {
			"manifold", "build", "--progress=plain", "--platform", list, "--build-arg", epoch, "-t", sb.Ref("cli"), "--push", "-f", filepath.Join(dir, file), dir,
		},
	}
}

// TestFiveDoorsRefuse puts amd64 into every image, through all the doors: nothing is published, and the tags stay where they are.
func TestFiveDoorsRefuse(t *testing.T) {
	sb := sandbox.Start(t)
	frontendRef, err := sb.Frontend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := example(t, "07-gate")
	withSyntax := example(t, "07-gate")
	const list, bad = "linux/amd64,linux/arm64", "Dockerfile.shadowed"
	prepend(t, filepath.Join(withSyntax, "Dockerfile"), "# syntax="+frontendRef+"\n")
	prepend(t, filepath.Join(withSyntax, bad), "# syntax="+frontendRef+"\n")
	targets, err := platforms.ParseList(list)
	if err != nil {
		t.Fatal(err)
	}
	b := builder.Builder{Nodes: []*builder.Node{dial(t, sb.Node.Addr)}}
	request := builder.Request{Context: dir, Targets: targets, Tags: []string{sb.Ref("library")}, Push: true}
	if _, err := b.Build(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	before := map[string]string{"library": contents(t, sb.Ref("library"))[0]}
	for door, args := range doors(sb, frontendRef, list, dir, withSyntax, "Dockerfile") {
		mustExec(t, sb, args...)
		before[door] = contents(t, sb.Ref(door))[0]
	}

	const want = "linux/arm64: stage build (Dockerfile.shadowed:%d): the image is refused: /usr/bin/app (entrypoint) is for amd64"
	for door, args := range doors(sb, frontendRef, list, dir, withSyntax, bad) {
		out, err := sb.Exec(t.Context(), "", args...)
		line := 5
		if door == "syntax" || door == "buildx" {
			line++ // the syntax line
		}
		switch {
		case err != nil:
			t.Fatal(err)
		case out.Code == 0:
			t.Errorf("%s: it is built", door)
		case !strings.Contains(out.Stderr, fmt.Sprintf(want, line)):
			t.Errorf("%s: it says\n%s", door, out.Stderr)
		}
	}
	request.Dockerfile = filepath.Join(dir, bad)
	_, err = b.Build(t.Context(), request)
	refused, ok := errors.AsType[*frontend.GateError](err)
	if !ok || refused.Report.Platform.String() != "linux/arm64" || len(refused.Hints) == 0 || refused.Hints[0].Line != 5 {
		t.Errorf("the library says %v", err)
	}
	for door, digest := range before {
		if now := contents(t, sb.Ref(door))[0]; now != digest {
			t.Errorf("%s: the tag has moved to %s", door, now)
		}
	}
}

// contents lists an index's digest and what it holds.
func contents(t *testing.T, ref string) []string {
	t.Helper()
	x, err := index.NewClient(index.ClientOptions{}).Pull(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{x.Descriptor.Digest.String()}
	for _, image := range x.Images {
		out = append(out, fmt.Sprintf("%s %s config %s", image.Platform, image.Descriptor.Digest, image.Config.Digest))
		for _, l := range image.Layers {
			out = append(out, "  "+l.Digest.String())
		}
	}
	return out
}

// example copies an example to a temporary folder.
func example(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "examples", name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func prepend(t *testing.T, file, text string) {
	t.Helper()
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append([]byte(text), old...), 0o600); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, address string) *builder.Node {
	t.Helper()
	node, err := builder.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	})
	return node
}

// mustExec runs a program in the bench's environment and returns what it printed; the test ends if it fails.
func mustExec(t *testing.T, sb *sandbox.Sandbox, args ...string) sandbox.Output {
	t.Helper()
	out, err := sb.Exec(t.Context(), "", args...)
	if err != nil {
		t.Fatal(err)
	}
	if out.Code != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", strings.Join(args, " "), out.Code, out.Stdout, out.Stderr)
	}
	return out
}
