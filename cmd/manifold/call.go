package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend/subrequests/lint"
	"github.com/moby/buildkit/frontend/subrequests/outline"
	"github.com/moby/buildkit/frontend/subrequests/targets"

	"github.com/manifold-build/manifold/builder"
)

// ask answers --call: a question about the Dockerfile, of which the answer goes to standard output. As with docker buildx build, the exit code of a check is
// 0 only if nothing was found.
func (f *buildFlags) ask(ctx context.Context, s streams, r builder.Request, question, form string) (err error) {
	nodes, err := dialOrStart(ctx, s, f.builders)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll(nodes)) }()
	if err := f.local(&r, nodes[0]); err != nil {
		return err
	}
	if f.progress == "" {
		f.progress = "quiet"
	}
	var answer map[string][]byte
	err = f.display(ctx, s, func(progress func(*client.SolveStatus)) (err error) {
		r.Progress = progress
		answer, err = builder.Builder{Nodes: nodes, Registry: f.client(s), CacheDir: cacheDir()}.Call(ctx, r, question)
		return err
	})
	if err != nil {
		return err
	}
	dt := answer["result.json"]
	var found lint.LintResults
	if question == lint.RequestLint {
		if err := json.Unmarshal(dt, &found); err != nil {
			return err
		}
	}
	switch {
	case form == "json":
		_, err = fmt.Fprintln(s.out, string(dt))
	case question == outline.RequestSubrequestsOutline:
		err = outline.PrintOutline(dt, s.out)
	case question == targets.RequestTargets:
		err = targets.PrintTargets(dt, s.out)
	case len(found.Warnings) == 0 && found.Error == nil:
		_, err = fmt.Fprintln(s.out, "Check complete, no warnings found.")
	default:
		if n := len(found.Warnings); n > 0 {
			fmt.Fprintf(s.out, "Check complete, %d %s found!\n", n, plural(n, "warning has been", "warnings have been"))
		}
		err = lint.PrintLintViolations(dt, s.out, nil)
	}
	if err == nil && (found.Error != nil || len(found.Warnings) > 0) {
		err = fmt.Errorf("%d %s in the Dockerfile", len(found.Warnings), plural(len(found.Warnings), "warning", "warnings"))
	}
	return err
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
