package orbit

import "unsafe"

// This file is added to the instrumented copy of the package that the
// exploration runs: it shows what the checks must see. See package
// orbit/internal/explore.

// ExposeRings returns the rings of n members over one local memory that look
// at it as so many processes would, and that memory. The head is preset.
func ExposeRings(g Geometry, kind uint8, head uint64, n int) (rings []*Ring, memory []uint64) {
	h := layout(kind, g, 0)
	mem := localBlock(h.size)
	formatRing(mem, &h, head)
	for i := range n {
		f, err := newFleet("explored", Options{Size: n})
		if err != nil {
			panic(err)
		}
		f.node = uint16(i + 1)
		f.owner = uint64(i)<<turnBits | 1
		r := newRing(f, &segment{mem: mem, header: h})
		f.rings = append(f.rings, r)
		rings = append(rings, r)
	}
	return rings, wordsOf(mem)
}

func wordsOf(mem block) []uint64 {
	return unsafe.Slice((*uint64)(mem.base), mem.size/wordSize)
}

// ExposeMember returns the number of the member that an owner names.
func ExposeMember(owner uint64) int { return int(owner >> turnBits) }

// Indices into the memory of ExposeRings.
const (
	ExposeHead  = offHead / 8
	ExposeFirst = offFirst / 8
	ExposeSlots = headerSize / 8
)

// Words of a slot.
const (
	ExposeMeta    = offMeta / 8
	ExposeVersion = offVersion / 8
	ExposePayload = offPayload / 8
)

// ExposeStride returns the number of words from one slot to the next.
func (r *Ring) ExposeStride() int { return int(r.stride) / 8 }

// An ExposedState is a state word taken apart.
type ExposedState struct {
	Since  int64 // the counter named, from the counter asked about
	Member int
	Phase  string
	Held   bool
}

// ExposeState takes a state word apart, as seen from counter c.
func ExposeState(st, c uint64) ExposedState {
	return ExposedState{
		Since:  since(st, c),
		Member: ExposeMember(st & ownerMask >> ownerShift),
		Phase:  [...]string{"skipped", "done", "writing", "busy"}[st&phaseMask],
		Held:   st&heldBit != 0,
	}
}

// ExposeOpen undoes a Close of the ring's fleet.
func (r *Ring) ExposeOpen() {
	r.fleet.closed = false
	r.gate.Store(gateOpen)
}

// ExposeFleet returns the ring's fleet.
func (r *Ring) ExposeFleet() *Fleet { return r.fleet }
