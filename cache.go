package orbit

import (
	"iter"
	"math"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// A Cache is a store of bytes by key that the members of a fleet share. It is
// one ring, of kind [KindCache]: a put, a delete and a reset are frames of it,
// and what a key has is what the newest frame about it says. The ring forgets
// by overwriting its oldest frames, so a value lives until it expires or until
// as many frames as the ring has slots were written after it. Unless
// [Options.Rings] says otherwise there are 4096 slots of 1024 bytes, each for
// a key, a prefix and a value.
//
// A handle has a prefix and sees only the keys written through handles of that
// very prefix, in whatever process: prefix "a" with key "bc" is not prefix
// "ab" with key "c". Prefixes and keys are bytes, and may be empty.
//
// The meaning of the cache is a walk over the ring from the newest frame to
// the oldest:
//
//   - A frame not committed, or not of this prefix, is passed over.
//   - A reset, or a delete of the key, is a miss.
//   - A put of the key is a hit, or a miss once it has expired. It shadows
//     what lies before it all the same.
//   - An add of the key is as a put if it counts, and is passed over if not.
//     It counts if, of the frames between those its writer had seen and the
//     add itself, the newest about the key is a delete or a reset, or none is
//     about the key. It does not count while one that is still being written
//     may decide, nor once the ring has not all of them any more that decide,
//     nor if they are more than half the ring or than 256.
//   - The end of the ring is a miss.
//
// A handle does not walk. It keeps an index of the ring in this process, some
// 90 bytes a slot, brought up to date when the ring has changed; otherwise a
// read is a look at the head and at one slot. A process therefore reads its
// own writes, and those of any process that has told it so, whoever else is
// stopped in the middle of a write.
//
// Beside writers that fill the whole ring faster than a reader can follow, time
// and again, a read can miss a key that they put anew all the while.
//
// All methods are safe for concurrent use. They fail with [ErrClosed] once the
// fleet is closed, and with [ErrDamaged] as those of [Ring] do.
type Cache struct {
	// Clock, if set, is read in place of the clock on which values expire,
	// which the processes of one boot share and which never steps. It is for
	// tests: set it before the first use, and alike in all processes.
	Clock func() time.Duration

	ring   *Ring
	prefix string
	keyAt  int // where keys begin in a payload
	maxKey int // the longest key a frame has room for

	hits   stripes
	misses stripes

	mu    sync.Mutex // guards changes of the index, and the buffers below
	index cacheIndex
	taken []byte // the record being taken into the index
	other []byte // a record it is compared with

	// lapped is whether the last bringing up to date found frames below the
	// head that were overwritten meanwhile: the index is of no one moment.
	lapped bool
}

// cacheGeometry is the geometry of the cache's ring unless the options of the
// fleet have another.
var cacheGeometry = Geometry{Capacity: 4096, PayloadLimit: 1024}

// OpenCache returns a handle to the fleet's cache for the keys of a prefix. It
// fails with [ErrTooLarge] for a prefix that leaves no room in a frame, with
// [ErrGeometry] for slots of less than 8 bytes, and as [Fleet.Ring] does. An
// observer's handle reads the cache if there is one, and fails with
// [ErrReadOnly] to write.
//
// Handles cost memory and the work of following the ring: open one per prefix,
// not one per key.
func OpenCache(f *Fleet, prefix string) (*Cache, error) {
	r, err := f.openFor(KindCache, f.geometry(KindCache, cacheGeometry), cacheTexts, 0)
	if err != nil {
		return nil, err
	}
	c := &Cache{ring: r, prefix: prefix, keyAt: cacheTexts + roundUp(len(prefix), wordSize)}
	if len(prefix) > maxCacheText || c.keyAt > r.limit {
		return nil, within(r.place(), sizeError("cache prefix", len(prefix), min(max(r.limit-cacheTexts, 0)&^(wordSize-1), maxCacheText)))
	}
	c.maxKey = min((r.limit-c.keyAt)&^(wordSize-1), maxCacheText)
	if err := c.prepare(); err != nil {
		return nil, err
	}
	return c, nil
}

// prepare makes the index, ready to take the frames that the ring holds.
func (c *Cache) prepare() (err error) {
	r := c.ring
	defer r.catchFault(enterGuard(), &err)
	if r.gate.Load() != gateOpen {
		return r.gateError()
	}
	c.index.init(r.header.capacity, r.oldest(atomic.LoadUint64(r.head)), atomic.LoadUint64(r.first))
	return nil
}

// Prefix returns the prefix of the handle.
func (c *Cache) Prefix() string { return c.prefix }

// Ring returns the ring under the cache, for cursors and statistics.
func (c *Cache) Ring() *Ring { return c.ring }

func (c *Cache) place() string {
	return "cache " + quote(c.prefix) + " of fleet " + quote(c.ring.fleet.name)
}

func (c *Cache) now() int64 {
	if c.Clock != nil {
		return int64(c.Clock())
	}
	return clockNow()
}

// deadline returns when a value put now expires, 0 for never.
func (c *Cache) deadline(ttl time.Duration) int64 {
	if ttl == 0 {
		return 0
	}
	now := c.now()
	at := now + int64(ttl)
	switch {
	case ttl > 0 && at < now:
		return math.MaxInt64
	case ttl < 0:
		return math.MinInt64 / 2 // over by every clock
	case at == 0:
		return -1
	}
	return at
}

// ---- Writing ----

// Put makes value what the key has, for the time ttl, or until the ring pushes
// it out if ttl is 0. A negative ttl is one that has passed: the key has
// nothing from the start.
//
// It fails with [ErrTooLarge] if key and value do not fit into a frame, with
// [ErrReadOnly] for an observer, and with [ErrBusy] as [Ring.Publish] does.
// It does not allocate, and costs as much as Publish.
func (c *Cache) Put(key string, value []byte, ttl time.Duration) error {
	if c.tooLarge(key, len(value)) {
		return c.refuse(key, len(value))
	}
	_, err := c.publish(cachePut, 0, c.deadline(ttl), key, value)
	return err
}

// Delete makes the key have nothing. It fails as [Cache.Put].
func (c *Cache) Delete(key string) error {
	if c.tooLarge(key, 0) {
		return c.refuse(key, 0)
	}
	_, err := c.publish(cacheDelete, 0, 0, key, nil)
	return err
}

// Reset makes all keys of the handle's prefix have nothing, and leaves those
// of other prefixes. It is one frame, and has its place among puts by its
// counter: one that others began later and finished earlier stays. It fails as
// [Cache.Put].
func (c *Cache) Reset() error {
	if c.tooLarge("", 0) {
		return c.refuse("", 0)
	}
	_, err := c.publish(cacheReset, 0, 0, "", nil)
	return err
}

// tooLarge tells whether a key and a value do not fit into a frame, as nothing
// does on a read-only ring.
func (c *Cache) tooLarge(key string, value int) bool {
	return len(key) > c.maxKey || value > c.ring.room-c.keyAt-roundUp(len(key), wordSize)
}

// refuse says why a key with a value of n bytes cannot be written.
func (c *Cache) refuse(key string, n int) error {
	if c.ring.room < 0 {
		return within(c.place(), ErrReadOnly)
	}
	text := "key of " + itoa(len(key)) + " bytes and value of " + itoa(n) + " bytes, limit " +
		itoa(c.ring.limit-c.keyAt) + " for both with the key in whole words of " + itoa(wordSize)
	if len(key) > maxCacheText {
		text += " and " + itoa(maxCacheText) + " for the key"
	}
	return within(c.place(), problem(text, ErrTooLarge))
}

// publish writes one record and returns the counter of its frame.
func (c *Cache) publish(op uint8, settled uint64, expiry int64, key string, value []byte) (uint64, error) {
	if c.ring.unsafely {
		return c.write(op, settled, expiry, key, value)
	}
	return c.guardedWrite(op, settled, expiry, key, value)
}

func (c *Cache) guardedWrite(op uint8, settled uint64, expiry int64, key string, value []byte) (n uint64, err error) {
	defer c.ring.catchFault(enterGuard(), &err)
	n, err = c.write(op, settled, expiry, key, value)
	return
}

// write is [Ring.publish] for a record: it puts the parts where they belong
// without a copy of them all.
func (c *Cache) write(op uint8, settled uint64, expiry int64, key string, value []byte) (uint64, error) {
	r := c.ring
	for range maxAttempts {
		n, err := r.claim()
		if err != nil {
			return 0, err
		}
		s := r.slot(n)
		at := c.putRecord(s, settled, key)
		r.putHeader(s, op, uint64(expiry), at+len(value))
		r.mem.putBytes(unsafe.Add(s, at), value)
		if r.commit(s, n) {
			r.notify()
			runtime.KeepAlive(r)
			return n, nil
		}
	}
	return 0, r.fail(ErrBusy, "lapped at every attempt")
}

// putRecord writes all but the value, and returns where that begins.
func (c *Cache) putRecord(s unsafe.Pointer, settled uint64, key string) int {
	putWord(s, offPayload, cacheLengths(len(c.prefix), len(key))|settled<<32)
	return putText(s, putText(s, cacheTexts, c.prefix), key)
}

// Add is [Cache.Put] for a key that has nothing: of all who add a key at once,
// in whatever process, exactly one is told that it added. It never waits: an
// unfinished write in its way is made void, and whoever was at it, if it ever
// goes on, writes again. An added value may be pushed out by the ring a few
// frames earlier than one that was put; then the key can be added again.
//
// It fails as [Cache.Put] does, and with [ErrBusy] if others wrote so much
// between its look at the key and its own frame, again and again, that nobody
// could tell whether the key had nothing; or so much after that, while it was
// stopped, that it cannot tell any more whether it added.
func (c *Cache) Add(key string, value []byte, ttl time.Duration) (added bool, err error) {
	if c.tooLarge(key, len(value)) {
		return false, c.refuse(key, len(value))
	}
	defer c.ring.catchFault(enterGuard(), &err)
	hash, expiry := c.index.hash(key), c.deadline(ttl)
	for range maxAttempts {
		settled, found, err := c.settle(key, hash)
		if err != nil || found {
			return false, err
		}
		n, err := c.write(cacheAdd, settled, expiry, key, value)
		if err != nil {
			return false, err
		}
		if won, err := c.won(n, uint32(settled), key); won || err != nil {
			return won, err
		}
	}
	return false, within(c.place(), problem("too many writers to add beside", ErrBusy))
}

// settle finds out whether the key has a value, and up to which counter that
// is settled: no frame below can be committed any more.
func (c *Cache) settle(key string, hash uint64) (settled uint64, found bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err = c.sync(); err != nil {
		return 0, false, err
	}
	for i := range c.index.waiting.Load() {
		c.ring.strike(c.index.pending[i].counter.Load())
	}
	var a cacheAnswer
	if _, err = c.findLocked(nil, key, hash, &a, false); err != nil {
		return 0, false, err
	}
	return c.index.settled(), a.hit, nil
}

// won tells whether the add in frame n counts, after it made sure that this is
// settled for good.
func (c *Cache) won(n uint64, settled uint32, key string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range maxAttempts {
		verdict, at := c.judge(n, settled, key)
		switch {
		case c.ring.gate.Load() != gateOpen:
			return false, c.ring.gateError()
		case verdict == addGone:
			// It may have counted for others, and must not count twice.
			return false, within(c.place(), problem("too many writers to tell whether the key was added", ErrBusy))
		case verdict != addOpen:
			return verdict == addCounts, nil
		}
		c.ring.strike(at)
	}
	return false, nil
}

// ---- Reading ----

// CacheMeta is what a handle knows about a key besides its value.
type CacheMeta struct {
	// Hit tells whether the key has a value.
	Hit bool
	// Epoch is the counter of the frame that decided: the put or add of a
	// hit, the delete, reset or expired put of a miss, or the frame that the
	// ring pushed out. It is 0 if no frame did, and if the ring's first did. As
	// long as there is a hit and Epoch stays, so does the value: what a caller made
	// of it is good until then. Epoch alone does not tell: a value that expires, or
	// that the ring pushes out, is a miss with the epoch it had as a hit.
	Epoch uint64
	// Expiry is when the value expires or has expired, on the clock of the
	// cache. It is 0 if it never does.
	Expiry Stamp
	// Evicted tells that a miss is one only because the ring pushed out a
	// value that had not expired. A handle knows this of frames that were
	// pushed out since it was opened, and remembers it for one lap of the
	// ring. A frame that was written and pushed out between two uses of the
	// handle it never saw.
	Evicted bool
}

// Get returns a copy of the key's value, and whether it has one.
func (c *Cache) Get(key string) (value []byte, ok bool, err error) {
	return c.AppendGet(nil, key)
}

// AppendGet appends the key's value to dst and returns the extended slice, and
// whether the key has a value. It does not allocate if dst has room, once the
// handle has met the longest key, and with the ring unchanged costs a few loads
// and the copy. It makes a system call only while an add is open, to ask whether
// the writer of the unfinished frame that may decide it is alive.
func (c *Cache) AppendGet(dst []byte, key string) (extended []byte, ok bool, err error) {
	if c.ring.unsafely {
		return c.get(dst, key)
	}
	return c.guardedGet(dst, key)
}

func (c *Cache) guardedGet(dst []byte, key string) (extended []byte, ok bool, err error) {
	extended = dst
	defer c.ring.catchFault(enterGuard(), &err)
	extended, ok, err = c.get(dst, key)
	return
}

// get is, in line, the likely case of a read: the index is complete, the first
// frame it leads to is a put of the key that does not expire, and dst has room
// for the value. [Cache.lookup] knows the others.
func (c *Cache) get(dst []byte, key string) ([]byte, bool, error) {
	r, x := c.ring, &c.index
	hash := x.hash(key)
	head := atomic.LoadUint64(r.head)
	if head != x.complete.Load() { // before the index is looked at, and after
		return c.appendGet(dst, key)
	}
	i := x.buckets[hash&x.mask].Load()
	e := &x.entries[i]
	link := uint32(e.link.Load())
	if link&^linkExpires != cachePut || link&linkExpires != 0 && e.expiry.Load() <= c.now() {
		return c.appendGet(dst, key)
	}
	n := e.counter.Load()
	s := r.slot(n)
	at := c.keyAt + roundUp(len(key), wordSize)
	length := int(uint32(getWord(s, offMeta))) - at
	if int64(n-x.floor.Load()) < 0 || int64(n-atomic.LoadUint64(r.first)) < 0 ||
		length < 0 || length > min(r.limit-at, cap(dst)-len(dst)) || !c.about(s, key) {
		return c.appendGet(dst, key)
	}
	r.mem.appendBytes(dst, unsafe.Add(s, at), length)
	if atomic.LoadUint64((*uint64)(s)) != n<<counterShift|phaseDone || x.complete.Load() != head || r.gate.Load() != gateOpen {
		return c.appendGet(dst, key)
	}
	c.hits.add(hash)
	return dst[:len(dst)+length], true, nil
}

func (c *Cache) appendGet(dst []byte, key string) ([]byte, bool, error) {
	var a cacheAnswer
	dst, err := c.lookup(dst, key, &a, true)
	c.count(&a, err)
	return dst, a.hit, err
}

// GetMeta is [Cache.AppendGet] with all that is known about the key.
func (c *Cache) GetMeta(dst []byte, key string) (extended []byte, meta CacheMeta, err error) {
	var a cacheAnswer
	dst, err = c.find(dst, key, &a, true)
	c.count(&a, err)
	return dst, c.meta(&a), err
}

// Stat returns what is known about the key without its value, and counts as
// neither hit nor miss. A caller who keeps what it made of a value asks here
// whether the key still has one, of the same epoch.
func (c *Cache) Stat(key string) (meta CacheMeta, err error) {
	var a cacheAnswer
	_, err = c.find(nil, key, &a, false)
	return c.meta(&a), err
}

func (c *Cache) meta(a *cacheAnswer) CacheMeta {
	return CacheMeta{Hit: a.hit, Epoch: a.epoch, Expiry: Stamp(a.expiry), Evicted: a.evicted}
}

func (c *Cache) count(a *cacheAnswer, err error) {
	switch {
	case a.hit:
		c.hits.add(a.hash)
	case err == nil:
		c.misses.add(a.hash)
	}
}

// All iterates over the keys of the handle's prefix that have a value when the
// iteration begins, in the order in which the values were written, each with
// the value it has at its turn; keys that have none by then are left out. A
// value is valid until the next turn. It costs time and memory in proportion
// to the keys, and ends early if the fleet is closed.
func (c *Cache) All() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		var buf []byte
		for _, key := range c.keys() {
			var a cacheAnswer
			value, err := c.find(buf[:0], key, &a, true)
			if err != nil {
				return
			}
			buf = value
			if a.hit && !yield(key, slices.Clip(value)) {
				return
			}
		}
	}
}

// keys returns the keys that have a value.
func (c *Cache) keys() (keys []string) {
	var err error // without an index there are no keys
	defer c.ring.catchFault(enterGuard(), &err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err = c.sync(); err != nil {
		return nil
	}
	for e := range c.index.values(c.now()) {
		if rec, ok := c.recordAt(e.counter.Load(), &c.taken); ok {
			keys = append(keys, string(rec.key))
		}
	}
	return keys
}

// CacheStats counts what a handle did and has.
type CacheStats struct {
	Hits      uint64 // reads that found a value
	Misses    uint64 // reads that found none
	Evictions uint64 // values pushed out by the ring before they expired, as far as the handle saw them
	Entries   int    // keys that have a value
}

// Stats returns the counts of this handle. It costs time in proportion to the
// ring's capacity.
func (c *Cache) Stats() (s CacheStats, err error) {
	defer c.ring.catchFault(enterGuard(), &err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err = c.sync(); err != nil {
		return s, err
	}
	s = CacheStats{Hits: c.hits.sum(), Misses: c.misses.sum(), Evictions: c.index.evictions}
	for range c.index.values(c.now()) {
		s.Entries++
	}
	return s, nil
}

// cacheAnswer is what the index and the slot it leads to say about a key.
type cacheAnswer struct {
	hit     bool
	evicted bool
	moved   bool // the slot has a newer frame: look again
	late    bool // the clock was read after the head
	epoch   uint64
	expiry  int64
	hash    uint64

	// The time as of which values are judged, once one asked for it. What was
	// put before a value expired is below a head that is read after that.
	now     int64
	clocked bool
}

// find looks a key up, and appends its value to dst if it is wanted.
func (c *Cache) find(dst []byte, key string, a *cacheAnswer, want bool) ([]byte, error) {
	if c.ring.unsafely {
		return c.lookup(dst, key, a, want)
	}
	return c.guardedLookup(dst, key, a, want)
}

func (c *Cache) guardedLookup(dst []byte, key string, a *cacheAnswer, want bool) (out []byte, err error) {
	out = dst
	defer c.ring.catchFault(enterGuard(), &err)
	out, err = c.lookup(dst, key, a, want)
	return
}

// lookup finds a key without a lock if the index is up to date and stays so
// meanwhile, and under the lock otherwise.
func (c *Cache) lookup(dst []byte, key string, a *cacheAnswer, want bool) ([]byte, error) {
	hash := c.index.hash(key)
	if seq := c.index.seq.Load(); seq&1 == 0 && c.current() {
		out := c.answer(dst, key, hash, a, want)
		if !a.moved && (a.hit || !a.late) && c.index.seq.Load() == seq && c.ring.gate.Load() == gateOpen {
			return out, nil
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.findLocked(dst, key, hash, a, want)
}

// current tells whether the index has all that the ring has: the head is where
// it was, and the frames that were unfinished still are.
func (c *Cache) current() bool {
	r, x := c.ring, &c.index
	if atomic.LoadUint64(r.head) != x.next.Load() || atomic.LoadUint64(r.first) != x.first.Load() {
		return false
	}
	for i := range x.waiting.Load() {
		p := &x.pending[i]
		if atomic.LoadUint64((*uint64)(r.slot(p.counter.Load()))) != p.state.Load() {
			return false
		}
	}
	return true
}

// findLocked brings the index up to date and asks it.
func (c *Cache) findLocked(dst []byte, key string, hash uint64, a *cacheAnswer, want bool) ([]byte, error) {
	moved := false
	for attempt := range maxAttempts {
		changed, err := c.sync()
		if err != nil {
			*a = cacheAnswer{}
			return dst, err
		}
		out := c.answer(dst, key, hash, a, want)
		if c.ring.gate.Load() != gateOpen {
			*a = cacheAnswer{}
			return dst, c.ring.gateError()
		}
		if a.hit && c.lapped && int64(a.epoch-c.ring.oldest(atomic.LoadUint64(c.ring.head))) < 0 {
			// The newest frame of the key may have been overwritten before it was
			// taken. One before that has left the ring by then, even if whoever took
			// its slot has not marked it yet.
			a.hit, a.moved = false, true
		}
		if !a.moved {
			if a.hit || !a.late && !c.lapped || attempt >= maxLaps {
				return out, nil
			}
			continue // a miss of no one moment
		}
		// The slot was marked for a newer frame. If after that the index was
		// still up to date, the value is simply gone; otherwise ask again.
		if moved && !changed {
			a.moved = false
			if !a.evicted {
				a.epoch, a.expiry = 0, 0
			}
			return dst, nil
		}
		moved = true
	}
	*a = cacheAnswer{}
	return dst, within(c.place(), problem("overwritten at every attempt", ErrBusy))
}

// maxLaps is how often a miss is asked about again because the ring was lapped
// during the look. Writers that are faster than a reader can follow could go on
// for ever.
const maxLaps = 1

// answer asks the index for a key, and the ring for what the index points to.
// It may run while the index changes: then its answer is void.
func (c *Cache) answer(dst []byte, key string, hash uint64, a *cacheAnswer, want bool) []byte {
	x := &c.index
	*a = cacheAnswer{hash: hash, now: a.now, clocked: a.clocked}
	if len(key) > c.maxKey {
		return dst
	}
	floor := x.floor.Load()
	for i := x.bucket(hash).Load(); i != 0; {
		e := &x.entries[i]
		link := e.link.Load()
		i = uint32(link >> linkNext)
		if e.hash.Load() != hash {
			continue
		}
		n := e.counter.Load()
		if int64(n-floor) >= 0 {
			if out, same := c.examine(dst, key, e, link, n, a, want); same {
				return out
			}
		} else if uint8(link) == cacheGhost && !a.moved && x.recent(n) && c.unexpired(e, a) {
			a.evicted, a.epoch, a.expiry = true, n, e.expiry.Load()
		}
	}
	if reset := x.reset.Load(); !a.moved && int64(reset-x.oldest.Load()) > 0 {
		a.epoch = reset - 1
	}
	return dst
}

// examine looks at frame n, to which the index leads for the key's hash. It
// tells whether the frame is about this key, and then what that means.
func (c *Cache) examine(dst []byte, key string, e *cacheEntry, link, n uint64, a *cacheAnswer, want bool) (out []byte, same bool) {
	r := c.ring
	s, st := r.slot(n), n<<counterShift|phaseDone
	at := c.keyAt + roundUp(len(key), wordSize)
	length := int(uint32(getWord(s, offMeta))) - at
	if length < 0 || length > r.limit-at || !c.about(s, key) {
		if atomic.LoadUint64((*uint64)(s)) != st {
			c.moved(e, link, n, a)
		}
		return dst, false
	}
	hit := uint8(link) != cacheDelete && c.unexpired(e, a)
	if hit && want {
		dst = slices.Grow(dst, length)
		r.mem.appendBytes(dst, unsafe.Add(s, at), length)
		dst = dst[:len(dst)+length]
	}
	if atomic.LoadUint64((*uint64)(s)) != st || uint16(link>>linkBack) != 0 && c.voided(n, uint16(link>>linkBack)) {
		c.moved(e, link, n, a)
		return dst, false
	}
	a.hit, a.evicted, a.moved, a.epoch, a.expiry = hit, false, false, n, e.expiry.Load()
	return dst, true
}

// about tells whether the record in a slot, which is of the handle's prefix,
// is about a key. A frame must have room for the key.
func (c *Cache) about(s unsafe.Pointer, key string) bool {
	return uint32(getWord(s, offPayload)) == uint32(cacheLengths(len(c.prefix), len(key))) && sameText(s, c.keyAt, key)
}

// unexpired tells whether the value of an entry has time to live.
func (c *Cache) unexpired(e *cacheEntry, a *cacheAnswer) bool {
	expiry := e.expiry.Load()
	if expiry != 0 && !a.clocked {
		a.now, a.clocked, a.late = c.now(), true, true
	}
	return expiry == 0 || a.now < expiry
}

// moved notes that the key's frame was overwritten: the answer unless there is
// a newer one.
func (c *Cache) moved(e *cacheEntry, link, n uint64, a *cacheAnswer) {
	a.moved, a.epoch, a.expiry = true, n, e.expiry.Load()
	a.evicted = uint8(link) != cacheDelete && c.unexpired(e, a)
}

// voided tells whether the frames that an add stands on are no longer all
// there.
func (c *Cache) voided(n uint64, back uint16) bool {
	low := n - uint64(back)
	return int64(low-c.index.oldest.Load()) < 0 || since(atomic.LoadUint64((*uint64)(c.ring.slot(low))), low) > 0
}

// ---- Following the ring ----

// sync brings the index up to date, and tells whether there was news. The head
// is read first: a frame committed before the call is below it.
func (c *Cache) sync() (changed bool, err error) {
	r, x := c.ring, &c.index
	if r.gate.Load() != gateOpen {
		return false, r.gateError()
	}
	c.lapped = false
	head, first := atomic.LoadUint64(r.head), atomic.LoadUint64(r.first)
	if x.seq.Load()&1 != 0 { // a fault in the roster ended the last change half way
		x.clear(r.oldest(head))
		x.seq.Add(1)
		changed = true
	}
	next := x.next.Load()
	changed = changed || head != next || first != x.first.Load()
	if !changed && x.waiting.Load() == 0 {
		return false, nil
	}
	x.complete.Store(head ^ 1<<63) // ages away from any head
	x.seq.Add(1)
	if int64(head-next) < 0 { // only in a damaged fleet
		x.clear(r.oldest(head))
		next = x.next.Load()
	}
	c.expel(r.oldest(head), first)
	changed = c.revisit() || changed
	// The newest first: writers who go on meanwhile overwrite the oldest.
	for n, low := head, later(next, x.oldest.Load()); int64(n-low) > 0; {
		n--
		c.take(n)
	}
	x.next.Store(head)
	x.seq.Add(1)
	if x.waiting.Load() == 0 && !c.lapped {
		x.complete.Store(head)
	}
	return changed, nil
}

// later returns the later of two counters.
func later(a, b uint64) uint64 {
	if int64(a-b) < 0 {
		return b
	}
	return a
}

// expel makes oldest the oldest counter of the index. Values that newer frames
// overwrote are kept in mind; those that a reset of the ring took are not.
func (c *Cache) expel(oldest, first uint64) {
	x := &c.index
	var now int64
	reset := atomic.LoadUint64(c.ring.first) // oldest may be of a later one than first
	for n := x.oldest.Load(); int64(oldest-n) > 0 && int64(x.next.Load()-n) > 0; n++ {
		i := x.entryOf(n)
		e := &x.entries[i]
		if e.counter.Load() != n || e.link.Load() == 0 {
			continue
		}
		if now == 0 && e.expiry.Load() != 0 {
			now = c.now()
		}
		if int64(n-reset) >= 0 && x.hasValue(e, now) {
			x.evictions++
			e.link.Store(e.link.Load() | cacheGhost)
		} else {
			x.unlink(i)
		}
	}
	x.oldest.Store(oldest)
	x.first.Store(first)
	x.floor.Store(later(oldest, x.reset.Load()))
}

// revisit looks again at the frames that were unfinished, and tells whether
// one no longer is.
func (c *Cache) revisit() (changed bool) {
	r, x := c.ring, &c.index
	waiting := x.waiting.Load()
	x.waiting.Store(0)
	for i := range waiting {
		n, st := x.pending[i].counter.Load(), x.pending[i].state.Load()
		kept := x.waiting.Load()
		switch {
		case int64(n-x.oldest.Load()) < 0:
		case atomic.LoadUint64((*uint64)(r.slot(n))) == st:
			x.wait(n, st)
		default:
			c.take(n)
		}
		changed = changed || x.waiting.Load() == kept
	}
	return changed
}

// take puts frame n into the index. It may come late: frames are compared by
// their counters.
func (c *Cache) take(n uint64) {
	x := &c.index
	st := atomic.LoadUint64((*uint64)(c.ring.slot(n)))
	if d := since(st, n); d < 0 || d == 0 && st&phaseMask == phaseWriting {
		x.wait(n, st)
		return
	}
	rec, ok := c.recordAt(n, &c.taken)
	if !ok {
		// Where a frame was, there may be a newer one about the same key.
		c.lapped = c.lapped || since(atomic.LoadUint64((*uint64)(c.ring.slot(n))), n) > 0
		return
	}
	if string(rec.prefix) != c.prefix {
		return
	}
	if rec.op == cacheReset {
		x.reset.Store(later(n+1, x.reset.Load()))
		x.floor.Store(later(x.oldest.Load(), x.reset.Load()))
		return
	}
	key := unsafe.String(unsafe.SliceData(rec.key), len(rec.key))
	low := n
	if rec.op == cacheAdd {
		verdict, at := c.judge(n, rec.settled, key)
		switch verdict {
		case addOpen:
			x.wait(n, stateOpen)
			return
		case addGone:
			// What it stands on may have gone since the head was read.
			c.lapped = c.lapped || int64(at-x.oldest.Load()) >= 0
			return
		case addFailed:
			return
		}
		low = at
	}
	if hash := x.hash(key); c.supersede(n, hash, key) {
		x.insert(n, hash, rec.expiry, rec.op, uint16(n-low))
	}
}

// recordAt reads the record in frame n, if that is committed, into buf.
func (c *Cache) recordAt(n uint64, buf *[]byte) (rec cacheRecord, ok bool) {
	r := c.ring
	s, st := r.slot(n), n<<counterShift|phaseDone
	if atomic.LoadUint64((*uint64)(s)) != st {
		return rec, false
	}
	meta, expiry := getWord(s, offMeta), int64(getWord(s, offVersion))
	length, end := int(uint32(meta)), cacheValueAt(getWord(s, offPayload))
	if uint(length) > uint(r.limit) || end > length {
		return rec, false
	}
	*buf = r.mem.appendBytes((*buf)[:0], s, end)
	if atomic.LoadUint64((*uint64)(s)) != st {
		return rec, false
	}
	return decodeCacheRecord(uint8(meta>>40), expiry, *buf)
}

// What becomes of an add.
const (
	addCounts = iota
	addFailed // somebody else's value came first
	addGone   // the ring has not all of the frames any more that decide
	addOpen   // an unfinished frame decides
)

// maxAddWindow is how many frames may lie between the look at a key and the
// add that follows it.
const maxAddWindow = 256

// judge tells whether the add of a key in frame n counts. What its writer saw
// below the counter settled needs no second look: there was no value, and no
// frame below was still to come. So the newest frame about the key in between
// decides. An add that counts stands on all frames from at on: they say so as
// long as the ring has them. An open one waits for the frame at.
func (c *Cache) judge(n uint64, settled uint32, key string) (verdict int, at uint64) {
	r := c.ring
	window := uint32(n) - settled
	if int64(window) > int64(min(r.header.capacity/2, maxAddWindow)) {
		return addFailed, n
	}
	low := n - uint64(window)
	for q := n - 1; int64(q-low) >= 0; q-- {
		switch _, _, status := r.look(q); status {
		case nil:
		case ErrPending, errUnmarked:
			return addOpen, q
		case ErrHole, ErrLost:
			continue
		default:
			return addGone, q
		}
		rec, ok := c.recordAt(q, &c.other)
		switch {
		case !ok && atomic.LoadUint64((*uint64)(r.slot(q))) != q<<counterShift|phaseDone:
			return addGone, q
		case !ok || string(rec.prefix) != c.prefix:
		case rec.op == cacheReset, string(rec.key) == key && rec.op == cacheDelete:
			return addCounts, q
		case string(rec.key) == key:
			return addFailed, q
		}
	}
	return addCounts, low
}

// supersede takes what the index has about a key from before frame n out of
// it. It tells whether n is the newest about the key.
func (c *Cache) supersede(n, hash uint64, key string) bool {
	x := &c.index
	if int64(n-x.floor.Load()) < 0 {
		return false
	}
	for i := x.bucket(hash).Load(); i != 0; {
		e := &x.entries[i]
		this, other := i, e.counter.Load()
		i = uint32(e.link.Load() >> linkNext)
		if e.hash.Load() != hash {
			continue
		}
		if int64(other-x.floor.Load()) >= 0 {
			s := c.ring.slot(other)
			if !c.about(s, key) && atomic.LoadUint64((*uint64)(s)) == other<<counterShift|phaseDone {
				continue
			}
			if int64(other-n) > 0 {
				return false
			}
		}
		x.unlink(this)
	}
	return true
}

// ---- The index ----

// A cacheIndex finds the newest frame about a key. It has an entry for each
// counter of the last two laps: of the last one, what the ring holds, and of
// the one before, the values that were pushed out of it. Entry n % (2 laps) is
// that of counter n, so that the index never grows; entries of one bucket of
// hashes are linked. It knows hashes only, the keys are in the ring.
//
// Changes are made under the cache's lock. Readers without it look at seq
// before and after: an odd or another number voids what they found.
type cacheIndex struct {
	seq      atomic.Uint64
	complete atomic.Uint64 // equal to next if none of them is pending, otherwise to no head
	next     atomic.Uint64 // counters below are in the index, or pending
	first    atomic.Uint64 // the ring's first
	oldest   atomic.Uint64 // the oldest counter the ring holds
	reset    atomic.Uint64 // the counter after the newest reset
	floor    atomic.Uint64 // the later of oldest and reset: from here on frames count
	waiting  atomic.Int32  // how many are pending

	seed      uint64
	mask      uint64
	buckets   []atomic.Uint32 // number of the first entry, from 1
	entries   []cacheEntry
	pending   []pendingFrame
	evictions uint64
}

// cacheEntry is about one frame. Its link is
//
//	number of the next entry of the bucket : 32 | expires : 8 | back : 16 | op : 8
//
// and 0 if the entry is free. An add stands on back frames before it.
type cacheEntry struct {
	counter atomic.Uint64
	hash    atomic.Uint64
	expiry  atomic.Int64
	link    atomic.Uint64
}

const (
	linkBack    = 8
	linkExpires = 1 << 24
	linkNext    = 32
	// cacheGhost is the op of a value that was pushed out.
	cacheGhost = 0xff
)

// pendingFrame is a frame that was unfinished when its slot was in this state.
type pendingFrame struct{ counter, state atomic.Uint64 }

// stateOpen is no state of a slot. It stands for an add that is committed but
// open: it is looked at again whatever its own slot says.
const stateOpen = 1<<64 - 1

func (x *cacheIndex) init(capacity int, oldest, first uint64) {
	x.seed = rand.Uint64()
	x.mask = uint64(2*capacity - 1)
	x.buckets = make([]atomic.Uint32, 2*capacity)
	x.entries = make([]cacheEntry, 2*capacity+1)
	x.pending = make([]pendingFrame, capacity)
	x.first.Store(first)
	x.restart(oldest)
}

// restart makes n the next counter of an empty index.
func (x *cacheIndex) restart(n uint64) {
	x.next.Store(n)
	x.oldest.Store(n)
	x.reset.Store(n)
	x.floor.Store(n)
	x.waiting.Store(0)
}

// clear forgets everything before counter n.
func (x *cacheIndex) clear(n uint64) {
	for i := range x.buckets {
		x.buckets[i].Store(0)
		x.entries[i+1].link.Store(0)
	}
	x.restart(n)
}

// hash spreads keys over the buckets, two words at a time. The seed keeps
// others from choosing keys that meet in one.
func (x *cacheIndex) hash(key string) uint64 {
	h, n := x.seed^uint64(len(key)), len(key)
	i := 0
	for ; n-i > 2*wordSize; i += 2 * wordSize {
		h = fold(h^textWord(key, i), oddWord^textWord(key, i+wordSize))
	}
	if n >= wordSize {
		// The last two words may overlap what went before.
		return fold(h^wordAt(key, min(i, n-wordSize)), oddWord^wordAt(key, n-wordSize))
	}
	return fold(h^textWord(key, 0), oddWord)
}

const oddWord = 0x9e3779b97f4a7c15

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

func (x *cacheIndex) bucket(hash uint64) *atomic.Uint32 { return &x.buckets[hash&x.mask] }

// entryOf returns the number of the entry of a counter.
func (x *cacheIndex) entryOf(n uint64) uint32 { return uint32(n&x.mask) + 1 }

// insert links the entry of frame n.
func (x *cacheIndex) insert(n, hash uint64, expiry int64, op uint8, back uint16) {
	i := x.entryOf(n)
	e := &x.entries[i]
	if e.link.Load() != 0 {
		x.unlink(i)
	}
	b := x.bucket(hash)
	e.counter.Store(n)
	e.hash.Store(hash)
	e.expiry.Store(expiry)
	link := uint64(b.Load())<<linkNext | uint64(back)<<linkBack | uint64(op)
	if expiry != 0 {
		link |= linkExpires
	}
	e.link.Store(link)
	b.Store(i)
}

// unlink frees entry i.
func (x *cacheIndex) unlink(i uint32) {
	e := &x.entries[i]
	next := e.link.Load() >> linkNext
	e.link.Store(0)
	b := x.bucket(e.hash.Load())
	if b.Load() == i {
		b.Store(uint32(next))
		return
	}
	for j := b.Load(); j != 0; {
		p := &x.entries[j]
		link := p.link.Load()
		if j = uint32(link >> linkNext); j == i {
			p.link.Store(link&(1<<linkNext-1) | next<<linkNext)
			return
		}
	}
}

// wait notes that frame n is unfinished.
func (x *cacheIndex) wait(n, state uint64) {
	i := x.waiting.Load()
	x.pending[i].counter.Store(n)
	x.pending[i].state.Store(state)
	x.waiting.Store(i + 1)
}

// settled returns the lowest counter of an unfinished frame, or the next one.
func (x *cacheIndex) settled() uint64 {
	n := x.next.Load()
	for i := range x.waiting.Load() {
		if p := x.pending[i].counter.Load(); int64(p-n) < 0 {
			n = p
		}
	}
	return n
}

// hasValue tells whether a frame of the ring has a value at a time.
func (x *cacheIndex) hasValue(e *cacheEntry, now int64) bool {
	op, expiry := uint8(e.link.Load()), e.expiry.Load()
	return (op == cachePut || op == cacheAdd) && (expiry == 0 || now < expiry) && int64(e.counter.Load()-x.reset.Load()) >= 0
}

// values iterates over the entries of frames that are values at a time, oldest
// first.
func (x *cacheIndex) values(now int64) iter.Seq[*cacheEntry] {
	return func(yield func(*cacheEntry) bool) {
		oldest := x.oldest.Load()
		for n := oldest; int64(x.next.Load()-n) > 0; n++ {
			e := &x.entries[x.entryOf(n)]
			back := uint64(uint16(e.link.Load() >> linkBack))
			if e.counter.Load() == n && x.hasValue(e, now) && int64(n-back-oldest) >= 0 && !yield(e) {
				return
			}
		}
	}
}

// recent tells whether the ring pushed frame n out not more than a lap ago,
// and no reset came after it.
func (x *cacheIndex) recent(n uint64) bool {
	return x.next.Load()-n <= x.mask+1 && int64(n-x.reset.Load()) >= 0
}

// stripes is a counter for many goroutines at once, spread over cache lines.
type stripes [8]struct {
	n atomic.Uint64
	_ [cacheLine - 8]byte
}

func (s *stripes) add(hash uint64) { s[hash>>61].n.Add(1) }

func (s *stripes) sum() (n uint64) {
	for i := range s {
		n += s[i].n.Load()
	}
	return n
}
