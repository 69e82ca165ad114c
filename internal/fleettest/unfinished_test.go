//go:build linux

package fleettest

import (
	"strconv"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// What a ring makes of counters whose writers have not finished, or not even
// begun. The writers are a member of this process that is alive and never
// writes: the tests put its claims into the slots. Who took a counter and has
// not marked its slot is nobody: the tests raise the head.

const kindUnfinished = 51

// liveOwner is the second member of a new fleet, as state words have it: seat
// 1, first turn.
const liveOwner = 1<<12 | 1

// nobody sits in seat 9.
const nobody = 9<<12 | 1

// unfinished returns the ring of a fleet of two members, with n frames in it,
// and a function that claims its next counter for the second.
func unfinished(t *testing.T, capacity, n int) (r *orbit.Ring, claim func(phase uint64) uint64) {
	t.Helper()
	return unfinishedBy(t, liveOwner, capacity, n)
}

// unfinishedBy is unfinished with the claims of another owner.
func unfinishedBy(t *testing.T, owner uint64, capacity, n int) (r *orbit.Ring, claim func(phase uint64) uint64) {
	t.Helper()
	name := proc.Fleet(t)
	opts := one(kindUnfinished, capacity, 16)
	r = ring(t, join(t, name, opts), kindUnfinished)
	ring(t, join(t, name, opts), kindUnfinished)
	for i := range n {
		publish(t, r, uint64(i), 8)
	}
	path := proc.Segment(name, kindUnfinished)
	return r, func(phase uint64) uint64 {
		t.Helper()
		m := load(t, path)
		h := m.word(offHead)
		owner := owner
		if phase == phaseSkipped || phase == phaseDone {
			owner = 0
		}
		overwriteWord(t, path, m.slot(h), state(h, owner, phase))
		if owner != 0 { // Close would wait for it
			t.Cleanup(func() { overwriteWord(t, path, m.slot(h), state(h, 0, phaseSkipped)) })
		}
		overwriteWord(t, path, offHead, h+1)
		return h
	}
}

// TestUnfinishedFrameIsPendingWhileItsWriterLives: of a ring without any other
// frame, Newest says that one is on its way only if it can still come.
func TestUnfinishedFrameIsPendingWhileItsWriterLives(t *testing.T) {
	r, claim := unfinished(t, 8, 0)
	claim(phaseSkipped) // leaves no frame
	if _, err := r.Newest(nil); err != orbit.ErrNoFrame {
		t.Errorf("Newest of an empty ring: %v, want %v", err, orbit.ErrNoFrame)
	}
	claim(phaseWriting)
	if _, err := r.Newest(nil); err != orbit.ErrPending {
		t.Errorf("Newest while a live member writes: %v, want %v", err, orbit.ErrPending)
	}
	r, claim = unfinishedBy(t, nobody, 8, 0)
	claim(phaseWriting)
	if _, err := r.Newest(nil); err != orbit.ErrNoFrame {
		t.Errorf("Newest when its writer is dead: %v, want %v", err, orbit.ErrNoFrame)
	}
}

func TestNewestFrameIsFoundBelowUnfinishedOnes(t *testing.T) {
	r, claim := unfinished(t, 8, 5)
	want, err := r.Newest(nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		claim(phaseWriting)
		if got, err := r.Newest(nil); err != nil || got.ID != want.ID {
			t.Errorf("below %d unfinished frames: %v, %v; want %v", n+1, got.ID, err, want.ID)
		}
	}
	claim(phaseBusy)
	claim(phaseSkipped)
	if got, err := r.Newest(nil); err != nil || got.ID != want.ID {
		t.Errorf("below unfinished frames and holes: %v, %v; want %v", got.ID, err, want.ID)
	}
}

// TestGraceIsForAllThatWereBegun when a cursor began to wait, and those that were
// begun later have their own: a stopped batch holds it no longer than a frame.
func TestGraceIsForAllThatWereBegun(t *testing.T) {
	r, claim := unfinished(t, 128, 0)
	c := r.Oldest()
	c.Grace = 50 * time.Millisecond
	const batch = 64
	for range batch {
		claim(phaseWriting)
	}
	if _, gap, err := c.Next(nil); err != orbit.ErrPending || gap != (orbit.Gap{}) {
		t.Fatalf("at the first frame: gap %+v, %v; want %v", gap, err, orbit.ErrPending)
	}
	later := claim(phaseWriting)
	time.Sleep(2 * c.Grace)
	if _, gap, err := c.Next(nil); err != orbit.ErrPending || gap != (orbit.Gap{Lost: batch}) || c.Position() != later {
		t.Errorf("after the grace of %d frames: gap %+v, %v, at %d; want them lost, and %v at %d", batch, gap, err, c.Position(), orbit.ErrPending, later)
	}
	time.Sleep(2 * c.Grace)
	if _, gap, err := c.Next(nil); err != orbit.ErrNoFrame || gap != (orbit.Gap{Lost: 1}) {
		t.Errorf("after the grace of frame %d: gap %+v, %v; want one lost, and %v", later, gap, err, orbit.ErrNoFrame)
	}
}

// TestAllWhoWaitAtAnUnfinishedFrameGoOn, when their grace is over: one of them
// sleeps in the kernel, and nothing happens that it could tell the others of.
func TestAllWhoWaitAtAnUnfinishedFrameGoOn(t *testing.T) {
	r, claim := unfinished(t, 8, 1)
	n := claim(phaseWriting)
	for _, grace := range []time.Duration{50 * time.Millisecond, 300 * time.Millisecond} {
		readers, awake := threeWait(t, r, n, grace)
		awake("who waits at an unfinished frame")
		for _, c := range readers {
			if _, gap, _ := c.Next(nil); gap != (orbit.Gap{Lost: 1}) {
				t.Errorf("after the wait: gap %+v, want one lost", gap)
			}
		}
	}
}

// threeWait has three cursors wait at a counter: one of them sleeps in the
// kernel, the others wait for its word. The test fails if awake finds that one
// does not come back, or with an error.
func threeWait(t *testing.T, r *orbit.Ring, at uint64, grace time.Duration) (readers []*audited, awake func(who string)) {
	t.Helper()
	done := make(chan error, 3)
	for range cap(done) {
		c := audit(r, r.At(at))
		c.Grace = grace
		readers = append(readers, c)
		go func() { done <- c.Wait(t.Context()) }()
	}
	time.Sleep(10 * time.Millisecond) // they lie down
	return readers, func(who string) {
		t.Helper()
		for range readers {
			var err error
			within(t, 20*time.Second, who, func() { err = <-done })
			if err != nil {
				t.Error(err)
			}
		}
	}
}

// TestFrameWithoutAWakeIsHeardOf: a writer can be killed after it committed a
// frame and before it woke those who sleep.
func TestFrameWithoutAWakeIsHeardOf(t *testing.T) {
	r, claim := unfinished(t, 8, 3)
	for range 3 {
		readers, awake := threeWait(t, r, r.Head(), 0)
		n := claim(phaseDone)
		awake("a reader whom nobody wakes")
		for _, c := range readers {
			if f, gap, err := c.Next(nil); err != nil || f.ID.Counter() != n || gap.Total() != 0 {
				t.Errorf("after the wait: frame %v, gap %+v, %v; want frame %d", f.ID, gap, err, n)
			}
		}
	}
}

// TestBatchEndsWhereAGapBegins: a batch is told of one gap, the one before its
// first frame.
func TestBatchEndsWhereAGapBegins(t *testing.T) {
	r, claim := unfinished(t, 16, 3)
	first := claim(phaseSkipped)
	claim(phaseSkipped)
	publish(t, r, 10, 8)
	publish(t, r, 11, 8)
	c := r.Oldest()
	frames := make([]orbit.Frame, 16)
	if n, gap, err := c.Poll(frames); n != 3 || gap != (orbit.Gap{}) || err != nil || c.Position() != first {
		t.Errorf("Poll before two holes: %d frames, gap %+v, %v, then at %d; want 3, no gap, and at %d", n, gap, err, c.Position(), first)
	}
	if n, gap, err := c.Poll(frames); n != 2 || gap != (orbit.Gap{Holes: 2}) || err != nil || c.Position() != first+4 {
		t.Errorf("Poll at two holes: %d frames, gap %+v, %v, then at %d; want 2 after 2 holes, and at %d", n, gap, err, c.Position(), first+4)
	}
}

// TestSuccessorOfADeadMemberIsNotItsHeir: a seat goes from the dead to the
// living, what was begun in it does not.
func TestSuccessorOfADeadMemberIsNotItsHeir(t *testing.T) {
	name := proc.Fleet(t)
	const capacity = 4
	f := join(t, name, one(kindBig, capacity, bigSize))
	r := ring(t, f, kindBig)
	for turn := uint64(1); turn <= 3; turn++ {
		p := proc.Start(t, "bigWriter", name, "4")
		p.Line()
		lost := catch(t, p, r)
		p.Kill()
		p.Died(9)
		// To list the members tidies up after the dead: the seat is the next
		// to be given out.
		proc.Eventually(t, "the writer is no member", func() bool { m, err := f.Members(); return err == nil && len(m) == 1 })
		successor := join(t, name, one(kindBig, capacity, bigSize))
		const seat = pageSize + 64
		if got, want := load(t, proc.Segment(name, 0)).word(seat)&(1<<13-1), (2*turn)<<1|1; got != want {
			t.Fatalf("seat 1 is in state %#x, want %#x: turn %d, taken", got, want, 2*turn)
		}
		if _, err := r.ReadAt(lost, nil); err != orbit.ErrLost {
			t.Errorf("the frame of a dead member with a successor: %v, want %v", err, orbit.ErrLost)
		}
		publishBig(t, r, 2*capacity)
		if s, err := r.Stats(); err != nil || s.Frames != capacity {
			t.Errorf("two laps later: stats %+v, %v; want %d frames and nothing else", s, err, capacity)
		}
		if err := successor.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestCloseWaitsForAWriteUnderWay: a member that left is taken for dead, and
// its slots with it. So it does not leave as long as one of its goroutines
// writes, and keeps its seat if that takes too long.
func TestCloseWaitsForAWriteUnderWay(t *testing.T) {
	for _, finishes := range []bool{true, false} {
		name := proc.Fleet(t)
		opts := one(kindUnfinished, 8, 16)
		r := ring(t, join(t, name, opts), kindUnfinished)
		leaving := join(t, name, opts)
		ring(t, leaving, kindUnfinished)
		path := proc.Segment(name, kindUnfinished)
		at := load(t, path).slot(0)
		overwriteWord(t, path, at, state(0, liveOwner, phaseWriting))
		overwriteWord(t, path, offHead, 1)
		closed := make(chan error, 1)
		go func() { closed <- leaving.Close() }()
		for range 20 {
			if _, err := r.ReadAt(0, nil); err != orbit.ErrPending {
				t.Errorf("during Close the frame under way: %v, want %v", err, orbit.ErrPending)
			}
			time.Sleep(time.Millisecond)
		}
		want := error(orbit.ErrPending)
		if finishes {
			overwriteWord(t, path, at, state(0, 0, phaseSkipped))
			want = orbit.ErrHole
		}
		var err error
		within(t, 20*time.Second, "Close", func() { err = <-closed })
		if err != nil {
			t.Error(err)
		}
		if _, err := r.ReadAt(0, nil); err != want {
			t.Errorf("after Close, finished %v, the frame: %v, want %v", finishes, err, want)
		}
		overwriteWord(t, path, at, state(0, 0, phaseSkipped))
	}
}

// ---- Counters taken whose slots are not marked ----

// abandon takes n counters of a ring and marks none of their slots, as whoever
// stops or dies in between leaves them. It returns the first.
func abandon(t *testing.T, r *orbit.Ring, name string, n int) uint64 {
	t.Helper()
	h := r.Head()
	overwriteWord(t, proc.Segment(name, int(r.Kind())), offHead, h+uint64(n))
	return h
}

// abandoned returns the ring of a new fleet, with n frames in it, and the name
// of the fleet.
func abandoned(t *testing.T, capacity, n int) (r *orbit.Ring, name string) {
	t.Helper()
	name = proc.Fleet(t)
	r = ring(t, join(t, name, one(kindUnfinished, capacity, 16)), kindUnfinished)
	for i := range n {
		publish(t, r, uint64(i), 8)
	}
	return r, name
}

// eachCapacity runs a test for rings of one, two and more slots.
func eachCapacity(t *testing.T, run func(t *testing.T, capacity int)) {
	for _, capacity := range []int{1, 2, 8} {
		t.Run(strconv.Itoa(capacity), func(t *testing.T) { run(t, capacity) })
	}
}

// slotState reads the state of the slot of a counter.
func slotState(t *testing.T, name string, c uint64) uint64 {
	t.Helper()
	m := load(t, proc.Segment(name, kindUnfinished))
	return m.word(m.slot(c))
}

// TestNewestFrameIsFoundBelowTakenCounters: as long as the ring has one there.
func TestNewestFrameIsFoundBelowTakenCounters(t *testing.T) {
	eachCapacity(t, func(t *testing.T, capacity int) {
		r, name := abandoned(t, capacity, capacity+1)
		want, err := r.Newest(nil)
		if err != nil {
			t.Fatal(err)
		}
		for n := 1; n < capacity; n++ {
			c := abandon(t, r, name, 1)
			if got, err := r.Newest(nil); err != nil || got.ID != want.ID || verify(got) != nil {
				t.Errorf("below %d taken counters: %v, %v; want %v", n, got.ID, err, want.ID)
			}
			if st, before := slotState(t, name, c), state(c-uint64(capacity), 0, phaseDone); st != before {
				t.Errorf("Newest left slot %d in state %#x, want it untouched, %#x", c, st, before)
			}
		}
		for range 3 {
			abandon(t, r, name, 1)
			if got, err := r.Newest(nil); err != orbit.ErrNoFrame {
				t.Errorf("with nothing but taken counters: %v, %v; want %v", got.ID, err, orbit.ErrNoFrame)
			}
		}
		id := publish(t, r, 100, 8)
		if got, err := r.Newest(nil); err != nil || got.ID != id {
			t.Errorf("above taken counters: %v, %v; want %v", got.ID, err, id)
		}
	})
}

// TestCursorIsPatientWithWhoTookACounter, but only as long as it takes to mark a
// slot, though others may mark meanwhile, and not anew with each.
func TestCursorIsPatientWithWhoTookACounter(t *testing.T) {
	r, name := abandoned(t, 16, 3)
	c := audit(r, r.Tail())
	path := proc.Segment(name, kindUnfinished)
	first := abandon(t, r, name, 8)
	began := time.Now()
	if _, err := c.next(nil); err != orbit.ErrPending || c.Position() != first {
		t.Errorf("at a counter just taken: %v at %d, want %v at %d", err, c.Position(), orbit.ErrPending, first)
	}
	overwriteWord(t, path, load(t, path).slot(first), state(first, 0, phaseSkipped))
	_, err := c.next(nil)
	if time.Since(began) >= 10*time.Millisecond {
		t.Log("too slow to see the patience of a cursor, which is over")
	} else if err != orbit.ErrPending || c.Position() != first+1 {
		t.Errorf("once that one's slot is marked: %v at %d, want %v at %d", err, c.Position(), orbit.ErrPending, first+1)
	}
	id := publish(t, r, 100, 8)
	for start := time.Now(); c.Position() != r.Head(); {
		if _, err := c.next(nil); err == orbit.ErrPending {
			within(t, 20*time.Second, "the patience of a cursor", func() {
				if err := c.Wait(t.Context()); err != nil {
					t.Error(err)
				}
			})
		} else if err != nil || time.Since(start) > 20*time.Second {
			t.Fatalf("%v at %d, want frame %v", err, c.Position(), id)
		}
	}
	if want := (orbit.Tally{Delivered: 1, Gap: orbit.Gap{Holes: 8}}); c.sum != want {
		t.Errorf("tally %+v, want %+v", c.sum, want)
	}
	// Those taken later are waited for anew.
	next := abandon(t, r, name, 1)
	if _, err := c.next(nil); err != orbit.ErrPending || c.Position() != next {
		t.Errorf("at another just taken: %v at %d, want %v at %d", err, c.Position(), orbit.ErrPending, next)
	}
}

// TestCursorWithoutGracePassesTakenCountersAtOnce, and does not leave what
// follows for later.
func TestCursorWithoutGracePassesTakenCountersAtOnce(t *testing.T) {
	eachCapacity(t, func(t *testing.T, capacity int) {
		for n := 1; n <= capacity; n++ {
			r, name := abandoned(t, capacity, 3)
			c := audit(r, r.Tail())
			c.Grace = -1
			abandon(t, r, name, n)
			var want orbit.Gap
			if n == capacity { // no room for a frame beside them
				if _, gap, err := c.Next(nil); err != orbit.ErrNoFrame || gap != (orbit.Gap{Holes: uint64(n)}) {
					t.Errorf("at %d taken counters: gap %+v, %v; want %d holes, and %v", n, gap, err, n, orbit.ErrNoFrame)
				}
			} else {
				want.Holes = uint64(n)
			}
			id := publish(t, r, 100, 8)
			f, gap, err := c.Next(nil)
			if err != nil || f.ID != id || verify(f) != nil || gap != want {
				t.Errorf("behind %d taken counters: frame %v, gap %+v, %v; want %v behind %+v", n, f.ID, gap, err, id, want)
			}
			if got, want := c.Tally(), (orbit.Tally{Delivered: 1, Gap: orbit.Gap{Holes: uint64(n)}}); got != want || c.Position() != r.Head() {
				t.Errorf("behind %d taken counters: tally %+v at %d; want %+v at %d", n, got, c.Position(), want, r.Head())
			}
		}
	})
}

// TestCursorAccountsForTakenCountersAmongFrames reads them one by one and in
// batches, which end where a gap begins.
func TestCursorAccountsForTakenCountersAmongFrames(t *testing.T) {
	r, name := abandoned(t, 16, 2)
	single, batches := audit(r, r.Oldest()), r.Oldest()
	single.Grace, batches.Grace = -1, -1
	abandon(t, r, name, 1)
	publish(t, r, 10, 8)
	abandon(t, r, name, 3)
	publish(t, r, 11, 8)
	publish(t, r, 12, 8)
	abandon(t, r, name, 2)
	frames := make([]orbit.Frame, 16)
	for i, want := range []struct {
		n   int
		gap orbit.Gap
		err error
	}{{2, orbit.Gap{}, nil}, {1, orbit.Gap{Holes: 1}, nil}, {2, orbit.Gap{Holes: 3}, nil}, {0, orbit.Gap{Holes: 2}, orbit.ErrNoFrame}} {
		if n, gap, err := batches.Poll(frames); n != want.n || gap != want.gap || err != want.err {
			t.Errorf("Poll %d: %d frames, gap %+v, %v; want %d, %+v, %v", i, n, gap, err, want.n, want.gap, want.err)
		}
	}
	if err := single.drain(nil); err != nil {
		t.Fatal(err)
	}
	want := orbit.Tally{Delivered: 5, Gap: orbit.Gap{Holes: 6}}
	if single.Tally() != want || batches.Tally() != want {
		t.Errorf("tally %+v one by one, %+v in batches; want %+v", single.Tally(), batches.Tally(), want)
	}
}

// TestReadMakesATakenCounterAHole, once and for all.
func TestReadMakesATakenCounterAHole(t *testing.T) {
	reads := map[string]func(r *orbit.Ring, c uint64) error{
		"ReadAt": func(r *orbit.Ring, c uint64) error { _, err := r.ReadAt(c, nil); return err },
		"Read": func(r *orbit.Ring, c uint64) error {
			_, err := r.Read(orbit.MakeNetID64(r.Kind(), 1, c), nil)
			return err
		},
	}
	for how, read := range reads {
		eachCapacity(t, func(t *testing.T, capacity int) {
			r, name := abandoned(t, capacity, capacity+1)
			first := abandon(t, r, name, capacity)
			for n := range capacity {
				if s, err := r.Stats(); err != nil || s.Pending != 0 || s.Holes != capacity || s.Frames != 0 {
					t.Errorf("before %s of the %d. of %d: stats %+v, %v; want holes alone", how, n, capacity, s, err)
				}
				c := first + uint64(n)
				if err := read(r, c); err != orbit.ErrHole {
					t.Errorf("%s of a taken counter: %v, want %v", how, err, orbit.ErrHole)
				}
				if st, want := slotState(t, name, c), state(c, 0, phaseSkipped); st != want {
					t.Errorf("after %s the slot is in state %#x, want %#x", how, st, want)
				}
			}
			if s, err := r.Stats(); err != nil || s.Pending != 0 || s.Holes != capacity {
				t.Errorf("at the end: stats %+v, %v; want %d holes", s, err, capacity)
			}
		})
	}
}

// unfinishedValue is a value for the ring of the tests.
type unfinishedValue struct{ A, B uint64 }

func (unfinishedValue) OrbitKind() uint8 { return kindUnfinished }

// TestLoadMakesATakenCounterAHole as a read of the frame does.
func TestLoadMakesATakenCounterAHole(t *testing.T) {
	name := proc.Fleet(t)
	f := join(t, name, one(kindUnfinished, 8, 16))
	o, err := orbit.Bind[unfinishedValue](f)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := o.Store(unfinishedValue{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	c := abandon(t, o.Ring(), name, 1)
	if v, id, err := o.LoadNode(stored.Node()); err != nil || id != stored || v.A != 1 {
		t.Errorf("LoadNode beside a taken counter: %v, %v, %v; want %v", v, id, err, stored)
	}
	if _, err := o.LoadID(orbit.MakeNetID64(kindUnfinished, f.Node(), c)); err != orbit.ErrHole {
		t.Errorf("LoadID of a taken counter: %v, want %v", err, orbit.ErrHole)
	}
	if st, want := slotState(t, name, c), state(c, 0, phaseSkipped); st != want {
		t.Errorf("the slot is in state %#x, want %#x", st, want)
	}
}

// TestTakenCounterOfAHeldSlotLeavesItToItsOwner: one lap after a writer stopped
// in the middle of a frame, another stops before it marks the slot.
func TestTakenCounterOfAHeldSlotLeavesItToItsOwner(t *testing.T) {
	eachCapacity(t, func(t *testing.T, capacity int) {
		name := proc.Fleet(t)
		opts := one(kindUnfinished, capacity, 16)
		r := ring(t, join(t, name, opts), kindUnfinished)
		ring(t, join(t, name, opts), kindUnfinished)
		path := proc.Segment(name, kindUnfinished)
		held := abandon(t, r, name, 1)
		overwriteWord(t, path, load(t, path).slot(held), state(held, liveOwner, phaseWriting))
		t.Cleanup(func() { overwriteWord(t, path, load(t, path).slot(held), state(held, 0, phaseSkipped)) })
		for i := range capacity - 1 {
			publish(t, r, uint64(i), 8)
		}
		late := audit(r, r.Tail())
		late.Grace = -1
		c := abandon(t, r, name, 1)
		if _, err := late.next(nil); err != orbit.ErrNoFrame || late.sum != (orbit.Tally{Gap: orbit.Gap{Holes: 1}}) {
			t.Errorf("a cursor at it: %+v, %v; want one hole", late.sum, err)
		}
		if _, err := r.ReadAt(c, nil); err != orbit.ErrHole {
			t.Errorf("ReadAt(%d) = %v, want %v", c, err, orbit.ErrHole)
		}
		if st, want := slotState(t, name, c), state(c, liveOwner, phaseBusy); st != want {
			t.Errorf("the slot is in state %#x, want %#x", st, want)
		}
	})
}

// TestObserverWaitsForATakenCounter: it cannot make a hole of it, so that it
// takes it for lost when its patience is over.
func TestObserverWaitsForATakenCounter(t *testing.T) {
	eachCapacity(t, func(t *testing.T, capacity int) {
		r, name := abandoned(t, capacity, 3)
		o, err := orbit.Observe(name)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		observed := ring(t, o, kindUnfinished)
		late, hasty, asleep := audit(observed, observed.Tail()), audit(observed, observed.Tail()), audit(observed, observed.Tail())
		hasty.Grace, asleep.Grace = time.Hour, time.Hour // patience with what is not begun is shorter
		c := abandon(t, r, name, 1)
		before := slotState(t, name, c)
		for range 3 {
			if _, err := observed.ReadAt(c, nil); err != orbit.ErrPending {
				t.Errorf("ReadAt(%d) = %v, want %v", c, err, orbit.ErrPending)
			}
			if s, err := observed.Stats(); err != nil || s.Pending != 0 || s.Holes != 1 {
				t.Errorf("stats %+v, %v; want a hole", s, err)
			}
		}
		if _, err := hasty.next(nil); err != orbit.ErrPending {
			t.Errorf("a cursor within its grace: %v, want %v", err, orbit.ErrPending)
		}
		time.Sleep(50 * time.Millisecond)
		if _, err := hasty.next(nil); err != orbit.ErrNoFrame || hasty.sum != (orbit.Tally{Gap: orbit.Gap{Lost: 1}}) {
			t.Errorf("a cursor after its grace: %+v, %v; want one lost", hasty.sum, err)
		}
		within(t, 20*time.Second, "an observer that waits at a taken counter", func() {
			if err := asleep.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		})
		if _, err := asleep.next(nil); err != orbit.ErrNoFrame || asleep.sum != (orbit.Tally{Gap: orbit.Gap{Lost: 1}}) {
			t.Errorf("after it waited: %+v, %v; want one lost", asleep.sum, err)
		}
		if st := slotState(t, name, c); st != before {
			t.Errorf("an observer left the slot in state %#x, want it untouched, %#x", st, before)
		}
		if _, err := r.ReadAt(c, nil); err != orbit.ErrHole {
			t.Fatalf("ReadAt(%d) of a member: %v, want %v", c, err, orbit.ErrHole)
		}
		if _, err := observed.ReadAt(c, nil); err != orbit.ErrHole {
			t.Errorf("once a member settled it: %v, want %v", err, orbit.ErrHole)
		}
		if _, err := late.next(nil); err != orbit.ErrNoFrame || late.sum != (orbit.Tally{Gap: orbit.Gap{Holes: 1}}) {
			t.Errorf("once a member settled it: %+v, %v; want one hole", late.sum, err)
		}
		if capacity > 1 {
			if f, err := observed.Newest(nil); err != nil || f.ID.Counter() != c-1 {
				t.Errorf("the newest below it: %v, %v; want frame %d", f.ID, err, c-1)
			}
		}
	})
}

// TestSleepingReadersAreNotHeldByATakenCounter: nobody wakes them, so that they
// find it when they look by themselves, or when the next frame wakes them.
func TestSleepingReadersAreNotHeldByATakenCounter(t *testing.T) {
	r, name := abandoned(t, 8, 3)
	for _, n := range []int{1, 1, 2} {
		for _, follows := range []bool{false, true} {
			readers, awake := threeWait(t, r, r.Head(), time.Hour)
			abandon(t, r, name, n)
			want := orbit.Tally{Gap: orbit.Gap{Holes: uint64(n)}}
			if follows {
				publish(t, r, 100, 8)
				want.Delivered = 1
			}
			awake("a reader at a taken counter")
			for _, c := range readers {
				if err := c.drain(nil); err != nil || c.sum != want {
					t.Errorf("after the wait, a frame follows: %v: %+v, %v; want %+v", follows, c.sum, err, want)
				}
			}
		}
	}
}

// TestTakenCountersAreLapped: one lap later whoever comes by takes the slot,
// whatever lap it is of.
func TestTakenCountersAreLapped(t *testing.T) {
	publishers := map[string]func(r *orbit.Ring, n int) ([]orbit.NetID64, error){
		"Publish": func(r *orbit.Ring, n int) (ids []orbit.NetID64, err error) {
			for i := 0; i < n && err == nil; i++ {
				var id orbit.NetID64
				id, err = r.Publish(1, 0, nil)
				ids = append(ids, id)
			}
			return ids, err
		},
		"PublishBatch": func(r *orbit.Ring, n int) (ids []orbit.NetID64, err error) {
			frames := make([]orbit.Frame, n)
			_, err = r.PublishBatch(frames)
			for _, f := range frames {
				ids = append(ids, f.ID)
			}
			return ids, err
		},
		"Mint": func(r *orbit.Ring, n int) (ids []orbit.NetID64, err error) {
			for i := 0; i < n && err == nil; i++ {
				var id orbit.NetID64
				id, err = r.Mint()
				ids = append(ids, id)
			}
			return ids, err
		},
	}
	for how, run := range publishers {
		eachCapacity(t, func(t *testing.T, capacity int) {
			for _, taken := range []int{1, capacity, 3 * capacity, 3*capacity + 1} {
				r, name := abandoned(t, capacity, 3)
				next := abandon(t, r, name, taken) + uint64(taken)
				ids, err := run(r, 2*capacity)
				if err != nil || len(ids) != 2*capacity {
					t.Fatalf("%s behind %d taken counters: %d ids, %v", how, taken, len(ids), err)
				}
				for i, id := range ids {
					if want := next + uint64(i); id.Counter() != want {
						t.Errorf("%s behind %d taken counters: id %d is %v, want counter %d", how, taken, i, id, want)
					}
				}
				s, err := r.Stats()
				if err != nil || s.Pending != 0 || s.Frames+s.Holes != capacity || (s.Holes > 0) != (how == "Mint") {
					t.Errorf("%s, two laps after %d taken counters: stats %+v, %v", how, taken, s, err)
				}
			}
		})
	}
}

// TestBatchStepsRoundHeldSlots: what a burst took of a live writer's slots is a
// hole, and all its frames come, with the counters around.
func TestBatchStepsRoundHeldSlots(t *testing.T) {
	for _, tt := range []struct{ capacity, held int }{{2, 1}, {8, 1}, {8, 2}, {8, 5}, {16, 3}, {16, 4}, {16, 9}} {
		r, claim := unfinished(t, tt.capacity, 3)
		free := make([]bool, tt.capacity)
		for i := range free {
			free[i] = true
		}
		for range tt.held {
			free[claim(phaseWriting)%uint64(tt.capacity)] = false
		}
		c := audit(r, r.Tail())
		frames := make([]orbit.Frame, 3*tt.capacity)
		for i := range frames {
			frames[i].Payload, frames[i].Version = payload(nil, uint64(i), 8)
		}
		next := r.Head()
		if n, err := r.PublishBatch(frames); n != len(frames) || err != nil {
			t.Fatalf("%d of %d slots held: %d frames published, %v; want %d", tt.held, tt.capacity, n, err, len(frames))
		}
		for i, f := range frames {
			for !free[next%uint64(tt.capacity)] {
				next++
			}
			if f.ID.Counter() != next {
				t.Fatalf("%d of %d slots held: frame %d is %v, want counter %d", tt.held, tt.capacity, i, f.ID, next)
			}
			next++
		}
		for n := r.Head() - uint64(tt.capacity); n != r.Head(); n++ {
			f, err := r.ReadAt(n, nil)
			if free[n%uint64(tt.capacity)] && (err != nil || verify(f) != nil) || !free[n%uint64(tt.capacity)] && err != orbit.ErrHole {
				t.Errorf("%d of %d slots held: counter %d, free %v: %v, %v", tt.held, tt.capacity, n, free[n%uint64(tt.capacity)], f.ID, err)
			}
		}
		if err := c.drain(nil); err != nil {
			t.Error(err)
		}
		if got := c.Tally(); got.Lost != 0 || got.Delivered == 0 || c.Position() != r.Head() {
			t.Errorf("%d of %d slots held: tally %+v at %d; want frames and nothing lost, at %d", tt.held, tt.capacity, got, c.Position(), r.Head())
		}
	}
}
