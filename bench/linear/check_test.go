//go:build linux

package main

import (
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// A line is an operation of a history written by hand: from, to, process, and
// what happened.
func line(from, to int64, process int, r record) *op {
	r.Call, r.Return = from, to
	return &op{record: r, lane: process, process: process}
}

func handwritten(died map[int]int64, ops ...*op) *history {
	h := &history{ops: ops, died: died, last: map[int]int64{}}
	for i, o := range ops {
		o.id = i + 1
		if o.Return == endOfTime && o.Action != add {
			o.Return = died[o.process]
		}
		h.last[o.process] = max(h.last[o.process], o.Call)
		if o.Outcome != unknown {
			h.last[o.process] = max(h.last[o.process], o.Return)
		}
	}
	return h
}

func legal(s *scenario, h *history) bool {
	for _, p := range s.parts(h) {
		if p.check() != porcupine.Ok {
			return false
		}
	}
	return true
}

// TestModelsTellRightFromWrong gives pairs of histories that differ in one
// thing: the first is as it must be, the second must be found out.
func TestModelsTellRightFromWrong(t *testing.T) {
	const forever = endOfTime // the process died
	wr := func(v uint64) record { return record{Action: write, Value: v, Outcome: done} }
	rd := func(v uint64) record { return record{Action: read, Got: v, Outcome: done} }
	none := record{Action: read, Outcome: missed}
	pt := func(v uint64) record { return record{Action: put, Value: v, Outcome: done} }
	gt := func(v uint64) record { return record{Action: get, Got: v, Outcome: done} }
	miss := record{Action: get, Outcome: missed}
	ad := func(v uint64, o outcome) record { return record{Action: add, Value: v, Outcome: o} }
	del := record{Action: remove, Outcome: done}
	rst := record{Action: reset, Key: everyKey, Outcome: done}
	cl := func(token uint64, ttl time.Duration) record {
		return record{Action: claim, Got: token, TTL: ttl, Outcome: done}
	}
	held := func(token uint64, by int64) record {
		return record{Action: claim, Got: token, Holder: by, TTL: time.Hour, Outcome: refused}
	}
	who := func(token uint64, by int64) record {
		return record{Action: holder, Got: token, Holder: by, Outcome: done}
	}
	nobody := record{Action: holder, Outcome: missed}
	use := func(a action, token uint64, o outcome) record {
		return record{Action: a, Value: token, TTL: time.Hour, Outcome: o}
	}
	with := func(r record, change func(r *record)) record { change(&r); return r }
	at := func(before, after uint64) func(*record) {
		return func(r *record) { r.Before, r.After = before, after }
	}
	type ops = []*op
	tests := []struct {
		name, scenario string
		died           map[int]int64
		right, wrong   ops
	}{
		{"read of an older value", "latest-8", nil,
			ops{line(0, 1, 1, wr(1)), line(2, 3, 2, wr(2)), line(4, 5, 3, rd(2))},
			ops{line(0, 1, 1, wr(1)), line(2, 3, 2, wr(2)), line(4, 5, 3, rd(1))}},
		{"new value and then the old one", "latest-8", nil,
			ops{line(0, 1, 1, wr(1)), line(2, 9, 2, wr(2)), line(3, 4, 3, rd(1)), line(5, 6, 3, rd(2))},
			ops{line(0, 1, 1, wr(1)), line(2, 9, 2, wr(2)), line(3, 4, 3, rd(2)), line(5, 6, 3, rd(1))}},
		{"two readers see two orders", "latest-8", nil,
			ops{line(0, 9, 1, wr(1)), line(0, 9, 2, wr(2)), line(1, 2, 3, rd(1)), line(3, 4, 3, rd(2)), line(1, 2, 4, rd(1)), line(3, 4, 4, rd(2))},
			ops{line(0, 9, 1, wr(1)), line(0, 9, 2, wr(2)), line(1, 2, 3, rd(1)), line(3, 4, 3, rd(2)), line(1, 2, 4, rd(2)), line(3, 4, 4, rd(1))}},
		{"value nobody wrote", "latest-8", nil,
			ops{line(0, 1, 1, wr(1)), line(2, 3, 2, rd(1))},
			ops{line(0, 1, 1, wr(1)), line(2, 3, 2, rd(7))}},
		{"torn value", "latest-8", nil,
			ops{line(0, 1, 1, wr(1)), line(2, 3, 2, rd(1))},
			ops{line(0, 1, 1, wr(1)), line(2, 3, 2, record{Action: read, Got: 1, Outcome: torn})}},
		{"no frame although nobody writes", "latest-1", nil,
			ops{line(0, 1, 1, wr(1)), line(2, 5, 2, wr(2)), line(3, 4, 3, none)},
			ops{line(0, 1, 1, wr(1)), line(2, 3, 2, wr(2)), line(4, 5, 3, none)}},
		{"no frame although few write", "latest-8", nil,
			ops{line(0, 1, 1, wr(1)), line(2, 9, 2, wr(2)), line(2, 9, 3, wr(3)), line(2, 9, 4, wr(4)), line(2, 9, 5, wr(5)), line(3, 4, 6, none)},
			ops{line(0, 1, 1, wr(1)), line(2, 9, 2, wr(2)), line(2, 9, 3, wr(3)), line(2, 9, 4, wr(4)), line(3, 4, 6, none)}},
		{"no frame for a write of the dead that was lapped", "latest-1", map[int]int64{1: 3},
			ops{line(0, forever, 1, record{Action: write, Value: 1}), line(4, 5, 2, none)},
			ops{line(0, forever, 1, record{Action: write, Value: 1}), line(4, 5, 2, wr(2)), line(6, 7, 2, none)}},
		{"value from before a reset", "latest-8", nil,
			ops{line(0, 1, 1, wr(1)), line(2, 5, 2, record{Action: wipe, Outcome: done}), line(3, 4, 3, rd(1))},
			ops{line(0, 1, 1, wr(1)), line(2, 3, 2, record{Action: wipe, Outcome: done}), line(4, 5, 3, rd(1))}},
		{"write after death", "latest-8", map[int]int64{1: 3},
			ops{line(0, 1, 2, wr(2)), line(0, forever, 1, record{Action: write, Value: 1}), line(4, 5, 2, rd(1)), line(6, 7, 2, rd(1))},
			ops{line(0, 1, 2, wr(2)), line(0, forever, 1, record{Action: write, Value: 1}), line(4, 5, 2, rd(2)), line(6, 7, 2, rd(1))}},

		{"get of an older value", "cache", nil,
			ops{line(0, 1, 1, pt(1)), line(2, 3, 2, pt(2)), line(4, 5, 3, gt(2))},
			ops{line(0, 1, 1, pt(1)), line(2, 3, 2, pt(2)), line(4, 5, 3, gt(1))}},
		{"miss after a put", "cache", nil,
			ops{line(0, 1, 1, pt(1)), line(2, 3, 2, gt(1))},
			ops{line(0, 1, 1, pt(1)), line(2, 3, 2, miss)}},
		{"get after a delete", "cache", nil,
			ops{line(0, 1, 1, pt(1)), line(2, 3, 2, del), line(4, 5, 3, miss)},
			ops{line(0, 1, 1, pt(1)), line(2, 3, 2, del), line(4, 5, 3, gt(1))}},
		{"get after a reset", "cache", nil,
			ops{line(0, 1, 1, pt(1)), line(2, 3, 2, rst), line(4, 5, 3, miss)},
			ops{line(0, 1, 1, pt(1)), line(2, 3, 2, rst), line(4, 5, 3, gt(1))}},
		{"two winners of an add", "cache", nil,
			ops{line(0, 9, 1, ad(1, done)), line(0, 9, 2, ad(2, refused))},
			ops{line(0, 9, 1, ad(1, done)), line(0, 9, 2, ad(2, done))}},
		{"no winner of an add", "cache", nil,
			ops{line(0, 9, 1, ad(1, done)), line(0, 9, 2, ad(2, refused))},
			ops{line(0, 9, 1, ad(1, refused)), line(0, 9, 2, ad(2, refused))}},
		{"add that lost is seen", "cache", nil,
			ops{line(0, 9, 1, ad(1, done)), line(0, 9, 2, ad(2, refused)), line(10, 11, 3, gt(1))},
			ops{line(0, 9, 1, ad(1, done)), line(0, 9, 2, ad(2, refused)), line(10, 11, 3, gt(2))}},
		{"value beyond its time", "cache", nil,
			ops{line(0, 1, 1, with(pt(1), lives(50))), line(40, 45, 2, gt(1)), line(60, 61, 2, miss)},
			ops{line(0, 1, 1, with(pt(1), lives(50))), line(40, 45, 2, gt(1)), line(60, 61, 2, gt(1))}},
		{"value gone before its time", "cache", nil,
			ops{line(0, 1, 1, with(pt(1), lives(50))), line(52, 53, 2, miss)},
			ops{line(0, 1, 1, with(pt(1), lives(50))), line(40, 45, 2, miss)}},
		{"value missed although it was there before the other expired", "cache", nil,
			ops{line(0, 1, 1, with(pt(1), lives(50))), line(5, 80, 2, miss), line(10, 11, 3, pt(2))},
			ops{line(0, 1, 1, with(pt(1), lives(50))), line(12, 80, 2, miss), line(10, 11, 3, pt(2))}},
		{"value evicted too early", "cache-16", nil,
			ops{line(0, 1, 1, with(pt(1), at(10, 11))), line(2, 3, 2, with(miss, at(26, 26)))},
			ops{line(0, 1, 1, with(pt(1), at(10, 11))), line(2, 3, 2, with(miss, at(16, 16)))}},
		{"value back after it was evicted", "cache-16", nil,
			ops{line(0, 1, 1, with(pt(1), at(10, 11))), line(2, 3, 2, with(gt(1), at(26, 26))), line(4, 5, 2, with(miss, at(26, 26)))},
			ops{line(0, 1, 1, with(pt(1), at(10, 11))), line(2, 3, 2, with(miss, at(26, 26))), line(4, 5, 2, with(gt(1), at(26, 26)))}},

		{"two holders", "contest", nil,
			ops{line(0, 1, 1, cl(1, time.Hour)), line(2, 3, 2, held(1, 1))},
			ops{line(0, 1, 1, cl(1, time.Hour)), line(2, 3, 2, cl(2, time.Hour))}},
		{"token going back", "contest", nil,
			ops{line(0, 1, 1, cl(1, time.Hour)), line(2, 3, 1, use(release, 1, done)), line(4, 5, 2, cl(2, time.Hour))},
			ops{line(0, 1, 1, cl(2, time.Hour)), line(2, 3, 1, use(release, 2, done)), line(4, 5, 2, cl(1, time.Hour))}},
		{"claim before the time of another is over", "contest", nil,
			ops{line(0, 1, 1, cl(1, time.Millisecond)), line(1000001, 1000002, 2, cl(2, time.Hour))},
			ops{line(0, 1, 1, cl(1, time.Millisecond)), line(999990, 999991, 2, cl(2, time.Hour))}},
		{"guard valid beyond its time", "contest", nil,
			ops{line(0, 1, 1, cl(1, time.Millisecond)), line(1100000, 1100001, 1, use(valid, 1, refused))},
			ops{line(0, 1, 1, cl(1, time.Millisecond)), line(1100000, 1100001, 1, use(valid, 1, done))}},
		{"renewed claim that falls at its old time", "contest", nil,
			ops{line(0, 1, 1, cl(1, time.Millisecond)), line(2, 3, 1, use(renew, 1, done)), line(1100000, 1100001, 2, held(1, 1))},
			ops{line(0, 1, 1, cl(1, time.Millisecond)), line(2, 3, 1, use(renew, 1, done)), line(1100000, 1100001, 2, cl(2, time.Hour))}},
		{"claim that stands beyond its time, but for a renewal that came late", "contest", nil,
			ops{line(0, 1, 1, cl(1, time.Millisecond)), line(500000, 9000000, 1, with(use(renew, 1, refused), lives(3*time.Millisecond))), line(2000000, 2000001, 2, held(1, 1)), line(8000000, 8000001, 2, cl(2, time.Hour))},
			ops{line(0, 1, 1, cl(1, time.Millisecond)), line(500000, 600000, 1, with(use(valid, 1, done), lives(3*time.Millisecond))), line(2000000, 2000001, 2, held(1, 1)), line(8000000, 8000001, 2, cl(2, time.Hour))}},
		{"renewal refused although the claim stands", "contest", nil,
			ops{line(0, 1, 1, cl(1, time.Hour)), line(2, 3, 1, use(renew, 1, done))},
			ops{line(0, 1, 1, cl(1, time.Hour)), line(2, 3, 1, use(renew, 1, refused))}},
		{"guard that outlives its successor", "contest", nil,
			ops{line(0, 1, 1, cl(1, time.Millisecond)), line(1100000, 1100001, 2, cl(2, time.Hour)), line(1100002, 1100003, 1, use(renew, 1, refused))},
			ops{line(0, 1, 1, cl(1, time.Millisecond)), line(1100000, 1100001, 2, cl(2, time.Hour)), line(1100002, 1100003, 1, use(renew, 1, done))}},
		{"claim of the dead that stands", "contest", map[int]int64{1: 10},
			ops{line(0, 1, 1, cl(1, time.Hour)), line(5, 6, 2, held(1, 1)), line(11, 12, 2, cl(2, time.Hour))},
			ops{line(0, 1, 1, cl(1, time.Hour)), line(5, 6, 2, held(1, 1)), line(11, 12, 2, held(1, 1))}},
		{"nobody named although somebody holds", "contest", nil,
			ops{line(0, 1, 1, cl(1, time.Hour)), line(2, 3, 2, who(1, 1))},
			ops{line(0, 1, 1, cl(1, time.Hour)), line(2, 3, 2, nobody)}},
		{"wrong holder named", "contest", nil,
			ops{line(0, 1, 1, cl(1, time.Hour)), line(2, 3, 2, who(1, 1))},
			ops{line(0, 1, 1, cl(1, time.Hour)), line(2, 3, 2, who(1, 2))}},
		{"holder named after the release", "contest", nil,
			ops{line(0, 1, 1, cl(1, time.Hour)), line(2, 3, 1, use(release, 1, done)), line(4, 5, 2, nobody)},
			ops{line(0, 1, 1, cl(1, time.Hour)), line(2, 3, 1, use(release, 1, done)), line(4, 5, 2, who(1, 1))}},
		{"guard lost without a reason", "contest", nil,
			ops{line(0, 1, 1, cl(1, time.Hour)), line(2, 3, 1, use(valid, 1, done))},
			ops{line(0, 1, 1, cl(1, time.Hour)), line(2, 3, 1, use(valid, 1, refused))}},
	}
	for _, tt := range tests {
		s := find(tt.scenario)
		if !legal(s, handwritten(tt.died, tt.right...)) {
			t.Errorf("%s: the right history is found illegal", tt.name)
		}
		if legal(s, handwritten(tt.died, tt.wrong...)) {
			t.Errorf("%s: the wrong history is found legal", tt.name)
		}
	}
}

func lives(d time.Duration) func(*record) { return func(r *record) { r.TTL = d } }

// TestOneStaleReadInARealHistoryIsFound changes a single read of a history
// that real processes played, and looks at what the check makes of it.
func TestOneStaleReadInARealHistoryIsFound(t *testing.T) {
	plain, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	trial := &trial{scenario: find("latest-64"), binary: plain}
	c, err := newCrew(trial, seed(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	tried := 0
	for range 100 {
		h, err := c.play(maxOps)
		if err != nil {
			t.Fatal(err)
		}
		if !legal(trial.scenario, h) {
			t.Fatal("a history is not linearizable before it was changed")
		}
		if !staleRead(h, c.random) {
			continue
		}
		tried++
		p := trial.scenario.parts(h)[0]
		if p.check() != porcupine.Illegal {
			t.Fatal("a stale read was not found")
		}
		small := p.smallest()
		if small.check() != porcupine.Illegal || len(small.ops) > 5 {
			t.Errorf("the smallest offending part has %d of %d operations, and the check says %v, want at most 5 and Illegal", len(small.ops), len(p.ops), small.check())
		}
		path, err := p.dump(t.TempDir(), "stale", io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(path); err != nil || strings.Count(string(text), "\n") < len(p.ops) {
			t.Errorf("the dump does not have all %d operations: %v", len(p.ops), err)
		}
		if tried == 3 {
			return
		}
	}
	t.Error("no history had three writes in a row and a read after them")
}

// staleRead gives a read of register 0 the value of a write that another write
// followed before the read began.
func staleRead(h *history, random *rand.Rand) bool {
	ops := h.of(0)
	for range 1000 {
		w1, w2, r := ops[random.IntN(len(ops))], ops[random.IntN(len(ops))], ops[random.IntN(len(ops))]
		if w1.Action == write && w2.Action == write && r.Action == read && w1.Outcome == done && w2.Outcome == done &&
			w1.Return < w2.Call && w2.Return < r.Call {
			r.Got, r.Outcome = w1.Value, done
			return true
		}
	}
	return false
}
