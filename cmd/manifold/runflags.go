package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/go-units"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/moby/buildkit/util/gitutil"
	"github.com/spf13/pflag"

	"github.com/manifold-build/manifold/builder"
)

// runFlags say how RUN instructions are run. They are those of docker buildx build.
type runFlags struct {
	network      string
	addHosts     []string
	shmSize      string
	ulimits      []string
	cgroupParent string
	allow        []string
	resources    []string
}

func (f *runFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.network, "network", "default", "network of RUN instructions: default, none or host")
	fs.StringSliceVar(&f.addHosts, "add-host", nil, "a host and its address for RUN instructions, host:ip")
	fs.StringVar(&f.shmSize, "shm-size", "", "size of /dev/shm for RUN instructions, for example 128m")
	fs.StringArrayVar(&f.ulimits, "ulimit", nil, "limit of RUN instructions, for example nofile=1024:2048")
	fs.StringVar(&f.cgroupParent, "cgroup-parent", "", "parent cgroup of RUN instructions")
	fs.StringArrayVar(&f.resources, "resource", nil, "limit of what RUN instructions take, for example memory=2g or cpuset-cpus=0-1")
	fs.StringArrayVar(&f.allow, "allow", nil, "what the Dockerfile may ask for: network.host, security.insecure or device")
}

// write puts the flags into the request: the options are those of BuildKit's Dockerfile frontend.
func (f *runFlags) write(r *builder.Request) error {
	opts := map[string]string{}
	r.Allow = slices.Clone(f.allow)
	for _, name := range f.allow {
		if _, _, err := entitlements.Parse(name); err != nil {
			return fmt.Errorf("--allow %s: it is network.host, security.insecure or device", name)
		}
	}
	switch f.network {
	case "", "default":
	case "none":
		opts["force-network-mode"] = f.network
	case "host":
		opts["force-network-mode"] = f.network
		r.Allow = append(r.Allow, entitlements.EntitlementNetworkHost.String())
	default:
		return fmt.Errorf("--network %s: it is default, none or host; other networks are the node's", f.network)
	}
	var hosts []string
	for _, h := range f.addHosts {
		name, addr, ok := strings.Cut(h, "=")
		if !ok {
			name, addr, ok = strings.Cut(h, ":")
		}
		addr = strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]")
		switch {
		case addr == "host-gateway":
			return fmt.Errorf("--add-host %s: a BuildKit has no host-gateway, give the address", h)
		case !ok || name == "" || net.ParseIP(addr) == nil:
			return fmt.Errorf("--add-host %s: it is written host:ip", h)
		}
		hosts = append(hosts, name+"="+addr)
	}
	if hosts != nil {
		opts["add-hosts"] = strings.Join(hosts, ",")
	}
	if f.shmSize != "" {
		n, err := units.RAMInBytes(f.shmSize)
		if err != nil || n < 0 {
			return fmt.Errorf("--shm-size %s: it is a size, as 128m", f.shmSize)
		}
		opts["shm-size"] = strconv.FormatInt(n, 10)
	}
	var limits []string
	for _, v := range f.ulimits {
		limit, err := units.ParseUlimit(v)
		if err != nil {
			return fmt.Errorf("--ulimit %s: %w", v, err)
		}
		limits = append(limits, limit.String())
	}
	if limits != nil {
		opts["ulimit"] = strings.Join(limits, ",")
	}
	if f.cgroupParent != "" {
		opts["cgroup-parent"] = f.cgroupParent
	}
	for _, v := range f.resources {
		if err := resource(opts, v); err != nil {
			return fmt.Errorf("--resource %s: %w", v, err)
		}
	}
	if len(opts) > 0 {
		if r.Options == nil {
			r.Options = map[string]string{}
		}
		maps.Copy(r.Options, opts)
	}
	return nil
}

// resourceKeys are the options of BuildKit's Dockerfile frontend for what docker run's flags of these names limit.
var resourceKeys = map[string]string{
	"memory": "memory", "memory-swap": "memswap", "cpu-shares": "cpushares", "cpu-period": "cpuperiod", "cpu-quota": "cpuquota", "cpuset-cpus": "cpusetcpus",
	"cpuset-mems": "cpusetmems",
}

// resource reads one limit.
func resource(opts map[string]string, v string) error {
	name, value, ok := strings.Cut(v, "=")
	key := resourceKeys[name]
	switch {
	case !ok || key == "" || value == "":
		return fmt.Errorf("it is one of %s and a value", strings.Join(slices.Sorted(maps.Keys(resourceKeys)), ", "))
	case strings.HasPrefix(name, "memory") && value != "-1":
		n, err := units.RAMInBytes(value)
		if err != nil {
			return err
		}
		value = strconv.FormatInt(n, 10)
	case strings.HasPrefix(name, "cpu-"):
		if _, err := strconv.ParseInt(value, 10, 64); err != nil {
			return fmt.Errorf("%q is no number", value)
		}
	}
	opts[key] = value
	return nil
}

// proxies are the build arguments that Docker's configuration has for every build, for those that are not given.
func proxies(args map[string]string) error {
	file, err := config.Load(config.Dir())
	if err != nil {
		return fmt.Errorf("docker's configuration: %w", err)
	}
	for name, value := range file.ParseProxyConfig("", nil) {
		if _, given := args[name]; !given && value != nil {
			args[name] = *value
		}
	}
	return nil
}

// isGitSSH reports whether a context is a git repository that is reached by ssh, for which the user's agent is offered.
func isGitSSH(context string) bool {
	u, err := gitutil.ParseURL(context)
	return err == nil && u.Scheme == gitutil.SSHProtocol
}

// called are the questions that --call asks, by what docker buildx build calls them.
var called = map[string]string{"check": "frontend.lint", "lint": "frontend.lint", "outline": "frontend.outline", "targets": "frontend.targets"}

// callOf reads --call and --check.
func callOf(call string, check bool) (request, form string, err error) {
	name, rest, _ := strings.Cut(call, ",")
	if check {
		if name != "" && name != "build" && called[name] != "frontend.lint" {
			return "", "", errors.New("--check is --call=check: give one of them")
		}
		name = "check"
	}
	if key, value, ok := strings.Cut(rest, "="); ok && key == "format" {
		form = value
	} else if rest != "" {
		return "", "", fmt.Errorf("--call %s: behind the comma is format=json", call)
	}
	if name == "" || name == "build" {
		return "", "", nil
	}
	request, ok := called[name]
	if !ok {
		return "", "", fmt.Errorf("--call %s: it is build, check, outline or targets", name)
	}
	return request, form, nil
}

// versionControl has provenance say which commit a folder holds, as docker buildx does. A folder that is no work tree of git's has none.
func versionControl(ctx context.Context, r *builder.Request) {
	if _, wanted := r.Attest["provenance"]; !wanted {
		return
	}
	if on, err := strconv.ParseBool(os.Getenv("BUILDX_GIT_INFO")); err == nil && !on {
		return
	}
	git := func(args ...string) string {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", r.Context}, args...)...).Output() //nolint:gosec // the user's context
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	root := git("rev-parse", "--show-toplevel")
	if root == "" {
		return
	}
	if r.Options == nil {
		r.Options = map[string]string{}
	}
	set := func(key, value string) {
		if value != "" {
			r.Options[key] = value
		}
	}
	set("vcs:revision", git("rev-parse", "HEAD"))
	remote := git("remote", "get-url", "origin")
	if u, err := url.Parse(remote); err == nil && u.User != nil {
		u.User = nil // a password is nobody's business
		remote = u.String()
	}
	set("vcs:source", remote)
	file := r.Context
	if r.Dockerfile != "" {
		file = filepath.Dir(r.Dockerfile)
	}
	for name, dir := range map[string]string{"context": r.Context, "dockerfile": file} {
		abs, err := filepath.EvalSymlinks(dir)
		if err == nil {
			abs, err = filepath.Abs(abs)
		}
		if rel, relErr := filepath.Rel(root, abs); err == nil && relErr == nil && !strings.HasPrefix(rel, "..") {
			set("vcs:localdir:"+name, filepath.ToSlash(rel))
		}
	}
}
