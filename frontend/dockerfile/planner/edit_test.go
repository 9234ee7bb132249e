package planner

import (
	"fmt"
	"strings"
	"testing"
)

// TestUnaccelerated takes away what an accelerated instruction has in the places where people read it: a step's name, a history, an error.
func TestUnaccelerated(t *testing.T) {
	mounts := accelerateMounts("build.platform/docker.io/library/golang:1.26", "")
	gcc := accelerateMounts("", "build.platform/manifold/toolchain/arm64/docker.io/library/debian:13")
	both := accelerateMounts("build.platform/docker.io/library/golang:1.26", "build.platform/manifold/toolchain/arm64/docker.io/library/golang:1.26")
	for name, tc := range map[string]struct{ text, want string }{
		"name":          {"[build 2/2] RUN " + mounts + " " + accelerate + "uname -m && go build", "[build 2/2] RUN uname -m && go build"},
		"gcc alone":     {"[build 2/2] RUN " + gcc + " " + accelerate + "make", "[build 2/2] RUN make"},
		"gcc and Go":    {"[build 2/2] RUN " + both + " " + accelerate + "go build", "[build 2/2] RUN go build"},
		"own mount":     {"RUN " + mounts + " --mount=type=cache,target=/c " + accelerate + "make", "RUN --mount=type=cache,target=/c make"},
		"history":       {"RUN /bin/sh -c " + accelerate + "make # buildkit", "RUN /bin/sh -c make # buildkit"},
		"exec, history": {"RUN " + strings.Join(accelerateWords, " ") + " go build # buildkit", "RUN go build # buildkit"},
		"error":         {fmt.Sprintf("process %q failed", "/bin/sh -c "+accelerate+"make"), `process "/bin/sh -c make" failed`},
		"somebody's own": {`RUN echo "--mount=type=bind,from=build.platform/x,target=/y" 'eval "$(env)"; '`,
			`RUN echo "--mount=type=bind,from=build.platform/x,target=/y" 'eval "$(env)"; '`},
	} {
		if got := Unaccelerated(tc.text); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
