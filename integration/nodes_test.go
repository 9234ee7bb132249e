//go:build nightly

package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// TestSameBytesOnEveryNode builds two targets on a node of amd64 and on one that says it is of arm64: what is native on one is moved on the
// other, and the programs have the same bytes. The image holds a C compiler, and the program one that Go builds with C where it may.
//
// Go's library is compiled under emulation for it, which takes minutes: it is one of the nightly tests.
func TestSameBytesOnEveryNode(t *testing.T) {
	sb := sandbox.Start(t)
	dir := t.TempDir()
	write(t, dir, "Dockerfile", "FROM golang:1.26-trixie AS build\nWORKDIR /src\nCOPY . .\nRUN go build -o /out/app .\nFROM scratch\nCOPY --from=build /out/app /app\n")
	write(t, dir, "go.mod", "module example.com/app\n\ngo 1.26\n")
	write(t, dir, "main.go", "package main\n\nimport \"os/user\"\n\nfunc main() {\n\tu, err := user.Current()\n\tprintln(u.Username, err == nil)\n}\n")
	here := programs(t, sb, sb.Node.Addr, dir)
	there := programs(t, sb, sb.NewNode(t, sandbox.NodeOptions{Platforms: []string{"linux/arm64", "linux/amd64"}}).Addr, dir)
	if diff := cmp.Diff(here, there); diff != "" {
		t.Errorf("(-amd64 +arm64)\n%s", diff)
	}
}

// programs builds both targets on a node and returns the digest of each program.
func programs(t *testing.T, sb *sandbox.Sandbox, addr, dir string) map[string]string {
	t.Helper()
	dest := t.TempDir()
	res, err := sb.Exec(t.Context(), dir, "manifold", "build", "--progress=plain", "--builder", addr, "--platform", "linux/amd64,linux/arm64", "-o", "type=local,dest="+dest, ".")
	if err != nil {
		t.Fatal(err)
	}
	if res.Code != 0 {
		t.Fatalf("exit code %d\n%s", res.Code, res.Stderr)
	}
	out := map[string]string{}
	for _, p := range []string{"linux_amd64", "linux_arm64"} {
		dt, err := os.ReadFile(filepath.Join(dest, p, "app"))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(dt)
		out[p] = hex.EncodeToString(sum[:])
	}
	return out
}
