package frontend

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"

	"github.com/manifold-build/manifold/frontend/dockerfile"
	"github.com/manifold-build/manifold/platforms"
)

// TargetError is the failure of one target of a build.
type TargetError struct {
	// Target is the platform that was built for.
	Target platforms.Platform
	// Stage is the stage's name, or its index where it has none; empty if the failure is in no stage.
	Stage string
	// File and Line, counted from 1, are where; Line is 0 if it is not known.
	File string
	Line int
	// Err is what happened.
	Err error

	stage int // the stage's index, -1 if it is not known
}

// Error names the target and, where they are known, stage, file and line before what happened.
func (e *TargetError) Error() string {
	return e.Target.String() + e.place() + ": " + dockerfile.Unaccelerated(e.Err.Error())
}

// place is ": stage NAME (FILE:LINE)", as far as it is known.
func (e *TargetError) place() string {
	where := ""
	if e.Stage != "" {
		where = ": stage " + e.Stage
	}
	if e.Line > 0 {
		where += fmt.Sprintf(" (%s:%d)", e.File, e.Line)
	}
	return where
}

// Unwrap returns what happened.
func (e *TargetError) Unwrap() error { return e.Err }

// targetError says which target, stage and line an error belongs to, from the source locations that BuildKit put
// into it.
func targetError(t platforms.Platform, f *dockerfile.File, err error) error {
	if err == nil {
		return nil
	}
	out := &TargetError{Target: t, Err: err, stage: -1}
	for _, src := range errdefs.Sources(err) {
		if src.GetInfo() == nil || len(src.GetRanges()) == 0 || src.GetRanges()[0].GetStart() == nil {
			continue
		}
		out.File, out.Line = src.GetInfo().GetFilename(), int(src.GetRanges()[0].GetStart().GetLine())
		if f != nil {
			out.Stage, out.stage = f.StageTitle(out.Line), f.StageAt(out.Line)
		}
	}
	return out
}

// withLocations adds the source lines to an error of the Dockerfile language, as the reference frontend does.
func withLocations(err error, sm *llb.SourceMap) error {
	var el *parser.LocationError
	if !errors.As(err, &el) {
		return err
	}
	for _, l := range el.Locations {
		err = withSource(err, sm, l)
	}
	return err
}

// withSource adds source lines to an error.
func withSource(err error, sm *llb.SourceMap, ranges []parser.Range) error {
	if sm == nil || err == nil {
		return err
	}
	return errdefs.WithSource(err, &errdefs.Source{
		Info: &pb.SourceInfo{
			Data: sm.Data, Filename: sm.Filename, Language: sm.Language, Definition: sm.Definition.ToPB(),
		},
		Ranges: pbRanges(ranges),
	})
}

// lineRange is the location of one line, counted from 1.
func lineRange(line int) []parser.Range {
	return []parser.Range{{Start: parser.Position{Line: line}, End: parser.Position{Line: line}}}
}

func pbRanges(ranges []parser.Range) []*pb.Range {
	out := make([]*pb.Range, len(ranges))
	for i, r := range ranges {
		out[i] = &pb.Range{Start: pbPosition(r.Start), End: pbPosition(r.End)}
	}
	return out
}

func pbPosition(p parser.Position) *pb.Position {
	return &pb.Position{Line: int32(p.Line), Character: int32(p.Character)} //nolint:gosec // lines of a bounded file
}

// warnOpts describes a warning about source lines.
func warnOpts(ranges []parser.Range, detail [][]byte, url string) client.WarnOpts {
	opts := client.WarnOpts{Level: 1, Detail: detail, URL: url}
	if ranges != nil {
		opts.Range = pbRanges(ranges)
	}
	return opts
}

// TargetsError are the failures of a build, in target order.
type TargetsError struct {
	// Errs has one element for each target that failed.
	Errs []*TargetError
	// Targets is how many targets the build has.
	Targets int
}

// Error lists the failures, one a line. Targets that failed alike, in one place with one message, share a line. Where
// every target failed alike, the failure is the Dockerfile's and not a target's, and the message begins as the
// reference frontend's does.
func (errs TargetsError) Error() string {
	var out []string
	for i, e := range errs.Errs {
		if slices.ContainsFunc(errs.Errs[:i], e.alike) {
			continue
		}
		var names []string
		for _, o := range errs.Errs[i:] {
			if o.alike(e) {
				names = append(names, o.Target.String())
			}
		}
		if len(names) > 1 && len(names) == errs.Targets {
			return fmt.Sprintf("%v (every target%s)", e.Err, e.place())
		}
		out = append(out, strings.Join(names, ", ")+e.place()+": "+e.Err.Error())
	}
	return strings.Join(out, "\n")
}

// Unwrap returns each failure.
func (errs TargetsError) Unwrap() []error {
	out := make([]error, len(errs.Errs))
	for i, e := range errs.Errs {
		out[i] = e
	}
	return out
}

func (e *TargetError) alike(o *TargetError) bool {
	return e.place() == o.place() && e.Err.Error() == o.Err.Error()
}

// asError returns nil for no failure and the failure itself for the only one.
func (errs TargetsError) asError() error {
	switch len(errs.Errs) {
	case 0:
		return nil
	case 1:
		return errs.Errs[0]
	}
	return errs
}
