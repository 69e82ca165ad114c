package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"
)

var topFlags struct {
	once     bool
	interval time.Duration
	fresh    time.Duration
}

var topCommand = &command{
	name:     "top",
	operands: "FLEET",
	short:    "watch a fleet live: rings, members, holders, cache and events",
	long: `Shows FLEET as it lives:

  rings    their geometry, their head, which is how many frames were ever
           claimed, the frames per second, and how many those were in the last
           60 samples
  members  who is in the fleet by the word of the kernel, since when, and how
           long ago each beat last. In the top line, a node that beat once and
           is no member is gone
  holders  who holds what, with which fence token, and how long unless renewed
  cache    how much is written, and for how long a value lives before the ring
           pushes it out; the keys of each prefix, and how many of its values
           were pushed out too early since this command watches
  events   the newest, with a line where some were passed

Keys:

  q        quit
  s        sort the members by node, pid, age
  p        pause: what is shown stays until the next p
  c        clear the samples and the events
  1 to 5   hide or show one of the parts above

It fits into any size of a terminal, and shows of each part what there is room
for. Ctrl-C and SIGTERM end it as q does, with exit code 0. When the fleet is
removed it waits for the next one of that name. On other systems than Linux
there are no keys.

With -once, or where standard output is no terminal or TERM is "dumb", it
watches for one interval, prints what it saw, and ends. NO_COLOR takes the
colors away.

  orbit top web
  orbit top -once -interval 5s web
`,
	flags: func(f *flag.FlagSet) {
		t := &topFlags
		f.BoolVar(&t.once, "once", false, "print one snapshot and end")
		spanFlag(f, &t.interval, "interval", time.Second, 50*time.Millisecond, "the `duration` between two samples, at least 50ms")
		freshFlag(f, &t.fresh)
	},
	run: runTop,
}

func runTop(args []string) error {
	ctx, stop := untilSignal()
	defer stop()
	t := &top{reader: newTopReader(args[0], topFlags.fresh)}
	if err := t.reader.open(); err != nil {
		return err
	}
	defer t.reader.place.close()
	if s := newScreen(os.Stdout); s.live && !topFlags.once {
		return t.live(ctx, openTerminal(os.Stdin, os.Stdout, s.color))
	}
	return t.once(ctx)
}

// A top is one run of "orbit top".
type top struct {
	reader *topReader
	view   topView
	shown  *topSnapshot
}

// onceEvents is how many events a snapshot shows that nobody can scroll.
const onceEvents = 10

// once prints all of one snapshot.
func (t *top) once(ctx context.Context) error {
	s := t.reader.watchFor(ctx, topFlags.interval)
	if ctx.Err() != nil {
		return errInterrupted
	}
	s.events = s.events[max(len(s.events)-onceEvents, 0):]
	for _, line := range t.view.lines(s) {
		if _, err := fmt.Println(line.text); err != nil {
			return err
		}
	}
	return nil
}

// live shows snapshots until it is told to stop.
func (t *top) live(ctx context.Context, term *terminal) error {
	defer term.leave()
	t.view.help = term.keys != nil
	t.shown = t.reader.read()
	tick := time.NewTicker(topFlags.interval)
	defer tick.Stop()
	for {
		t.view.width, t.view.height = term.size()
		if err := term.draw(t.view.lines(t.shown)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if !t.view.paused {
				t.shown = t.reader.read()
			}
		case key := <-term.keys:
			if key == 'q' {
				return nil
			}
			t.press(key)
		case <-term.resized:
		case <-term.stopped:
			term.suspend()
		}
	}
}

// press does what a key is for.
func (t *top) press(key byte) {
	v := &t.view
	switch key {
	case 's':
		v.order = (v.order + 1) % topOrders
	case 'p', ' ':
		v.paused = !v.paused
	case 'c':
		t.reader.clear()
		t.shown = t.reader.read()
	}
	if part := int(key - '1'); part < topSections {
		v.hidden[part] = !v.hidden[part]
	}
}
