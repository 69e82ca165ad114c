//go:build orbit_overlay

package main

import (
	"encoding/binary"
	"errors"
	"slices"

	"orbit"
	"orbit/internal/explore"
)

// A config is a world to explore: a ring, and what its threads do. A thread is
// the words for its operations, one after the other, with the number of its
// process in front if that is not its own:
//
//	publish  a frame of two words
//	batch    two frames in one call
//	mint     an id without a frame
//	reset    the ring
//	lap      publish a whole lap of frames, in one step
//	close    the fleet of the process
//	newest   read the newest frame
//	next     read on with the thread's cursor, which starts at the oldest frame
type config struct {
	name     string
	capacity int
	head     uint64 // the first counter
	filled   int    // frames published before the threads start
	deaths   int
	jumps    int // of the clock, each past every grace
	threads  []string
	horizon  int  // how many counters may be taken, where writers can keep each other from committing for ever
	versions bool // frames of different versions
	long     bool // only with -long
}

const (
	kind       = 12
	maxCounter = 64 // counters that one execution can reach
	maxThreads = 8
	payloadLen = 16
	counterEnd = 1 << orbit.CounterBits
)

// A world is a config being explored, with all that its checks remember of an
// execution. Counters are told as distances from the first.
type world struct {
	config
	*explore.Search
	rings    []*orbit.Ring // one per process; the last belongs to a survivor of all
	memory   []uint64
	stride   int
	survivor int
	closes   bool
	readers  []*reader
	past     // of this execution
	initial  past
	buf      [payloadLen]byte
}

// past is what happened so far.
type past struct {
	tags     [maxCounter]uint64 // by counter, of the frame committed
	claimer  [maxCounter]int8   // by counter, the process that claimed it, plus 1
	hole     [maxCounter]bool   // by counter: it was passed by
	newest   int                // the highest counter committed, plus 1
	returned [maxCounter]bool   // by counter, its id was returned
	waited   [maxThreads]bool   // by thread: it waited long enough, and every slot was held by who lives
}

// reader is what a thread's read under way is held to.
type reader struct {
	active    bool
	newest    int  // as of past, when it began
	first     int  // the oldest counter that counted when it began
	head      int  // the head when it began
	some      bool // a committed frame was there all the time
	pending   bool // the frame at the cursor could be waited for, when it began
	committed bool // the frame at the cursor was committed when it began
	cursor    *orbit.Cursor
	buf       [payloadLen]byte
}

func newWorld(c config) *world {
	w := &world{config: c}
	processes := 0
	var scripts []explore.Script
	for i, text := range c.threads {
		script, ops := explore.NewScript(i, text)
		for _, op := range ops {
			script.Observes = script.Observes || op == "newest" || op == "next" || op == "reset" || op == "close"
		}
		w.closes = w.closes || slices.Equal(ops, []string{"close"})
		processes = max(processes, script.Process+1)
		w.readers = append(w.readers, &reader{})
		script.Run = func(t *explore.Thread) { w.script(t, ops) }
		scripts = append(scripts, script)
	}
	w.survivor = processes
	g := orbit.Geometry{Capacity: c.capacity, PayloadLimit: payloadLen}
	w.rings, w.memory = orbit.ExposeRings(g, kind, c.head, processes+1)
	w.stride = w.rings[0].ExposeStride()
	for i := range c.filled {
		tag := uint64(w.survivor+1)<<8 | uint64(i)
		if _, err := w.rings[w.survivor].Publish(uint8(tag), w.version(tag), appendPayload(w.buf[:0], tag)); err != nil {
			panic(err)
		}
		w.commit(i, w.survivor)
	}
	w.initial = w.past
	w.Search = explore.NewSearch(explore.World{
		Name:    c.name,
		Memory:  w.memory,
		Scripts: scripts,
		Deaths:  c.deaths,
		Jumps:   c.jumps,
		Watch:   w.watch,
		Group:   w.group,
		Beyond:  func() bool { return w.horizon > 0 && w.head() > w.horizon },
		Process: func(owner uint64) int { return orbit.ExposeMember(owner) },
		Reset:   w.reset,
		Step:    w.step,
		Waited:  w.hasWaited,
		Ghost:   w.ghost,
		End:     w.end,
	})
	return w
}

func (w *world) reset() {
	w.past = w.initial
	for i, r := range w.readers {
		*r = reader{cursor: w.rings[w.process(i)].At(w.config.head)}
	}
	if w.closes {
		for _, r := range w.rings {
			r.ExposeOpen()
		}
	}
}

func (w *world) process(thread int) int { return w.World.Scripts[thread].Process }

// ---- Frames that verify themselves ----

func check(tag uint64) uint64 { return ^tag * 0x100000001b3 }

// version is the same for all frames but in worlds that want it to differ: a
// word less that reads can find in different states.
func (w *world) version(tag uint64) uint64 {
	if w.versions {
		return check(tag)
	}
	return 7
}

func appendPayload(b []byte, tag uint64) []byte {
	b = binary.NativeEndian.AppendUint64(b, tag)
	return binary.NativeEndian.AppendUint64(b, check(tag))
}

// tagOf returns the tag of a frame, and whether the frame is whole.
func (w *world) tagOf(f orbit.Frame) (uint64, bool) {
	if len(f.Payload) != payloadLen {
		return 0, false
	}
	tag := binary.NativeEndian.Uint64(f.Payload)
	return tag, binary.NativeEndian.Uint64(f.Payload[8:]) == check(tag) && f.Version == w.version(tag) && f.Kind == uint8(tag) && f.ID.Kind() == kind && uint64(f.ID.Node()) == tag>>8&0xf
}

// at returns the distance of the counter in an id.
func (w *world) at(id orbit.NetID64) int {
	d := (id.Counter() - w.config.head) % counterEnd
	if d >= maxCounter {
		w.Fail("id %v is %d counters from the first", id, d)
		return 0
	}
	return int(d)
}

// ---- What every step is held to ----

func (w *world) head() int  { return int(w.memory[orbit.ExposeHead] - w.config.head) }
func (w *world) first() int { return int(w.memory[orbit.ExposeFirst] - w.config.head) }
func (w *world) slot(c int) int {
	return orbit.ExposeSlots + int((w.config.head+uint64(c))%uint64(w.capacity))*w.stride
}

func (w *world) state(c int) orbit.ExposedState { return w.decode(w.memory[w.slot(c)]) }

func (w *world) decode(st uint64) orbit.ExposedState {
	return orbit.ExposeState(st, w.config.head)
}

// watch and group tell what checks look at beside the word of a step: those of
// reads, at the head and the states, and those of writes to a slot, at its
// state. Whether there was a frame to read all the time depends on the order in
// which states changed.
func (w *world) watch(word int) explore.Watch {
	switch {
	case w.isState(word) || word == orbit.ExposeHead || word == orbit.ExposeFirst:
		return explore.Remembered
	case word < orbit.ExposeSlots:
		return explore.Observed
	}
	return explore.Unwatched
}

func (w *world) isState(word int) bool {
	return word >= orbit.ExposeSlots && (word-orbit.ExposeSlots)%w.stride == 0
}

func (w *world) group(word int) int {
	if word < orbit.ExposeSlots {
		return -1 - word
	}
	return (word - orbit.ExposeSlots) / w.stride
}

func (w *world) step(t *explore.Thread, e explore.Event) {
	if e.Word == explore.Outside || e.Old == e.New {
		return
	}
	switch at := e.Word - orbit.ExposeSlots; {
	case at >= 0 && at%w.stride == 0:
		w.transition(t, e, w.decode(e.Old), w.decode(e.New))
		w.explained()
	case at >= 0:
		if st := w.decode(w.memory[e.Word-at%w.stride]); !st.Held || st.Member != t.Process {
			w.Fail("%s writes into a slot it does not own: %+v", t.Name, st)
		}
	case e.Word == orbit.ExposeHead:
		if int64(e.New-e.Old) <= 0 {
			w.Fail("%s moves the head from %#x to %#x", t.Name, e.Old, e.New)
		}
	case e.Word == orbit.ExposeFirst:
		if int64(e.New-e.Old) <= 0 {
			w.Fail("%s moves first from %#x to %#x", t.Name, e.Old, e.New)
		}
	}
	if w.watch(e.Word) == explore.Remembered {
		some := w.some()
		for _, r := range w.readers {
			r.some = r.some && some
		}
	}
}

// explained checks that no slot names a counter that nobody has taken.
func (w *world) explained() {
	for c := range w.capacity {
		if st := w.state(c); st.Since >= int64(w.head()) {
			w.Fail("the head is %d, and a slot says %+v", w.head(), st)
		}
	}
}

// passed tells whether counter c is out of the window that the ring holds.
func (w *world) passed(c int) bool { return c < w.first() || c < w.head()-w.capacity }

// transition checks that a change of a slot's state is a legal one.
func (w *world) transition(t *explore.Thread, e explore.Event, from, to orbit.ExposedState) {
	c := int(to.Since)
	if c < 0 || c >= maxCounter || w.slot(c) != e.Word {
		w.Fail("%s: state %+v in the wrong slot", t.Name, to)
		return
	}
	later := to.Since > from.Since
	free := !from.Held || w.Dead(from.Member)
	mine := from.Held && from.Member == t.Process
	legal := false
	switch to.Phase {
	case "writing":
		legal = later && free && to.Member == t.Process
		w.claimer[c] = int8(t.Process + 1)
	case "busy":
		legal = later && from.Held && to.Member == from.Member
		w.hole[c] = true
	case "done":
		legal = to.Since == from.Since && from.Phase == "writing" && mine
		if legal {
			w.commit(c, t.Process)
		}
	case "skipped":
		legal = later && free || to.Since == from.Since && mine
		w.hole[c] = true
	}
	if !legal {
		w.Fail("%s: no legal transition: %+v to %+v", t.Name, from, to)
	}
}

// commit notes a frame, and checks that it is whole.
func (w *world) commit(c, process int) {
	s := w.memory[w.slot(c):]
	meta, p := s[orbit.ExposeMeta], s[orbit.ExposePayload:]
	tag := p[0]
	if p[1] != check(tag) || s[orbit.ExposeVersion] != w.version(tag) || meta != uint64(process+1)<<48|uint64(uint8(tag))<<40|payloadLen || tag>>8&0xf != uint64(process+1) {
		w.Fail("process %d commits a torn frame %d: %#x %#x %#x %#x", process, c, meta, s[orbit.ExposeVersion], p[0], p[1])
	}
	w.tags[c] = tag
	w.newest = max(w.newest, c+1)
}

// some tells whether there is a committed frame to read.
func (w *world) some() bool {
	for c := range w.capacity {
		if st := w.state(c); st.Phase == "done" && !w.passed(int(st.Since)) {
			return true
		}
	}
	return false
}

// ghost sums up what reads under way are held to.
func (w *world) ghost() uint64 {
	var h, waited uint64
	for _, r := range w.readers {
		h *= 1 << 20
		if r.active {
			h += uint64(r.newest)<<14 ^ uint64(r.first)<<9 ^ uint64(r.head)<<4
			for i, b := range []bool{true, r.some, r.pending, r.committed} {
				if b {
					h ^= 1 << i
				}
			}
		}
	}
	for i, b := range w.waited {
		if b {
			waited |= 1 << i
		}
	}
	return h ^ waited*0x9e3779b97f4a7c15 // readers fill the word from its low end
}

// ---- Operations ----

func (w *world) script(t *explore.Thread, ops []string) {
	r := w.rings[t.Process]
	rd := w.readers[t.Index]
	for i, op := range ops {
		tag := uint64(t.Index+1)<<12 | uint64(t.Process+1)<<8 | uint64(i*16)
		t.Begin(nil)
		switch op {
		case "publish":
			w.publish(t, r, tag)
		case "batch":
			w.batch(t, r, tag)
		case "lap":
			t.Atomically(func() {
				for j := range w.capacity {
					w.publish(t, r, tag+uint64(j))
				}
			})
		case "mint":
			id, err := r.Mint()
			if w.Free() {
				return
			}
			if err == nil {
				w.fresh(id)
				if c := w.at(id); !w.hole[c] && !w.passed(c) || w.tags[c] != 0 {
					w.Fail("%s: minted %v, and its counter is no hole", t.Name, id)
				}
			} else {
				w.refused(t, err)
			}
		case "reset":
			head := 0
			t.Begin(func() { head = w.head() })
			err := r.Reset()
			if !w.Free() && (err != nil || w.first() < head) {
				w.Fail("%s: %v; first %d, want at least %d", t.Name, err, w.first(), head)
			}
		case "close":
			r.ExposeFleet().Close()
			if w.Free() {
				return
			}
			for c := range w.capacity {
				if st := w.state(c); st.Held && st.Member == t.Process {
					w.Fail("%s: closed, and a slot is still %+v", t.Name, st)
				}
			}
		case "newest":
			t.Begin(func() { w.begin(rd) })
			f, err := r.Newest(rd.buf[:0])
			if w.Free() {
				return
			}
			w.checkNewest(t.Name, rd, f, err)
			t.Over()
			rd.active = false
		case "next":
			t.Begin(func() { w.begin(rd) })
			w.next(t.Name, rd)
			t.Over()
			rd.active = false
		default:
			panic("no operation " + op)
		}
		if w.Free() {
			return
		}
	}
}

func (w *world) publish(t *explore.Thread, r *orbit.Ring, tag uint64) {
	var buf [payloadLen]byte
	id, err := r.Publish(uint8(tag), w.version(tag), appendPayload(buf[:0], tag))
	switch {
	case w.Free():
	case err != nil:
		w.refused(t, err)
	default:
		w.published(t, id, tag)
	}
}

func (w *world) batch(t *explore.Thread, r *orbit.Ring, tag uint64) {
	var frames [2]orbit.Frame
	for i := range frames {
		tag := tag + uint64(i)
		frames[i] = orbit.Frame{Kind: uint8(tag), Version: w.version(tag), Payload: appendPayload(nil, tag)}
	}
	n, err := r.PublishBatch(frames[:])
	if w.Free() {
		return
	}
	for i := range n {
		w.published(t, frames[i].ID, tag+uint64(i))
		if i > 0 && w.at(frames[i].ID) < w.at(frames[i-1].ID) {
			w.Fail("%s: frame %d of a batch is %v, and the one before %v", t.Name, i, frames[i].ID, frames[i-1].ID)
		}
	}
	if err != nil {
		w.refused(t, err)
	} else if n != len(frames) {
		w.Fail("%s: published %d of %d frames without an error", t.Name, n, len(frames))
	}
}

func (w *world) published(t *explore.Thread, id orbit.NetID64, tag uint64) {
	w.fresh(id)
	if got := w.tags[w.at(id)]; got != tag {
		w.Fail("%s: published %#x as %v, where %#x was committed", t.Name, tag, id, got)
	}
}

// fresh checks that no id is returned twice.
func (w *world) fresh(id orbit.NetID64) {
	c := w.at(id)
	if w.returned[c] {
		w.Fail("id %v returned twice", id)
	}
	w.returned[c] = true
}

// hasWaited notes whether a thread that waits no longer found the ring full.
func (w *world) hasWaited(t *explore.Thread) {
	w.waited[t.Index] = true
	for c := range w.capacity {
		if st := w.state(c); !st.Held || w.Dead(st.Member) {
			w.waited[t.Index] = false
		}
	}
}

// refused checks the error of a writer: it may be that every slot was held by
// others who lived, or that the fleet was closed.
func (w *world) refused(t *explore.Thread, err error) {
	switch {
	case errors.Is(err, orbit.ErrClosed) && w.closes:
	case errors.Is(err, orbit.ErrBusy) && w.waited[t.Index]:
	default:
		w.Fail("%s: %v", t.Name, err)
	}
}

// begin notes what a read is held to.
func (w *world) begin(r *reader) {
	c := int(r.cursor.Position() - w.config.head)
	*r = reader{
		active: true, newest: w.newest, first: w.first(), head: w.head(), some: w.some(),
		pending:   w.claimer[c] == 0 || !w.Dead(int(w.claimer[c])-1),
		committed: w.tags[c] != 0,
		cursor:    r.cursor,
	}
}

// whole checks a frame delivered, and returns its counter.
func (w *world) whole(name string, f orbit.Frame) int {
	tag, ok := w.tagOf(f)
	c := w.at(f.ID)
	if !ok || w.tags[c] != tag {
		w.Fail("%s: torn frame %v: %x, version %#x, kind %d; committed was %#x", name, f.ID, f.Payload, f.Version, f.Kind, w.tags[c])
	}
	return c
}

func (w *world) checkNewest(name string, r *reader, f orbit.Frame, err error) {
	if err != nil {
		if err != orbit.ErrNoFrame && err != orbit.ErrPending || r.some {
			w.Fail("%s: %v, though there was a committed frame all the time", name, err)
		}
		return
	}
	c := w.whole(name, f)
	if r.newest > r.first && c < r.newest-1 {
		w.Fail("%s: frame %d, though frame %d was committed before the call", name, c, r.newest-1)
	}
	if c < r.first {
		w.Fail("%s: frame %d, though a reset had made %d the first", name, c, r.first)
	}
}

// Classes of counters that a cursor passes, as bits.
const (
	overwritten = 1 << iota
	holes
	lost
)

func (w *world) next(name string, r *reader) (err error) {
	from := int(r.cursor.Position() - w.config.head)
	f, gap, err := r.cursor.Next(r.buf[:0])
	if w.Free() && !w.Ending() {
		return err
	}
	to := int(r.cursor.Position() - w.config.head)
	passed := from + int(gap.Total())
	if err == nil {
		if c := w.whole(name, f); c != passed || to != c+1 {
			w.Fail("%s: frame %d and a gap of %+v, between positions %d and %d", name, c, gap, from, to)
		}
	} else if to != passed {
		w.Fail("%s: a gap of %+v between positions %d and %d", name, gap, from, to)
	}
	if passed > w.head() {
		w.Fail("%s: passed %d counters, and the head is %d", name, passed, w.head())
		return err
	}
	w.accounts(name, from, passed, gap)
	switch {
	case err == nil:
	case err == orbit.ErrNoFrame:
		if to < r.head {
			w.Fail("%s: no frame at %d, though the head was %d", name, to, r.head)
		}
	case err == orbit.ErrPending:
		if to == from && (!r.pending || r.committed) {
			w.Fail("%s: frame %d is said to be pending", name, to)
		}
	default:
		w.Fail("%s: %v", name, err)
	}
	return err
}

// accounts checks that the counters passed can be what the gap says: there
// must be a class for each, as many of each class as it counts. Such an
// assignment exists if for every set of classes no more counters fit into that
// set alone than it counts (Hall's theorem).
func (w *world) accounts(name string, from, to int, gap orbit.Gap) {
	var fits [8]int
	for c := from; c < to; c++ {
		fits[w.classes(c)]++
	}
	for set := range 8 {
		alone, counted := 0, 0
		for classes, n := range fits {
			if classes&^set == 0 {
				alone += n
			}
		}
		for i, n := range [...]uint64{gap.Overwritten, gap.Holes, gap.Lost} {
			if set&(1<<i) != 0 {
				counted += int(n)
			}
		}
		if alone > counted {
			w.Fail("%s: the gap from %d to %d was not %+v", name, from, to, gap)
		}
	}
}

// classes returns the classes that counter c, passed without a frame, can be
// counted in.
func (w *world) classes(c int) (set int) {
	if w.passed(c) {
		set |= overwritten
	}
	// The survivor voids counters itself, unheard.
	if st := w.state(c); w.tags[c] == 0 && (w.hole[c] || st.Since == int64(c) && (st.Phase == "skipped" || st.Phase == "busy")) {
		set |= holes
	}
	if claimed := w.claimer[c] != 0; claimed && (w.jumps > 0 || w.tags[c] == 0 && w.Dead(int(w.claimer[c])-1)) {
		set |= lost
	}
	return set
}

// end checks a world at rest: every thread that did not die is done. Readers
// find everything in order, and a survivor goes round the ring twice.
func (w *world) end() {
	r := &reader{cursor: w.rings[w.survivor].At(w.config.head)}
	r.cursor.Grace = -1 // nobody is left to be patient with
	for range maxCounter {
		w.begin(r)
		if err := w.next("the survivor", r); err == orbit.ErrNoFrame {
			break
		} else if err != nil {
			w.Fail("the survivor: %v, with nobody left to write", err)
		}
	}
	w.begin(r)
	f, err := w.rings[w.survivor].Newest(r.buf[:0])
	w.checkNewest("the survivor", r, f, err)
	for i := range 2 * w.capacity {
		tag := uint64(w.survivor+1)<<8 | uint64(0x80+i)
		next := w.head()
		id, err := w.rings[w.survivor].Publish(uint8(tag), w.version(tag), appendPayload(w.buf[:0], tag))
		if err != nil || w.at(id) != next {
			w.Fail("the survivor publishes %v, %v where counter %d is free: a slot is wedged", id, err, next)
			return
		}
		w.tags[next] = tag
		r.buf = [payloadLen]byte{}
		w.begin(r)
		f, err := w.rings[w.survivor].Newest(r.buf[:0])
		if err != nil || w.at(f.ID) != next {
			w.Fail("the survivor reads %v, %v after it published %v", f.ID, err, id)
		}
	}
}
