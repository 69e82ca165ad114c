//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"slices"

	"orbit"
)

// The latest value is a register: key 0 by Ring.Publish and Ring.Newest, key 1
// by Orbital.Store and Orbital.Load. Ring.Reset empties it.

const (
	ringKind  = 1
	valueKind = 2
	registers = 2
)

// value is large enough for its copy to take time.
type value struct{ Words [32]uint64 }

func (value) OrbitKind() uint8 { return valueKind }

func registerScenario(name string, capacity int) scenario {
	return scenario{
		name: name,
		rings: func(payload int) map[uint8]orbit.Geometry {
			return map[uint8]orbit.Geometry{
				ringKind:  {Capacity: capacity, PayloadLimit: payload},
				valueKind: {Capacity: capacity, PayloadLimit: 256},
			}
		},
		open: openRegister,
		parts: func(h *history) (parts []part) {
			for key := range registers {
				ops := h.of(key)
				excuseMisses(ops, h, key, capacity)
				parts = append(parts, part{ops: ops, step: stepRegister, start: uint64(0)})
			}
			return parts
		},
	}
}

type register struct {
	ring   *orbit.Ring
	values *orbit.Orbital[value]
}

func openRegister(f *orbit.Fleet) (player, error) {
	r, err := f.Ring(ringKind)
	if err != nil {
		return nil, err
	}
	v, err := orbit.Bind[value](f)
	return &register{r, v}, err
}

func (p *register) ringOf(key int) *orbit.Ring {
	if key == 0 {
		return p.ring
	}
	return p.values.Ring()
}

// begin passes over what earlier histories left, and leaves the registers
// empty or with a value.
func (p *register) begin(l *lane) error {
	for key := range registers {
		for range p.ringOf(key).Geometry().Capacity {
			if err := p.store(l, key, 0); err != nil {
				return err
			}
		}
		if err := p.wipe(l, key); err != nil {
			return err
		}
		if l.IntN(2) == 0 {
			if err := p.write(l, key); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *register) forget() {}

func (p *register) act(l *lane) error {
	key := l.IntN(registers)
	switch n := l.IntN(100); {
	case n < 45:
		return p.write(l, key)
	case n < 97:
		return p.read(l, key)
	}
	return p.wipe(l, key)
}

func (p *register) write(l *lane, key int) error {
	v := l.fresh()
	return l.do(p.ringOf(key), record{Action: write, Key: int64(key), Value: v}, func(r *record) error {
		r.Outcome = done
		err := p.store(l, key, v)
		if errors.Is(err, orbit.ErrBusy) {
			r.Outcome, err = busy, nil
		}
		return err
	})
}

func (p *register) store(l *lane, key int, v uint64) (err error) {
	if key == 0 {
		l.buf = fill(l.buf, v, p.ring.Geometry().PayloadLimit)
		_, err = p.ring.Publish(1, v, l.buf)
		return err
	}
	var x value
	for i := range x.Words {
		x.Words[i] = v
	}
	_, err = p.values.Store(x)
	return err
}

func (p *register) read(l *lane, key int) error {
	return l.do(p.ringOf(key), record{Action: read, Key: int64(key)}, func(r *record) error {
		v, whole, err := p.load(l, key)
		switch {
		case errors.Is(err, orbit.ErrNoFrame):
			r.Outcome, err = missed, nil
		case errors.Is(err, orbit.ErrBusy):
			r.Outcome, err = busy, nil
		case !whole:
			r.Outcome = torn
		default:
			r.Outcome, r.Got = done, v
		}
		return err
	})
}

func (p *register) load(l *lane, key int) (v uint64, whole bool, err error) {
	if key == 0 {
		f, err := p.ring.Newest(l.buf[:0])
		if err != nil {
			return 0, false, err
		}
		l.buf = f.Payload
		v, whole = same(f.Payload)
		return v, whole && v == f.Version && len(f.Payload) == p.ring.Geometry().PayloadLimit, nil
	}
	x, _, err := p.values.Load()
	return x.Words[0], x == value{Words: repeat(x.Words[0])}, err
}

func repeat(v uint64) (w [32]uint64) {
	for i := range w {
		w[i] = v
	}
	return w
}

func (p *register) wipe(l *lane, key int) error {
	ring := p.ringOf(key)
	return l.do(ring, record{Action: wipe, Key: int64(key)}, func(r *record) error {
		r.Outcome = done
		return ring.Reset()
	})
}

// fill returns n bytes, a multiple of 8, that say v again and again.
func fill(b []byte, v uint64, n int) []byte {
	b = b[:0]
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// same returns the value that the bytes say, and whether all of them do.
func same(b []byte) (v uint64, whole bool) {
	if len(b) < 8 || len(b)%8 != 0 {
		return 0, false
	}
	v = binary.LittleEndian.Uint64(b)
	for i := 8; i < len(b); i += 8 {
		if binary.LittleEndian.Uint64(b[i:]) != v {
			return v, false
		}
	}
	return v, true
}

// stepRegister is the register: its state is the value, or 0.
func stepRegister(state any, o *op) []any {
	st := state.(uint64)
	switch {
	case o.Action == write && o.Outcome == unknown:
		return []any{st, o.Value}
	case o.Action == write:
		return []any{o.Value}
	case o.Action == wipe && o.Outcome == unknown:
		return []any{st, uint64(0)}
	case o.Action == wipe:
		return []any{uint64(0)}
	case o.Outcome == missed && (st == 0 || o.excused), o.Outcome == done && st == o.Got:
		return []any{st}
	}
	return nil
}

// excuseMisses finds the reads that may have found no frame although there was
// a value: those during which frames in the making can have had every slot. A
// write has the slot it writes into, and if it was lapped there may be a hole
// for it besides: so it takes half as many writes as there are slots. That of a
// dead process counts until as many writes came after it, which take its slot
// back.
func excuseMisses(ops []*op, h *history, key, capacity int) {
	var writes []*op
	until := map[*op]int64{}
	for _, w := range h.ops {
		if w.Action == write && int(w.Key) == key {
			writes = append(writes, w)
			until[w] = w.Return
		}
	}
	for _, w := range writes {
		if w.Outcome == unknown {
			until[w] = lapAfter(w.Return, writes, capacity)
		}
	}
	for _, r := range ops {
		if r.Outcome != missed {
			continue
		}
		open := 0
		for _, w := range writes {
			if w.Call <= r.Return && until[w] >= r.Call {
				open++
			}
		}
		r.excused = open > 0 && 2*open >= capacity
	}
}

// lapAfter returns when as many writes that began after t as there are slots
// have returned.
func lapAfter(t int64, writes []*op, capacity int) int64 {
	var ends []int64
	for _, w := range writes {
		if w.Call > t && w.Outcome == done {
			ends = append(ends, w.Return)
		}
	}
	if len(ends) < capacity {
		return endOfTime
	}
	slices.Sort(ends)
	return ends[capacity-1]
}
