package integration

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// leftOut are the flags of docker buildx build that manifold build does not have, with the reason. docs/buildx.md says the same.
var leftOut = map[string]string{
	"policy": "its rules are programs for Open Policy Agent, which only buildx holds",
}

// TestBuildxFlags compares the flags of the pinned buildx with ours, and both with the table in the documentation.
func TestBuildxFlags(t *testing.T) {
	sb := sandbox.Start(t)
	flag := regexp.MustCompile(`(?m)^\s+(?:-\w, )?--([a-z-]+)`)
	names := func(args ...string) []string {
		var out []string
		for _, m := range flag.FindAllStringSubmatch(mustExec(t, sb, args...).Stdout, -1) {
			out = append(out, m[1])
		}
		return out
	}
	theirs, ours := names("buildx", "build", "--help"), names("manifold", "build", "--help")
	if len(theirs) < 30 {
		t.Fatalf("buildx's flags are read wrongly: %v", theirs)
	}
	table, err := os.ReadFile("../docs/buildx.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.DeleteFunc(theirs, func(s string) bool { return s == "help" }) {
		if !strings.Contains(string(table), "| `--"+name+"` |") {
			t.Errorf("docs/buildx.md has no row for --%s", name)
		}
		_, without := leftOut[name]
		if slices.Contains(ours, name) == without {
			t.Errorf("--%s is ours: %t, and left out: %t", name, slices.Contains(ours, name), without)
		}
	}
	for _, name := range ours {
		if !strings.Contains(string(table), "`--"+name+"`") && !slices.Contains(theirs, name) && name != "help" {
			t.Errorf("docs/buildx.md does not say that --%s is Manifold's own", name)
		}
	}
}
