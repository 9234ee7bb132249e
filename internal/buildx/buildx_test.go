package buildx

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// store writes files below a Docker configuration.
func store(t *testing.T, files map[string]string) Store {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"BUILDX_CONFIG", "DOCKER_HOST", "DOCKER_CONTEXT"} {
		t.Setenv(name, "")
	}
	return Open(dir)
}

const (
	here  = "unix:///var/run/docker.sock"
	there = "tcp://10.0.0.2:2375"
)

// TestCurrent holds the rules by which buildx finds the builder in use (its store.Txn.Current).
func TestCurrent(t *testing.T) {
	builder := `{"Name":"ci.arm","Driver":"remote","Nodes":[{"Name":"ci.arm0","Endpoint":"tcp://h:1","Platforms":[{"architecture":"arm64","os":"linux"}],"DriverOpts":{"cacert":"/ca"},"Flags":null,"Files":null}],"Dynamic":false}`
	sum := sha256.Sum256([]byte(here))
	byDefault := "buildx/defaults/" + hex.EncodeToString(sum[:])[:20]
	for name, tc := range map[string]struct {
		current, config, host, context, fallback string
		want                                     string
	}{
		"nothing":                          {},
		"selected here":                    {current: `{"Key":"` + here + `","Name":"ci.arm"}`, want: "ci.arm"},
		"selected elsewhere":               {current: `{"Key":"` + there + `","Name":"ci.arm"}`},
		"there":                            {current: `{"Key":"` + there + `","Name":"ci.arm"}`, host: there, want: "ci.arm"},
		"global":                           {current: `{"Key":"` + there + `","Name":"ci.arm","Global":true}`, want: "ci.arm"},
		"gone":                             {current: `{"Key":"` + here + `","Name":"gone"}`},
		"for a context":                    {current: `{"Key":"mine","Name":"ci.arm"}`, config: `{"currentContext":"mine"}`, want: "ci.arm"},
		"for a context of the environment": {current: `{"Key":"mine","Name":"ci.arm"}`, context: "mine", want: "ci.arm"},
		"a host before a context":          {current: `{"Key":"mine","Name":"ci.arm"}`, context: "mine", host: there},
		"the default of the endpoint":      {current: `{"Key":"` + there + `","Name":""}`, fallback: "ci.arm", want: "ci.arm"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"buildx/instances/ci.arm": builder}
			for at, text := range map[string]string{"buildx/current": tc.current, "config.json": tc.config, byDefault: tc.fallback} {
				if text != "" {
					files[at] = text
				}
			}
			s := store(t, files)
			t.Setenv("DOCKER_HOST", tc.host)
			t.Setenv("DOCKER_CONTEXT", tc.context)
			got, err := s.Current()
			if err != nil || got != tc.want {
				t.Errorf("%q, %v; want %q", got, err, tc.want)
			}
		})
	}
	s := store(t, map[string]string{"buildx/instances/ci.arm": builder, "buildx/instances/bad": "{"})
	b, err := s.Builder("CI.arm")
	if err != nil || b.Driver != Remote || len(b.Nodes) != 1 || b.Nodes[0].Endpoint != "tcp://h:1" || b.Nodes[0].DriverOpts["cacert"] != "/ca" || b.Nodes[0].Platforms[0].Architecture != "arm64" {
		t.Errorf("%+v, %v", b, err)
	}
	for _, name := range []string{"none", "../instances/ci.arm", "", "unix://x"} {
		if _, err := s.Builder(name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := s.Builder("bad"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("a broken file: %v", err)
	}
}
