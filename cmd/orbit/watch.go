package main

import (
	"errors"
	"fmt"
	"time"

	"orbit"
)

// A row is what the demo knows of one sibling: from the outside, and from the
// fleet.
type row struct {
	*process
	number int

	// As Members tells.
	node   uint16
	since  time.Time
	member bool

	// As the values tell that the demo's cursor delivered.
	load      Load
	arrived   time.Time     // when the newest came
	longest   time.Duration // between two of them
	delivered uint64
	before    uint64 // how many of those came before the kill

	killed bool
	gone   time.Duration // from the kill until it was no member
}

// A watch is the demo's view into the fleet. It observes: it joins nothing and
// maps everything read-only.
type watch struct {
	fleet  *orbit.Fleet // nil until the first sibling has made it
	load   *orbit.Orbital[Load]
	cursor *orbit.Cursor // over the ring of loads, from its first counter on
	start  uint64
}

// open attaches to what exists of the fleet by now, and tells whether that is
// all of it.
func (w *watch) open(name string) (all bool, err error) {
	if w.fleet == nil {
		if w.fleet, err = orbit.Observe(name); err != nil {
			return false, notYet(err)
		}
	}
	if w.cursor == nil {
		if w.load, err = orbit.Bind[Load](w.fleet); err != nil {
			return false, notYet(err)
		}
		w.cursor = w.load.Ring().Oldest()
		w.start = w.cursor.Position()
	}
	return true, nil
}

func notYet(err error) error {
	if errors.Is(err, orbit.ErrNotExist) {
		return nil
	}
	return err
}

// read brings the rows up to date with all that happened in the fleet.
func (w *watch) read(rows []*row) error {
	if err := w.readMembers(rows); err != nil {
		return err
	}
	return w.readLoads(rows)
}

func (w *watch) readMembers(rows []*row) error {
	members, err := w.fleet.Members()
	if err != nil {
		return err
	}
	for _, r := range rows {
		r.member = false
		for _, m := range members {
			if m.PID == r.pid() {
				r.member, r.node, r.since = true, m.Node, m.Since
			}
		}
	}
	return nil
}

// readLoads takes from the cursor what it has. What it passes without a value
// it counts by itself.
func (w *watch) readLoads(rows []*row) error {
	for {
		frame, _, err := w.cursor.Next(nil)
		if errors.Is(err, orbit.ErrNoFrame) {
			return nil
		}
		if err != nil {
			return err
		}
		load, err := w.load.LoadID(frame.ID)
		if errors.Is(err, orbit.ErrNoFrame) {
			continue // overwritten since, and thus old news
		}
		if err != nil {
			return err
		}
		for _, r := range rows {
			if uint32(r.number) == load.Sibling {
				r.deliver(load)
			}
		}
	}
}

func (r *row) deliver(load Load) {
	now := time.Now()
	if r.delivered > 0 {
		r.longest = max(r.longest, now.Sub(r.arrived))
	}
	r.load, r.arrived = load, now
	r.delivered++
}

// killAndWatch kills a sibling and measures how long the fleet takes to see
// it, by asking for the members over and over.
func (w *watch) killAndWatch(r *row) error {
	start := time.Now()
	if err := r.kill(); err != nil {
		return err
	}
	r.killed = true
	for {
		if err := w.readMembers([]*row{r}); err != nil {
			return err
		}
		if r.gone = time.Since(start); !r.member {
			return nil
		}
		if r.gone > 5*time.Second {
			return fmt.Errorf("node %d (pid %d) is still a member %v after SIGKILL", r.node, r.pid(), r.gone)
		}
		time.Sleep(50 * time.Microsecond)
	}
}
