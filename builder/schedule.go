package builder

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/manifold-build/manifold/platforms"
)

// fit is how well a node builds a target. The better one is the smaller number but zero.
type fit uint8

const (
	// unable is the zero value: some stage of the target cannot be run on the node.
	unable fit = iota
	// runsNatively: the node executes every stage of the target itself.
	runsNatively
	// crosses: what runs is moved to the build platform, and told its target.
	crosses
	// accelerates and emulates: some stage runs through an emulator, with and without the build platform's compilers.
	accelerates
	emulates
)

// job is one target to be placed.
type job struct {
	target platforms.Platform
	// fits says how well each node builds it.
	fits []fit
	// cost is what its own stages take, on a node that does it best. Shared are stages that it has in common with other targets, which a node
	// runs once for all that it builds.
	cost   time.Duration
	shared []string
}

// lane is a node as the schedule sees it.
type lane struct {
	name string
	host platforms.Host
	// running is how many builds the node has already, max how many targets it takes at once; 0 is usualMax.
	running, max int
	// prefers are the targets that it is taken for before others that do them as well.
	prefers []platforms.Platform
	// err is why nothing is known of what it would do; nil if that is known.
	err error
}

// placing is a schedule to be made.
type placing struct {
	jobs  []job
	lanes []lane
	// stages are what the shared stages take.
	stages map[string]time.Duration
	// key is what is built, wherever it lies: equal ones come to the same nodes, whose caches know them.
	key string
	// pins are the lanes that targets have to be built on; a pattern may stand for several.
	pins []Pin
}

const (
	// usualCost is what is assumed of a target that was never built, usualMax how many a node takes before others are asked.
	usualCost = 10 * time.Second
	usualMax  = 4
	// carrying is what it takes to bring a shared stage's files from one node to another.
	carrying = 3 * time.Second
)

// place decides for each job which lane builds it. Each is built by one that does it best (natively, else crossing, else accelerating, else emulating),
// preferred where one is; among those so that all is done as soon as possible, and where that leaves a choice, by a hash of what is built, so that
// the same is built on the same nodes again. It is pure: equal placings give equal answers.
func (p placing) place() ([]int, error) {
	choices := make([][]int, len(p.jobs))
	var errs []error
	for i, j := range p.jobs {
		var err error
		if choices[i], err = p.choices(j); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	out := make([]int, len(p.jobs))
	for i := range out {
		out[i] = -1
	}
	// The longest first: what is short fills the gaps.
	order := make([]int, len(p.jobs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p.whole(p.jobs[b]), p.whole(p.jobs[a])) })
	for _, i := range order {
		best := -1
		var least score
		for _, c := range choices[i] {
			out[i] = c
			if s := p.score(out); best < 0 || s.less(least) {
				best, least = c, s
			}
		}
		out[i] = best
	}
	return p.improve(out, choices), nil
}

// improve moves single jobs, and exchanges two, as long as that makes the schedule better.
func (p placing) improve(out []int, choices [][]int) []int {
	least := p.score(out)
	try := func(next []int) bool {
		if s := p.score(next); s.less(least) {
			out, least = next, s
			return true
		}
		return false
	}
	for again := true; again; {
		again = false
		for i := range out {
			for _, c := range choices[i] {
				next := slices.Clone(out)
				next[i] = c
				again = try(next) || again
			}
			for j := range i {
				if out[i] != out[j] && slices.Contains(choices[i], out[j]) && slices.Contains(choices[j], out[i]) {
					next := slices.Clone(out)
					next[i], next[j] = out[j], out[i]
					again = try(next) || again
				}
			}
		}
	}
	return out
}

// choices are the lanes that a job may be put on.
func (p placing) choices(j job) ([]int, error) {
	var pinned *Pin
	for i, pin := range p.pins {
		if pin.Pattern.Match(j.target) && (pinned == nil || pin.Pattern.Compare(pinned.Pattern) > 0) {
			pinned = &p.pins[i]
		}
	}
	best := unable
	var out []int
	for i, f := range j.fits {
		switch {
		case f == unable || pinned != nil && p.lanes[i].name != pinned.Node:
		case best == unable || f < best:
			best, out = f, []int{i}
		case f == best:
			out = append(out, i)
		}
	}
	if len(out) == 0 {
		return nil, p.nobody(j, pinned)
	}
	if preferred := slices.DeleteFunc(slices.Clone(out), func(i int) bool { return !slices.Contains(p.lanes[i].prefers, j.target) }); len(preferred) > 0 {
		return preferred, nil
	}
	return out, nil
}

// nobody says that no node can build a target, and what each of them can.
func (p placing) nobody(j job, pinned *Pin) error {
	if pinned != nil {
		return fmt.Errorf("%s: the node %s, which it is to be built on, cannot; it runs %s", j.target, pinned.Node, p.abilities(pinned.Node))
	}
	var lines []string
	for _, l := range p.lanes {
		lines = append(lines, l.name+" runs "+p.abilities(l.name))
	}
	return fmt.Errorf("%s: no node can build it: %s", j.target, strings.Join(lines, "; "))
}

func (p placing) abilities(name string) string {
	for _, l := range p.lanes {
		if l.name != name {
			continue
		}
		if l.err != nil {
			return "nothing: " + l.err.Error()
		}
		out := platforms.Format(l.host.NativePlatforms()) + " natively"
		if len(l.host.Emulated) > 0 {
			out += " and emulates " + platforms.Format(l.host.Emulated)
		}
		return strings.ReplaceAll(out, ",", ", ")
	}
	return "nothing: there is no node of that name"
}

// score is how good a schedule is: when it ends, how much work it is altogether, and how far from where the hash wants it.
type score struct {
	end, work time.Duration
	stray     int
}

func (s score) less(o score) bool {
	return cmp.Or(cmp.Compare(s.end, o.end), cmp.Compare(s.work, o.work), cmp.Compare(s.stray, o.stray)) < 0
}

// score judges a schedule, in which what is not placed yet is -1.
func (p placing) score(at []int) score {
	var s score
	owner := map[string]bool{}
	ends := make([]time.Duration, len(p.lanes))
	for l, lane := range p.lanes {
		ends[l] = p.queue(lane)
		seen := map[string]bool{}
		for i, j := range p.jobs {
			if at[i] != l {
				continue
			}
			ends[l] += p.own(j)
			s.stray += p.rank(j, l)
			for _, stage := range j.shared {
				if seen[stage] {
					continue
				}
				seen[stage] = true
				ends[l] += p.stages[stage]
				if owner[stage] {
					ends[l] += carrying
				}
				owner[stage] = true
			}
		}
		s.work += ends[l]
		s.end = max(s.end, ends[l])
	}
	return s
}

// own is what a job's own stages take.
func (p placing) own(j job) time.Duration {
	if j.cost > 0 {
		return j.cost
	}
	return usualCost
}

// whole is what a job takes with all that it shares.
func (p placing) whole(j job) time.Duration {
	d := p.own(j)
	for _, s := range j.shared {
		d += p.stages[s]
	}
	return d
}

// queue is what a lane has to do before it begins: of a node that takes more at once, nothing.
func (p placing) queue(l lane) time.Duration {
	most := l.max
	if most == 0 {
		most = usualMax
	}
	return time.Duration(max(l.running-most+1, 0)) * usualCost
}

// rank is the place of a lane among all for a job, by rendezvous hashing: a node that comes or goes changes only what is built on it.
func (p placing) rank(j job, lane int) int {
	weight := func(l int) uint64 {
		h := fnv.New64a()
		fmt.Fprintf(h, "%s\x00%s\x00%s", p.key, j.target, p.lanes[l].name)
		return mix(h.Sum64())
	}
	own, rank := weight(lane), 0
	for l := range p.lanes {
		if l != lane && (weight(l) > own || weight(l) == own && l < lane) {
			rank++
		}
	}
	return rank
}

// mix spreads a hash over all its bits (the end of MurmurHash3): FNV's last letters change the low ones only.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
