package integration

import (
	"os"
	"strings"
	"testing"
)

// TestREADME fails if a command, an option or a part of README is missing: what README does not show does not exist.
func TestREADME(t *testing.T) {
	t.Parallel()
	dt, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(dt)
	want := []string{
		"## Four ways in", "## What is moved, and why it is safe", "## Is it what it says?", "## Options", "## Publishing", "| limit | |", "## Figures",
		"$ manifold build", "$ manifold plan", "$ manifold nodes", "$ manifold inspect", "$ manifold verify",
		"$ manifold create", "$ manifold resolve", "$ manifold doctor", "`manifold copy`", "| `docker manifest create N A B`", "| `manifest-tool push from-spec f.yaml`",
		"| `docker buildx imagetools create -t N A B`", "## Indexes of images that are there already", "### Registries", "make demo", "make test",
		"| strategy | ", "| cache-mounts | ", "| verify | ", "| verify-except | ", "| test | ", "| platforms | ", "| filename, target, build-arg:NAME | ",
	}
	examples, err := os.ReadDir("../examples")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range examples {
		if _, err := os.Stat("../examples/" + e.Name() + "/README.md"); e.IsDir() && err != nil {
			t.Errorf("examples/%s has no README", e.Name())
		}
	}
	for _, part := range want {
		if !strings.Contains(readme, part) {
			t.Errorf("README does not show %q", part)
		}
	}
}
