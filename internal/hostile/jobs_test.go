//go:build linux

package hostile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"orbit"
)

// What there is to do with each kind of segment.

const aboutFrames = "frames"

// number counts what this process has written, so that no two writings are
// alike.
func number(f *orbit.Fleet, i int) uint64 { return uint64(f.Node())<<40 | uint64(i) }

// briefly runs something that waits, and forgives it the end of its time.
func briefly(run func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// none forgives that there is nothing to read.
func none(err error) error {
	if errors.Is(err, orbit.ErrNoFrame) {
		return nil
	}
	return err
}

// first returns the first error there is.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *crew) frame(f orbit.Frame, err error) error {
	if err != nil {
		return none(err)
	}
	return w.sound(f.ID.Counter(), aboutFrames, f.Payload)
}

func (w *crew) frames() error {
	r, err := w.fleet.Ring(kindFrames)
	if err != nil {
		return err
	}
	size := func(i int) int { return 4 + i*37%(r.Geometry().PayloadLimit-3) }
	w.add("frames", "Publish", func(i int) error {
		_, err := r.Publish(1, 0, vouched(aboutFrames, number(w.fleet, i), size(i)))
		return err
	})
	w.add("frames", "PublishBatch", func(i int) error {
		frames := make([]orbit.Frame, 1+i%6)
		for j := range frames {
			frames[j].Payload = vouched(aboutFrames, number(w.fleet, 8*i+j), size(i+j))
		}
		_, err := r.PublishBatch(frames)
		return err
	})
	w.add("frames", "Mint", func(i int) error {
		_, err := r.Mint()
		if err == nil && i%50 == 0 {
			err = r.Reset()
		}
		return err
	})
	w.add("frames", "Newest", func(int) error { return w.frame(r.Newest(nil)) })
	w.add("frames", "Read", func(i int) error {
		f, err := r.ReadAt(r.Head()-1-uint64(i%r.Geometry().Capacity), nil)
		if err := w.frame(f, err); err != nil || f.ID == 0 {
			return err
		}
		return w.frame(r.Read(f.ID, nil))
	})
	w.add("frames", "Stats", func(int) error { _, err := r.Stats(); return err })
	next, poll, wait := r.Tail(), r.Oldest(), r.Tail()
	begin := next.Position()
	w.add("frames", "Next", func(int) error {
		f, _, err := next.Next(nil)
		return first(w.frame(f, err), balanced(next, begin))
	})
	w.add("frames", "Poll", func(int) error {
		frames := make([]orbit.Frame, 8)
		n, _, err := poll.Poll(frames)
		for _, f := range frames[:n] {
			if err := w.frame(f, nil); err != nil {
				return err
			}
		}
		return none(err)
	})
	w.add("frames", "Wait", func(int) error {
		if err := briefly(wait.Wait); err != nil {
			return err
		}
		f, _, err := wait.Next(nil)
		return w.frame(f, err)
	})
	w.add("frames", "Frames", func(int) error {
		return briefly(func(ctx context.Context) (last error) {
			for f, err := range r.Tail().Frames(ctx) {
				if last = w.frame(f, err); errors.Is(last, errUnsound) {
					return last
				}
			}
			return last
		})
	})
	return nil
}

// balanced tells whether a cursor accounts for every counter since begin.
func balanced(c *orbit.Cursor, begin uint64) error {
	t := c.Tally()
	if got, want := t.Delivered+t.Total(), c.Position()-begin; got != want {
		return fmt.Errorf("%w: a cursor accounts for %d counters and passed %d", errUnsound, got, want)
	}
	return nil
}

// value vouches for itself, as bytes do.
type value struct{ A, B, Sum uint64 }

func (value) OrbitKind() uint8 { return kindValues }

func valueOf(n uint64) value {
	return value{n, n * n, n ^ n*n<<1 ^ uint64(sumOf("value", make([]byte, 4)))}
}

func (w *crew) value(v value, id orbit.NetID64, err error) error {
	if err == nil && v != valueOf(v.A) && !w.spoiled(id.Counter()) {
		return fmt.Errorf("%w: value %+v of %v that nobody stored", errUnsound, v, id)
	}
	return none(err)
}

func (w *crew) values() error {
	o, err := orbit.Bind[value](w.fleet)
	if err != nil {
		return err
	}
	w.add("values", "Store", func(i int) error { _, err := o.Store(valueOf(number(w.fleet, i))); return err })
	w.add("values", "Load", func(int) error { return w.value(o.Load()) })
	w.add("values", "LoadID", func(int) error {
		_, id, err := o.Load()
		if err != nil {
			return none(err)
		}
		v, err := o.LoadID(id)
		return w.value(v, id, err)
	})
	w.add("values", "Recent", func(int) error {
		for id, v := range o.Recent() {
			if err := w.value(v, id, nil); err != nil {
				return err
			}
		}
		v, id, err := o.LoadNode(w.fleet.Node())
		_, _, broken := o.Load() // Recent and LoadNode pass over what they cannot read
		return first(w.value(v, id, err), none(broken))
	})
	return nil
}

func (w *crew) cache() error {
	c, err := orbit.OpenCache(w.fleet, "hostile")
	if err != nil {
		return err
	}
	key := func(i int) string { return fmt.Sprint("key ", i%24) }
	w.add("cache", "Put", func(i int) error {
		return c.Put(key(i), vouched(key(i), number(w.fleet, i), 4+i*13%200), time.Duration(i%3)*time.Second)
	})
	w.add("cache", "Add", func(i int) error {
		_, err := c.Add(key(i), vouched(key(i), number(w.fleet, i), 20), time.Millisecond)
		return err
	})
	w.add("cache", "Delete", func(i int) error {
		if i%20 == 19 {
			return c.Reset()
		}
		return c.Delete(key(i))
	})
	w.add("cache", "Get", func(i int) error {
		p, ok, err := c.Get(key(i))
		if err != nil || !ok || w.anySpoiled() { // it does not say from which frame
			return err
		}
		return check(key(i), p)
	})
	w.add("cache", "GetMeta", func(i int) error {
		p, m, err := c.GetMeta(nil, key(i))
		if err != nil || !m.Hit {
			return err
		}
		return w.sound(m.Epoch, key(i), p)
	})
	w.add("cache", "All", func(i int) error {
		for k, p := range c.All() {
			if err := check(k, p); err != nil && !w.anySpoiled() {
				return err
			}
		}
		_, err := c.Stats()
		_, broken := c.Stat(key(i))
		return first(err, broken)
	})
	return nil
}

func (w *crew) events() error {
	b, err := orbit.Events(w.fleet)
	if err != nil {
		return err
	}
	topics := []string{"a", "job.done", "job.failed", "a rather long topic of no fixed length"}
	w.add("events", "Publish", func(i int) error {
		topic := topics[i%len(topics)]
		_, err := b.Publish(topic, vouched(topic, number(w.fleet, i), 4+i*11%200))
		return err
	})
	event := func(ev *orbit.Event, err error) error {
		if err != nil {
			return none(err)
		}
		return w.sound(ev.ID.Counter(), string(ev.Topic), ev.Payload)
	}
	poll, batch, next := b.SubscribeNow(orbit.TopicPrefix("job.")), b.SubscribeOldest(), b.SubscribeNow(orbit.Topic("a"))
	w.add("events", "Poll", func(int) error { var ev orbit.Event; return event(&ev, poll.Poll(&ev)) })
	w.add("events", "PollBatch", func(int) error {
		evs := make([]orbit.Event, 8)
		n, err := batch.PollBatch(evs)
		for i := range evs[:n] {
			if err := event(&evs[i], nil); err != nil {
				return err
			}
		}
		return none(err)
	})
	w.add("events", "Next", func(int) error {
		return briefly(func(ctx context.Context) error { var ev orbit.Event; return event(&ev, next.Next(ctx, &ev)) })
	})
	place := b.SubscribeOldest().Position()
	w.add("events", "Events", func(int) error {
		s, err := b.SubscribeAt(place)
		if errors.Is(err, orbit.ErrNotExist) { // the head was thrown back, or is gone
			_, err = b.Ring().Stats()
			s = b.SubscribeNow()
		}
		if err != nil {
			return err
		}
		return briefly(func(ctx context.Context) (last error) {
			defer func() { place = s.Position() }()
			for ev, err := range s.Events(ctx) {
				if last = event(&ev, err); errors.Is(last, errUnsound) {
					return last
				}
			}
			return last
		})
	})
	return nil
}

func (w *crew) heartbeat() error {
	h, err := orbit.Heartbeats(w.fleet)
	if err != nil {
		return err
	}
	w.add("heartbeat", "Beat", func(int) error { return h.Beat() })
	w.add("heartbeat", "Keep", func(int) error {
		return briefly(func(ctx context.Context) error { return h.Keep(ctx, time.Millisecond) })
	})
	w.add("heartbeat", "Snapshot", func(int) error {
		all, err := h.Snapshot(time.Second, w.fleet.Node(), 9)
		if err == nil && len(all) < 2 {
			err = fmt.Errorf("%w: a snapshot of %d nodes, want those expected at least", errUnsound, len(all))
		}
		return err
	})
	w.add("heartbeat", "Last", func(int) error {
		_, low := h.Last(w.fleet.Node())
		_, high := h.Last(65535)
		return first(none(low), none(high))
	})
	return nil
}

// task is the kind of the subjects.
type task struct{}

func (task) OrbitKind() uint8 { return 62 }

// contended forgives what happens to claims in a sound contest.
func contended(err error) error {
	for _, usual := range []error{orbit.ErrHeld, orbit.ErrLapsed, orbit.ErrTableFull, orbit.ErrBusy} {
		if errors.Is(err, usual) {
			return nil
		}
	}
	return err
}

func (w *crew) contest() error {
	c, err := orbit.OpenContest(w.fleet)
	if err != nil {
		return err
	}
	subject := func(i int) string { return fmt.Sprint("subject ", i%5) }
	owner := fmt.Sprint("node ", w.fleet.Node())
	w.add("contest", "Claim", func(i int) error {
		g, err := orbit.Claim[task](c, subject(i), owner, time.Duration(1+i%5)*time.Millisecond)
		if err != nil {
			return contended(err)
		}
		g.Valid()
		g.Left()
		renewed := g.Renew(time.Second)
		return first(contended(renewed), contended(g.Release()))
	})
	w.add("contest", "Context", func(i int) error {
		g, err := orbit.Claim[task](c, subject(i), "", 2*time.Millisecond)
		if err != nil {
			return contended(err)
		}
		limit := patience
		if w.anySpoiled() { // see TestContextEndsThoughItsDeedIsDamaged
			limit = 20 * time.Millisecond
		}
		select {
		case <-g.Context().Done():
		case <-time.After(limit):
			if !w.anySpoiled() {
				return fmt.Errorf("%w: the context of a guard does not end with its TTL", errUnsound)
			}
		}
		if g.Valid() {
			return fmt.Errorf("%w: a guard is valid though its TTL is over", errUnsound)
		}
		return contended(g.Release())
	})
	w.add("contest", "Holders", func(i int) error {
		h, held, err := orbit.HolderOf[task](c, subject(i))
		if err == nil && held && (h.Label != subject(i) || h.Kind != 62) {
			return fmt.Errorf("%w: asked for %q, the holder is one of %d %q", errUnsound, subject(i), h.Kind, h.Label)
		}
		_, broken := c.Holders()
		return first(err, broken)
	})
	w.add("contest", "WaitFree", func(i int) error {
		return briefly(func(ctx context.Context) error { return orbit.WaitFree[task](ctx, c, subject(i)) })
	})
	news := c.Ring().Tail()
	w.add("contest", "DecodeClaim", func(int) error {
		f, _, err := news.Next(nil)
		if err != nil {
			return none(err)
		}
		if _, err := orbit.DecodeClaim(f); err != nil && !w.spoiled(f.ID.Counter()) {
			return fmt.Errorf("%w: %w", errUnsound, err)
		}
		return nil
	})
	return nil
}

func (w *crew) roster() error {
	w.add("roster", "Members", func(int) error {
		m, err := w.fleet.Members()
		if err == nil && len(m) == 0 && w.spoils != "all" {
			err = fmt.Errorf("%w: a fleet without members, of which this is one", errUnsound)
		}
		_, broken := w.fleet.Kinds()
		return first(err, broken)
	})
	if side != "" {
		return nil // newcomers would be in another fleet than the crew, and make rings there
	}
	// Newcomers may be refused, each time anew.
	w.add("roster", "Join", func(i int) error {
		f, err := orbit.Join(w.fleet.Name(), crewOptions())
		if err != nil {
			return err
		}
		defer f.Close()
		return w.visit(f, i)
	}).alone = true
	w.add("roster", "Observe", func(i int) error {
		f, err := orbit.Observe(w.fleet.Name())
		if err != nil {
			return err
		}
		defer f.Close()
		return w.visit(f, i)
	}).alone = true
	return nil
}

// visit uses the fleet as a newcomer does.
func (w *crew) visit(f *orbit.Fleet, i int) error {
	switch i % 5 {
	case 0:
		r, err := f.Ring(kindFrames)
		if err != nil {
			return err
		}
		return w.frame(r.Newest(nil))
	case 1:
		o, err := orbit.Bind[value](f)
		if err != nil {
			return err
		}
		return w.value(o.Load())
	case 2:
		c, err := orbit.OpenCache(f, "hostile")
		if err != nil {
			return err
		}
		_, _, err = c.Get("key 1")
		return err
	case 3:
		h, err := orbit.Heartbeats(f)
		if err != nil {
			return err
		}
		_, err = h.Snapshot(time.Second)
		return err
	}
	c, err := orbit.OpenContest(f)
	if err != nil {
		return err
	}
	_, _, err = orbit.HolderOf[task](c, "subject 1")
	return err
}
