package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// Sandbox is one test's part of the bench.
type Sandbox struct {
	*Bench

	namespace string
}

var shared = sync.OnceValues(func() (*Bench, error) { return Open(context.Background()) })

// opened tells Main whether there is anything to close.
var opened bool

// Start gives a test the bench of its process, and a registry namespace of its own. Without root the test is skipped,
// and so it is if the bench cannot be prepared; with REQUIRE_DAEMON=1 in the environment it fails instead. Logs of the
// daemons are shown if the test fails. The package's TestMain has to call [Main].
func Start(tb testing.TB) *Sandbox {
	tb.Helper()
	required := os.Getenv("REQUIRE_DAEMON") == "1"
	if os.Geteuid() != 0 && !required {
		tb.Skip("a buildkitd needs root; REQUIRE_DAEMON=1 makes this a failure")
	}
	opened = true
	b, err := shared()
	if err != nil && !required {
		tb.Skipf("the test bench cannot be prepared: %v", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("end of buildkitd's log:\n%s", b.Node.process.tail())
		}
	})
	return &Sandbox{Bench: b, namespace: namespace(tb.Name())}
}

// Main runs a package's tests and ends the bench that they shared. It returns the exit code.
func Main(m *testing.M) int {
	code := m.Run()
	if !opened {
		return code
	}
	if b, err := shared(); err == nil {
		if err := b.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "sandbox:", err)
			return max(code, 1)
		}
	}
	return code
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// namespace makes a repository prefix of a test's name that no other run has.
func namespace(test string) string {
	b := make([]byte, 4)
	_, _ = rand.Read(b)
	return strings.Trim(notInName.ReplaceAllString(strings.ToLower(test), "-"), "-") + "-" + hex.EncodeToString(b)
}

// Repo returns the prefix of the test's own repositories, "127.0.0.1:PORT/NAMESPACE".
func (s *Sandbox) Repo() string { return s.Registry.Addr + "/" + s.namespace }

// Ref returns a reference in the test's own namespace: Ref("app:1.0").
func (s *Sandbox) Ref(name string) string { return s.Repo() + "/" + name }
