//go:build linux

package hostile

import (
	"os"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// Fleets whose segments somebody unlinks by hand, and that are made anew under
// those who are in them. A single ring unlinked by hand is in package fleettest.

// unlink takes the names of all of a fleet's segments away, as rm does: the
// roster, whose name sorts first, before the rings.
func unlink(t *testing.T, fleet string) {
	t.Helper()
	for _, s := range proc.Segments(fleet) {
		if err := os.Remove(s); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFleetsOfOneNameNeverMix unlinks a whole fleet under processes at work,
// again and again, each time with others at work in the fleet made anew.
// Everything written says in which it was, and none is ever read in another.
func TestFleetsOfOneNameNeverMix(t *testing.T) {
	fleet := proc.Fleet(t)
	var crews []*proc.Process
	for _, side := range []string{"first", "second", "third"} {
		unlink(t, fleet)
		p := start(t, "worker", fleet, "none", side)
		hear(t, p, "at work")
		crews = append(crews, p)
		for _, p := range crews {
			tell(t, p, "moves", "moves")
		}
		time.Sleep(long() / 4)
	}
	endAll(t, crews)
	proc.RemoveFleet(t, fleet)
}

// TestFleetMadeAnewIsAnotherFleet: after a whole fleet was unlinked by hand,
// those who are in it and those who come later are in two fleets of one name.
// Whatever would mix them is an error for whoever comes second.
func TestFleetMadeAnewIsAnotherFleet(t *testing.T) {
	fleet := proc.Fleet(t)
	opts := crewOptions()
	old := join(t, fleet, opts)
	oldRing, oldContest := ring(t, old, kindFrames), contest(t, old)
	oldBus, err := orbit.Events(old)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := oldBus.Publish("topic", []byte("old")); err != nil {
		t.Fatal(err)
	}
	place := oldBus.SubscribeNow().Position()
	oldGuard, err := orbit.Claim[task](oldContest, "x", "old", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	observer, err := orbit.Observe(fleet)
	if err != nil {
		t.Fatal(err)
	}
	defer observer.Close()
	seen := ring(t, observer, kindFrames)
	unlink(t, fleet)

	late := join(t, fleet, opts)
	lateRing, lateContest := ring(t, late, kindFrames), contest(t, late)
	if n := members(t, late); n != 1 {
		t.Errorf("the new fleet has %d members, want 1", n)
	}
	_, err = old.Members()
	proc.MustBe(t, "Members of the old fleet", err, orbit.ErrDamaged, fleet, "removed while in use")
	publish := func(r *orbit.Ring, text string) {
		t.Helper()
		if _, err := r.Publish(1, 0, []byte(text)); err != nil {
			t.Errorf("Publish in the %s fleet: %v", text, err)
		}
	}
	newest := func(r *orbit.Ring, want string) {
		t.Helper()
		if f, err := r.Newest(nil); err != nil || string(f.Payload) != want {
			t.Errorf("Newest = %q, %v; want %q", f.Payload, err, want)
		}
	}
	publish(oldRing, "old")
	publish(lateRing, "new")
	newest(oldRing, "old")
	newest(seen, "old") // the observer looks at the fleet it found
	newest(lateRing, "new")

	// A saved position says of which fleet it is.
	lateBus, err := orbit.Events(late)
	if err != nil {
		t.Fatal(err)
	}
	_, err = lateBus.SubscribeAt(place)
	proc.MustBe(t, "SubscribeAt a position of the old fleet", err, orbit.ErrNotExist, fleet, "incarnation")

	// Each fleet has a contest of its own.
	lateGuard, err := orbit.Claim[task](lateContest, "x", "new", time.Hour)
	if err != nil || !lateGuard.Valid() || !oldGuard.Valid() {
		t.Errorf("a claim in the new fleet: %v; want one beside that of the old fleet", err)
	}

	// A ring that one fleet has is out of the other's reach, either way round.
	if _, err := orbit.OpenCache(late, "p"); err != nil {
		t.Error(err)
	}
	_, err = orbit.OpenCache(old, "p")
	proc.MustBe(t, "the new fleet's cache, for the old", err, orbit.ErrForeign, fleet, "incarnation")
	if _, err := orbit.Heartbeats(old); err != nil {
		t.Error(err)
	}
	_, err = orbit.Heartbeats(late)
	proc.MustBe(t, "the old fleet's heartbeats, for the new", err, orbit.ErrForeign, fleet, "incarnation")
	_, err = observer.Ring(orbit.KindCache)
	proc.MustBe(t, "the new fleet's cache, for an observer of the old", err, orbit.ErrForeign, fleet, "incarnation")

	proc.MustBe(t, "Remove", orbit.Remove(fleet), orbit.ErrInUse)
	for _, f := range []*orbit.Fleet{old, late} {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	proc.RemoveFleet(t, fleet)
}

// TestFleetRemovedUnderObserversIsMadeAnew: Remove takes a fleet from under
// its observers, who keep what they see of it and mix it with nothing.
func TestFleetRemovedUnderObserversIsMadeAnew(t *testing.T) {
	fleet := proc.Fleet(t)
	old := join(t, fleet, crewOptions())
	if _, err := ring(t, old, kindFrames).Publish(1, 0, []byte("old")); err != nil {
		t.Fatal(err)
	}
	observer, err := orbit.Observe(fleet)
	if err != nil {
		t.Fatal(err)
	}
	defer observer.Close()
	seen := ring(t, observer, kindFrames)
	old.Close()
	proc.RemoveFleet(t, fleet)

	late := join(t, fleet, crewOptions())
	if _, err := ring(t, late, kindFrames).Publish(1, 0, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if f, err := seen.Newest(nil); err != nil || string(f.Payload) != "old" {
		t.Errorf("an observer of the removed fleet reads %q, %v; want what was in it", f.Payload, err)
	}
	_, err = observer.Members()
	proc.MustBe(t, "Members of the removed fleet", err, orbit.ErrDamaged, fleet, "removed while in use")
	contest(t, late)
	_, err = observer.Ring(orbit.KindContest)
	proc.MustBe(t, "a ring of the new fleet, for an observer of the old", err, orbit.ErrForeign, fleet, "incarnation")
	late.Close()
	proc.RemoveFleet(t, fleet)
}
