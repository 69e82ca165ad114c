package main

import (
	"fmt"
	"strings"
	"time"

	"orbit"
)

// What the demo shows: lines of the story, a table of the siblings with a line
// for each thing they share, and at the end what was counted.

// tell prints a line of the story.
func (d *demo) tell(format string, args ...any) {
	d.screen.say("%6.2fs  %s", time.Since(d.start).Seconds(), fmt.Sprintf(format, args...))
}

// tellNews prints the events that came, but for those that come all the time.
func (d *demo) tellNews() {
	for _, n := range d.watch.news {
		d.screen.say("%6.2fs  event %s from node %d", n.at.Time().Sub(d.start).Seconds(), strings.TrimSpace(n.topic+" "+n.payload), n.node)
		if n.topic == topicTaken && d.victim != nil && d.taken == 0 && n.at > d.killed {
			d.taken = time.Duration(n.at - d.killed)
			fmt.Sscanf(n.payload, tokenFormat, &d.tokens[1])
		}
	}
	d.watch.news = nil
}

// show draws the table of siblings, and a line for each thing they share.
func (d *demo) show() error {
	if !d.watch.ready {
		return fmt.Errorf("the siblings are not ready after %v", time.Since(d.start))
	}
	d.shown = time.Now()
	s := d.screen
	lines := []string{
		"",
		s.style(bold, fmt.Sprintf("%6.2fs  fleet %q", time.Since(d.start).Seconds(), d.name)),
		s.style(dim, fmt.Sprintf(rowFormat, "node", "pid", "joined", "load", "stored", "sees", "age", "heart", "")),
	}
	for _, r := range d.rows {
		lines = append(lines, d.line(r))
	}
	lines = append(lines, d.watch.lines(d.rows)...)
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	s.show(append(lines, ""))
	return nil
}

// rowFormat is a line of the table. It fits into 80 columns.
const rowFormat = "%4v %8v %6v  %-11v %6v %4v %5v %11v  %s"

func (d *demo) line(r *row) string {
	switch {
	case r.killed:
		return d.screen.style(red, fmt.Sprintf("%4d %8d  killed: no member %s later, %d values delivered", r.node, r.pid(), micros(r.gone), r.delivered))
	case !r.member:
		return fmt.Sprintf("%4s %8d  no member", "-", r.pid())
	case r.delivered == 0:
		return fmt.Sprintf("%4d %8d  no value yet", r.node, r.pid())
	}
	holds := ""
	if r == d.holder() {
		holds = d.screen.style(bold, fmt.Sprintf("scheduler #%d", d.watch.holder.Token))
	}
	load := fmt.Sprintf("%s %3.0f%%", bar(r.load.Busy, 6), 100*r.load.Busy)
	heart := fmt.Sprintf("%v %.1fs", r.pulse.State, r.pulse.Age.Seconds())
	return fmt.Sprintf(rowFormat, r.node, r.pid(), ago(r.since), load, r.load.Stored, r.load.Seen, ago(r.arrived), heart, holds)
}

// lines tells of each thing the siblings share what this process sees of it.
func (w *watch) lines(rows []*row) []string {
	line := func(what string, kind uint8, format string, args ...any) string {
		var head uint64
		if ring, err := w.fleet.Ring(kind); err == nil {
			head = ring.Head()
		}
		return fmt.Sprintf("%9s  ring %3d, head %3d: %s", what, kind, head, fmt.Sprintf(format, args...))
	}
	loads, events := w.cursor.Tally(), w.events.Tally()
	hits, misses := cacheCounts(rows)
	states := map[orbit.PulseState]int{}
	for _, p := range w.pulses {
		states[p.State]++
	}
	office := "nobody is the scheduler"
	if w.held {
		office = fmt.Sprintf("node %d is the scheduler, with fence token %d", w.holder.Node, w.holder.Token)
	}
	return []string{
		line("loads", Load{}.OrbitKind(), "%d delivered, %d passed", loads.Delivered, loads.Gap.Total()),
		line("events", orbit.KindEvents, "%d delivered, %d passed; newest %s", events.Delivered, events.Gap.Total(), w.event.Topic),
		line("cache", orbit.KindCache, "%d hits, %d misses; total load %s", hits, misses, w.report),
		line("contest", orbit.KindContest, "%s", office),
		line("heartbeat", orbit.KindHeartbeat, "%d fresh, %d stale, %d missing", states[orbit.Fresh], states[orbit.Stale], states[orbit.Missing]),
	}
}

// cacheCounts adds up what the siblings found in the cache.
func cacheCounts(rows []*row) (hits, misses uint64) {
	for _, r := range rows {
		hits += r.load.Hits
		misses += r.load.Misses
	}
	return hits, misses
}

// conclude reads what was published last and prints what was counted.
func (d *demo) conclude() error {
	if err := d.watch.drain(d.rows); err != nil {
		return err
	}
	d.screen.end()
	d.summary()
	return d.check()
}

// summary prints what was counted.
func (d *demo) summary() {
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
	events, published := w.events.Tally(), w.bus.Ring().Head()
	hits, misses := cacheCounts(d.rows)
	var b strings.Builder
	count := func(n any, format string, args ...any) {
		fmt.Fprintf(&b, "%9v  %s\n", n, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "Counted in fleet %q:\n", d.name)
	count(head, "values published: the head of ring %d", w.load.Ring().Kind())
	count(tally.Delivered, "delivered to this process's cursor")
	count(tally.Gap.Total(), "passed without a value: overwritten %d, holes %d, lost %d", tally.Overwritten, tally.Holes, tally.Lost)
	count(moved, "counters the cursor moved: delivered + passed = %d", tally.Delivered+tally.Gap.Total())
	count(own, "stored, as the siblings counted themselves")
	count(after, "of them stored by the others after the kill")
	count(micros(longest), "longest silence of one of those between two values")
	count(published, "events published, %d of them delivered here", events.Delivered)
	count(hits, "hits in the cache and %d misses, as the siblings counted", misses)
	count(micros(d.victim.gone), "from SIGKILL until node %d was no member", d.victim.node)
	if d.victim.stale > 0 {
		count(d.victim.stale.Round(time.Millisecond), "from SIGKILL until its heartbeat was stale, older than %v", freshFor)
	}
	count(micros(d.taken), "from SIGKILL until another was the scheduler, with fence token %d after %d", d.tokens[1], d.tokens[0])
	d.screen.say("%s", strings.TrimSuffix(b.String(), "\n"))
}

// check fails if what was counted does not add up, or not all of the story
// happened.
func (d *demo) check() error {
	w := &d.watch
	moved, tally, head := w.cursor.Position()-w.start, w.cursor.Tally(), w.load.Ring().Head()
	if sum := tally.Delivered + tally.Gap.Total(); sum != moved || w.start+moved != head {
		return fmt.Errorf("the cursor started at %d, moved by %d and accounts for %d; the head is %d", w.start, moved, sum, head)
	}
	events, published := w.events.Tally(), w.bus.Ring().Head()
	if sum := events.Delivered + events.Gap.Total(); sum != published {
		return fmt.Errorf("the subscriber accounts for %d events of %d", sum, published)
	}
	if d.taken == 0 {
		return fmt.Errorf("nobody took over from the scheduler that was killed")
	}
	if d.tokens[1] <= d.tokens[0] {
		return fmt.Errorf("after the scheduler with fence token %d was killed, another took over with token %d", d.tokens[0], d.tokens[1])
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
