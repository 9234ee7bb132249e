package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/cli/cli/config"

	"github.com/manifold-build/manifold/internal/buildx"
	"github.com/manifold-build/manifold/internal/nearest"
	"github.com/manifold-build/manifold/platforms"
)

// FindNodes explains builders as people name them: an address (see [ParseNode]), or the name of one that docker buildx keeps or of a Docker context.
// Without any it is what $BUILDX_BUILDER names, else $BUILDKIT_HOST, else what docker buildx use selected; nil if there is none of these. A builder
// may have several nodes: one of buildx's driver kubernetes has as many as it has pods that are ready.
func FindNodes(ctx context.Context, names []string) ([]NodeConfig, error) {
	store := buildx.Open(config.Dir())
	if len(names) == 0 {
		switch name, host := os.Getenv("BUILDX_BUILDER"), os.Getenv("BUILDKIT_HOST"); {
		case name != "":
			names = []string{name}
		case host != "":
			names = []string{host}
		default:
			current, err := store.Current()
			if err != nil || current == "" {
				return nil, err
			}
			names = []string{current}
		}
	}
	var out []NodeConfig
	for _, name := range names {
		c, ok, err := ParseNode(name)
		if err != nil {
			return nil, err
		}
		found := []NodeConfig{c}
		if !ok {
			if found, err = named(ctx, store, name); err != nil {
				return nil, err
			}
		}
		for _, c := range found {
			if slices.ContainsFunc(out, func(o NodeConfig) bool { return o.name() == c.name() }) {
				return nil, fmt.Errorf("two nodes are called %s: give one another name, --builder NAME=ADDRESS", c.name())
			}
			out = append(out, c)
		}
	}
	return out, nil
}

// named are the nodes of a builder of buildx's.
func named(ctx context.Context, store buildx.Store, name string) ([]NodeConfig, error) {
	b, err := store.Builder(name)
	if errors.Is(err, buildx.ErrNotFound) {
		if isDockerContext(name) {
			return []NodeConfig{{Name: name, Command: dialStdio(name, ""), Boot: nil}}, nil
		}
		return nil, unknownBuilder(store, name)
	}
	if err != nil {
		return nil, err
	}
	var out []NodeConfig
	for _, n := range b.Nodes {
		c := NodeConfig{Name: n.Name}
		for _, p := range n.Platforms {
			c.Platforms = append(c.Platforms, platforms.FromOCI(p))
		}
		switch b.Driver {
		case buildx.Remote:
			c.Address, c.CA, c.Cert, c.Key, c.ServerName = n.Endpoint, n.DriverOpts["cacert"], n.DriverOpts["cert"], n.DriverOpts["key"], n.DriverOpts["servername"]
			if err := errors.Join(checkAddress(c.Address), c.checkTLS()); err != nil {
				return nil, fmt.Errorf("buildx's builder %s, node %s: %w", name, n.Name, err)
			}
		case buildx.DockerContainer:
			container(&c, b.Name, n)
		case buildx.Kubernetes:
			pods, err := deployed(ctx, b.Name, n)
			if err != nil {
				return nil, &said{fmt.Sprintf("buildx's builder %s, node %s: %v", name, n.Name, err), ErrUnreachable}
			}
			out = append(out, pods...)
			continue
		default:
			if len(b.Nodes) == 1 || len(c.Platforms) == 0 {
				// Which of several it is only buildx knows: without a platform it takes its first.
				return append(out, NodeConfig{Name: b.Name, Command: dialStdio(b.Name, "")}), nil
			}
			c.Command = dialStdio(b.Name, c.Platforms[0].String())
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("buildx's builder %s has no node", name)
	}
	return out, nil
}

// dialStdio is how buildx itself reaches a builder, whatever its driver: the node that it would build a platform on, its first one if that is empty.
func dialStdio(name, platform string) []string {
	out := []string{"docker", "buildx", "dial-stdio", "--builder", name}
	if platform != "" {
		out = append(out, "--platform", platform)
	}
	return out
}

func bootstrap(name string) []string {
	return []string{"docker", "buildx", "inspect", "--bootstrap", name}
}

// containerPrefix begins the names of buildx's containers and deployments.
const containerPrefix = "buildx_buildkit_"

// container reaches a node of the driver docker-container. Its endpoint is a Docker context, or the address of a daemon.
func container(c *NodeConfig, builder string, n buildx.Node) {
	u := url.URL{Scheme: "docker-container", Host: containerPrefix + n.Name}
	switch {
	case strings.Contains(n.Endpoint, "://"):
		u.RawQuery = url.Values{"host": {n.Endpoint}}.Encode()
		c.Command = []string{"docker", "--host", n.Endpoint, "exec", "-i", u.Host, "buildctl", "dial-stdio"}
	case n.Endpoint != "" && n.Endpoint != "default":
		u.RawQuery = url.Values{"context": {n.Endpoint}}.Encode()
	}
	c.Address, c.Boot = u.String(), bootstrap(builder)
}

// deployed are the pods of a node of the driver kubernetes that are ready, each a node of its own. Where none is, buildx starts the deployment.
func deployed(ctx context.Context, builder string, n buildx.Node) ([]NodeConfig, error) {
	app := strings.ReplaceAll(n.Name, "_", "-")
	flags := url.Values{}
	if u, err := url.Parse(n.Endpoint); err == nil && u.Query().Get("kubeconfig") != "" {
		flags.Set("kubeconfig", u.Query().Get("kubeconfig"))
	} else if err == nil && u.Scheme == "" && n.Endpoint != "" && n.Endpoint != "default" {
		flags.Set("context", n.Endpoint)
	}
	if ns := n.DriverOpts["namespace"]; ns != "" {
		flags.Set("namespace", ns)
	}
	list, err := readyPods(ctx, flags, "app="+app)
	if err == nil && len(list) == 0 {
		boot := bootstrap(builder)
		if out, bootErr := exec.CommandContext(ctx, boot[0], boot[1:]...).CombinedOutput(); bootErr != nil { //nolint:gosec // buildx
			return nil, fmt.Errorf("no pod of deployment %s is ready; %s: %w: %s", app, strings.Join(boot, " "), bootErr, strings.TrimSpace(string(out)))
		}
		list, err = readyPods(ctx, flags, "app="+app)
	}
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no pod of deployment %s is ready: look at kubectl get pods -l app=%s", app, app)
	}
	var out []NodeConfig
	for _, p := range list {
		out = append(out, p.config(flags))
	}
	return out, nil
}

// readyPods asks a cluster for the pods that are selected and take connections.
func readyPods(ctx context.Context, flags url.Values, selector string) ([]pod, error) {
	u := url.URL{RawQuery: flags.Encode()}
	args := append(flagsOf(&u, kubeFlags...), "get", "pods", "--selector", selector, "-o", "json")
	out, err := exec.CommandContext(ctx, "kubectl", args...).Output() //nolint:gosec // the store's own words
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, fmt.Errorf("kubectl get pods: %s", strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return nil, fmt.Errorf("asking the cluster for its pods: %w", err)
	}
	var list struct {
		Items []pod `json:"items"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("kubectl get pods: %w", err)
	}
	return slices.DeleteFunc(list.Items, func(p pod) bool { return !p.ready() }), nil
}

func (p *pod) ready() bool {
	if p.Metadata.DeletionTimestamp != "" || p.Status.Phase != "Running" || len(p.Spec.Containers) == 0 {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

// config is how the pod is reached.
func (p *pod) config(flags url.Values) NodeConfig {
	q := url.Values{"namespace": {p.Metadata.Namespace}, "container": {p.Spec.Containers[0].Name}}
	for _, key := range []string{"context", "kubeconfig"} {
		if v := flags.Get(key); v != "" {
			q.Set(key, v)
		}
	}
	u := url.URL{Scheme: "kube-pod", Host: p.Metadata.Name, RawQuery: q.Encode()}
	c := NodeConfig{Name: p.Metadata.Name, Address: u.String()}
	if q.Get("kubeconfig") != "" { // the address has no word for it
		c.Command = append(append([]string{"kubectl"}, flagsOf(&u, kubeFlags...)...),
			"exec", "--container="+q.Get("container"), "-i", p.Metadata.Name, "--", "buildctl", "dial-stdio")
	}
	return c
}

// isDockerContext reports whether Docker has a context of that name.
func isDockerContext(name string) bool {
	return name == "default" || slices.Contains(dockerContexts(), name)
}

// dockerContexts lists Docker's contexts, as its store has them: contexts/meta/*/meta.json.
func dockerContexts() []string {
	files, err := filepath.Glob(filepath.Join(config.Dir(), "contexts", "meta", "*", "meta.json"))
	if err != nil {
		return nil
	}
	var out []string
	for _, f := range files {
		var meta struct {
			Name string `json:"Name"`
		}
		if dt, err := os.ReadFile(f); err == nil && json.Unmarshal(dt, &meta) == nil { //nolint:gosec // the user's own
			out = append(out, meta.Name)
		}
	}
	return out
}

// unknownBuilder says which builders there are.
func unknownBuilder(store buildx.Store, name string) error {
	names, err := store.Names()
	if err != nil {
		return err
	}
	names = append(names, dockerContexts()...)
	msg := fmt.Sprintf("there is no builder %s: it is neither an address, as unix:///run/buildkit/buildkitd.sock is, nor one of docker buildx ls", name)
	if near := nearest.Name(name, names); near != "" {
		return fmt.Errorf("%s; did you mean %q?", msg, near)
	}
	if len(names) > 0 {
		msg += " (" + strings.Join(names, ", ") + ")"
	}
	return errors.New(msg)
}
