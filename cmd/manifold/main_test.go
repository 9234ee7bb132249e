package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/internal/registrytest"
)

// asMain makes the test's own program the CLI.
const asMain = "MANIFOLD_TEST_AS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
	}
	os.Exit(m.Run())
}

// cli is a command of the CLI in a process of its own.
func cli(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), append([]string{asMain + "=1", "DOCKER_CONFIG=" + t.TempDir(), "XDG_CONFIG_HOME=" + t.TempDir()}, env...)...)
	return cmd
}

func putImage(r *registrytest.Registry, repo, tag, arch string) ocispec.Descriptor {
	config := registrytest.Encode(ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: arch}, RootFS: ocispec.RootFS{DiffIDs: []digest.Digest{digest.FromString(arch)}}})
	raw := registrytest.Encode(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: r.PutBlob(repo, ocispec.MediaTypeImageConfig, config), Layers: []ocispec.Descriptor{r.PutBlob(repo, ocispec.MediaTypeImageLayer, []byte(tag+arch))},
	})
	return r.PutManifest(repo, tag, ocispec.MediaTypeImageManifest, raw)
}

// TestKilled (14): the CLI is killed at each request in turn, before and after the registry has seen it. The tag is the old index or the complete new one,
// and running it again makes it the new one.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		for at := int64(1); ; at++ {
			if killedAt(t, at, after) {
				break
			}
		}
	}
}

// killedAt runs the CLI and kills it at a request. It reports whether there was no such request.
func killedAt(t *testing.T, at int64, after bool) bool {
	t.Helper()
	reg := registrytest.NewRegistry()
	var n atomic.Int64
	var running atomic.Pointer[os.Process]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := running.Load()
		kill := p != nil && n.Add(1) == at
		if !kill || after {
			reg.ServeHTTP(w, r)
		}
		if kill {
			_ = p.Kill()
		}
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	old := putImage(reg, "app", "1.0", "386").Digest
	args := []string{"create", "-q", "-t", host + "/app:1.0", "-t", host + "/app:latest"}
	for _, arch := range []string{"amd64", "arm64"} {
		putImage(reg, "part-"+arch, "1", arch)
		args = append(args, host+"/part-"+arch+":1")
	}
	cmd := cli(t, nil, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	running.Store(cmd.Process)
	err := cmd.Wait()
	killed := cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() //nolint:forcetypeassert // a Unix test
	if !killed && err != nil {
		t.Fatalf("request %d: %v", at, err)
	}
	check := func(tag string) digest.Digest {
		now := reg.Tag("app", tag)
		if now != "" && now != old {
			if err := reg.Complete("app", now); err != nil {
				t.Errorf("killed at request %d: %s: %v", at, tag, err)
			}
		}
		return now
	}
	check("1.0")
	check("latest")
	running.Store(nil)
	if out, err := cli(t, nil, args...).CombinedOutput(); err != nil {
		t.Errorf("run again after request %d: %v\n%s", at, err, out)
	}
	if a, b := check("1.0"), check("latest"); a != b || a == old {
		t.Errorf("run again after request %d: the tags name %s and %s", at, a, b)
	}
	return !killed
}

// TestCredentialHelper: a password that Docker's credential helper holds is used, for its registry alone, and shown nowhere.
func TestCredentialHelper(t *testing.T) {
	t.Parallel()
	const canary = "canary-password"
	reg := registrytest.NewRegistry()
	door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("founder:"+canary)) {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		reg.ServeHTTP(w, r)
	}))
	defer door.Close()
	host := strings.TrimPrefix(door.URL, "http://")
	putImage(reg, "app", "1", "amd64")
	dir := t.TempDir()
	helper := fmt.Sprintf("#!/bin/sh\nread host\n[ \"$host\" = %s ] && echo '{\"ServerURL\":\"%s\",\"Username\":\"founder\",\"Secret\":\"%s\"}'\n", host, host, canary)
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-canary"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), fmt.Appendf(nil, `{"credHelpers":{%q:"canary"}}`, host), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"DOCKER_CONFIG=" + dir, "PATH=" + dir + ":" + os.Getenv("PATH")}
	for _, args := range [][]string{
		{"inspect", host + "/app:1"}, {"create", "-t", host + "/app:2", host + "/app:1", "--progress=plain"}, {"doctor", "--format=json", host + "/app:2"},
		{"resolve", host + "/app:2", "--for", "linux/amd64"}, {"copy", host + "/app:2", host + "/other:2", "--progress=plain"},
	} {
		out, err := cli(t, env, args...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", args[0], err, out)
		}
		if bytes.Contains(out, []byte(canary)) {
			t.Errorf("%s shows the password", args[0])
		}
	}
	if out, err := cli(t, nil, "inspect", host+"/app:1").CombinedOutput(); err == nil || !bytes.Contains(out, []byte("run docker login "+host)) {
		t.Errorf("without credentials: %v\n%s", err, out)
	}
}
