// Package buildx reads the builders that docker buildx keeps in a folder: which there are, how each node of one is reached, and which one is in use.
// Nothing is written, and nothing of buildx itself is needed.
package buildx

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Drivers that nodes are reached by without buildx, as buildx names them.
const (
	DockerContainer = "docker-container"
	Kubernetes      = "kubernetes"
	Remote          = "remote"
)

// Builder is what buildx calls a builder instance.
type Builder struct {
	Name   string `json:"Name"`
	Driver string `json:"Driver"`
	Nodes  []Node `json:"Nodes"`
}

// Node is one BuildKit of a builder or, with the driver kubernetes, those of one deployment.
type Node struct {
	Name string `json:"Name"`
	// Endpoint is what the driver reaches it by: a Docker context, the address of a Docker daemon or, for the driver remote, of the BuildKit itself.
	Endpoint string `json:"Endpoint"`
	// Platforms are what it is to be preferred for. Nil means that nobody said so.
	Platforms []ocispec.Platform `json:"Platforms"`
	// DriverOpts are the driver's own settings.
	DriverOpts map[string]string `json:"DriverOpts"`
}

// Store is the folder that buildx keeps its builders in.
type Store struct {
	dir string
	// config is Docker's own folder.
	config string
}

// Open is the store of the user, by the same rules as buildx: $BUILDX_CONFIG, else the folder buildx in Docker's configuration, which is in
// dockerConfig. Nothing need be there.
func Open(dockerConfig string) Store {
	dir := os.Getenv("BUILDX_CONFIG")
	if dir == "" {
		dir = filepath.Join(dockerConfig, "buildx")
	}
	return Store{dir: dir, config: dockerConfig}
}

// ErrNotFound is wrapped by the error for a builder that the store does not hold.
var ErrNotFound = errors.New("no such builder")

// name is how buildx lets builders be called (its store.ValidateName, which also writes them in lower case).
var name = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9.\-_]*$`)

// maxFile bounds what is read of a file, in bytes. A builder holds its configuration files.
const maxFile = 16 << 20

// Builder reads a builder.
func (s Store) Builder(called string) (Builder, error) {
	if !name.MatchString(called) {
		return Builder{}, fmt.Errorf("%w: %q cannot be the name of one", ErrNotFound, called)
	}
	at := filepath.Join(s.dir, "instances", strings.ToLower(called))
	dt, err := read(at)
	if errors.Is(err, fs.ErrNotExist) {
		return Builder{}, fmt.Errorf("%w: %s", ErrNotFound, called)
	}
	if err != nil {
		return Builder{}, err
	}
	var b Builder
	if err := json.Unmarshal(dt, &b); err != nil {
		return Builder{}, fmt.Errorf("buildx's builder %s (%s): %w", called, at, err)
	}
	return b, nil
}

// Names lists the builders, by name.
func (s Store) Names() ([]string, error) {
	list, err := os.ReadDir(filepath.Join(s.dir, "instances"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range list {
		if name.MatchString(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, err
}

// selected is buildx's record of the builder in use.
type selected struct {
	// Key is the Docker endpoint that it was selected for; Global says that it is for all.
	Key    string `json:"Key"`
	Name   string `json:"Name"`
	Global bool   `json:"Global"`
}

// Current is the name of the builder that docker buildx use selected; empty if none is: then buildx uses Docker's own BuildKit.
func (s Store) Current() (string, error) {
	key, err := s.endpoint()
	if err != nil {
		return "", err
	}
	dt, err := read(filepath.Join(s.dir, "current"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var c selected
	if err == nil {
		if err := json.Unmarshal(dt, &c); err != nil {
			return "", fmt.Errorf("%s: %w", filepath.Join(s.dir, "current"), err)
		}
	}
	if c.Name != "" && (c.Global || c.Key == key) && s.has(c.Name) {
		return c.Name, nil
	}
	if c.Name != "" && c.Key == key {
		return "", nil
	}
	// The one that was made the default of the endpoint.
	sum := sha256.Sum256([]byte(key))
	dt, err = read(filepath.Join(s.dir, "defaults", hex.EncodeToString(sum[:])[:20]))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err == nil && s.has(string(dt)) {
		return string(dt), nil
	}
	return "", err
}

func (s Store) has(called string) bool {
	_, err := s.Builder(called)
	return err == nil
}

// endpoint is the Docker endpoint in use, as buildx keys it: the name of the context, or the daemon's address for the default one.
func (s Store) endpoint() (string, error) {
	const defaultContext, defaultHost = "default", "unix:///var/run/docker.sock"
	host := os.Getenv("DOCKER_HOST")
	context := os.Getenv("DOCKER_CONTEXT")
	if context == "" && host == "" {
		dt, err := read(filepath.Join(s.config, "config.json"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		var c struct {
			CurrentContext string `json:"currentContext"`
		}
		if err == nil {
			if err := json.Unmarshal(dt, &c); err != nil {
				return "", fmt.Errorf("%s: %w", filepath.Join(s.config, "config.json"), err)
			}
		}
		context = c.CurrentContext
	}
	switch { // as Docker's own command ranks them
	case host != "":
		return host, nil
	case context != "" && context != defaultContext:
		return context, nil
	}
	return defaultHost, nil
}

func read(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s is larger than %d MiB", file, maxFile>>20)
	}
	return os.ReadFile(file) //nolint:gosec // below the user's own configuration
}
