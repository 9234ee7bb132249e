package index

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/cli/cli/config"
)

// TestStoredCredentials finds what docker login stored before what podman login did, in each of the places.
func TestStoredCredentials(t *testing.T) {
	auths := func(list map[string]string) string {
		var entries []string
		for host, user := range list {
			entries = append(entries, fmt.Sprintf(`%q: {"auth": %q}`, host, base64.StdEncoding.EncodeToString([]byte(user+":secret"))))
		}
		return `{"auths": {` + strings.Join(entries, ", ") + "}}"
	}
	docker, runtime, home := t.TempDir(), t.TempDir(), t.TempDir()
	was := config.Dir()
	config.SetDir(docker)
	t.Cleanup(func() { config.SetDir(was) })
	t.Setenv("XDG_RUNTIME_DIR", runtime)
	t.Setenv("XDG_CONFIG_HOME", home)
	t.Setenv("REGISTRY_AUTH_FILE", "")
	for name, text := range map[string]string{
		filepath.Join(docker, "config.json"):                 auths(map[string]string{"a.test": "docker", dockerHub: "hub"}),
		filepath.Join(runtime, "containers", "auth.json"):    auths(map[string]string{"a.test": "podman", "b.test": "podman"}),
		filepath.Join(home, "containers", "auth.json"):       auths(map[string]string{"b.test": "config", "c.test": "config"}),
		filepath.Join(home, "elsewhere", "credentials.json"): auths(map[string]string{"b.test": "named", "docker.io": "named"}),
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check := func(want map[string]string) {
		t.Helper()
		for host, user := range want {
			got, secret, err := storedCredentials(host)
			if err != nil || got != user || (secret == "secret") != (user != "") {
				t.Errorf("%s: %q %q %v, want %q", host, got, secret, err, user)
			}
		}
	}
	check(map[string]string{"a.test": "docker", "b.test": "podman", "c.test": "config", "d.test": "", "docker.io": "hub", "registry-1.docker.io": "hub"})
	t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(home, "elsewhere", "credentials.json"))
	check(map[string]string{"a.test": "docker", "b.test": "named", "c.test": "", "docker.io": "hub"})
	if err := os.WriteFile(filepath.Join(home, "elsewhere", "credentials.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := storedCredentials("b.test"); err == nil {
		t.Error("a file that is cut off is no error")
	}
}
