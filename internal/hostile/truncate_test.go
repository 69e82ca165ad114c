//go:build linux

package hostile

import (
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// TestTruncatedSegmentHarmsNoOther truncates one segment after the other under
// processes that do everything at once. What works on those fails with
// ErrDamaged, all else goes on, and the fleet can be closed and removed.
func TestTruncatedSegmentHarmsNoOther(t *testing.T) {
	rng := dice(t)
	fleet := proc.Fleet(t)
	crews := []*proc.Process{start(t, "worker", fleet, "none"), start(t, "worker", fleet, "none")}
	for _, p := range crews {
		hear(t, p, "at work")
	}
	truncated := "damaged"
	for name := range kinds { // in no order
		if name == "roster" {
			continue
		}
		s := openSegment(t, fleet, kinds[name])
		time.Sleep(time.Duration(rng.IntN(20_000)) * time.Microsecond)
		// To whole pages: the rest of a page would become zeros, which is to
		// overwrite frames.
		size := []int{0, page, s.size / 2 &^ (page - 1)}[rng.IntN(3)]
		s.truncate(size)
		truncated += " " + name
		for _, p := range crews {
			p.Say(truncated)
		}
		for _, p := range crews {
			if got, want := answer(t, p), "undamaged [], harmed []"; got != want {
				t.Errorf("%s truncated from %d to %d bytes: got %s, want %s", name, s.size, size, got, want)
			}
		}
	}
	endAll(t, crews)
	proc.RemoveFleet(t, fleet)
}

// endAll has the crews close their fleets.
func endAll(t *testing.T, crews []*proc.Process) {
	t.Helper()
	for _, p := range crews {
		tell(t, p, "end", "ended")
		p.Finish()
	}
}

// TestTruncatedToNoWholePage truncates segments to any length, and at once
// makes them as long as they were, which overwrites them with zeros: nothing
// crashes and nothing hangs.
func TestTruncatedToNoWholePage(t *testing.T) {
	rng := dice(t)
	fleet := proc.Fleet(t)
	crews := []*proc.Process{start(t, "worker", fleet, "all"), start(t, "worker", fleet, "all")}
	for _, p := range crews {
		hear(t, p, "at work")
	}
	var all []*segment
	for name, kind := range kinds {
		if name != "roster" {
			all = append(all, openSegment(t, fleet, kind))
		}
	}
	for end := time.Now().Add(long()); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		s := all[rng.IntN(len(all))]
		s.truncate(rng.IntN(s.size))
		if rng.IntN(2) == 0 {
			time.Sleep(time.Duration(rng.IntN(2000)) * time.Microsecond)
		}
		s.truncate(s.size)
	}
	for _, p := range crews {
		tell(t, p, "moves", "moves")
	}
	endAll(t, crews)
	proc.RemoveFleet(t, fleet)
}

// TestTruncatedRosterIsNoticed: what asks the roster fails with ErrDamaged,
// and the fleet can be closed and removed.
func TestTruncatedRosterIsNoticed(t *testing.T) {
	for _, size := range []int{0, page, 9 * page} {
		fleet := proc.Fleet(t)
		crews := []*proc.Process{start(t, "worker", fleet, "none"), start(t, "worker", fleet, "none")}
		for _, p := range crews {
			hear(t, p, "at work")
		}
		openSegment(t, fleet, 0).truncate(size)
		proc.MustBe(t, "Remove beside live members", orbit.Remove(fleet), orbit.ErrInUse)
		for _, p := range crews {
			p.Say("meets roster")
			if got, want := answer(t, p), "undamaged []"; got != want {
				t.Errorf("roster truncated to %d bytes: got %s, want %s", size, got, want)
			}
			tell(t, p, "moves", "moves")
		}
		endAll(t, crews)
		proc.RemoveFleet(t, fleet)
	}
}
