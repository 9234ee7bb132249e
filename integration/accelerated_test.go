package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// A script compiles with Go, and what it compiled says on which machine it ran.
const (
	byScript   = "FROM golang:1.26-warm AS build\nWORKDIR /src\nCOPY . .\nRUN sh build.sh\nFROM scratch\nCOPY --from=build /out /\n"
	byCommand  = "FROM golang:1.26-warm AS build\nWORKDIR /src\nCOPY . .\nENV CGO_ENABLED=0\nRUN go build -o /out/app .\nFROM scratch\nCOPY --from=build /out /\n"
	scriptOfGo = "set -e\nexport CGO_ENABLED=0\ngo build -o /out/app .\n/out/app >/out/said 2>&1\nuname -m >>/out/said\n"
	saysWhere  = "package main\n\nimport \"runtime\"\n\nfunc main() { println(runtime.GOOS, runtime.GOARCH) }\n"
)

// TestAcceleratedOnAnotherNode compiles for amd64 on a node that says it is of arm64: the target is the foreign one there. The program is that which
// the other node makes natively.
func TestAcceleratedOnAnotherNode(t *testing.T) {
	sb := sandbox.Start(t)
	node := sb.NewNode(t, sandbox.NodeOptions{Platforms: []string{"linux/arm64", "linux/amd64"}})
	dir := t.TempDir() // a CLI whose program for nodes is arm64's
	succeeds(t, sb, "..", "sh", "-ec", "cp $(which manifold) $0; GOARCH=arm64 CGO_ENABLED=0 go build -o $0 ./cmd/manifold-accel", dir)
	got := files(t, sb, byScript, " accelerate (", filepath.Join(dir, "manifold"), "--platform", "linux/amd64", "--builder", node.Addr)
	want := files(t, sb, byScript, "", "manifold", "--platform", "linux/amd64")
	if !bytes.Equal(got["app"], want["app"]) || string(got["said"]) != "linux amd64\nx86_64\n" {
		t.Errorf("the program has %d bytes and says %q; natively %d bytes", len(got["app"]), got["said"], len(want["app"]))
	}
}

// files builds a program of Go's with a Dockerfile and returns the files of the result. The log has to hold what it says.
func files(t *testing.T, sb *sandbox.Sandbox, dockerfile, says string, cli string, more ...string) map[string][]byte {
	t.Helper()
	dir, dest := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"Dockerfile": dockerfile, "go.mod": "module example.com/app\n\ngo 1.19\n", "main.go": saysWhere, "build.sh": scriptOfGo} {
		write(t, dir, name, text)
	}
	args := append([]string{cli, "build", "--progress=plain", "-o", "type=local,dest=" + dest}, more...)
	if said := succeeds(t, sb, dir, append(args, ".")...); !strings.Contains(said, says) || strings.Contains(said, "is emulated") {
		t.Fatalf("not%s\n%s", says, said)
	}
	out := map[string][]byte{}
	for _, name := range []string{"app", "said"} {
		if dt, err := os.ReadFile(filepath.Join(dest, name)); err == nil {
			out[name] = dt
		}
	}
	return out
}

// succeeds runs a command and returns what it wrote to standard error.
func succeeds(t *testing.T, sb *sandbox.Sandbox, dir string, args ...string) string {
	t.Helper()
	res, err := sb.Exec(t.Context(), dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	if res.Code != 0 {
		t.Fatalf("%q: exit code %d\n%s", args, res.Code, res.Stderr)
	}
	return res.Stderr
}
