package main

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"orbit"
)

// A feed reads what comes through a ring in order, decoded as the ring's use
// wants it, and accounts for what it passed without a frame.
type feed struct {
	ring  *orbit.Ring
	step  func(*feedItem) error // reads the next frame
	at    func() uint64         // the counter it will look at next
	tally func() orbit.Gap      // all it ever passed
	told  orbit.Gap             // how much of that was told
}

// openFeed opens the feed of a ring, from the oldest frame held on.
func openFeed(f *orbit.Fleet, kind uint8, filters ...orbit.Filter) (*feed, error) {
	ring, err := f.Ring(kind)
	if err != nil {
		return nil, err
	}
	return openFeedAt(f, kind, ring.Oldest().Position(), filters...)
}

// openFeedAt opens the feed of a ring from a counter on.
func openFeedAt(f *orbit.Fleet, kind uint8, from uint64, filters ...orbit.Filter) (*feed, error) {
	if kind == orbit.KindEvents {
		return openEvents(f, from, filters)
	}
	ring, err := f.Ring(kind)
	if err != nil {
		return nil, err
	}
	cursor := ring.At(from)
	return &feed{
		ring:  ring,
		step:  func(item *feedItem) error { return readFrame(cursor, kind, item) },
		at:    cursor.Position,
		tally: func() orbit.Gap { return cursor.Tally().Gap },
	}, nil
}

func openEvents(f *orbit.Fleet, from uint64, filters []orbit.Filter) (*feed, error) {
	bus, err := orbit.Events(f)
	if err != nil {
		return nil, err
	}
	events, err := bus.SubscribeAt(orbit.Position{Fleet: f.Incarnation(), Counter: from}, filters...)
	if err != nil {
		return nil, err
	}
	var ev orbit.Event
	return &feed{
		ring: bus.Ring(),
		step: func(item *feedItem) error {
			if err := events.Poll(&ev); err != nil {
				return err
			}
			*item = feedItem{id: ev.ID, decoded: true, at: ev.Stamp, topic: string(ev.Topic), payload: append(item.payload[:0], ev.Payload...)}
			return nil
		},
		at:    func() uint64 { return events.Position().Counter },
		tally: func() orbit.Gap { return events.Tally().Gap },
	}, nil
}

func readFrame(c *orbit.Cursor, kind uint8, item *feedItem) error {
	f, _, err := c.Next(item.payload[:0])
	if err != nil {
		return err
	}
	*item = feedItem{id: f.ID, kind: f.Kind, version: f.Version, payload: f.Payload}
	switch kind {
	case orbit.KindHeartbeat:
		item.at, item.decoded = orbit.Stamp(f.Version), true
	case orbit.KindCache:
		if write, err := orbit.DecodeCache(f); err == nil {
			item.write, item.decoded = &write, true
		}
	case orbit.KindContest:
		// What is no claim is shown as the bytes it is.
		if claim, err := orbit.DecodeClaim(f); err == nil {
			item.claim, item.decoded = &claim, true
		}
	}
	return nil
}

// next returns the next item, in a buffer of its own if it is to be kept, and
// false if there is none now. An error means that no more will come.
func (f *feed) next(item *feedItem) (bool, error) {
	before := f.at()
	err := f.step(item)
	passed := f.tally()
	gap := orbit.Gap{
		Overwritten: passed.Overwritten - f.told.Overwritten,
		Holes:       passed.Holes - f.told.Holes,
		Lost:        passed.Lost - f.told.Lost,
	}
	f.told = passed
	switch {
	case err == nil:
		item.passed = gap
		return true, nil
	case errors.Is(err, orbit.ErrNoFrame):
		*item = feedItem{passed: gap, payload: item.payload}
		return gap.Total() > 0, nil
	case f.at() != before:
		// One frame was damaged; the ring goes on behind it.
		*item = feedItem{passed: gap, trouble: err, payload: item.payload}
		return true, nil
	}
	return false, err
}

// newest reads what is published by now and returns the newest n frames of it,
// with what lies between. It passes all to print instead if it is to keep
// everything.
func (f *feed) newest(ctx context.Context, n int, print func(*feedItem)) (kept []feedItem, err error) {
	head, frames := f.ring.Head(), 0
	for int64(head-f.at()) > 0 && ctx.Err() == nil {
		var item feedItem
		more, err := f.next(&item)
		switch {
		case err != nil:
			return kept, err
		case !more && int64(head-f.at()) > 0:
			if err := f.wait(ctx, time.Second); err != nil { // for an unfinished frame
				return kept, err
			}
			continue
		case !more:
			continue
		case n == math.MaxInt:
			print(&item)
			continue
		}
		kept = append(kept, item)
		if item.isFrame() {
			frames++
		}
		if frames > n {
			kept, frames = afterFirst(kept), frames-1
		}
	}
	if n == 0 {
		kept = nil
	}
	return kept, nil
}

// afterFirst leaves out the first frame, what lies around it up to the next,
// and what that one says was passed.
func afterFirst(items []feedItem) []feedItem {
	isFrame := func(i feedItem) bool { return i.isFrame() }
	items = items[slices.IndexFunc(items, isFrame)+1:]
	if next := slices.IndexFunc(items, isFrame); next >= 0 {
		items = items[next:]
		items[0].passed = orbit.Gap{}
		return items
	}
	return nil
}

// wait returns when there may be something to read, or the time is over. Its
// error says that nothing will come any more.
func (f *feed) wait(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if err := f.ring.At(f.at()).Wait(ctx); ctx.Err() == nil {
		return err
	}
	return nil
}
