//go:build orbit_overlay

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"orbit"
	"orbit/internal/explore"
	"orbit/internal/overlay/atomic"
	"orbit/internal/overlay/step"
)

// A config is a world to explore: claimants of one subject, each in a process
// of its own, and what they do:
//
//	claim    for half a jump of the clock
//	endless  claim without end
//	renew    the guard, for half a jump
//	again    claim again as the same owner
//	release  the guard
//	look     up the holder
//	clear    is not a claimant: it frees one of the entries of other subjects
//
// After a failed claim a thread goes on to its next claim, if it has one.
type config struct {
	name    string
	free    int  // entries that the subject can use; others hold the rest
	deaths  int  // how many claimants may die
	jumps   int  // how often the clock may jump
	exact   bool // every word of a record is a step, too
	threads []string
	long    bool // only with -long
}

type subject struct{}

func (subject) OrbitKind() uint8 { return 12 }

const label = "x"

const ttl = time.Duration(explore.JumpLength / 2)

// A world is a config being explored, with all that its checks remember of an
// execution.
type world struct {
	config
	*explore.Search
	contests []*orbit.Contest // one per claimant, and one for who holds the rest
	table    []uint64
	entries  []int
	deeds    int
	records  int
	usable   int // entries, after clear
	hooked   bool

	guards []*claimant
	now    int64  // as the clock last said
	last   uint64 // the largest token handed out

	guardsOut, yielded, full, lapsed int
}

// claimant is what is known about a thread.
type claimant struct {
	guard *orbit.Guard
	holds bool // handed out, and neither released nor found lapsed
}

func newWorld(c config) *world {
	w := &world{config: c}
	w.contests, w.table = orbit.ExposeContests(len(c.threads) + 1)
	w.entries = w.contests[0].ExposeEntries(subject{}.OrbitKind(), label)
	w.deeds, w.records = w.contests[0].ExposeDeeds()
	for _, e := range w.entries[c.free:] {
		w.survivor().ExposeFill(e)
	}
	w.usable = c.free
	var scripts []explore.Script
	for i, text := range c.threads {
		w.usable += strings.Count(text, "clear")
		w.guards = append(w.guards, &claimant{})
		scripts = append(scripts, explore.Script{
			Name:    fmt.Sprintf("%d(%s)", i, text),
			Process: i,
			Run:     func(t *explore.Thread) { w.script(t, strings.Fields(text)) },
		})
	}
	w.Search = explore.NewSearch(explore.World{
		Name:    c.name,
		Memory:  w.table,
		Scripts: scripts,
		Deaths:  c.deaths,
		Jumps:   c.jumps,
		Process: orbit.ExposeMember,
		Reset:   w.reset,
		Step:    func(*explore.Thread, explore.Event) { w.checkEntries() },
		Ghost:   w.ghost,
		End:     w.end,
	})
	return w
}

func (w *world) survivor() *orbit.Contest { return w.contests[len(w.contests)-1] }

func (w *world) reset() {
	w.hook()
	w.now, w.last = 0, 0
	for _, g := range w.guards {
		*g = claimant{}
	}
	for _, c := range w.contests[:len(w.guards)] {
		c.ExposeReset()
	}
}

// hook narrows the search's view, once it has begun, to what decides. What a
// process keeps to itself is no step. And unless the world is exact, neither
// are the words of a record that are fixed as long as an entry names it: what
// they say, the entry's word says already.
func (w *world) hook() {
	if w.hooked {
		return
	}
	w.hooked = true
	before, after, alive, clock := step.Before, step.After, step.Alive, step.Clock
	step.Before = func(k step.Kind, addr unsafe.Pointer) {
		if w.counts(addr) {
			before(k, addr)
		}
	}
	step.After = func(k step.Kind, addr unsafe.Pointer, result uint64) {
		if w.counts(addr) {
			after(k, addr, result)
		}
	}
	step.Alive = func(owner uint64) bool {
		return orbit.ExposeMember(owner) == len(w.guards) || alive(owner)
	}
	step.Clock = func() int64 {
		w.now = clock()
		return w.now
	}
}

func (w *world) counts(addr unsafe.Pointer) bool {
	off := uintptr(addr) - uintptr(unsafe.Pointer(unsafe.SliceData(w.table)))
	word := int(off / 8)
	if word >= len(w.table) {
		return false
	}
	if w.exact || word < w.records {
		return true
	}
	part := (word - w.records) % orbit.ExposeRecordLen
	return part == orbit.ExposeDeadline || part == orbit.ExposeToken
}

func (w *world) ghost() uint64 {
	h := w.last<<40 ^ uint64(w.now)
	for _, g := range w.guards {
		h <<= 1
		if g.holds {
			h |= 1
		}
	}
	return h
}

// ---- What the claimants do ----

func (w *world) script(t *explore.Thread, ops []string) {
	g := w.guards[t.Index]
	c := w.contests[t.Index]
	for _, op := range ops {
		if w.Free() {
			return
		}
		switch op {
		case "claim", "endless", "again":
			d := ttl
			if op == "endless" {
				d = 1<<63 - 1
			}
			guard, err := orbit.Claim[subject](c, label, "o", d)
			w.claimed(t, guard, err)
		case "renew":
			if g.guard != nil {
				w.renewed(t, g.guard.Renew(ttl))
			}
		case "release":
			if g.guard != nil {
				t.Begin(func() { g.holds = false })
				g.guard.Release()
			}
		case "look":
			w.looked(t, c)
		case "clear":
			atomic.StoreUint64(&w.table[w.entries[w.free]], 0)
		default:
			panic(op)
		}
	}
}

// valid tells whether a claimant's guard holds, beyond doubt.
func (w *world) valid(i int) bool {
	g := w.guards[i]
	if !g.holds || w.Dead(i) {
		return false
	}
	end, _ := g.guard.ExposeEnd()
	return w.now < end
}

func (w *world) claimed(t *explore.Thread, guard *orbit.Guard, err error) {
	if w.Free() {
		return
	}
	g := w.guards[t.Index]
	switch {
	case err == nil:
		w.guardsOut++
		g.guard, g.holds = guard, true
		w.alone(t, "has its guard")
		if guard.Token() <= w.last {
			w.Fail("%s has token %d after %d", t.Name, guard.Token(), w.last)
		}
		w.last = guard.Token()
	case errors.Is(err, orbit.ErrHeld):
		w.yielded++
	case errors.Is(err, orbit.ErrTableFull) && w.usable < len(w.guards):
		w.full++
	case errors.Is(err, orbit.ErrLapsed) && w.jumps > 0:
		w.lapsed++
	default:
		w.Fail("%s: %v", t.Name, err)
	}
}

// alone checks that nobody else's guard is valid.
func (w *world) alone(t *explore.Thread, when string) {
	for i := range w.guards {
		if i != t.Index && w.valid(t.Index) && w.valid(i) {
			w.Fail("%s %s while that of %d is valid", t.Name, when, i)
		}
	}
}

func (w *world) renewed(t *explore.Thread, err error) {
	if w.Free() {
		return
	}
	g := w.guards[t.Index]
	switch {
	case err == nil:
		w.alone(t, "has renewed")
	case errors.Is(err, orbit.ErrLapsed):
		if w.jumps == 0 {
			w.Fail("%s lapsed, though no time passed", t.Name)
		}
		g.holds = false
	default:
		w.Fail("%s: %v", t.Name, err)
	}
}

func (w *world) looked(t *explore.Thread, c *orbit.Contest) {
	h, held, err := orbit.HolderOf[subject](c, label)
	if w.Free() {
		return
	}
	if err != nil || held && (h.Kind != 12 || h.Label != label || h.Owner != "o" || h.Node < 1 || int(h.Node) > len(w.guards)) {
		w.Fail("%s sees %+v, %v", t.Name, h, err)
	}
}

// ---- What must hold ----

// checkEntries checks that at no step two claims stand as held.
func (w *world) checkEntries() {
	holder := -1
	for _, e := range w.entries[:w.usable] {
		record, _, held := orbit.ExposeEntry(w.table[e])
		if !held {
			continue
		}
		member, taken := orbit.ExposeDeed(w.table[w.deeds+record])
		if !taken {
			w.Fail("a held entry names record %d, which is nobody's", record)
			return
		}
		if member == len(w.guards) {
			continue
		}
		deadline := int64(w.table[w.records+record*orbit.ExposeRecordLen+orbit.ExposeDeadline])
		if w.Dead(member) || w.now >= deadline {
			continue
		}
		if holder >= 0 {
			w.Fail("claims of %d and %d stand at once", holder, member)
		}
		holder = member
	}
}

// end checks a state in which every claimant is through or dead.
func (w *world) end() {
	valid := -1
	out := 0
	for i, g := range w.guards {
		if g.guard != nil {
			out++
		}
		if w.valid(i) {
			valid = i
		}
	}
	if out == 0 && w.deaths == 0 && w.jumps == 0 && w.usable >= len(w.guards) {
		w.Fail("nobody won")
	}
	// A record that is taken is a guard's, or a dead process's.
	taken := make([]int, len(w.contests))
	for i := w.deeds; i < w.records; i++ {
		if member, ok := orbit.ExposeDeed(w.table[i]); ok {
			taken[member]++
		}
	}
	for i, g := range w.guards {
		has := false
		if g.guard != nil {
			_, has = g.guard.ExposeEnd()
		}
		if !w.Dead(i) && (taken[i] > 1 || taken[i] == 1 && !has) {
			w.Fail("%d keeps %d records, and has a guard: %v", i, taken[i], has)
		}
	}
	// Who comes later is held back by a valid guard and by nothing else: not
	// by the dead, nor by what they left unfinished.
	g, err := orbit.Claim[subject](w.survivor(), label, "later", 1<<63-1)
	var held *orbit.HeldError
	switch {
	case valid >= 0 && (!errors.As(err, &held) || int(held.Holder.Node) != valid+1):
		w.Fail("a later claim while %d holds: %v", valid, err)
	case valid < 0 && err != nil:
		w.Fail("a later claim while nobody holds: %v", err)
	case valid < 0 && g.Token() <= w.last:
		w.Fail("a later claim has token %d after %d", g.Token(), w.last)
	}
	if g != nil {
		g.Release()
	}
}
