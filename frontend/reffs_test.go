package frontend

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/patternmatcher"
	fstypes "github.com/tonistiigi/fsutil/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// smallMessages is a directory whose listing holds so many names a message, as BuildKit's holds 16 MiB.
type smallMessages struct {
	client.Reference

	names []string
	limit int
	calls *int
}

func (s smallMessages) ReadDir(_ context.Context, req client.ReadDirRequest) ([]*fstypes.Stat, error) {
	*s.calls++
	var out []*fstypes.Stat
	for _, n := range s.names {
		ok := req.IncludePattern == ""
		if !ok {
			var err error
			if ok, err = patternmatcher.MatchesOrParentMatches(n, []string{req.IncludePattern}); err != nil {
				return nil, err
			}
		}
		if ok {
			out = append(out, &fstypes.Stat{Path: n})
		}
	}
	if len(out) > s.limit {
		return nil, status.Error(codes.ResourceExhausted, "trying to send message larger than max")
	}
	return out, nil
}

func TestLargeDirectories(t *testing.T) {
	t.Parallel()
	var numbered, hashed, modules []string
	for i := range 1000 {
		numbered = append(numbered, fmt.Sprintf("%s%04d", strings.Repeat("the-same-beginning-", 10), i))
		hashed = append(hashed, fmt.Sprintf("%x.js", i*2654435761%(1<<32)))
		modules = append(modules, strings.Repeat("a", i%50+1)+[]string{"", "Z", "_", "é", "9", "[x]"}[i%6])
	}
	slices.Sort(modules)
	modules = slices.Compact(modules)
	for name, names := range map[string][]string{
		"none": nil, "few": {"a", "b"}, "numbered": numbered, "hashed": hashed, "of every length": modules,
		"short": {"a", "aa", "aaa", "aaaa", "b", "ab", "ba", "aba", "bab", "é", "éa", "aé"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			limit := max(2, len(names)/4)
			list, err := refFS{ctx: t.Context(), ref: smallMessages{names: names, limit: limit, calls: &calls}}.ReadDir("some/dir")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range list {
				got = append(got, e.Name())
			}
			want := slices.Sorted(slices.Values(names))
			if !slices.Equal(got, want) {
				t.Errorf("%d of %d names are listed", len(got), len(want))
			}
			if calls > 300 {
				t.Errorf("%d messages", calls)
			}
		})
	}
}
