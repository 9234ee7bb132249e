package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// pluginPrefix begins the name of a program that Docker's command takes for a plugin of its own, in a folder cli-plugins.
const pluginPrefix = "docker-"

// isPlugin reports whether the program is called as Docker's plugins are.
func isPlugin(program string) bool {
	return strings.TrimSuffix(filepath.Base(program), ".exe") == pluginPrefix+"manifold"
}

// pluginArgs are the arguments that the plugin was given: Docker's own flags come first, then the plugin's name. Those that select a Docker are put where
// Docker's programs look for them.
func pluginArgs(args []string) ([]string, error) {
	i := slices.Index(args, "manifold")
	if i < 0 {
		return args, nil // the question about its metadata, or a call by hand
	}
	variables := map[string]string{"--context": "DOCKER_CONTEXT", "-c": "DOCKER_CONTEXT", "--host": "DOCKER_HOST", "-H": "DOCKER_HOST", "--config": "DOCKER_CONFIG"}
	for k := 0; k < i; k++ {
		name, value, joined := strings.Cut(args[k], "=")
		variable, ok := variables[name]
		if !ok {
			continue
		}
		if !joined {
			k++
			value = args[k]
		}
		if err := os.Setenv(variable, value); err != nil {
			return nil, err
		}
	}
	return args[i+1:], nil
}

// pluginCommand answers what Docker asks of a plugin: https://github.com/docker/cli/blob/master/cli-plugins/metadata/metadata.go
func pluginCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use: "docker-cli-plugin-metadata", Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			dt, err := json.Marshal(map[string]string{
				"SchemaVersion": "0.1.0", "Vendor": "Manifold", "Version": version, "ShortDescription": "One Dockerfile in, one multi-platform image out",
				"URL": "https://github.com/manifold-build/manifold",
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(s.out, string(dt))
			return err
		},
	}
}
