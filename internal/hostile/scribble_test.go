//go:build linux

package hostile

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// A scribbler overwrites bytes of a live fleet: headers, words that steer,
// slots, seats, the contest's table and the cells of heartbeats.
//
// A mild one leaves alone what the wholeness of a frame rests on: three slots
// of four; the first word of seats that are taken, by which members find each
// other alive; and it throws no head back so little that a counter comes again
// while a reader who lost the processor is still at the frame that had it. The
// frames of those slots must then be whole, whatever became of all the rest.
type scribbler struct {
	rng    *rand.Rand
	mild   bool
	roster *segment
	rings  []*segment
	undo   func() // makes a fixed header right again
}

// takenSeats is more than there are members at once.
const takenSeats = 32

func newScribbler(t *testing.T, fleet string, mild bool) *scribbler {
	s := &scribbler{rng: dice(t), mild: mild, roster: openSegment(t, fleet, 0), undo: func() {}}
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
		was := r.word(offHead)
		if !s.mild {
			r.put(offHead, s.word(was))
			return
		}
		near := []uint64{was + s.rng.Uint64N(200), was + s.rng.Uint64N(1<<26), was - 1<<25 - s.rng.Uint64N(1<<25)}
		r.put(offHead, near[s.rng.IntN(len(near))])
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

// slot damages the state, the other words or the payload of a slot.
func (s *scribbler) slot(r *segment) {
	i := s.rng.IntN(r.capacity)
	if s.mild {
		i = i&^3 + 2 // a dirty one
	}
	slot := r.slot(i)
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
	i := s.rng.IntN(seats)
	if s.mild {
		i = takenSeats + i%(seats-takenSeats)
	}
	seat := s.roster.seat(i)
	s.roster.put(seat, s.word(s.roster.word(seat)))
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
// hit. Whoever comes to the fleet after that survives it, too.
func TestOverwrittenBytesEndInErrorsOrLosses(t *testing.T) {
	scribbleOver(t, true, "some")
}

// TestOverwrittenBytesOfAnyKindCrashAndHangNobody is the same without any
// mildness, and so with no word on what is delivered.
func TestOverwrittenBytesOfAnyKindCrashAndHangNobody(t *testing.T) {
	scribbleOver(t, false, "all")
}

func scribbleOver(t *testing.T, mild bool, spoils string) {
	fleet := proc.Fleet(t)
	var crews []*proc.Process
	for range 3 {
		crews = append(crews, start(t, "worker", fleet, spoils))
	}
	for _, p := range crews {
		hear(t, p, "at work")
	}
	s := newScribbler(t, fleet, mild)
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
	for _, p := range crews {
		tell(t, p, "moves", "moves")
	}
	p := start(t, "late", fleet)
	hear(t, p, "survived")
	p.Finish()
	endAll(t, crews)
	proc.RemoveFleet(t, fleet)
}

func init() { roles["late"] = late }

// late sets a crew to work in a fleet that was damaged, if it is let in at all.
func late(args []string) error {
	proc.WatchParent()
	f, err := orbit.Join(args[0], crewOptions())
	w := crew{fleet: f, spoils: "all"}
	if err == nil {
		if err = w.start(); err == nil {
			w.moves(func(*job) bool { return true })
			if err := w.end(); err != nil {
				return err
			}
		}
	}
	if nameOf(err) == "unnamed" {
		return err
	}
	fmt.Println("survived")
	return nil
}

// TestFleetIsSoundAgainOnceItIsMadeAnew: whatever became of its bytes, a fleet
// that nobody is in can be removed, and the next one has nothing of it.
func TestFleetIsSoundAgainOnceItIsMadeAnew(t *testing.T) {
	fleet := proc.Fleet(t)
	p := start(t, "worker", fleet, "all")
	hear(t, p, "at work")
	s := newScribbler(t, fleet, false)
	for range 300 {
		s.scribble()
	}
	endAll(t, []*proc.Process{p})
	s.roster.write(0, make([]byte, 8)) // not even its magic is left
	_, err := orbit.Join(fleet, crewOptions())
	proc.MustBe(t, "Join of a fleet whose roster is damaged", err, orbit.ErrForeign, fleet)
	s.roster.write(0, []byte("ORBITSHM"))
	proc.RemoveFleet(t, fleet)

	q := start(t, "worker", fleet, "none")
	hear(t, q, "at work")
	tell(t, q, "moves", "moves")
	endAll(t, []*proc.Process{q})
	proc.RemoveFleet(t, fleet)
}
