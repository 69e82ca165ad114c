package orbit

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// ErrTopic matches the errors of [EventBus.Publish] for a topic that is empty
// or longer than [MaxTopic].
var ErrTopic = errors.New("orbit: bad topic")

// eventGeometry is the default: 2 MiB and some, a few milliseconds at full
// speed and minutes at the pace of most fleets.
var eventGeometry = Geometry{Capacity: 4096, PayloadLimit: 512}

// An EventBus is the fleet's stream of events: what just happened. All topics
// share one ring, in which every event is one frame. Publishing never waits
// for subscribers, and any number of subscribers costs a publisher nothing.
// Each reads at its own pace, and is told exactly what it was too slow for.
//
// Use the bus for news that lose their worth in seconds, and that a reader can
// do without if need be. It is safe for concurrent use.
type EventBus struct {
	ring  *Ring
	clock burstClock
}

// Events returns the fleet's event bus. Its ring has 4096 slots for a topic and
// payload of together 512 bytes, unless [Options.Rings] says otherwise for
// [KindEvents]. It fails with [ErrGeometry] for slots without a byte, which no
// topic fits into, and as [Fleet.Ring].
func Events(f *Fleet) (*EventBus, error) {
	r, err := f.openFor(KindEvents, f.geometry(KindEvents, eventGeometry), 1, 0)
	if err != nil {
		return nil, err
	}
	b := &EventBus{ring: r}
	b.clock.init(r.Head())
	return b, nil
}

// Ring returns the ring under the bus, for its statistics and its geometry.
func (b *EventBus) Ring() *Ring { return b.ring }

// Publish appends an event and returns its id, whose node tells who published
// it. Topic and payload are copied. The topic is any 1 to [MaxTopic] bytes; a
// hierarchy with dots, as in "job.done", suits [TopicPrefix]. The payload may
// be empty.
//
// It fails with [ErrTopic] for the topic's length, [ErrTooLarge] for a topic
// and payload that together exceed the ring's payload limit, and as
// [Ring.Publish] otherwise. It does not allocate, and makes system calls as
// [Ring.Publish]; in a burst it also sets a timer about once in a millisecond.
func (b *EventBus) Publish(topic string, payload []byte) (NetID64, error) {
	r := b.ring
	if uint(len(topic)-1) >= MaxTopic || len(topic)+len(payload) > r.room {
		return 0, b.refuse(topic, payload)
	}
	if r.unsafely {
		return b.publish(topic, payload)
	}
	return b.guardedPublish(topic, payload)
}

// publish is [Ring.publish] of a payload in two parts, laid one after the other,
// with the time as its version.
func (b *EventBus) publish(topic string, payload []byte) (NetID64, error) {
	r := b.ring
	for range maxAttempts {
		c, err := r.claim()
		if err != nil {
			return 0, err
		}
		s := r.slot(c)
		r.putHeader(s, uint8(len(topic)), uint64(b.clock.now(c)), len(topic)+len(payload))
		r.mem.putPair(s, topic, payload)
		if r.commit(s, c) {
			r.notify()
			runtime.KeepAlive(r)
			return r.id(c), nil
		}
	}
	return 0, r.fail(ErrBusy, "lapped at every attempt")
}

func (b *EventBus) guardedPublish(topic string, payload []byte) (id NetID64, err error) {
	defer b.ring.catchFault(enterGuard(), &err)
	id, err = b.publish(topic, payload)
	return
}

// refuse says why an event cannot be published.
func (b *EventBus) refuse(topic string, payload []byte) error {
	r := b.ring
	if r.room < 0 {
		return r.refuse(0)
	}
	switch n := len(topic); {
	case n == 0:
		return within(r.place(), problem("empty topic, want 1 to "+itoa(MaxTopic)+" bytes", ErrTopic))
	case n > MaxTopic:
		return within(r.place(), problem(sizeError("topic", n, MaxTopic).Error()[len("orbit: "):], errors.Join(ErrTopic, ErrTooLarge)))
	}
	what := "topic of " + itoa(len(topic)) + " and payload of " + itoa(len(payload)) + " bytes, event"
	return within(r.place(), sizeError(what, len(topic)+len(payload), r.limit))
}

// putPair writes the payload of a slot that this member owns, in two parts.
func (b *block) putPair(s unsafe.Pointer, first string, rest []byte) {
	head := unsafe.Slice(unsafe.StringData(first), len(first))
	b.putBytes(s, head)
	s = unsafe.Add(s, len(head))
	if odd := len(head) % wordSize; !totalOrder && odd != 0 {
		// Payloads go by whole words there: the two share one.
		var w [wordSize]byte
		copy(w[:], head[len(head)-odd:])
		n := copy(w[odd:], rest)
		atomic.StoreUint64((*uint64)(unsafe.Add(s, offPayload-odd)), nativeWord(w[:]))
		s, rest = unsafe.Add(s, wordSize-odd), rest[n:]
	}
	b.putBytes(s, rest)
}

// A burstClock reads the time for publishers. Reading the clock costs more than
// publishing a frame, so in a burst, when counters go by at more than one per
// microsecond, a few frames in a row share one reading. Outside a burst every
// frame has its own.
//
// A reading serves for burstFrames counters, whoever takes them, and until a
// timer ends it: without that, the last reading of a burst would be found
// still good by whatever is published an hour later.
type burstClock struct {
	until atomic.Uint64 // the counter from which stamp serves no more
	stamp atomic.Int64
	armed atomic.Bool // whether the timer runs

	mu    sync.Mutex // held to change what follows, or the words above
	last  uint64     // the counter at the last reading
	timer alarm
}

const (
	burstFrames = 16
	burstPace   = int64(time.Microsecond) // the longest time a counter takes in a burst
	burstShare  = time.Millisecond        // the longest time a reading serves
)

func (c *burstClock) init(head uint64) {
	c.until.Store(head)
	c.timer = newAlarm(time.Hour, c.end)
	c.timer.stop()
}

// now returns the time for frame n.
func (c *burstClock) now(n uint64) int64 {
	// A later reading than the one that until belongs to is only fresher.
	if int64(c.until.Load()-n) > 0 {
		return c.stamp.Load()
	}
	return c.read(n)
}

func (c *burstClock) read(n uint64) int64 {
	if !c.mu.TryLock() {
		return clockNow()
	}
	defer c.mu.Unlock()
	now := clockNow()
	took, counters := now-c.stamp.Load(), n-c.last
	c.stamp.Store(now)
	c.last = n
	if counters-1 < burstFrames*burstFrames && took < int64(counters)*burstPace {
		c.until.Store(n + burstFrames)
		// In this order: if the timer seems to run, its end is still to come.
		if !c.armed.Load() {
			c.armed.Store(true)
			c.timer.reset(burstShare)
		}
	}
	return now
}

// end makes the next frame read the clock.
func (c *burstClock) end() {
	c.armed.Store(false)
	c.mu.Lock()
	c.until.Store(c.last)
	c.mu.Unlock()
}

// ---- Subscribers ----

// An Event is something that happened in the fleet. Topic and Payload lie in a
// buffer that belongs to the Event: they are valid until it is read into again.
type Event struct {
	ID NetID64 // its node is the publisher's
	// Stamp is when it was published: see Time and Age. In a burst, and just after
	// one, it may be a millisecond or two too early, or by as long as the publisher
	// was stopped there.
	Stamp
	Topic   []byte
	Payload []byte

	// Lag counts what the subscriber passed without an event, between the one
	// it got before and this one: lapped, never published, or lost with a
	// publisher that died or stayed away. Frames in the ring that are no
	// events count as lost.
	Lag Gap
	// Filtered counts the events in between that the subscriber's filters
	// did not let through.
	Filtered uint64

	buf []byte
}

// A Filter selects events by topic: see [Topic] and [TopicPrefix].
type Filter struct {
	text   string
	prefix bool
}

// Topic selects the events of one topic.
func Topic(name string) Filter { return Filter{name, false} }

// TopicPrefix selects the events of all topics that begin with prefix.
func TopicPrefix(prefix string) Filter { return Filter{prefix, true} }

func (f Filter) selects(topic []byte) bool {
	if f.prefix && len(topic) > len(f.text) {
		topic = topic[:len(f.text)]
	}
	return string(topic) == f.text
}

// A Position is a place in a fleet's stream of events: see [EventBus.SubscribeAt].
// It can be saved as its two numbers.
type Position struct {
	Fleet   uint64 // which incarnation of the fleet: see [Fleet.Incarnation]
	Counter uint64 // the counter of the next frame
}

// A Subscriber reads the events of a bus in order, each once, from a position
// of its own, and accounts for every counter it passes. It is not safe for
// concurrent use; any number of subscribers read a bus side by side.
type Subscriber struct {
	// Grace is how long the subscriber stays at the unfinished event of a
	// live publisher, which may have been stopped, before it passes the event
	// as lost: see [Cursor]. Zero means DefaultGrace, less than zero not at all.
	Grace time.Duration

	cursor  Cursor
	fleet   uint64
	filters []Filter
	passed  Gap    // since the last event
	skipped uint64 // since the last event, by the filters

	// What the cursor counts as delivered, and no event came of.
	filtered uint64
	damaged  uint64

	trouble error // found while a batch was under way
}

// An EventTally is what became of every counter a subscriber has passed:
// Delivered plus Filtered plus the gap's total is exactly how far it has moved.
type EventTally struct {
	Delivered uint64
	Filtered  uint64
	Gap
}

// SubscribeOldest returns a subscriber that starts at the oldest event still
// held. With filters it gets the events that any of them selects, and passes
// over the others.
func (b *EventBus) SubscribeOldest(filters ...Filter) *Subscriber {
	return b.subscribe(b.ring.Oldest(), filters)
}

// SubscribeNow returns a subscriber to the events published from now on, with
// filters as for [EventBus.SubscribeOldest].
func (b *EventBus) SubscribeNow(filters ...Filter) *Subscriber {
	return b.subscribe(b.ring.Tail(), filters)
}

// SubscribeAt returns a subscriber that goes on where another one was, perhaps
// in a process that is gone: its first result reports what was overwritten
// since. It fails with [ErrNotExist] if the position is not of this fleet but
// of one that had the name before and was removed, or if no event has been
// published there yet.
func (b *EventBus) SubscribeAt(p Position, filters ...Filter) (*Subscriber, error) {
	r := b.ring
	head := r.Head()
	if r.gate.Load() != gateOpen {
		return nil, r.gateError()
	}
	switch {
	case p.Fleet != r.header.instance:
		return nil, b.noPosition(p, "of another incarnation of the fleet")
	case int64(p.Counter-head) > 0:
		return nil, b.noPosition(p, "ahead of the head, "+strconv.FormatUint(head, 10))
	}
	return b.subscribe(r.At(p.Counter), filters), nil
}

func (b *EventBus) noPosition(p Position, why string) error {
	return b.ring.fail(ErrNotExist, "position "+strconv.FormatUint(p.Counter, 10)+" is "+why)
}

func (b *EventBus) subscribe(c *Cursor, filters []Filter) *Subscriber {
	return &Subscriber{cursor: *c, fleet: b.ring.header.instance, filters: append([]Filter(nil), filters...)}
}

// Position returns where the subscriber stands: behind the event it delivered last,
// and behind what it has passed since. Save it to go on from there after a restart.
// What was passed since then, which Lag and Filtered of the next event would tell,
// whoever goes on from there is not told again: [Subscriber.Tally] has it.
func (s *Subscriber) Position() Position { return Position{s.fleet, s.cursor.Position()} }

// Tally returns what became of the counters passed so far, also of those that
// the next event will report.
func (s *Subscriber) Tally() EventTally {
	t := s.cursor.tally
	t.Lost += s.damaged
	return EventTally{t.Delivered - s.filtered - s.damaged, s.filtered, t.Gap}
}

// Poll reads the next event into ev, whose buffer is reused. If none is ready
// it returns [ErrNoFrame], or [ErrPending], which matches it, when the next one
// is still being written. For a frame that is no event it returns
// [ErrDamaged], and goes on behind it with the next call. It never waits, and
// passes over at most as many filtered events in a call as the ring holds.
//
// It does not allocate once the buffer of ev has grown to the longest event.
func (s *Subscriber) Poll(ev *Event) error {
	if s.cursor.ring.unsafely {
		return s.poll(ev)
	}
	return s.guardedPoll(ev)
}

func (s *Subscriber) guardedPoll(ev *Event) (err error) {
	defer s.cursor.ring.catchFault(enterGuard(), &err)
	return s.poll(ev)
}

// PollBatch reads events into events, whose buffers are reused, and returns how
// many. The error is nil unless that is 0, and then as of [Subscriber.Poll]. It
// costs less than as many calls of Poll.
func (s *Subscriber) PollBatch(events []Event) (n int, err error) {
	n, err = s.guardedBatch(events)
	if n > 0 && err != nil {
		if !isNoFrame(err) {
			s.trouble = err
		}
		err = nil
	}
	return n, err
}

func (s *Subscriber) guardedBatch(events []Event) (n int, err error) {
	defer s.cursor.ring.catchFault(enterGuard(), &err)
	for n < len(events) {
		if err = s.poll(&events[n]); err != nil {
			break
		}
		n++
	}
	return n, err
}

func (s *Subscriber) poll(ev *Event) error {
	if s.trouble != nil {
		err := s.trouble
		s.trouble = nil
		return err
	}
	s.cursor.Grace = s.Grace
	var f Frame
	for range s.cursor.ring.header.capacity {
		if err := s.cursor.advance(&f, ev.buf[:0], &s.passed); err != nil {
			return err
		}
		ev.buf = f.Payload
		topic, payload, ok := decodeEvent(f.Kind, f.Payload)
		if !ok {
			s.passed.Lost++
			s.damaged++
			return s.cursor.ring.fail(ErrDamaged, "frame "+f.ID.String()+" is no event: topic of "+itoa(int(f.Kind))+" bytes in a record of "+itoa(len(f.Payload)))
		}
		if !s.selects(topic) {
			s.skipped++
			s.filtered++
			continue
		}
		ev.ID, ev.Stamp, ev.Topic, ev.Payload = f.ID, Stamp(f.Version), topic, payload
		ev.Lag, ev.Filtered = s.passed, s.skipped
		s.passed, s.skipped = Gap{}, 0
		return nil
	}
	return ErrNoFrame
}

func (s *Subscriber) selects(topic []byte) bool {
	for _, f := range s.filters {
		if f.selects(topic) {
			return true
		}
	}
	return len(s.filters) == 0
}

// Next is Poll that waits for an event: until the context ends, whose error it
// then returns, or until the fleet is closed, which is [ErrClosed]. A sleeping
// subscriber costs a goroutine and no thread: see [Cursor.Wait].
func (s *Subscriber) Next(ctx context.Context, ev *Event) error {
	_, err := s.next(ctx, ev)
	return err
}

// next is Next that also tells whether an error is the last there can be.
func (s *Subscriber) next(ctx context.Context, ev *Event) (last bool, err error) {
	for {
		if err = errOf(ctx); err != nil {
			return true, err
		}
		at, late := s.cursor.next, s.trouble != nil
		if err = s.Poll(ev); !isNoFrame(err) {
			return err != nil && !late && s.cursor.stuck(ctx, at), err
		}
		if err = s.cursor.Wait(ctx); err != nil {
			return true, err
		}
	}
}

// Events returns an iterator over the events to come: it waits for each until
// the context ends, and then yields the context's error. Topic and payload are
// valid until the next turn. A frame that is no event is an error of its own,
// after which the iterator goes on; any other error is the last.
func (s *Subscriber) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		var ev Event
		for {
			last, err := s.next(ctx, &ev)
			if err != nil {
				ev = Event{buf: ev.buf}
			}
			if !yield(ev, err) || last {
				return
			}
		}
	}
}
