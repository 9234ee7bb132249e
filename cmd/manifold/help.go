package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/console"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/manifold-build/manifold/internal/nearest"
)

// flagGroup is a heading of the help and the flags under it.
type flagGroup struct {
	title string
	names []string
}

// flagGroups are the headings, for every command that has some of their flags. What is in none is under "Flags".
var flagGroups = []flagGroup{
	{"What is built", []string{"platform", "file", "target", "build-arg", "build-context", "label", "secret", "ssh", "pull"}},
	{"How it is built", []string{
		"strategy", "accelerate", "toolchains", "cache-mounts", "max-parallelism", "no-cache", "no-cache-filter", "network", "add-host", "shm-size", "ulimit", "cgroup-parent",
		"resource", "allow",
	}},
	{"Where it is built", []string{"builder", "node-for", "optional", "fail-fast", "keep-going"}},
	{"What it has to pass", []string{"verify", "verify-except", "test", "expect", "if-digest"}},
	{"Where it goes", []string{"tag", "target-tag", "push", "load", "output", "annotation", "attest", "sbom", "provenance", "metadata-file", "iidfile"}},
	{"Caches", []string{"cache", "cache-from", "cache-to"}},
	{"Sources", []string{"spec", "template", "annotate", "fix-config", "media-type", "ignore-missing"}},
	{"Changing an index", []string{"append", "remove", "replace"}},
	{"What is shown", []string{"progress", "quiet", "dry-run", "check", "call", "debug", "format"}},
	{"Registries", []string{"insecure", "plain-http", "certs-dir", "trusted-host"}},
}

// usualWidth is that of a help which is not read in a terminal.
const usualWidth = 100

// helpWidth is that of the terminal, if there is one.
var helpWidth = func() int {
	if c, err := console.ConsoleFromFile(os.Stdout); err == nil {
		if size, err := c.Size(); err == nil && size.Width > 0 {
			return int(size.Width)
		}
	}
	return usualWidth
}

// groupedFlags prints a command's flags under their headings.
func groupedFlags(cmd *cobra.Command) string {
	width := helpWidth()
	left := map[string]*pflag.Flag{}
	var order []string
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			left[f.Name] = f
			order = append(order, f.Name)
		}
	})
	var out strings.Builder
	group := func(title string, names []string) {
		set := pflag.NewFlagSet(title, pflag.ContinueOnError)
		set.SortFlags = false
		for _, name := range names {
			if f := left[name]; f != nil {
				set.AddFlag(f)
				delete(left, name)
			}
		}
		if set.HasFlags() {
			fmt.Fprintf(&out, "\n%s:\n%s", title, set.FlagUsagesWrapped(width))
		}
	}
	if len(order) > 8 {
		for _, g := range flagGroups {
			group(g.title, g.names)
		}
	}
	group("Flags", order)
	return out.String()
}

// usageTemplate is cobra's with grouped flags and an example.
const usageTemplate = `Usage:
  {{.UseLine}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} [command]{{end}}{{if .Aliases}}

Aliases: {{.NameAndAliases}}{{end}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{if .HasAvailableSubCommands}}{{$cmds := .Commands}}{{range $group := .Groups}}

{{.Title}}{{range $cmds}}{{if (and (eq .GroupID $group.ID) .IsAvailableCommand)}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}

Other commands:{{range $cmds}}{{if (and (eq .GroupID "") (or .IsAvailableCommand (eq .Name "help")))}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}
{{grouped .}}{{if .HasAvailableSubCommands}}
{{.CommandPath}} [command] --help says more of a command.
{{end}}`

// setHelp gives all commands their help.
func setHelp(root *cobra.Command) {
	cobra.AddTemplateFunc("grouped", groupedFlags)
	root.SetUsageTemplate(usageTemplate)
}

// suggestFlag adds the flag that was probably meant.
func suggestFlag(cmd *cobra.Command, err error) error {
	name, ok := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !ok {
		return errors.New(err.Error() + "; see " + cmd.CommandPath() + " --help")
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	slices.Sort(names)
	near := nearest.Name(name, names)
	if near == "" {
		for _, n := range names {
			if len(name) > 2 && (strings.HasPrefix(n, name) || strings.HasPrefix(name, n+"-")) {
				near = n
				break
			}
		}
	}
	if near == "" {
		return fmt.Errorf("unknown flag --%s; see %s --help", name, cmd.CommandPath())
	}
	return fmt.Errorf("unknown flag --%s; did you mean --%s?", name, near)
}
