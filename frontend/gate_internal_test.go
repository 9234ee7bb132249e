package frontend

import (
	"errors"
	"fmt"
	"testing"

	"github.com/manifold-build/manifold/verify"
)

// TestUnverified: what is too large to be looked at is a warning with verify=warn, and never a verified image.
func TestUnverified(t *testing.T) {
	t.Parallel()
	limit := fmt.Errorf("a folder: %w", &verify.LimitError{What: "entries", Most: 5})
	for _, tc := range []struct {
		mode   string
		err    error
		warned bool
	}{{verifyWarn, limit, true}, {verifyStrict, limit, false}, {verifyWarn, errors.New("the node is gone"), false}} {
		report, warned := (&target{verify: tc.mode}).unverified(tc.err)
		if warned != tc.warned || warned && (report.Verdict != verify.Excepted || len(report.Warnings) != 1 || report.Warnings[0].String() != "/ was not looked at to its end: it holds more than 5 entries") {
			t.Errorf("%s, %v: %v %+v", tc.mode, tc.err, warned, report)
		}
	}
}
