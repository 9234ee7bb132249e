package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// TestDocs compares the reference in docs/cli.md and the man pages with what the commands say; make docs writes them.
func TestDocs(t *testing.T) {
	helpWidth = func() int { return usualWidth }
	files := map[string]string{"docs/cli.md": commandReference()}
	root := rootCommand(streams{&bytes.Buffer{}, &bytes.Buffer{}})
	root.DisableAutoGenTag = true
	dir := t.TempDir()
	date := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC) // of the format, not of today
	if err := doc.GenManTree(root, &doc.GenManHeader{Title: "MANIFOLD", Section: "1", Source: "Manifold", Date: &date}, dir); err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		dt, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(page, "completion") {
			files["docs/man/"+filepath.Base(page)] = string(dt)
		}
	}
	for name, want := range files {
		at := filepath.Join("..", "..", name)
		if os.Getenv("UPDATE") == "1" {
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		dt, err := os.ReadFile(at)
		if diff := cmp.Diff(want, string(dt)); err != nil || diff != "" {
			t.Errorf("%s is not current, run make docs: %v\n%s", name, err, diff)
		}
	}
}

// commandReference is the text of docs/cli.md.
func commandReference() string {
	var out strings.Builder
	out.WriteString("# Commands\n\nThis file is written by `make docs`. `manifold COMMAND --help` prints the same.\n\n" +
		"## Exit codes\n\n| code | meaning |\n|---|---|\n")
	for _, row := range []struct {
		code int
		text string
	}{
		{0, "done"},
		{exitFailed, "a build step failed, or anything that has no code of its own"},
		{exitUsage, "the command line is wrong; nobody was asked for anything"},
		{exitRefused, "the gate refuses an image"},
		{exitTest, "a test in an image failed"},
		{exitUnreachable, "there is no node, or the last one that could build a target was lost"},
		{exitRegistry, "a registry refuses, or does not answer"},
		{exitInterrupted, "interrupted"},
	} {
		fmt.Fprintf(&out, "| %d | %s |\n", row.code, row.text)
	}
	out.WriteString("\nOf several errors, the first that has a code of its own decides, in the order of the targets.\n")
	var write func(*cobra.Command)
	write = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			return
		}
		if c.Runnable() && c.HasParent() {
			c.InitDefaultHelpFlag()
			long := c.Long
			if long == "" {
				long = c.Short
			}
			fmt.Fprintf(&out, "\n## %s\n\n%s\n\n```text\n%s```\n", c.CommandPath(), long, c.UsageString())
		}
		for _, sub := range c.Commands() {
			write(sub)
		}
	}
	write(rootCommand(streams{&bytes.Buffer{}, &bytes.Buffer{}}))
	return out.String()
}
