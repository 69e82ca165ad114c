package orbit

import (
	"context"
	"encoding/binary"
	"iter"
	"math/bits"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// A slot is one state word, two words about the frame, and the payload:
//
//	state u64 | meta u64 | version u64 | payload
//
// meta is node:16 | kind:8 | zero:8 | length:32. The id is not stored: it is
// the ring's kind, the node, and the counter that the state names.
//
// The state word says everything about a slot at once:
//
//	63                     24 23                2 1     0
//	+------------------------+-------------------+-------+
//	|      counter : 40      |     owner : 22    | phase |
//	+------------------------+-------------------+-------+
//
//	skipped(c)    counter c carries no frame; the slot is free
//	done(c)       frame c is committed; the slot is free to be lapped
//	writing(c,o)  member o owns the slot and is writing frame c
//	busy(c,o)     counter c was passed by: o still owns the slot for an older frame
//
// The legal transitions, each one compare-and-swap, with c < h:
//
//	skipped(c), done(c)            -> writing(h,me)   claim
//	skipped(c), done(c)            -> skipped(h)      mint, void
//	writing(c,o), busy(c,o)        -> busy(h,o)       step round a live owner; mint, void
//	writing(c,o), busy(c,o), o dead -> writing(h,me)  claim: the dead do not write again
//	writing(c,o)                   -> busy(c,o)       strike: the cache's add makes a frame void
//	writing(c,me)                  -> done(c)         commit
//	busy(h,me)                     -> skipped(h)      lapped: let the slot go
//
// Only a slot's owner writes its other words, and nobody owns a slot another
// live member owns: that is why no frame is ever torn (a reader that overlaps
// a later owner sees the state word change).
//
// Counters are tickets: a claimant takes the next by adding one to the head,
// and then marks the slot. So below the head a slot names its counter or a later
// one, or the claimant has not marked it yet and, if it died, never will. Such a
// counter can be explained by anybody at any time: to void it makes it a hole,
// and a claimant who comes too late finds it named and takes another ticket.
// Nothing above the head is ever named.
const (
	phaseSkipped = 0
	phaseDone    = 1
	phaseWriting = 2
	phaseBusy    = 3

	heldBit      = 2 // set in the phases in which a member owns the slot
	phaseMask    = 3
	ownerShift   = 2
	ownerBits    = 22
	counterShift = ownerShift + ownerBits
	ownerMask    = (1<<ownerBits - 1) << ownerShift
	counterMask  = (1<<CounterBits - 1) << counterShift

	slotHeaderSize = 3 * 8
	offMeta        = 8
	offVersion     = 16
	offPayload     = slotHeaderSize
)

// since returns the distance from counter c to the counter that state names:
// negative if the state is older. Only 40 bits travel in the state, so the
// subtraction is made at the top of the word, where it wraps as they do.
func since(state, c uint64) int64 {
	return int64(state&counterMask-c<<counterShift) >> counterShift
}

// A Geometry is the shape of a ring, the same for all siblings.
type Geometry struct {
	// Capacity is the number of slots: a power of two from 1 to 2^30.
	// Zero means 1024. A ring should have at least twice as many slots as
	// writers that may be at it at once; with a single slot a reader finds
	// nothing while a frame is being written.
	Capacity int
	// PayloadLimit is the largest payload in bytes, from 0 to MaxPayload.
	// In the zero Geometry it means 256.
	PayloadLimit int
}

// DefaultGeometry is what a zero Geometry means.
var DefaultGeometry = Geometry{Capacity: 1024, PayloadLimit: 256}

func (g Geometry) orDefault() Geometry {
	if g == (Geometry{}) {
		return DefaultGeometry
	}
	if g.Capacity == 0 {
		g.Capacity = DefaultGeometry.Capacity
	}
	return g
}

// valid tells whether a segment of this kind and geometry can exist. The
// roster is the one kind without slots.
func (g Geometry) valid(kind uint8) bool {
	if kind == kindRoster {
		return g == Geometry{}
	}
	c, p := g.Capacity, g.PayloadLimit
	return c >= 1 && c <= maxCapacity && c&(c-1) == 0 && p >= 0 && p <= MaxPayload &&
		uint64(c)*uint64(roundUp(slotHeaderSize+p, cacheLine)) <= maxSlots
}

// String returns the geometry in words, as errors have it.
func (g Geometry) String() string {
	return itoa(g.Capacity) + " slots of " + itoa(g.PayloadLimit) + " bytes"
}

// A Ring is a fixed-capacity circular log of frames with many writers and many
// readers, in the memory of this process or shared between processes. Frame n
// lies in slot n % capacity until frame n+capacity takes its place.
//
// All methods are safe for concurrent use, never wait for another process to
// move, and fail with [ErrClosed] once the fleet is closed. In a shared fleet
// a segment truncated underneath makes them fail with [ErrDamaged].
type Ring struct {
	// Read by every operation, written once or by Close only.
	mem      block
	head     *uint64
	first    *uint64
	wake     *uint32
	slots    unsafe.Pointer
	mask     uint64
	stride   uintptr
	limit    int    // payload limit of the ring
	room     int    // payload limit of a publish: -1 on a read-only ring
	owner    uint64 // this member, in place for a state word
	stamp    uint64 // this node, in place for a meta word
	gate     atomic.Uint32
	unsafely bool // no fault guard: see Options.NoFaultGuard

	fleet   *Fleet
	header  segmentHeader
	kept    *segment
	waiters hub

	// Under the fleet's lock.
	bound     reflect.Type // by [Bind] or [RingOf], if it was
	substrate closer       // that stands on the ring, if one does

	alarm  atomic.Pointer[func()] // called once the segment proves damaged
	looked atomic.Int64           // when it was last seen that the segment has its name
}

// The gate is open until the fleet closes or the segment proves damaged.
const (
	gateOpen = iota
	gateClosed
	gateDamaged
)

func newRing(f *Fleet, s *segment) *Ring {
	mem, h := s.mem, &s.header
	r := &Ring{
		mem:      mem,
		head:     mem.word(offHead),
		first:    mem.word(offFirst),
		wake:     mem.half(offWake),
		slots:    unsafe.Add(mem.base, h.slots),
		mask:     uint64(h.capacity - 1),
		stride:   uintptr(h.stride),
		limit:    h.limit,
		room:     h.limit,
		owner:    f.owner << ownerShift,
		stamp:    uint64(f.node) << 48,
		unsafely: !mem.shared || f.opts.NoFaultGuard,
		fleet:    f,
		header:   *h,
		kept:     s,
	}
	if f.readOnly {
		r.room = -1
	}
	r.waiters.ring = r
	return r
}

// formatRing makes zeroed memory a valid empty ring whose next counter is
// next: every slot names the counter one lap before the one it waits for.
func formatRing(mem block, h *segmentHeader, next uint64) {
	h.encode(unsafe.Slice((*byte)(mem.base), headerSize))
	*mem.word(offHead) = next
	*mem.word(offFirst) = next
	for c := next - uint64(h.capacity); c != next; c++ {
		i := int(c & uint64(h.capacity-1))
		*mem.word(h.slots + i*h.stride) = c<<counterShift | phaseSkipped
	}
}

// Kind returns the ring's kind, the type family of its frames.
func (r *Ring) Kind() uint8 { return r.header.kind }

// Geometry returns the ring's capacity and payload limit.
func (r *Ring) Geometry() Geometry { return r.header.geometry() }

// ---- Writing: claim, fill, commit, wake ----

// Publish appends one frame and returns its id. The payload is copied; it may
// be empty. Kind and version are the caller's to define.
//
// It fails with [ErrTooLarge] for a payload above the limit, [ErrReadOnly] for
// an observer, and [ErrBusy] if for 100 ms every slot was held by a live but
// unfinished writer, as can be only in a ring of very few slots. It does not
// allocate, and makes a system call only to wake a sleeping reader or to ask
// whether the writer of an unfinished frame, met one lap later, is alive.
func (r *Ring) Publish(kind uint8, version uint64, payload []byte) (NetID64, error) {
	if len(payload) > r.room {
		return 0, r.refuse(len(payload))
	}
	if r.unsafely {
		return r.publish(kind, version, payload)
	}
	return r.guardedPublish(kind, version, payload)
}

func (r *Ring) publish(kind uint8, version uint64, payload []byte) (NetID64, error) {
	for range maxAttempts {
		c, err := r.claim()
		if err != nil {
			return 0, err
		}
		s := r.slot(c)
		r.fill(s, kind, version, payload)
		if r.commit(s, c) {
			r.notify()
			runtime.KeepAlive(r)
			return r.id(c), nil
		}
	}
	return 0, r.fail(ErrBusy, "lapped at every attempt")
}

func (r *Ring) guardedPublish(kind uint8, version uint64, payload []byte) (id NetID64, err error) {
	defer r.catchFault(enterGuard(), &err)
	id, err = r.publish(kind, version, payload)
	return
}

// maxAttempts bounds how often an operation that lost its slot or its frame to
// others starts again. Every loss is another writer's progress.
const maxAttempts = 1000

// claim takes a ticket and marks its slot as this member's. It looks at the gate
// before, too: a ticket taken and given back costs the oldest frame.
func (r *Ring) claim() (uint64, error) {
	if r.gate.Load() != gateOpen {
		return r.shutOut()
	}
	t := r.take(1)
	if !r.mark(t) {
		return r.claimSlow(t)
	}
	if r.gate.Load() != gateOpen {
		return r.takeBack(t)
	}
	return t, nil
}

// shutOut is what a claim comes to once the gate is shut. It is a call to keep
// claim short.
//
//go:noinline
func (r *Ring) shutOut() (uint64, error) { return 0, r.gateError() }

// take takes n tickets and returns the first.
func (r *Ring) take(n uint64) uint64 { return atomic.AddUint64(r.head, n) - n }

// mark marks the slot of ticket t as this member's if it has the frame of the
// lap before, as it mostly has. It does not look first: where many write, the
// slot's line then comes once, to be changed, and not for a look before. (The
// state of exactly 2^40 counters later is the same. A claimant stopped for so
// long marks the slot for a lap to come: whoever takes that ticket then finds it
// named.)
func (r *Ring) mark(t uint64) bool {
	before := (t-r.mask-1)<<counterShift | phaseDone
	return atomic.CompareAndSwapUint64((*uint64)(r.slot(t)), before, r.writing(t))
}

// takeBack gives up the claim on counter c, untouched. Close looks for claims
// after it shut the gate: either it sees one and waits for it, or the claim came
// late, and its maker sees the gate shut.
func (r *Ring) takeBack(c uint64) (uint64, error) {
	r.release(r.slot(c), c)
	return r.shutOut()
}

// claimSlow marks a slot whatever is in the way of ticket t: if others hold it,
// it leaves them the slot and the ticket, and takes the next; from the dead it
// takes over; and if the ticket was made void, or came a lap too late, it takes
// another.
func (r *Ring) claimSlow(t uint64) (uint64, error) {
	late, held := 0, 0
	var wait backoff
	for {
		if r.gate.Load() != gateOpen {
			r.void(t)
			return r.shutOut()
		}
		s := r.slot(t)
		st := atomic.LoadUint64((*uint64)(s))
		head := atomic.LoadUint64(r.head)
		// A state that names the head or a counter above is damage: for the
		// present ticket the slot is as good as one of the past. A ticket so old
		// that states cannot be told from it is late, too.
		if since(st, t) >= 0 && since(st, head) < 0 || head-t >= farOff {
			if late++; late > maxAttempts {
				return 0, r.fail(ErrBusy, "late at every attempt")
			}
			t = r.take(1)
			continue
		}
		next, full := r.writing(t), false
		if st&heldBit != 0 && r.alive(st) {
			// A ring whose every slot is held has no way round, and to take
			// more tickets would burn counters for nothing.
			if held++; held >= r.header.capacity {
				if held = 0; r.full() {
					if full = !wait.pause(maxBusy); !full {
						continue
					}
				}
			}
			next = hole(t, st)
		}
		switch {
		case !atomic.CompareAndSwapUint64((*uint64)(s), st, next):
		case full:
			return 0, r.fail(ErrBusy, "every slot is held by a live writer")
		case next&phaseMask == phaseBusy:
			t = r.take(1)
		case r.gate.Load() != gateOpen:
			return r.takeBack(t)
		default:
			return t, nil
		}
	}
}

// full tells whether every slot is held by a live writer.
func (r *Ring) full() bool {
	for c := range uint64(r.header.capacity) {
		if st := atomic.LoadUint64((*uint64)(r.slot(c))); st&heldBit == 0 || !r.alive(st) {
			return false
		}
	}
	return true
}

// maxBusy is how long a publisher waits for one of the slots of a ring that
// are all held by live, unfinished writers.
const maxBusy = 100 * time.Millisecond

// void makes counter c a hole if no slot names it yet, so that whoever took it
// must take another: a slot that somebody holds stays its owner's. The head is
// read after the state, so that one who was stopped for 2^39 counters does not
// take a state of the far future for an old one.
func (r *Ring) void(c uint64) {
	s := (*uint64)(r.slot(c))
	for range maxAttempts {
		st := atomic.LoadUint64(s)
		if since(st, c) >= 0 || int64(c-r.oldest(atomic.LoadUint64(r.head))) < 0 {
			return
		}
		if atomic.CompareAndSwapUint64(s, st, hole(c, st)) {
			return
		}
	}
}

// hole returns the state in which counter c passes a slot that is in state st:
// one that somebody holds stays that owner's.
func hole(c, st uint64) uint64 {
	if st&heldBit != 0 {
		return c<<counterShift | st&ownerMask | phaseBusy
	}
	return c<<counterShift | phaseSkipped
}

// linger looks for a microsecond or so whether the slot of counter c gets marked:
// that is what it takes a claimant, if nothing stops it.
func (r *Ring) linger(c uint64) bool {
	for range 1000 {
		if since(atomic.LoadUint64((*uint64)(r.slot(c))), c) >= 0 {
			return true
		}
	}
	return false
}

func (r *Ring) writing(c uint64) uint64 { return c<<counterShift | r.owner | phaseWriting }

// raise raises a word to at least v.
func raise(word *uint64, v uint64) {
	for {
		old := atomic.LoadUint64(word)
		if int64(old-v) >= 0 || atomic.CompareAndSwapUint64(word, old, v) {
			return
		}
	}
}

// fill writes the frame into a slot that this member owns.
func (r *Ring) fill(s unsafe.Pointer, kind uint8, version uint64, payload []byte) {
	r.putHeader(s, kind, version, len(payload))
	r.mem.putBytes(s, payload)
}

// putHeader writes all of the frame but its payload, of n bytes.
func (r *Ring) putHeader(s unsafe.Pointer, kind uint8, version uint64, n int) {
	putWord(s, offMeta, r.stamp|uint64(kind)<<40|uint64(n))
	putWord(s, offVersion, version)
}

// commit makes frame c readable. It fails if others lapped this writer: then
// the slot, which they left to its owner, is let go.
func (r *Ring) commit(s unsafe.Pointer, c uint64) bool {
	if atomic.CompareAndSwapUint64((*uint64)(s), r.writing(c), c<<counterShift|phaseDone) {
		return true
	}
	r.release(s, c)
	return false
}

// release gives up the claim on slot s made for counter c, whatever counter
// others have marked it with since.
func (r *Ring) release(s unsafe.Pointer, c uint64) {
	for {
		st := atomic.LoadUint64((*uint64)(s))
		if st&heldBit == 0 || st&ownerMask != r.owner || since(st, c) < 0 {
			return
		}
		if atomic.CompareAndSwapUint64((*uint64)(s), st, st&counterMask|phaseSkipped) {
			return
		}
	}
}

// strike makes counter n a hole if its frame is still being written, or not even
// begun. The slot stays its owner's, whose commit fails as if it had been lapped,
// so that it lets the slot go and publishes again.
func (r *Ring) strike(n uint64) {
	s := (*uint64)(r.slot(n))
	r.void(n)
	st := atomic.LoadUint64(s)
	if since(st, n) == 0 && st&phaseMask == phaseWriting {
		atomic.CompareAndSwapUint64(s, st, st&^phaseMask|phaseBusy)
	}
}

// notify wakes the sleeping readers, if there are any. It must not look before
// its commit is seen, nor a sleeper look at the slot before its bit is seen:
// then one of the two sees the other. On arm64 that a load-acquire does not
// pass a store-release (LDAR after STLXR or CASAL) is all that orders them.
func (r *Ring) notify() {
	if atomic.LoadUint32(r.wake)&1 != 0 {
		r.wakeAll()
	}
}

func (r *Ring) wakeAll() {
	for {
		w := atomic.LoadUint32(r.wake)
		if atomic.CompareAndSwapUint32(r.wake, w, (w+2)&^1) {
			break
		}
	}
	if r.mem.shared {
		wakeWord(r.wake)
	} else {
		r.waiters.broadcast()
	}
}

// PublishBatch appends frames in order, with ids as consecutive as other
// writers allow, and stores each id in its frame. Kind, Version and Payload
// are taken from the frames. It costs less than as many calls of Publish, and
// wakes readers once. It returns how many frames were published: fewer than
// all only with an error, as [Ring.Publish] returns them; frames are published
// in order, and those before the failed one stay published. If one is above the
// payload limit, none is published.
func (r *Ring) PublishBatch(frames []Frame) (int, error) {
	for i := range frames {
		if n := len(frames[i].Payload); n > r.room {
			return 0, r.refuse(n)
		}
	}
	if r.unsafely {
		return r.publishBatch(frames)
	}
	return r.guardedBatch(frames)
}

func (r *Ring) guardedBatch(frames []Frame) (n int, err error) {
	defer r.catchFault(enterGuard(), &err)
	return r.publishBatch(frames)
}

func (r *Ring) publishBatch(frames []Frame) (n int, err error) {
	// A burst holds at most a quarter of the slots at once, so that writers
	// beside it find free ones.
	burst := min(max(r.header.capacity/4, 1), maxBurst)
	for n < len(frames) && err == nil {
		var m int
		m, err = r.publishBurst(frames[n:min(n+burst, len(frames))])
		n += m
	}
	return n, err
}

const maxBurst = 64 // as a word has bits: see claimBurst

// publishBurst claims slots for all frames before it fills the first, for readers
// do not wait long for a counter whose slot is not marked.
func (r *Ring) publishBurst(frames []Frame) (n int, err error) {
	if r.gate.Load() != gateOpen {
		return 0, r.gateError()
	}
	first, claimed := r.claimBurst(len(frames))
	if claimed == 0 { // somebody is in the way: one frame, the long way round
		if err = r.republish(&frames[0]); err != nil {
			return 0, err
		}
		return 1, nil
	}
	if r.gate.Load() != gateOpen {
		r.releaseBurst(first, claimed)
		return 0, r.gateError()
	}
	for ; claimed != 0; claimed &= claimed - 1 {
		c := first + uint64(bits.TrailingZeros64(claimed))
		s, f := r.slot(c), &frames[n]
		r.fill(s, f.Kind, f.Version, f.Payload)
		if f.ID = r.id(c); !r.commit(s, c) {
			// Lapped while others of the burst were written: again, alone, and
			// those behind it after it, for their tickets come before its new one.
			r.releaseBurst(first, claimed&(claimed-1))
			if err = r.republish(f); err == nil {
				n++
			}
			break
		}
		n++
	}
	r.notify()
	return n, err
}

// claimBurst takes n tickets at once, which keeps the ids together, and marks
// their slots. Bit i of claimed tells whether it has that of ticket first+i: if
// not, the ticket is void.
func (r *Ring) claimBurst(n int) (first, claimed uint64) {
	first = r.take(uint64(n))
	for i := range n {
		if c := first + uint64(i); r.markFree(c) {
			claimed |= 1 << i
		} else {
			r.void(c)
		}
	}
	return first, claimed
}

func (r *Ring) releaseBurst(first, claimed uint64) {
	for ; claimed != 0; claimed &= claimed - 1 {
		c := first + uint64(bits.TrailingZeros64(claimed))
		r.release(r.slot(c), c)
	}
}

// markFree is mark for a slot that is free whatever it has. It looks first: in a
// burst the processor then has the lines of the next slots on their way.
func (r *Ring) markFree(t uint64) bool {
	s := (*uint64)(r.slot(t))
	st := atomic.LoadUint64(s)
	return since(st, t) < 0 && st&heldBit == 0 && atomic.LoadUint64(r.head)-t < farOff &&
		atomic.CompareAndSwapUint64(s, st, r.writing(t))
}

func (r *Ring) republish(f *Frame) (err error) {
	f.ID, err = r.publish(f.Kind, f.Version, f.Payload)
	return err
}

// Mint returns a fresh id of this ring without publishing a frame: readers
// pass its counter as a hole. It costs as much as a publish of no bytes, and
// like one takes the place of the oldest frame. It fails as [Ring.Publish].
func (r *Ring) Mint() (id NetID64, err error) {
	if r.room < 0 {
		return 0, r.refuse(0)
	}
	defer r.catchFault(enterGuard(), &err)
	if r.gate.Load() != gateOpen {
		return 0, r.gateError()
	}
	c := r.take(1)
	r.void(c)
	if r.gate.Load() != gateOpen {
		return 0, r.gateError()
	}
	return r.id(c), nil
}

// Reset makes every frame published before the call unreadable, for all
// processes. Frames published at the same time or later stay. Cursors behind
// report the frames they can no longer get as overwritten. It moves no data.
func (r *Ring) Reset() (err error) {
	if r.room < 0 {
		return r.refuse(0)
	}
	if r.gate.Load() != gateOpen {
		return r.gateError()
	}
	defer r.catchFault(enterGuard(), &err)
	raise(r.first, atomic.LoadUint64(r.head))
	if r.gate.Load() != gateOpen { // it may have raised a zero that Close put there
		return r.gateError()
	}
	return nil
}

// ---- Reading: read, recheck, deliver ----

// Newest returns the newest committed frame, its payload appended to dst.
// Frames still being written are passed over. With no frame to return it
// fails with [ErrNoFrame], or with [ErrPending], which matches it, if one is
// being written. It does not allocate if dst has room.
func (r *Ring) Newest(dst []byte) (f Frame, err error) {
	err = r.newestInto(&f, dst) // in line at the caller's: to return a frame is to copy it twice
	return
}

func (r *Ring) newestInto(f *Frame, dst []byte) error {
	if r.unsafely {
		return r.newest(f, dst)
	}
	return r.guardedNewest(f, dst)
}

func (r *Ring) guardedNewest(f *Frame, dst []byte) (err error) {
	defer r.catchFault(enterGuard(), &err)
	return r.newest(f, dst)
}

func (r *Ring) newest(f *Frame, dst []byte) error {
	for range maxAttempts {
		s, st := r.peekNewest()
		if st == 0 {
			var err error
			if s, st, err = r.findNewest(); err != nil {
				return err
			}
		}
		if err := r.copyFrame(f, dst, s, st); err != errChanged {
			return err
		}
	}
	return r.fail(ErrBusy, "overwritten at every attempt")
}

// peekNewest is peek for the newest counter.
func (r *Ring) peekNewest() (s unsafe.Pointer, st uint64) {
	return r.peek(atomic.LoadUint64(r.head) - 1)
}

// peek returns the slot and state of counter c if that is a committed frame, as
// it mostly is, and a state of 0 otherwise.
func (r *Ring) peek(c uint64) (s unsafe.Pointer, st uint64) {
	s, st = r.slot(c), c<<counterShift|phaseDone
	if atomic.LoadUint64((*uint64)(s)) != st || int64(c-atomic.LoadUint64(r.first)) < 0 {
		st = 0
	}
	return
}

// findNewest finds the slot and state of the newest committed frame. The head
// is loaded first and only slots below it are looked at: a frame committed
// before the call began is below it. If a slot was claimed anew meanwhile, the
// search starts again.
func (r *Ring) findNewest() (unsafe.Pointer, uint64, error) {
	for range maxAttempts {
		s, st, err := r.searchBack(atomic.LoadUint64(r.head))
		switch err {
		case nil:
			return s, st, nil
		case errChanged:
			continue
		case ErrPending:
			err = r.pending()
		}
		if r.gate.Load() != gateOpen { // Close put zeros there, in which is no frame
			err = r.gateError()
		}
		return nil, 0, err
	}
	return nil, 0, r.fail(ErrBusy, "overwritten at every attempt")
}

// searchBack looks for the newest committed frame below head. If it finds none
// there was a moment without: when it looked at the first slot, for what was not
// committed later was not then either.
func (r *Ring) searchBack(head uint64) (unsafe.Pointer, uint64, error) {
	err := ErrNoFrame
	oldest := r.oldest(head)
	for c := head - 1; int64(c-oldest) >= 0; c-- {
		s := r.slot(c)
		switch st := atomic.LoadUint64((*uint64)(s)); {
		case st == c<<counterShift|phaseDone:
			return s, st, nil
		case since(st, c) > 0 && atomic.LoadUint64(r.head) != head:
			return nil, 0, errChanged
		case since(st, c) == 0 && st&phaseMask == phaseWriting:
			err = ErrPending
		}
	}
	return nil, 0, err
}

// pending tells, of a ring without a committed frame, whether one is being
// written: the dead write no more.
func (r *Ring) pending() error {
	for c := range uint64(r.header.capacity) {
		if st := atomic.LoadUint64((*uint64)(r.slot(c))); st&phaseMask == phaseWriting && r.alive(st) {
			return ErrPending
		}
	}
	return ErrNoFrame
}

// oldest returns the oldest counter that the ring can still hold below head.
// It is never further from the head than the capacity, whatever first says.
func (r *Ring) oldest(head uint64) uint64 {
	first := atomic.LoadUint64(r.first)
	if held := head - first; held <= uint64(r.header.capacity) {
		return first
	}
	if int64(head-first) < 0 {
		return head // reset after head was read, or damaged
	}
	return head - uint64(r.header.capacity)
}

// copyFrame copies the committed frame in slot s and then looks at the state
// again: if it did not change, no owner touched the slot in between. The
// length is read once and checked before use.
func (r *Ring) copyFrame(f *Frame, dst []byte, s unsafe.Pointer, st uint64) error {
	meta := getWord(s, offMeta)
	n := int(uint32(meta))
	if uint(n) > uint(r.limit) {
		return r.badLength(s, st, n)
	}
	f.ID = r.idOf(meta, st)
	f.Kind = uint8(meta >> 40)
	f.Version = getWord(s, offVersion)
	f.Payload = extend(dst, n)
	r.mem.getBytes(f.Payload, s)
	if atomic.LoadUint64((*uint64)(s)) != st {
		return errChanged
	}
	// Last, because Close puts zeros under the reader after it shut the gate.
	if r.gate.Load() != gateOpen {
		return r.gateError()
	}
	return nil
}

// badLength tells a damaged frame from one that changed under the reader.
func (r *Ring) badLength(s unsafe.Pointer, st uint64, n int) error {
	if atomic.LoadUint64((*uint64)(s)) != st {
		return errChanged
	}
	return r.fail(ErrDamaged, "frame length "+itoa(n)+", limit "+itoa(r.limit))
}

// Read returns the frame named id, its payload appended to dst. It fails with
// [ErrHole], [ErrOverwritten], [ErrLost], [ErrPending] or [ErrUnpublished] if
// there is none to return, all of which match [ErrNoFrame], and with [ErrKind]
// for an id of another ring. It does not allocate if dst has room.
func (r *Ring) Read(id NetID64, dst []byte) (f Frame, err error) {
	if id.Kind() != r.header.kind {
		return Frame{}, r.otherRing(id)
	}
	defer r.catchFault(enterGuard(), &err)
	f, err = r.readAt(r.resolve(id.Counter()), dst)
	if err == nil && f.ID != id {
		return Frame{}, ErrHole // minted by another node: this id never was
	}
	return f, err
}

func (r *Ring) otherRing(id NetID64) error {
	return r.fail(ErrKind, "id "+id.String()+" belongs to ring "+itoa(int(id.Kind())))
}

// resolve returns the full counter nearest to the head whose low 40 bits are
// those of an id. An id says no more; frames it can mean are near the head.
func (r *Ring) resolve(short uint64) uint64 {
	head := atomic.LoadUint64(r.head)
	return head + uint64(since(short<<counterShift, head))
}

// ReadAt returns the frame at a counter, its payload appended to dst. It fails
// as [Ring.Read]. A counter that was taken for a frame, but not begun with within
// a microsecond or so, it makes a hole: whoever took it takes another.
func (r *Ring) ReadAt(counter uint64, dst []byte) (f Frame, err error) {
	defer r.catchFault(enterGuard(), &err)
	return r.readAt(counter, dst)
}

func (r *Ring) readAt(counter uint64, dst []byte) (f Frame, err error) {
	for range maxAttempts {
		s, st, err := r.lookInto(counter)
		if err == nil {
			err = r.copyFrame(&f, dst, s, st)
		}
		switch err {
		case nil:
			return f, nil
		case errChanged:
		default:
			return Frame{}, err
		}
	}
	return Frame{}, ErrOverwritten
}

// look finds out what became of counter c: nil for a committed frame, or the
// reason why there is none. It is errUnmarked if whoever took c has not marked
// its slot, and perhaps never will.
func (r *Ring) look(c uint64) (s unsafe.Pointer, st uint64, err error) {
	for range maxAttempts {
		if s, st, err = r.lookOnce(c); err != errChanged {
			break
		}
	}
	if err == errChanged {
		err = ErrLost // the dead do not write for so long: damage
	}
	// Last, because Close puts zeros under the reader after it shut the gate.
	if err != nil && r.gate.Load() != gateOpen {
		err = r.gateError()
	}
	return
}

// lookOnce is look that fails with errChanged if what it saw is no more so.
func (r *Ring) lookOnce(c uint64) (unsafe.Pointer, uint64, error) {
	if r.gate.Load() != gateOpen {
		return nil, 0, r.gateError()
	}
	head := atomic.LoadUint64(r.head)
	if int64(head-c) <= 0 {
		return nil, 0, ErrUnpublished
	}
	if int64(c-r.oldest(head)) < 0 {
		return nil, 0, ErrOverwritten
	}
	s := r.slot(c)
	st := atomic.LoadUint64((*uint64)(s))
	switch d := since(st, c); {
	case d > 0:
		return nil, 0, ErrOverwritten
	case d < 0:
		return nil, 0, errUnmarked
	}
	switch st & phaseMask {
	case phaseDone:
		if st&ownerMask != 0 { // no commit writes that: damage
			return nil, 0, ErrLost
		}
		return s, st, nil
	case phaseWriting:
		if r.alive(st) {
			return nil, 0, ErrPending
		}
		// Its writer may have committed before it died.
		if atomic.LoadUint64((*uint64)(s)) != st {
			return nil, 0, errChanged
		}
		return nil, 0, ErrLost
	}
	return nil, 0, ErrHole
}

// lookInto is look for who asks for counter c and no other. If its slot is not
// marked it waits for that a little, and then makes a hole of the counter: either
// way errChanged asks to look again.
func (r *Ring) lookInto(c uint64) (s unsafe.Pointer, st uint64, err error) {
	if s, st, err = r.look(c); err != errUnmarked {
		return s, st, err
	}
	if r.room < 0 {
		return nil, 0, ErrPending
	}
	if !r.linger(c) {
		r.void(c)
	}
	return nil, 0, errChanged
}

// alive tells whether the owner named by a state word can still write. It
// asks the kernel, unless the owner is this very member.
func (r *Ring) alive(st uint64) bool {
	return st&ownerMask == r.owner && !r.fleet.readOnly || r.fleet.memberAlive(st&ownerMask>>ownerShift)
}

// Head returns the next counter: how many have been taken, ever. It is 0 once
// the fleet is closed or the segment damaged.
func (r *Ring) Head() (head uint64) {
	var err error
	defer r.catchFault(enterGuard(), &err)
	if r.gate.Load() == gateOpen {
		head = atomic.LoadUint64(r.head)
	}
	return
}

// RingStats is a picture of a ring. The counts of slots were taken one slot
// after the other, while others wrote.
type RingStats struct {
	Head    uint64 // the next counter
	Oldest  uint64 // the oldest counter that can still be held
	Frames  int    // committed frames held
	Pending int    // frames being written by live members
	Holes   int    // counters that carry no frame, or were taken for one not begun yet
	Lost    int    // frames whose writers died before the commit
	Waiting bool   // whether a reader may be asleep, somewhere
}

// Stats looks at every slot. It costs time in proportion to the capacity.
func (r *Ring) Stats() (s RingStats, err error) {
	defer r.catchFault(enterGuard(), &err)
	if r.gate.Load() != gateOpen {
		return s, r.gateError()
	}
	s.Head = atomic.LoadUint64(r.head)
	s.Oldest = r.oldest(s.Head)
	s.Waiting = atomic.LoadUint32(r.wake)&1 != 0
	for c := s.Oldest; c != s.Head; c++ {
		switch _, _, status := r.look(c); status {
		case nil:
			s.Frames++
		case ErrPending:
			s.Pending++
		case ErrHole, errUnmarked:
			s.Holes++
		case ErrLost:
			s.Lost++
		}
	}
	if r.gate.Load() != gateOpen {
		return RingStats{}, r.gateError()
	}
	return s, nil
}

// ---- Cursors ----

// A Gap counts the counters that a cursor passed without a frame to deliver.
type Gap struct {
	Overwritten uint64 // lapped by newer frames, or reset, before they were read
	Holes       uint64 // counters that never carried a frame
	Lost        uint64 // writers that died or stayed away before the commit
}

// Total returns the sum of all counts.
func (g Gap) Total() uint64 { return g.Overwritten + g.Holes + g.Lost }

func (g *Gap) add(o Gap) {
	g.Overwritten += o.Overwritten
	g.Holes += o.Holes
	g.Lost += o.Lost
}

// A Tally is what became of every counter a cursor has passed: Delivered plus
// the gap's total is exactly how far the cursor has moved.
type Tally struct {
	Delivered uint64
	Gap
}

// DefaultGrace is how long a cursor waits for the unfinished frame of a live
// but perhaps stopped writer before it passes the frame as lost.
const DefaultGrace = time.Second

// A Cursor reads a ring in order, each frame once, and accounts for every
// counter it passes. Any number of cursors read a ring without costing its
// writers anything. A Cursor is not safe for concurrent use.
type Cursor struct {
	// Grace is how long the cursor stays at an unfinished frame whose writer
	// is alive, and for 10 ms at most at a counter that somebody took and has
	// not begun to use. It is for all that were begun by the time when the cursor
	// began to wait. Zero means DefaultGrace, less than zero not at all.
	Grace time.Duration

	ring    *Ring
	next    uint64
	tally   Tally
	taken   uint64 // all counters below were taken ...
	takenAt int64  // ... by then, 0 if it never met an unfinished one
	lapping uint64 // how far inside the window to jump when lapped
	far     uint64 // how much further back than next it was told to begin
}

// Oldest returns a cursor that starts at the oldest frame still held.
func (r *Ring) Oldest() (c *Cursor) {
	c = &Cursor{ring: r}
	var err error // the cursor will say so itself
	defer r.catchFault(enterGuard(), &err)
	c.next = r.oldest(atomic.LoadUint64(r.head))
	return c
}

// Tail returns a cursor that starts at the head: it sees frames published
// from now on.
func (r *Ring) Tail() *Cursor { return r.At(r.Head()) }

// At returns a cursor that starts at a counter, such as a [Cursor.Position]
// saved earlier. What was overwritten since is reported by its first result. A
// counter that is more than 2^39 ahead of the head is never reached.
func (r *Ring) At(counter uint64) *Cursor {
	c := &Cursor{ring: r, next: counter}
	// A slot names 40 bits of its counter. From afar those of a frame that is
	// held could be taken for this one's, so the cursor begins half way round.
	head := r.Head()
	switch d := int64(head - counter); {
	case d > farOff:
		c.next = head - farOff
		c.far = c.next - counter
	case d < -farOff:
		c.next = head + farOff
	}
	return c
}

// farOff is half of what the counters in slots tell apart.
const farOff = 1 << 39

// Position returns the counter of the frame the cursor will look at next.
func (c *Cursor) Position() uint64 { return c.next - c.far }

// Tally returns what became of the counters passed so far.
func (c *Cursor) Tally() Tally { return c.tally }

// Next returns the next frame, its payload appended to dst, and the gap that
// lies between it and the frame before. If no frame is ready it returns
// [ErrNoFrame], or [ErrPending], which matches it, when the next one is still
// being written; the gap tells what was passed all the same. It never waits,
// and does not allocate if dst has room.
func (c *Cursor) Next(dst []byte) (f Frame, gap Gap, err error) {
	err = c.nextInto(&f, dst, &gap) // in line, as Newest
	return
}

func (c *Cursor) nextInto(f *Frame, dst []byte, gap *Gap) error {
	if c.ring.unsafely {
		return c.advance(f, dst, gap)
	}
	return c.guardedNext(f, dst, gap)
}

func (c *Cursor) guardedNext(f *Frame, dst []byte, gap *Gap) (err error) {
	defer c.ring.catchFault(enterGuard(), &err)
	return c.advance(f, dst, gap)
}

// Poll fills frames, reusing the buffers of their payloads, and returns how
// many it filled and the gap before the first of them: a batch ends where the
// next gap begins. The error is nil unless n is 0, and then as of [Cursor.Next].
// It never waits, and costs less than as many calls of Next.
func (c *Cursor) Poll(frames []Frame) (n int, gap Gap, err error) {
	if n, gap, err = c.guardedPoll(frames); n > 0 {
		err = nil // the segment was truncated: the next call will say so
	}
	return n, gap, err
}

func (c *Cursor) guardedPoll(frames []Frame) (n int, gap Gap, err error) {
	defer c.ring.catchFault(enterGuard(), &err)
	if len(frames) == 0 {
		return 0, gap, nil
	}
	if err = c.advance(&frames[0], frames[0].Payload[:0], &gap); err != nil {
		return 0, gap, err
	}
	for n = 1; n < len(frames) && c.deliver(&frames[n], frames[n].Payload[:0]); n++ {
	}
	return n, gap, nil
}

// deliver moves the cursor over the very next counter if that has a frame, and
// otherwise leaves it where it is, for [Cursor.advance] to find out why.
func (c *Cursor) deliver(f *Frame, dst []byte) bool {
	s, st := c.ring.peek(c.next)
	if st == 0 || c.ring.copyFrame(f, dst, s, st) != nil {
		return false
	}
	c.next++
	c.tally.Delivered++
	return true
}

// advance moves the cursor to the next frame and over it. It looks at the slot
// before the head: at the tail of a busy ring the head is in other hands.
func (c *Cursor) advance(f *Frame, dst []byte, gap *Gap) error {
	r := c.ring
	for {
		if s, st := r.peek(c.next); st != 0 {
			switch err := r.copyFrame(f, dst, s, st); err {
			case nil:
				c.next++
				c.tally.Delivered++
				c.lapping = 0
				return nil
			case errChanged:
				continue
			default:
				if r.gate.Load() != gateOpen {
					return err
				}
				c.pass(gap, Gap{Lost: 1}) // damaged beyond reading
				return err
			}
		}
		if err := c.step(gap); err != nil {
			return err
		}
	}
}

// step passes counters that have no frame for this cursor, or tells why it
// must stay.
func (c *Cursor) step(gap *Gap) error {
	r := c.ring
	head := atomic.LoadUint64(r.head)
	behind := int64(r.oldest(head) - c.next)
	if r.gate.Load() != gateOpen { // after the loads: Close puts zeros there
		return r.gateError()
	}
	if int64(head-c.next) <= 0 {
		return ErrNoFrame
	}
	if behind > 0 {
		c.jump(gap, head, uint64(behind))
		return nil
	}
	switch _, _, status := r.look(c.next); status {
	case nil:
	case ErrOverwritten:
		c.pass(gap, Gap{Overwritten: 1})
	case ErrHole:
		c.pass(gap, Gap{Holes: 1})
	case ErrLost:
		c.pass(gap, Gap{Lost: 1})
	case ErrPending:
		if c.graceLeft() > 0 {
			return ErrPending
		}
		c.pass(gap, Gap{Lost: 1})
	case errUnmarked:
		switch {
		case c.unmarkedLeft() > 0:
			return ErrPending
		case r.room < 0:
			c.pass(gap, Gap{Lost: 1}) // it cannot make sure
		default:
			r.void(c.next)
		}
	default:
		return status
	}
	return nil
}

func (c *Cursor) pass(gap *Gap, g Gap) {
	c.next += g.Total()
	gap.add(g)
	c.tally.add(g)
}

// jump takes a lapped cursor back into the window. The first jump of a read
// loses no frame that is still held. If the cursor is lapped again before it
// delivered one, it jumps deeper: at the edge it would stay lapped for ever.
func (c *Cursor) jump(gap *Gap, head, behind uint64) {
	c.next, behind, c.far = c.next-c.far, behind+c.far, 0 // to where it was told to begin
	inside := min(c.lapping, head-c.next-behind)
	c.lapping = min(max(2*c.lapping, uint64(c.ring.header.capacity)/16), uint64(c.ring.header.capacity)/2)
	c.pass(gap, Gap{Overwritten: behind + inside})
}

// graceLeft returns for how long the cursor stays at the unfinished frame before
// it.
func (c *Cursor) graceLeft() time.Duration { return c.grace() - c.waited() }

// waited returns for how long, at least, the unfinished frame before the cursor
// has been that. All counters that were taken when the cursor began to wait for
// one have no more time than that one: a batch that is stopped holds it no longer
// than a frame.
func (c *Cursor) waited() time.Duration {
	now := clockNow()
	if c.takenAt == 0 || int64(c.next-c.taken) >= 0 {
		c.taken, c.takenAt = atomic.LoadUint64(c.ring.head), now
	}
	return time.Duration(now - c.takenAt)
}

func (c *Cursor) grace() time.Duration {
	if c.Grace == 0 {
		return DefaultGrace
	}
	return c.Grace
}

// maxUnmarked is how long a cursor stays at most at a counter that was taken and
// whose slot is not marked. That takes a claimant an instant, if it is not dead,
// or stopped there, and who loses a counter just takes another. It is long enough
// for one that lost the processor to have it back.
const maxUnmarked = 10 * time.Millisecond

// unmarkedLeft returns for how long the cursor stays at such a counter.
func (c *Cursor) unmarkedLeft() time.Duration { return min(c.grace(), maxUnmarked) - c.waited() }

// Wait blocks until [Cursor.Next] has something to say: a frame, a gap, or an
// error. It returns the context's error if that ends first, [ErrClosed] if the
// fleet is closed, and [ErrDamaged], a second or two later, if the segment was
// removed by hand, so that nobody who joins now can be met there.
//
// A nil context never ends, here and wherever Orbit takes one. A program that
// is to be small passes it instead of context.Background(), which brings 60 kB.
//
// Many goroutines can wait on a ring: in a shared fleet they cost one thread of
// the process between them, on Linux asleep in the kernel. A cancelled context,
// but not a deadline, also wakes those of other processes, who sleep on. On
// other systems, and for observers, the ring is looked at some hundred times a
// second.
func (c *Cursor) Wait(ctx context.Context) error {
	for {
		look, _, err := c.peek()
		if err != nil || look == lookReady {
			return err
		}
		if err := c.await(ctx, maxSleep); err != nil {
			return err
		}
	}
}

// await sleeps until something may have happened, or for the limit. It looks
// again after it announced itself: a publish before that woke nobody.
func (c *Cursor) await(ctx context.Context, limit time.Duration) error {
	h := &c.ring.waiters
	woken, err := h.arm()
	if err != nil {
		return err
	}
	defer h.disarm(woken)
	look, left, err := c.peek()
	if err != nil || look == lookReady {
		return err
	}
	if look == lookPending {
		// The frame of a dead or stopped writer brings no wake.
		limit = min(limit, max(left, time.Millisecond), maxSleep-1) // all have to look, in time
	}
	if woken == nil {
		return h.lead(ctx, limit)
	}
	return follow(ctx, woken, limit)
}

// follow waits for the wake that whoever sleeps for this process passes on, or
// for the limit if that is less than maxSleep.
func follow(ctx context.Context, woken <-chan struct{}, limit time.Duration) error {
	var enough chan struct{}
	if limit < maxSleep {
		enough = make(chan struct{})
		defer newAlarm(limit, func() { close(enough) }).stop()
	}
	done := doneOf(ctx)
	select {
	case <-woken:
	case <-enough:
	case <-done:
		return ctx.Err()
	}
	return nil
}

// doneOf returns what is closed when a context ends: nothing for nil, which
// never does.
func doneOf(ctx context.Context) <-chan struct{} {
	if ctx == nil {
		return nil
	}
	return ctx.Done()
}

func errOf(ctx context.Context) error {
	if ctx == nil {
		return nil
	}
	return ctx.Err()
}

// An alarm is a timer that calls a function. It hides its [time.Timer] from the
// types that hold one: as soon as a value of such a type becomes an interface,
// the linker keeps all that prints a [time.Time], time zones and their files
// too, which is 60 kB.
type alarm struct {
	reset func(time.Duration) bool
	stop  func() bool
}

func newAlarm(d time.Duration, f func()) alarm {
	t := time.AfterFunc(d, f)
	return alarm{t.Reset, t.Stop}
}

const (
	lookEmpty = iota
	lookPending
	lookReady
)

// peek tells what Next would find, without moving, and if that is nothing yet
// because of a frame that is pending, for how long at most.
func (c *Cursor) peek() (look int, left time.Duration, err error) {
	r := c.ring
	defer r.catchFault(enterGuard(), &err)
	_, _, status := r.look(c.next)
	switch {
	case r.gate.Load() != gateOpen:
		return lookReady, 0, r.gateError()
	case status == ErrUnpublished:
		return lookEmpty, 0, nil
	case status == ErrPending:
		left = c.graceLeft()
	case status == errUnmarked:
		left = c.unmarkedLeft()
	}
	if left > 0 {
		return lookPending, left, nil
	}
	return lookReady, 0, nil
}

// Frames returns an iterator over the frames to come: it waits for each until
// the context ends, and then yields the context's error. A payload is valid
// until the next turn; [Cursor.Tally] tells what was passed without a frame. A
// frame damaged in memory is an error of its own, after which the iterator
// goes on; any other error is the last.
func (c *Cursor) Frames(ctx context.Context) iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		var buf []byte
		for {
			at := c.next
			f, _, err := c.Next(buf)
			switch {
			case err == nil:
				buf = f.Payload[:0]
			case isNoFrame(err):
				at = c.next
				if err = c.Wait(ctx); err == nil {
					continue
				}
			}
			if !yield(f, err) || err != nil && c.stuck(ctx, at) {
				return
			}
		}
	}
}

// stuck tells, of a cursor that met an error at a counter, whether it would meet
// that again: it has not passed what is wrong, and with the ring it never will.
func (c *Cursor) stuck(ctx context.Context, at uint64) bool {
	return c.next == at || errOf(ctx) != nil || c.ring.gate.Load() != gateOpen
}

// ---- Waiting ----

// A hub lets any number of goroutines wait for a ring. In a shared ring one of
// them sleeps in the kernel for all: the first to come leads, which spares it a
// hand-over, and when it leaves others waiting a goroutine of the hub takes its
// place.
type hub struct {
	_        incomparable
	ring     *Ring
	mu       sync.Mutex
	woken    chan struct{} // closed at a wake
	waiting  int
	sleeping bool   // whether somebody sleeps in the kernel ...
	leading  bool   // ... who is one of those waiting
	seen     uint32 // the wake word's sequence at the last broadcast
	head     uint64 // the head at the last broadcast
	gone     error  // why nobody should wait any more

	watched   <-chan struct{} // of the context whose end interrupts who leads
	unwatched chan struct{}   // ends that
}

// maxSleep bounds every sleep in the kernel: a publisher may be killed between
// its commit and its wake.
const maxSleep = 100 * time.Millisecond

// arm announces a waiter. After it, a publish closes the returned channel, or
// wakes the caller who leads, if that is nil. The caller must look once more at
// what it waits for, and call disarm.
func (h *hub) arm() (woken <-chan struct{}, err error) {
	r := h.ring
	defer r.catchFault(enterGuard(), &err)
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.gate.Load() != gateOpen {
		return nil, r.gateError()
	}
	if h.gone != nil {
		return nil, h.gone
	}
	w := h.setWaiting()
	h.waiting++
	if r.mem.shared && !h.sleeping {
		h.sleeping, h.leading = true, true
		h.seen, h.head = w&^1, atomic.LoadUint64(r.head)
		return nil, nil
	}
	if h.woken == nil {
		h.woken = make(chan struct{})
	}
	return h.woken, nil
}

// setWaiting sets the bit that makes publishers wake, and returns the word. To
// find it set by another is as good: a publisher who sees it cleared after that
// sees what a wake did, and that wakes this sleeper too.
func (h *hub) setWaiting() uint32 {
	r := h.ring
	for {
		w := atomic.LoadUint32(r.wake)
		if w&1 != 0 || r.fleet.readOnly {
			return w
		}
		if atomic.CompareAndSwapUint32(r.wake, w, w|1) {
			return w | 1
		}
	}
}

// disarm takes back what arm announced.
func (h *hub) disarm(woken <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting--
	if woken == nil {
		h.leading, h.sleeping = false, h.waiting > 0
		if h.sleeping {
			go h.sleep()
		}
	}
}

// broadcast wakes every waiting goroutine but the one that leads.
func (h *hub) broadcast() {
	h.mu.Lock()
	if h.woken != nil {
		close(h.woken)
		h.woken = nil
	}
	h.mu.Unlock()
}

// lead sleeps in the kernel, in the place of one waiter and for all of them.
func (h *hub) lead(ctx context.Context, limit time.Duration) error {
	if ctx != nil {
		if end, timed := ctx.Deadline(); timed {
			limit = min(limit, max(time.Until(end), 50*time.Microsecond))
		}
	}
	h.watch(ctx)
	err := errOf(ctx) // if it ended before there was a leader, it interrupted none
	if err == nil {
		_, err = h.hear(limit)
	}
	if err != nil {
		h.forget()
	}
	return err
}

// watch has the end of a context, and of no other, interrupt the one who leads.
// It stays in place for the next sleep, which mostly has the same context: to
// take it back would cost as much as all else that follows a wake.
func (h *hub) watch(ctx context.Context) {
	done := doneOf(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	if done == h.watched {
		return
	}
	h.unwatch()
	if done != nil {
		h.watched, h.unwatched = done, make(chan struct{})
		go h.outlive(ctx, done, h.unwatched)
	}
}

// forget ends what watch began.
func (h *hub) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unwatch()
}

func (h *hub) unwatch() {
	if h.watched != nil {
		close(h.unwatched)
		h.watched = nil
	}
}

// outlive interrupts the one who leads once the context ends. A goroutine does
// it, because context.AfterFunc would bring 60 kB into every program: see
// [alarm].
func (h *hub) outlive(ctx context.Context, done, unwatched <-chan struct{}) {
	select {
	case <-unwatched:
		return
	case <-done:
	}
	_, timed := ctx.Deadline()
	if !timed || ctx.Err() != context.DeadlineExceeded { // by then it wakes by itself
		h.interrupt()
	}
}

// interrupt wakes the one who leads. It changes the word, which those of other
// processes hear too: to wake a leader who is only about to sleep does nothing.
func (h *hub) interrupt() {
	var err error
	defer h.ring.catchFault(enterGuard(), &err)
	h.mu.Lock()
	led := h.leading
	h.mu.Unlock()
	if led && !h.ring.fleet.readOnly { // an observer looks often by itself
		h.ring.wakeAll()
	}
}

// sleep sleeps in the kernel until nobody has waited for a while.
func (h *hub) sleep() {
	for idle := false; ; {
		changed, err := h.hear(maxSleep)
		if changed {
			// Let the woken take this processor before it sleeps again.
			runtime.Gosched()
		}
		h.mu.Lock()
		done := err != nil || h.waiting == 0 && idle
		idle = h.waiting == 0
		h.sleeping = !done
		h.mu.Unlock()
		if done {
			return
		}
	}
}

// hear sleeps once and passes on what it hears.
func (h *hub) hear(limit time.Duration) (changed bool, err error) {
	changed, err = h.sleepOnce(limit)
	if err == nil {
		err = h.named()
	}
	if changed || err != nil {
		h.broadcast()
	}
	return changed, err
}

// sleepOnce sleeps until the wake word moves from what the last broadcast saw,
// or for the limit. It tells whether anything happened that waiters must see. A
// wake that was announced but never made is found by the head, which moves
// before the wake.
func (h *hub) sleepOnce(limit time.Duration) (changed bool, err error) {
	r := h.ring
	defer r.catchFault(enterGuard(), &err)
	w := atomic.LoadUint32(r.wake)
	if w&^1 == h.seen && r.gate.Load() == gateOpen {
		if r.fleet.readOnly {
			time.Sleep(observerPoll)
		} else {
			sleepOnWord(r.wake, w, limit)
		}
		w = atomic.LoadUint32(r.wake)
	}
	head := atomic.LoadUint64(r.head)
	changed = w&^1 != h.seen || head != h.head
	h.seen, h.head = w&^1, head
	if r.gate.Load() != gateOpen {
		return true, r.gateError()
	}
	return changed, nil
}

// named tells whether those who wait can still be met: a name can be removed by
// hand, and then no frame may ever come.
func (h *hub) named() error {
	err := h.ring.named()
	if err != nil {
		h.mu.Lock()
		h.gone = err
		h.mu.Unlock()
	}
	return err
}

// named tells whether siblings who join now come to this ring. It looks once a
// second, for whoever asks first.
func (r *Ring) named() error {
	if !r.mem.shared {
		return nil
	}
	now, last := clockNow(), r.looked.Load()
	if last != 0 && now-last < int64(time.Second) || !r.looked.CompareAndSwap(last, now) {
		return nil
	}
	if err := named(r.fleet.name, &r.fleet.roster.header); err != nil {
		return err
	}
	return named(r.fleet.name, &r.header)
}

// observerPoll is how often an observer, who may not set the bit that asks for
// a wake, looks for news.
const observerPoll = 5 * time.Millisecond

// shut closes the gate to new operations and wakes all who wait.
func (r *Ring) shut(gate uint32) {
	if !r.gate.CompareAndSwap(gateOpen, gate) && gate == gateDamaged {
		r.gate.Store(gate)
	}
	r.waiters.broadcast()
	r.waiters.forget()
	if gate == gateClosed { // damaged memory is left alone: who sleeps there wakes soon
		r.waiters.interrupt()
	}
	if alarm := r.alarm.Load(); alarm != nil && gate == gateDamaged {
		(*alarm)()
	}
}

// drain waits until no goroutine of this process is between claim and commit:
// to leave the fleet earlier would let others take the slot for a dead one's.
func (r *Ring) drain() (drained bool) {
	drained = true // also if the memory is gone: nobody can take slots there
	if r.room < 0 {
		return drained
	}
	var err error
	defer r.catchFault(enterGuard(), &err)
	var wait backoff
	for c := range uint64(r.header.capacity) {
		for {
			st := atomic.LoadUint64((*uint64)(r.slot(c)))
			if st&heldBit == 0 || st&ownerMask != r.owner {
				break
			}
			// A publish that met damage left its claim, and will not be back.
			damaged, limit := r.gate.Load() == gateDamaged, time.Second
			if damaged {
				limit = 25 * time.Millisecond
			}
			if !wait.pause(limit) {
				return damaged
			}
		}
	}
	return true
}

// backoff waits ever longer: first it lets other goroutines run, then it
// sleeps.
type backoff struct {
	tries int
	start int64
}

// pause waits a moment, and tells whether that was within the limit.
func (b *backoff) pause(limit time.Duration) bool {
	b.tries++
	if b.tries <= 16 {
		runtime.Gosched()
		return true
	}
	now := clockNow()
	if b.start == 0 {
		b.start = now
	}
	time.Sleep(min(50*time.Microsecond<<min(b.tries-16, 5), time.Millisecond))
	return now-b.start < int64(limit)
}

// ---- Memory ----

// A block is the memory of a segment: a shared mapping, or the process's own.
// The functions below are all that touches it by address. Offsets come from
// the validated private copy of the header, never from the memory itself.
type block struct {
	_      incomparable
	base   unsafe.Pointer // no slice: fmt would read what is in it, and no fault guard there
	size   int
	shared bool
}

// incomparable, in a struct, keeps the code that would compare two of them out of
// small programs.
type incomparable [0]func()

// A segment is the memory of a ring or a roster with the validated copy of its
// header. Whoever touches the memory keeps the ring or roster alive, and with
// it this, so when this is collected nobody can touch the memory any more.
type segment struct {
	mem    block
	header segmentHeader
	file   *shmFile // of a roster it stays open
}

// keep gives shared memory and the file back when s is collected.
func (s *segment) keep() {
	runtime.SetFinalizer(s, (*segment).drop)
}

func (s *segment) drop() {
	s.mem.unmap()
	s.file.close()
}

// localBlock allocates zeroed memory, aligned as a mapping is for atomics.
func localBlock(size int) block {
	buf := make([]uint64, (size+cacheLine)/wordSize)
	base := unsafe.Pointer(unsafe.SliceData(buf))
	base = unsafe.Add(base, -uintptr(base)&(cacheLine-1))
	return block{base: base, size: size}
}

// wantTable refuses a ring whose table is not what its substrate needs. Only
// an observer, who takes the geometry it finds, can meet one.
func (r *Ring) wantTable(size int) error {
	if found := r.header.tableLen; found != size {
		return r.fail(ErrForeign, "a table of "+itoa(found)+" bytes, want "+itoa(size))
	}
	return nil
}

// tableWord returns word i of the table behind the slots, which a substrate
// that keeps current state beside its history asked for.
func (r *Ring) tableWord(i int) *uint64 { return r.mem.word(r.header.table + i*wordSize) }

func (b *block) word(off int) *uint64 { return (*uint64)(unsafe.Add(b.base, off)) }
func (b *block) half(off int) *uint32 { return (*uint32)(unsafe.Add(b.base, off)) }

// contains tells whether an address lies in the block.
func (b *block) contains(addr uintptr) bool {
	return addr-uintptr(b.base) < uintptr(b.size)
}

// slot returns the address of the slot of counter c.
func (r *Ring) slot(c uint64) unsafe.Pointer {
	return unsafe.Add(r.slots, uintptr(c&r.mask)*r.stride)
}

func (r *Ring) id(c uint64) NetID64 { return MakeNetID64(r.header.kind, uint16(r.stamp>>48), c) }

func (r *Ring) idOf(meta, st uint64) NetID64 {
	return MakeNetID64(r.header.kind, uint16(meta>>48), st>>counterShift)
}

// totalOrder is true where the hardware keeps plain loads and plain stores
// each in program order, and the compiler keeps them between atomics: there
// plain copies do. Elsewhere a payload is copied word by word with atomics. On
// arm64 a plain load could pass the second look at the state, and a plain store
// the store of the claim before it, where that is made by LDAXR and STLXR. With
// no plain access left, all that happens is as if in one order. Package
// internal/litmus has the argument for every pair of accesses that race.
const totalOrder = runtime.GOARCH == "amd64" || runtime.GOARCH == "386"

// getWord reads a word of a slot that its owner may be writing.
func getWord(s unsafe.Pointer, off uintptr) uint64 {
	return atomic.LoadUint64((*uint64)(unsafe.Add(s, off)))
}

// putWord writes a word of a slot that this member owns.
//
//go:norace
func putWord(s unsafe.Pointer, off uintptr, v uint64) {
	if totalOrder {
		*(*uint64)(unsafe.Add(s, off)) = v
	} else {
		atomic.StoreUint64((*uint64)(unsafe.Add(s, off)), v)
	}
}

// putBytes writes the payload of a slot that this member owns. The race
// detector is kept out of the copies: they race by design, and the state word
// decides which of them count. It does not watch shared memory, but in the
// process's own it would see what copy does even from here.
//
//go:norace
func (b *block) putBytes(s unsafe.Pointer, p []byte) {
	to := unsafe.Add(s, offPayload)
	if !totalOrder {
		storeWords(to, p)
	} else if b.shared {
		copy(unsafe.Slice((*byte)(to), len(p)), p)
	} else {
		copyPlain(unsafe.Slice((*byte)(to), len(p)), p)
	}
}

// appendBytes appends the first n bytes of a slot's payload to dst and returns
// the appended part.
func (b *block) appendBytes(dst []byte, s unsafe.Pointer, n int) []byte {
	out := extend(dst, n)
	b.getBytes(out, s)
	return out
}

// extend returns the n bytes behind dst, in its own memory if there is room.
func extend(dst []byte, n int) []byte {
	l := len(dst)
	if cap(dst)-l < n {
		grown := make([]byte, l, l+n)
		copy(grown, dst)
		dst = grown
	}
	return dst[l : l+n]
}

// getBytes fills p from the payload of a slot.
//
//go:norace
func (b *block) getBytes(p []byte, s unsafe.Pointer) {
	from := unsafe.Add(s, offPayload)
	if !totalOrder {
		loadWords(p, from)
	} else if b.shared {
		copy(p, unsafe.Slice((*byte)(from), len(p)))
	} else {
		copyPlain(p, unsafe.Slice((*byte)(from), len(p)))
	}
}

// copyPlain is copy, for slices that do not overlap, unseen by the race
// detector.
//
//go:norace
func copyPlain(to, from []byte) {
	for len(from) >= 1024 && len(to) >= 1024 {
		*(*[1024]byte)(to) = *(*[1024]byte)(from)
		to, from = to[1024:], from[1024:]
	}
	for len(from) >= 256 && len(to) >= 256 {
		*(*[256]byte)(to) = *(*[256]byte)(from)
		to, from = to[256:], from[256:]
	}
	for len(from) >= 32 && len(to) >= 32 {
		t, f := (*[32]byte)(to), (*[32]byte)(from)
		*(*[8]byte)(t[0:]) = *(*[8]byte)(f[0:])
		*(*[8]byte)(t[8:]) = *(*[8]byte)(f[8:])
		*(*[8]byte)(t[16:]) = *(*[8]byte)(f[16:])
		*(*[8]byte)(t[24:]) = *(*[8]byte)(f[24:])
		to, from = to[32:], from[32:]
	}
	for len(from) >= 8 && len(to) >= 8 {
		*(*[8]byte)(to) = *(*[8]byte)(from)
		to, from = to[8:], from[8:]
	}
	for i := range min(len(to), len(from)) {
		to[i] = from[i]
	}
}

// storeWords copies p to to, which is aligned and has room for whole words.
func storeWords(to unsafe.Pointer, p []byte) {
	i := 0
	for ; i+64 <= len(p); i += 64 {
		w, q := (*[8]uint64)(unsafe.Add(to, i)), p[i:i+64]
		atomic.StoreUint64(&w[0], nativeWord(q[0:8]))
		atomic.StoreUint64(&w[1], nativeWord(q[8:16]))
		atomic.StoreUint64(&w[2], nativeWord(q[16:24]))
		atomic.StoreUint64(&w[3], nativeWord(q[24:32]))
		atomic.StoreUint64(&w[4], nativeWord(q[32:40]))
		atomic.StoreUint64(&w[5], nativeWord(q[40:48]))
		atomic.StoreUint64(&w[6], nativeWord(q[48:56]))
		atomic.StoreUint64(&w[7], nativeWord(q[56:64]))
	}
	for ; i+8 <= len(p); i += 8 {
		atomic.StoreUint64((*uint64)(unsafe.Add(to, i)), nativeWord(p[i:]))
	}
	if i < len(p) {
		var tail [8]byte
		copy(tail[:], p[i:])
		atomic.StoreUint64((*uint64)(unsafe.Add(to, i)), nativeWord(tail[:]))
	}
}

// loadWords fills p from from, which is aligned and has whole words to read.
func loadWords(p []byte, from unsafe.Pointer) {
	i := 0
	for ; i+64 <= len(p); i += 64 {
		w, q := (*[8]uint64)(unsafe.Add(from, i)), p[i:i+64]
		putNative(q[0:8], atomic.LoadUint64(&w[0]))
		putNative(q[8:16], atomic.LoadUint64(&w[1]))
		putNative(q[16:24], atomic.LoadUint64(&w[2]))
		putNative(q[24:32], atomic.LoadUint64(&w[3]))
		putNative(q[32:40], atomic.LoadUint64(&w[4]))
		putNative(q[40:48], atomic.LoadUint64(&w[5]))
		putNative(q[48:56], atomic.LoadUint64(&w[6]))
		putNative(q[56:64], atomic.LoadUint64(&w[7]))
	}
	for ; i+8 <= len(p); i += 8 {
		putNative(p[i:], atomic.LoadUint64((*uint64)(unsafe.Add(from, i))))
	}
	if i < len(p) {
		var tail [8]byte
		putNative(tail[:], atomic.LoadUint64((*uint64)(unsafe.Add(from, i))))
		copy(p[i:], tail[:])
	}
}

// nativeWord and putNative carry words between shared memory and bytes, in the
// machine's own order.
func nativeWord(b []byte) uint64   { return binary.NativeEndian.Uint64(b) }
func putNative(b []byte, w uint64) { binary.NativeEndian.PutUint64(b, w) }
