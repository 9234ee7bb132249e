package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/integration/sandbox"
)

func TestMain(m *testing.M) { os.Exit(sandbox.Main(m)) }

// TestStories runs the scripts in testdata/script, each in a registry namespace of its own ($REPO).
//
// Those of slowStories take minutes each: one of them is told, another one each day. MANIFOLD_DIFFERENTIAL=all tells them all, and a name that one.
func TestStories(t *testing.T) {
	sb := sandbox.Start(t)
	env, err := sb.Env(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	frontendRef, err := sb.Frontend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	stories, err := ofToday("testdata/script/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Files:               stories,
		UpdateScripts:       os.Getenv("UPDATE") == "1",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			for _, kv := range env {
				name, value, _ := strings.Cut(kv, "=")
				e.Setenv(name, value)
			}
			e.Setenv("REPO", sb.Repo()+"/"+filepath.Base(e.WorkDir))
			e.Setenv("FRONTEND", frontendRef)
			e.Setenv("ROOT", root)
			e.Setenv("HOME", e.WorkDir)
			state, err := os.MkdirTemp("", "mfst") // short: a socket's path holds 108 bytes
			if err != nil {
				return err
			}
			e.Defer(func() { _ = os.RemoveAll(state) })
			e.Setenv("STATE", state)
			e.Setenv("BUILDX_CONFIG", filepath.Join(e.WorkDir, ".buildx"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"runimage":  func(ts *testscript.TestScript, neg bool, args []string) { runImage(ts, sb, neg, args) },
			"platforms": printPlatforms,
			"fill":      fillTemplate,
			"inside":    inside,
		},
	})
}

// inside fails unless a file's text stands in another file.
func inside(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: inside PART WHOLE")
	}
	part, whole := ts.ReadFile(args[0]), ts.ReadFile(args[1])
	if !strings.Contains(whole, part) {
		ts.Fatalf("%s does not hold:\n%s", args[1], part)
	}
}

func runImage(ts *testscript.TestScript, sb *sandbox.Sandbox, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: runimage REF PLATFORM")
	}
	out, err := sb.RunImage(context.Background(), args[0], args[1])
	ts.Check(err)
	_, err = fmt.Fprint(ts.Stdout(), out)
	ts.Check(err)
}

// printPlatforms prints what an index and its images' configs say their platforms are.
func printPlatforms(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: platforms REF")
	}
	x, err := index.NewClient(index.ClientOptions{}).Pull(context.Background(), args[0])
	ts.Check(err)
	for _, image := range x.Images {
		raw, err := json.Marshal(image.Descriptor.Platform)
		ts.Check(err)
		_, err = fmt.Fprintf(ts.Stdout(), "%s config %s\n", raw, image.ConfigPlatform)
		ts.Check(err)
	}
}

// fillTemplate expands the script's variables in a file of it.
func fillTemplate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fill FILE")
	}
	path := ts.MkAbs(args[0])
	text, err := os.ReadFile(path)
	ts.Check(err)
	ts.Check(os.WriteFile(path, []byte(os.Expand(string(text), ts.Getenv)), 0o600))
}

var slowStories = []string{"accelerate-gcc", "accelerate-rust", "accelerate-rustup"}

// ofToday lists the stories that are told today.
func ofToday(pattern string) ([]string, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	chosen := os.Getenv("MANIFOLD_DIFFERENTIAL")
	return slices.DeleteFunc(files, func(name string) bool {
		base := strings.TrimSuffix(filepath.Base(name), ".txt")
		i := slices.Index(slowStories, base)
		return i >= 0 && chosen != "all" && chosen != base && i != time.Now().YearDay()%len(slowStories)
	}), nil
}
