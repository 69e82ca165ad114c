//go:build linux

package fleettest

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// Counters near the limits of the fields that carry them: 32 bits, the 40 bits
// of an id, 64 bits.

const (
	kindWrap = 60
	writer   = 1 // the node of the first member
)

func init() { proc.Helper("wrapReader", wrapReader) }

var boundaries = []struct {
	name string
	at   uint64
}{
	{"2^32", 1 << 32}, {"2^39", 1 << 39}, {"2^40", 1 << 40}, {"2^63", 1 << 63}, {"2^64", 0},
}

// overTheBoundary runs a test with two members' handles to rings whose heads
// stand a lap and a bit before each boundary.
func overTheBoundary(t *testing.T, run func(t *testing.T, r, other *orbit.Ring, start uint64)) {
	for _, b := range boundaries {
		for _, capacity := range []int{1, 2, 8, 1024} {
			t.Run(b.name+"/"+strconv.Itoa(capacity), func(t *testing.T) {
				start := b.at - uint64(capacity) - 3
				name := proc.Fleet(t)
				f, g := join(t, name, one(kindWrap, capacity, 64)), join(t, name, one(kindWrap, capacity, 64))
				r, other := ring(t, f, kindWrap), ring(t, g, kindWrap)
				presetRing(t, name, kindWrap, start)
				run(t, r, other, start)
				f.Close()
				g.Close()
				proc.RemoveFleet(t, name)
			})
		}
	}
}

func TestCountersWrapWithoutATrace(t *testing.T) {
	overTheBoundary(t, func(t *testing.T, r, other *orbit.Ring, start uint64) {
		capacity := r.Geometry().Capacity
		if got := other.Head(); got != start {
			t.Fatalf("Head = %d, want %d", got, start)
		}
		if _, err := other.Newest(nil); err != orbit.ErrNoFrame {
			t.Fatalf("Newest of an empty ring: %v, want %v", err, orbit.ErrNoFrame)
		}
		slow := audit(other, other.At(start)) // reads at the end only
		fast := audit(other, other.Tail())
		if fast.Position() != start || other.Oldest().Position() != start {
			t.Fatalf("Tail at %d, Oldest at %d, want %d", fast.Position(), other.Oldest().Position(), start)
		}
		n := uint64(2*capacity + 7)
		var ids []orbit.NetID64
		for i := range n {
			c := start + i
			id := publish(t, r, c, 64)
			ids = append(ids, id)
			if want := orbit.MakeNetID64(kindWrap, writer, c); id != want {
				t.Fatalf("frame %d of this ring has id %v, want %v", i, id, want)
			}
			if got := other.Head(); got != c+1 {
				t.Fatalf("Head = %d, want %d", got, c+1)
			}
			checkNewest(t, other, c, id)
			if err := fast.drain(nil); err != nil {
				t.Fatal(err)
			}
			checkWindow(t, other, ids, start)
		}
		if got := fast.Tally(); got != (orbit.Tally{Delivered: n}) {
			t.Errorf("a cursor at the tail got %+v, want %d frames and no gap", got, n)
		}
		if err := slow.drain(nil); err != nil {
			t.Fatal(err)
		}
		if got, want := slow.Tally().Delivered, uint64(capacity); got != want || slow.Tally().Overwritten != n-want {
			t.Errorf("a cursor from the start got %+v, want %d frames and %d overwritten", slow.Tally(), want, n-want)
		}
	})
}

func checkNewest(t *testing.T, r *orbit.Ring, c uint64, id orbit.NetID64) {
	t.Helper()
	want, version := payload(nil, c, 64)
	if got, err := r.Newest(nil); err != nil || got.ID != id || got.Version != version || !bytes.Equal(got.Payload, want) {
		t.Fatalf("Newest = %v, %v; want %v", got.ID, err, id)
	}
}

// checkWindow reads the ids on both sides of the ring's window and at its
// edges.
func checkWindow(t *testing.T, r *orbit.Ring, ids []orbit.NetID64, start uint64) {
	t.Helper()
	held := min(len(ids), r.Geometry().Capacity)
	for _, i := range []int{len(ids) - 1, len(ids) - 2, len(ids) - held, len(ids) - held - 1, 0} {
		if i < 0 {
			continue
		}
		want := error(nil)
		if i < len(ids)-held {
			want = orbit.ErrOverwritten
		}
		if f, err := r.Read(ids[i], nil); err != want || err == nil && (f.ID != ids[i] || verify(f) != nil) {
			t.Fatalf("Read(%v) at head %d = %v, %v; want error %v", ids[i], r.Head(), f.ID, err, want)
		}
		if f, err := r.ReadAt(start+uint64(i), nil); err != want || err == nil && f.ID != ids[i] {
			t.Fatalf("ReadAt(%d) at head %d = %v, %v; want error %v", start+uint64(i), r.Head(), f.ID, err, want)
		}
	}
	next := orbit.MakeNetID64(kindWrap, ids[0].Node(), r.Head())
	if _, err := r.Read(next, nil); err != orbit.ErrUnpublished {
		t.Fatalf("Read(%v), the next id: %v, want %v", next, err, orbit.ErrUnpublished)
	}
}

func TestHolesBatchesAndResetsOverTheBoundary(t *testing.T) {
	overTheBoundary(t, func(t *testing.T, r, other *orbit.Ring, start uint64) {
		capacity := r.Geometry().Capacity
		c := audit(other, other.Tail())
		var want orbit.Tally
		batch := make([]orbit.Frame, min(capacity, 3))
		for next := start; next-start < uint64(2*capacity+9); {
			for i := range batch {
				p, version := payload(nil, next+uint64(i), 9)
				batch[i] = orbit.Frame{Kind: 1, Version: version, Payload: p}
			}
			if capacity == 1 {
				if err := c.drain(nil); err != nil {
					t.Fatal(err)
				}
			}
			if n, err := r.PublishBatch(batch); n != len(batch) || err != nil {
				t.Fatalf("PublishBatch = %d, %v", n, err)
			}
			for i, frame := range batch {
				if want := orbit.MakeNetID64(kindWrap, writer, next+uint64(i)); frame.ID != want {
					t.Fatalf("frame %d of a batch has id %v, want %v", i, frame.ID, want)
				}
			}
			if err := c.drain(nil); err != nil {
				t.Fatal(err)
			}
			next += uint64(len(batch))
			want.Delivered += uint64(len(batch))
			if id, err := r.Mint(); err != nil || id != orbit.MakeNetID64(kindWrap, writer, next) {
				t.Fatalf("Mint = %v, %v; want counter %d", id, err, next)
			}
			next++
			want.Holes++
			if err := c.drain(nil); err != nil {
				t.Fatal(err)
			}
			if next%4 == 0 {
				publish(t, r, 1, 1)
				if err := r.Reset(); err != nil {
					t.Fatal(err)
				}
				if _, err := other.Newest(nil); err != orbit.ErrNoFrame {
					t.Fatalf("Newest after a reset: %v, want %v", err, orbit.ErrNoFrame)
				}
				if err := c.drain(nil); err != nil {
					t.Fatal(err)
				}
				next++
				want.Overwritten++
			}
			if got := c.Tally(); got != want {
				t.Fatalf("at counter %d the cursor has %+v, want %+v", next, got, want)
			}
		}
	})
}

// wrapReader reads from a counter on, waiting, until it has n frames.
func wrapReader(args []string) error {
	proc.WatchParent()
	capacity, _ := strconv.Atoi(args[1])
	start, _ := strconv.ParseUint(args[2], 10, 64)
	n, _ := strconv.Atoi(args[3])
	f, err := orbit.Join(args[0], one(kindWrap, capacity, 64))
	if err != nil {
		return err
	}
	r, err := f.Ring(kindWrap)
	if err != nil {
		return err
	}
	c := audit(r, r.At(start))
	for done := 0; done < n; done++ {
		// Without the holes of a publisher that lost the processor before it marked its slot.
		fmt.Println("at", c.Position()-c.Tally().Holes)
		frame, err := c.next(nil)
		for errors.Is(err, orbit.ErrNoFrame) {
			if err := c.Wait(neverDone()); err != nil {
				return err
			}
			frame, err = c.next(nil)
		}
		if err != nil {
			return err
		}
		if p, _ := payload(nil, start+uint64(done), 64); !bytes.Equal(frame.Payload, p) {
			return fmt.Errorf("frame %d is another one", done)
		}
	}
	fmt.Println("end", c.Tally().Delivered)
	return f.Close()
}

func TestProcessesWaitOverTheBoundary(t *testing.T) {
	for _, b := range boundaries {
		t.Run(b.name, func(t *testing.T) {
			const capacity, n = 2, 7
			start := b.at - capacity - 3
			name := proc.Fleet(t)
			f := join(t, name, one(kindWrap, capacity, 64))
			r := ring(t, f, kindWrap)
			presetRing(t, name, kindWrap, start)
			p := proc.Start(t, "wrapReader", name, strconv.Itoa(capacity), strconv.FormatUint(start, 10), strconv.Itoa(n))
			for i := range uint64(n) {
				if got, want := p.Line(), fmt.Sprint("at ", start+i); got != want {
					t.Fatalf("got %q, want %q", got, want)
				}
				publish(t, r, start+i, 64)
			}
			if got, want := p.Line(), fmt.Sprint("end ", n); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
			p.Finish()
			f.Close()
			proc.RemoveFleet(t, name)
		})
	}
}

// TestEventsBeyondTheBoundaries have their time, and a subscriber that begins far
// behind them is told of all that it missed.
func TestEventsBeyondTheBoundaries(t *testing.T) {
	for _, b := range boundaries {
		t.Run(b.name, func(t *testing.T) {
			name := proc.Fleet(t)
			f := join(t, name, one(orbit.KindEvents, 8, 64))
			if _, err := orbit.Events(f); err != nil {
				t.Fatal(err)
			}
			head := b.at + 5
			presetRing(t, name, orbit.KindEvents, head)
			bus, err := orbit.Events(join(t, name, one(orbit.KindEvents, 8, 64)))
			if err != nil {
				t.Fatal(err)
			}
			far := orbit.Position{Fleet: f.Incarnation(), Counter: head - 1<<40}
			s, err := bus.SubscribeAt(far)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Position(); got != far {
				t.Errorf("a subscriber that begins at %+v is at %+v", far, got)
			}
			for n := range 3 {
				if _, err := bus.Publish("topic", nil); err != nil {
					t.Fatal(err)
				}
				var ev orbit.Event
				if err := s.Poll(&ev); err != nil || ev.Age() > time.Minute {
					t.Errorf("event %d: %v, %v old", n, err, ev.Age())
				}
				if want := uint64(1<<40) * uint64(1-min(n, 1)); ev.Lag != (orbit.Gap{Overwritten: want}) {
					t.Errorf("event %d: lag %+v, want %d overwritten", n, ev.Lag, want)
				}
			}
		})
	}
}

// TestFramesAreToldApartAtAnyDistance: a slot has 40 bits of its counter, and so
// have frames that are whole turns of it away.
func TestFramesAreToldApartAtAnyDistance(t *testing.T) {
	const turn, capacity = 1 << 40, 8
	for _, start := range []uint64{0, 1 << 20, turn, 3*turn + 5, 1<<63 + 7, 1<<64 - 2} {
		name := proc.Fleet(t)
		f := join(t, name, one(kindWrap, capacity, 64))
		r := ring(t, f, kindWrap)
		presetRing(t, name, kindWrap, start)
		first := publish(t, r, 0, 64)
		for i := range uint64(capacity - 1) {
			publish(t, r, 1+i, 64)
		}
		// As if it had begun long before.
		overwriteWord(t, proc.Segment(name, kindWrap), offFirst, start-1<<62)
		for _, back := range []uint64{turn/2 - 1, turn / 2, turn/2 + 1, turn - 1, turn, turn + 1, 2 * turn, 1 << 61} {
			c := r.At(start - back)
			if got := c.Position(); got != start-back {
				t.Errorf("frames from %d: a cursor told to begin %d back is at %d", start, back, got)
			}
			frame, gap, err := c.Next(nil)
			if err != nil || gap != (orbit.Gap{Overwritten: back}) || frame.ID != first {
				t.Errorf("frames from %d, from %d back: got frame %v, gap %+v, %v; want frame %v after %d overwritten", start, back, frame.ID, gap, err, first, back)
			}
			if tally := c.Tally(); tally != (orbit.Tally{Delivered: 1, Gap: gap}) || c.Position() != start+1 {
				t.Errorf("frames from %d, from %d back: then tally %+v at %d", start, back, tally, c.Position())
			}
		}
		for _, ahead := range []uint64{capacity, turn / 2, turn - 1, turn, turn + 1, turn + capacity - 1, 2 * turn} {
			if frame, gap, err := r.At(start + ahead).Next(nil); err != orbit.ErrNoFrame || gap.Total() != 0 {
				t.Errorf("frames from %d, from %d ahead: got frame %v, gap %+v, %v", start, ahead, frame.ID, gap, err)
			}
		}
		f.Close()
		proc.RemoveFleet(t, name)
	}
}
