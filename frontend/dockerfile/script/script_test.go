package script_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/manifold-build/manifold/frontend/dockerfile/script"
)

var update = flag.Bool("update", false, "write what was read into testdata")

// TestRead reads each file NAME.sh of testdata/read.txtar and compares with NAME.read: a line for each command with
// its flags, directory, words, files, and the value of V in its environment where it has one.
func TestRead(t *testing.T) {
	const name = "testdata/read.txtar"
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	got := &txtar.Archive{Comment: archive.Comment}
	for _, f := range archive.Files {
		if filepath.Ext(f.Name) == ".sh" {
			got.Files = append(got.Files, f, txtar.File{Name: strings.TrimSuffix(f.Name, ".sh") + ".read", Data: []byte(read(string(f.Data)))})
		}
	}
	if *update {
		if err := os.WriteFile(name, txtar.Format(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(txtar.Format(archive)), string(txtar.Format(got))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func read(text string) string {
	s, err := script.Parse(text)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	r := s.Read(script.Options{Vars: map[string]string{"ARCH": "arm64", "EMPTY": ""}, Dir: "/src"})
	var b bytes.Buffer
	for _, c := range r.Commands {
		var flags strings.Builder
		for _, f := range []struct {
			on   bool
			flag string
		}{{c.Chain, "chain "}, {!c.Certain, "perhaps "}, {c.Substituted, "substituted "}, {c.Piped, "piped "}, {c.Through != "", "through " + c.Through + " "}} {
			if f.on {
				flags.WriteString(f.flag)
			}
		}
		fmt.Fprintf(&b, "%s%s$ %q", flags.String(), c.Dir, c.Words)
		if v, ok := c.Getenv("V"); ok {
			fmt.Fprintf(&b, " V=%q", v)
		}
		if len(c.Reads)+len(c.Writes) > 0 {
			fmt.Fprintf(&b, " < %q > %q", c.Reads, c.Writes)
		}
		b.WriteByte('\n')
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "problem at %d: %s\n", p.Offset, p.What)
	}
	if r.Traps {
		b.WriteString("traps\n")
	}
	return strings.ReplaceAll(b.String(), `\ufdd0`, "?")
}

// FuzzRead holds every script to end without a panic, and its commands to lie inside it.
func FuzzRead(f *testing.F) {
	archive, err := txtar.ParseFile("testdata/read.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archive.Files {
		f.Add(string(file.Data))
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := script.Parse(text)
		if err != nil {
			return
		}
		for _, c := range s.Read(script.Options{Vars: map[string]string{"ARCH": "arm64"}, Dir: "/"}).Commands {
			if len(c.Words) == 0 || c.Offset > c.End || c.End > len(text) {
				t.Errorf("%d..%d of %d: %q", c.Offset, c.End, len(text), c.Words)
			}
		}
	})
}
