package registry_test

import (
	"crypto/tls"
	"encoding/base64"
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

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/internal/registry"
	"github.com/manifold-build/manifold/internal/registrytest"
)

// TestTrusted: a host of one's own at a private address can be named.
func TestTrusted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := registrytest.NewNetwork()
		n.Add("10.0.0.7:9000", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("layer")) }))
		n.Add("reg.test", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://10.0.0.7:9000/x")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}))
		opt := options(n, "http")
		opt.Trusted = []string{"10.0.0.7:9000"}
		rc, err := repository(t, opt, "reg.test/app").Fetch(t.Context(), ocispec.Descriptor{Digest: digest.FromString("layer"), Size: 5})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(rc); err != nil || string(got) != "layer" {
			t.Errorf("%q, %v", got, err)
		}
		if err := rc.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestNoPlainFallback (25): a certificate that does not fit, or a closed port 443, is a failure: not one byte goes out over plain http.
func TestNoPlainFallback(t *testing.T) {
	t.Parallel()
	var plain atomic.Int32
	both := func(t *testing.T, withTLS bool) string {
		t.Helper()
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }))
		s.Listener = &sniffer{Listener: l, plain: &plain}
		if withTLS {
			s.StartTLS()
		} else {
			s.Start()
		}
		t.Cleanup(s.Close)
		return l.Addr().String()
	}
	for name, withTLS := range map[string]bool{"unknown certificate": true, "plain http only": false} {
		t.Run(name, func(t *testing.T) {
			addr := both(t, withTLS)
			opt := options(nil, "https")
			opt.Transport = nil
			_, _, err := repository(t, opt, addr+"/app").Manifest(t.Context(), "1")
			if err == nil || strings.Contains(err.Error(), "status 404") {
				t.Errorf("error %v", err)
			}
			if n := plain.Load(); n > 0 {
				t.Errorf("%d connections began with plain http", n)
			}
		})
	}
}

// sniffer counts connections whose first byte is not that of a TLS record.
type sniffer struct {
	net.Listener

	plain *atomic.Int32
}

func (s *sniffer) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &sniffed{Conn: c, plain: s.plain}, nil
}

type sniffed struct {
	net.Conn

	seen  atomic.Bool
	plain *atomic.Int32
}

func (s *sniffed) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	const handshake = 22
	if n > 0 && !s.seen.Swap(true) && p[0] != handshake {
		s.plain.Add(1)
	}
	return n, err
}

// TestCertsDir: the certificate of a registry, and one of our own, from a folder laid out as Docker's certs.d.
func TestCertsDir(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(registrytest.NewRegistry())
	t.Cleanup(s.Close)
	addr := strings.TrimPrefix(s.URL, "https://")
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, addr), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, addr, "ca.crt"), pemOf(s.TLS.Certificates[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	opt := options(nil, "")
	opt.Transport, opt.PlainHTTP = nil, nil
	if err := repository(t, opt, addr+"/app").CheckPush(t.Context()); err == nil {
		t.Error("loopback without configuration is plain http, and this server speaks TLS")
	}
	opt.CertsDirs = []string{root}
	if err := repository(t, opt, addr+"/app").CheckPush(t.Context()); err != nil {
		t.Errorf("with its certificate: %v", err)
	}
	opt.CertsDirs, opt.Insecure = []string{}, true
	opt.PlainHTTP = func(string) (bool, error) { return false, nil }
	if err := repository(t, opt, addr+"/app").CheckPush(t.Context()); err != nil {
		t.Errorf("with any certificate: %v", err)
	}
}

// TestMirror: a mirror of hosts.toml is asked first, and the registry if the mirror does not have it; nothing is pushed to it.
func TestMirror(t *testing.T) {
	t.Parallel()
	mirror, own := registrytest.NewRegistry(), registrytest.NewRegistry()
	a, b := httptest.NewServer(mirror), httptest.NewServer(own)
	t.Cleanup(a.Close)
	t.Cleanup(b.Close)
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "example.test"), 0o755); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("server = %q\n[host.%q]\ncapabilities = [\"pull\", \"resolve\"]\n", b.URL, a.URL)
	if err := os.WriteFile(filepath.Join(root, "example.test", "hosts.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	opt := registry.Options{CertsDirs: []string{root}}
	raw := []byte(`{"schemaVersion":2,"manifests":[]}`)
	mirror.PutManifest("app", "mirrored", ocispec.MediaTypeImageIndex, raw)
	own.PutManifest("app", "own", ocispec.MediaTypeImageIndex, raw)
	repo := repository(t, opt, "example.test/app")
	for _, tag := range []string{"mirrored", "own"} {
		if _, _, err := repo.Manifest(t.Context(), tag); err != nil {
			t.Errorf("%s: %v", tag, err)
		}
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if _, err := repo.PutManifest(t.Context(), "new", desc, raw); err != nil {
		t.Fatal(err)
	}
	if mirror.Tag("app", "new") != "" || own.Tag("app", "new") != desc.Digest {
		t.Error("it was pushed to the mirror")
	}
}

// TestRefusedSoon: a port where nobody listens is not tried for long.
func TestRefusedSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		_, _, err := repository(t, options(registrytest.NewNetwork(), "http"), "reg.test/app").Manifest(t.Context(), "1")
		if err == nil || time.Since(begun) > 2*time.Second {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
	})
}

func pemOf(c tls.Certificate) []byte {
	return fmt.Appendf(nil, "-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n", base64Of(c.Certificate[0]))
}

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// TestTokenServer: a wrong password is not tried again and again; an answer that breaks off is asked for anew.
func TestTokenServer(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		password string
		fault    func(registrytest.Request) *registrytest.Fault
		works    bool
		most     int
	}{
		"wrong password": {"wrong", nil, false, 2},
		"broken answer": {canary, func(r registrytest.Request) *registrytest.Fault {
			if r.Class == "token" && r.Hit == 1 {
				return &registrytest.Fault{CutAnswer: 5}
			}
			return nil
		}, true, 2},
		"busy for a while": {canary, func(r registrytest.Request) *registrytest.Fault {
			if r.Class == "token" && r.Hit <= 3 {
				return &registrytest.Fault{Status: 503}
			}
			return nil
		}, true, 4},
		"silent": {canary, func(r registrytest.Request) *registrytest.Fault {
			if r.Class == "token" {
				return &registrytest.Fault{Delay: time.Hour}
			}
			return nil
		}, false, 12},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n, reg := registrytest.NewNetwork(), registrytest.NewRegistry()
				reg.PutManifest("app", "1", ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[]}`))
				auth := &registrytest.Auth{Registry: reg, Realm: "https://auth.test/token", User: "founder", Password: row.password}
				n.Add("reg.test", auth)
				n.Add("auth.test", http.HandlerFunc(auth.Tokens))
				n.Fault = row.fault
				begun := time.Now()
				_, _, err := repository(t, options(n, "https"), "reg.test/app").Manifest(t.Context(), "1")
				if (err == nil) != row.works {
					t.Errorf("error %v", err)
				}
				asked := 0
				for _, r := range n.Log() {
					if r.Class == "token" {
						asked++
					}
				}
				if asked > row.most || time.Since(begun) > 10*time.Minute {
					t.Errorf("%d tokens were asked for in %s", asked, time.Since(begun))
				}
			})
		})
	}
}
