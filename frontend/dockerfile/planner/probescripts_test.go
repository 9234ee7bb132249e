package planner

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/manifold-build/manifold/frontend/dockerfile/source"
	"github.com/manifold-build/manifold/frontend/dockerfile/stage"
	"github.com/manifold-build/manifold/platforms"
)

// TestProbePutsInstallersOff runs probes under real shells, with the real go and an npm that notes when it runs: what installs packages runs
// where something misses what it brings, once, and not before.
func TestProbePutsInstallersOff(t *testing.T) {
	for _, shell := range []string{"bash", "dash"} {
		for name, tc := range map[string]struct {
			run    string
			answer string
			ran    string // what npm was asked, by line
			fails  bool
		}{
			"not needed":         {run: "npm ci && go mod download && go build -o app .", answer: "pure\n"},
			"made what is built": {run: "npm ci && cp made.go.txt gen/made.go && go build -o app ./gen", answer: "pure\n", ran: "ci\n"},
			"a script":           {run: "npm ci && npm run gen && go build -o app ./gen", answer: "pure\n", ran: "ci\nrun gen\n"},
			"quoted": {
				run: "mkdir -p \"it's\" && cd \"it's\" && npm install 'a b' \"c'd\" && cd .. && npm run gen && go build ./gen", answer: "pure\n", ran: "install a b c'd\nrun gen\n",
			},
			"list":      {run: "npm ci && go list . >/dev/null && go build -o app .", answer: "pure\n", ran: "ci\n"},
			"run":       {run: "go run . && go build -o app .", answer: "pure\npure\n"},
			"runner":    {run: "go run ./runner build && go build -o app .", answer: "runs ./runner\npure\n"},
			"no server": {run: "npm install fails && npm run gen && go build ./gen", ran: "install fails\n", fails: true},
		} {
			t.Run(shell+"/"+name, func(t *testing.T) {
				answer, ran, err := runProbe(t, shell, tc.run)
				if diff := cmp.Diff(tc.answer, answer); diff != "" {
					t.Errorf("answer (-want +got)\n%s", diff)
				}
				if diff := cmp.Diff(tc.ran, ran); diff != "" {
					t.Errorf("npm ran (-want +got)\n%s", diff)
				}
				if _, exited := errors.AsType[*exec.ExitError](err); exited != tc.fails {
					t.Errorf("the probe ended with %v", err)
				}
			})
		}
	}
}

// runProbe runs the script of a probe for cgo in a module of its own and returns the answer, and what npm was asked.
func runProbe(t *testing.T, shell, text string) (answer, ran string, err error) {
	t.Helper()
	dir := t.TempDir()
	own, work, bin := filepath.Join(dir, "own"), filepath.Join(dir, "work"), filepath.Join(dir, "bin")
	for path, data := range map[string]string{
		filepath.Join(work, "go.mod"):      "module example.com/app\n\ngo 1.20\n",
		filepath.Join(work, "main.go"):     "package main\n\nfunc main() {}\n",
		filepath.Join(work, "gen/none.md"): "",
		filepath.Join(work, "runner/x.go"): "package main\n\nimport \"os/exec\"\n\nfunc main() { _ = exec.Command(\"go\", \"build\") }\n",
		filepath.Join(bin, "gcc"):          "#!/bin/sh\n",
		filepath.Join(bin, "npm"): `#!/bin/sh
echo "$*" >>` + dir + `/ran
case "$*" in
*fails) exit 1 ;;
ci) printf 'package main\nfunc main() {}\n' >made.go.txt ;;
"run gen") printf 'package main\nfunc main() {}\n' >gen/made.go ;;
esac
`,
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	probe := Probe{Kind: ProbeCgo, Line: 1, Target: platforms.Platform{OS: "linux", Architecture: "arm64"}}
	script := probeScript(probe, &source.Run{Text: text}, &stage.Edit{})
	cmd := exec.CommandContext(t.Context(), shell, "-c", strings.ReplaceAll(script, "/tmp/.manifold", own))
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOTOOLCHAIN=local")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Logf("%s", out)
	}
	read := func(path string) string {
		dt, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return string(dt)
	}
	return read(filepath.Join(own, "answer")), read(filepath.Join(dir, "ran")), err
}
