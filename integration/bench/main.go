// Command bench measures Manifold beside its alternatives, in one run on one machine, and prints the ratios:
//
//	go run ./integration/bench            every figure
//	go run ./integration/bench -run cold  the figures whose names match
//
// Runs of the two sides alternate, so that whatever else the machine does meets both; the medians are compared. Each figure
// has a goal, printed beside it. Nothing fails if a goal is missed: a figure is for people to read.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/manifold-build/manifold/integration/sandbox"
)

func main() {
	pattern := flag.String("run", "", "regular expression of the figures to measure")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := measure(ctx, *pattern)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// figure is one comparison.
type figure struct {
	name         string
	ours, theirs side
	// rounds is how often each side is run after prepare.
	rounds int
	// most is the goal: the largest ratio of our time to theirs. Where it is below a half, the goal is how many times faster we
	// are to be, and printed so.
	most float64
	// stop is when the other side is stopped, if it has not ended by then: the ratio is a bound. Zero means never.
	stop time.Duration
	// after returns a further row, when both sides have been run; nil if there is none.
	after func() string
}

// side is one of the two things compared.
type side struct {
	name string
	// run does the work once and returns how long it took.
	run func(context.Context) (time.Duration, error)
}

func measure(ctx context.Context, pattern string) (err error) {
	match, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	bench, err := sandbox.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bench.Close()) }()
	figures := []figure{}
	for _, prepare := range []func(context.Context, *sandbox.Bench, *regexp.Regexp) ([]figure, error){all, automatic, accelerated, nodes, fleet, gate, indexes} {
		some, err := prepare(ctx, bench, match)
		if err != nil {
			return err
		}
		figures = append(figures, some...)
	}
	fmt.Println("| work | ours | theirs | ratio | goal |")
	fmt.Println("|---|---|---|---|---|")
	for _, f := range figures {
		if !match.MatchString(f.name) {
			continue
		}
		if err := f.print(ctx); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// print measures a figure and prints it as a row of a Markdown table.
func (f figure) print(ctx context.Context) error {
	var ours, theirs []time.Duration
	over := ""
	for range f.rounds {
		o, err := f.ours.run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", f.ours.name, err)
		}
		t, stopped, err := f.runTheirs(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", f.theirs.name, err)
		}
		if stopped {
			over = "over "
		}
		ours, theirs = append(ours, o), append(theirs, t)
	}
	o, t := median(ours), median(theirs)
	ratio, goal := fmt.Sprintf("%.2f", o.Seconds()/t.Seconds()), fmt.Sprintf("at most %.2f", f.most)
	if f.most < 0.5 {
		ratio, goal = fmt.Sprintf("%s%.1f × faster", over, t.Seconds()/o.Seconds()), fmt.Sprintf("at least %.3g × faster", 1/f.most)
	}
	_, err := fmt.Printf("| %s | %s: %.2f s | %s: %s%.2f s | %s | %s |\n",
		f.name, f.ours.name, o.Seconds(), f.theirs.name, over, t.Seconds(), ratio, goal)
	if err == nil && f.after != nil {
		_, err = fmt.Println(f.after())
	}
	return err
}

// runTheirs runs the other side, until it is stopped.
func (f figure) runTheirs(ctx context.Context) (took time.Duration, stopped bool, err error) {
	if f.stop > 0 {
		limited, cancel := context.WithTimeout(ctx, f.stop)
		defer cancel()
		took, err = f.theirs.run(limited)
		if limited.Err() != nil && ctx.Err() == nil {
			return f.stop, true, nil
		}
		return took, false, err
	}
	took, err = f.theirs.run(ctx)
	return took, false, err
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
