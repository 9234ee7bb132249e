package main

import (
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/spf13/cobra"

	"github.com/manifold-build/manifold/internal/buildx"
)

// values are what a shell offers for flags of a name.
var values = map[string][]string{
	"platform": {
		"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/386", "linux/ppc64le", "linux/s390x", "linux/riscv64", "linux/loong64", "linux/mips64le",
		"windows/amd64", "local",
	},
	"expect":       {"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/ppc64le", "linux/s390x", "linux/riscv64"},
	"strategy":     {"auto", "native", "cross", "accelerate", "emulate"},
	"verify":       {"strict", "warn", "off"},
	"accelerate":   {"auto", "off"},
	"cache-mounts": {"auto", "off"},
	"progress":     {"auto", "tty", "plain", "rawjson", "quiet"},
	"format":       {"table", "json"},
	"media-type":   {"auto", "oci", "docker"},
	"call":         {"build", "check", "outline", "targets"},
	"network":      {"default", "host", "none"},
	"output":       {"type=local,dest=", "type=tar,dest=", "type=oci,dest=", "type=docker,dest=", "type=registry", "type=image"},
	"attest":       {"type=sbom", "type=provenance,mode=max"},
}

// folders are the flags that name one.
var folders = map[string]bool{"certs-dir": true}

// files are the flags that name one.
var files = map[string]bool{"file": true, "spec": true, "metadata-file": true, "iidfile": true}

// complete has shells offer values. Of a list, the last one is completed.
func complete(cmd *cobra.Command) {
	offer := func(name string, list func() []string) {
		if cmd.Flags().Lookup(name) == nil {
			return
		}
		_ = cmd.RegisterFlagCompletionFunc(name, func(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) { // it is registered once
			before := begun[:strings.LastIndex(begun, ",")+1]
			var out []string
			for _, v := range list() {
				out = append(out, before+v)
			}
			directive := cobra.ShellCompDirectiveNoFileComp
			if before == "" && name == "output" || name == "platform" {
				directive |= cobra.ShellCompDirectiveNoSpace
			}
			return out, directive
		})
	}
	for name, list := range values {
		offer(name, func() []string { return list })
	}
	offer("builder", builders)
	for name := range folders {
		if cmd.Flags().Lookup(name) != nil {
			_ = cmd.MarkFlagDirname(name)
		}
	}
	for name := range files {
		if cmd.Flags().Lookup(name) != nil {
			_ = cmd.MarkFlagFilename(name)
		}
	}
	for _, c := range cmd.Commands() {
		complete(c)
	}
}

// builders lists what docker buildx keeps.
func builders() []string {
	names, err := buildx.Open(config.Dir()).Names()
	if err != nil {
		return nil
	}
	return names
}
