//go:build linux

package fleettest

import (
	"testing"

	"orbit"
	"orbit/internal/proc"
)

// TestObserverRefusesATableOfAnotherSize: an observer takes the geometry it
// finds, but not a table that the substrate would read beyond.
func TestObserverRefusesATableOfAnotherSize(t *testing.T) {
	name := proc.Fleet(t)
	f := join(t, name, orbit.Options{Size: 1})
	observer, err := orbit.Observe(name)
	if err != nil {
		t.Fatal(err)
	}
	defer observer.Close()
	for _, size := range []int{0, 8, 4096, 65535 * 8, 65537 * 8} {
		for _, kind := range []uint8{orbit.KindHeartbeat, orbit.KindContest} {
			newImage(kind, orbit.Geometry{Capacity: 8, PayloadLimit: 256}, size, f.Incarnation(), 0).store(t, proc.Segment(name, int(kind)))
			_, err := orbit.Heartbeats(observer)
			if kind == orbit.KindContest {
				_, err = orbit.OpenContest(observer)
			}
			proc.MustBe(t, "what stands on a ring with another table", err, orbit.ErrForeign, name, "table")
			fresh, err := orbit.Observe(name)
			if err != nil {
				t.Fatal(err)
			}
			observer.Close()
			observer = fresh
		}
	}
	observer.Close()
	f.Close()
	proc.RemoveFleet(t, name)
}
