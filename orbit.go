// Package orbit lets sibling processes on one host share recent facts: the
// newest load figure, a small cache, what just happened, who is doing what,
// who is alive. Each process joins a named fleet and meets the others in POSIX
// shared memory. There is no server, no broker and no file to clean up after a
// crash that would hold anybody back.
//
// # The model
//
// A [Fleet] is a process's handle into a named fleet. It has one [Ring] per
// kind: a fixed-capacity circular log with many writers and many readers.
// Publishing reserves the next counter of the ring, mints a [NetID64] from the
// kind, the node and the counter, and writes slot counter % capacity, where
// the oldest frame was. Readers tolerate that: an overwritten frame is missing
// by design, and a [Cursor] reports exactly how many it did not see, and why.
//
//	     writers                     ring of kind 12                   readers
//	node 1 ──publish──┐   ┌─────┬─────┬─────┬─────┬─────┬─────┐
//	node 2 ──publish──┼──▶│ 96  │ 97  │ 98  │ 91  │ 92  │ ... │──▶ Newest, Read
//	node 3 ──publish──┘   └─────┴─────┴──▲──┴─────┴─────┴─────┘──▶ Cursor, Wait
//	                                  head = 99
//
// A Go type names a ring by the kind byte it declares, so callers pass types
// and never ring names:
//
//	type Load struct{ CPU, Memory float64 }
//
//	func (Load) OrbitKind() uint8 { return 12 }
//
//	fleet, err := orbit.Join("web", orbit.Options{Size: 4})
//	load, err := orbit.Bind[Load](fleet)
//	id, err := load.Store(Load{CPU: 0.7})
//	newest, id, err := load.Load()
//
// Use [Bind] for small values of fixed layout, [RingOf] for payloads of bytes.
// Reading and storing allocate nothing and make no system call.
//
// # Reading everything
//
// A [Cursor] reads a ring in order. It is told what it was too slow for, and
// sleeps while there is nothing:
//
//	cursor := load.Ring().Oldest()
//	for frame, err := range cursor.Frames(ctx) {
//		...
//	}
//	missed := cursor.Tally().Gap
//
// # What stands on the rings
//
// Events are news for whoever listens. All topics share one ring, and a
// subscriber that falls behind is told by how much:
//
//	bus, err := orbit.Events(fleet)
//	id, err := bus.Publish("job.done", payload)
//	for ev, err := range bus.SubscribeNow(orbit.TopicPrefix("job.")).Events(ctx) {
//		...
//	}
//
// A [Cache] has bytes by key. It forgets by overwriting its oldest writes:
//
//	cache, err := orbit.OpenCache(fleet, "session/")
//	err = cache.Put(token, user, time.Hour)
//	user, ok, err := cache.Get(token)
//	won, err := cache.Add("rebuild", nil, time.Minute) // by one process only
//
// A [Contest] decides who does what. A guard falls with its process, and its
// token fences off whoever held the subject before:
//
//	contest, err := orbit.OpenContest(fleet)
//	guard, err := orbit.Claim[Job](contest, "nightly", "worker-1", time.Minute)
//	if errors.Is(err, orbit.ErrHeld) {
//		return // the error says whom to yield to
//	}
//	defer guard.Release()
//
// A [Heartbeat] says who is still publishing, [Fleet.Members] who has a seat. A
// process that hangs keeps its seat, and its heart stops:
//
//	heart, err := orbit.Heartbeats(fleet)
//	err = heart.Beat() // from the loop that does the work
//	pulses, err := heart.Snapshot(5 * time.Second)
//
// # Processes come and go
//
// A process may be killed at any instruction. Its seat, its node id and its
// claims are free as soon as the kernel knows; the frame it was writing is lost
// and counted as such. A stopped process is stepped round, and when it goes on
// it damages nothing. Segments stay when all members are gone, and the next
// member goes on with them; [Remove] deletes them. [Observe] opens a fleet for
// reading only, without joining it.
//
// # Errors
//
// Errors are tested for with [errors.Is] against the variables of this package,
// and say what was found and what was wanted. That there is no frame to return
// is [ErrNoFrame], which is not a failure. Nothing panics on bad input.
//
// # Guarantees
//
// No frame is ever torn. Newest means newest. A cursor accounts for every
// counter. A process killed at any instruction, or stopped for any time, holds
// nobody back. Damaged or foreign memory is an error. The README lists each
// with the test that shows it, and the limits.
//
// Process-local fleets ([Local]) run the same code over the process's own
// memory, on every system. Shared fleets ([Join]) need Linux or macOS.
//
// # Trust
//
// All processes of one user are trusted to follow the protocol; nobody else
// can open the segments. A sibling that scribbles over a segment can make
// operations fail, lose frames or get wrong ones, never crash or hang another
// process.
package orbit

import (
	"errors"
	"iter"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"
	"unsafe"
)

// Errors to test for with [errors.Is]. The errors returned say more: where,
// what was found, and what was wanted.
var (
	// ErrClosed: the fleet was closed in this process.
	ErrClosed = errors.New("orbit: fleet is closed")
	// ErrReadOnly: an observer cannot write.
	ErrReadOnly = errors.New("orbit: observers cannot write")
	// ErrName: a fleet name that is not 1 to 64 letters, digits, '.', '_' and
	// '-' with a letter or digit in front.
	ErrName = errors.New("orbit: bad fleet name")
	// ErrSize: an expected size below 1 or above MaxMembers.
	ErrSize = errors.New("orbit: bad fleet size")
	// ErrNode: a node id that a live member holds.
	ErrNode = errors.New("orbit: node id is taken")
	// ErrFull: all seats of the fleet are taken by live members.
	ErrFull = errors.New("orbit: fleet is full")
	// ErrInUse: a fleet cannot be removed while a member lives.
	ErrInUse = errors.New("orbit: fleet is in use")
	// ErrNotExist: there is no such fleet or ring.
	ErrNotExist = errors.New("orbit: does not exist")
	// ErrKind: a kind that is reserved, or not the ring's.
	ErrKind = errors.New("orbit: wrong kind")
	// ErrType: a type that cannot be bound, or a kind bound to another type.
	ErrType = errors.New("orbit: wrong type")
	// ErrGeometry: siblings disagree on a ring's geometry, or it is impossible.
	ErrGeometry = errors.New("orbit: wrong geometry")
	// ErrForeign: an object with a segment's name that is not a sound segment.
	ErrForeign = errors.New("orbit: foreign or damaged segment")
	// ErrVersion: a segment of another format version.
	ErrVersion = errors.New("orbit: other format version")
	// ErrNoSpace: shared memory is full.
	ErrNoSpace = errors.New("orbit: no space in shared memory")
	// ErrDamaged: a segment was truncated, overwritten or removed while in use.
	ErrDamaged = errors.New("orbit: segment was damaged while in use")
	// ErrTooLarge: something is longer than its limit.
	ErrTooLarge = errors.New("orbit: too large")
	// ErrBusy: others were always first, or hold every slot.
	ErrBusy = errors.New("orbit: ring is too busy")

	// ErrNoFrame: there is no frame to return. The five below match it.
	ErrNoFrame = errors.New("orbit: no frame")
	// ErrPending: the frame is being written by a live member.
	ErrPending error = &noFrame{"orbit: frame is being written"}
	// ErrHole: the counter carries no frame.
	ErrHole error = &noFrame{"orbit: counter carries no frame"}
	// ErrOverwritten: a newer frame took the slot, or the ring was reset.
	ErrOverwritten error = &noFrame{"orbit: frame was overwritten"}
	// ErrLost: the writer died before it finished the frame.
	ErrLost error = &noFrame{"orbit: frame was lost with its writer"}
	// ErrUnpublished: the counter is not reached yet.
	ErrUnpublished error = &noFrame{"orbit: frame is not published yet"}
)

// Signals between functions of this package; callers never see them.
var (
	errChanged  = errors.New("orbit: slot changed while it was read")
	errUnmarked = errors.New("orbit: slot is not marked yet")
	errExists   = errors.New("orbit: segment exists")
)

// noFrame is one of the reasons for ErrNoFrame.
type noFrame struct{ text string }

func (e *noFrame) Error() string        { return e.text }
func (e *noFrame) Is(target error) bool { return target == ErrNoFrame }

func isNoFrame(err error) bool { return err == ErrNoFrame || err == ErrPending }

// contextError says what happened and matches a sentinel or system error.
type contextError struct {
	_    incomparable
	text string
	err  error
}

func (e *contextError) Unwrap() error { return e.err }

func (e *contextError) Error() string {
	if errno, ok := e.err.(syscall.Errno); ok {
		return "orbit: " + e.text + ": " + errno.Error()
	}
	return "orbit: " + e.text
}

// problem is a [contextError], out of line as all that makes error texts.
//
//go:noinline
func problem(text string, err error) error { return &contextError{text: text, err: err} }

//go:noinline
func foreign(text string) error { return problem(text, ErrForeign) }

// within puts the place of an error in front of what it says.
func within(place string, err error) error {
	if err == nil {
		return nil
	}
	return problem(place+": "+strings.TrimPrefix(err.Error(), "orbit: "), err)
}

func sizeError(what string, found, limit int) error {
	return problem(what+" of "+itoa(found)+" bytes, limit "+itoa(limit), ErrTooLarge)
}

// itoa is strconv.Itoa out of line: error texts are many, and rarely made.
//
//go:noinline
func itoa(n int) string { return strconv.Itoa(n) }

// quote puts s in quotes, with control characters and what is not UTF-8 in hex.
// That of package strconv knows what Unicode can print, and has the size of it.
//
//go:noinline
func quote(s string) string {
	const digits = "0123456789abcdef"
	text := utf8.ValidString(s)
	b := append(make([]byte, 0, len(s)+2), '"')
	for i := range len(s) {
		if c := s[i]; c == '"' || c == '\\' {
			b = append(b, '\\', c)
		} else if c < ' ' || c == 0x7f || c > 0x7f && !text {
			b = append(b, '\\', 'x', digits[c>>4], digits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}

func (r *Ring) place() string { return ringPlace(r.fleet.name, r.header.kind) }

func ringPlace(fleet string, kind uint8) string {
	if kind == kindRoster {
		return "fleet " + quote(fleet)
	}
	return "ring " + itoa(int(kind)) + " of fleet " + quote(fleet)
}

func (r *Ring) fail(err error, text string) error {
	return within(r.place(), problem(text, err))
}

// refuse says why a payload of n bytes cannot be published.
func (r *Ring) refuse(n int) error {
	if r.room < 0 {
		return within(r.place(), ErrReadOnly)
	}
	return within(r.place(), sizeError("payload", n, r.limit))
}

// gateError says why the gate is shut. It is kept out of line: hot functions
// carry the check, not the story.
//
//go:noinline
func (r *Ring) gateError() error {
	if r.gate.Load() == gateDamaged {
		return damage(r.fleet.name, r.header)
	}
	return ErrClosed
}

// A Stamp is a moment on the clock that all processes of one boot share and
// that nobody can step: nanoseconds of CLOCK_MONOTONIC, which stands still
// while the machine sleeps. Stamps of one boot can be compared and subtracted.
type Stamp int64

// Now returns the present moment. It costs one reading of the clock.
func Now() Stamp { return Stamp(clockNow()) }

// Age returns how long ago the moment was.
func (s Stamp) Age() time.Duration { return time.Duration(Now() - s) }

// Time returns the moment on the wall clock as that is set now. It is off by
// the time the machine slept since.
func (s Stamp) Time() time.Time { return time.Now().Add(-s.Age()) }

// Kinds of the rings that the substrates keep. User types declare kinds from 1
// to 199; all others are reserved.
const (
	KindCache     uint8 = 200
	KindEvents    uint8 = 220
	KindHeartbeat uint8 = 221
	KindContest   uint8 = 222

	kindRoster uint8 = 0 // the roster: a segment without slots
	firstKept  uint8 = 200
)

const (
	maxMembers   = 1 << seatBits
	seatBits     = 10
	turnBits     = ownerBits - seatBits
	seatSize     = cacheLine
	rosterLen    = maxMembers*seatSize + maxKinds*wordSize
	maxKinds     = 1 << 8
	maxNodes     = 1 << 16
	maxFleetName = 64
)

// MaxMembers is how many members a fleet can have at once.
const MaxMembers = maxMembers

// Options say how to join a fleet.
type Options struct {
	// Size is how many members the caller expects the fleet to have, from 1
	// to MaxMembers. It is the caller's expectation, against which heartbeats
	// are judged, and needs not be the same for all. It must be given.
	Size int
	// Node is the caller's node id. Zero means: any that no live member has, and
	// one of 1 to Size as long as all live members have such and are fewer than
	// that. So who takes the place of a member that died takes over its id when
	// no other is left. Of ids above 64 that is so once somebody has asked for
	// the Members since the death.
	Node uint16
	// Rings gives the geometry of rings by kind. It goes before what types
	// declare. All siblings must agree. The map is kept, and must not change.
	Rings map[uint8]Geometry
	// MustExist makes Join fail with ErrNotExist instead of making the fleet,
	// for tools that look in.
	MustExist bool
	// NoFaultGuard gives up protection against one accident to save a few
	// nanoseconds per operation: if another process truncates a segment in
	// use, this process crashes instead of getting ErrDamaged.
	NoFaultGuard bool
}

// A Fleet is a process's handle into a named fleet. All methods are safe for
// concurrent use, also with [Fleet.Close], after which they fail with
// [ErrClosed].
type Fleet struct {
	name     string
	opts     Options
	node     uint16
	owner    uint64 // seat and turn: what names this member in state words
	readOnly bool
	instance uint64  // which incarnation of the fleet this is
	roster   *roster // nil in a process-local fleet

	mu     sync.Mutex
	rings  []*Ring // those opened so far
	closed bool
}

// Join makes this process a member of the shared fleet name, which begins to
// exist with its first member. The handle is one member; a process may join
// more than once.
//
// It fails with [ErrName], [ErrSize], [ErrKind], [ErrGeometry] or [ErrNode];
// with [ErrFull], after a second in which members may leave; with
// [ErrNotExist] if the options ask for that; with [ErrForeign], [ErrVersion] or
// [ErrNoSpace] if shared memory is not as it should be; and with an error that
// matches [errors.ErrUnsupported] where there is none. It costs some ten system
// calls.
func Join(name string, opts Options) (*Fleet, error) {
	f, err := newFleet(name, opts)
	if err != nil {
		return nil, err
	}
	if err := f.join(); err != nil {
		return nil, within("fleet "+quote(name), err)
	}
	return f, nil
}

// Local returns a fleet in this process's own memory, with this process as its
// only member, on every system. It runs the same code as a shared fleet. It
// fails with [ErrName], [ErrSize], [ErrKind] or [ErrGeometry].
func Local(name string, opts Options) (*Fleet, error) {
	f, err := newFleet(name, opts)
	if err != nil {
		return nil, err
	}
	f.node = max(opts.Node, 1)
	f.instance = newInstance()
	return f, nil
}

// Observe returns a read-only view of the shared fleet name. It joins nothing,
// needs no geometry, and maps everything read-only: what writes fails with
// [ErrReadOnly]. It has to be closed as a member has. It fails with
// [ErrNotExist] if there is no such fleet, and otherwise as [Join].
func Observe(name string) (*Fleet, error) {
	f, err := newFleet(name, Options{Size: 1})
	if err != nil {
		return nil, err
	}
	f.readOnly, f.opts.Size = true, 0
	if f.roster, err = openRoster(name, false); err != nil {
		return nil, within("fleet "+quote(name), err)
	}
	f.instance = f.roster.header.instance
	return f, nil
}

func newFleet(name string, opts Options) (*Fleet, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if opts.Size < 1 || opts.Size > maxMembers {
		return nil, problem("fleet "+quote(name)+": expected size "+itoa(opts.Size)+", want 1 to "+itoa(maxMembers), ErrSize)
	}
	for kind, g := range opts.Rings {
		if checkKind(kind) != nil && !substrateKind(kind) {
			return nil, problem("options: kind "+itoa(int(kind))+" is reserved: want a user kind, 1 to "+itoa(int(firstKept-1))+", or a substrate's", ErrKind)
		}
		if !g.orDefault().valid(kind) {
			return nil, within(ringPlace(name, kind), badGeometry(g))
		}
	}
	return &Fleet{name: name, opts: opts}, nil
}

// checkName keeps fleet names to what is harmless in a file name.
func checkName(name string) error {
	ok := len(name) >= 1 && len(name) <= maxFleetName
	for i := 0; ok && i < len(name); i++ {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = letter || i > 0 && (c == '.' || c == '_' || c == '-')
	}
	if !ok {
		return problem("bad fleet name "+quote(name[:min(len(name), 80)])+": want 1 to 64 letters, digits, '.', '_', '-', with a letter or digit in front", ErrName)
	}
	if n := len(segmentName(name, 255)); n > maxSegmentName {
		return problem("fleet name "+quote(name)+" is "+itoa(n-maxSegmentName)+" bytes too long for this system", ErrName)
	}
	return nil
}

// segmentName returns the name of a segment, without the leading slash of
// shm_open: orbit-{fleet}-{kind}-{uid}.
func segmentName(fleet string, kind uint8) string {
	return "orbit-" + fleet + "-" + itoa(int(kind)) + "-" + itoa(userID())
}

// parseSegmentName is segmentName backwards, for this user's segments. It
// reads from the right: a fleet's name may hold dashes and digits.
func parseSegmentName(s string) (fleet string, kind uint8, ok bool) {
	s, ok = strings.CutPrefix(s, "orbit-")
	if !ok {
		return "", 0, false
	}
	s, ok = strings.CutSuffix(s, "-"+itoa(userID()))
	i := strings.LastIndexByte(s, '-')
	if !ok || i < 0 {
		return "", 0, false
	}
	k, err := strconv.ParseUint(s[i+1:], 10, 8)
	if err != nil || checkName(s[:i]) != nil || segmentName(s[:i], uint8(k)) != "orbit-"+s+"-"+itoa(userID()) {
		return "", 0, false
	}
	return s[:i], uint8(k), true
}

// Name returns the fleet's name.
func (f *Fleet) Name() string { return f.name }

// Node returns this member's node id: 1 to 65535, unique among live members.
// It is 0 for an observer.
func (f *Fleet) Node() uint16 { return f.node }

// Incarnation tells this fleet from others that had its name and were removed:
// a number, not 0, that all its members agree on. Whoever keeps fence tokens or
// positions outside the fleet keeps it beside them: in a new incarnation both
// begin anew.
func (f *Fleet) Incarnation() uint64 { return f.instance }

// Size returns the expected size the fleet was joined with. It is 0 for an
// observer.
func (f *Fleet) Size() int { return f.opts.Size }

// Shared tells whether the fleet is in shared memory.
func (f *Fleet) Shared() bool { return f.roster != nil }

// Close leaves the fleet. Operations under way in other goroutines end with
// their result or with [ErrClosed]; those that wait are woken. What was
// published stays. Closing again does nothing.
func (f *Fleet) Close() error {
	f.mu.Lock()
	closing := !f.closed
	f.closed = true
	f.mu.Unlock()
	if !closing {
		return nil
	}
	// Nothing is opened any more. Substrates may use the fleet to end.
	for _, r := range f.rings {
		if r.substrate != nil {
			r.substrate.close()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	drained := true
	for _, r := range f.rings {
		r.shut(gateClosed)
		drained = r.drain() && drained
	}
	if f.roster != nil {
		f.roster.leave(f, drained)
	}
	for _, r := range f.rings {
		if r.mem.shared {
			r.mem.detach()
		}
	}
	return nil
}

// A closer is a substrate of which a fleet keeps one, to end it when it closes.
// The fleet knows it by this interface only: a program that uses none is not
// to link them.
type closer interface{ close() }

// keepOne returns the substrate on this ring, opened at the first call.
func (r *Ring) keepOne(open func() closer) (closer, error) {
	r.fleet.mu.Lock()
	defer r.fleet.mu.Unlock()
	if r.fleet.closed {
		return nil, ErrClosed
	}
	if r.substrate == nil {
		r.substrate = open()
	}
	return r.substrate, nil
}

// Ring returns the ring of a user kind, from 1 to 199, which begins to exist
// with the first member that asks for it. Its geometry is the one in
// [Options.Rings], or [DefaultGeometry]. An observer gets any ring that
// exists, of any kind but 0, with the geometry it has.
//
// It fails with [ErrKind] for a kind that is reserved, [ErrGeometry] if the
// fleet's ring has another geometry, [ErrNotExist] for an observer if there is
// none, [ErrForeign], [ErrVersion], [ErrNoSpace] or [ErrDamaged] if its segment
// is not as it should be, and [ErrClosed]. Asking again returns the same ring.
func (f *Fleet) Ring(kind uint8) (*Ring, error) {
	if !f.readOnly || kind == kindRoster {
		if err := checkKind(kind); err != nil {
			return nil, within("fleet "+quote(f.name), err)
		}
	}
	return f.open(kind, f.geometry(kind, DefaultGeometry), 0)
}

// geometry returns the geometry of a kind: the options' before the declared.
func (f *Fleet) geometry(kind uint8, declared Geometry) Geometry {
	if own, ok := f.opts.Rings[kind]; ok {
		return own.orDefault()
	}
	return declared.orDefault()
}

// substrateKind tells whether a kind is of a ring that a substrate stands on.
func substrateKind(kind uint8) bool {
	return kind == KindCache || kind >= KindEvents && kind <= KindContest
}

func checkKind(kind uint8) error {
	if kind == kindRoster || kind >= firstKept {
		return problem("kind "+itoa(int(kind))+" is reserved: want 1 to "+itoa(int(firstKept-1)), ErrKind)
	}
	return nil
}

func badGeometry(g Geometry) error {
	return problem("impossible geometry: "+g.String()+", want a power of two from 1 to 2^30 slots of 0 to "+itoa(MaxPayload)+
		" bytes, at most "+strconv.FormatUint(maxSlots, 10)+" bytes in all", ErrGeometry)
}

// openFor is open for a substrate, whose frames need slots of so many bytes.
func (f *Fleet) openFor(kind uint8, g Geometry, least, tableLen int) (*Ring, error) {
	if g.PayloadLimit < least {
		return nil, within(ringPlace(f.name, kind), problem("payload limit "+itoa(g.PayloadLimit)+", want at least "+itoa(least), ErrGeometry))
	}
	return f.open(kind, g, tableLen)
}

// open returns the ring of a kind from the registry, or attaches to its
// segment, or creates it with this geometry and a table of tableLen bytes.
func (f *Fleet) open(kind uint8, g Geometry, tableLen int) (*Ring, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	if !g.valid(kind) && !f.readOnly {
		return nil, within(ringPlace(f.name, kind), badGeometry(g))
	}
	want := layout(kind, g, tableLen)
	want.created = clockNow()
	r := f.opened(kind)
	known := r != nil
	if !known {
		s, err := f.attach(&want)
		if err != nil {
			return nil, within(ringPlace(f.name, kind), err)
		}
		r = newRing(f, s)
	}
	if err := sameGeometry(&r.header, &want); err != nil && !f.readOnly {
		return nil, within(r.place(), err)
	}
	if !known {
		f.rings = append(f.rings, r)
	}
	return r, nil
}

// opened returns the ring of a kind if this handle has it. The caller holds
// the lock.
func (f *Fleet) opened(kind uint8) *Ring {
	for _, r := range f.rings {
		if r.header.kind == kind {
			return r
		}
	}
	return nil
}

func sameGeometry(found, want *segmentHeader) error {
	if found.geometry() != want.geometry() || found.tableLen != want.tableLen {
		return problem("the fleet has "+found.describe()+", this process wants "+want.describe(), ErrGeometry)
	}
	return nil
}

// attach returns the segment of a ring: this process's own, or the fleet's.
func (f *Fleet) attach(want *segmentHeader) (*segment, error) {
	want.instance = f.instance
	if f.roster == nil {
		s := &segment{mem: localBlock(want.size), header: *want}
		formatRing(s.mem, want, 0)
		return s, nil
	}
	for range maxAttempts {
		if s, err := f.attachShared(want); err != errChanged {
			return s, err
		}
	}
	return nil, problem("made anew at every attempt", ErrBusy)
}

func (f *Fleet) attachShared(want *segmentHeader) (*segment, error) {
	s, err := openSegment(segmentName(f.name, want.kind), want, !f.readOnly)
	if err != nil {
		return nil, err
	}
	s.file.close() // the mapping stays
	if s.header.instance != want.instance {
		err = foreign("left over from another incarnation of the fleet; stop the fleet and remove it")
	} else if !f.readOnly {
		err = f.roster.adopt(f, &s.header)
	}
	if err != nil {
		s.mem.unmap()
		return nil, err
	}
	s.keep()
	return s, nil
}

// openSegment attaches to a segment after full validation, or creates it if it
// may. Many processes may try at once: one creates, the others attach.
func openSegment(name string, want *segmentHeader, write bool) (*segment, error) {
	for range maxAttempts {
		file, err := shmOpen(name, write)
		if err == ErrNotExist && write {
			if err = shmCreate(name, want); err == nil || err == errExists {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		return file.attach(want.kind, write)
	}
	return nil, problem("removed as often as it was created", ErrBusy)
}

// attach validates an open segment on a private copy of its header, and maps
// it only then.
func (f *shmFile) attach(kind uint8, write bool) (s *segment, err error) {
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	var page [headerSize]byte
	n, err := f.readHeader(page[:])
	if err != nil {
		return nil, within("cannot read the header", err)
	}
	s = &segment{file: f}
	if s.header, err = decodeHeader(page[:n], f.size); err != nil {
		return nil, err
	}
	if s.header.kind != kind {
		return nil, foreign("a segment of kind " + itoa(int(s.header.kind)) + " under the name of kind " + itoa(int(kind)))
	}
	s.mem, err = f.mapSegment(s.header.size, write)
	return s, err
}

// Kinds returns the kinds of the rings that exist in the fleet, in order. Of a
// process-local fleet those are the ones in use. Segments that are not sound
// are listed too: [Fleet.Ring] says what is wrong with them. On macOS, which
// cannot list shared memory, the error of a shared fleet matches
// [errors.ErrUnsupported].
func (f *Fleet) Kinds() ([]uint8, error) {
	if f.isClosed() {
		return nil, ErrClosed
	}
	var kinds []uint8
	if f.roster == nil {
		f.mu.Lock()
		for _, r := range f.rings {
			kinds = append(kinds, r.header.kind)
		}
		f.mu.Unlock()
	} else {
		var err error
		if kinds, err = listKinds(f.name); err != nil {
			return nil, err
		}
		kinds = slices.DeleteFunc(kinds, func(k uint8) bool { return k == kindRoster })
	}
	slices.Sort(kinds)
	return kinds, nil
}

// Fleets returns the names of this user's fleets that have anything in shared
// memory, in order, whether or not a member lives. On macOS, which cannot list
// shared memory, the error matches [errors.ErrUnsupported].
func Fleets() ([]string, error) {
	names, err := shmList("orbit-")
	if err != nil {
		return nil, err
	}
	var fleets []string
	for _, s := range names {
		if fleet, _, ok := parseSegmentName(s); ok {
			fleets = append(fleets, fleet)
		}
	}
	slices.Sort(fleets)
	return slices.Compact(fleets), nil
}

// Remove deletes the segments of the fleet name, if no member lives: otherwise
// it fails with [ErrInUse] and names one. Objects that are not plain files of
// this user alone are left where they are, with an error. Observers keep what
// they have mapped.
func Remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := removeFleet(name)
	return within("fleet "+quote(name), err)
}

func removeFleet(name string) error {
	for range maxAttempts {
		ro, err := openRoster(name, true)
		if errors.Is(err, ErrForeign) || errors.Is(err, ErrVersion) {
			ro, err = openRemains(name, err)
		}
		if err == ErrNotExist {
			// Rings without a roster. A roster of our own keeps joiners out of
			// them, or else they would lose the rings of a fleet just begun.
			kinds, e := segmentKinds(name)
			if e != nil {
				return e
			}
			if len(kinds) == 0 {
				return ErrNotExist
			}
			if err = createRoster(name); err == nil || err == errExists {
				continue
			}
		}
		if err != nil {
			return err
		}
		if again, err := ro.remove(name); !again {
			return err
		}
	}
	return problem("removed as often as it was created", ErrBusy)
}

// remove deletes the segments of a fleet, if this is still its roster.
func (ro *roster) remove(name string) (again bool, err error) {
	defer ro.file.close()
	// The lock keeps joiners out until the roster, unlinked last, is gone:
	// none can end up in rings that are about to lose their names.
	ok, err := ro.file.lockFleet(maxMembers, ro.mark)
	if err != nil {
		return false, err
	}
	if !ok {
		return false, problem("in use"+ro.someMember(), ErrInUse)
	}
	defer ro.file.unlockFleet(maxMembers, ro.mark)
	if !ro.file.linked() {
		return true, nil // somebody else was first, and another fleet may have begun
	}
	kinds, err := segmentKinds(name)
	if err != nil {
		return false, err
	}
	var failed error
	for _, kind := range kinds {
		if err := removeSegment(segmentName(name, kind)); err != nil && !errors.Is(err, ErrNotExist) {
			failed = errors.Join(failed, within(ringPlace(name, kind), err))
		}
	}
	return false, failed
}

// openRemains opens a roster that cannot be attached to, if it is the damaged
// or outdated remains of one: that need not keep its fleet from being removed,
// as long as the kernel says that nobody is in it.
func openRemains(name string, unsound error) (*roster, error) {
	file, err := shmOpen(segmentName(name, kindRoster), true)
	if err != nil {
		return nil, unsound
	}
	if nodeTableLen != 0 { // the marks of the living were in it
		file.close()
		return nil, unsound
	}
	var magic [len(segmentMagic)]byte
	n, _ := file.readHeader(magic[:])
	if string(magic[:n]) != segmentMagic[:n] {
		file.close()
		return nil, unsound
	}
	return &roster{segment: &segment{file: file}}, nil
}

// segmentKinds lists the kinds of a fleet's segments with the roster last. A
// system that cannot list is asked for every kind.
func segmentKinds(name string) (kinds []uint8, err error) {
	kinds, err = listKinds(name)
	if errors.Is(err, errors.ErrUnsupported) {
		for kind := range 255 {
			kinds = append(kinds, uint8(255-kind))
		}
		return append(kinds, kindRoster), nil
	}
	slices.Sort(kinds)
	slices.Reverse(kinds)
	return kinds, err
}

// listKinds lists the kinds of a fleet's segments in no order.
func listKinds(name string) (kinds []uint8, err error) {
	names, err := shmList("orbit-" + name + "-")
	for _, s := range names {
		if fleet, kind, ok := parseSegmentName(s); ok && fleet == name {
			kinds = append(kinds, kind)
		}
	}
	return kinds, err
}

func removeSegment(name string) error {
	file, err := shmOpen(name, false)
	if err != nil {
		return err
	}
	file.close()
	return shmUnlink(name)
}

// ---- Members ----

// A roster is the segment of kind 0: the seats of the fleet's members, and for
// each kind the time of creation of the segment that the members use. A seat is
// one cache line:
//
//	state u64  check : 51 | turn : 12 | taken : 1, or 0 if it was never taken
//	pid u64 | node u64 | since u64 | mark u64
//
// A seat belongs to whoever holds its lock, which the kernel drops when the
// holder dies. The turn grows with every holder, so that seat and turn, the
// owner in a slot's state word, name one member only; the 12 bits of it that
// count come round after 4096 holders of a seat, and an owner as old as that
// is at worst taken for a live one: its slot is stepped round, not shared.
type roster struct {
	_    incomparable
	name string // of the fleet
	*segment

	mu   sync.RWMutex // held to write when the file is closed
	left bool
}

const (
	seatTaken = 1
	seatPID   = 8
	seatNode  = 16
	seatSince = 24
	seatMark  = 32
	turnMask  = 1<<turnBits - 1
)

func (ro *roster) seat(i, off int) *uint64 { return ro.mem.word(ro.header.table + i*seatSize + off) }
func (ro *roster) mark(i int) *uint64 {
	if ro.mem.base == nil {
		return nil
	}
	return ro.seat(i, seatMark)
}

func (ro *roster) segmentInUse(kind uint8) *uint64 {
	return ro.mem.word(ro.header.table + maxMembers*seatSize + int(kind)*wordSize)
}

// nodeMark is the mark of a node id, on systems that need one.
func (ro *roster) nodeMark(n uint16) *uint64 {
	if nodeTableLen == 0 {
		return nil
	}
	return ro.mem.word(ro.header.table + rosterLen + int(n)*wordSize)
}

func openRoster(name string, write bool) (*roster, error) {
	want := layout(kindRoster, Geometry{}, rosterLen+nodeTableLen)
	file, err := shmOpen(segmentName(name, kindRoster), write)
	if err != nil {
		return nil, err
	}
	seg, err := file.attach(kindRoster, write)
	if err != nil {
		return nil, err
	}
	if found := seg.header.tableLen; found != want.tableLen {
		seg.mem.unmap()
		file.close()
		return nil, foreign("a roster of " + itoa(found) + " bytes, want " + itoa(want.tableLen))
	}
	seg.keep()
	return &roster{name: name, segment: seg}, nil
}

// join opens or creates the roster and takes a seat in it.
func (f *Fleet) join() (err error) {
	var wait backoff
	for {
		ro, err := openRoster(f.name, true)
		if err == ErrNotExist && !f.opts.MustExist {
			if err = createRoster(f.name); err == nil || err == errExists {
				continue
			}
		}
		if err != nil {
			return err
		}
		err = ro.admit(f)
		if err == nil {
			f.roster, f.instance = ro, ro.header.instance
			return nil
		}
		gone := !ro.file.linked()
		ro.file.close()
		// A fleet being removed has no free seat for a moment, and then no name.
		if !gone && !errors.Is(err, ErrFull) || !wait.pause(time.Second) {
			return err
		}
	}
}

// createRoster makes the roster of a fleet that has none.
func createRoster(fleet string) error {
	h := layout(kindRoster, Geometry{}, rosterLen+nodeTableLen)
	h.created = clockNow()
	h.instance = newInstance()
	return shmCreate(segmentName(fleet, kindRoster), &h)
}

// newInstance names an incarnation of a fleet. Two of them must differ, no more.
func newInstance() uint64 {
	x := uint64(time.Now().UnixNano()) ^ uint64(processID())<<40
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31 | 1
}

// admit takes a seat and a node id for f.
func (ro *roster) admit(f *Fleet) (err error) {
	defer ro.catchFault(enterGuard(), &err)
	i, err := ro.takeSeat(f.opts.Size)
	if err != nil {
		return err
	}
	node, admitted := uint16(0), false
	defer func() { // even if the roster is truncated now: to close it frees no lock
		if !admitted {
			ro.file.unlockNode(node, ro.nodeMark(node))
			ro.file.unlockSeat(i, ro.mark(i))
		}
	}()
	// Whoever removes the fleet holds all seats, so from here on the roster
	// keeps its name, if it still has it.
	if !ro.file.linked() {
		return ErrFull
	}
	n, err := ro.takeNode(f.opts.Node, i)
	if err != nil {
		return err
	}
	node = n
	last := atomic.LoadUint64(ro.seat(i, 0))
	turn := (last>>1 + 1) & turnMask
	// The seat is nobody's while it is written, so that nobody is seen in it as
	// half the one and half the other.
	atomic.StoreUint64(ro.seat(i, 0), sealed(last&^seatTaken))
	atomic.StoreUint64(ro.seat(i, seatPID), uint64(processID()))
	atomic.StoreUint64(ro.seat(i, seatNode), uint64(node))
	atomic.StoreUint64(ro.seat(i, seatSince), uint64(clockNow()))
	atomic.StoreUint64(ro.seat(i, 0), sealed(turn<<1|seatTaken))
	f.node = node
	f.owner = uint64(i)<<turnBits | turn
	admitted = true
	return nil
}

// adopt makes a ring's segment the one that the members use, unless they use
// another: a name can be removed by hand under a live fleet, and those who had
// it would never meet those who make it anew. It returns errChanged if the
// segment is itself the one removed.
func (ro *roster) adopt(self *Fleet, h *segmentHeader) (err error) {
	defer ro.catchFault(enterGuard(), &err)
	word, created := ro.segmentInUse(h.kind), uint64(h.created)
	for {
		used := atomic.LoadUint64(word)
		switch {
		case used == created:
			return nil
		case used > created:
			return errChanged
		case used != 0 && ro.anyOlder(self, h.created):
			return problem("its segment was removed by hand while the fleet lives: stop the members that still use it", ErrDamaged)
		case atomic.CompareAndSwapUint64(word, used, created):
			return nil
		}
	}
}

// anyOlder tells whether another member was there before a moment.
func (ro *roster) anyOlder(self *Fleet, moment int64) bool {
	for m := range ro.members(self) {
		if int64(m.Since) < moment && m.Node != self.node {
			return true
		}
	}
	return false
}

// named tells whether a segment still has its name, as far as can be told:
// without it, nobody who comes now will meet us there.
func named(fleet string, h *segmentHeader) error {
	file, err := shmOpen(segmentName(fleet, h.kind), false)
	if err == nil {
		var page [headerSize]byte
		var n int
		n, err = file.readHeader(page[:])
		file.close()
		found, e := decodeHeader(page[:n], int64(h.size))
		if err != nil || e == nil && found == *h {
			return nil
		}
		// Now, for it may have been truncated since it was opened.
		if size, ok := shmSize(segmentName(fleet, h.kind)); e != nil && ok && size < int64(h.size) {
			return damage(fleet, *h)
		}
	} else if err != ErrNotExist && !errors.Is(err, ErrForeign) {
		return nil
	}
	return within(ringPlace(fleet, h.kind), problem("its segment was removed while in use: who joins now does not meet this process", ErrDamaged))
}

// takeSeat locks a free seat: one that was given up if there is any, otherwise
// one whose holder died in it, and rather among the first, as many as members are
// expected, than behind them.
func (ro *roster) takeSeat(expected int) (int, error) {
	for pass, seats := range [...]int{expected, min(expected, maxInquest), maxMembers, maxMembers} {
		taken := [...]uint64{0, seatTaken}[pass%2]
		for i := range seats {
			if atomic.LoadUint64(ro.seat(i, 0))&seatTaken != taken {
				continue
			}
			if ok, err := ro.file.lockSeat(i, ro.mark(i)); ok || err != nil {
				return i, within("cannot lock a seat", err)
			}
		}
	}
	return 0, problem("full: "+itoa(maxMembers)+" live members", ErrFull)
}

// maxInquest is of how many seats a member that joins asks whether their holders
// are dead before it takes one that nobody had: to ask takes up to 4 us where
// hundreds live.
const maxInquest = 64

// takeNode locks the wanted node id, or, if none is wanted, the one of the seat
// or another.
func (ro *roster) takeNode(want uint16, seat int) (uint16, error) {
	if want != 0 {
		ok, err := ro.file.lockNode(want, ro.nodeMark(want))
		if err == nil && !ok {
			err = problem("node "+itoa(int(want))+" is taken"+ro.holderOf(want), ErrNode)
		}
		return want, err
	}
	for n := seat + 1; n < maxNodes; n++ {
		if ok, err := ro.file.lockNode(uint16(n), ro.nodeMark(uint16(n))); ok || err != nil {
			return uint16(n), err
		}
	}
	return 0, problem("no free node id above "+itoa(seat), ErrNode)
}

func (ro *roster) holderOf(node uint16) string {
	for m := range ro.members(nil) {
		if m.Node == node {
			return " by process " + itoa(m.PID)
		}
	}
	return ""
}

func (ro *roster) someMember() (text string) {
	if ro.mem.base == nil {
		return ""
	}
	var err error
	defer ro.catchFault(enterGuard(), &err)
	for m := range ro.members(nil) {
		return ": node " + itoa(int(m.Node)) + " lives in process " + itoa(m.PID)
	}
	return ""
}

// memberAlive asks the kernel whether a member holds its seat. Doubt counts as
// life: a slot taken from a live writer would be a torn frame.
func (f *Fleet) memberAlive(owner uint64) bool {
	if f.roster == nil || owner == f.owner && !f.readOnly {
		return true
	}
	return f.roster.alive(int(owner>>turnBits), owner&turnMask)
}

func (ro *roster) alive(seat int, turn uint64) bool {
	// A holder of that turn who died may be followed at any moment.
	return ro.mayHave(seat, turn) && ro.held(seat) && ro.mayHave(seat, turn)
}

// mayHave tells whether the word of a seat is of that turn, or says nothing,
// because it was overwritten: then the lock alone counts.
func (ro *roster) mayHave(seat int, turn uint64) bool {
	w := atomic.LoadUint64(ro.seat(seat, 0))
	return w == sealed(turn<<1|seatTaken) || w != sealed(w)
}

// sealed returns the word of a seat for the low bits of v, with check bits.
func sealed(v uint64) uint64 {
	v &= 1<<(turnBits+1) - 1
	return v | (v+1)*0x9e3779b97f4a7c15<<(turnBits+1)
}

func (ro *roster) held(seat int) bool {
	ro.mu.RLock()
	defer ro.mu.RUnlock()
	if ro.left {
		return true
	}
	held, err := ro.file.seatHeld(seat, ro.mark(seat))
	return held || err != nil
}

// leave gives up the seat of f. If one of its own writes is still unfinished
// the lock is kept until the process ends.
func (ro *roster) leave(f *Fleet, drained bool) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	ro.left = true
	if !drained {
		return
	}
	if !f.readOnly {
		i := int(f.owner >> turnBits)
		ro.vacate(i, f.owner&turnMask)
		ro.file.unlockNode(f.node, ro.nodeMark(f.node))
		ro.file.unlockSeat(i, ro.mark(i))
	}
	ro.file.close()
}

// vacate marks a seat as given up.
func (ro *roster) vacate(i int, turn uint64) {
	var err error // a damaged roster has no seats to give up
	defer ro.catchFault(enterGuard(), &err)
	atomic.StoreUint64(ro.seat(i, 0), sealed(turn<<1))
}

// A Member is a process that holds a seat in the fleet.
type Member struct {
	Node  uint16
	PID   int   // as the member sees itself: another PID namespace has other numbers
	Since Stamp // when it joined
}

// Members returns who is in the fleet now, by seat. That a member is listed is
// the kernel's word: its handle is open in a living process, which may be
// stopped or hang all the same. While members come and go, each listed was there
// at some moment of the call, and no two have one node id. It costs a system call
// per member. It fails with [ErrDamaged] if the fleet was removed by hand, and this
// process left in the one that was.
func (f *Fleet) Members() ([]Member, error) {
	if f.isClosed() {
		return nil, ErrClosed
	}
	if f.roster == nil {
		return []Member{{Node: f.node, PID: processID(), Since: localStart}}, nil
	}
	err := named(f.name, &f.roster.header)
	if err != nil {
		return nil, err
	}
	list := f.listMembers(&err)
	if f.isClosed() {
		return nil, ErrClosed // it may have given up its own seat meanwhile
	}
	return list, err
}

func (f *Fleet) isClosed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

var localStart = Now()

func (f *Fleet) listMembers(err *error) (list []Member) {
	defer f.roster.catchFault(enterGuard(), err)
	return lastOfEachNode(f.roster.members(f))
}

// lastOfEachNode collects members. While they are gone through, one may leave
// and another come to a seat further on with its node id: who is seen with an id
// later has it, and the one before has left.
func lastOfEachNode(members iter.Seq[Member]) (list []Member) {
	for m := range members {
		list = slices.DeleteFunc(list, func(seen Member) bool { return seen.Node == m.Node })
		list = append(list, m)
	}
	return list
}

// members yields the live members. Given a member's own handle, it also tidies
// up the seats of the dead, so that nobody has to ask for them again.
func (ro *roster) members(self *Fleet) iter.Seq[Member] {
	return func(yield func(Member) bool) {
		for i := range maxMembers {
			if m, ok := ro.member(i, self); ok && !yield(m) {
				return
			}
		}
	}
}

// member returns the live member in a seat, if there is one. It looks at the
// seat again if it changed hands meanwhile.
func (ro *roster) member(i int, self *Fleet) (Member, bool) {
	for range maxAttempts {
		st := atomic.LoadUint64(ro.seat(i, 0))
		if st&seatTaken == 0 {
			break
		}
		own := self != nil && !self.readOnly && uint64(i) == self.owner>>turnBits
		if !own && !ro.held(i) {
			if self != nil && !self.readOnly {
				ro.bury(i, st)
			}
			break
		}
		m := Member{
			Node:  uint16(atomic.LoadUint64(ro.seat(i, seatNode))),
			PID:   int(int32(atomic.LoadUint64(ro.seat(i, seatPID)))),
			Since: Stamp(atomic.LoadUint64(ro.seat(i, seatSince))),
		}
		if atomic.LoadUint64(ro.seat(i, 0)) == st {
			return m, true
		}
	}
	return Member{}, false
}

// bury marks the seat of a dead member as free. Holding its lock, nobody else
// can be in it.
func (ro *roster) bury(i int, st uint64) {
	ro.mu.RLock()
	defer ro.mu.RUnlock()
	if ro.left {
		return
	}
	if ok, _ := ro.file.lockSeat(i, ro.mark(i)); ok {
		defer ro.file.unlockSeat(i, ro.mark(i)) // even if the roster is truncated now
		atomic.CompareAndSwapUint64(ro.seat(i, 0), st, sealed(st&^seatTaken))
	}
}

// ---- Faults ----

// A segment that another process truncates makes the next access a bus error,
// which kills a Go process unless the goroutine asked for a panic instead.
// Operations on shared memory ask for that, and turn it into ErrDamaged:
//
//	defer r.catchFault(enterGuard(), &err)
//
// A build with the race detector is not protected: its atomic operations are
// made in code that no Go panic can leave.

// setPanicOnFault is what debug.SetPanicOnFault calls. The runtime exports it
// under this name for package runtime/debug, which would bring package os and
// 200 kB with it into every static program. Should a Go release take the name
// away, the program does not link.
//
//go:linkname setPanicOnFault runtime/debug.setPanicOnFault
func setPanicOnFault(bool) bool

// enterGuard asks for panics on bad memory, and returns what was set before.
func enterGuard() bool { return setPanicOnFault(true) }

func (r *Ring) catchFault(before bool, err *error) {
	setPanicOnFault(before)
	if p := recover(); p != nil {
		r.fleet.explain(p, r, err)
	}
}

func (ro *roster) catchFault(before bool, err *error) {
	setPanicOnFault(before)
	if p := recover(); p != nil {
		ro.explain(p, err)
	}
}

// explain turns a fault in a ring's memory into an error and shuts the ring. A
// fault in the roster fails the operation that asked it who is alive. Any other
// panic goes on.
func (f *Fleet) explain(p any, r *Ring, err *error) {
	if faultIn(p, &r.mem) {
		r.shut(gateDamaged)
		*err = r.gateError()
	} else if f.roster != nil {
		f.roster.explain(p, err)
	} else {
		panic(p)
	}
}

func (ro *roster) explain(p any, err *error) {
	if !faultIn(p, &ro.mem) {
		panic(p)
	}
	*err = damage(ro.name, ro.header)
}

func faultIn(p any, b *block) bool {
	fault, ok := p.(interface{ Addr() uintptr })
	return ok && b.contains(fault.Addr())
}

// damage says what became of a segment that faulted.
func damage(fleet string, h segmentHeader) error {
	text := "gone"
	if size, ok := shmSize(segmentName(fleet, h.kind)); ok {
		text = "truncated while in use: " + strconv.FormatInt(size, 10) + " bytes now, was " + itoa(h.size)
	}
	if h.kind == kindRoster {
		text = "roster " + text
	}
	return within(ringPlace(fleet, h.kind), problem(text, ErrDamaged))
}

// ---- Types ----

// Typed is a type that names a ring: it declares the kind of its frames, from
// 1 to 199, the same in every process. Declare the method on the value, not on
// the pointer.
type Typed interface{ OrbitKind() uint8 }

// Shaped is a [Typed] that also declares its ring's geometry. For a type bound
// by [Bind] a zero PayloadLimit means the size of the type.
type Shaped interface {
	Typed
	OrbitGeometry() Geometry
}

// RingOf returns the ring of type T for payloads of bytes. Two types that
// claim one kind, in this process or another, fail with [ErrType].
func RingOf[T Typed](f *Fleet) (*Ring, error) {
	t, kind, g, err := typeOf[T](f)
	if err != nil {
		return nil, err
	}
	return f.bind(t, kind, g.orDefault())
}

// typeOf asks T what it declares.
func typeOf[T Typed](f *Fleet) (t reflect.Type, kind uint8, g Geometry, err error) {
	t = reflect.TypeFor[T]()
	if k := t.Kind(); k == reflect.Interface || k == reflect.Pointer {
		return t, 0, g, problem("type "+t.String()+" is a "+k.String()+": bind the value type", ErrType)
	}
	var zero T
	kind = zero.OrbitKind()
	if err := checkKind(kind); err != nil {
		return t, kind, g, within("type "+t.String(), err)
	}
	if s, ok := any(zero).(Shaped); ok {
		g = s.OrbitGeometry()
	}
	if own, ok := f.opts.Rings[kind]; ok {
		g = own
	}
	return t, kind, g, nil
}

// bind opens the ring of a type and writes the type's fingerprint into it, or
// compares.
func (f *Fleet) bind(t reflect.Type, kind uint8, g Geometry) (*Ring, error) {
	if bound := f.boundType(kind); bound != nil && bound != t {
		return nil, within(ringPlace(f.name, kind), problem("bound to type "+bound.String()+", not "+t.String(), ErrType))
	}
	r, err := f.open(kind, g, 0)
	if err != nil {
		return nil, err
	}
	if err := r.bindType(t); err != nil {
		return nil, err
	}
	f.mu.Lock()
	r.bound = t
	f.mu.Unlock()
	return r, nil
}

// boundType returns the type this handle bound to a kind, if any.
func (f *Fleet) boundType(kind uint8) reflect.Type {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.opened(kind); r != nil {
		return r.bound
	}
	return nil
}

func (r *Ring) bindType(t reflect.Type) (err error) {
	defer r.catchFault(enterGuard(), &err)
	print := fingerprint(t)
	word := r.mem.word(offFingerprint)
	if !r.fleet.readOnly && atomic.CompareAndSwapUint64(word, 0, print) {
		return nil
	}
	if found := atomic.LoadUint64(word); found != print && found != 0 {
		return r.fail(ErrType, "a sibling bound another type or layout to this kind (0x"+strconv.FormatUint(found, 16)+"), not "+t.String()+" (0x"+strconv.FormatUint(print, 16)+")")
	}
	return nil
}

// fingerprint sums up a type's name and layout.
func fingerprint(t reflect.Type) uint64 {
	return checksum(appendLayout([]byte(t.Name()), t, 0)) | 1
}

func appendLayout(b []byte, t reflect.Type, depth int) []byte {
	b = append(b, ' ')
	b = append(b, t.Kind().String()...)
	b = strconv.AppendUint(b, uint64(t.Size()), 10)
	switch {
	case depth > 16: // a type that holds itself
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			b = append(append(b, ' '), f.Name...)
			b = strconv.AppendUint(append(b, '@'), uint64(f.Offset), 10)
			b = appendLayout(b, f.Type, depth+1)
		}
	case t.Kind() == reflect.Array, t.Kind() == reflect.Slice, t.Kind() == reflect.Pointer:
		b = appendLayout(b, t.Elem(), depth+1)
	}
	return b
}

// An Orbital stores and loads values of a small type of fixed layout: no
// pointers, strings, slices, maps or interfaces in it. The newest value is one
// load away for every process. It is safe for concurrent use.
type Orbital[T Typed] struct {
	ring *Ring
	pads []span
}

// span is a run of bytes in a value.
type span struct{ off, len uintptr }

// Bind returns the Orbital of type T in the fleet. It fails with [ErrType] if
// T is not of fixed layout, naming the field, or if the kind is another type's
// or has another layout for a sibling; with [ErrTooLarge] if the ring's slots
// are smaller than T; and as [Fleet.Ring]. Without a declared geometry the ring
// has 1024 slots of the size of T.
func Bind[T Typed](f *Fleet) (*Orbital[T], error) {
	t, kind, g, err := typeOf[T](f)
	if err != nil {
		return nil, err
	}
	var pads []span
	if err := fixedLayout(t, "", 0, &pads); err != nil {
		return nil, within("type "+t.String(), err)
	}
	if g.Capacity == 0 {
		g.Capacity = DefaultGeometry.Capacity
	}
	if g.PayloadLimit == 0 {
		g.PayloadLimit = int(t.Size())
	}
	if g.PayloadLimit < int(t.Size()) {
		return nil, within("type "+t.String(), sizeError("value", int(t.Size()), g.PayloadLimit))
	}
	r, err := f.bind(t, kind, g)
	if err != nil {
		return nil, err
	}
	if r.limit < int(t.Size()) { // only an observer takes the geometry it finds
		return nil, within("type "+t.String(), sizeError("value", int(t.Size()), r.limit))
	}
	return &Orbital[T]{ring: r, pads: pads}, nil
}

// fixedLayout checks that t holds no pointers and collects the spans of
// padding in it: what lies there is left over from other values.
func fixedLayout(t reflect.Type, path string, base uintptr, pads *[]span) error {
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr,
		reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return nil
	case reflect.Array:
		before := len(*pads)
		for i := range t.Len() {
			if err := fixedLayout(t.Elem(), path+"["+itoa(i)+"]", base+uintptr(i)*t.Elem().Size(), pads); err != nil {
				return err
			}
			if len(*pads) == before {
				break // one element without padding speaks for all
			}
		}
		return nil
	case reflect.Struct:
		end := uintptr(0)
		for i := range t.NumField() {
			f := t.Field(i)
			inside := pads
			if f.Name == "_" {
				inside = new([]span) // the compiler need not copy it: all padding
			} else {
				addSpan(pads, base+end, f.Offset-end)
				end = f.Offset + f.Type.Size()
			}
			if err := fixedLayout(f.Type, path+"."+f.Name, base+f.Offset, inside); err != nil {
				return err
			}
		}
		addSpan(pads, base+end, t.Size()-end)
		return nil
	}
	what := "it is a " + t.Kind().String()
	if path != "" {
		what = "field " + strings.TrimPrefix(path, ".") + " is a " + t.Kind().String()
	}
	return problem(what+", which holds a pointer: only values of fixed layout can be shared", ErrType)
}

func addSpan(pads *[]span, off, n uintptr) {
	if n > 0 {
		*pads = append(*pads, span{off, n})
	}
}

// Ring returns the ring under the Orbital, for cursors and statistics.
func (o *Orbital[T]) Ring() *Ring { return o.ring }

// Store publishes v as the newest value and returns its id. It costs as much
// as [Ring.Publish], fails as that does, and does not allocate.
func (o *Orbital[T]) Store(v T) (NetID64, error) {
	r := o.ring
	if r.room < 0 {
		return 0, r.refuse(0)
	}
	for _, p := range o.pads {
		clear(unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(&v), p.off)), p.len))
	}
	if r.unsafely {
		return o.store(&v)
	}
	return o.guardedStore(&v)
}

func (o *Orbital[T]) guardedStore(v *T) (id NetID64, err error) {
	defer o.ring.catchFault(enterGuard(), &err)
	return o.store(v)
}

func (o *Orbital[T]) store(v *T) (NetID64, error) {
	r := o.ring
	for range maxAttempts {
		c, err := r.claim()
		if err != nil {
			return 0, err
		}
		s := r.slot(c)
		r.putHeader(s, 0, 0, int(unsafe.Sizeof(*v)))
		putValue(s, v)
		if r.commit(s, c) {
			r.notify()
			runtime.KeepAlive(r)
			return r.id(c), nil
		}
	}
	return 0, r.fail(ErrBusy, "lapped at every attempt")
}

// Load returns the newest value and its id, which tells the node that stored
// it. It fails as [Ring.Newest], with [ErrDamaged] for a frame of another
// length, and then returns the zero value. It does not allocate.
func (o *Orbital[T]) Load() (v T, id NetID64, err error) {
	r := o.ring
	if !r.unsafely {
		if v, id, err = o.guardedLoad(); err != nil {
			return o.none(), 0, err
		}
		return v, id, nil
	}
	// The likely case of load, in line.
	if s, st := r.peekNewest(); st != 0 {
		meta := getWord(s, offMeta)
		getValue(&v, s)
		if atomic.LoadUint64((*uint64)(s)) == st && uintptr(uint32(meta)) == unsafe.Sizeof(v) && r.gate.Load() == gateOpen {
			return v, r.idOf(meta, st), nil
		}
	}
	if id, err = o.load(&v); err != nil {
		return o.none(), 0, err
	}
	return v, id, nil
}

// none is what comes with an error: what was copied until then may be torn, and
// be taken for what there is.
func (o *Orbital[T]) none() (v T) { return }

func (o *Orbital[T]) guardedLoad() (v T, id NetID64, err error) {
	defer o.ring.catchFault(enterGuard(), &err)
	id, err = o.load(&v)
	return
}

func (o *Orbital[T]) load(v *T) (NetID64, error) {
	r := o.ring
	for range maxAttempts {
		s, st := r.peekNewest()
		if st == 0 {
			var err error
			if s, st, err = r.findNewest(); err != nil {
				return 0, err
			}
		}
		if id, err := o.copyValue(v, s, st); err != errChanged {
			return id, err
		}
	}
	return 0, r.fail(ErrBusy, "overwritten at every attempt")
}

// copyValue is copyFrame for a value.
func (o *Orbital[T]) copyValue(v *T, s unsafe.Pointer, st uint64) (NetID64, error) {
	r := o.ring
	meta := getWord(s, offMeta)
	getValue(v, s)
	switch {
	case atomic.LoadUint64((*uint64)(s)) != st:
		return 0, errChanged
	case uintptr(uint32(meta)) != unsafe.Sizeof(*v):
		return 0, r.fail(ErrDamaged, "frame of "+itoa(int(uint32(meta)))+" bytes, want a value of "+itoa(int(unsafe.Sizeof(*v))))
	case r.gate.Load() != gateOpen:
		return 0, r.gateError()
	}
	return r.idOf(meta, st), nil
}

// LoadID returns the value named id. It fails as [Ring.Read] and, for a frame
// of another length, with [ErrDamaged]; then it returns the zero value.
func (o *Orbital[T]) LoadID(id NetID64) (v T, err error) {
	r := o.ring
	if id.Kind() != r.header.kind {
		return v, r.otherRing(id)
	}
	if v, err = o.guardedLoadID(id); err != nil {
		return o.none(), err
	}
	return v, nil
}

func (o *Orbital[T]) guardedLoadID(id NetID64) (v T, err error) {
	r := o.ring
	defer r.catchFault(enterGuard(), &err)
	found, err := o.loadAt(&v, r.resolve(id.Counter()))
	if err == nil && found != id {
		err = ErrHole
	}
	return v, err
}

func (o *Orbital[T]) loadAt(v *T, counter uint64) (NetID64, error) {
	for range maxAttempts {
		s, st, err := o.ring.lookInto(counter)
		var id NetID64
		if err == nil {
			id, err = o.copyValue(v, s, st)
		}
		if err != errChanged {
			return id, err
		}
	}
	return 0, ErrOverwritten
}

// Recent iterates over the values still held, from the newest to the oldest,
// with their ids. It passes over what cannot be read.
func (o *Orbital[T]) Recent() iter.Seq2[NetID64, T] {
	return func(yield func(NetID64, T) bool) {
		head := o.ring.Head()
		for c := head - 1; head-c <= uint64(o.ring.header.capacity); c-- {
			v, id, err := o.at(c)
			if err == ErrOverwritten {
				return
			}
			if err == nil && !yield(id, v) {
				return
			}
		}
	}
}

func (o *Orbital[T]) at(counter uint64) (v T, id NetID64, err error) {
	defer o.ring.catchFault(enterGuard(), &err)
	s, st, err := o.ring.look(counter)
	if err == nil {
		id, err = o.copyValue(&v, s, st)
	}
	if err == errChanged {
		err = ErrOverwritten
	}
	return
}

// LoadNode returns the newest value that a node stored and that is still held:
// one that stores seldom beside busy siblings is pushed out of the ring. It
// costs time in proportion to how many values lie above it.
func (o *Orbital[T]) LoadNode(node uint16) (v T, id NetID64, err error) {
	low := o.ring.Head() - uint64(o.ring.header.capacity)
	for range maxAttempts {
		if v, id, low, err = o.newestOf(node, low); err != errChanged {
			return v, id, err
		}
	}
	return v, 0, o.ring.fail(ErrBusy, "overwritten at every attempt")
}

// newestOf walks from the head down to a counter for the newest value of a node.
// What was overwritten before it was looked at may have been that. Then the node's
// next value is above this head, or was not finished: errChanged asks to look
// again, down to next.
func (o *Orbital[T]) newestOf(node uint16, low uint64) (v T, id NetID64, next uint64, err error) {
	next = o.ring.Head()
	for c := next; int64(c-low) > 0; {
		c--
		found, id, err := o.at(c)
		switch {
		case err == nil && id.Node() == node:
			return found, id, next, nil
		case err == ErrOverwritten:
			return v, 0, next, errChanged
		case err == ErrPending || err == errUnmarked:
			next = c
		}
	}
	if o.ring.gate.Load() != gateOpen {
		return v, 0, next, o.ring.gateError()
	}
	return v, 0, next, ErrNoFrame
}

// putValue writes a value as the payload of a slot that this member owns.
//
//go:norace
func putValue[T any](s unsafe.Pointer, v *T) {
	to := unsafe.Add(s, offPayload)
	if totalOrder {
		*(*T)(to) = *v
	} else {
		storeWords(to, unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)))
	}
}

// getValue reads the payload of a slot whose ring has room for a T.
//
//go:norace
func getValue[T any](v *T, s unsafe.Pointer) {
	from := unsafe.Add(s, offPayload)
	if totalOrder {
		*v = *(*T)(from)
	} else {
		loadWords(unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)), from)
	}
}
