package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// bakeFile is what docker buildx bake --print says: groups, and targets whose variables, functions, matrixes and overrides are resolved.
type bakeFile struct {
	Group map[string]struct {
		Targets []string `json:"targets"`
	} `json:"group"`
	Target map[string]*bakeTarget `json:"target"`
}

// bakeTarget is one target, with the fields of buildx's package bake.
type bakeTarget struct {
	Context          string            `json:"context"`
	Contexts         map[string]string `json:"contexts"`
	Dockerfile       string            `json:"dockerfile"`
	DockerfileInline string            `json:"dockerfile-inline"`
	Args             map[string]string `json:"args"`
	Labels           map[string]string `json:"labels"`
	Annotations      []string          `json:"annotations"`
	Tags             []string          `json:"tags"`
	Target           string            `json:"target"`
	Platforms        []string          `json:"platforms"`
	CacheFrom        []csvEntry        `json:"cache-from"`
	CacheTo          []csvEntry        `json:"cache-to"`
	Secrets          []csvEntry        `json:"secret"`
	SSH              []csvEntry        `json:"ssh"`
	Outputs          []csvEntry        `json:"output"`
	Attest           []csvEntry        `json:"attest"`
	Pull             bool              `json:"pull"`
	NoCache          bool              `json:"no-cache"`
	NoCacheFilter    []string          `json:"no-cache-filter"`
	Network          string            `json:"network"`
	ShmSize          string            `json:"shm-size"`
	Ulimits          []string          `json:"ulimits"`
	ExtraHosts       map[string]string `json:"extra-hosts"`
	Entitlements     []string          `json:"entitlements"`
	Call             string            `json:"call"`
}

// csvEntry is a setting that flags spell with commas; bake prints it so, or as an object.
type csvEntry string

// UnmarshalJSON reads either form.
func (e *csvEntry) UnmarshalJSON(dt []byte) error {
	var s string
	if json.Unmarshal(dt, &s) == nil {
		*e = csvEntry(s)
		return nil
	}
	var fields map[string]any
	if err := json.Unmarshal(dt, &fields); err != nil {
		return err
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		field := fmt.Sprintf("%s=%v", name, fields[name])
		if strings.ContainsAny(field, ",\"\n") {
			field = `"` + strings.ReplaceAll(field, `"`, `""`) + `"`
		}
		out = append(out, field)
	}
	*e = csvEntry(strings.Join(out, ","))
	return nil
}

func entriesOf(list []csvEntry) []string {
	var out []string
	for _, e := range list {
		out = append(out, string(e))
	}
	return out
}

// readBake has buildx read bake files: it alone knows their languages.
func readBake(ctx context.Context, args []string) (bakeFile, error) {
	var out bakeFile
	command := []string{"docker", "buildx"}
	if exec.CommandContext(ctx, "docker", "buildx", "version").Run() != nil { // Docker without the plugin
		command = []string{"buildx"}
	}
	command = append(append(command, "bake", "--print"), args...)
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stderr = &said
	cmd.Env = append(os.Environ(), "BUILDKIT_PROGRESS=plain")
	dt, err := cmd.Output()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return out, errors.New("bake files are read by docker buildx, which is not installed: install it (https://github.com/docker/buildx), or build each target with manifold build")
	case err != nil:
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		if i := slices.IndexFunc(lines, func(l string) bool { return !strings.HasPrefix(l, "#") && l != "" }); i >= 0 {
			lines = lines[i:] // without its progress
		}
		return out, fmt.Errorf("%s: %s", strings.Join(command[:len(command)-len(args)], " "), strings.Join(lines, "\n"))
	}
	if err := json.Unmarshal(dt, &out); err != nil {
		return out, fmt.Errorf("what %s bake --print says is not read: %w", command[0], err)
	}
	return out, nil
}

// linked begins the value of a build context that is another target.
const linked = "target:"

// order lists the targets of the default group and those that they are made of, each behind what it is made of.
func (b bakeFile) order() (all []string, wanted map[string]bool, err error) {
	wanted = map[string]bool{}
	groups := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		if g, ok := b.Group[name]; ok && !groups[name] {
			groups[name] = true
			for _, t := range g.Targets {
				if err := add(t); err != nil {
					return err
				}
			}
			return nil
		}
		if b.Target[name] == nil {
			return fmt.Errorf("there is no target %s", name)
		}
		wanted[name] = true
		return nil
	}
	if err := add("default"); err != nil {
		return nil, nil, err
	}
	under := map[string]bool{}
	var visit func(name string) error
	visit = func(name string) error {
		t := b.Target[name]
		switch {
		case slices.Contains(all, name):
			return nil
		case t == nil:
			return fmt.Errorf("there is no target %s", name)
		case under[name]:
			return fmt.Errorf("target %s is made of itself", name)
		}
		under[name] = true
		for _, on := range t.linked() {
			if err := visit(on); err != nil {
				return err
			}
		}
		all = append(all, name)
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if err := visit(name); err != nil {
			return nil, nil, err
		}
	}
	return all, wanted, nil
}

// linked lists the targets that a target is made of.
func (t *bakeTarget) linked() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(t.Contexts)) {
		if on, ok := strings.CutPrefix(t.Contexts[name], linked); ok && !slices.Contains(out, on) {
			out = append(out, on)
		}
	}
	return out
}

// flags are the target as flags of manifold build, on top of those that all targets have. Inline Dockerfiles are written into a folder.
func (t *bakeTarget) flags(common buildFlags, dir string) (f buildFlags, context string, err error) {
	f, context = common, t.Context
	if context == "" {
		context = "."
	}
	f.platforms, f.tags, f.labels, f.annotations = t.Platforms, t.Tags, assigned(t.Labels), t.Annotations
	f.buildArgs, f.contexts = assigned(t.Args), assigned(t.Contexts)
	f.secrets, f.ssh, f.cacheFrom, f.cacheTo, f.attest = entriesOf(t.Secrets), entriesOf(t.SSH), entriesOf(t.CacheFrom), entriesOf(t.CacheTo), entriesOf(t.Attest)
	f.pull, f.noCache, f.noCacheStage = f.pull || t.Pull, f.noCache || t.NoCache, t.NoCacheFilter
	f.network, f.shmSize, f.ulimits, f.allow = t.Network, t.ShmSize, t.Ulimits, t.Entitlements
	for _, host := range slices.Sorted(maps.Keys(t.ExtraHosts)) {
		f.addHosts = append(f.addHosts, host+"="+t.ExtraHosts[host])
	}
	if t.Target != "" {
		f.stages = []string{t.Target}
	}
	for _, o := range entriesOf(t.Outputs) {
		if o != "type=cacheonly" {
			f.outputs = append(f.outputs, o)
		}
	}
	switch {
	case t.DockerfileInline != "":
		name := filepath.Join(dir, "Dockerfile")
		f.files = []string{name}
		err = os.WriteFile(name, []byte(t.DockerfileInline), 0o600)
	case t.Dockerfile != "" && t.Dockerfile != "Dockerfile":
		f.files = []string{t.Dockerfile}
		if info, statErr := os.Stat(context); statErr == nil && info.IsDir() && !filepath.IsAbs(t.Dockerfile) {
			f.files = []string{filepath.Join(context, t.Dockerfile)}
		}
	}
	if t.Call != "" && t.Call != "build" {
		err = errors.Join(err, fmt.Errorf("call = %q: ask docker buildx, or manifold build --call", t.Call))
	}
	return f, context, err
}

func assigned(m map[string]string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, name+"="+m[name])
	}
	return out
}
