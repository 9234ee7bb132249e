package integration

import (
	"os/exec"
	"testing"

	"github.com/manifold-build/manifold/integration/sandbox"
)

// TestGateCorpus holds the gate's verdicts on the smallest of Debian's systems, whole and broken, against the recorded ones. make gate-corpus has them all.
func TestGateCorpus(t *testing.T) {
	sandbox.Start(t) // its tools unpack the packages
	cmd := exec.CommandContext(t.Context(), "go", "run", "./integration/gate", "-run", "^minbase/arm64$")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
