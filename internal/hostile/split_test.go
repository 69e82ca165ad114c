//go:build linux

package hostile

import (
	"errors"
	"os"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// One ring is unlinked by hand under a live fleet, whose roster stays. Whoever
// opens the ring after that makes it anew, in the same incarnation of the
// fleet: two rings of one kind, and neither side is told.

const unnoticed = "a ring unlinked by hand splits its fleet in silence"

// foundOut tells whether an error says that a ring is not the fleet's.
func foundOut(err error) bool {
	return errors.Is(err, orbit.ErrForeign) || errors.Is(err, orbit.ErrDamaged) || errors.Is(err, orbit.ErrNotExist)
}

func TestUnlinkedRingIsNoticedByBothSides(t *testing.T) {
	weakness(t, unnoticed)
	fleet := proc.Fleet(t)
	old, late := join(t, fleet, crewOptions()), join(t, fleet, crewOptions())
	oldRing := ring(t, old, kindFrames)
	if err := os.Remove(proc.Segment(fleet, kindFrames)); err != nil {
		t.Fatal(err)
	}
	lateRing, err := late.Ring(kindFrames)
	switch {
	case err == nil:
		lateRing.Publish(1, 0, []byte("late"))
		_, read := oldRing.Newest(nil)
		t.Errorf("who opens the unlinked ring gets another one, and no error; its frame is not in the ring of those who had it: %v", read)
	case !foundOut(err):
		t.Errorf("who opens the unlinked ring: got error %v, want one that says what happened", err)
	}
	// Those who had it may go on for a moment, but not for good.
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := oldRing.Publish(1, 0, []byte("old")); foundOut(err) {
			return
		}
		if time.Now().After(end) {
			t.Fatal("those who had the ring publish into it as if nothing had happened")
		}
	}
}

func TestUnlinkedContestLeavesOneGuard(t *testing.T) {
	weakness(t, unnoticed+", and two guards of one subject are valid at once")
	fleet := proc.Fleet(t)
	old, late := join(t, fleet, crewOptions()), join(t, fleet, crewOptions())
	g, err := orbit.Claim[task](contest(t, old), "x", "old", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(proc.Segment(fleet, int(orbit.KindContest))); err != nil {
		t.Fatal(err)
	}
	c, err := orbit.OpenContest(late)
	if err != nil {
		return // it was noticed
	}
	h, err := orbit.Claim[task](c, "x", "late", time.Hour)
	if err == nil && h.Valid() && g.Valid() {
		t.Errorf("two guards of one subject are valid at once, with tokens %d and %d", g.Token(), h.Token())
	}
}
