package orbit

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Current state lies in a table behind the slots of the contest ring; the
// ring's frames only announce it. The table is two counters, entries, deeds
// and records:
//
//	order u64 | token u64 | entry u64 ... | deed u64 ... | record 192 ...
//
// A subject hashes to two buckets of eight entries, and every claim of it is
// in one of the sixteen. An entry is one word:
//
//	63                             16 15            2 1     0
//	+--------------------------------+---------------+-------+
//	|           order : 48           |  record : 14  | phase |
//	+--------------------------------+---------------+-------+
//
//	free              the whole word is zero
//	tentative(o,r)    the claim in record r wants the subject
//	held(o,r)         the claim in record r has it
//
// No order number is given out twice, so no word comes back once it is gone,
// and a compare-and-swap that finds the word finds the claim it was meant for.
//
// A deed says which member a record belongs to. It is revised by every change,
// so that a record of the dead is taken over once:
//
//	63                                 23 22             1   0
//	+------------------------------------+----------------+-----+
//	|           revision : 41            |   owner : 22   |taken|
//	+------------------------------------+----------------+-----+
//
// Only the owner of a record writes it, and only one entry names it. A reader
// copies the record and looks at the entry again: if the word is the same, the
// copy is what the word meant.
//
// A claim is over when its deadline has passed or the kernel says that its
// member is dead. The legal transitions of an entry, each one
// compare-and-swap:
//
//	free           -> tentative(me)   claim: first look round, then take a number
//	tentative(me)  -> held(me)        promote: a second look found nobody
//	held(me)       -> held(me, new o) renew, after the deadline in the record was moved
//	any(me)        -> free            withdraw, release, lapse
//	tentative(x)   -> free            strike: x has a larger number than I
//	any(x), over   -> free            bury
//
// Whatever claim of the subject the first look finds came earlier, so it is who
// to yield to. The second look comes after the claim stands in its entry for
// all to see. Then a held entry, or a tentative one with a smaller number, is
// who to yield to. One with a larger number must be struck: its claimant may
// have finished its second look before this claim was there to be seen. Nor is it
// enough to pass over an entry that is over: it must be buried, or its owner
// could renew it. So of two claims for a subject one always meets the other's
// word, and no claimant ever waits for another.
//
// The token is minted after the promotion, and the clock and the entry are
// looked at again before the guard is handed out: then the token is smaller
// than that of whoever holds the subject next.
const (
	phaseFree      = 0
	phaseTentative = 1
	phaseHeld      = 2

	recordShift = 2
	recordBits  = 14
	maxRecords  = 1 << recordBits
	orderShift  = recordShift + recordBits
	orderMask   = uint64(1<<(64-orderShift)-1) << orderShift

	deedTaken    = 1
	deedShift    = 1
	revisionUnit = 1 << (deedShift + ownerBits)

	bucketSize = 8
	minRecords = 64
	orderWord  = 0 // each counter has a cache line for itself
	tokenWord  = 8
	firstEntry = 16
	noEntry    = -1
	maxLapses  = 3
)

// contestGeometry is the default: a frame has room for the longest labels.
var contestGeometry = Geometry{Capacity: 1024, PayloadLimit: roundUp(maxClaimEvent, 8)}

// clockSlack is how much longer a claim stands for others than for its owner:
// two processes read the shared clock with a small error.
const clockSlack = int64(50 * time.Microsecond)

// endless is the deadline of a claim that only release or death ends.
const endless = math.MaxInt64 - clockSlack

var (
	// ErrHeld: another claim of the subject is active. The error is a
	// [*HeldError] and says whose.
	ErrHeld = errors.New("orbit: subject is held")
	// ErrLapsed: the guard does not hold its subject any more.
	ErrLapsed = errors.New("orbit: guard has lapsed")
	// ErrTableFull: there is no room for one more claim.
	ErrTableFull = errors.New("orbit: contest table is full")
	// ErrTTL: a TTL that is not positive.
	ErrTTL = errors.New("orbit: bad TTL")
)

// A Contest decides who of a fleet holds a subject: which process runs the
// nightly job, owns shard 7, or writes to a file. A subject is the kind a type
// declares, and a label. The earliest active claim holds it; the others are
// told whom to yield to. There is no queue.
//
//	contest, err := orbit.OpenContest(fleet)
//	guard, err := orbit.Claim[Job](contest, "nightly", "worker-1", time.Minute)
//	if errors.Is(err, orbit.ErrHeld) {
//		return // the error says who has it
//	}
//	defer guard.Release()
//
// # How a claim ends
//
// By [Guard.Release]; by [Fleet.Close] of the claimant; when its TTL is over,
// unless it is renewed, on a clock that all processes of this boot share and
// that setting the time of day does not move; or when its process dies, as
// soon as the kernel knows. Nothing else ends it, however many claims come and
// go beside it. A process stopped in the middle of a claim holds nobody back
// for longer than its TTL.
//
// # What a guard promises
//
// Of all guards for a subject at most one is valid at any moment. But a
// process can be stopped between asking [Guard.Valid] and acting on the
// answer, for longer than its TTL. What must not happen even then must be
// fenced: the holder sends [Guard.Token] with every request, and the resource
// refuses a token smaller than the largest it has seen.
//
// # Capacity
//
// The table has room for two claims per slot of the contest ring, 2048 by
// default, at least 64 and at most 16384; set the capacity of [KindContest] in
// [Options.Rings] for another number. When all are taken by claims that still
// stand, [Claim] fails with [ErrTableFull]. The room of a claim that is over by its
// TTL comes back from its own process, which may write there as long as it lives:
// if that is stopped, when it goes on or dies.
//
// All functions and methods are safe for concurrent use, never wait for
// another process except where they say so, and fail with [ErrClosed] once the
// fleet is closed. In the Contest of an observer, what claims fails with
// [ErrReadOnly].
type Contest struct {
	ring   *Ring
	fleet  *Fleet
	shape  contestShape
	pid    uint32
	guards []atomic.Pointer[Guard] // this member's guards, by record
	hint   atomic.Uint32           // the record to try first

	life   sync.RWMutex // held to read by claims under way, to write by close
	closed bool

	mu    sync.Mutex
	timer alarm
	armed atomic.Int64 // when the timer goes off, endless if it does not
}

// contestShape says where the parts of the table are, in words.
type contestShape struct {
	records int // a power of two
	entries int // a power of two
	deed    int
	record  int
	len     int
}

// shapeContest computes the shape for a ring of this many slots. With two
// entries for every record the sixteen entries of a subject are never all
// taken while there is a record to claim it with, but by freak accident.
func shapeContest(capacity int) contestShape {
	n := min(max(2*capacity, minRecords), maxRecords)
	s := contestShape{records: n, entries: 2 * n}
	s.deed = firstEntry + s.entries
	s.record = s.deed + s.records
	s.len = s.record + s.records*recordWords
	return s
}

// OpenContest returns the contest of a fleet: the same one at every call. It
// fails as [Fleet.Ring]; an observer gets [ErrNotExist] before any member has
// opened it.
func OpenContest(f *Fleet) (*Contest, error) {
	g := f.geometry(KindContest, contestGeometry)
	if g.PayloadLimit == 0 {
		g.PayloadLimit = contestGeometry.PayloadLimit
	}
	r, err := f.openFor(KindContest, g, maxClaimEvent, shapeContest(g.Capacity).len*wordSize)
	if err != nil {
		return nil, err
	}
	// An observer takes the geometry it finds.
	shape := shapeContest(r.header.capacity)
	if err := r.wantTable(shape.len * wordSize); err != nil {
		return nil, err
	}
	c, err := r.keepOne(func() closer { return newContest(r, shape) })
	if err != nil {
		return nil, err
	}
	return c.(*Contest), nil
}

func newContest(r *Ring, shape contestShape) *Contest {
	c := &Contest{ring: r, fleet: r.fleet, shape: shape, pid: uint32(processID())}
	c.armed.Store(endless)
	if !r.fleet.readOnly {
		c.guards = make([]atomic.Pointer[Guard], shape.records)
		// No guard holds in a damaged table, and contexts must say so.
		alarm := func() { c.arm(clockNow()) }
		r.alarm.Store(&alarm)
		// Members begin to look for free records apart from each other.
		c.hint.Store(uint32(r.fleet.owner>>turnBits) * bucketSize)
	}
	return c
}

// Ring returns the ring that announces claims and releases, for cursors and
// statistics. [DecodeClaim] reads its frames.
func (c *Contest) Ring() *Ring { return c.ring }

// Capacity returns how many claims the table has room for.
func (c *Contest) Capacity() int { return c.shape.records }

// A Holder is who has a subject, or is about to.
type Holder struct {
	Kind  uint8  // the subject's kind
	Label string // the subject's label
	Owner string // the owner label of the claim
	Node  uint16
	PID   int           // as the holder sees itself: another PID namespace has other numbers
	Token uint64        // 0 while the claim is being made
	Since Stamp         // when it was claimed
	Left  time.Duration // until the claim ends unless it is renewed; negative if that is over
}

// A HeldError says whom to yield to. It matches [ErrHeld].
type HeldError struct {
	Fleet  string
	Holder Holder
}

// Error names the subject, the holder and the time that is left.
func (e *HeldError) Error() string {
	h := &e.Holder
	left := ""
	if h.Left < 1<<62 {
		left = " for another " + h.Left.String()
	}
	return within(ringPlace(e.Fleet, KindContest), problem("subject "+itoa(int(h.Kind))+" "+quote(h.Label)+
		" is held by "+quote(h.Owner)+" of node "+itoa(int(h.Node))+", process "+itoa(h.PID)+left, ErrHeld)).Error()
}

// Is tells whether target is [ErrHeld].
func (e *HeldError) Is(target error) bool { return target == ErrHeld }

// holder returns what the record says, for callers to keep.
func (r *claimRecord) holder(now int64) Holder {
	return Holder{
		Kind:  r.kind,
		Label: string(r.label()),
		Owner: string(r.owner()),
		Node:  r.node,
		PID:   int(r.pid),
		Token: r.token,
		Since: Stamp(r.since),
		Left:  time.Duration(r.deadline - now),
	}
}

// subject is what is claimed.
type subject struct {
	kind  uint8
	label string
	hash  uint64
}

func subjectOf[T Typed](c *Contest, label string) (s subject, err error) {
	_, kind, _, err := typeOf[T](c.fleet)
	if err == nil && len(label) > MaxLabel {
		err = within(c.ring.place(), sizeError("label", len(label), MaxLabel))
	}
	return subject{kind, label, hashSubject(kind, label)}, err
}

// hashSubject is FNV-1a with a final mix, which the bits for the two buckets
// need.
func hashSubject(kind uint8, label string) uint64 {
	h := fnv(fnv(fnvBasis, []byte{kind}), label)
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	return h ^ h>>32
}

// Claim claims the subject that is T's kind and label, for at most ttl unless
// the guard is renewed. If it is held, or an earlier claim of it is being
// made, Claim fails with a [*HeldError], which matches [ErrHeld].
//
// The owner label says in whose name. If this member holds the subject already
// under the same owner label, the claim is taken up again: the new guard has a
// new token and the new TTL, and the old guard ends at once. A claim without
// owner label is never taken up. Nor is one from before a restart, nor has it
// to be: it fell when the process died.
//
// The label may have [MaxLabel] bytes and the owner [MaxOwner]; more fails with
// [ErrTooLarge]. A TTL of 0 or less fails with [ErrTTL], one that ends before
// the guard can be handed out with [ErrLapsed], a full table with [ErrTableFull],
// and a guard to take up that is in use for 100 ms with [ErrBusy]. For a claim that
// only Release or death shall end, pass math.MaxInt64. It makes a system call only
// if somebody else's claim is in the way, of the subject or, where the table is
// full, of any, to ask whether they live, or if somebody waits.
func Claim[T Typed](c *Contest, label, owner string, ttl time.Duration) (*Guard, error) {
	s, err := subjectOf[T](c, label)
	if err != nil {
		return nil, err
	}
	return c.claim(&s, owner, ttl)
}

func (c *Contest) claim(s *subject, owner string, ttl time.Duration) (*Guard, error) {
	r := c.ring
	switch {
	case r.room < 0:
		return nil, r.refuse(0)
	case len(owner) > MaxOwner:
		return nil, within(r.place(), sizeError("owner", len(owner), MaxOwner))
	case ttl <= 0:
		return nil, c.badTTL(ttl)
	}
	g := &Guard{contest: c, subject: *s, owner: owner, record: noEntry}
	if err := g.claim(ttl); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *Guard) claim(ttl time.Duration) (err error) {
	c := g.contest
	c.life.RLock()
	defer c.life.RUnlock()
	g.mu.Lock() // against those who take the claim up before it has its guard
	defer g.mu.Unlock()
	defer c.ring.catchFault(enterGuard(), &err)
	if err = c.contend(g, ttl); err != nil {
		g.withdraw()
	} else {
		g.announce(Claimed)
	}
	return err
}

func (c *Contest) badTTL(ttl time.Duration) error {
	return c.ring.fail(ErrTTL, "TTL of "+ttl.String()+", want more than 0")
}

// contend makes g the guard of its subject, or fails.
func (c *Contest) contend(g *Guard, ttl time.Duration) error {
	if c.closed {
		return ErrClosed
	}
	lapses := 0
	for range maxAttempts {
		if c.ring.gate.Load() != gateOpen {
			return c.ring.gateError()
		}
		now := clockNow()
		s := survey{contest: c, subject: &g.subject, now: now}
		found, err := s.round()
		var won bool
		switch {
		case err != nil:
		case !found:
			won, err = c.install(g, &s, ttl)
		case s.ours(g.owner):
			won, err = c.takeUp(g, &s, ttl)
		default:
			err = s.yield()
		}
		switch {
		case err != nil:
			return err
		case !won:
			continue
		case g.stands():
			c.arm(g.deadline.Load())
			return nil
		}
		atomic.CompareAndSwapUint64(c.entry(g.entry), g.word, 0)
		if lapses++; lapses == maxLapses {
			return c.ring.fail(ErrLapsed, "a TTL of "+ttl.String()+" ended before the guard could be handed out")
		}
	}
	return c.ring.fail(ErrBusy, "others were first at every attempt")
}

// install puts the claim of g into a free entry, looks round once more, and
// promotes it. It fails if that shows whom to yield to, and is not won if
// others were faster: the next look will show who.
func (c *Contest) install(g *Guard, s *survey, ttl time.Duration) (won bool, err error) {
	if s.free == noEntry {
		s.free = c.evict(s)
	}
	if s.free == noEntry {
		return false, c.ring.fail(ErrTableFull, "contest table is full: no entry for this subject among its "+itoa(c.shape.entries))
	}
	if err := g.prepare(s.now, ttl); err != nil {
		return false, err
	}
	g.entry, g.word = s.free, c.nextOrder()|uint64(g.record)<<recordShift|phaseTentative
	if !atomic.CompareAndSwapUint64(c.entry(g.entry), 0, g.word) {
		return false, nil
	}
	s.own, s.place = g.word, g.entry
	found, err := s.round()
	if found {
		err = s.yield()
	}
	if err != nil {
		return false, err
	}
	tentative := g.word
	g.word = tentative&^phaseMask | phaseHeld
	if !atomic.CompareAndSwapUint64(c.entry(g.entry), tentative, g.word) {
		return false, nil
	}
	g.token = c.mint(g.record)
	return true, nil
}

// takeUp makes g the guard of the claim that another guard of the same owner
// has. The claim stands all the while, so nobody comes between the two.
func (c *Contest) takeUp(g *Guard, s *survey, ttl time.Duration) (won bool, err error) {
	old := c.guards[c.recordOf(s.word)].Load()
	if old == nil || old == g {
		return false, nil
	}
	// Another claim of this owner may be about to get its guard. In a damaged
	// table two claims can wait for each other here.
	var wait backoff
	for !old.mu.TryLock() {
		if !wait.pause(maxBusy) {
			return false, c.ring.fail(ErrBusy, "the guard to take up is in use")
		}
	}
	defer old.mu.Unlock()
	if old.word != s.word || !old.check() {
		return false, nil
	}
	g.withdraw() // a record prepared for another attempt
	now := clockNow()
	token := c.mint(old.record)
	atomic.StoreUint64(c.recordWord(old.record, recSince), uint64(now))
	if !old.extend(endOf(now, ttl)) {
		return false, nil
	}
	g.entry, g.word, g.record, g.token, g.since = old.entry, old.word, old.record, token, now
	g.deadline.Store(old.deadline.Load())
	c.guards[g.record].Store(g)
	old.record = noEntry // it is g's now
	old.finish(ErrLapsed)
	return true, nil
}

// endOf is when a TTL that begins now is over. It never passes the end of
// time.
func endOf(now int64, ttl time.Duration) int64 {
	if end := now + int64(ttl); end > now && end < endless {
		return end
	}
	return endless
}

// mint gives the claim in a record the next token. Its entry was promoted
// before.
func (c *Contest) mint(record int) uint64 {
	token := atomic.AddUint64(c.ring.tableWord(tokenWord), 1)
	atomic.StoreUint64(c.recordWord(record, recToken), token)
	return token
}

func (c *Contest) nextOrder() uint64 {
	return atomic.AddUint64(c.ring.tableWord(orderWord), 1) << orderShift
}

// older tells whether entry word a has a smaller order number than b. Numbers
// that come round keep their order.
func older(a, b uint64) bool { return int64(a&orderMask-b&orderMask) < 0 }

func (c *Contest) entry(i int) *uint64 { return c.ring.tableWord(firstEntry + i) }
func (c *Contest) deed(i int) *uint64  { return c.ring.tableWord(c.shape.deed + i) }
func (c *Contest) recordWord(i, word int) *uint64 {
	return c.ring.tableWord(c.shape.record + i*recordWords + word)
}

// recordOf returns the record that an entry's word names. The mask keeps it
// inside the table whatever the word is.
func (c *Contest) recordOf(w uint64) int {
	return int(w>>recordShift) & (c.shape.records - 1)
}

// buckets returns the first entries of the two buckets of a subject.
func (c *Contest) buckets(hash uint64) [2]int {
	mask := c.shape.entries/bucketSize - 1
	a, b := int(hash)&mask, int(hash>>32)&mask
	if a == b {
		b ^= 1
	}
	return [2]int{a * bucketSize, b * bucketSize}
}

// A survey is one look round the entries of a subject.
type survey struct {
	contest *Contest
	subject *subject
	now     int64
	own     uint64 // word of the claimant's entry, 0 at the first look
	place   int    // where that is

	free     int // where to install a claim, noEntry if the buckets are full
	sighting     // who is in the way
}

// A sighting is what an entry meant while its word was word.
type sighting struct {
	entry int
	word  uint64
	deed  uint64
	claimRecord
}

// round walks round the entries and buries what is over. It returns whether a
// claim is in the way: at the first look any claim of the subject, at the
// second one that is held or older than the claimant's. It strikes those that
// are younger.
func (s *survey) round() (found bool, err error) {
	s.free = noEntry
	least := bucketSize
	for _, first := range s.contest.buckets(s.subject.hash) {
		taken, free := 0, noEntry
		for i := first; i < first+bucketSize; i++ {
			w := atomic.LoadUint64(s.contest.entry(i))
			if w == 0 {
				free = i
				continue
			}
			taken++
			if w == s.own {
				continue
			}
			if found, err := s.at(i); found || err != nil {
				return found, err
			}
		}
		if taken < least {
			least, s.free = taken, free
		}
	}
	return false, nil
}

// at deals with one entry, again and again until it is neither in the way nor
// to be changed.
func (s *survey) at(i int) (found bool, err error) {
	c := s.contest
	for range maxAttempts {
		w := atomic.LoadUint64(c.entry(i))
		if w == 0 {
			return false, nil
		}
		if atomic.LoadUint64(c.recordWord(c.recordOf(w), 0)) != s.subject.hash {
			if atomic.LoadUint64(c.entry(i)) == w {
				return false, nil // another subject
			}
			continue
		}
		switch sound, same := c.see(&s.sighting, i, w); {
		case !same:
		case !sound || !s.is(s.subject):
			return false, nil
		case c.over(&s.sighting, s.now):
			c.bury(&s.sighting)
		case s.own == 0 || w&phaseMask == phaseHeld || older(w, s.own):
			return true, nil
		case atomic.LoadUint64(c.entry(s.place)) != s.own:
			// Struck or buried itself: it must not strike others who look round
			// and do not find it. The promotion will fail.
			return false, nil
		default:
			atomic.CompareAndSwapUint64(c.entry(i), w, 0) // strike
		}
	}
	return false, c.ring.fail(ErrBusy, "an entry of the contest table changed at every look")
}

// see copies what entry i means by word w. That counts only if the word is
// still the same after it; and then, unless the table is damaged, it is sound.
func (c *Contest) see(v *sighting, i int, w uint64) (sound, same bool) {
	n := c.recordOf(w)
	v.entry, v.word = i, w
	v.deed = atomic.LoadUint64(c.deed(n))
	var b [recordSize]byte
	loadWords(b[:], unsafe.Pointer(c.recordWord(n, 0)))
	phase := w & phaseMask
	sound = decodeClaim(&v.claimRecord, b[:]) && v.deed&deedTaken != 0 && int(w>>recordShift)&(maxRecords-1) == n && (phase == phaseTentative || phase == phaseHeld)
	return sound, atomic.LoadUint64(c.entry(i)) == w
}

// read copies what entry i means, if anything.
func (c *Contest) read(v *sighting, i int) bool {
	for range maxAttempts {
		w := atomic.LoadUint64(c.entry(i))
		if w == 0 {
			return false
		}
		if sound, same := c.see(v, i, w); same {
			return sound
		}
	}
	return false
}

func (v *sighting) is(s *subject) bool { return v.kind == s.kind && string(v.label()) == s.label }

// over tells whether a claim does not stand any more.
func (c *Contest) over(v *sighting, now int64) bool {
	return now >= v.deadline || c.dead(v.deed)
}

func deedOwner(deed uint64) uint64 { return deed >> deedShift & (1<<ownerBits - 1) }

// dead asks the kernel whether the owner of a record is dead.
func (c *Contest) dead(deed uint64) bool { return !c.fleet.memberAlive(deedOwner(deed)) }

// bury frees an entry whose claim is over, and its record if the owner is dead
// and so cannot. It must have been dead before: one who died later may have put
// the record into another entry. The living find out when they look.
func (c *Contest) bury(v *sighting) bool {
	dead := c.dead(v.deed)
	if !atomic.CompareAndSwapUint64(c.entry(v.entry), v.word, 0) {
		return false
	}
	if dead {
		atomic.CompareAndSwapUint64(c.deed(c.recordOf(v.word)), v.deed, freed(v.deed))
	}
	if v.word&phaseMask == phaseHeld {
		var b [maxClaimEvent]byte
		c.ring.Publish(uint8(Fell), v.token, appendClaimEvent(b[:0], &v.claimRecord, v.label(), v.owner()))
	}
	return true
}

// evict makes room in full buckets: it frees an entry of any subject whose
// claim is over, or which damage left without meaning.
func (c *Contest) evict(s *survey) int {
	for _, first := range c.buckets(s.subject.hash) {
		for i := first; i < first+bucketSize; i++ {
			var v sighting
			w := atomic.LoadUint64(c.entry(i))
			sound, same := c.see(&v, i, w)
			switch {
			case w == 0:
				return i
			case !same:
			case !sound && atomic.CompareAndSwapUint64(c.entry(i), w, 0):
				return i
			case sound && c.over(&v, s.now) && c.bury(&v):
				return i
			}
		}
	}
	return noEntry
}

// ours tells whether the claim found is this member's, by the same owner.
func (s *survey) ours(owner string) bool {
	return owner != "" && string(s.owner()) == owner && deedOwner(s.deed) == s.contest.fleet.owner
}

func (s *survey) yield() error {
	return &HeldError{s.contest.fleet.name, s.holder(clockNow())}
}

// ---- Records ----

// takeRecord makes a free record this member's.
func (c *Contest) takeRecord() (int, error) {
	start := int(c.hint.Load())
	for k := range c.shape.records {
		i := (start + k) & (c.shape.records - 1)
		d := atomic.LoadUint64(c.deed(i))
		if d&deedTaken == 0 && atomic.CompareAndSwapUint64(c.deed(i), d, c.taken(d)) {
			c.hint.Store(uint32(i))
			return i, nil
		}
	}
	if i := c.reclaim(); i != noEntry {
		return i, nil
	}
	return noEntry, c.ring.fail(ErrTableFull, "contest table is full: all "+itoa(c.shape.records)+" claims are taken")
}

// taken and freed revise a deed.
func (c *Contest) taken(d uint64) uint64 { return freed(d) | c.fleet.owner<<deedShift | deedTaken }
func freed(d uint64) uint64              { return (d + revisionUnit) &^ (revisionUnit - 1) }

// giveRecord frees a record that no entry names any more.
func (c *Contest) giveRecord(i int) {
	d := atomic.LoadUint64(c.deed(i))
	if d&deedTaken != 0 && deedOwner(d) == c.fleet.owner {
		atomic.CompareAndSwapUint64(c.deed(i), d, freed(d))
		c.hint.Store(uint32(i))
	}
}

// reclaim takes over a record of the dead. It asks the kernel once for each
// run of records of one owner.
func (c *Contest) reclaim() int {
	alive := c.fleet.owner
	for i := range c.shape.records {
		d := atomic.LoadUint64(c.deed(i))
		if d&deedTaken != 0 {
			if deedOwner(d) == alive {
				continue
			}
			if !c.dead(d) {
				alive = deedOwner(d)
				continue
			}
			c.unname(i, d)
		}
		if atomic.CompareAndSwapUint64(c.deed(i), d, c.taken(d)) {
			return i
		}
	}
	return noEntry
}

// unname frees the entry that names record i of a dead owner, if one does: a
// record changes hands only after that. While the deed is the same, so is the
// owner, and the dead install no more.
func (c *Contest) unname(i int, deed uint64) {
	for e := range c.shape.entries {
		w := atomic.LoadUint64(c.entry(e))
		if w != 0 && c.recordOf(w) == i && atomic.LoadUint64(c.deed(i)) == deed {
			atomic.CompareAndSwapUint64(c.entry(e), w, 0)
		}
	}
}

// ---- Guards ----

// A Guard holds a subject for its owner. It is safe for concurrent use.
type Guard struct {
	contest *Contest
	subject subject
	owner   string

	mu       sync.Mutex // held through every change of what follows
	deadline atomic.Int64
	entry    int
	word     uint64 // of the entry, as long as the guard holds
	record   int    // noEntry if the guard has none
	token    uint64
	since    int64
	ended    error // why the guard does not hold: context.Canceled if released
	ctx      any   // a context.Context, which the type need not say: see alarm
	cancel   func(error)
}

// Token returns the fence token: larger than the token of every guard that
// held the subject before in this [Fleet.Incarnation]. A resource that refuses
// tokens smaller than the largest it has seen is safe from holders that were
// stopped for too long.
func (g *Guard) Token() uint64 { return g.token }

// Valid tells whether the guard holds its subject. True means that it did at a
// moment during the call. It does not say what is true when the caller acts on
// it: a process can be stopped at any instruction, and wake up after its TTL.
// See [Guard.Token] for what to do about that.
//
// False is final. It costs a look at the clock and makes no system call.
func (g *Guard) Valid() (valid bool) {
	var err error
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.contest.ring.catchFault(enterGuard(), &err)
	return g.check()
}

// Left returns the time until the claim ends unless it is renewed: 0 once the
// guard does not hold.
func (g *Guard) Left() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended != nil {
		return 0
	}
	return time.Duration(max(g.deadline.Load()-clockNow(), 0))
}

// Context returns a context that ends when the guard does not hold any more:
// with cause context.Canceled after Release, [ErrClosed] after the fleet was
// closed, and [ErrLapsed] when its TTL is over or the claim was taken up by
// another guard. The end of the TTL is signalled by a timer, so up to some
// milliseconds late, and in a stopped process not before it runs again; Valid
// is exact. A context costs no goroutine, and need not be cancelled.
func (g *Guard) Context() context.Context {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx == nil {
		ctx, cancel := context.WithCancelCause(context.Background())
		g.ctx, g.cancel = ctx, cancel
		if g.ended != nil {
			g.cancel(g.ended)
		}
	}
	return g.ctx.(context.Context)
}

// Renew sets the time of the claim anew: it ends after ttl from now, be that
// later or sooner than before. It fails with [ErrTTL] for a TTL of 0 or less,
// and with [ErrLapsed] if the guard does not hold any more: the subject must then
// be claimed again. After [Fleet.Close] that is [ErrClosed].
func (g *Guard) Renew(ttl time.Duration) (err error) {
	c := g.contest
	if ttl <= 0 {
		return c.badTTL(ttl)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	defer c.ring.catchFault(enterGuard(), &err)
	if !g.check() {
		return g.why()
	}
	if !g.extend(endOf(clockNow(), ttl)) {
		g.lapse()
		return g.why()
	}
	c.arm(g.deadline.Load())
	g.announce(Renewed)
	return nil
}

// Release lets the subject go. It fails with [ErrLapsed] if the guard had
// ended before by itself: then another may have held the subject since.
// Releasing again changes nothing and returns the same; after [Fleet.Close],
// which releases all guards, it returns nil.
func (g *Guard) Release() (err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.contest.ring.catchFault(enterGuard(), &err)
	if g.check() && g.finish(context.Canceled) {
		g.announce(Released)
	}
	if g.ended == ErrLapsed {
		return g.why()
	}
	return nil
}

// Close is Release, for those who take an io.Closer.
func (g *Guard) Close() error { return g.Release() }

// The methods below want g.mu held.

// why says why the guard does not hold.
func (g *Guard) why() error {
	if g.ended == ErrClosed {
		return ErrClosed
	}
	how := " has lapsed"
	if g.ended == context.Canceled {
		how = " was released"
	}
	return g.contest.ring.fail(ErrLapsed, "guard of subject "+itoa(int(g.subject.kind))+" "+quote(g.subject.label)+how)
}

// stands tells whether the guard holds its subject, as none does in a damaged
// table. The clock is read before the entry: what it says about the claim was so
// then, and until the second nobody else was promoted.
func (g *Guard) stands() bool {
	if g.contest.ring.gate.Load() != gateOpen {
		return false
	}
	now := clockNow()
	return now < g.deadline.Load() && atomic.LoadUint64(g.contest.entry(g.entry)) == g.word
}

// check tells whether the guard holds, and ends it if it does not.
func (g *Guard) check() bool {
	if g.ended != nil {
		return false
	}
	if g.stands() {
		return true
	}
	g.lapse()
	return false
}

func (g *Guard) lapse() {
	if g.finish(ErrLapsed) {
		g.announce(Fell)
	}
}

// extend moves the deadline. First the record says so, then the entry gets a
// new word: who saw the old deadline pass cannot bury the claim after that,
// and if they were first the claim is lost.
func (g *Guard) extend(end int64) bool {
	c := g.contest
	atomic.StoreUint64(c.recordWord(g.record, recDeadline), uint64(end+clockSlack))
	w := g.word&^orderMask | c.nextOrder()
	if !atomic.CompareAndSwapUint64(c.entry(g.entry), g.word, w) {
		return false
	}
	g.word = w
	g.deadline.Store(end)
	return true
}

// finish ends the guard. Its owner is told before others can have the subject.
// It tells whether the entry was still there to be freed.
func (g *Guard) finish(why error) (freed bool) {
	g.ended = why
	if g.cancel != nil {
		g.cancel(why)
	}
	return g.withdraw()
}

// withdraw frees the guard's entry, if it still has it, and its record.
func (g *Guard) withdraw() (freed bool) {
	c := g.contest
	if g.record == noEntry {
		return false
	}
	freed = g.word != 0 && atomic.CompareAndSwapUint64(c.entry(g.entry), g.word, 0)
	// In this order: whoever has the record next puts its own guard there.
	c.guards[g.record].CompareAndSwap(g, nil)
	c.giveRecord(g.record)
	g.record = noEntry
	return freed
}

// prepare writes the claim into a record of this member that no entry names.
func (g *Guard) prepare(now int64, ttl time.Duration) error {
	c := g.contest
	if g.record == noEntry {
		i, err := c.takeRecord()
		if err != nil {
			return err
		}
		g.record = i
		if !c.guards[i].CompareAndSwap(nil, g) {
			return c.ring.fail(ErrDamaged, "a record of the contest table is given out twice")
		}
	}
	g.since = now
	g.deadline.Store(endOf(now, ttl))
	var b [recordSize]byte
	about := g.about()
	putRecord(c.recordWord(g.record, 0), encodeClaim(&b, &about, g.subject.label, g.owner))
	return nil
}

// about is the claim as records and frames have it.
func (g *Guard) about() claimRecord {
	c := g.contest
	return claimRecord{
		hash:     g.subject.hash,
		deadline: g.deadline.Load() + clockSlack,
		since:    g.since,
		kind:     g.subject.kind,
		node:     c.fleet.node,
		pid:      c.pid,
	}
}

// announce publishes what became of the claim. Nobody needs to hear it: if it
// cannot be published, those who wait find out by looking.
func (g *Guard) announce(change ClaimChange) {
	var b [maxClaimEvent]byte
	about := g.about()
	g.contest.ring.Publish(uint8(change), g.token, appendClaimEvent(b[:0], &about, g.subject.label, g.owner))
}

// putRecord writes words into a record that no entry names.
func putRecord(to *uint64, b []byte) {
	for i := 0; i < len(b); i += wordSize {
		putWord(unsafe.Pointer(to), uintptr(i), nativeWord(b[i:]))
	}
}

// ---- The end of claims ----

// One timer per contest, set to the earliest deadline of this member's guards,
// ends those whose time is over. A guard that is released in time costs it
// nothing.

// arm has the timer go off at a deadline, unless it does so earlier.
func (c *Contest) arm(at int64) {
	if at >= c.armed.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if at >= c.armed.Load() {
		return
	}
	c.armed.Store(at)
	d := time.Duration(max(at-clockNow(), 0))
	if c.timer.reset == nil {
		c.timer = newAlarm(d, c.tick)
	} else {
		c.timer.reset(d)
	}
}

// tick ends the guards whose time is over, or all in a damaged table, and arms
// the timer for the next.
// The guards are looked at after the timer was marked as not armed: whoever
// made one later arms it for himself.
func (c *Contest) tick() {
	c.life.RLock()
	defer c.life.RUnlock()
	if c.closed {
		return
	}
	c.armed.Store(endless)
	next := endless
	now := clockNow()
	for i := range c.guards {
		g := c.guards[i].Load()
		if g == nil {
			continue
		}
		if d := g.deadline.Load(); d > now && c.ring.gate.Load() == gateOpen {
			next = min(next, d)
		} else {
			g.expire()
		}
	}
	c.arm(next)
}

// expire ends the guard unless it was renewed meanwhile, in which case that
// armed the timer.
func (g *Guard) expire() {
	var err error
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.contest.ring.catchFault(enterGuard(), &err)
	g.check()
}

// close releases every guard, at the beginning of the fleet's Close: claims
// under way are waited for, and later ones fail.
func (c *Contest) close() {
	c.life.Lock()
	defer c.life.Unlock()
	c.closed = true
	for i := range c.guards {
		if g := c.guards[i].Load(); g != nil {
			g.shut()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer.stop != nil {
		c.timer.stop()
	}
}

func (g *Guard) shut() {
	var err error
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.contest.ring.catchFault(enterGuard(), &err)
	if g.check() && g.finish(ErrClosed) {
		g.announce(Released)
	}
}

// ---- Looking on ----

// HolderOf returns who holds the subject that is T's kind and label, and
// whether anybody does. It claims and changes nothing. It makes a system call
// if there is a holder, to ask whether it lives.
func HolderOf[T Typed](c *Contest, label string) (h Holder, held bool, err error) {
	s, err := subjectOf[T](c, label)
	if err != nil {
		return h, false, err
	}
	return c.holderOf(&s, phaseHeld)
}

// holderOf returns whose claim of a subject stands, in a phase or a later one.
func (c *Contest) holderOf(s *subject, phase uint64) (h Holder, held bool, err error) {
	defer c.ring.catchFault(enterGuard(), &err)
	now := clockNow()
	var v sighting
	for _, first := range c.buckets(s.hash) {
		for i := first; i < first+bucketSize && !held; i++ {
			if held = c.read(&v, i) && v.is(s) && c.stands(&v, phase, now); held {
				h = v.holder(now)
			}
		}
	}
	// Last, because Close puts zeros under the reader after it shut the gate.
	if c.ring.gate.Load() != gateOpen {
		return Holder{}, false, c.ring.gateError()
	}
	return h, held, nil
}

func (c *Contest) stands(v *sighting, phase uint64, now int64) bool {
	return v.word&phaseMask >= phase && !c.over(v, now)
}

// Holders returns who holds what, in no order. It looks at the whole table, one
// entry after the other while others claim and release: each listed held at some
// moment of the call, and no subject is listed twice. It makes a system call for
// every holder.
func (c *Contest) Holders() (list []Holder, err error) {
	defer c.ring.catchFault(enterGuard(), &err)
	now := clockNow()
	at := map[subject]int{}
	var v sighting
	for i := range c.shape.entries {
		if !c.read(&v, i) || !c.stands(&v, phaseHeld, now) {
			continue
		}
		h := v.holder(now)
		s := subject{kind: h.Kind, label: h.Label}
		if was, again := at[s]; again {
			list[was] = h // it changed hands during the walk: whom we meet later has it
			continue
		}
		at[s] = len(list)
		list = append(list, h)
	}
	if c.ring.gate.Load() != gateOpen {
		return nil, c.ring.gateError()
	}
	return list, nil
}

// WaitFree blocks until nobody holds the subject that is T's kind and label, or
// is about to. It returns nil if that was so at a moment during the call: others
// may have waited too and claim it first. It returns the context's error if that
// ends before. Releases are heard at once, a holder's death within 100 ms. It
// holds no thread, and observers can wait as well.
func WaitFree[T Typed](ctx context.Context, c *Contest, label string) error {
	s, err := subjectOf[T](c, label)
	for err == nil {
		// Whatever is announced after this cursor was made ends the wait.
		news := c.ring.Tail()
		h, held, failed := c.holderOf(&s, phaseTentative)
		if failed != nil || !held {
			return failed
		}
		// Neither a death nor the end of a TTL is sure to be announced, nor at all
		// that a claim was given up before it held.
		limit := min(max(h.Left, time.Millisecond), maxSleep)
		if h.Token == 0 {
			limit = time.Millisecond
		}
		err = news.await(ctx, limit)
	}
	return err
}
