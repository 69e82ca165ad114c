package main

import (
	"errors"

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

// A feedItem is one thing that came through a ring: a frame, or what was passed
// in place of frames, or the trouble with a frame.
type feedItem struct {
	id      orbit.NetID64
	at      orbit.Stamp // when it was published, 0 if its frame does not say
	kind    uint8       // of the frame
	version uint64      // of the frame
	topic   string      // of an event
	payload []byte
	claim   *orbit.ClaimEvent // in the ring of claims
	write   *orbit.CacheWrite // in the ring of the cache; its bytes are the payload's

	passed  orbit.Gap
	trouble error
}

// openFeed opens the feed of a ring, from the oldest frame held on.
func openFeed(f *orbit.Fleet, kind uint8, filters ...orbit.Filter) (*feed, error) {
	if kind == orbit.KindEvents {
		return openEvents(f, filters)
	}
	ring, err := f.Ring(kind)
	if err != nil {
		return nil, err
	}
	cursor := ring.Oldest()
	return &feed{
		ring:  ring,
		step:  func(item *feedItem) error { return readFrame(cursor, kind, item) },
		at:    cursor.Position,
		tally: func() orbit.Gap { return cursor.Tally().Gap },
	}, nil
}

func openEvents(f *orbit.Fleet, filters []orbit.Filter) (*feed, error) {
	bus, err := orbit.Events(f)
	if err != nil {
		return nil, err
	}
	events := bus.SubscribeOldest(filters...)
	var ev orbit.Event
	return &feed{
		ring: bus.Ring(),
		step: func(item *feedItem) error {
			if err := events.Poll(&ev); err != nil {
				return err
			}
			*item = feedItem{id: ev.ID, at: ev.Stamp, topic: string(ev.Topic), payload: append(item.payload[:0], ev.Payload...)}
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
		item.at = orbit.Stamp(f.Version)
	case orbit.KindCache:
		if write, err := orbit.DecodeCache(f); err == nil {
			item.write = &write
		}
	case orbit.KindContest:
		// What is no claim is shown as the bytes it is.
		if claim, err := orbit.DecodeClaim(f); err == nil {
			item.claim = &claim
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

// isFrame tells an item with a frame from one without.
func (i *feedItem) isFrame() bool { return !i.id.IsZero() }
