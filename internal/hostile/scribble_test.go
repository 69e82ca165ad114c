//go:build linux

package hostile

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// A scribbler overwrites bytes of a live fleet: headers, words that steer,
// every fourth slot, seats, the contest's table and the cells of heartbeats.
// What it leaves alone is the frames of the other slots, which therefore must
// stay whole, and the first word of seats that are taken: that is where
// members find each other alive, so that damage there lets two write into one
// slot.
type scribbler struct {
	rng    *rand.Rand
	roster *segment
	rings  []*segment
	undo   func() // makes a fixed header right again
}

// takenSeats is more than there are members at once.
const takenSeats = 32

func newScribbler(t *testing.T, fleet string) *scribbler {
	s := &scribbler{rng: dice(t), roster: openSegment(t, fleet, 0), undo: func() {}}
	for name, kind := range kinds {
		if name != "roster" {
			s.rings = append(s.rings, openSegment(t, fleet, kind))
		}
	}
	return s
}

func (s *scribbler) scribble() {
	r := s.rings[s.rng.IntN(len(s.rings))]
	switch s.rng.IntN(8) {
	case 0:
		s.header(append(s.rings, s.roster)[s.rng.IntN(len(s.rings)+1)])
	case 1, 2:
		s.steer(r)
	case 3, 4:
		s.slot(r)
	case 5:
		s.seat()
	default:
		for ; r.tableLen == 0; r = s.rings[s.rng.IntN(len(s.rings))] {
		}
		s.table(r)
	}
}

// word returns a word that is wrong in one of many ways: near what was there,
// far from it, or nowhere.
func (s *scribbler) word(was uint64) uint64 {
	any := []uint64{
		0, 1, ^uint64(0), s.rng.Uint64(), was ^ 1<<s.rng.IntN(64), was + s.rng.Uint64N(200), was - s.rng.Uint64N(200),
		was + 1<<39, was + 1<<40, was + s.rng.Uint64N(1<<40), was + 1<<63,
	}
	return any[s.rng.IntN(len(any))]
}

// header damages what newcomers read, and repairs what was damaged before.
func (s *scribbler) header(r *segment) {
	s.undo()
	off := s.rng.IntN(fixedHeader)
	was := r.bytes(off, 1)
	s.undo = func() { r.write(off, was) }
	r.write(off, []byte{byte(s.rng.Uint32())})
}

// steer damages the words that all operations read.
func (s *scribbler) steer(r *segment) {
	switch s.rng.IntN(4) {
	case 0:
		r.put(offHead, s.word(r.word(offHead)))
	case 1:
		r.put(offFirst, s.word(r.word(offHead)))
	case 2:
		r.write(offWake, binary.NativeEndian.AppendUint32(nil, s.rng.Uint32()))
	case 3:
		was := r.word(offFingerprint)
		r.put(offFingerprint, s.rng.Uint64())
		r.put(offFingerprint, was)
	}
}

// slot damages the state, the other words or the payload of a dirty slot.
func (s *scribbler) slot(r *segment) {
	slot := r.slot(4*s.rng.IntN(r.capacity/4) + 2)
	switch off := 8 * s.rng.IntN(4); off {
	case 0: // in half of all cases by a likely state of a likely counter
		st := s.word(r.word(slot))
		if s.rng.IntN(2) == 0 {
			st = s.word(r.word(offHead))<<24 | s.rng.Uint64N(8)<<14 | s.rng.Uint64N(4)
		}
		r.put(slot, st)
	case 8:
		r.put(slot+off, []uint64{s.rng.Uint64(), 1<<32 - 1, s.word(r.word(slot + off))}[s.rng.IntN(3)])
	case 16:
		r.put(slot+off, s.word(r.word(slot+off)))
	default:
		r.write(slot+24+s.rng.IntN(r.stride-24), []byte{byte(s.rng.Uint32())})
	}
}

// seat damages what members say of themselves, or a seat that nobody has.
func (s *scribbler) seat() {
	if s.rng.IntN(2) == 0 {
		s.roster.put(s.roster.seat(s.rng.IntN(takenSeats))+8*(1+s.rng.IntN(4)), s.rng.Uint64())
		return
	}
	free := s.roster.seat(takenSeats + s.rng.IntN(seats-takenSeats))
	s.roster.put(free, s.word(s.roster.word(free)))
}

// table damages any word of the contest's table or of the heartbeats' cells,
// often one of the first, where the counters are.
func (s *scribbler) table(r *segment) {
	n := r.tableLen / 8
	if s.rng.IntN(4) == 0 {
		n = 16
	}
	off := r.table + 8*s.rng.IntN(n)
	r.put(off, s.word(r.word(off)))
}

// TestOverwrittenBytesEndInErrorsOrLosses has processes do everything at once
// while their segments are overwritten: nothing crashes or hangs, every error
// has a name, and what is delivered was published, unless its own bytes were
// hit. Whoever looks at the fleet after that survives it, too.
func TestOverwrittenBytesEndInErrorsOrLosses(t *testing.T) {
	fleet := proc.Fleet(t)
	var crews []*proc.Process
	for range 3 {
		crews = append(crews, start(t, "worker", fleet, "some"))
	}
	for _, p := range crews {
		hear(t, p, "at work")
	}
	s := newScribbler(t, fleet)
	damaged := 0
	for end := time.Now().Add(long()); time.Now().Before(end); {
		for range 1 + s.rng.IntN(30) {
			s.scribble()
			damaged++
		}
		time.Sleep(time.Duration(s.rng.IntN(1000)) * time.Microsecond)
	}
	s.undo()
	t.Logf("%d times", damaged)
	late := start(t, "worker", fleet, "all")
	hear(t, late, "at work")
	for _, p := range append(crews, late) {
		tell(t, p, "moves", "moves")
	}
	endAll(t, append(crews, late))
	removeFleet(t, fleet)
}

// TestFleetIsSoundAgainOnceItIsMadeAnew: whatever became of its bytes, a fleet
// that nobody is in can be removed, and the next one has nothing of it.
func TestFleetIsSoundAgainOnceItIsMadeAnew(t *testing.T) {
	fleet := proc.Fleet(t)
	p := start(t, "worker", fleet, "all")
	hear(t, p, "at work")
	s := newScribbler(t, fleet)
	for range 300 {
		s.scribble()
	}
	endAll(t, []*proc.Process{p})
	s.roster.write(0, make([]byte, 8)) // not even its magic is left
	_, err := orbit.Join(fleet, crewOptions())
	mustBe(t, "Join of a fleet whose roster is damaged", err, orbit.ErrForeign, fleet)
	s.roster.write(0, []byte("ORBITSHM"))
	removeFleet(t, fleet)

	q := start(t, "worker", fleet, "none")
	hear(t, q, "at work")
	tell(t, q, "moves", "moves")
	endAll(t, []*proc.Process{q})
	removeFleet(t, fleet)
}
