package orbit

import (
	"math"
	"time"
	"unsafe"
)

// This file is added to the instrumented copy of the package that the
// exploration of claims runs: it shows what the checks must see. See package
// orbit/internal/explore.

// ExposeContests returns the contests of n members over one local memory that
// look at it as so many processes would, and that memory. The table has two
// buckets, so that every subject is in the same ones, and so many records: a
// power of two. With announce a claim is announced in a ring of one slot;
// without, the ring takes no frames.
func ExposeContests(records, n int, announce bool) (contests []*Contest, memory []uint64) {
	shape := contestShape{records: records, entries: 2 * bucketSize}
	shape.deed = firstEntry + shape.entries
	shape.record = shape.deed + shape.records
	shape.len = shape.record + shape.records*recordWords
	h := layout(KindContest, Geometry{Capacity: 1, PayloadLimit: contestGeometry.PayloadLimit}, shape.len*wordSize)
	mem := localBlock(h.size)
	formatRing(mem, &h, 0)
	for i := range n {
		f, err := newFleet("explored", Options{Size: n})
		if err != nil {
			panic(err)
		}
		f.node = uint16(i + 1)
		f.owner = uint64(i)<<turnBits | 1
		r := newRing(f, &segment{mem: mem, header: h})
		if !announce {
			r.room = 0
		}
		f.rings = append(f.rings, r)
		contests = append(contests, newContest(r, shape))
	}
	return contests, unsafe.Slice((*uint64)(mem.base), mem.size/wordSize)
}

// ExposeReset makes a contest forget its guards. It looks for free records from
// hint on, and its timer, when it goes off, does nothing: see ExposeTick.
func (c *Contest) ExposeReset(hint int) {
	clear(c.guards)
	c.hint.Store(uint32(hint))
	c.armed.Store(endless)
	c.closed = false
	if c.timer.reset == nil {
		c.timer = newAlarm(math.MaxInt64, func() {})
	}
}

// An ExposedTable says where the parts of the table are, as indices into the
// memory of ExposeContests.
type ExposedTable struct{ Order, Token, Entry, Entries, Deed, Records, Record, RecordLen int }

// ExposeTable returns where the parts of the table are.
func (c *Contest) ExposeTable() ExposedTable {
	at := c.ring.header.table / wordSize
	s := &c.shape
	return ExposedTable{at + orderWord, at + tokenWord, at + firstEntry, s.entries, at + s.deed, s.records, at + s.record, recordWords}
}

// Words of a record.
const (
	ExposeHash     = 0
	ExposeDeadline = recDeadline
	ExposeSince    = recSince
	ExposeToken    = recToken
)

// Phases of an entry.
const (
	ExposeTentative = phaseTentative
	ExposeHeld      = phaseHeld
)

// An ExposedEntry is the word of an entry taken apart.
type ExposedEntry struct {
	Order  int64
	Record int
	Phase  int
}

// ExposeEntry takes the word of an entry apart.
func ExposeEntry(w uint64) ExposedEntry {
	return ExposedEntry{int64(w >> orderShift), int(w >> recordShift & (maxRecords - 1)), int(w & phaseMask)}
}

// An ExposedDeed is a deed taken apart.
type ExposedDeed struct {
	Revision int64
	Member   int
	Taken    bool
}

// ExposeDeed takes a deed apart.
func ExposeDeed(d uint64) ExposedDeed {
	return ExposedDeed{int64(d / revisionUnit), int(deedOwner(d) >> turnBits), d&deedTaken != 0}
}

// ExposeMember returns the number of the member that an owner names.
func ExposeMember(owner uint64) int { return int(owner >> turnBits) }

const exposedKind = 12

// ExposeSubject returns what records have as the hash of a subject.
func ExposeSubject(label string) uint64 { return hashSubject(exposedKind, label) }

// ExposeClaim is Claim.
func (c *Contest) ExposeClaim(label, owner string, ttl time.Duration) (*Guard, error) {
	return c.claim(&subject{exposedKind, label, ExposeSubject(label)}, owner, ttl)
}

// ExposeHolder is HolderOf.
func (c *Contest) ExposeHolder(label string) (Holder, bool, error) {
	return c.holderOf(&subject{exposedKind, label, ExposeSubject(label)}, phaseHeld)
}

// ExposeTick does what the timer does.
func (c *Contest) ExposeTick() { c.tick() }

// ExposeArmed tells whether the timer goes off no later than the time of any
// guard is over.
func (c *Contest) ExposeArmed() bool {
	for i := range c.guards {
		if g := c.guards[i].Load(); g != nil && g.deadline.Load() < c.armed.Load() {
			return false
		}
	}
	return true
}

// ExposeClose does what Close does to a contest.
func (c *Contest) ExposeClose() { c.close() }

// ExposeWord returns the entry of a guard, and what must be there as long as
// the guard holds.
func (g *Guard) ExposeWord() (entry int, word uint64) { return g.entry, g.word }

// ExposeEnded tells whether the guard knows that it does not hold.
func (g *Guard) ExposeEnded() bool { return g.ended != nil }

// ExposeOver tells whether the time of the guard is over.
func (g *Guard) ExposeOver(now int64) bool { return now >= g.deadline.Load() }

// ExposeOwn visits what the contest keeps in the memory of its process.
func (c *Contest) ExposeOwn(visit func(v uint64)) {
	visit(uint64(c.hint.Load()))
	visit(uint64(c.armed.Load()))
	if c.closed {
		visit(1)
	}
	for i := range c.guards {
		if g := c.guards[i].Load(); g != nil {
			visit(uint64(i))
			g.ExposeOwn(visit)
		}
	}
}

// ExposeOwn visits what there is to a guard.
func (g *Guard) ExposeOwn(visit func(v uint64)) {
	if g.ended != nil && g.record == noEntry {
		visit(uint64(len(g.ended.Error())))
		return
	}
	visit(uint64(g.deadline.Load()))
	visit(uint64(g.entry))
	visit(g.word)
	visit(uint64(g.record))
	visit(g.token)
	visit(uint64(g.since))
	if g.ended != nil {
		visit(1)
	}
}
