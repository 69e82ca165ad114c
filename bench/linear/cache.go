//go:build linux

package main

import (
	"errors"
	"time"

	"orbit"
)

// The cache is, for each key, a register that puts, adds, deletes and resets
// write. All processes use one prefix. A value is a number said again and again.
//
// Keys are checked one by one. Over several keys a reset is not atomic, nor does
// the cache say so: what the walk over the ring finds unfinished it passes over,
// so while a reset is held up one can read a value that lies before it after
// having written one that lies behind it.
//
// In a ring large enough for a whole history no value may go missing. In a
// small one a miss is allowed once as many frames may have been written after
// the value as the ring has slots; what has gone so must not come back, and
// what has not must be there.

const cacheKeys = 3

var keyNames = [cacheKeys]string{"a", "key of some length", ""}

func cacheScenario(name string, capacity int, small bool) scenario {
	return scenario{
		name: name,
		rings: func(payload int) map[uint8]orbit.Geometry {
			return map[uint8]orbit.Geometry{orbit.KindCache: {Capacity: capacity, PayloadLimit: min(payload, 1<<10) + 64}}
		},
		open: openCache,
		parts: func(h *history) []part {
			m := cacheModel{}
			if small {
				m.capacity = uint64(capacity)
			}
			return m.parts(h)
		},
	}
}

type cache struct {
	cache *orbit.Cache
	size  int
}

func openCache(f *orbit.Fleet) (player, error) {
	c, err := orbit.OpenCache(f, "prefix")
	if err != nil {
		return nil, err
	}
	return &cache{c, c.Ring().Geometry().PayloadLimit - 64}, nil
}

func (p *cache) begin(l *lane) error { return p.change(l, record{Action: reset, Key: everyKey}) }
func (p *cache) forget()             {}

func (p *cache) act(l *lane) error {
	r := record{Key: int64(l.IntN(cacheKeys))}
	switch n := l.IntN(100); {
	case n < 45:
		return p.get(l, r)
	case n < 65:
		r.Action = put
	case n < 83:
		r.Action = add
	case n < 97:
		r.Action = remove
	default:
		r.Action, r.Key = reset, everyKey
	}
	if r.Action == put || r.Action == add {
		r.Value = l.fresh()
		switch l.IntN(8) {
		case 0:
			r.TTL = time.Duration(1 + l.IntN(int(2*time.Millisecond)))
		case 1:
			r.TTL = time.Hour
		case 2:
			if r.Action == put {
				r.TTL = -1
			}
		}
	}
	return p.change(l, r)
}

func (p *cache) change(l *lane, r record) error {
	key := keyNames[max(r.Key, 0)]
	return l.do(p.cache.Ring(), r, func(r *record) (err error) {
		r.Outcome = done
		switch r.Action {
		case put:
			l.buf = fill(l.buf, r.Value, p.size)
			err = p.cache.Put(key, l.buf, r.TTL)
		case add:
			var added bool
			l.buf = fill(l.buf, r.Value, p.size)
			if added, err = p.cache.Add(key, l.buf, r.TTL); !added {
				r.Outcome = refused
			}
		case remove:
			err = p.cache.Delete(key)
		case reset:
			err = p.cache.Reset()
		}
		if errors.Is(err, orbit.ErrBusy) {
			r.Outcome, err = busy, nil
		}
		return err
	})
}

func (p *cache) get(l *lane, r record) error {
	r.Action = get
	return l.do(p.cache.Ring(), r, func(r *record) error {
		b, ok, err := p.cache.AppendGet(l.buf[:0], keyNames[r.Key])
		if err != nil {
			return err
		}
		r.Outcome = missed
		if ok {
			l.buf = b
			var whole bool
			r.Outcome = torn
			if r.Got, whole = same(b); whole && len(b) == p.size {
				r.Outcome = done
			}
		}
		return nil
	})
}

// A cacheModel knows of a history what the steps depend on.
type cacheModel struct {
	capacity uint64         // 0 if the ring is too large to evict anything
	writes   map[uint64]*op // by value
}

func (m *cacheModel) parts(h *history) (parts []part) {
	m.writes = map[uint64]*op{}
	for _, o := range h.ops {
		m.echo(h, o)
		if o.Action == put || o.Action == add {
			m.writes[o.Value] = o
		}
	}
	h.expire(func(o *op) bool { return (o.Action == put || o.Action == add) && o.TTL > 0 }, 0)
	for key := range cacheKeys {
		ops := h.of(key)
		excuseExpired(ops)
		parts = append(parts, part{ops: ops, step: m.step, start: uint64(0)})
	}
	return parts
}

// step is the cache for one key: its state is the value, or 0.
func (m *cacheModel) step(state any, o *op) []any {
	st := state.(uint64)
	or := func(next uint64) []any { // if its outcome is unknown, it may not have happened
		if o.Outcome == unknown {
			return []any{st, next}
		}
		return []any{next}
	}
	switch o.Action {
	case put:
		if o.TTL < 0 {
			return or(0)
		}
		return or(o.Value)
	case remove, reset:
		return or(0)
	case expire:
		if st == o.Value {
			return []any{uint64(0)}
		}
		return []any{st}
	}
	gone := st == 0 || m.evicted(st, o)
	switch {
	case o.Action == add && o.Outcome == refused && st != 0,
		o.Action == add && o.Outcome == unknown && !gone,
		o.Action == get && o.Outcome == done && st == o.Got && st != 0,
		o.Action == get && o.Outcome == missed && st != 0 && o.excused && m.writes[st].Return >= o.Call:
		return []any{st}
	case o.Action == add && o.Outcome != refused && gone:
		return or(o.Value)
	case o.Action == get && o.Outcome == missed && gone:
		return []any{uint64(0)}
	}
	return nil
}

// excuseExpired finds the gets that may have missed a value written meanwhile:
// they found the one before it, and looked at the clock when it had expired.
func excuseExpired(ops []*op) {
	for _, o := range ops {
		for _, e := range ops {
			if e.Action == expire && o.Action == get && o.Outcome == missed && e.Call <= o.Return && o.Call <= e.Return {
				o.excused = true
			}
		}
	}
}

// echo provides for an add that took so long that the ring may have lost the
// frames that decide on it before it knew that it had won. Then it begins anew:
// its value may have been there before it was added, or without.
func (m *cacheModel) echo(h *history, o *op) {
	if m.capacity == 0 || o.Action != add || o.Outcome == unknown {
		return
	}
	for n := o.Before + m.capacity/2; n <= o.After+lanes; n += m.capacity / 2 {
		if o.Outcome != done {
			o.Outcome = unknown
			continue
		}
		again := o.record
		again.Outcome = unknown
		h.happen(again, o.process)
	}
}

// evicted tells whether the ring can have pushed a value out before an
// operation ended. Claimants mark slots a little ahead of the head, one each.
// An added value goes when the first of the frames goes that decided on it:
// up to half a lap early.
func (m *cacheModel) evicted(v uint64, o *op) bool {
	if m.capacity == 0 {
		return false
	}
	after := o.After
	if o.Outcome == unknown {
		return true // it died too early to say
	}
	early := uint64(lanes)
	if m.writes[v].Action == add {
		early += m.capacity / 2
	}
	return after+early >= m.writes[v].Before+m.capacity
}
