package index_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manifold-build/manifold/internal/registrytest"
)

// TestStandstill (20): a header that does not come and a body that dribbles end; a blob's commit that takes minutes does not.
func TestStandstill(t *testing.T) {
	t.Parallel()
	hang := func(rw http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	dribble := func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		for r.Context().Err() == nil {
			if _, err := rw.Write([]byte{' '}); err != nil {
				return
			}
			select {
			case <-r.Context().Done():
			case <-time.After(time.Second):
			}
		}
	}
	for name, one := range map[string]struct {
		class, method string
		fault         registrytest.Fault
		works         bool
	}{
		"no header":       {"tag", http.MethodGet, registrytest.Fault{Handler: hang}, false},
		"a byte a second": {"tag", http.MethodGet, registrytest.Fault{Handler: dribble}, false},
		"slow blob":       {"blob", http.MethodGet, registrytest.Fault{Handler: dribble}, false},
		"slow commit":     {"upload", http.MethodPut, registrytest.Fault{DelayAnswer: 9 * time.Minute}, true},
		"silent commit":   {"upload", http.MethodPut, registrytest.Fault{DelayAnswer: time.Hour}, true},
		"never taken":     {"upload", http.MethodPut, registrytest.Fault{Delay: time.Hour}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.net.Fault = func(r registrytest.Request) *registrytest.Fault {
					if r.Class == one.class && r.Method == one.method {
						return &one.fault
					}
					return nil
				}
				begun := time.Now()
				receipts, err := copied(w).run(t.Context(), w)
				if one.works {
					w.published(t, receipts, err)
					return
				}
				w.failed(t, err)
				if d := time.Since(begun); d > 90*time.Minute {
					t.Errorf("it took %s", d)
				}
			})
		})
	}
}

// TestEndless (21): what never ends is cut off.
func TestEndless(t *testing.T) {
	t.Parallel()
	endless := func(mediaType string, status int, seen *int64) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", mediaType)
			rw.WriteHeader(status)
			chunk := []byte(strings.Repeat(" ", 4096))
			for {
				if _, err := rw.Write(chunk); err != nil {
					return
				}
				*seen += int64(len(chunk))
			}
		}
	}
	for name, one := range map[string]struct {
		class  string
		status int
		most   int64
	}{
		"manifest":   {"tag", 200, 4 << 20},
		"token":      {"token", 200, 128 << 10},
		"error body": {"tag", 400, 64 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				j := sameRepository(w)
				j.sources = j.sources[:1]
				guarded(w, &registrytest.Auth{})
				var seen int64
				w.net.Fault = func(r registrytest.Request) *registrytest.Fault {
					if r.Class == one.class && (one.class == "token" || r.Authorization != "") {
						return &registrytest.Fault{Handler: endless("application/vnd.oci.image.index.v1+json", one.status, &seen)}
					}
					return nil
				}
				_, err := j.run(t.Context(), w)
				w.failed(t, err)
				if seen > one.most+64<<10 {
					t.Errorf("%d bytes were read", seen)
				}
			})
		})
	}
}

// TestCancel: whenever it is cancelled, the tag is the old one or the new one, and nothing goes on.
func TestCancel(t *testing.T) {
	t.Parallel()
	eachJob(t, func(t *testing.T, prepare func(*world) job) {
		t.Helper()
		for at := range requests(t, prepare) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				ctx, cancel := context.WithCancel(t.Context())
				w.net.Fault = func(r registrytest.Request) *registrytest.Fault {
					if r.N == at+1 {
						cancel()
					}
					return nil
				}
				begun := time.Now()
				_, err := prepare(w).run(ctx, w)
				w.check(t)
				if err == nil {
					t.Error("it succeeded")
				}
				if d := time.Since(begun); d > 5*time.Second {
					t.Errorf("it took %s", d)
				}
				again, err := prepare(w).run(t.Context(), w)
				w.check(t)
				if err != nil || len(again) != 1 || w.one.Tag("app", "1.0") != again[0].Digest {
					t.Errorf("running it again: %v, %v", again, err)
				}
			})
		}
	})
}

// TestRandomFaults (35): one request in twenty goes wrong in some way. What comes out is success or a clean error, and the oracle sees nothing.
func TestRandomFaults(t *testing.T) {
	t.Parallel()
	runs := 10_000
	if testing.Short() {
		runs = 200
	}
	kinds := []func(w *world) job{sameRepository, mounted, copied}
	var failures int
	for seed := range runs {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(seed), 35))
			var mu sync.Mutex
			w := newWorld()
			w.net.Fault = func(registrytest.Request) *registrytest.Fault {
				mu.Lock()
				defer mu.Unlock()
				if random.IntN(20) > 0 {
					return nil
				}
				faults := []*registrytest.Fault{
					status(500), status(502), status(503), status(429, "Retry-After", "1"), status(404), status(401), status(403), {Reset: true}, {LoseAnswer: true},
					{CutAnswer: 1 + random.Int64N(500)}, {CutRequest: 1 + random.Int64N(500)}, {Delay: time.Duration(random.IntN(90)) * time.Second},
				}
				return faults[random.IntN(len(faults))]
			}
			receipts, err := kinds[seed%len(kinds)](w).run(t.Context(), w)
			w.check(t)
			now := w.one.Tag("app", "1.0")
			switch {
			case err == nil && (len(receipts) != 1 || receipts[0].Digest != now):
				t.Errorf("seed %d: success, receipts %v, and the tag names %s", seed, receipts, now)
			case err != nil:
				failures++
			}
		})
	}
	t.Logf("%d of %d ended with an error", failures, runs)
}
