package orbit

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// beatGeometry is the default: frames of beats have no payload.
var beatGeometry = Geometry{Capacity: 1024}

// DefaultBeat is the interval of [Heartbeat.Keep] when none is given.
const DefaultBeat = time.Second

// A Heartbeat says which nodes are still publishing, and nothing more. A node
// beats by itself, from the code that does its work, and so a fresh beat means
// that this code still runs.
//
// That is not what [Fleet.Members] says: there the kernel vouches that a
// process has a seat, and a process that hangs, or is stopped, keeps its seat.
// Its heart stops beating. The other way round, a node whose process ended
// stays in a snapshot as stale, while it is no member any more.
//
// The newest beat of each node has a place of its own, which only that node
// writes: a sibling that beats ten thousand times a second pushes nobody out
// of sight. Heartbeats are judged by whoever looks; Orbit restarts nothing.
// A Heartbeat is safe for concurrent use.
type Heartbeat struct {
	fleet  *Fleet
	ring   *Ring
	closed chan struct{} // closes with the fleet
}

// Heartbeats returns the fleet's heartbeat. Its segment has room for all 65535
// nodes and a ring of 1024 frames, half a MiB in all. It fails as [Fleet.Ring].
func Heartbeats(f *Fleet) (*Heartbeat, error) {
	r, err := f.open(KindHeartbeat, f.geometry(KindHeartbeat, beatGeometry), beatTableLen)
	if err != nil {
		return nil, err
	}
	if err := r.wantTable(beatTableLen); err != nil {
		return nil, err
	}
	h, err := r.keepOne(func() closer {
		return &Heartbeat{fleet: f, ring: r, closed: make(chan struct{})}
	})
	if err != nil {
		return nil, err
	}
	return h.(*Heartbeat), nil
}

func (h *Heartbeat) close() { close(h.closed) }

// Ring returns the ring under the heartbeat. Each beat is also a frame in it,
// of kind 1 and without payload, whose version is the [Stamp] of the beat.
func (h *Heartbeat) Ring() *Ring { return h.ring }

// Beat says that this node is still publishing. It fails as [Ring.Publish],
// with [ErrBusy] after the beat was noted all the same. It does not allocate,
// and costs a reading of the clock and a publish.
func (h *Heartbeat) Beat() (err error) {
	r := h.ring
	if r.room < 0 {
		return r.refuse(0)
	}
	defer r.catchFault(enterGuard(), &err)
	if r.gate.Load() != gateOpen {
		return r.gateError()
	}
	_, err = r.publish(beatKind, h.note(), nil)
	return err
}

// note writes the time into this node's cell, and returns it. The clock is read
// after the cell: of two goroutines that beat at once none takes the other's beat
// back, however long it is held up. But a beat of the far future is damage, or of a
// holder of the id in another time namespace.
func (h *Heartbeat) note() (now uint64) {
	cell := h.ring.tableWord(int(h.fleet.node))
	for {
		last := atomic.LoadUint64(cell)
		now = uint64(clockNow())
		if ahead := last - now; ahead < uint64(time.Second) || atomic.CompareAndSwapUint64(cell, last, now) {
			return now
		}
	}
}

// Keep beats at once and then every interval, [DefaultBeat] if that is not
// positive, until the context ends, the fleet closes, or its segment is removed
// by hand, and returns why. Call it in a goroutine of its own only if that says
// enough: it beats on while the rest of the process hangs.
func (h *Heartbeat) Keep(ctx context.Context, interval time.Duration) error {
	if interval <= 0 {
		interval = DefaultBeat
	}
	due := make(chan struct{}, 1)
	tick := newAlarm(interval, func() { due <- struct{}{} })
	defer tick.stop()
	for {
		// A beat is noted even if the ring has no slot for its frame.
		if err := h.Beat(); err != nil && !errors.Is(err, ErrBusy) {
			return err
		}
		if err := h.ring.named(); err != nil {
			return err
		}
		select {
		case <-due:
			tick.reset(interval)
		case <-doneOf(ctx):
			return ctx.Err()
		case <-h.closed:
			return ErrClosed
		}
	}
}

// Last returns when a node beat last. It fails with [ErrNoFrame] if it never
// did.
func (h *Heartbeat) Last(node uint16) (s Stamp, err error) {
	defer h.ring.catchFault(enterGuard(), &err)
	if h.ring.gate.Load() != gateOpen {
		return 0, h.ring.gateError()
	}
	s = h.cell(node)
	if s == 0 {
		return 0, ErrNoFrame
	}
	return s, nil
}

func (h *Heartbeat) cell(node uint16) Stamp {
	return Stamp(atomic.LoadUint64(h.ring.tableWord(int(node))))
}

// PulseState is what a snapshot says of a node.
type PulseState uint8

// A node is fresh if its newest beat is at most as old as asked for, stale if
// it is older, and missing if the node is expected and never beat.
const (
	Fresh PulseState = iota
	Stale
	Missing
)

// String returns the name of the state, in lower case.
func (s PulseState) String() string {
	switch s {
	case Fresh:
		return "fresh"
	case Stale:
		return "stale"
	}
	return "missing"
}

// A Pulse is a node in a snapshot.
type Pulse struct {
	Node  uint16
	State PulseState
	Last  Stamp         // when it beat last, 0 if missing
	Age   time.Duration // how long ago that was, 0 if missing
}

// Snapshot returns every node that ever beat, and every expected one that did
// not, in order of node ids. A beat of exactly maxAge is still fresh. The
// expected nodes are the ones given, or else 1 to the fleet's expected size, and
// none for an observer. A member that died is stale until another takes over its
// id: see [Options]. It looks at the places of all nodes, which takes some ten
// microseconds.
func (h *Heartbeat) Snapshot(maxAge time.Duration, expected ...uint16) ([]Pulse, error) {
	return h.SnapshotAt(Now(), maxAge, expected...)
}

// SnapshotAt is [Heartbeat.Snapshot] as of another moment, for tests. A beat
// after that moment has age 0.
func (h *Heartbeat) SnapshotAt(now Stamp, maxAge time.Duration, expected ...uint16) (all []Pulse, err error) {
	r := h.ring
	if r.gate.Load() != gateOpen {
		return nil, r.gateError()
	}
	var wanted [maxNodes / 64]uint64 // a bit for each expected node
	for _, n := range expected {
		wanted[n/64] |= 1 << (n % 64)
	}
	if len(expected) == 0 {
		for n := 1; n <= h.fleet.opts.Size; n++ {
			wanted[n/64] |= 1 << (n % 64)
		}
	}
	defer r.catchFault(enterGuard(), &err)
	for n := range maxNodes {
		node := uint16(n)
		last := h.cell(node)
		if last == 0 {
			if wanted[n/64]&(1<<(n%64)) != 0 {
				all = append(all, Pulse{Node: node, State: Missing})
			}
			continue
		}
		p := Pulse{Node: node, Last: last, Age: max(time.Duration(now-last), 0)}
		if p.Age > maxAge {
			p.State = Stale
		}
		all = append(all, p)
	}
	if r.gate.Load() != gateOpen {
		return nil, r.gateError()
	}
	return all, nil
}
