package platforms

import (
	"fmt"

	"github.com/manifold-build/manifold/internal/nearest"
)

// Strategy is how one stage is run for one target.
type Strategy uint8

const (
	// Auto is the zero value: nothing was decided, the planner chooses.
	Auto Strategy = iota
	// Native runs the stage on the target platform, which the node executes itself.
	Native
	// Cross runs the stage on the build platform and tells it the target (GOOS, GOARCH, TARGETARCH…).
	Cross
	// Shared runs the stage once on the build platform; its output does not depend on the target.
	Shared
	// Accelerate runs the stage on the target platform as Emulate does, its compilers being the build platform's build of the same release, which make
	// the target's code without being emulated.
	Accelerate
	// Emulate runs the stage on the target platform through QEMU where the node does not execute it itself.
	Emulate
)

var strategyNames = [...]string{Auto: "auto", Native: "native", Cross: "cross", Shared: "shared", Accelerate: "accelerate", Emulate: "emulate"}

// String returns the strategy's name as options spell it.
func (s Strategy) String() string {
	if int(s) < len(strategyNames) {
		return strategyNames[s]
	}
	return fmt.Sprintf("strategy(%d)", uint8(s))
}

// ParseStrategy reads a strategy that a user can ask for: auto, native, emulate, cross or accelerate. Shared is decided by the
// planner alone and is refused.
func ParseStrategy(s string) (Strategy, error) {
	switch s {
	case "auto":
		return Auto, nil
	case "native":
		return Native, nil
	case "cross":
		return Cross, nil
	case "emulate":
		return Emulate, nil
	case "accelerate":
		return Accelerate, nil
	}
	err := fmt.Errorf("invalid strategy %q: it is one of auto, native, emulate, cross, accelerate", s)
	if n := nearest.Name(s, []string{"auto", "native", "emulate", "cross", "accelerate"}); n != "" {
		err = fmt.Errorf("%w; did you mean %q?", err, n)
	}
	return 0, err
}

// MarshalText writes the strategy's name.
func (s Strategy) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads any of the six names, shared included: it reads what a plan wrote.
func (s *Strategy) UnmarshalText(text []byte) error {
	for i, name := range strategyNames {
		if name == string(text) {
			*s = Strategy(i)
			return nil
		}
	}
	return fmt.Errorf("invalid strategy %q", text)
}
