//go:build linux

package fleettest

import (
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// What a ring makes of counters whose writers have not finished. The writers
// are a member of this process that is alive and never writes: the tests put
// its claims into the slots.

const kindUnfinished = 51

// liveOwner is the second member of a new fleet, as state words have it: seat
// 1, first turn.
const liveOwner = 1<<12 | 1

// nobody sits in seat 9.
const nobody = 9<<12 | 1

// unfinished returns the ring of a fleet of two members, with n frames in it,
// and a function that claims its next counter for the second, and raises the
// head if told so.
func unfinished(t *testing.T, capacity, n int) (r *orbit.Ring, claim func(phase uint64, raise bool) uint64) {
	t.Helper()
	return unfinishedBy(t, liveOwner, capacity, n)
}

// unfinishedBy is unfinished with the claims of another owner.
func unfinishedBy(t *testing.T, owner uint64, capacity, n int) (r *orbit.Ring, claim func(phase uint64, raise bool) uint64) {
	t.Helper()
	name := proc.Fleet(t)
	opts := one(kindUnfinished, capacity, 16)
	r = ring(t, join(t, name, opts), kindUnfinished)
	ring(t, join(t, name, opts), kindUnfinished)
	for i := range n {
		publish(t, r, uint64(i), 8)
	}
	path := proc.Segment(name, kindUnfinished)
	return r, func(phase uint64, raise bool) uint64 {
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
		if raise {
			overwriteWord(t, path, offHead, h+1)
		}
		return h
	}
}

// TestUnfinishedFrameIsPendingWhileItsWriterLives: of a ring without any other
// frame, Newest says that one is on its way only if it can still come.
func TestUnfinishedFrameIsPendingWhileItsWriterLives(t *testing.T) {
	r, claim := unfinished(t, 8, 0)
	claim(phaseSkipped, true) // leaves no frame
	if _, err := r.Newest(nil); err != orbit.ErrNoFrame {
		t.Errorf("Newest of an empty ring: %v, want %v", err, orbit.ErrNoFrame)
	}
	claim(phaseWriting, true)
	if _, err := r.Newest(nil); err != orbit.ErrPending {
		t.Errorf("Newest while a live member writes: %v, want %v", err, orbit.ErrPending)
	}
	r, claim = unfinishedBy(t, nobody, 8, 0)
	claim(phaseWriting, true)
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
		claim(phaseWriting, true)
		if got, err := r.Newest(nil); err != nil || got.ID != want.ID {
			t.Errorf("below %d unfinished frames: %v, %v; want %v", n+1, got.ID, err, want.ID)
		}
	}
	claim(phaseBusy, true)
	claim(phaseSkipped, true)
	if got, err := r.Newest(nil); err != nil || got.ID != want.ID {
		t.Errorf("below unfinished frames and holes: %v, %v; want %v", got.ID, err, want.ID)
	}
}

// TestGraceBeginsAnewAtEveryFrame: a cursor that had to pass one frame is as
// patient at the next.
func TestGraceBeginsAnewAtEveryFrame(t *testing.T) {
	r, claim := unfinished(t, 8, 0)
	c := r.Oldest()
	c.Grace = 50 * time.Millisecond
	first, second := claim(phaseWriting, true), claim(phaseWriting, true)
	if _, gap, err := c.Next(nil); err != orbit.ErrPending || gap != (orbit.Gap{}) {
		t.Fatalf("at frame %d: gap %+v, %v; want %v", first, gap, err, orbit.ErrPending)
	}
	time.Sleep(2 * c.Grace)
	if _, gap, err := c.Next(nil); err != orbit.ErrPending || gap != (orbit.Gap{Lost: 1}) || c.Position() != second {
		t.Errorf("after the grace of frame %d: gap %+v, %v, at %d; want one lost, and %v at %d", first, gap, err, c.Position(), orbit.ErrPending, second)
	}
	time.Sleep(2 * c.Grace)
	if _, gap, err := c.Next(nil); err != orbit.ErrNoFrame || gap != (orbit.Gap{Lost: 1}) {
		t.Errorf("after the grace of frame %d: gap %+v, %v; want one lost, and %v", second, gap, err, orbit.ErrNoFrame)
	}
}

// TestMintedCounterIsNotGivenOutAgain: whoever mints marks the slot first. If
// it is stopped before it raises the head, the next publisher finds the head at
// a counter that is gone.
func TestMintedCounterIsNotGivenOutAgain(t *testing.T) {
	publishers := map[string]func(r *orbit.Ring) (orbit.NetID64, error){
		"Publish": func(r *orbit.Ring) (orbit.NetID64, error) { return r.Publish(1, 0, nil) },
		"Mint":    (*orbit.Ring).Mint,
		"PublishBatch": func(r *orbit.Ring) (orbit.NetID64, error) {
			frames := make([]orbit.Frame, 2)
			_, err := r.PublishBatch(frames)
			return frames[0].ID, err
		},
	}
	for how, run := range publishers {
		r, claim := unfinished(t, 8, 3)
		minted := claim(phaseSkipped, false)
		if id, err := run(r); err != nil || id.Counter() != minted+1 {
			t.Errorf("%s beside a stopped Mint: id %v, %v; want counter %d", how, id, err, minted+1)
		}
		if _, err := r.ReadAt(minted, nil); err != orbit.ErrHole {
			t.Errorf("%s beside a stopped Mint: the minted counter: %v, want %v", how, err, orbit.ErrHole)
		}
	}
}

// TestFrameWithoutAWakeIsHeardOf: a writer can be killed after it committed a
// frame and before it woke those who sleep.
func TestFrameWithoutAWakeIsHeardOf(t *testing.T) {
	r, claim := unfinished(t, 8, 3)
	for range 3 {
		// One of them sleeps in the kernel, the others wait for its word.
		readers := []*orbit.Cursor{r.Tail(), r.Tail(), r.Tail()}
		done := make(chan error, len(readers))
		for _, c := range readers {
			go func() { done <- c.Wait(t.Context()) }()
		}
		time.Sleep(10 * time.Millisecond) // they lie down
		n := claim(phaseDone, true)
		for range readers {
			var err error
			within(t, 20*time.Second, "a reader whom nobody wakes", func() { err = <-done })
			if err != nil {
				t.Error(err)
			}
		}
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
	first := claim(phaseSkipped, true)
	claim(phaseSkipped, true)
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
