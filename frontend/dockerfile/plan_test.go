package dockerfile_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

var update = flag.Bool("update", false, "write what the planner says into testdata/plan")

// TestPlan plans and rewrites each file of testdata/plan. An archive's comment holds lines "key: value" (targets, host,
// strategy, stage, arg, context), its file Dockerfile the input, "plan" the steps, findings and errors, and a file named for
// a target the text it is built from, where that differs from the input.
func TestPlan(t *testing.T) {
	files, err := filepath.Glob("testdata/plan/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			c := readCase(t, archive)
			got := c.run(t)
			if *update {
				if err := os.WriteFile(name, txtar.Format(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(txtar.Format(archive)), string(txtar.Format(got))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestPlanTable plans and rewrites the cases of each archive of testdata/table. A case is NAME/Dockerfile; NAME/request, where
// there is one, holds its lines "key: value"; NAME/plan and NAME/TARGET are as in TestPlan. The target is linux/arm64 if nothing
// else is said.
func TestPlanTable(t *testing.T) {
	files, err := filepath.Glob("testdata/table/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, name := range files {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got := &txtar.Archive{Comment: archive.Comment}
		requests := map[string][]byte{}
		for _, f := range archive.Files {
			if path.Base(f.Name) == "request" {
				requests[path.Dir(f.Name)] = f.Data
			}
		}
		for _, f := range archive.Files {
			if path.Base(f.Name) != "Dockerfile" {
				continue
			}
			prefix := path.Dir(f.Name)
			t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar")+"/"+prefix, func(t *testing.T) {
				c := readCase(t, &txtar.Archive{Comment: append([]byte("targets: linux/arm64\n"), requests[prefix]...), Files: []txtar.File{f}})
				out := c.run(t)
				for i, o := range out.Files {
					out.Files[i].Name = prefix + "/" + o.Name
				}
				out.Files[0].Name = f.Name
				if data, ok := requests[prefix]; ok {
					got.Files = append(got.Files, txtar.File{Name: prefix + "/request", Data: data})
				}
				got.Files = append(got.Files, out.Files...)
			})
		}
		if *update {
			if err := os.WriteFile(name, txtar.Format(got), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(string(txtar.Format(archive)), string(txtar.Format(got))); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

// planCase is one archive.
type planCase struct {
	comment []byte
	src     []byte
	req     dockerfile.PlanRequest
	answers []string // kind and line of the probes that are answered
	texts   []string
}

// answered plans the case, answers the probes it has answers for, and plans again until nothing changes.
func (c *planCase) answered(file *dockerfile.File) (dockerfile.Plan, error) {
	for i := range c.req.PutBacks {
		c.req.PutBacks[i].Target = c.req.Targets[0].Platform
	}
	planner := file.Open(c.req)
	for {
		plan, err := planner.Plan()
		var found []dockerfile.Answer
		for _, p := range plan.Probes {
			for i, key := range c.answers {
				if key == fmt.Sprintf("%s %d", p.Kind, p.Line) {
					found = append(found, dockerfile.Answer{Probe: p, Text: c.texts[i], Failed: c.texts[i] == "failed"})
				}
			}
		}
		if len(found) == 0 {
			return plan, err
		}
		c.req.Answers = append(c.req.Answers, found...)
		planner.Answer(found...)
	}
}

// index reads a stage's index.
func index(t *testing.T, s string) int {
	t.Helper()
	i, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func readCase(t *testing.T, a *txtar.Archive) planCase {
	t.Helper()
	c := planCase{comment: a.Comment, src: a.Files[0].Data}
	host, targets := "linux/amd64,linux/386,linux/arm64,linux/arm/v7,linux/s390x", "linux/amd64,linux/arm64"
	var target dockerfile.Target
	target.BuildArgs, target.NoAccelerate = map[string]string{}, true // but where a case is about it
	for line := range strings.Lines(string(a.Comment)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		var err error
		switch key {
		case "host":
			host = value
		case "targets":
			targets = value
		case "strategy":
			target.Strategy, err = platforms.ParseStrategy(value)
		case "stage":
			target.Stage = value
		case "context":
			target.Contexts = append(target.Contexts, value)
		case "answer": // KIND LINE: one line of text, "\\n" between lines
			kind, rest, _ := strings.Cut(value, " ")
			line, text, _ := strings.Cut(rest, ": ")
			c.answers = append(c.answers, kind+" "+line)
			c.texts = append(c.texts, strings.ReplaceAll(text, `\n`, "\n"))
		case "refused":
			stage, reason, _ := strings.Cut(value, " ")
			c.req.PutBacks = append(c.req.PutBacks, dockerfile.PutBack{Stage: index(t, stage), Reason: reason})
		case "onbuild":
			image, instruction, _ := strings.Cut(value, " ")
			c.req.Images = map[string]dockerfile.BaseImage{image: {OnBuild: []string{instruction}}}
		case "image-env":
			image, env, _ := strings.Cut(value, " ")
			c.req.Images = map[string]dockerfile.BaseImage{image: {Env: strings.Fields(env), WorkingDir: "/go"}}
		case "image-lacks": // the build platform
			c.req.Images = map[string]dockerfile.BaseImage{value: {Env: []string{"GOLANG_VERSION=1.26"}, NotFor: "is not there for linux/amd64"}}
		case "accelerate":
			target.NoAccelerate = value == "off"
		case "cache-mounts":
			target.NoCacheMounts = value == "off"
		case "arg":
			name, v, _ := strings.Cut(value, "=")
			target.BuildArgs[name] = v
		default:
			t.Fatalf("unknown key %q", key)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if c.req.Host, err = platforms.HostOf(list(t, host)); err != nil {
		t.Fatal(err)
	}
	for _, p := range list(t, targets) {
		one := target
		one.Platform = p
		c.req.Targets = append(c.req.Targets, one)
	}
	return c
}

// run plans the case and writes what came out of it as an archive.
func (c planCase) run(t *testing.T) *txtar.Archive {
	t.Helper()
	out := &txtar.Archive{Comment: c.comment, Files: []txtar.File{{Name: "Dockerfile", Data: c.src}}}
	file, err := dockerfile.Parse("Dockerfile", c.src)
	if err != nil {
		out.Files = append(out.Files, txtar.File{Name: "plan", Data: []byte("error: " + err.Error() + "\n")})
		return out
	}
	plan, planErr := c.answered(file)
	var b bytes.Buffer
	for _, s := range plan.Steps {
		open := ""
		if len(s.Probes) > 0 {
			open = fmt.Sprintf(" (open: %v)", s.Probes)
		}
		fmt.Fprintf(&b, "%-14s %-8s %-8s on %s: %s%s\n", s.Target, s.Stage, s.Strategy, s.Platform, s.Reason, open)
	}
	for _, c := range plan.Checks {
		fmt.Fprintf(&b, "%-14s %-8s checked for machine code: %s\n", c.Target, c.Title, strings.Join(c.Paths, " "))
	}
	for _, f := range plan.Findings {
		fmt.Fprintf(&b, "warning: line %d: %s: %s\n", f.Line, f.Rule, f.Message)
	}
	if planErr != nil {
		fmt.Fprintf(&b, "error: %v\n", planErr)
	}
	out.Files = append(out.Files, txtar.File{Name: "plan", Data: b.Bytes()})
	for _, target := range c.req.Targets {
		text, err := file.For(target.Platform, plan)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text, c.src) {
			out.Files = append(out.Files, txtar.File{Name: target.Platform.String(), Data: text})
		}
		checkRewrite(t, c.src, text, target, c.req)
	}
	return out
}

// checkRewrite holds a rewritten text to what every rewriting promises: the same lines, the same stages, and nothing more
// to do the second time.
func checkRewrite(t *testing.T, src, text []byte, target dockerfile.Target, req dockerfile.PlanRequest) {
	t.Helper()
	if a, b := bytes.Count(src, []byte("\n")), bytes.Count(text, []byte("\n")); a != b {
		t.Errorf("%s: %d lines became %d", target.Platform, a, b)
	}
	again, err := dockerfile.Parse("Dockerfile", text)
	if err != nil {
		t.Fatalf("%s: the rewritten text does not parse: %v\n%s", target.Platform, err, text)
	}
	plan, _ := again.Plan(req)
	twice, err := again.For(target.Platform, plan)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(twice, text) {
		t.Errorf("%s: rewriting twice changes more\n%s", target.Platform, cmp.Diff(string(text), string(twice)))
	}
	first, err := dockerfile.Parse("Dockerfile", src)
	if err != nil {
		t.Fatal(err)
	}
	for line := 1; line <= bytes.Count(src, []byte("\n")); line++ {
		if a, b := first.StageAt(line), again.StageAt(line); a != b {
			t.Errorf("%s: line %d was in stage %d and is in %d", target.Platform, line, a, b)
		}
	}
}

// FuzzParse holds every Dockerfile that parses to the promises of a rewriting, and none to panic.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/plan/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a.Files[0].Data)
	}
	arm, err := platforms.Parse("linux/arm/v7")
	if err != nil {
		f.Fatal(err)
	}
	amd64, err := platforms.Parse("linux/amd64")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		file, err := dockerfile.Parse("Dockerfile", src)
		if err != nil {
			return
		}
		req := dockerfile.PlanRequest{
			Host:    platforms.Host{Native: amd64},
			Targets: []dockerfile.Target{{Platform: arm, Strategy: platforms.Cross}},
		}
		plan, _ := file.Plan(req)
		text, err := file.For(arm, plan)
		if err != nil {
			t.Fatal(err)
		}
		checkRewrite(t, src, text, req.Targets[0], req)
	})
}

func list(t *testing.T, s string) []platforms.Platform {
	t.Helper()
	out, err := platforms.ParseList(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
