package integration

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// action is what GitHub's runner reads of a composite action.
type action struct {
	Inputs map[string]struct {
		Default string `yaml:"default"`
	} `yaml:"inputs"`
	Outputs map[string]struct {
		Value string `yaml:"value"`
	} `yaml:"outputs"`
	Runs struct {
		Steps []struct {
			Name, ID, If, Shell, Run string
			Env                      map[string]string
		} `yaml:"steps"`
	} `yaml:"runs"`
}

// runner runs an action as GitHub's runner does: expressions first, then each step's script by bash, with files for what steps tell each other.
type runner struct {
	sb      *sandbox.Sandbox
	action  action
	dir     string
	inputs  map[string]string
	outputs map[string]map[string]string // by step
	summary string
}

var expression = regexp.MustCompile(`\$\{\{\s*(.*?)\s*\}\}`)

// value is that of an expression: inputs.NAME, steps.ID.outputs.NAME, 'text', and ==, != and || of those.
func (r *runner) value(t *testing.T, expr string) string {
	t.Helper()
	if a, b, ok := strings.Cut(expr, "||"); ok {
		if v := r.value(t, a); v != "" && v != "false" {
			return v
		}
		return r.value(t, b)
	}
	for _, op := range []string{"==", "!="} {
		if a, b, ok := strings.Cut(expr, op); ok {
			if (r.value(t, a) == r.value(t, b)) == (op == "==") {
				return "true"
			}
			return "false"
		}
	}
	expr = strings.TrimSpace(expr)
	parts := strings.Split(expr, ".")
	switch {
	case strings.HasPrefix(expr, "'"):
		return strings.Trim(expr, "'")
	case parts[0] == "inputs" && len(parts) == 2:
		in, ok := r.action.Inputs[parts[1]]
		if !ok {
			t.Fatalf("action.yml has no input %s", parts[1])
		}
		if v, given := r.inputs[parts[1]]; given {
			return v
		}
		return in.Default
	case parts[0] == "steps" && len(parts) == 4:
		return r.outputs[parts[1]][parts[3]]
	}
	t.Fatalf("the expression %q is not read", expr)
	return ""
}

func (r *runner) expand(t *testing.T, s string) string {
	t.Helper()
	return expression.ReplaceAllStringFunc(s, func(e string) string { return r.value(t, expression.FindStringSubmatch(e)[1]) })
}

// run runs every step. The error is that of the first that fails.
func (r *runner) run(t *testing.T) sandbox.Output {
	t.Helper()
	path := strings.TrimSpace(mustExec(t, r.sb, "sh", "-c", "echo $PATH").Stdout)
	r.outputs = map[string]map[string]string{}
	temp := t.TempDir()
	summary := filepath.Join(temp, "summary")
	for i, step := range r.action.Runs.Steps {
		if step.If != "" && r.expand(t, step.If) != "true" {
			continue
		}
		if step.Shell != "bash" {
			t.Fatalf("step %s has the shell %q", step.Name, step.Shell)
		}
		script, out, more := filepath.Join(temp, "script"), filepath.Join(temp, "output"), filepath.Join(temp, "path")
		write(t, temp, "script", step.Run)
		write(t, temp, "output", "")
		write(t, temp, "path", "")
		args := []string{"env", "-C", r.dir, "PATH=" + path, "RUNNER_TEMP=" + temp, "GITHUB_OUTPUT=" + out, "GITHUB_PATH=" + more, "GITHUB_STEP_SUMMARY=" + summary}
		for name, v := range step.Env {
			args = append(args, name+"="+r.expand(t, v))
		}
		result, err := r.sb.Exec(t.Context(), "", append(args, "bash", "--noprofile", "--norc", "-eo", "pipefail", script)...)
		if err != nil {
			t.Fatal(err)
		}
		if result.Code != 0 {
			return result
		}
		dt, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]string{}
		for lines := bufio.NewScanner(strings.NewReader(string(dt))); lines.Scan(); {
			name, v, _ := strings.Cut(lines.Text(), "=")
			values[name] = v
		}
		r.outputs[step.ID] = values
		if added, err := os.ReadFile(more); err == nil && len(added) > 0 {
			path = strings.TrimSpace(string(added)) + ":" + path
		}
		if i == len(r.action.Runs.Steps)-1 {
			dt, err := os.ReadFile(summary)
			if err != nil {
				t.Fatal(err)
			}
			r.summary = string(dt)
		}
	}
	return sandbox.Output{}
}

// TestAction runs action.yml: a build for each platform, and one index of them.
func TestAction(t *testing.T) {
	sb := sandbox.Start(t)
	dt, err := os.ReadFile("../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	var a action
	if err := yaml.Unmarshal(dt, &a); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir, "Dockerfile", "FROM busybox:1.35\nARG A\nARG B\nRUN echo $A, $B > /args\nCMD [\"cat\", \"/args\"]\n")
	act := func(inputs map[string]string) (*runner, sandbox.Output) {
		r := &runner{sb: sb, action: a, dir: dir, inputs: inputs}
		return r, r.run(t)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		r, out := act(map[string]string{
			"platforms": "linux/" + arch, "tags": sb.Ref("app:"+arch) + "\n" + sb.Ref("app:extra-"+arch) + "\n", "push": "true", "build-args": "A=one word\nB=two", "test": "cat /args",
			"builder": sb.Node.Addr,
		})
		if out.Code != 0 {
			t.Fatal(out.Stderr)
		}
		ref := r.value(t, strings.Trim(a.Outputs["reference"].Value, "${} "))
		if !strings.HasPrefix(ref, sb.Repo()+"/app@sha256:") || !strings.Contains(r.summary, "linux/"+arch) {
			t.Errorf("the reference is %q, the summary\n%s", ref, r.summary)
		}
		if got, err := sb.RunImage(t.Context(), sb.Ref("app:extra-"+arch), "linux/"+arch); err != nil || got != "one word, two\n" {
			t.Errorf("%q, %v", got, err)
		}
	}
	merge := map[string]string{"merge": sb.Ref("app:amd64") + "\n" + sb.Ref("app:arm64"), "tags": sb.Ref("app:1"), "expect": "linux/amd64,linux/arm64"}
	r, out := act(merge)
	if out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	if digest := r.outputs["merge"]["digest"]; digest != digestOf(t, sb.Ref("app:1")) || !strings.Contains(r.summary, "linux/arm64") {
		t.Errorf("the digest is %q, the summary\n%s", digest, r.summary)
	}
	merge["expect"], merge["tags"] = "linux/amd64,linux/arm64,linux/s390x", sb.Ref("app:2")
	if _, out := act(merge); out.Code == 0 || digestOf(t, sb.Ref("app:2")) != "" {
		t.Error("a platform is missing, and it is published")
	}
}
