package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"orbit"
)

var demoFlags struct {
	fleet  string
	count  int
	length time.Duration
}

var demoCommand = &command{
	name:  "demo",
	short: "start real processes, kill one, and watch the others carry on",
	long: `Starts sibling processes that meet in a shared fleet. Each publishes its load
as a typed value several times a second, and all see each other's. They announce
events, keep a report in the cache, beat, and contend for the office of the
scheduler, which one of them holds. This process only observes: it shows all of
that live, kills the holder with SIGKILL, shows that the fleet knows, that
another takes over with a larger fence token and that the others go on unharmed,
and starts a replacement.

It ends by itself with a summary of what it counted, and leaves nothing in
shared memory: also after Ctrl-C, and even if this process is killed. While it
runs, other programs can join or observe its fleet under the name it shows.

Where standard output is not a terminal, or TERM is "dumb", it prints plain
lines. NO_COLOR takes the colors away.

  orbit demo
  orbit demo -n 8 -for 30s
`,
	flags: func(f *flag.FlagSet) {
		f.IntVar(&demoFlags.count, "n", 3, "`number` of siblings, from 2 to 12")
		spanFlag(f, &demoFlags.length, "for", 10*time.Second, 2*time.Second, "the `duration` of the demo, at least 2s")
		f.StringVar(&demoFlags.fleet, "fleet", "", "`name` of the fleet, which must not exist yet (default demo-<pid>)")
	},
	run: runDemo,
}

// stopPatience is how long siblings get to leave at the end.
const stopPatience = 3 * time.Second

func runDemo([]string) error {
	name, n, length := demoFlags.fleet, demoFlags.count, demoFlags.length
	switch {
	case n < 2 || n > 12:
		return usagef("-n %d: want 2 to 12", n)
	case name == "":
		name = fmt.Sprintf("demo-%d", os.Getpid())
	}
	if err := mustNotExist(name); err != nil {
		return err
	}
	ctx, stop := untilSignal()
	defer stop()
	d := &demo{name: name, count: n, length: length, screen: newScreen(os.Stdout), start: time.Now()}
	return d.run(ctx)
}

// mustNotExist refuses a fleet that somebody else may need.
func mustNotExist(name string) error {
	f, err := orbit.Observe(name)
	switch {
	case err == nil:
		f.Close()
		return fmt.Errorf("fleet %q exists already, and this wants one of its own", name)
	case errors.Is(err, orbit.ErrNotExist):
		return nil
	}
	return err
}

// A demo is one run of the demo.
type demo struct {
	name   string
	count  int
	length time.Duration
	screen *screen
	start  time.Time
	watch  watch
	rows   []*row
	shown  time.Time // when the table was last shown

	victim *row
	killed orbit.Stamp   // when
	taken  time.Duration // from then until another announced that it holds the office
	tokens [2]uint64     // of the victim, and of that other
}

// run plays the demo and clears up after it, however it ended.
func (d *demo) run(ctx context.Context) error {
	err := d.play(ctx)
	if stopErr := d.stopSiblings(); err == nil {
		err = stopErr
	}
	if err == nil {
		err = d.conclude()
	}
	d.screen.end()
	if clearErr := d.clear(); clearErr != nil {
		return errors.Join(err, clearErr)
	}
	d.screen.say("Nothing is left in shared memory.")
	return err
}

// play goes through the acts, one at its time.
func (d *demo) play(ctx context.Context) error {
	d.screen.say("%d processes share fleet %q for %v; this one only observes", d.count, d.name, d.length)
	for range d.count {
		if _, err := d.startSibling(); err != nil {
			return err
		}
	}
	acts := []struct {
		at   time.Duration
		play func() error
	}{
		{d.length * 2 / 5, d.killOne},
		{d.length * 3 / 5, d.replaceOne},
		{d.length, d.show},
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for len(acts) > 0 {
		select {
		case <-ctx.Done():
			return errInterrupted
		case <-tick.C:
		}
		if err := d.look(); err != nil {
			return err
		}
		if act := acts[0]; time.Since(d.start) >= act.at {
			switch err := act.play(); {
			case err == errLater:
			case err != nil:
				return err
			default:
				acts = acts[1:]
			}
		}
	}
	return nil
}

// look reads the fleet and shows the table when it is time to.
func (d *demo) look() error {
	for _, r := range d.rows {
		if over, err := r.ended(); over && !r.killed {
			return fmt.Errorf("sibling %d (pid %d) ended by itself: %v", r.number, r.pid(), err)
		}
	}
	if ready, err := d.watch.open(d.name); err != nil || !ready {
		return err
	}
	if err := d.watch.read(d.rows); err != nil {
		return err
	}
	d.tellNews()
	if v := d.victim; v != nil && v.stale == 0 && v.pulse.State == orbit.Stale && v.pulse.Last < d.killed {
		v.stale = time.Duration(orbit.Now() - d.killed)
		d.tell("the heartbeat of node %d has become stale", v.node)
		d.shown = time.Time{}
	}
	every := d.length / 5
	if d.screen.live {
		every = 100 * time.Millisecond
	}
	if time.Since(d.shown) >= every {
		return d.show()
	}
	return nil
}

func (d *demo) startSibling() (*row, error) {
	number := len(d.rows) + 1
	p, err := startSelf(func(r io.Reader) { io.Copy(io.Discard, r) },
		siblingCommand.name, "-fleet", d.name, "-size", strconv.Itoa(d.count), "-number", strconv.Itoa(number))
	if err != nil {
		return nil, err
	}
	r := &row{process: p, number: number}
	d.rows = append(d.rows, r)
	d.tell("started sibling %d, pid %d", number, p.pid())
	return r, nil
}

// errLater is an act's wish to be called again.
var errLater = errors.New("later")

// holderPatience is how much longer than planned the demo looks for a holder.
const holderPatience = 5 * time.Second

// killOne kills the sibling that holds the office of the scheduler.
func (d *demo) killOne() error {
	r := d.holder()
	switch {
	case r == nil && time.Since(d.start) < d.length+holderPatience:
		return errLater // the office may be changing hands just now
	case r == nil:
		return fmt.Errorf("no sibling is the scheduler after %v", time.Since(d.start))
	}
	d.victim, d.tokens[0], d.killed = r, d.watch.holder.Token, orbit.Now()
	for _, other := range d.rows {
		other.before = other.delivered
	}
	if err := d.watch.killAndWatch(r); err != nil {
		return err
	}
	d.tell("killed sibling %d, pid %d: node %d was no member %s after SIGKILL", r.number, r.pid(), r.node, micros(r.gone))
	d.shown = time.Time{} // show the table at once
	return nil
}

// holder returns the sibling that holds the office of the scheduler, if one
// does.
func (d *demo) holder() *row {
	for _, r := range d.rows {
		if d.watch.held && r.member && r.pid() == d.watch.holder.PID {
			return r
		}
	}
	return nil
}

func (d *demo) replaceOne() error {
	d.tell("starting a replacement")
	_, err := d.startSibling()
	return err
}

// stopSiblings asks all to leave, and waits for that.
func (d *demo) stopSiblings() error {
	var all []*process
	for _, r := range d.rows {
		all = append(all, r.process)
	}
	return stopAll(all, stopPatience)
}

// clear removes what siblings that were killed could not.
func (d *demo) clear() error {
	if d.watch.fleet != nil {
		d.watch.fleet.Close()
	}
	if err := orbit.Remove(d.name); err != nil && !errors.Is(err, orbit.ErrNotExist) {
		return within("cannot clear the fleet away", err)
	}
	return nil
}
