package integration

import (
	"os/exec"
	"strings"
	"testing"
)

// TestImportArrows holds the direction of imports: what a package may not depend on, directly or through others.
func TestImportArrows(t *testing.T) {
	const module = "github.com/manifold-build/manifold/"
	const buildkit = "github.com/moby/buildkit/client"
	for pkg, forbidden := range map[string][]string{
		"platforms":                  {module, "github.com/moby/buildkit"},
		"verify":                     {module + "index", module + "frontend", module + "builder", module + "cmd", "github.com/moby/buildkit"},
		"frontend/dockerfile/script": {module, "github.com/moby/buildkit"},
		"frontend/dockerfile":        {module + "index", module + "builder", module + "cmd", buildkit},
		"frontend":                   {module + "index", module + "builder", module + "cmd"},
		"internal/accel":             {module, "github.com/", "golang.org/"},
		"index":                      {module + "frontend", module + "builder", module + "cmd", "github.com/moby/buildkit"},
		"builder":                    {module + "cmd"},
		"cmd/manifold":               {module + "integration", module + "examples"},
		"cmd/manifold-frontend":      {module + "index", module + "builder", module + "integration"},
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", module+pkg).Output()
		if err != nil {
			t.Fatalf("%s: %v", pkg, err)
		}
		for dep := range strings.FieldsSeq(string(out)) {
			if dep == module+"internal/nearest" {
				continue // it imports nothing
			}
			if pkg == "verify" && dep == module+"frontend/dockerfile/script" {
				continue // the reader of shell scripts, which imports nothing of ours
			}
			for _, f := range forbidden {
				if strings.HasPrefix(dep, f) && dep != module+pkg {
					t.Errorf("%s depends on %s", pkg, dep)
				}
			}
		}
	}
}
