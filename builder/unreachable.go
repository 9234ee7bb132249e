package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// ErrNoBuildKit is wrapped by the error of [Dial] where nobody listens at the address, or nobody that this user may reach.
var ErrNoBuildKit = errors.New("nobody listens")

// ErrUnreachable is wrapped by the error of a node that cannot be reached or is too old, and where no private one can be started.
var ErrUnreachable = errors.New("no BuildKit can be used")

// unreachableError is a buildkitd that does not answer.
type unreachableError struct {
	name, cause, advice string
	none                bool // there is no socket, or nobody listens on it
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("no BuildKit answers at %s: %s: %s", e.name, e.cause, e.advice)
}

func (e *unreachableError) Is(target error) bool {
	return e.none && target == ErrNoBuildKit || target == ErrUnreachable
}

// unreachable says why a node does not answer, and what to do.
func (n *Node) unreachable(ctx context.Context, err error) error {
	out := &unreachableError{name: n.Name, cause: dialCause(err), none: nobodyListens.MatchString(err.Error())}
	if n.Name != n.Address {
		out.name = fmt.Sprintf("%s (%s)", n.Name, n.Address)
	}
	if last := n.line.last(); last != nil && !errors.Is(last, io.EOF) {
		out.cause = commandCause(last)
	}
	out.advice = n.advice(out.cause)
	if where := n.diagnose(context.WithoutCancel(ctx)); where != "" {
		out.cause += "; " + where
	}
	return out
}

// advice is the next thing to try.
func (n *Node) advice(cause string) string {
	const other = "or name another builder with --builder or BUILDKIT_HOST"
	u, _ := url.Parse(n.Address)
	switch scheme := n.scheme(); {
	case strings.Contains(cause, "executable file not found"):
		return fmt.Sprintf("install the program, which reaches %s, %s", n.Address, other)
	case scheme == "kube-pod":
		return fmt.Sprintf("look at kubectl get pods%[1]s, and whether this user may exec into them (kubectl auth can-i create pods/exec%[1]s), %[2]s", namespaceFlag(u), other)
	case strings.HasSuffix(scheme, "-container"):
		engine := strings.TrimSuffix(scheme, "-container")
		return fmt.Sprintf("look whether it runs with %s ps, start it with %s start %s, %s", engine, engine, u.Hostname(), other)
	case scheme == "ssh":
		port := ""
		if u.Port() != "" {
			port = "-p " + u.Port() + " "
		}
		if u.User.Username() != "" {
			port += u.User.Username() + "@"
		}
		return fmt.Sprintf("try ssh %s%s buildctl debug workers, %s", port, u.Hostname(), other)
	case scheme == "tcp" && n.config.CA == "" && strings.Contains(cause, "EOF"):
		return "if it speaks TLS only, name the files: NAME=ADDRESS,ca=FILE,cert=FILE,key=FILE"
	case len(n.config.Boot) > 0:
		return fmt.Sprintf("start it with %s, %s", strings.Join(n.config.Boot, " "), other)
	}
	return "start buildkitd there, or name another address with --builder or BUILDKIT_HOST"
}

// scheme is that of the address, empty for a node that a program reaches.
func (n *Node) scheme() string {
	if n.config.Address == "" && len(n.config.Command) > 0 {
		return ""
	}
	scheme, _, _ := strings.Cut(n.Address, "://")
	return scheme
}

func namespaceFlag(u *url.URL) string {
	if ns := u.Query().Get("namespace"); ns != "" {
		return " -n " + ns
	}
	return ""
}

// diagnoseWait bounds how long is waited for what a cluster says of a pod.
const diagnoseWait = 10 * time.Second

// diagnose is what the node's keeper says of it, if there is one: what became of a pod or a container. Empty means nothing that explains anything.
func (n *Node) diagnose(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, diagnoseWait)
	defer cancel()
	u, err := url.Parse(n.Address)
	if err != nil {
		return ""
	}
	switch scheme := n.scheme(); scheme {
	case "kube-pod":
		return podState(ctx, u)
	case "docker-container", "podman-container", "nerdctl-container":
		engine := strings.TrimSuffix(scheme, "-container")
		args := append(flagsOf(u, "context", "host"), "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}", u.Hostname())
		out, err := exec.CommandContext(ctx, engine, args...).Output() //nolint:gosec // by the scheme
		state := strings.Fields(string(out))
		switch {
		case err != nil || len(state) != 3 || state[0] == "running":
			return ""
		case state[2] == "true":
			return fmt.Sprintf("the container %s ran out of memory", u.Hostname())
		}
		return fmt.Sprintf("the container %s is %s (exit code %s)", u.Hostname(), state[0], state[1])
	}
	return ""
}

// pod is what matters here of a pod, as Kubernetes' API has it (core/v1 Pod).
type pod struct {
	Metadata struct {
		Name              string `json:"name"`
		Namespace         string `json:"namespace"`
		DeletionTimestamp string `json:"deletionTimestamp"`
	} `json:"metadata"`
	Spec struct {
		NodeName   string `json:"nodeName"`
		Containers []struct {
			Name string `json:"name"`
		} `json:"containers"`
	} `json:"spec"`
	Status struct {
		Phase      string `json:"phase"`
		Reason     string `json:"reason"`
		Message    string `json:"message"`
		Conditions []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
		} `json:"conditions"`
		ContainerStatuses []struct {
			Name      string        `json:"name"`
			State     terminatedPod `json:"state"`
			LastState terminatedPod `json:"lastState"`
		} `json:"containerStatuses"`
	} `json:"status"`
}

type terminatedPod struct {
	Terminated *struct {
		ExitCode int    `json:"exitCode"`
		Reason   string `json:"reason"`
	} `json:"terminated"`
	Waiting *struct {
		Reason string `json:"reason"`
	} `json:"waiting"`
}

// podState is what a cluster says of a pod that does not answer.
func podState(ctx context.Context, u *url.URL) string {
	args := append(flagsOf(u, kubeFlags...), "get", "pod", u.Hostname(), "-o", "json")
	out, err := exec.CommandContext(ctx, "kubectl", args...).Output() //nolint:gosec // the address's pod
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if strings.Contains(string(exit.Stderr), "NotFound") {
			return "there is no pod " + u.Hostname()
		}
		return ""
	}
	var p pod
	if err != nil || json.Unmarshal(out, &p) != nil {
		return ""
	}
	return p.state()
}

// state says what keeps a pod from answering; empty if nothing does.
func (p *pod) state() string {
	name := p.Metadata.Name
	for _, c := range p.Status.ContainerStatuses {
		for _, s := range []terminatedPod{c.State, c.LastState} {
			if t := s.Terminated; t != nil && t.Reason != "Completed" {
				return fmt.Sprintf("the container %s of pod %s ended: %s (exit code %d)", c.Name, name, t.Reason, t.ExitCode)
			}
			if w := s.Waiting; w != nil {
				return fmt.Sprintf("the container %s of pod %s waits: %s", c.Name, name, w.Reason)
			}
		}
	}
	switch {
	case p.Status.Reason != "":
		return fmt.Sprintf("pod %s: %s: %s", name, p.Status.Reason, p.Status.Message)
	case p.Metadata.DeletionTimestamp != "":
		return fmt.Sprintf("pod %s is being deleted", name)
	case p.Status.Phase != "" && p.Status.Phase != "Running":
		return fmt.Sprintf("pod %s is %s", name, p.Status.Phase)
	}
	return ""
}

// kubeFlags are the settings of an address kube-pod:// that are flags of kubectl too.
var kubeFlags = []string{"kubeconfig", "context", "namespace"}

// flagsOf writes settings of an address as flags.
func flagsOf(u *url.URL, keys ...string) []string {
	var out []string
	for _, key := range keys {
		if v := u.Query().Get(key); v != "" {
			out = append(out, "--"+key+"="+v)
		}
	}
	return out
}

// nobodyListens matches the errors of the operating system that say so, or that whoever listens is not for this user; gRPC passes on only their text.
var nobodyListens = regexp.MustCompile(`no such file or directory|connection refused|dial unix [^"]* permission denied`)

// dialDetail finds what the operating system said inside gRPC's wrapping of it.
var dialDetail = regexp.MustCompile(`dial (?:unix|tcp) [^"\\\n]*`)

// commandDetail finds what a program said that was to carry a connection, between what the library makes of it.
var commandDetail = regexp.MustCompile(`(?s)^command \[(\S+).*? has exited with (.*?), make sure the URL is valid.*?stderr=(.*)$`)

// logLine matches what kubectl's libraries log beside what it says itself (klog's header: severity, month, day).
var logLine = regexp.MustCompile(`^[IWEF]\d{4} `)

// commandCause is what a program said that was to carry a connection.
func commandCause(err error) string {
	m := commandDetail.FindStringSubmatch(err.Error())
	if m == nil {
		return err.Error()
	}
	var said []string
	for line := range strings.Lines(m[3]) {
		if line = strings.TrimSpace(line); line != "" && !logLine.MatchString(line) {
			said = append(said, line)
		}
	}
	if said == nil {
		said = []string{m[2]}
	}
	return m[1] + ": " + strings.Join(said, "; ")
}

// dialCause is the part of a connection error that a person can act on.
func dialCause(err error) string {
	msg := err.Error()
	if detail := dialDetail.FindString(msg); detail != "" {
		return strings.TrimRight(detail, `"`)
	}
	return msg
}
