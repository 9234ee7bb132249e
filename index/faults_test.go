package index_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manifold-build/manifold/index"
	"github.com/manifold-build/manifold/internal/registrytest"
)

// eachJob runs a test for every kind of job, on virtual time.
func eachJob(t *testing.T, f func(t *testing.T, prepare func(*world) job)) {
	t.Helper()
	for name, prepare := range jobs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, prepare)
		})
	}
}

// requests counts the requests of a job when nothing goes wrong.
func requests(t *testing.T, prepare func(*world) job) int {
	t.Helper()
	n := 0
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		receipts, err := prepare(w).run(t.Context(), w)
		w.published(t, receipts, err)
		n = len(w.net.Log())
	})
	return n
}

// TestOneBusyAnswer (1): a busy or failing answer, once, at each request in turn.
func TestOneBusyAnswer(t *testing.T) {
	t.Parallel()
	eachJob(t, func(t *testing.T, prepare func(*world) job) {
		t.Helper()
		for at := range requests(t, prepare) {
			for _, code := range []int{500, 502, 503, 504} {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld()
					w.net.Fault = func(r registrytest.Request) *registrytest.Fault {
						if r.N == at+1 {
							return status(code)
						}
						return nil
					}
					receipts, err := prepare(w).run(t.Context(), w)
					w.published(t, receipts, err)
					if t.Failed() {
						t.Logf("with status %d at request %d", code, at+1)
					}
				})
			}
		}
	})
}

// TestRetryAfter (2): a registry that says when to come back is not asked before, however it says it.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]func() string{
		"seconds": func() string { return "2" },
		"date":    func() string { return time.Now().Add(2 * time.Second).UTC().Format(http.TimeFormat) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				var asked time.Time
				w.net.Fault = func(r registrytest.Request) *registrytest.Fault {
					if r.Method == http.MethodPut && r.Class == "tag" && r.Hit == 1 {
						asked = r.At
						return status(429, "Retry-After", value())
					}
					return nil
				}
				receipts, err := sameRepository(w).run(t.Context(), w)
				w.published(t, receipts, err)
				for _, r := range w.net.Log() {
					if r.Method == http.MethodPut && r.Hit == 2 && r.At.Sub(asked) < 2*time.Second {
						t.Errorf("asked again after %s", r.At.Sub(asked))
					}
				}
			})
		})
	}
}

// TestRetryAfterADay (3): nobody waits for a day; the failure is at once and says why.
func TestRetryAfterADay(t *testing.T) {
	t.Parallel()
	eachJob(t, func(t *testing.T, prepare func(*world) job) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.net.Fault = func(r registrytest.Request) *registrytest.Fault {
				if r.Method == http.MethodPut {
					return status(429, "Retry-After", "86400")
				}
				return nil
			}
			begun := time.Now()
			_, err := prepare(w).run(t.Context(), w)
			w.failed(t, err)
			if d := time.Since(begun); d >= time.Second {
				t.Errorf("it took %s", d)
			}
			if err != nil && !strings.Contains(err.Error(), "come back in 24h0m0s") {
				t.Errorf("it does not say why: %v", err)
			}
		})
	})
}

// TestBusyForEver (4): at most six tries and two minutes, and the old tag stays.
func TestBusyForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.net.Fault = func(r registrytest.Request) *registrytest.Fault {
			if r.Method == http.MethodPut && r.Class == "tag" {
				return status(503)
			}
			return nil
		}
		begun := time.Now()
		_, err := sameRepository(w).run(t.Context(), w)
		w.failed(t, err)
		tries := 0
		for _, r := range w.net.Log() {
			if r.Method == http.MethodPut && r.Class == "tag" {
				tries++
			}
		}
		if d := time.Since(begun); tries > 6 || d > 120*time.Second {
			t.Errorf("%d tries in %s", tries, d)
		}
		var te *index.TagError
		if !errors.As(err, &te) || te.Moved || !strings.Contains(err.Error(), "503 Service Unavailable") {
			t.Errorf("error %v", err)
		}
	})
}

// TestReset (5): a connection that breaks at any place of a blob, on its way out or in.
func TestReset(t *testing.T) {
	t.Parallel()
	layer := int64(len("new" + targets[0]))
	for _, out := range []bool{true, false} {
		for _, at := range []int64{0, 1, layer / 2, layer - 1, layer} {
			t.Run(fmt.Sprintf("out=%v/%d", out, at), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld()
					w.net.Fault = func(r registrytest.Request) *registrytest.Fault {
						switch {
						case out && r.Method == http.MethodPut && r.Class == "upload" && r.Hit <= 2:
							return &registrytest.Fault{CutRequest: at + 1}
						case !out && r.Method == http.MethodGet && r.Class == "blob" && r.Hit > 3 && r.Hit <= 5:
							return &registrytest.Fault{CutAnswer: at + 1}
						}
						return nil
					}
					receipts, err := copied(w).run(t.Context(), w)
					w.published(t, receipts, err)
				})
			})
		}
	}
}

// TestLostAnswer (6): what was done is not done again because the answer was lost, at each request in turn.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	eachJob(t, func(t *testing.T, prepare func(*world) job) {
		t.Helper()
		for at := range requests(t, prepare) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				var lost registrytest.Request
				w.net.Fault = func(r registrytest.Request) *registrytest.Fault {
					if r.N == at+1 {
						lost = r
						return &registrytest.Fault{LoseAnswer: true}
					}
					return nil
				}
				receipts, err := prepare(w).run(t.Context(), w)
				w.published(t, receipts, err)
				again := 0
				for _, r := range w.net.Log() {
					if lost.Method == http.MethodPut && r.Method == lost.Method && r.Path == lost.Path && r.N > lost.N {
						again++
					}
				}
				if again > 0 {
					t.Errorf("%s %s was sent again %d times", lost.Method, lost.Path, again)
				}
			})
		}
	})
}

// guarded puts a token server before one.test.
func guarded(w *world, a *registrytest.Auth) {
	a.Registry, a.Realm = w.one, "http://auth.test/token"
	w.net.Add("one.test", a)
	w.net.Add("auth.test", http.HandlerFunc(a.Tokens))
	opt := w.access.Options()
	opt.Credentials = func(host string) (string, string, error) {
		if host == "one.test" {
			return a.User, a.Password, nil
		}
		return "", "", nil
	}
	w.access = index.NewClient(opt)
}

// TestTokenExpires (7): a token that expires in the middle is renewed.
func TestTokenExpires(t *testing.T) {
	t.Parallel()
	eachJob(t, func(t *testing.T, prepare func(*world) job) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			j := prepare(w)
			guarded(w, &registrytest.Auth{User: "founder", Password: "canary-password", Lifetime: 90 * time.Millisecond})
			w.net.Latency = 40 * time.Millisecond
			receipts, err := j.run(t.Context(), w)
			w.published(t, receipts, err)
		})
	})
}

// TestNeverAuthorized (8): a registry that takes no token is not asked for ever; no secret is in what it leads to.
func TestNeverAuthorized(t *testing.T) {
	t.Parallel()
	eachJob(t, func(t *testing.T, prepare func(*world) job) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			j := prepare(w)
			auth := &registrytest.Auth{User: "founder", Password: "canary-password", Never: true}
			guarded(w, auth)
			_, err := j.run(t.Context(), w)
			w.failed(t, err)
			for scope, n := range auth.Asked() {
				if n > 2 {
					t.Errorf("%d tokens were asked for %s", n, scope)
				}
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("a secret is in the error: %v", err)
			}
		})
	})
}

// TestNoMount (9): a registry that does not mount is sent the bytes.
func TestNoMount(t *testing.T) {
	t.Parallel()
	for _, code := range []int{202, 401, 403, 404, 405} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.one.NoMount = code
			receipts, err := mounted(w).run(t.Context(), w)
			w.published(t, receipts, err)
		})
	}
}

// TestSlowToShow (10, 11): children that are not visible at once, and a tag that still reads old, are waited for.
func TestSlowToShow(t *testing.T) {
	t.Parallel()
	for _, lag := range []time.Duration{10 * time.Second, 29 * time.Second, 40 * time.Second} {
		for _, class := range []string{"manifest", "tag"} {
			t.Run(fmt.Sprint(class, lag), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld()
					var put time.Time
					w.net.Fault = func(r registrytest.Request) *registrytest.Fault {
						switch {
						case r.Host != "one.test" || r.Class != class:
						case r.Method == http.MethodPut:
							put = r.At
						case class == "manifest" && r.At.Sub(put) < lag:
							return status(404)
						case !put.IsZero() && r.At.Sub(put) < lag:
							return &registrytest.Fault{Handler: func(rw http.ResponseWriter, _ *http.Request) {
								rw.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
								rw.Header().Set("Docker-Content-Digest", w.old.String())
							}}
						}
						return nil
					}
					receipts, err := copied(w).run(t.Context(), w)
					switch {
					case lag < 30*time.Second:
						w.published(t, receipts, err)
					case class == "manifest":
						w.failed(t, err)
					default:
						w.check(t)
						if err == nil {
							t.Error("success was told of a tag that never read new")
						}
					}
				})
			})
		}
	}
}

// TestRace (12): publishers race for one tag. In the end it is the whole index of one of them, and whoever was told of success had it at some moment.
func TestRace(t *testing.T) {
	t.Parallel()
	races := 1000
	if testing.Short() {
		races = 50
	}
	for seed := range races {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(seed), 12))
			w := newWorld()
			var mu sync.Mutex
			w.net.Fault = func(registrytest.Request) *registrytest.Fault {
				mu.Lock()
				defer mu.Unlock()
				return &registrytest.Fault{Delay: time.Duration(random.IntN(50)) * time.Millisecond}
			}
			n := 2 + random.IntN(7)
			var wg sync.WaitGroup
			won := make([]bool, n)
			for i := range n {
				j := job{names: app}
				for k, p := range targets {
					tag := fmt.Sprintf("run%d-%d", i, k)
					putImage(w.one, "app", tag, tag, p)
					j.sources = append(j.sources, "one.test/app:"+tag)
				}
				wg.Go(func() {
					_, err := j.run(t.Context(), w)
					won[i] = err == nil
				})
			}
			wg.Wait()
			w.check(t)
			for i := range won {
				if won[i] {
					return
				}
			}
			t.Errorf("race %d: nobody won", seed)
		})
	}
}

// TestSecondRegistryDown (13): no tag moves while any registry is not ready; the error tells of each tag.
func TestSecondRegistryDown(t *testing.T) {
	t.Parallel()
	eachJob(t, func(t *testing.T, prepare func(*world) job) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			j := prepare(w)
			j.names = []string{"one.test/app:1.0", "two.test/team/app:1.0", "two.test/team/app:latest"}
			w.net.Fault = func(r registrytest.Request) *registrytest.Fault {
				if r.Host == "two.test" && r.Method != http.MethodGet {
					return &registrytest.Fault{Reset: true}
				}
				return nil
			}
			receipts, err := j.run(t.Context(), w)
			w.failed(t, err)
			if len(receipts) > 0 {
				t.Errorf("receipts %v", receipts)
			}
			for _, tag := range j.names[1:] {
				if err != nil && !strings.Contains(err.Error(), tag) {
					t.Errorf("%s is not told of: %v", tag, err)
				}
			}
		})
	})
}
