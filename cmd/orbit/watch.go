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

	pulse orbit.Pulse // as its heartbeats tell

	// As the values tell that the demo's cursor delivered.
	load      Load
	arrived   time.Time     // when the newest came
	longest   time.Duration // between two of them
	delivered uint64
	before    uint64 // how many of those came before the kill

	killed bool
	gone   time.Duration // from the kill until it was no member
	stale  time.Duration // and until its heartbeat was stale, if that was seen
}

// A watch is the demo's view into the fleet. It observes: it joins nothing and
// maps everything read-only.
type watch struct {
	fleet *orbit.Fleet // nil until the first sibling has made it

	load   *orbit.Orbital[Load]
	cursor *orbit.Cursor // over the ring of loads, from its first counter on
	start  uint64

	bus    *orbit.EventBus
	events *orbit.Subscriber // from the first event on
	event  orbit.Event       // the newest
	news   []news            // what was not told yet

	cache  *orbit.Cache
	report string // what it has under reportKey

	contest *orbit.Contest
	holder  orbit.Holder // of the office of the scheduler
	held    bool

	heart  *orbit.Heartbeat
	pulses []orbit.Pulse // of the expected nodes

	ready bool
}

// news is an event worth telling.
type news struct {
	at             orbit.Stamp
	node           uint16
	topic, payload string
}

// open attaches to what exists of the fleet by now, and tells whether that is
// all of it.
func (w *watch) open(name string) (ready bool, err error) {
	if w.ready {
		return true, nil
	}
	if w.fleet == nil {
		if w.fleet, err = orbit.Observe(name); err != nil {
			return false, notYet(err)
		}
	}
	if w.load, err = orbit.Bind[Load](w.fleet); err != nil {
		return false, notYet(err)
	}
	if w.bus, err = orbit.Events(w.fleet); err != nil {
		return false, notYet(err)
	}
	if w.cache, err = orbit.OpenCache(w.fleet, cachePrefix); err != nil {
		return false, notYet(err)
	}
	if w.contest, err = orbit.OpenContest(w.fleet); err != nil {
		return false, notYet(err)
	}
	if w.heart, err = orbit.Heartbeats(w.fleet); err != nil {
		return false, notYet(err)
	}
	w.cursor = w.load.Ring().Oldest()
	w.start = w.cursor.Position()
	w.events = w.bus.SubscribeOldest()
	w.ready = true
	return true, nil
}

// read brings everything up to date with what happened in the fleet.
func (w *watch) read(rows []*row) error {
	if err := w.readMembers(rows); err != nil {
		return err
	}
	if err := w.readHolder(); err != nil {
		return err
	}
	if err := w.readPulses(rows); err != nil {
		return err
	}
	if err := w.readReport(); err != nil {
		return err
	}
	return w.drain(rows)
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
				r.member, r.node, r.since = true, m.Node, m.Since.Time()
			}
		}
	}
	return nil
}

func (w *watch) readHolder() (err error) {
	w.holder, w.held, err = orbit.HolderOf[Scheduler](w.contest, "")
	w.held = w.held && w.holder.Token != 0 // not while it is only claiming
	return err
}

// freshFor is how old a heartbeat may be: three rounds of a sibling.
const freshFor = 3 * loadEvery

func (w *watch) readPulses(rows []*row) (err error) {
	var nodes []uint16
	for _, r := range rows {
		if r.node != 0 {
			nodes = append(nodes, r.node)
		}
	}
	w.pulses, err = w.heart.Snapshot(freshFor, nodes...)
	for _, r := range rows {
		for _, p := range w.pulses {
			if p.Node == r.node {
				r.pulse = p
			}
		}
	}
	return err
}

func (w *watch) readReport() error {
	report, ok, err := w.cache.Get(reportKey)
	if w.report = string(report); !ok {
		w.report = "expired"
	}
	return err
}

// drain reads all values and events there are. What it passes without one, its
// cursors count by themselves.
func (w *watch) drain(rows []*row) error {
	if err := w.readLoads(rows); err != nil {
		return err
	}
	return w.readEvents()
}

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

func (w *watch) readEvents() error {
	for {
		err := w.events.Poll(&w.event)
		if errors.Is(err, orbit.ErrNoFrame) {
			return nil
		}
		if err != nil {
			return err
		}
		if topic := string(w.event.Topic); topic != topicReport {
			w.news = append(w.news, news{w.event.Stamp, w.event.ID.Node(), topic, string(w.event.Payload)})
		}
	}
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
