package frontend_test

import (
	"fmt"
	"io/fs"

	"github.com/manifold-build/manifold/frontend"
	"github.com/manifold-build/manifold/platforms"
)

// Without a node a plan says what would run where; what only a node can tell is left open.
func ExamplePlanOffline() {
	files := map[string]string{"Dockerfile": "FROM golang:1.26 AS build\nWORKDIR /src\nCOPY . .\nRUN go build -o /app .\nFROM scratch\nCOPY --from=build /app /app\n"}
	read := func(name string) ([]byte, error) {
		if text, ok := files[name]; ok {
			return []byte(text), nil
		}
		return nil, fs.ErrNotExist
	}
	plan, err := frontend.PlanOffline(map[string]string{"platform": "linux/arm64"}, platforms.Platform{OS: "linux", Architecture: "amd64"}, read, nil)
	fmt.Println(err)
	fmt.Print(string(plan.Table()))
	// Output:
	// <nil>
	// STAGE   LINE   TARGET        STRATEGY   REASON
	// build   1      linux/arm64   cross      go build: GOOS/GOARCH set at line 4 (open: [cgo])
	// 1       5      linux/arm64   -          nothing is run in it
}
