package builder

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/buildkit/client/connhelper"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/manifold-build/manifold/platforms"
)

// NodeConfig says what a node is called and how it is reached.
type NodeConfig struct {
	// Name is what messages, tables and [Placement.Pins] call it. Empty means its address.
	Name string
	// Address is how it is reached, as buildctl's --addr spells it: unix://, tcp://, ssh://, docker-container://, podman-container://,
	// nerdctl-container://, kube-pod://. Empty means [DefaultAddress], unless there is a Command.
	Address string
	// CA, Cert and Key are PEM files for TLS: the authority that the node's certificate is held to, and what this side shows. ServerName is the name in
	// the node's certificate; empty means the address's host. Without a CA nothing is encrypted. They are for tcp:// alone.
	CA, Cert, Key, ServerName string
	// Command is a program that speaks with the BuildKit on its standard streams, used instead of what the address says. Nil means none.
	Command []string
	// Boot is a program that starts the BuildKit, for one that does not answer. Nil means that there is none.
	Boot []string
	// Platforms are those that the node is taken for before others that can do the same, also where it does not report them itself. Nil means none.
	Platforms []platforms.Platform
	// Max is how many targets the node builds at once. 0 leaves it to BuildKit.
	Max int
}

// name is what the node is called: what it was named, or the pod or container that its address names, or the address.
func (c NodeConfig) name() string {
	if u, err := url.Parse(c.Address); err == nil && c.Name == "" && u.Host != "" && (u.Scheme == "kube-pod" || strings.HasSuffix(u.Scheme, "-container")) {
		return u.Hostname()
	}
	return cmp.Or(c.Name, c.Address, DefaultAddress)
}

// ParseNode reads a node as --builder takes it: ADDRESS or NAME=ADDRESS, and settings behind commas: platforms=linux/arm64;linux/arm (or platforms=
// several times), max=N, ca=FILE, cert=FILE, key=FILE, servername=NAME. Ok is false for a name alone, which a store of builders explains: see [FindNodes].
func ParseNode(s string) (c NodeConfig, ok bool, err error) {
	fields, err := csvvalue.Fields(s, nil)
	if err != nil {
		return c, false, fmt.Errorf("builder %q: %w", s, err)
	}
	if !strings.Contains(fields[0], "://") {
		if name, value, has := strings.Cut(fields[0], "="); has {
			return c, false, fmt.Errorf("builder %q: %s=%s is no address, which begins as unix:///run/buildkit/buildkitd.sock or tcp://host:1234 do", s, name, value)
		}
		if len(fields) > 1 {
			return c, false, fmt.Errorf("builder %q: settings belong to an address; the builder %s has its own", s, fields[0])
		}
		return c, false, nil
	}
	c.Address = fields[0]
	if name, address, has := strings.Cut(fields[0], "="); has && !strings.Contains(name, "://") {
		if name == "" {
			return c, false, fmt.Errorf("builder %q: there is no name before the =", s)
		}
		c.Name, c.Address = name, address
	}
	if err := checkAddress(c.Address); err != nil {
		return c, false, fmt.Errorf("builder %q: %w", s, err)
	}
	for _, f := range fields[1:] {
		if err := c.set(f); err != nil {
			return c, false, fmt.Errorf("builder %q: %w", s, err)
		}
	}
	if err := c.checkTLS(); err != nil {
		return c, false, fmt.Errorf("builder %q: %w", s, err)
	}
	return c, true, nil
}

// set reads one setting.
func (c *NodeConfig) set(field string) error {
	key, value, _ := strings.Cut(field, "=")
	switch key {
	case "platforms", "platform":
		list, err := platforms.ParseList(strings.ReplaceAll(value, ";", ","))
		if err != nil {
			return err
		}
		c.Platforms = append(c.Platforms, list...)
	case "max":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return fmt.Errorf("max=%s is not how many targets are built at once, 1 or more", value)
		}
		c.Max = n
	case "ca", "cacert":
		c.CA = value
	case "cert":
		c.Cert = value
	case "key":
		c.Key = value
	case "servername":
		c.ServerName = value
	default:
		return fmt.Errorf("%s is none of the settings platforms, max, ca, cert, key, servername", key)
	}
	return nil
}

// checkTLS holds the files to each other.
func (c *NodeConfig) checkTLS() error {
	switch {
	case (c.Cert == "") != (c.Key == ""):
		return errors.New("cert and key go together")
	case c.CA == "" && (c.Cert != "" || c.ServerName != ""):
		return errors.New("ca is missing, the authority that the node's certificate is held to")
	case c.CA != "" && !strings.HasPrefix(c.Address, "tcp://"):
		return fmt.Errorf("ca, cert and key are for tcp://, not for %s", c.Address)
	}
	for _, f := range []*string{&c.CA, &c.Cert, &c.Key} {
		if *f == "" {
			continue
		}
		abs, err := filepath.Abs(*f)
		if err != nil {
			return err
		}
		*f = abs
	}
	return nil
}

// checkAddress says what is wrong with an address, if it can be said without dialling.
func checkAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	switch u.Scheme {
	case "unix", "npipe":
		if u.Path == "" && u.Host == "" {
			return fmt.Errorf("%s names no socket", address)
		}
		return nil
	case "tcp":
		if u.Port() == "" {
			return fmt.Errorf("%s names no port (BuildKit's is usually 1234)", address)
		}
		return nil
	}
	// The error is that of the scheme's own reader.
	helper, err := connhelper.GetConnectionHelper(address)
	if err == nil && helper == nil {
		err = fmt.Errorf("%s:// is none of unix, tcp, ssh, docker-container, podman-container, nerdctl-container, kube-pod", u.Scheme)
	}
	return err
}
