package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// maxREADME is how many lines a README may have that is read in a minute.
const maxREADME = 130

// TestREADME fails if README is too long, or a command, an option or a part of the documentation is missing: what is not documented does not exist.
func TestREADME(t *testing.T) {
	t.Parallel()
	dt, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(dt), "\n"); n > maxREADME {
		t.Errorf("README has %d lines", n)
	}
	for file, want := range map[string][]string{
		"README.md": {
			"## Install", "## Quickstart: with Docker", "## Quickstart: in GitHub Actions", "## Quickstart: with BuildKit alone", "## Figures", "$ manifold build", "$ manifold plan",
			"$ manifold verify", "make demo",
		},
		"docs/moving.md":     {"## What is moved, and why it is safe", "## What stays compiles natively all the same", "## Saying it yourself"},
		"docs/options.md":    {"| strategy | ", "| cache-mounts | ", "| verify | ", "| verify-except | ", "| test | ", "| platforms | ", "| filename, target, build-arg:NAME | "},
		"docs/publishing.md": {"| limit | |"},
		"docs/gate.md":       {"$ manifold verify"},
		"docs/nodes.md":      {"$ manifold nodes", "13-kubernetes"},
		"docs/indexes.md": {
			"$ manifold create", "$ manifold resolve", "$ manifold doctor", "$ manifold inspect", "`manifold copy`", "| `docker manifest create N A B`", "| `manifest-tool push from-spec f.yaml`",
			"| `docker buildx imagetools create -t N A B`",
		},
		"docs/cli.md":        {"## Exit codes", "## manifold bake", "## manifold build"},
		"docs/benchmarks.md": {"make bench", "not met"},
		"docs/design.md":     {"# Design notes"},
		"CONTRIBUTING.md":    {"make test"},
	} {
		dt, err := os.ReadFile(filepath.Join("..", file))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, part := range want {
			if !strings.Contains(string(dt), part) {
				t.Errorf("%s does not show %q", file, part)
			}
		}
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
}

// TestLinks fails if a page of the documentation names a file or a heading that is not there.
func TestLinks(t *testing.T) {
	t.Parallel()
	var pages []string
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../examples/*/*.md"} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, more...)
	}
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, page := range pages {
		dt, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(dt), -1) {
			to, heading, _ := strings.Cut(m[1], "#")
			if strings.Contains(to, "://") {
				continue
			}
			file := page
			if to != "" {
				file = filepath.Join(filepath.Dir(page), to)
			}
			info, err := os.Stat(file)
			if err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
				continue
			}
			if heading != "" && !info.IsDir() && !hasHeading(t, file, heading) {
				t.Errorf("%s links to %s, and there is no such heading", page, m[1])
			}
		}
	}
}

// hasHeading reports whether a page has a heading, as it is spelled in links.
func hasHeading(t *testing.T, file, want string) bool {
	t.Helper()
	dt, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	drop := regexp.MustCompile(`[^a-z0-9 -]`)
	for line := range strings.Lines(string(dt)) {
		title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		if ok && strings.HasPrefix(line, "#") && strings.ReplaceAll(drop.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), ""), " ", "-") == want {
			return true
		}
	}
	return false
}
