package builder

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manifold-build/manifold/platforms"
)

const (
	a64 = "linux/amd64"
	r64 = "linux/arm64"
	s39 = "linux/s390x"
	rv  = "linux/riscv64"
)

// sketch is a placing as the table writes it: nodes by name, what each of them fits (in their order), costs in seconds.
type sketch struct {
	nodes  []string
	max    []int
	busy   []int
	likes  map[string]string // node → the target it is preferred for
	jobs   []string          // target
	fits   map[string][]fit
	cost   map[string]int
	shared map[string][]string
	stages map[string]int
	pins   map[string]string
}

func (s sketch) placing(t *testing.T) placing {
	t.Helper()
	p := placing{key: "app", stages: map[string]time.Duration{}}
	for i, n := range s.nodes {
		l := lane{name: n, host: platforms.Host{Native: parseList(t, a64)[0]}}
		if s.max != nil {
			l.max = s.max[i]
		}
		if s.busy != nil {
			l.running = s.busy[i]
		}
		if like := s.likes[n]; like != "" {
			l.prefers = parseList(t, like)
		}
		p.lanes = append(p.lanes, l)
	}
	for _, target := range s.jobs {
		p.jobs = append(p.jobs, job{target: parseList(t, target)[0], fits: s.fits[target], cost: time.Duration(s.cost[target]) * time.Second, shared: s.shared[target]})
	}
	for name, cost := range s.stages {
		p.stages[name] = time.Duration(cost) * time.Second
	}
	for pattern, node := range s.pins {
		parsed, err := platforms.ParsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		p.pins = append(p.pins, Pin{parsed, node})
	}
	return p
}

func TestPlace(t *testing.T) {
	both := map[string][]fit{a64: {runsNatively, crosses}, r64: {emulates, runsNatively}}
	for name, tc := range map[string]struct {
		sketch

		want string // "TARGET=NODE …", or "apart" or "together" for two
		err  string
	}{
		"each where it is native":            {sketch: sketch{nodes: []string{"amd", "arm"}, jobs: []string{a64, r64}, fits: both}, want: a64 + "=amd " + r64 + "=arm"},
		"crossing before emulating":          {sketch: sketch{nodes: []string{"a", "b"}, jobs: []string{r64}, fits: map[string][]fit{r64: {emulates, crosses}}}, want: r64 + "=b"},
		"accelerating before emulating":      {sketch: sketch{nodes: []string{"a", "b"}, jobs: []string{r64}, fits: map[string][]fit{r64: {accelerates, emulates}}}, want: r64 + "=a"},
		"one that can, not one that is free": {sketch: sketch{nodes: []string{"a", "b"}, busy: []int{9, 0}, jobs: []string{r64}, fits: map[string][]fit{r64: {emulates, unable}}}, want: r64 + "=a"},
		"equal ones are spread":              {sketch: sketch{nodes: []string{"a", "b"}, jobs: []string{r64, s39}, fits: map[string][]fit{r64: {emulates, emulates}, s39: {emulates, emulates}}}, want: "apart"},
		"a full node spills over":            {sketch: sketch{nodes: []string{"a", "b"}, busy: []int{5, 0}, jobs: []string{a64}, fits: map[string][]fit{a64: {runsNatively, runsNatively}}}, want: a64 + "=b"},
		"and the other one":                  {sketch: sketch{nodes: []string{"a", "b"}, busy: []int{0, 5}, jobs: []string{a64}, fits: map[string][]fit{a64: {runsNatively, runsNatively}}}, want: a64 + "=a"},
		"a limit of one's own":               {sketch: sketch{nodes: []string{"a", "b"}, max: []int{1, 0}, busy: []int{1, 3}, jobs: []string{a64}, fits: map[string][]fit{a64: {runsNatively, runsNatively}}}, want: a64 + "=b"},
		"a preferred one":                    {sketch: sketch{nodes: []string{"a", "b"}, likes: map[string]string{"b": rv}, jobs: []string{rv}, fits: map[string][]fit{rv: {emulates, emulates}}}, want: rv + "=b"},
		"preferred, but worse":               {sketch: sketch{nodes: []string{"a", "b"}, likes: map[string]string{"b": rv}, jobs: []string{rv}, fits: map[string][]fit{rv: {crosses, emulates}}}, want: rv + "=a"},
		"pinned":                             {sketch: sketch{nodes: []string{"amd", "arm"}, jobs: []string{r64}, fits: both, pins: map[string]string{"linux/arm64": "amd"}}, want: r64 + "=amd"},
		"the closer pin":                     {sketch: sketch{nodes: []string{"amd", "arm"}, jobs: []string{r64}, fits: both, pins: map[string]string{"linux/arm64": "amd", "linux/*": "arm"}}, want: r64 + "=amd"},
		"a costly shared stage, together":    {sketch: sketch{nodes: []string{"a", "b"}, jobs: []string{r64, s39}, cost: map[string]int{r64: 1, s39: 1}, stages: map[string]int{"web": 60}, shared: map[string][]string{r64: {"web"}, s39: {"web"}}, fits: map[string][]fit{r64: {emulates, emulates}, s39: {emulates, emulates}}}, want: "together"},
		"a cheap shared stage, apart":        {sketch: sketch{nodes: []string{"a", "b"}, jobs: []string{r64, s39}, cost: map[string]int{r64: 60, s39: 60}, stages: map[string]int{"web": 5}, shared: map[string][]string{r64: {"web"}, s39: {"web"}}, fits: map[string][]fit{r64: {emulates, emulates}, s39: {emulates, emulates}}}, want: "apart"},
		"nobody":                             {sketch: sketch{nodes: []string{"a", "b"}, jobs: []string{a64, s39}, fits: map[string][]fit{a64: {runsNatively, runsNatively}, s39: {unable, unable}}}, err: s39 + ": no node can build it: a runs linux/amd64 natively; b runs linux/amd64 natively"},
		"pinned to one that cannot":          {sketch: sketch{nodes: []string{"a", "b"}, jobs: []string{s39}, fits: map[string][]fit{s39: {unable, emulates}}, pins: map[string]string{"linux/s390x": "a"}}, err: "the node a, which it is to be built on, cannot"},
	} {
		t.Run(name, func(t *testing.T) {
			p := tc.placing(t)
			at, err := p.place()
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i, j := range p.jobs {
				got = append(got, j.target.String()+"="+p.lanes[at[i]].name)
			}
			text := strings.Join(got, " ")
			if len(at) == 2 && (tc.want == "apart" || tc.want == "together") {
				text = map[bool]string{true: "together", false: "apart"}[at[0] == at[1]]
			}
			if text != tc.want {
				t.Errorf("%s, want %s", text, tc.want)
			}
		})
	}
}

// TestScheduleIsShort holds schedules against the best there is, found by trying them all: jobs of random lengths on two and three nodes.
func TestScheduleIsShort(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		nodes, jobs := 2+random.IntN(2), 2+random.IntN(5)
		p := placing{key: "app"}
		for l := range nodes {
			p.lanes = append(p.lanes, lane{name: fmt.Sprint("node", l)})
		}
		for i := range jobs {
			fits := make([]fit, nodes)
			for l := range fits {
				fits[l] = emulates
			}
			p.jobs = append(p.jobs, job{target: platforms.Platform{OS: "linux", Architecture: fmt.Sprint("x", i)}, fits: fits, cost: time.Duration(1+random.IntN(100)) * time.Second})
		}
		at, err := p.place()
		if err != nil {
			t.Fatal(err)
		}
		best := p.score(at)
		all := make([]int, jobs)
		for count := 1; count > 0; {
			if s := p.score(all); s.less(best) {
				best = s
			}
			for count = jobs; count > 0; count-- {
				if all[count-1]++; all[count-1] < nodes {
					break
				}
				all[count-1] = 0
			}
		}
		if got := p.score(at); float64(got.end) > 1.1*float64(best.end) {
			t.Errorf("%v: ends after %s, the best after %s", p.jobs, got.end, best.end)
		}
	}
}

// TestHashStays builds many projects on three nodes: where one goes does not change with the order of the nodes, changes only for those of a node that is
// taken away, and every node gets its part.
func TestHashStays(t *testing.T) {
	where := func(key string, names ...string) string {
		p := placing{key: key, jobs: []job{{target: parseList(t, a64)[0]}}}
		for _, n := range names {
			p.lanes = append(p.lanes, lane{name: n})
			p.jobs[0].fits = append(p.jobs[0].fits, runsNatively)
		}
		at, err := p.place()
		if err != nil {
			t.Fatal(err)
		}
		return names[at[0]]
	}
	count := map[string]int{}
	for i := range 300 {
		key := fmt.Sprint("project", i)
		first := where(key, "a", "b", "c")
		count[first]++
		if again := where(key, "c", "a", "b"); again != first {
			t.Errorf("%s goes to %s, or to %s if the nodes are named in another order", key, first, again)
		}
		if less := where(key, "a", "b"); first != "c" && less != first {
			t.Errorf("%s goes from %s to %s when c is taken away", key, first, less)
		}
	}
	for _, n := range []string{"a", "b", "c"} {
		if count[n] < 60 {
			t.Errorf("%v", count)
		}
	}
}

func TestParseNode(t *testing.T) {
	for text, want := range map[string]NodeConfig{
		"unix:///run/bk.sock":                                             {Address: "unix:///run/bk.sock"},
		"arm=tcp://10.0.0.2:1234,max=2":                                   {Name: "arm", Address: "tcp://10.0.0.2:1234", Max: 2},
		"tcp://h:1,ca=/a,cert=/b,key=/c,servername=n":                     {Address: "tcp://h:1", CA: "/a", Cert: "/b", Key: "/c", ServerName: "n"},
		"docker-container://b?context=c":                                  {Address: "docker-container://b?context=c"},
		"k=kube-pod://p-0?namespace=n,platforms=linux/arm64;linux/arm/v7": {Name: "k", Address: "kube-pod://p-0?namespace=n", Platforms: parseList(t, "linux/arm64,linux/arm/v7")},
	} {
		got, ok, err := ParseNode(text)
		if err != nil || !ok {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", text, diff)
		}
	}
	for text, want := range map[string]string{
		"arm=10.0.0.2:1234":          "is no address",
		"mybuilder,max=2":            "settings belong to an address",
		"=tcp://h:1":                 "no name before the =",
		"tcp://h":                    "names no port",
		"http://h:1":                 "http:// is none of",
		"tcp://h:1,max=0":            "max=0",
		"tcp://h:1,colour=red":       "colour is none of the settings",
		"tcp://h:1,cert=a":           "cert and key go together",
		"tcp://h:1,cert=a,key=b":     "ca is missing",
		"unix:///s,ca=a":             "are for tcp://",
		"kube-pod://bad_name":        "bad_name",
		"tcp://h:1,platforms=linx/a": "linx/a",
	} {
		if _, _, err := ParseNode(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", text, err, want)
		}
	}
	if _, ok, err := ParseNode("mybuilder"); ok || err != nil {
		t.Errorf("a name alone: %v, %v", ok, err)
	}
}

func TestVersions(t *testing.T) {
	for version, refused := range map[string]bool{
		"v0.31.2": false, "v0.34.2": false, "v1.0.0": false, "v0.31.1": true, "v0.12.5": true, "v0.31.2-rc1": false, "0.13.1": true,
		"": false, "v0.0.0+unknown": false, "0.0.0+unknown": false, "dev": false, "v0.8.2-94-g0a1b2c3": true,
	} {
		n := &Node{Name: "n", Version: version}
		if err := n.checkVersion(); (err != nil) != refused {
			t.Errorf("%s: %v", version, err)
		}
	}
}

func TestCacheNames(t *testing.T) {
	arm := parseList(t, "linux/arm/v7")[0]
	for _, tc := range [][3]string{
		{"registry", "ghcr.io/a/b:cache", "ghcr.io/a/b:cache-linux-arm-v7"}, {"registry", "ghcr.io/a/b", "ghcr.io/a/b:latest-linux-arm-v7"},
		{"local", "/c", "/c/linux-arm-v7"}, {"gha", "", "buildkit-linux-arm-v7"}, {"s3", "n", "n-linux-arm-v7"},
	} {
		if got := cacheName(tc[0], tc[1], arm); got != tc[2] {
			t.Errorf("%s %s: %s, want %s", tc[0], tc[1], got, tc[2])
		}
	}
}
