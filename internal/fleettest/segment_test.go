//go:build linux

package fleettest

import (
	"encoding/binary"
	"os"
	"testing"

	"orbit"
	"orbit/internal/proc"
)

// A second, independent description of the segment format, for tests that
// make segments, or damage them.

const (
	pageSize       = 4096
	slotHeader     = 24
	rosterSeats    = 1024 * 64
	rosterTable    = rosterSeats + 256*8
	offMark        = 8
	offVersion     = 12
	offSize        = 16
	offCapacity    = 24
	offLimit       = 32
	offStride      = 40
	offSlots       = 48
	offTable       = 56
	offTableLen    = 64
	offKind        = 72
	offInstance    = 80
	offChecksum    = 96
	offFingerprint = 128
	offFirst       = 192
	offHead        = 256
	offWake        = 320

	phaseSkipped = 0
	phaseDone    = 1
	phaseWriting = 2
	phaseBusy    = 3
)

// image is the bytes of a segment.
type image []byte

func (m image) word(off int) uint64          { return binary.NativeEndian.Uint64(m[off:]) }
func (m image) put(off int, v uint64)        { binary.NativeEndian.PutUint64(m[off:], v) }
func (m image) put32(off int, v uint32)      { binary.NativeEndian.PutUint32(m[off:], v) }
func (m image) stride() int                  { return int(m.word(offStride)) }
func (m image) capacity() int                { return int(m.word(offCapacity)) }
func (m image) slot(c uint64) int            { return pageSize + int(c%m.word(offCapacity))*m.stride() }
func (m image) putState(c uint64, st uint64) { m.put(m.slot(c), st) }

// state makes a state word.
func state(counter, owner uint64, phase uint64) uint64 { return counter<<24 | owner<<2 | phase }

// seal makes the header's checksum right.
func (m image) seal() image {
	sum := uint64(14695981039346656037)
	for _, c := range m[:offChecksum] {
		sum = (sum ^ uint64(c)) * 1099511628211
	}
	m.put(offChecksum, sum)
	return m
}

// newImage makes a sound segment without frames, whose next counter is head.
func newImage(kind uint8, g orbit.Geometry, tableLen int, instance, head uint64) image {
	stride := (slotHeader + g.PayloadLimit + 63) &^ 63
	table := pageSize + g.Capacity*stride
	size := (table + tableLen + pageSize - 1) &^ (pageSize - 1)
	m := make(image, size)
	copy(m, "ORBITSHM")
	m.put32(offMark, 0x01020304)
	m.put32(offVersion, orbit.FormatVersion)
	for i, v := range []int{size, g.Capacity, g.PayloadLimit, stride, pageSize, table, tableLen, int(kind)} {
		m.put(offSize+8*i, uint64(v))
	}
	m.put(offInstance, instance)
	m.presetHead(head)
	return m.seal()
}

// presetHead makes a ring empty, with head as its next counter.
func (m image) presetHead(head uint64) {
	m.put(offFirst, head)
	m.put(offHead, head)
	for i := range uint64(m.capacity()) {
		c := head - 1 - i
		m.putState(c, state(c, 0, phaseSkipped))
	}
}

// newRoster makes a sound roster without members.
func newRoster(instance uint64) image {
	return newImage(0, orbit.Geometry{}, rosterTable, instance, 0)
}

func load(t testing.TB, path string) image {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// store writes the image to a new file with the mode and owner of a segment.
func (m image) store(t testing.TB, path string) {
	t.Helper()
	if err := os.WriteFile(path, m, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
}

// overwrite changes bytes of a segment in place, under those who have it
// mapped.
func overwrite(t testing.TB, path string, off int, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, int64(off)); err != nil {
		t.Fatal(err)
	}
}

func overwriteWord(t testing.TB, path string, off int, v uint64) {
	t.Helper()
	overwrite(t, path, off, binary.NativeEndian.AppendUint64(nil, v))
}

// presetRing makes the ring of a live fleet begin at head, before its first
// frame.
func presetRing(t testing.TB, fleet string, kind uint8, head uint64) {
	t.Helper()
	path := proc.Segment(fleet, int(kind))
	m := load(t, path)
	m.presetHead(head)
	overwrite(t, path, 0, m)
}

// TestSegmentsHaveTheDocumentedFormat holds the description above to what the
// package makes.
func TestSegmentsHaveTheDocumentedFormat(t *testing.T) {
	for _, g := range []orbit.Geometry{{Capacity: 1, PayloadLimit: 0}, {Capacity: 8, PayloadLimit: 41}, {Capacity: 1024, PayloadLimit: 256}} {
		name := proc.Fleet(t)
		f := join(t, name, one(7, g.Capacity, g.PayloadLimit))
		ring(t, f, 7)
		got := load(t, proc.Segment(name, 7))
		want := newImage(7, g, 0, got.word(offInstance), 0)
		want.put(88, got.word(88)) // when it was created
		want.seal()
		if string(got) != string(want) {
			for i := range want {
				if i >= len(got) || got[i] != want[i] {
					t.Fatalf("ring of %v: %d bytes, want %d; first difference at byte %d", g, len(got), len(want), i)
				}
			}
			t.Fatalf("ring of %v: %d bytes, want %d", g, len(got), len(want))
		}
		roster := load(t, proc.Segment(name, 0))
		if i := roster.word(offInstance); i != got.word(offInstance) || i == 0 {
			t.Errorf("the roster is of instance %#x, the ring of %#x", i, got.word(offInstance))
		}
		f.Close()
		proc.RemoveFleet(t, name)
	}
}

// TestCraftedSegmentsAreSound holds the package to the description: a segment
// made by it is one to join.
func TestCraftedSegmentsAreSound(t *testing.T) {
	name := proc.Fleet(t)
	newRoster(77).store(t, proc.Segment(name, 0))
	newImage(7, orbit.Geometry{Capacity: 4, PayloadLimit: 100}, 0, 77, 1<<33).store(t, proc.Segment(name, 7))
	f := join(t, name, one(7, 4, 100))
	r := ring(t, f, 7)
	if id := publish(t, r, 1, 100); id.Counter() != 1<<33 {
		t.Errorf("the first frame has counter %d, want %d", id.Counter(), uint64(1)<<33)
	}
	f.Close()
	proc.RemoveFleet(t, name)
}
