package index

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
)

// dockerHub is the key under which docker login stores the credentials of Docker Hub.
const dockerHub = "https://index.docker.io/v1/"

// storedCredentials reads what docker login stored for a host, or else podman login.
func storedCredentials(host string) (user, secret string, err error) {
	file, err := config.Load(config.Dir())
	if err != nil {
		return "", "", fmt.Errorf("credentials for %s: %w", host, err)
	}
	key := host
	if host == "registry-1.docker.io" || host == "docker.io" {
		host, key = "docker.io", dockerHub
	}
	if user, secret, err = credentialsIn(file, key); err != nil || user+secret != "" {
		return user, secret, err
	}
	for _, name := range podmanFiles() {
		file, err := podmanFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", "", fmt.Errorf("credentials for %s: %s: %w", host, name, err)
		}
		if user, secret, err = credentialsIn(file, host); err != nil || user+secret != "" {
			return user, secret, err
		}
	}
	return "", "", nil
}

func credentialsIn(file *configfile.ConfigFile, key string) (user, secret string, err error) {
	auth, err := file.GetAuthConfig(key)
	if err != nil {
		return "", "", fmt.Errorf("credentials for %s: %w", key, err)
	}
	if auth.IdentityToken != "" {
		return "", auth.IdentityToken, nil
	}
	return auth.Username, auth.Password, nil
}

// podmanFiles are where podman login stores credentials (containers-auth.json(5)), the first that counts first. They are written as Docker's are.
func podmanFiles() []string {
	if name := os.Getenv("REGISTRY_AUTH_FILE"); name != "" {
		return []string{name}
	}
	var out []string
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		out = append(out, filepath.Join(dir, "containers", "auth.json"))
	}
	if dir, err := os.UserConfigDir(); err == nil {
		out = append(out, filepath.Join(dir, "containers", "auth.json"))
	}
	return out
}

func podmanFile(name string) (_ *configfile.ConfigFile, err error) {
	f, err := os.Open(name) //nolint:gosec // the user names it
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	file := configfile.New(name)
	return file, file.LoadFromReader(f)
}
