package frontend

import (
	"errors"
	"fmt"

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
}

// Error names the target and, where they are known, stage, file and line before what happened.
func (e *TargetError) Error() string {
	where := e.Target.String()
	if e.Stage != "" {
		where += fmt.Sprintf(": stage %s", e.Stage)
	}
	if e.Line > 0 {
		where += fmt.Sprintf(" (%s:%d)", e.File, e.Line)
	}
	return where + ": " + e.Err.Error()
}

// Unwrap returns what happened.
func (e *TargetError) Unwrap() error { return e.Err }

// targetError says which target, stage and line an error belongs to, from the source locations that BuildKit put
// into it.
func targetError(t platforms.Platform, f *dockerfile.File, err error) error {
	if err == nil {
		return nil
	}
	out := &TargetError{Target: t, Err: err}
	for _, src := range errdefs.Sources(err) {
		if src.Info == nil || len(src.Ranges) == 0 || src.Ranges[0].Start == nil {
			continue
		}
		out.File, out.Line = src.Info.Filename, int(src.Ranges[0].Start.Line)
		if f != nil {
			out.Stage = f.StageAt(out.Line)
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
