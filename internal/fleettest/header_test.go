//go:build linux

package fleettest

import (
	"strconv"
	"testing"

	"orbit"
	"orbit/internal/proc"
)

// TestEveryWordOfAHeaderIsChecked changes one word at a time, and makes the
// checksum right again: a header must not only be whole but mean one thing.
func TestEveryWordOfAHeaderIsChecked(t *testing.T) {
	name := proc.Fleet(t)
	f := join(t, name, one(7, 8, 64))
	sound := newImage(7, orbit.Geometry{Capacity: 8, PayloadLimit: 64}, 0, f.Incarnation(), 0)
	path := proc.Segment(name, 7)
	for off := offSize; off <= offInstance; off += 8 {
		for _, change := range []uint64{1, 64, 4096, 1 << 32, 1 << 63} {
			m := append(image(nil), sound...)
			m.put(off, m.word(off)^change)
			m.seal().store(t, path)
			_, err := f.Ring(7)
			want := orbit.ErrForeign
			if off == offLimit && change == 1 || off == offTableLen && change <= 64 {
				want = orbit.ErrGeometry // slots and segment have the same size with it
			}
			proc.MustBe(t, "word "+strconv.Itoa(off)+" changed by "+strconv.FormatUint(change, 16), err, want)
		}
	}
	sound.store(t, path)
	publish(t, ring(t, f, 7), 1, 64)
	f.Close()
	proc.RemoveFleet(t, name)
}
