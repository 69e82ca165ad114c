//go:build linux

package fleettest

import (
	"context"
	"os"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// Segments that somebody unlinks, by hand, under a live fleet.

const kindReplaced = 110

// TestRosterReplacedUnderALiveFleet: who joins later is in a fleet of its own,
// and learns at the first ring that something is wrong; who was there learns it
// from whatever looks beyond the ring.
func TestRosterReplacedUnderALiveFleet(t *testing.T) {
	name := proc.Fleet(t)
	opts := one(kindReplaced, 8, 64)
	old, mate := join(t, name, opts), join(t, name, opts)
	oldRing, mateRing := ring(t, old, kindReplaced), ring(t, mate, kindReplaced)
	before := publish(t, oldRing, 1, 64)
	if err := os.Remove(proc.Segment(name, 0)); err != nil {
		t.Fatal(err)
	}

	late := join(t, name, opts)
	_, err := late.Ring(kindReplaced)
	proc.MustBe(t, "Ring of the old fleet, for a member of the new", err, orbit.ErrForeign, name, "incarnation")
	if m, err := late.Members(); err != nil || len(m) != 1 {
		t.Errorf("the new fleet has members %+v, %v; want one", m, err)
	}
	_, err = old.Members()
	proc.MustBe(t, "Members of the old fleet", err, orbit.ErrDamaged, name, "removed while in use")
	hearsOfRemoval(t, oldRing)
	// Frames still go from one of the old members to another.
	if f, err := mateRing.Read(before, nil); err != nil || verify(f) != nil {
		t.Errorf("Read in the old fleet: %v", err)
	}
	id := publish(t, mateRing, 2, 64)
	if f, err := oldRing.Newest(nil); err != nil || f.ID != id {
		t.Errorf("Newest in the old fleet: %v, %v; want %v", f.ID, err, id)
	}
	// A ring that only the new fleet has is out of the old one's reach.
	fresh := ring(t, late, kindReplaced+1)
	publish(t, fresh, 3, 8)
	_, err = old.Ring(kindReplaced + 1)
	proc.MustBe(t, "Ring of the new fleet, for a member of the old", err, orbit.ErrForeign, name, "incarnation")

	proc.MustBe(t, "Remove", orbit.Remove(name), orbit.ErrInUse)
	for _, f := range []*orbit.Fleet{old, mate, late} {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	proc.RemoveFleet(t, name)
}

// hearsOfRemoval waits for a frame of a ring whose name is gone.
func hearsOfRemoval(t *testing.T, r *orbit.Ring) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := r.Tail()
	proc.MustBe(t, "Wait", c.Wait(ctx), orbit.ErrDamaged, "removed while in use")
	proc.MustBe(t, "Wait once more", c.Wait(ctx), orbit.ErrDamaged, "removed while in use")
}

// TestIteratorsEndWhenTheirSegmentIsRemoved: they go on after an error that the
// next turn is not bound to have, and only then.
func TestIteratorsEndWhenTheirSegmentIsRemoved(t *testing.T) {
	name := proc.Fleet(t)
	f := join(t, name, one(kindReplaced, 8, 64))
	r := ring(t, f, kindReplaced)
	bus, err := orbit.Events(f)
	if err != nil {
		t.Fatal(err)
	}
	// Another topic's event, and a hole, are passed on the way to the error.
	sub, c := bus.SubscribeNow(orbit.Topic("mine")), r.Tail()
	if _, err := bus.Publish("other", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Mint(); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []int{kindReplaced, int(orbit.KindEvents)} {
		if err := os.Remove(proc.Segment(name, kind)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var errs []error
	for _, err := range c.Frames(ctx) {
		if errs = append(errs, err); len(errs) > 3 {
			break
		}
	}
	for _, err := range sub.Events(ctx) {
		if errs = append(errs, err); len(errs) > 3 {
			break
		}
	}
	if len(errs) != 2 {
		t.Errorf("got errors %v, want one of each iterator, and its end", errs)
	}
	for _, err := range errs {
		proc.MustBe(t, "the last turn", err, orbit.ErrDamaged, "removed while in use")
	}
}

// TestRingReplacedUnderALiveFleet: who opens the ring later must not get
// another ring than those who have it.
func TestRingReplacedUnderALiveFleet(t *testing.T) {
	name := proc.Fleet(t)
	opts := one(kindReplaced, 8, 64)
	old, mate, late := join(t, name, opts), join(t, name, opts), join(t, name, opts)
	oldRing, mateRing := ring(t, old, kindReplaced), ring(t, mate, kindReplaced)
	publish(t, oldRing, 1, 64)
	if err := os.Remove(proc.Segment(name, kindReplaced)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := late.Ring(kindReplaced)
		proc.MustBe(t, "Ring after it was unlinked", err, orbit.ErrDamaged, name, "removed by hand", "stop the members")
	}
	hearsOfRemoval(t, oldRing)
	id := publish(t, mateRing, 3, 64)
	if f, err := oldRing.Newest(nil); err != nil || f.ID != id {
		t.Errorf("Newest of those who had the ring before: %v, %v; want %v", f.ID, err, id)
	}
	// Once those who have the old ring are gone, who comes gets the new one.
	old.Close()
	mate.Close()
	late.Close()
	after, mateAfter := join(t, name, opts), join(t, name, opts)
	id = publish(t, ring(t, after, kindReplaced), 4, 64)
	if f, err := ring(t, mateAfter, kindReplaced).Newest(nil); err != nil || f.ID != id {
		t.Errorf("Newest of the new ring: %v, %v; want %v", f.ID, err, id)
	}
	after.Close()
	mateAfter.Close()
	proc.RemoveFleet(t, name)
}

// TestContestReplacedUnderALiveFleet: a table made anew would know nothing of
// the guards that hold.
func TestContestReplacedUnderALiveFleet(t *testing.T) {
	name := proc.Fleet(t)
	old, late := join(t, name, orbit.Options{Size: 2}), join(t, name, orbit.Options{Size: 2})
	contest, err := orbit.OpenContest(old)
	if err != nil {
		t.Fatal(err)
	}
	guard, err := orbit.Claim[heldType](contest, "x", "old", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(proc.Segment(name, int(orbit.KindContest))); err != nil {
		t.Fatal(err)
	}
	_, err = orbit.OpenContest(late)
	proc.MustBe(t, "OpenContest after it was unlinked", err, orbit.ErrDamaged, name, "removed by hand")
	if !guard.Valid() {
		t.Error("the guard lapsed")
	}
	old.Close()
	late.Close()
	proc.RemoveFleet(t, name)
}

type heldType struct{}

func (heldType) OrbitKind() uint8 { return kindReplaced }
