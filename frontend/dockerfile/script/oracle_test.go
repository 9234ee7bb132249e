package script_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/manifold-build/manifold/frontend/dockerfile/script/oracle"
)

// shells are the real ones that a reading is held against. Busybox is not on every machine; the test bench installs it.
func shells(t *testing.T) [][]string {
	t.Helper()
	out := [][]string{{"bash"}, {"dash"}}
	if _, err := exec.LookPath("busybox"); err == nil {
		return append(out, []string{"busybox", "sh"})
	}
	if os.Getenv("REQUIRE_DAEMON") == "1" {
		t.Fatal("no busybox: make test installs it")
	}
	return out
}

// outcomes are how the commands of a run end.
func outcomes(r *rand.Rand) []string {
	out := []string{"0", "1"}
	for range 2 {
		out = append(out, fmt.Sprintf("%012b", r.IntN(1<<12)))
	}
	return out
}

// compare runs a script in every shell that reads it and compares what was run with what is read.
func compare(t *testing.T, o *oracle.Oracle, text string, r *rand.Rand) {
	t.Helper()
	for _, shell := range shells(t) {
		if o.Reads(t.Context(), shell, text) {
			compareIn(t, o, shell, text, r)
		}
	}
}

// compareIn compares in one shell, until something differs.
func compareIn(t *testing.T, o *oracle.Oracle, shell []string, text string, r *rand.Rand) {
	t.Helper()
	for _, outcome := range outcomes(r) {
		res, err := o.Run(t.Context(), shell, text, outcome)
		if err != nil {
			t.Fatal(err)
		}
		if !res.Ended {
			continue
		}
		for _, bash := range []bool{false, true} {
			if bash && shell[0] != "bash" {
				continue
			}
			if problem := o.Compare(text, bash, res, outcome == "0"); problem != "" {
				t.Errorf("%s, outcomes %s, known to be bash: %v: %s\nscript:\n%s", shell[0], outcome, bash, problem, text)
				return
			}
		}
	}
}

// TestReadAgainstShells holds what is read of random scripts against what real shells run of them: each command that ran, with its words,
// its directory and its exported variables, has to be in the reading, or the reading has to say that it does not know. MANIFOLD_SCRIPTS is how many
// scripts are made, 150 if it is not set; MANIFOLD_SEED begins another series.
func TestReadAgainstShells(t *testing.T) {
	n, seed := 150, uint64(1)
	if testing.Short() {
		n = 10
	}
	if s := os.Getenv("MANIFOLD_SCRIPTS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	if s := os.Getenv("MANIFOLD_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	o, err := oracle.New(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		compare(t, o, oracle.Generate(r, i%3 == 0), r)
		if t.Failed() {
			t.Fatalf("script %d of seed %d", i, seed)
		}
	}
}

// TestRecordedAgainstShells does the same with the scripts that once were read wrongly.
func TestRecordedAgainstShells(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/shells.txtar")
	if err != nil {
		t.Fatal(err)
	}
	o, err := oracle.New(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.Files {
		t.Run(f.Name, func(t *testing.T) {
			compare(t, o, string(bytes.TrimSuffix(f.Data, []byte("\n"))), rand.New(rand.NewPCG(1, 1)))
		})
	}
}

// TestReadFilesAgainstShells does the same with scripts in files, which a script runs in the ways that there are: with parameters, from another folder, in
// its own shell, by another's name.
func TestReadFilesAgainstShells(t *testing.T) {
	n := 6
	if s := os.Getenv("MANIFOLD_SCRIPTS"); s != "" {
		all, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		n = max(n, all/100) //nolint:mnd // each is run in seven ways
	}
	o, err := oracle.New(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, shell := range shells(t) {
		program, err := exec.LookPath(shell[0])
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			r := rand.New(rand.NewPCG(2, uint64(i)))
			inner := oracle.Generate(r, false) + "\n" + `a "$1" "${2:-none}" "$@"; b $#; c "$V" "$W"` + "\n" + `[ "$1" = x ] && { shift; a "$@"; cd d1 2>/dev/null; b; }` + "\n"
			if !o.Reads(t.Context(), shell, inner) {
				continue
			}
			if err := o.Write("s.sh", "#!"+program+"\n"+inner); err != nil {
				t.Fatal(err)
			}
			ways := []string{`a 1; sh s.sh x "$ARCH" && b`, `W=2; V=1 ./s.sh`, `cd d1 && ../s.sh x 3; c`, `. ./s.sh; a "$V"`, `V=5; f() { ./s.sh "$@"; }; f x q; b`, `set -e; export W=7; env V=3 ./s.sh x; c`, `a $(./s.sh y) || b`}
			if shell[0] == "busybox" { // which needs a word behind its name
				ways = slices.DeleteFunc(ways, func(w string) bool { return !strings.HasPrefix(w, ".") && !strings.Contains(w, "sh s.sh") })
			}
			if strings.Contains(inner, "return") { // such a file is not read where it is sourced
				ways = slices.DeleteFunc(ways, func(w string) bool { return strings.HasPrefix(w, ". ") })
			}
			for _, outer := range ways {
				compareIn(t, o, shell, outer, r)
			}
			if t.Failed() {
				t.Fatalf("script %d:\n%s", i, inner)
			}
		}
	}
}
