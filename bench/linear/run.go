//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/anishathalye/porcupine"
)

// A row is what came out of one scenario.
type row struct {
	name       string
	histories  int
	operations int
	met        int // operations that overlap one of another lane
	unknown    int // operations of processes that died meanwhile
	kills      int
	stops      int
	undecided  int // parts that the checker had no time for
	violations int
	skew       time.Duration // the most that the clocks of two processes were apart
	dumps      []string
}

// A trial is a scenario with the program that plays it.
type trial struct {
	scenario *scenario
	binary   string
	stepped  bool
	fault    string    // to commit, if the program has any
	dir      string    // for dumps
	out      io.Writer // for offending parts
}

func (t *trial) name() string {
	if t.stepped {
		return t.scenario.name + ", stepped"
	}
	return t.scenario.name
}

// run has a crew play histories for a time, and checks each. It ends early
// if there were enough violations, and goes on for some histories at least.
func (t *trial) run(ctx context.Context, length time.Duration, seed uint64) (r row, err error) {
	r.name = t.name()
	c, err := newCrew(t, seed)
	if err != nil {
		return r, fmt.Errorf("%s: %w", r.name, err)
	}
	defer func() {
		if e := c.close(); err == nil {
			err = e
		}
		r.kills, r.stops = c.kills, c.stops
	}()
	for end := time.Now().Add(length); r.violations < t.enough() && (time.Now().Before(end) || r.histories < leastHistories); {
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		h, err := c.play(20 + c.random.IntN(30))
		if err != nil {
			return r, fmt.Errorf("%s: %w", r.name, err)
		}
		if err := t.judge(&r, h); err != nil {
			return r, err
		}
	}
	return r, nil
}

// enough is how many violations say it all.
func (t *trial) enough() int {
	if t.fault != "" {
		return 1
	}
	return 3
}

// leastHistories are played however slow the machine is.
const leastHistories = 4

func (t *trial) judge(r *row, h *history) error {
	r.histories++
	r.operations += len(h.ops)
	r.met += h.met()
	r.skew = max(r.skew, h.skew())
	for _, o := range h.ops {
		if o.Outcome == unknown {
			r.unknown++
		}
	}
	for _, p := range t.scenario.parts(h) {
		switch p.check() {
		case porcupine.Unknown:
			r.undecided++
		case porcupine.Illegal:
			r.violations++
			path, err := p.dump(t.dir, t.scenario.name, t.out)
			if err != nil {
				return err
			}
			r.dumps = append(r.dumps, path)
			return nil // the parts that follow hold this one
		}
	}
	return nil
}

func (r *row) add(x *row) {
	r.name = "all"
	r.histories += x.histories
	r.operations += x.operations
	r.met += x.met
	r.unknown += x.unknown
	r.kills += x.kills
	r.stops += x.stops
	r.undecided += x.undecided
	r.violations += x.violations
	r.skew = max(r.skew, x.skew)
}

// failed tells whether something was found, or too little could be decided on,
// or clocks were further apart than contests allow for.
func (r *row) failed() bool {
	// A checker that loses the processor for all of its time decides nothing.
	return r.violations > 0 || r.undecided > max(r.histories/100, 1) || int64(r.skew) > clockSlack
}

const rowFormat = "%-18s %9v %10v %5v %7v %5v %6v %9v %9v %10v\n"

func printHeader(w io.Writer) {
	fmt.Fprintf(w, rowFormat, "scenario", "histories", "operations", "met", "unknown", "kills", "stops", "skew", "undecided", "violations")
}

func (r *row) print(w io.Writer) {
	met := fmt.Sprintf("%.0f%%", 100*float64(r.met)/max(float64(r.operations), 1))
	fmt.Fprintf(w, rowFormat, r.name, r.histories, r.operations, met, r.unknown, r.kills, r.stops, r.skew, r.undecided, r.violations)
	for _, d := range r.dumps {
		fmt.Fprintf(w, "  history and smallest offending part: %s (a picture of it: .html)\n", d)
	}
}
