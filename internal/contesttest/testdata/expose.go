package orbit

import (
	"time"
	"unsafe"
)

// This file is added to the instrumented copy of the package in which the
// contest is explored: it shows what the checks must see. See the command in
// orbit/internal/contesttest/claims.

// Words of the table.
const (
	ExposeFirstEntry = firstEntry
	ExposeBucket     = bucketSize
	ExposeRecordLen  = recordWords
	ExposeDeadline   = recDeadline
	ExposeToken      = recToken
)

// ExposeContests returns the contests of n members over one local memory, that
// look at it as so many processes would, and the table they share.
func ExposeContests(n int) (contests []*Contest, table []uint64) {
	g := Geometry{Capacity: 8, PayloadLimit: contestGeometry.PayloadLimit}
	shape := shapeContest(g.Capacity)
	h := layout(KindContest, g, shape.len*wordSize)
	mem := localBlock(h.size)
	formatRing(mem, &h, 0)
	for i := range n {
		f, err := newFleet("explored", Options{Size: n})
		if err != nil {
			panic(err)
		}
		f.node = uint16(i + 1)
		f.owner = uint64(i)<<turnBits | 1
		contests = append(contests, newContest(newRing(f, mem, h), shape))
	}
	return contests, unsafe.Slice(contests[0].ring.tableWord(0), shape.len)
}

// ExposeReset makes the contest forget what it remembers outside the table. It
// will start no timer.
func (c *Contest) ExposeReset() {
	for i := range c.guards {
		c.guards[i].Store(nil)
	}
	c.hint.Store(uint32(c.fleet.owner>>turnBits) * bucketSize)
	c.armed.Store(0)
}

// ExposeMember returns the number of the member that an owner names.
func ExposeMember(owner uint64) int { return int(owner >> turnBits) }

// ExposeDeeds returns where the deeds begin and end in the table: the records
// follow.
func (c *Contest) ExposeDeeds() (begin, end int) { return c.shape.deed, c.shape.record }

// ExposeEntries returns where in the table the entries of a subject are.
func (c *Contest) ExposeEntries(kind uint8, label string) (words []int) {
	for _, first := range c.buckets(hashSubject(kind, label)) {
		for i := range bucketSize {
			words = append(words, firstEntry+first+i)
		}
	}
	return words
}

// ExposeFill puts a claim of another subject, which never ends, into an entry.
func (c *Contest) ExposeFill(word int) {
	g := &Guard{contest: c, subject: subject{kind: 99, hash: 1}, record: noEntry}
	if err := g.prepare(0, time.Duration(endless)); err != nil {
		panic(err)
	}
	c.ring.table()[word] = c.nextOrder() | uint64(g.record)<<recordShift | phaseHeld
}

func (r *Ring) table() []uint64 {
	return unsafe.Slice(r.tableWord(0), r.header.tableLen/wordSize)
}

// ExposeDeed takes a deed apart.
func ExposeDeed(deed uint64) (member int, taken bool) {
	return ExposeMember(deedOwner(deed)), deed&deedTaken != 0
}

// ExposeEntry takes an entry's word apart.
func ExposeEntry(w uint64) (record int, tentative, held bool) {
	return int(w>>recordShift) & (maxRecords - 1), w&phaseMask == phaseTentative, w&phaseMask == phaseHeld
}

// ExposeEnd returns the guard's own deadline, and whether it has a record.
func (g *Guard) ExposeEnd() (deadline int64, has bool) {
	return g.deadline.Load(), g.record != noEntry
}
