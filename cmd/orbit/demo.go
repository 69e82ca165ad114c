package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
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
	args:  "[-n number] [-for duration] [-fleet name]",
	short: "start real processes, kill one, and watch the others carry on",
	long: `Starts sibling processes that meet in a shared fleet. Each publishes its load
as a typed value several times a second, and all see each other's. This process
only observes: it shows a live table, kills one sibling with SIGKILL, shows that
the fleet knows and that the others go on unharmed, and starts a replacement.

It ends by itself with a summary of what it counted, and leaves nothing in
shared memory: also after Ctrl-C, and even if this process is killed. While it
runs, other programs can join or observe its fleet under the name it shows.

Where standard output is not a terminal, or TERM is "dumb", it prints plain
lines. NO_COLOR takes the colors away.
`,
	flags: func(f *flag.FlagSet) {
		f.IntVar(&demoFlags.count, "n", 3, "`number` of siblings, from 2 to 32")
		f.DurationVar(&demoFlags.length, "for", 10*time.Second, "how long it takes, at least 2s")
		f.StringVar(&demoFlags.fleet, "fleet", "", "`name` of the fleet, which must not exist yet (default demo-<pid>)")
	},
	run: runDemo,
}

// stopPatience is how long siblings get to leave at the end.
const stopPatience = 3 * time.Second

func runDemo(args []string) error {
	name, n, length := demoFlags.fleet, demoFlags.count, demoFlags.length
	switch {
	case len(args) > 0:
		return usagef("it takes no arguments, found %q", args[0])
	case n < 2 || n > 32:
		return usagef("-n %d: want 2 to 32", n)
	case length < 2*time.Second:
		return usagef("-for %v: want at least 2s", length)
	case name == "":
		name = fmt.Sprintf("demo-%d", os.Getpid())
	}
	if err := mustNotExist(name); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
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
		return fmt.Errorf("fleet %q exists already; the demo wants one of its own", name)
	case errors.Is(err, orbit.ErrNotExist):
		return nil
	case errors.Is(err, orbit.ErrName):
		return usagef("-fleet: %s", strings.TrimPrefix(err.Error(), "orbit: "))
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
	victim *row
	shown  time.Time // when the table was last shown
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
			acts = acts[1:]
			if err := act.play(); err != nil {
				return err
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
	if open, err := d.watch.open(d.name); err != nil || !open {
		return err
	}
	if err := d.watch.read(d.rows); err != nil {
		return err
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
	p, err := startSibling(d.name, d.count, number)
	if err != nil {
		return nil, err
	}
	r := &row{process: p, number: number}
	d.rows = append(d.rows, r)
	d.tell("started sibling %d, pid %d", number, p.pid())
	return r, nil
}

// killOne kills the sibling in the middle.
func (d *demo) killOne() error {
	r := d.rows[len(d.rows)/2]
	if !r.member {
		return fmt.Errorf("sibling %d (pid %d) has not joined after %v", r.number, r.pid(), time.Since(d.start))
	}
	d.victim = r
	for _, other := range d.rows {
		other.before = other.delivered
	}
	if err := d.watch.killAndWatch(r); err != nil {
		return err
	}
	d.tell("killed sibling %d, pid %d, with SIGKILL: node %d was gone from the members %s later", r.number, r.pid(), r.node, micros(r.gone))
	d.shown = time.Time{} // show the table at once
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
		return fmt.Errorf("cannot clear the fleet away: %w", err)
	}
	return nil
}

// ---- What it shows ----

// tell prints a line of the story.
func (d *demo) tell(format string, args ...any) {
	d.screen.say("%6.2fs  %s", time.Since(d.start).Seconds(), fmt.Sprintf(format, args...))
}

// show draws the table of siblings.
func (d *demo) show() error {
	if d.watch.cursor == nil {
		return fmt.Errorf("no sibling has joined within %v", time.Since(d.start))
	}
	d.shown = time.Now()
	s := d.screen
	lines := []string{
		"",
		s.style(bold, fmt.Sprintf("%6.2fs  fleet %q", time.Since(d.start).Seconds(), d.name)),
		s.style(dim, fmt.Sprintf("%5s %8s %8s   %-14s %7s %5s %7s", "node", "pid", "joined", "load", "stored", "sees", "age")),
	}
	for _, r := range d.rows {
		lines = append(lines, d.line(r))
	}
	ring, tally := d.watch.load.Ring(), d.watch.cursor.Tally()
	lines = append(lines, fmt.Sprintf("ring %d: head %d, delivered here %d, passed %d", ring.Kind(), ring.Head(), tally.Delivered, tally.Gap.Total()), "")
	s.show(lines)
	return nil
}

func (d *demo) line(r *row) string {
	switch {
	case r.killed:
		return d.screen.style(red, fmt.Sprintf("%5d %8d   killed: no member %s later, %d values delivered", r.node, r.pid(), micros(r.gone), r.delivered))
	case !r.member:
		return fmt.Sprintf("%5s %8d   no member", "-", r.pid())
	case r.delivered == 0:
		return fmt.Sprintf("%5d %8d %8s   no value yet", r.node, r.pid(), ago(r.since))
	}
	return fmt.Sprintf("%5d %8d %8s   %s %3.0f%% %7d %5d %7s", r.node, r.pid(), ago(r.since),
		bar(r.load.Busy, 9), 100*r.load.Busy, r.load.Stored, r.load.Seen, ago(r.arrived))
}

// conclude reads what was published last and prints what was counted.
func (d *demo) conclude() error {
	if err := d.watch.readLoads(d.rows); err != nil {
		return err
	}
	d.screen.end()
	return d.summary()
}

// summary prints what was counted, and fails if it does not add up.
func (d *demo) summary() error {
	w := &d.watch
	moved, tally := w.cursor.Position()-w.start, w.cursor.Tally()
	head := w.load.Ring().Head()
	var own, after uint64
	var longest time.Duration
	for _, r := range d.rows {
		own += r.load.Stored
		if r != d.victim {
			after += r.delivered - r.before
			longest = max(longest, r.longest)
		}
	}
	var b strings.Builder
	count := func(n any, format string, args ...any) {
		fmt.Fprintf(&b, "%9v  %s\n", n, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "Counted in ring %d of fleet %q:\n", w.load.Ring().Kind(), d.name)
	count(head, "values published: the ring's head")
	count(tally.Delivered, "delivered to this process's cursor")
	count(tally.Gap.Total(), "passed without a value: overwritten %d, holes %d, lost %d", tally.Overwritten, tally.Holes, tally.Lost)
	count(moved, "counters the cursor moved: delivered + passed = %d", tally.Delivered+tally.Gap.Total())
	count(own, "stored, as the siblings counted themselves")
	count(after, "of them stored by the others after the kill; none was silent for longer than %s", micros(longest))
	count(micros(d.victim.gone), "from SIGKILL until node %d was no member", d.victim.node)
	d.screen.say("%s", strings.TrimSuffix(b.String(), "\n"))
	if sum := tally.Delivered + tally.Gap.Total(); sum != moved || w.start+moved != head {
		return fmt.Errorf("the cursor started at %d, moved by %d and accounts for %d; the head is %d", w.start, moved, sum, head)
	}
	return nil
}

// bar draws a share of the whole, n characters wide.
func bar(share float64, n int) string {
	full := min(max(int(share*float64(n)+0.5), 0), n)
	return strings.Repeat("#", full) + strings.Repeat(".", n-full)
}

func ago(t time.Time) string { return fmt.Sprintf("%.1fs", time.Since(t).Seconds()) }

// micros rounds a measured duration to what is worth reading.
func micros(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }
