package orbit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"orbit"
)

// ---------------------------------------------------------------------------
// Heartbeats

func heartbeats(t testing.TB, f *orbit.Fleet) *orbit.Heartbeat {
	t.Helper()
	h, err := orbit.Heartbeats(f)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestSnapshotTellsFreshStaleAndMissingApart(t *testing.T) {
	eachFleet(t, orbit.Options{Size: 3, Node: 2}, func(t *testing.T, f *orbit.Fleet) {
		h := heartbeats(t, f)
		if _, err := h.Last(2); !errors.Is(err, orbit.ErrNoFrame) {
			t.Errorf("before any beat: got %v, want %v", err, orbit.ErrNoFrame)
		}
		if err := h.Beat(); err != nil {
			t.Fatal(err)
		}
		beat, err := h.Last(2)
		if err != nil {
			t.Fatal(err)
		}
		const maxAge = time.Second
		for _, c := range []struct {
			age  time.Duration
			want orbit.PulseState
		}{{-time.Hour, orbit.Fresh}, {0, orbit.Fresh}, {maxAge - 1, orbit.Fresh}, {maxAge, orbit.Fresh}, {maxAge + 1, orbit.Stale}, {100 * time.Hour, orbit.Stale}} {
			got, err := h.SnapshotAt(beat+orbit.Stamp(c.age), maxAge)
			want := []orbit.Pulse{
				{Node: 1, State: orbit.Missing},
				{Node: 2, State: c.want, Last: beat, Age: max(c.age, 0)},
				{Node: 3, State: orbit.Missing},
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("at age %v: got %v, error %v, want %v", c.age, got, err, want)
			}
		}
		got, err := h.Snapshot(time.Hour, 900, 2)
		if err != nil || len(got) != 2 || got[0].State != orbit.Fresh || got[1] != (orbit.Pulse{Node: 900, State: orbit.Missing}) {
			t.Errorf("expecting 900 and 2: got %v, error %v", got, err)
		}
	})
}

func TestBeatIsAlsoAFrame(t *testing.T) {
	name := fleetName(t)
	f := join(t, name, orbit.Options{})
	h := heartbeats(t, f)
	if err := h.Beat(); err != nil {
		t.Fatal(err)
	}
	o, err := orbit.Observe(name)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	seen := heartbeats(t, o)
	last, err := seen.Last(f.Node())
	frame, err2 := seen.Ring().Newest(nil)
	if err != nil || err2 != nil || frame.ID.Node() != f.Node() || orbit.Stamp(frame.Version) != last || len(frame.Payload) != 0 {
		t.Errorf("got frame %+v, last %d, errors %v %v", frame, last, err, err2)
	}
	wantErr(t, "an observer's beat", seen.Beat(), orbit.ErrReadOnly)
}

// TestChattySiblingHidesNobody has one node beat far more often than the ring
// holds frames, after a quiet one beat once.
func TestChattySiblingHidesNobody(t *testing.T) {
	name := fleetName(t)
	quiet, chatty := join(t, name, orbit.Options{}), join(t, name, orbit.Options{})
	if err := heartbeats(t, quiet).Beat(); err != nil {
		t.Fatal(err)
	}
	h := heartbeats(t, chatty)
	before, err := h.Last(quiet.Node())
	if err != nil {
		t.Fatal(err)
	}
	for range 10 * h.Ring().Geometry().Capacity {
		if err := h.Beat(); err != nil {
			t.Fatal(err)
		}
	}
	if after, err := h.Last(quiet.Node()); err != nil || after != before {
		t.Errorf("got %v, error %v, want %v", after, err, before)
	}
}

func TestKeepBeatsUntilItsContextEnds(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		h := heartbeats(t, f)
		ctx, cancel := context.WithCancel(t.Context())
		c := h.Ring().Tail()
		ended := make(chan error)
		go func() { ended <- h.Keep(ctx, time.Millisecond) }()
		for range 5 {
			if err := c.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.Next(nil); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		wantErr(t, "keep", <-ended, context.Canceled)
	})
}

func TestKeepEndsWithItsFleet(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		h := heartbeats(t, f)
		ended := make(chan error)
		go func() { ended <- h.Keep(t.Context(), time.Hour) }()
		for {
			if _, err := h.Last(f.Node()); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		f.Close()
		wantErr(t, "keep", <-ended, orbit.ErrClosed)
		_, err := h.Snapshot(time.Second)
		wantErr(t, "snapshot", err, orbit.ErrClosed)
		wantErr(t, "beat", h.Beat(), orbit.ErrClosed)
		_, err = orbit.Heartbeats(f)
		wantErr(t, "heartbeats", err, orbit.ErrClosed)
	})
}

func TestBeatDoesNotAllocate(t *testing.T) {
	h := heartbeats(t, local(t, orbit.Options{}))
	if n := testing.AllocsPerRun(100, func() { h.Beat(); h.Last(1) }); n != 0 {
		t.Errorf("got %v allocations", n)
	}
}

// A heartbeat is judged by whoever looks at it.
func ExampleHeartbeat() {
	fleet, _ := orbit.Local("web", orbit.Options{Size: 2})
	defer fleet.Close()
	heart, _ := orbit.Heartbeats(fleet)
	heart.Beat() // from the loop that does the work
	pulses, _ := heart.Snapshot(5 * time.Second)
	for _, p := range pulses {
		fmt.Println("node", p.Node, p.State)
	}
	// Output:
	// node 1 fresh
	// node 2 missing
}

func BenchmarkBeat(b *testing.B) {
	benchFleets(b, func(b *testing.B, f *orbit.Fleet) {
		h := heartbeats(b, f)
		b.ReportAllocs()
		for b.Loop() {
			h.Beat()
		}
	})
}
