package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionInfo is what "manifold version --format json" prints.
type versionInfo struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	BuildKit string `json:"buildkit"` // the version of its client
}

func versionCommand(s streams) *cobra.Command {
	form := formatTable
	cmd := &cobra.Command{
		Use: "version", Short: "Show the version, and of what it was built", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			out := versionInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, m := range info.Deps {
					if m.Path == "github.com/moby/buildkit" {
						out.BuildKit = m.Version
					}
				}
			}
			if form == formatJSON {
				return printJSON(s.out, out)
			}
			_, err := fmt.Fprintf(s.out, "manifold %s (%s, %s, BuildKit %s)\n", out.Version, out.Platform, out.Go, out.BuildKit)
			return err
		},
	}
	cmd.Flags().Var(&form, "format", "print a table or JSON")
	return cmd
}
