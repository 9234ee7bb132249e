package dockerfile_test

import (
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

// minGoMoved is the share of Go files not crossed by hand that has to be moved.
const minGoMoved = 0.6

// TestCoverage plans Dockerfiles shaped after what real ones do, in their proportions: what can be moved is moved, nothing else is. A
// file counts as moved if no builder stage that runs something is emulated.
func TestCoverage(t *testing.T) {
	for _, name := range []string{"go", "node", "java"} {
		archive, err := txtar.ParseFile(filepath.Join("testdata", "coverage", name+".txtar"))
		if err != nil {
			t.Fatal(err)
		}
		requests := map[string]string{}
		moved, all := 0, 0
		for _, f := range archive.Files {
			title := path.Dir(f.Name)
			if path.Base(f.Name) == "request" {
				requests[title] = string(f.Data)
				continue
			}
			c := readCase(t, &txtar.Archive{Comment: []byte("targets: linux/arm64\n" + requests[title]), Files: []txtar.File{f}})
			file, err := dockerfile.Parse("Dockerfile", c.src)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := c.answered(file)
			if err != nil {
				t.Fatal(err)
			}
			class, _, _ := strings.Cut(title, "-")
			want := class == "plain" || class == "static" || class == "make" || class == "runs"
			got, why := wasMoved(plan)
			if got != want {
				t.Errorf("%s/%s: moved %v, want %v: %s", name, title, got, want, why)
			}
			all++
			if got {
				moved++
			}
		}
		t.Logf("%s: %d of %d moved", name, moved, all)
		if name == "go" && float64(moved) < minGoMoved*float64(all) {
			t.Errorf("%d of %d Go files are moved, want %.0f %%", moved, all, 100*minGoMoved)
		}
	}
}

// wasMoved reports whether every builder stage that runs something is moved with no question open, or else which is not, and why.
func wasMoved(plan dockerfile.Plan) (bool, string) {
	for i, s := range plan.Steps {
		if i == len(plan.Steps)-1 || !s.Executes {
			continue
		}
		if s.Strategy == platforms.Emulate || len(s.Probes) > 0 {
			return false, s.Reason
		}
	}
	return true, ""
}

// TestHostile plans Dockerfiles that were made to be moved wrongly: in none of testdata/hostile.txtar may the stage that builds be.
func TestHostile(t *testing.T) {
	archive, err := txtar.ParseFile(filepath.Join("testdata", "hostile.txtar"))
	if err != nil || len(archive.Files) < 200 {
		t.Fatal(len(archive.Files), "cases", err)
	}
cases:
	for _, f := range archive.Files {
		c := readCase(t, &txtar.Archive{Comment: []byte("targets: linux/arm64\n"), Files: []txtar.File{{Name: "Dockerfile", Data: f.Data}}})
		file, err := dockerfile.Parse("Dockerfile", c.src)
		if err != nil {
			t.Fatal(f.Name, err)
		}
		plan, err := c.answered(file)
		if err != nil {
			t.Fatal(f.Name, err)
		}
		for i, s := range plan.Steps {
			if i < len(plan.Steps)-1 && s.Executes && s.Strategy == platforms.Emulate {
				continue cases
			}
		}
		t.Errorf("%s: no stage stays", f.Name)
	}
}
