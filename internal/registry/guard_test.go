package registry_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/manifold-build/manifold/internal/registry"
	"github.com/manifold-build/manifold/internal/registrytest"
)

// TestPrivateStorage sends a registry's client on to addresses: those of a network of one's own are followed if the registry is there itself, those of this machine never.
func TestPrivateStorage(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		registry, storage string
		works             bool
	}{
		{"10.0.0.1:5000", "10.0.0.7:9000", true},
		{"10.0.0.1:5000", "[fd00::7]", true},
		{"[fd00::1]:5000", "192.168.1.7", true},
		{"100.64.0.1:5000", "100.100.1.7", true},
		{"10.0.0.1:5000", "[64:ff9b::a00:7]", true}, // 10.0.0.7 by NAT64
		{"10.0.0.1:5000", "127.0.0.1", false},
		{"10.0.0.1:5000", "[::1]", false},
		{"10.0.0.1:5000", "169.254.169.254", false},
		{"10.0.0.1:5000", "[fe80::1]", false},
		{"10.0.0.1:5000", "0.0.0.0", false},
		{"10.0.0.1:5000", "0.1.2.3", false},
		{"10.0.0.1:5000", "[64:ff9b::a9fe:a9fe]", false},     // 169.254.169.254
		{"10.0.0.1:5000", "[64:ff9b:1:7f00:0:100::]", false}, // 127.0.0.1
		{"10.0.0.1:5000", "[2002:7f00:1::]", false},          // 127.0.0.1 by 6to4
		{"10.0.0.1:5000", "[64:ff9b::a9fe:a9fe%251]", false}, // with a zone
		{"10.0.0.1:5000", "[::a9fe:a9fe]", false},            // 169.254.169.254, compatible with IPv4
		{"10.0.0.1:5000", "[fd00:ec2::254]", false},          // a cloud's metadata
		{"198.51.100.1", "168.63.129.16", false},
		{"198.51.100.1", "198.51.100.7", true},
		{"198.51.100.1", "10.0.0.7", false},
		{"198.51.100.1", "100.64.0.7", false},
		{"198.51.100.1", "[64:ff9b::a00:7]", false},
		{"198.51.100.1", "[64:ff9b::c633:6407]", true}, // 198.51.100.7
		{"198.51.100.1", "[2002:a00:7::]", false},
		{"[64:ff9b::a00:1]:5000", "10.0.0.7", true},
	} {
		t.Run(tc.registry+" to "+tc.storage, func(t *testing.T) {
			t.Parallel()
			n := registrytest.NewNetwork()
			n.Add(tc.storage, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("layer")) }))
			n.Add(tc.registry, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "http://"+tc.storage+"/x")
				w.WriteHeader(http.StatusTemporaryRedirect)
			}))
			// A reference's domain cannot be an address of IPv6 without brackets, and its host is the same.
			err := readLayer(t.Context(), repository(t, options(n, "http"), tc.registry+"/app"))
			if (err == nil) != tc.works {
				t.Fatalf("error %v", err)
			}
			if err == nil {
				return
			}
			if policy, ok := errors.AsType[*registry.PolicyError](err); !ok || policy.To != strings.ReplaceAll(tc.storage, "%25", "%") || !strings.Contains(err.Error(), "--trusted-host") {
				t.Errorf("error %v", err)
			}
			for _, req := range n.Log() {
				if req.Host != tc.registry {
					t.Errorf("%s was asked", req.Host)
				}
			}
		})
	}
}

var fiveBytes = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("layer"), Size: 5}

func readLayer(ctx context.Context, repo *registry.Repository) error {
	rc, err := repo.Fetch(ctx, fiveBytes)
	if err != nil {
		return err
	}
	_, err = io.ReadAll(rc)
	return errors.Join(err, rc.Close())
}

// TestOwnTransport: a transport of the caller's is held to the same rules, by where its connections lead.
func TestOwnTransport(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write([]byte("layer"))
	}))
	t.Cleanup(inside.Close)
	reg := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "http://storage.test/secret")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	t.Cleanup(reg.Close)
	hosts := map[string]string{"reg.test:80": reg.Listener.Addr().String(), "storage.test:80": inside.Listener.Addr().String()}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, hosts[address])
	}
	for name, tr := range map[string]http.RoundTripper{
		"a dialer of its own": &http.Transport{DialContext: dial},
		"one that is wrapped": roundTripper{&http.Transport{DialContext: dial}},
		"no traces of the dialer": &http.Transport{DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
			return dial(context.Background(), network, address)
		}},
	} {
		opt := options(tr, "http")
		var policy *registry.PolicyError
		if err := readLayer(t.Context(), repository(t, opt, "reg.test/app")); !errors.As(err, &policy) || asked.Load() > 0 {
			t.Errorf("%s: error %v, asked %d times", name, err, asked.Load())
		}
		opt.Trusted = []string{"storage.test"}
		if err := readLayer(t.Context(), repository(t, opt, "reg.test/app")); err != nil || asked.Swap(0) != 1 {
			t.Errorf("%s, trusted: %v", name, err)
		}
	}
}

type roundTripper struct{ inside http.RoundTripper }

func (r roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	return r.inside.RoundTrip(req)
}

// TestHostsTLS: the client certificate of hosts.toml, and its leave to skip the check of certificates, are for the host that they were written for. What the registry sends us to gets
// no certificate, and has to have one that is good.
func TestHostsTLS(t *testing.T) {
	t.Parallel()
	var shown atomic.Int32
	storage := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		shown.Add(int32(len(req.TLS.PeerCertificates)))
		_, _ = w.Write([]byte("layer"))
	}))
	storage.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	storage.StartTLS()
	t.Cleanup(storage.Close)
	var seen atomic.Int32
	reg := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		seen.Add(int32(len(req.TLS.PeerCertificates)))
		w.Header().Set("Location", storage.URL+"/x")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	reg.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	reg.StartTLS()
	t.Cleanup(reg.Close)
	addr := strings.TrimPrefix(reg.URL, "https://")
	for _, tc := range []struct {
		name, toml string
		works      bool
	}{
		{"the same authority", "ca = %q\nclient = [[%q, %q]]\n", true},
		{"not checked", "skip_verify = true # %s\nclient = [[%q, %q]]\n", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			dir := filepath.Join(root, addr)
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			cert, key := clientCert(t)
			names := map[string][]byte{"ca.crt": pemOf(reg.TLS.Certificates[0]), "own.cert": cert, "own.key": key}
			for name, raw := range names {
				if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			toml := fmt.Sprintf("server = %q\n"+tc.toml, reg.URL, filepath.Join(dir, "ca.crt"), filepath.Join(dir, "own.cert"), filepath.Join(dir, "own.key"))
			if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(toml), 0o600); err != nil {
				t.Fatal(err)
			}
			opt := options(nil, "")
			opt.Transport, opt.PlainHTTP, opt.CertsDirs = nil, nil, []string{root}
			err := readLayer(t.Context(), repository(t, opt, addr+"/app"))
			if (err == nil) != tc.works {
				t.Errorf("error %v", err)
			}
			if seen.Swap(0) == 0 {
				t.Error("the registry was shown no certificate")
			}
			if n := shown.Swap(0); n > 0 {
				t.Error("the storage was shown a certificate")
			}
		})
	}
}

// clientCert is a certificate and its key.
func clientCert(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	rawKey, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: rawKey})
}

// TestProxiedTransport: a transport of the caller's that has a proxy is not taken for one that connects to where the proxy is.
func TestProxiedTransport(t *testing.T) {
	t.Parallel()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Host {
		case "reg.test":
			w.Header().Set("Location", "http://storage.test/x")
			w.WriteHeader(http.StatusTemporaryRedirect)
		case "private.test":
			w.Header().Set("Location", "http://10.0.0.7/x")
			w.WriteHeader(http.StatusTemporaryRedirect)
		default:
			_, _ = w.Write([]byte("layer"))
		}
	}))
	t.Cleanup(proxy.Close)
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	opt := options(&http.Transport{Proxy: http.ProxyURL(at)}, "http")
	if err := readLayer(t.Context(), repository(t, opt, "reg.test/app")); err != nil {
		t.Errorf("storage behind the proxy: %v", err)
	}
	if err := readLayer(t.Context(), repository(t, opt, "private.test/app")); !strings.Contains(fmt.Sprint(err), "--trusted-host") {
		t.Errorf("a registry whose address nobody knows sends us to a private one: %v", err)
	}
}

// TestTokenServerForEach: repositories of one host may have token servers of their own.
func TestTokenServerForEach(t *testing.T) {
	t.Parallel()
	n, r := registrytest.NewNetwork(), registrytest.NewRegistry()
	doors := map[string]*registrytest.Auth{}
	for _, name := range []string{"a", "b"} {
		doors[name] = &registrytest.Auth{Registry: r, Realm: "http://reg.test/token/" + name, User: "founder", Password: canary, Refuse: func(repository string) bool { return repository != name }}
	}
	n.Add("reg.test", http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if name, ok := strings.CutPrefix(req.URL.Path, "/token/"); ok {
			doors[name].Tokens(w, req)
			return
		}
		doors[strings.Split(req.URL.Path, "/")[2]].ServeHTTP(w, req)
	}))
	client := registry.New(options(n, "http"))
	for _, name := range []string{"a", "b", "a", "b"} {
		named, err := reference.ParseNormalizedNamed("reg.test/" + name)
		if err != nil {
			t.Fatal(err)
		}
		repo, err := client.Repository(named)
		if err != nil {
			t.Fatal(err)
		}
		if err := repo.CheckPush(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
