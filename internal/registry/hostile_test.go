package registry_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
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
		return r.PutBlob(ctx, desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil })
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
			if err == nil || strings.Contains(err.Error(), "404") {
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
			err := repository(t, options(n, "http"), "reg.test/app").PutBlob(t.Context(), desc, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("layer")), nil })
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
		err := repository(t, options(n, "http"), "reg.test/app").PutBlob(t.Context(), desc, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("layer")), nil })
		if d := time.Since(begun); err == nil || d > 2*time.Hour {
			t.Errorf("after %s: %v", d, err)
		}
	})
}
