//go:build linux

package fleettest

import (
	"os"
	"testing"

	"orbit"
	"orbit/internal/proc"
)

// Segments that somebody unlinks, by hand, under a live fleet.

const kindReplaced = 110

// TestRosterReplacedUnderALiveFleet: who joins later is in a fleet of its own,
// and learns at the first ring that something is wrong.
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
	mustBe(t, "Ring of the old fleet, for a member of the new", err, orbit.ErrForeign, name, "incarnation")
	if m, err := late.Members(); err != nil || len(m) != 1 {
		t.Errorf("the new fleet has members %+v, %v; want one", m, err)
	}
	// The old fleet goes on as if nothing had happened.
	if m, err := old.Members(); err != nil || len(m) != 2 {
		t.Errorf("the old fleet has members %+v, %v; want two", m, err)
	}
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
	mustBe(t, "Ring of the new fleet, for a member of the old", err, orbit.ErrForeign, name, "incarnation")

	mustBe(t, "Remove", orbit.Remove(name), orbit.ErrInUse)
	for _, f := range []*orbit.Fleet{old, mate, late} {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	removeFleet(t, name)
}

// TestRingReplacedUnderALiveFleet: who opens the ring later must not get
// another ring than those who have it, without a word.
func TestRingReplacedUnderALiveFleet(t *testing.T) {
	name := proc.Fleet(t)
	opts := one(kindReplaced, 8, 64)
	old, mate, late := join(t, name, opts), join(t, name, opts), join(t, name, opts)
	oldRing, mateRing := ring(t, old, kindReplaced), ring(t, mate, kindReplaced)
	publish(t, oldRing, 1, 64)
	if err := os.Remove(proc.Segment(name, kindReplaced)); err != nil {
		t.Fatal(err)
	}
	if lateRing, err := late.Ring(kindReplaced); err == nil {
		id := publish(t, lateRing, 2, 64)
		if f, err := oldRing.Newest(nil); err == nil && f.ID == id {
			t.Errorf("a frame of the new ring appears in the old one")
		}
		t.Logf("two rings of one fleet and kind: the old one's head is %d, the new one's %d, and nobody is told", oldRing.Head(), lateRing.Head())
	} else {
		mustBe(t, "Ring after it was unlinked", err, orbit.ErrForeign, name)
	}
	id := publish(t, mateRing, 3, 64)
	if f, err := oldRing.Newest(nil); err != nil || f.ID != id {
		t.Errorf("Newest of those who had the ring before: %v, %v; want %v", f.ID, err, id)
	}
	for _, f := range []*orbit.Fleet{old, mate, late} {
		f.Close()
	}
	removeFleet(t, name)
}
