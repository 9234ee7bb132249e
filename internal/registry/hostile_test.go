package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/internal/registry"
	"github.com/manifold-build/manifold/internal/registrytest"
)

const canary = "canary-password"

func options(n http.RoundTripper, scheme string) registry.Options {
	return registry.Options{
		Credentials: func(host string) (string, string, error) {
			if strings.HasPrefix(host, "reg.test") {
				return "founder", canary, nil
			}
			return "", "", nil
		},
		PlainHTTP: func(string) (bool, error) { return scheme == "http", nil },
		CertsDirs: []string{}, Transport: n,
	}
}

func repository(t *testing.T, opt registry.Options, name string) *registry.Repository {
	t.Helper()
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := registry.New(opt).Repository(named)
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

// TestCredentialsStay (24): wherever a registry sends us, in whatever way, no credential goes to a host it is not for.
func TestCredentialsStay(t *testing.T) {
	t.Parallel()
	blob := []byte("a layer")
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
	get := func(ctx context.Context, r *registry.Repository) error {
		rc, err := r.Fetch(ctx, desc)
		if err != nil {
			return err
		}
		_, err = io.ReadAll(rc)
		return errors.Join(err, rc.Close())
	}
	put := func(ctx context.Context, r *registry.Repository) error {
		return r.PutBlob(ctx, desc, "", func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil })
	}
	list := func(ctx context.Context, r *registry.Repository) error {
		_, err := r.Referrers(ctx, desc.Digest)
		return err
	}
	for name, one := range map[string]struct {
		scheme string
		class  string
		to     string // where the registry sends us
		link   bool
		do     func(context.Context, *registry.Repository) error
		works  bool
	}{
		"storage elsewhere":       {"https", "blob", "https://storage.test/x?X-Signature=" + canary, false, get, true},
		"another port":            {"https", "blob", "https://reg.test:8443/x", false, get, true},
		"plain http":              {"https", "blob", "http://storage.test/x", false, get, false},
		"the registry, plain":     {"https", "blob", "http://reg.test/x", false, get, false},
		"metadata service":        {"https", "blob", "http://169.254.169.254/latest", false, get, false},
		"metadata service, TLS":   {"https", "blob", "https://169.254.169.254/latest", false, get, false},
		"loopback":                {"http", "blob", "http://127.0.0.1:9/x", false, get, false},
		"private":                 {"http", "blob", "http://10.0.0.1/x", false, get, false},
		"private, IPv6":           {"http", "blob", "http://[fd00::1]/x", false, get, false},
		"IPv4 in IPv6":            {"http", "blob", "http://[::ffff:10.0.0.1]/x", false, get, false},
		"upload elsewhere":        {"https", "upload", "https://storage.test/up", false, put, true},
		"upload to a private one": {"https", "upload", "https://192.168.0.1/up", false, put, false},
		"next page elsewhere":     {"https", "referrers", "https://storage.test/next", true, list, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n, reg := registrytest.NewNetwork(), registrytest.NewRegistry()
				reg.PutBlob("app", "", blob)
				auth := &registrytest.Auth{Registry: reg, Realm: one.scheme + "://auth.test/token", User: "founder", Password: canary}
				n.Add("reg.test", auth)
				n.Add("auth.test", http.HandlerFunc(auth.Tokens))
				elsewhere := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodPut {
						w.WriteHeader(http.StatusCreated)
						return
					}
					_, _ = w.Write(blob)
				})
				for _, host := range []string{"storage.test", "reg.test:8443", "169.254.169.254", "127.0.0.1:9", "10.0.0.1", "[fd00::1]", "[::ffff:10.0.0.1]", "192.168.0.1"} {
					n.Add(host, elsewhere)
				}
				n.Fault = func(r registrytest.Request) *registrytest.Fault {
					if r.Host != "reg.test" || r.Class != one.class || r.Authorization == "" {
						return nil
					}
					return &registrytest.Fault{Handler: func(w http.ResponseWriter, _ *http.Request) {
						if one.link {
							w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
							w.Header().Set("Link", "<"+one.to+`>; rel="next"`)
							_, _ = w.Write([]byte(`{"schemaVersion":2,"manifests":[]}`))
							return
						}
						w.Header().Set("Location", one.to)
						if one.class == "upload" {
							w.WriteHeader(http.StatusAccepted)
						} else {
							w.WriteHeader(http.StatusTemporaryRedirect)
						}
					}}
				}
				err := one.do(t.Context(), repository(t, options(n, one.scheme), "reg.test/app"))
				if (err == nil) != one.works {
					t.Errorf("error %v", err)
				}
				if err != nil && strings.Contains(err.Error(), "canary") {
					t.Errorf("a secret is in the error: %v", err)
				}
				for _, r := range n.Log() {
					if r.Authorization != "" && r.Host != "reg.test" && r.Host != "auth.test" {
						t.Errorf("credentials went to %s", r.Host)
					}
					if !one.works && r.Host != "reg.test" && r.Host != "auth.test" {
						t.Errorf("%s was asked", r.Host)
					}
				}
			})
		})
	}
}

// TestRealm (24): the token server that a registry names has to speak TLS if the registry does, and is at no private address.
func TestRealm(t *testing.T) {
	t.Parallel()
	for realm, works := range map[string]bool{
		"https://auth.test/token": true, "http://auth.test/token": false, "https://10.0.0.1/token": false, "https://169.254.169.254/token": false,
		"https://reg.test/token": true, "file:///etc/passwd": false,
	} {
		t.Run(realm, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n, reg := registrytest.NewNetwork(), registrytest.NewRegistry()
				reg.PutManifest("app", "1", ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[]}`))
				auth := &registrytest.Auth{Registry: reg, Realm: realm, User: "founder", Password: canary}
				door := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/token" {
						auth.Tokens(w, r)
						return
					}
					auth.ServeHTTP(w, r)
				})
				for _, host := range []string{"reg.test", "auth.test", "10.0.0.1", "169.254.169.254"} {
					n.Add(host, door)
				}
				_, _, err := repository(t, options(n, "https"), "reg.test/app").Manifest(t.Context(), "1")
				if (err == nil) != works {
					t.Errorf("error %v", err)
				}
				for _, r := range n.Log() {
					if !works && r.Host != "reg.test" {
						t.Errorf("%s was asked for a token", r.Host)
					}
				}
			})
		})
	}
}

// TestPages (21): a list without end is cut off.
func TestPages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := registrytest.NewNetwork()
		pages := 0
		n.Add("reg.test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			pages++
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			w.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, r.URL.Path, pages))
			_, _ = w.Write([]byte(`{"schemaVersion":2,"manifests":[]}`))
		}))
		_, err := repository(t, options(n, "http"), "reg.test/app").Referrers(t.Context(), digest.FromString("x"))
		if err == nil || pages != 100 {
			t.Errorf("%d pages, %v", pages, err)
		}
	})
}

// TestBitFlips (22): a blob or a manifest with any bit flipped under a right header ends with an error, never with a verdict.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	raw := []byte(`{"schemaVersion":2,"manifests":[]}`)
	for bit := range 8 * len(raw) {
		synctest.Test(t, func(t *testing.T) {
			n, reg := registrytest.NewNetwork(), registrytest.NewRegistry()
			d := reg.PutManifest("app", "1", ocispec.MediaTypeImageIndex, raw)
			reg.PutBlob("app", "", raw)
			n.Add("reg.test", reg)
			n.Fault = func(r registrytest.Request) *registrytest.Fault {
				return &registrytest.Fault{Handler: func(w http.ResponseWriter, _ *http.Request) {
					wrong := bytes.Clone(raw)
					wrong[bit/8] ^= 1 << (bit % 8)
					w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
					w.Header().Set("Docker-Content-Digest", d.Digest.String())
					_, _ = w.Write(wrong)
				}}
			}
			repo := repository(t, options(n, "http"), "reg.test/app")
			for _, object := range []string{"1", d.Digest.String()} {
				if _, _, err := repo.Manifest(t.Context(), object); err == nil {
					t.Errorf("bit %d of the manifest %s went through", bit, object)
				}
			}
			rc, err := repo.Fetch(t.Context(), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d.Digest, Size: d.Size})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(rc); err == nil {
				t.Errorf("bit %d of the blob went through", bit)
			}
			_ = rc.Close()
		})
	}
}

// TestTerminalEscapes (34): what a registry says is shown as one printable line.
func TestTerminalEscapes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := registrytest.NewNetwork()
		n.Add("reg.test", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"errors":[{"code":"DENIED","message":"\u001b]0;owned\u0007no\r\nway\u202e"}]}`))
		}))
		_, _, err := repository(t, options(n, "http"), "reg.test/app").Manifest(t.Context(), "1")
		const want = "GET reg.test/v2/app/manifests/1: status 403 Forbidden: DENIED: ]0;ownedno  way"
		if err == nil || err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
	})
}

// TestHeadersStay: what hosts.toml adds for a registry goes to no other host, and credentials do not come back on a second redirect.
func TestHeadersStay(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "reg.test"), 0o755); err != nil {
		t.Fatal(err)
	}
	config := "server = \"https://reg.test\"\n[host.\"https://reg.test\"]\ncapabilities = [\"pull\", \"resolve\", \"push\"]\n[host.\"https://reg.test\".header]\nx-api-key = \"canary-key\"\n"
	if err := os.WriteFile(filepath.Join(root, "reg.test", "hosts.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		n := registrytest.NewNetwork()
		next := map[string]string{"reg.test/v2/app/blobs/": "https://cdn.reg.test/1", "cdn.reg.test/1": "https://cdn.reg.test/2", "cdn.reg.test/2": "https://other.test/3"}
		hop := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Host == "reg.test" && r.Header.Get("Authorization") == "" {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			for from, to := range next {
				if strings.HasPrefix(r.Host+r.URL.Path, from) {
					w.Header().Set("Location", to)
					w.WriteHeader(http.StatusTemporaryRedirect)
					return
				}
			}
			_, _ = w.Write([]byte("layer"))
		})
		for _, host := range []string{"reg.test", "cdn.reg.test", "other.test"} {
			n.Add(host, hop)
		}
		opt := options(n, "")
		opt.PlainHTTP, opt.CertsDirs = nil, []string{root}
		rc, err := repository(t, opt, "reg.test/app").Fetch(t.Context(), ocispec.Descriptor{Digest: digest.FromString("layer"), Size: 5})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(rc); err != nil {
			t.Error(err)
		}
		_ = rc.Close()
		keyed := false
		for _, r := range n.Log() {
			keyed = keyed || r.Header.Get("X-Api-Key") != ""
			if r.Host != "reg.test" && (r.Authorization != "" || r.Header.Get("X-Api-Key") != "") {
				t.Errorf("%s%s was sent %q and %q", r.Host, r.Path, r.Authorization, r.Header.Get("X-Api-Key"))
			}
		}
		if !keyed {
			t.Error("the registry did not get the header")
		}
	})
}

// TestRedirectedPut: a PUT that a redirect makes a GET of is no success.
func TestRedirectedPut(t *testing.T) {
	t.Parallel()
	for code, works := range map[int]bool{http.StatusFound: false, http.StatusTemporaryRedirect: true} {
		synctest.Test(t, func(t *testing.T) {
			n, reg := registrytest.NewNetwork(), registrytest.NewRegistry()
			n.Add("reg.test", reg)
			n.Fault = func(r registrytest.Request) *registrytest.Fault {
				if r.Method == http.MethodPut && r.Hit == 1 {
					return &registrytest.Fault{Handler: func(w http.ResponseWriter, req *http.Request) {
						w.Header().Set("Location", req.URL.String())
						w.WriteHeader(code)
					}}
				}
				if r.Method == http.MethodGet {
					return &registrytest.Fault{Status: http.StatusNoContent}
				}
				return nil
			}
			desc := ocispec.Descriptor{Digest: digest.FromString("layer"), Size: 5}
			err := repository(t, options(n, "http"), "reg.test/app").PutBlob(t.Context(), desc, "", func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("layer")), nil })
			if (err == nil) != works {
				t.Errorf("status %d: %v", code, err)
			}
		})
	}
}

// TestSlowCommit: over a real connection, a commit that takes longer than the transport's own limit was is waited for, and one that never comes is not.
func TestSlowCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, reg := registrytest.NewNetwork(), registrytest.NewRegistry()
		n.Add("reg.test", reg)
		n.Fault = func(r registrytest.Request) *registrytest.Fault {
			if r.Method == http.MethodPut {
				return &registrytest.Fault{Handler: func(_ http.ResponseWriter, req *http.Request) {
					_, _ = io.Copy(io.Discard, req.Body)
					var one [1]byte
					_, _ = req.Body.Read(one[:]) // as net/http does behind the end
					<-req.Context().Done()
				}}
			}
			return nil
		}
		begun := time.Now()
		desc := ocispec.Descriptor{Digest: digest.FromString("layer"), Size: 5}
		err := repository(t, options(n, "http"), "reg.test/app").PutBlob(t.Context(), desc, "", func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("layer")), nil })
		if d := time.Since(begun); err == nil || d > 2*time.Hour {
			t.Errorf("after %s: %v", d, err)
		}
	})
}

// TestPrivateName (24): a name that leads to a private address is found out when it is dialled.
func TestPrivateName(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(inside.Close)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(inside.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	reg := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "http://localhost:"+port+"/secret")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	t.Cleanup(reg.Close)
	repo := repository(t, registry.Options{CertsDirs: []string{}}, strings.TrimPrefix(reg.URL, "http://")+"/app")
	_, err = repo.Fetch(t.Context(), ocispec.Descriptor{Digest: digest.FromString("x"), Size: 1})
	var policy *registry.PolicyError
	if !errors.As(err, &policy) || asked.Load() > 0 {
		t.Errorf("error %v, asked %d times", err, asked.Load())
	}
}
