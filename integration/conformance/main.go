// Command conformance runs BuildKit's own Dockerfile tests, those that ship in the pinned module, against this
// checkout's gateway frontend, and compares the result, name by name, with what the reference frontend passes on the
// same bench:
//
//	go run ./integration/conformance                    every test, about three minutes on two cores
//	go run ./integration/conformance -run TestNamed     the test functions whose names match
//	go run ./integration/conformance -reference         run the reference frontend instead
//	go run ./integration/conformance -reference -write  and write down what it passes
//
// It needs root, and what package sandbox installs. The names that the reference passes are in testdata/reference.txt; of
// the others four fail here for want of the internet, apk or a capability, whatever the frontend. A test that was lost is
// run once more before it counts.
//
// It exits with 0 if nothing the reference passes is lost, with 3 if something is, and with 1 if the run itself failed.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// limit bounds one run of the suite.
const limit = 20 * time.Minute

// exitLost says that the frontend fails what the reference passes.
const exitLost = 3

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var o options
	flag.StringVar(&o.run, "run", "", "regular expression of the test functions to run")
	flag.StringVar(&o.baseline, "baseline", "integration/conformance/testdata/reference.txt", "file with the names that have to pass")
	flag.StringVar(&o.log, "log", "", "keep the suite's output in this file")
	flag.BoolVar(&o.reference, "reference", false, "run the reference frontend")
	flag.BoolVar(&o.write, "write", false, "write the names that passed to the baseline")
	flag.Parse()
	lost, err := o.conform(ctx)
	stop()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	case lost > 0:
		os.Exit(exitLost)
	}
}

type options struct {
	run, baseline, log string
	reference, write   bool
}

// conform runs the suite and returns how many names of the baseline were lost.
func (o options) conform(ctx context.Context) (lost int, err error) {
	suite, err := sandbox.OpenSuite(ctx)
	if err != nil {
		return 0, err
	}
	// A unix socket's path holds 108 bytes, and the suite nests its folders deeply.
	work, err := os.MkdirTemp("", "mfc")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	image, err := frontendArchive(ctx, suite, work, o.reference)
	if err != nil {
		return 0, err
	}
	results, log, err := runSuite(ctx, suite, work, image, o.run)
	if o.log != "" {
		err = errors.Join(err, os.WriteFile(o.log, log, 0o600))
	}
	if err != nil {
		return 0, err
	}
	if o.write {
		return 0, os.WriteFile(o.baseline, []byte(strings.Join(passed(results), "\n")+"\n"), 0o600)
	}
	baseline, err := readBaseline(o.baseline, o.run)
	if err != nil {
		return 0, err
	}
	if again := functions(missing(baseline, results)); len(again) > 0 {
		fmt.Printf("running once more: %s\n", strings.Join(again, " "))
		second, _, err := runSuite(ctx, suite, work, image, "^("+strings.Join(again, "|")+")$")
		if err != nil {
			return 0, err
		}
		maps.Copy(results, second)
	}
	return report(baseline, results), nil
}

// report prints the comparison and returns the number of names lost.
func report(baseline []string, results map[string]string) int {
	gone := missing(baseline, results)
	for _, name := range gone {
		fmt.Printf("LOST   %s (%s)\n", name, results[name])
	}
	for _, name := range passed(results) {
		if !slices.Contains(baseline, name) {
			fmt.Println("GAINED", name)
		}
	}
	fmt.Printf("conformance: %d of the %d names that the reference frontend passes\n", len(baseline)-len(gone), len(baseline))
	fmt.Printf("%d passed, %d failed\n", len(baseline)-len(gone), len(gone))
	return len(gone)
}

// frontendArchive makes the image under test as an OCI archive: the suite takes it from there.
func frontendArchive(ctx context.Context, suite sandbox.Suite, work string, reference bool) (string, error) {
	layout := filepath.Join(work, "layout")
	var err error
	if reference {
		err = suite.ReferenceLayout(layout)
	} else {
		err = sandbox.FrontendLayout(ctx, layout)
	}
	if err != nil {
		return "", err
	}
	if err := os.RemoveAll(layout + ".bin"); err != nil {
		return "", err
	}
	tarball := filepath.Join(work, "frontend.tar")
	out, err := exec.CommandContext(ctx, "tar", "-C", layout, "-cf", tarball, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("tar: %w\n%s", err, out)
	}
	return tarball, nil
}

// runSuite runs the test functions that match pattern and returns each test's result, and the output.
func runSuite(ctx context.Context, suite sandbox.Suite, work, image, pattern string) (map[string]string, []byte, error) {
	dir, err := os.MkdirTemp(work, "r")
	if err != nil {
		return nil, nil, err
	}
	tmp := filepath.Join(dir, "t")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return nil, nil, err
	}
	if err := suite.CopyMirror(filepath.Join(dir, "m")); err != nil {
		return nil, nil, err
	}
	if pattern == "" {
		pattern = ".*"
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, suite.Test, "-test.v=test2json", "-test.count=1", "-test.timeout", limit.String(),
		"-test.run", "TestIntegration/"+pattern+"/^worker=oci$/.*")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+suite.Bin+":"+os.Getenv("PATH"), "TMPDIR="+tmp, "HOME="+dir,
		"BUILDKIT_REGISTRY_MIRROR_DIR="+filepath.Join(dir, "m"), "FRONTEND_GATEWAY_ONLY=local:"+image, "GOMAXPROCS=2")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	out, runErr := cmd.CombinedOutput()
	endLeftovers(dir)
	results := parse(out)
	if len(results) == 0 || bytes.Contains(out, []byte("panic: test timed out")) || ctx.Err() != nil {
		tail := out[max(0, len(out)-4<<10):]
		return nil, out, fmt.Errorf("the suite did not run: %w\n%s", errors.Join(runErr, ctx.Err()), tail)
	}
	return results, out, nil
}

var (
	resultLine = regexp.MustCompile(`(?m)--- (PASS|FAIL|SKIP): TestIntegration/(\S+) \(`)
	frontendOf = regexp.MustCompile(`/frontend=[a-z]+`)
)

// parse reads the result of each test. The part of a name that says which frontend it ran is dropped, so that runs of
// different frontends compare.
func parse(log []byte) map[string]string {
	out := map[string]string{}
	for _, m := range resultLine.FindAllSubmatch(log, -1) {
		out[frontendOf.ReplaceAllString(string(m[2]), "")] = string(m[1])
	}
	return out
}

func passed(results map[string]string) []string {
	var out []string
	for name, r := range results {
		if r == "PASS" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func missing(baseline []string, results map[string]string) []string {
	var out []string
	for _, name := range baseline {
		if results[name] != "PASS" {
			out = append(out, name)
		}
	}
	return out
}

// functions returns the test functions that the names belong to.
func functions(names []string) []string {
	var out []string
	for _, n := range names {
		f, _, _ := strings.Cut(n, "/")
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// readBaseline reads the names of the test functions that pattern matches.
func readBaseline(file, pattern string) ([]string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	match, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.FieldsSeq(string(b)) {
		if f, _, _ := strings.Cut(line, "/"); match.MatchString(f) {
			out = append(out, line)
		}
	}
	return out, nil
}

// endLeftovers ends the daemons that a run which panicked or was cut short left behind: those whose command line names
// the run's folder.
func endLeftovers(dir string) {
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return
	}
	for _, p := range procs {
		cmdline, err := os.ReadFile(p)
		if err != nil || !bytes.Contains(cmdline, []byte(dir+"/")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p)))
		if err == nil && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	}
}
