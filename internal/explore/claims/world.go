//go:build orbit_overlay

package main

import (
	"errors"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"orbit"
	"orbit/internal/explore"
	"orbit/internal/overlay/step"
)

// A config is a world to explore: a contest table, and what its threads do. A
// thread is the words for its operations, one after the other, with the number
// of its process in front if that is not its own:
//
//	claim    a subject until the clock jumps, under an owner label of the thread's own
//	keep     claim it until it is released
//	share    claim it under an owner label of the process
//	other    claim another subject
//	had      have claimed that before anything begins
//	renew    the guard last handed out to the thread
//	release  it
//	valid    ask whether it holds
//	look     who holds the subject
//	tick     what the timer of the process does
//	close    the contest of the process
//
// An operation with an exclamation mark is made in one step.
type config struct {
	name     string
	records  int  // a power of two
	free     int  // the entries left free, of 16: the others have claims that stand
	spare    int  // the records left free, or 0 for all that the free entries leave
	together bool // all begin to look for free records at the same one
	deaths   int
	jumps    int   // of the clock, each past the end of a claim
	edge     int64 // how much longer than one jump a claim is for, if it is for about that long
	skew     int64 // how far each process's clock is ahead of the one's before
	announce bool  // claims are announced in the ring
	threads  []string
	long     bool // only with -long
}

const (
	entries = 16
	jump    = int64(1) << 55
)

// A world is a config being explored, with all that its checks remember of an
// execution.
type world struct {
	config
	*explore.Search
	contests []*orbit.Contest // one per process; the last belongs to a survivor of all
	table    orbit.ExposedTable
	memory   []uint64
	survivor int
	filled   int // claims of the survivor that stand all the time
	shared   bool
	ttl      time.Duration
	claims   []*claimant // by thread
	past                 // of this execution
}

// past is what happened so far.
type past struct {
	over [entries]bool // by entry: the claim in it was over at some moment
	held [maxHeld]holder
	n    int // of held
	wins [2]bool
	lost [2]bool // by subject: a claim failed because another was in the way
}

// A holder is a claim that got its subject: the word in its entry when it did,
// and its token if the guard was handed out.
type holder struct{ subject, word, token uint64 }

const maxHeld = 16

// claimant is a thread, and what its operation under way is held to.
type claimant struct {
	guard   *orbit.Guard // the last handed out
	given   []*orbit.Guard
	subject int
	word    uint64 // of its last entry
	active  bool
	met     bool // a claim of the subject by another was there since the operation began
	full    bool // the table was full since the operation began
	always  bool // somebody held the subject all the time
	ever    bool // somebody held the subject at some moment
}

// labels are those of the subjects. The second is one for which a claimant
// looks for a free entry in the same order.
var labels = func() [2]string {
	first := orbit.ExposeSubject("")
	for c := 'a'; ; c++ {
		if hash := orbit.ExposeSubject(string(c)); (hash^first)%2 == 0 {
			return [2]string{"", string(c)}
		}
	}
}()

func newWorld(c config) *world {
	w := &world{config: c}
	processes := 0
	var scripts []explore.Script
	for i, text := range c.threads {
		script, ops := explore.NewScript(i, text)
		w.claims = append(w.claims, &claimant{})
		w.shared = w.shared || script.Process < processes
		processes = max(processes, script.Process+1)
		script.Observes = true
		script.Run = func(t *explore.Thread) { w.script(t, ops) }
		scripts = append(scripts, script)
	}
	w.survivor = processes
	w.contests, w.memory = orbit.ExposeContests(c.records, processes+1, c.announce)
	w.table = w.contests[0].ExposeTable()
	w.fill()
	w.ttl = math.MaxInt64
	if c.jumps > 0 {
		w.ttl = time.Duration(jump/2 + 1)
		if c.edge != 0 {
			w.ttl = time.Duration(jump + c.edge)
		}
	}
	w.Search = explore.NewSearch(explore.World{
		Name:    c.name,
		Memory:  w.memory,
		Scripts: scripts,
		Deaths:  c.deaths,
		Jumps:   c.jumps,
		Jump:    jump,
		Settled: true,
		Watch:   w.watch,
		Group:   w.group,
		Process: func(owner uint64) int { return orbit.ExposeMember(owner) },
		Clock:   func(process int, now int64) int64 { return now + int64(process)*c.skew },
		Reset:   w.reset,
		Step:    w.step,
		Turned:  w.turned,
		Ghost:   w.ghost,
		End:     w.end,
	})
	return w
}

// fill has the survivor claim other subjects until so many entries and records
// are left.
func (w *world) fill() {
	want := 0
	if w.free > 0 {
		want = entries - w.free
	}
	if w.spare > 0 {
		want = w.records - w.spare
	}
	for ; w.filled < want; w.filled++ {
		if _, err := w.contests[w.survivor].ExposeClaim("filled "+strconv.Itoa(w.filled), "survivor", math.MaxInt64); err != nil {
			panic(err)
		}
	}
}

func (w *world) reset() {
	w.past = past{}
	for i := range w.claims {
		*w.claims[i] = claimant{given: w.claims[i].given[:0]}
	}
	for p, c := range w.contests[:w.survivor] {
		hint := 0
		if !w.together {
			hint = w.filled + p*(w.records-w.filled)/w.survivor
		}
		c.ExposeReset(hint)
	}
	for i, text := range w.threads {
		if strings.HasPrefix(text, "had ") {
			g, err := w.contests[w.World.Scripts[i].Process].ExposeClaim(labels[1], "had", math.MaxInt64)
			if err != nil {
				panic(err)
			}
			w.claims[i].guard = g
		}
	}
}

// ---- The table ----

func (w *world) entry(i int) uint64 { return w.memory[w.table.Entry+i] }

func (w *world) deed(record int) orbit.ExposedDeed {
	return orbit.ExposeDeed(w.memory[w.table.Deed+record])
}

func (w *world) record(i, word int) uint64 {
	return w.memory[w.table.Record+i*w.table.RecordLen+word]
}

// owner returns the process that an entry's claim belongs to.
func (w *world) owner(e orbit.ExposedEntry) int { return w.deed(e.Record).Member }

// subjectOf tells what is claimed.
func (w *world) subjectOf(e orbit.ExposedEntry) uint64 { return w.record(e.Record, orbit.ExposeHash) }

// ended tells whether the claim in an entry is over for everybody, on the
// clock that is the furthest ahead.
func (w *world) ended(e orbit.ExposedEntry) bool {
	p := w.owner(e)
	ahead := w.Now() + int64(w.survivor-1)*w.skew
	return ahead >= int64(w.record(e.Record, orbit.ExposeDeadline)) || p < w.survivor && w.Dead(p)
}

// watch and group tell what checks look at beside the word of a step: all but
// what is fixed in a record while an entry names it. And any write to the table
// is held to what the rest of it says.
func (w *world) watch(word int) explore.Watch {
	at := word - w.table.Record
	switch at % w.table.RecordLen {
	case orbit.ExposeDeadline, orbit.ExposeSince, orbit.ExposeToken:
		return explore.Observed
	}
	if at < 0 {
		return explore.Observed
	}
	return explore.Unwatched
}

func (w *world) group(word int) int {
	if word < w.table.Order {
		return -1 - word
	}
	return 0
}

// ---- What every step is held to ----

func (w *world) step(t *explore.Thread, e explore.Event) {
	if e.Word == explore.Outside || e.Kind == step.Load || e.Kind == step.Compare && e.Result == 0 {
		return
	}
	tb := &w.table
	switch at := e.Word; {
	case at < tb.Order:
		return // of the ring
	case at == tb.Order, at == tb.Token:
		if e.New != e.Old && e.New != e.Old+1 {
			w.Fail("%s: a counter goes from %d to %d", t.Name, e.Old, e.New)
		}
	case at >= tb.Entry && at < tb.Deed:
		if e.Old != e.New {
			w.entryChanged(t, at-tb.Entry, e.Old, e.New)
		}
	case at >= tb.Deed && at < tb.Record:
		if e.Old != e.New {
			w.deedChanged(t, at-tb.Deed, orbit.ExposeDeed(e.Old), orbit.ExposeDeed(e.New))
		}
	case at >= tb.Record && at < tb.Record+tb.Records*tb.RecordLen:
		if e.Old != e.New {
			w.recordChanged(t, (at-tb.Record)/tb.RecordLen, (at-tb.Record)%tb.RecordLen)
		}
	default:
		w.Fail("%s: writes word %d, where nothing is", t.Name, at)
	}
	w.observe()
}

// turned is told of deaths and of jumps of the clock.
func (w *world) turned() { w.observe() }

// observe brings what the operations under way are held to up to the state.
func (w *world) observe() {
	free := 0
	for i := range entries {
		if word := w.entry(i); word == 0 {
			free++
			w.over[i] = false
		} else {
			w.over[i] = w.over[i] || w.ended(orbit.ExposeEntry(word))
		}
	}
	full := free == 0 || w.noRecord()
	for _, c := range w.claims {
		if c.active {
			c.full = c.full || full
			w.look(c)
		}
	}
	w.oneGuard()
}

// oneGuard checks that of all guards handed out at most one of each subject is
// valid at a time.
func (w *world) oneGuard() {
	var valid [len(labels)]int
	for i, c := range w.claims {
		p := w.World.Scripts[i].Process
		if w.Dead(p) {
			continue
		}
		for _, g := range c.given {
			at, word := g.ExposeWord()
			if g.ExposeEnded() || w.entry(at) != word || g.ExposeOver(w.World.Clock(p, w.Now())) {
				continue
			}
			for s := range labels {
				if w.subjectOf(orbit.ExposeEntry(word)) == hashes[s] {
					valid[s]++
				}
			}
		}
	}
	for s, n := range valid {
		if n > 1 {
			w.Fail("%d guards of subject %q are valid at once", n, labels[s])
		}
	}
}

func (w *world) noRecord() bool {
	for r := range w.records {
		if !w.deed(r).Taken {
			return false
		}
	}
	return true
}

// look updates what a claimant can see of its subject.
func (w *world) look(c *claimant) {
	stands := false
	for i := range entries {
		word := w.entry(i)
		if e := orbit.ExposeEntry(word); word != 0 && w.subjectOf(e) == hashes[c.subject] {
			c.met = c.met || word != c.word
			if e.Phase == orbit.ExposeHeld {
				c.ever = true
				stands = stands || !w.ended(e)
			}
		}
	}
	c.always = c.always && stands
}

var hashes = [...]uint64{orbit.ExposeSubject(labels[0]), orbit.ExposeSubject(labels[1])}

// entryChanged checks that a change of an entry is a legal transition, and that
// nobody else holds the subject.
func (w *world) entryChanged(t *explore.Thread, i int, from, to uint64) {
	me := w.claims[t.Index]
	old, now := orbit.ExposeEntry(from), orbit.ExposeEntry(to)
	legal := false
	over := w.over[i]
	if to != 0 {
		w.over[i] = false
		if d := w.deed(now.Record); !d.Taken || d.Member != t.Process {
			w.Fail("%s: names record %d in entry %d, which belongs to %+v", t.Name, now.Record, i, d)
		}
		if w.named(now.Record) != 1 {
			w.Fail("%s: record %d is in %d entries", t.Name, now.Record, w.named(now.Record))
		}
	}
	switch {
	case from == 0:
		legal = now.Phase == orbit.ExposeTentative && int64(w.memory[w.table.Order]) >= now.Order
	case to == 0:
		mine := w.owner(old) == t.Process && (old.Phase == orbit.ExposeHeld || from == me.word)
		strike := old.Phase == orbit.ExposeTentative && me.word != 0 && orbit.ExposeEntry(me.word).Order < old.Order
		legal = mine || over || strike
		if w.owner(old) != t.Process {
			w.promised(t, from)
		}
	case old.Phase == orbit.ExposeTentative:
		legal = now.Phase == orbit.ExposeHeld && now.Record == old.Record && now.Order == old.Order && from == me.word
	default:
		legal = now.Phase == orbit.ExposeHeld && now.Record == old.Record && now.Order > old.Order
	}
	if !legal {
		w.Fail("%s: no legal transition of entry %d: %+v to %+v, over: %v", t.Name, i, old, now, over)
	}
	if to != 0 {
		me.word = to
	}
	if now.Phase == orbit.ExposeHeld {
		w.holds(t, now, to)
	}
}

// promised checks that a guard that was handed out is ended by others only
// after the time that its owner was promised, on the owner's clock.
func (w *world) promised(t *explore.Thread, word uint64) {
	for i, c := range w.claims {
		p := w.World.Scripts[i].Process
		if c.guard == nil || w.Dead(p) {
			continue
		}
		if _, held := c.guard.ExposeWord(); held == word && !c.guard.ExposeOver(w.World.Clock(p, w.Now())) {
			w.Fail("%s: ends the claim of %s, whose time is not over", t.Name, w.World.Scripts[i].Name)
		}
	}
}

// named returns how many entries name a record.
func (w *world) named(record int) (n int) {
	for i := range entries {
		if word := w.entry(i); word != 0 && orbit.ExposeEntry(word).Record == record {
			n++
		}
	}
	return n
}

// holds notes a holder, and checks that it is the only one.
func (w *world) holds(t *explore.Thread, e orbit.ExposedEntry, word uint64) {
	n := 0
	for i := range entries {
		other := w.entry(i)
		if o := orbit.ExposeEntry(other); other != 0 && o.Phase == orbit.ExposeHeld && w.subjectOf(o) == w.subjectOf(e) {
			n++
		}
	}
	if n != 1 {
		w.Fail("%s: %d claims hold the subject", t.Name, n)
	}
	if w.n == maxHeld {
		w.Fail("more than %d holders", maxHeld)
		return
	}
	w.held[w.n] = holder{subject: w.subjectOf(e), word: word}
	w.n++
}

// deedChanged checks that a record changes hands only while no entry names it,
// and only into or out of its owner's, or out of a dead one's.
func (w *world) deedChanged(t *explore.Thread, record int, from, to orbit.ExposedDeed) {
	mine := from.Member == t.Process
	dead := from.Member < w.survivor && w.Dead(from.Member)
	legal := to.Revision == from.Revision+1 && (!from.Taken || mine && !to.Taken || dead) && (!to.Taken || to.Member == t.Process)
	if !legal || w.named(record) != 0 {
		w.Fail("%s: record %d goes from %+v to %+v, while %d entries name it", t.Name, record, from, to, w.named(record))
	}
}

// recordChanged checks that only its owner writes a record, and that what is
// fixed while an entry names it is fixed.
func (w *world) recordChanged(t *explore.Thread, record, word int) {
	if d := w.deed(record); !d.Taken || d.Member != t.Process {
		w.Fail("%s: writes into record %d, which belongs to %+v", t.Name, record, d)
	}
	if word != orbit.ExposeDeadline && word != orbit.ExposeSince && word != orbit.ExposeToken && w.named(record) != 0 {
		w.Fail("%s: changes word %d of record %d, which an entry names", t.Name, word, record)
	}
}

// ghost sums up what the checks remember, and what processes with more than
// one thread have in their own memory.
func (w *world) ghost() uint64 {
	var h hash
	flags := uint64(1)
	for _, over := range w.over {
		flags = flags<<1 | b2u(over)
	}
	for s := range labels {
		flags = flags<<2 | b2u(w.wins[s])<<1 | b2u(w.lost[s])
	}
	h.add(flags)
	for _, c := range w.claims {
		if c.active {
			h.add(1 + b2u(c.met)<<1 + b2u(c.full)<<2 + b2u(c.always)<<3 + b2u(c.ever)<<4 + uint64(c.subject)<<5)
		} else {
			h.add(0)
		}
	}
	for _, o := range w.held[:w.n] {
		h.add(o.word)
		h.add(o.token)
	}
	if w.shared {
		for p, c := range w.contests[:w.survivor] {
			if !w.Private(p) {
				c.ExposeOwn(h.add)
			}
		}
		for i, c := range w.claims {
			if c.guard != nil {
				h.add(uint64(i))
				c.guard.ExposeOwn(h.add)
			}
		}
	}
	return uint64(h)
}

// own sums up what a thread and its process have in memory of their own after
// so many operations.
func (w *world) own(process int, c *claimant, operations int) uint64 {
	var h hash
	h.add(uint64(operations))
	w.contests[process].ExposeOwn(h.add)
	if c.guard != nil {
		h.add(1)
		c.guard.ExposeOwn(h.add)
	}
	return uint64(h)
}

// A hash sums up numbers.
type hash uint64

func (h *hash) add(v uint64) {
	hi, lo := bits.Mul64(uint64(*h)^0x9e3779b97f4a7c15, v^0xd1342543de82ef95)
	*h = hash(hi ^ lo)
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// ---- Operations ----

func (w *world) script(t *explore.Thread, ops []string) {
	me := w.claims[t.Index]
	for i, op := range ops {
		if op == "had" {
			continue
		}
		t.Begin(func() { w.begin(me) })
		if once, ok := strings.CutSuffix(op, "!"); ok {
			t.Atomically(func() { w.operate(t, me, once) })
		} else {
			w.operate(t, me, op)
		}
		if w.Free() {
			return
		}
		t.Over()
		*me = claimant{guard: me.guard, given: me.given}
		w.Unseen(func() { t.Become(w.own(t.Process, me, i)) })
	}
}

func (w *world) operate(t *explore.Thread, me *claimant, op string) {
	c := w.contests[t.Process]
	switch op {
	case "claim", "keep", "share", "other":
		w.claim(t, me, op)
	case "look":
		h, held, err := c.ExposeHolder(labels[0])
		if !w.Free() {
			w.looked(t, me, h, held, err)
		}
	case "tick":
		c.ExposeTick()
	case "close":
		c.ExposeClose()
		if !w.Free() {
			w.closed(t)
		}
	default:
		if me.guard == nil {
			t.Begin(nil)
			return
		}
		w.use(t, me, op)
	}
}

func (w *world) claim(t *explore.Thread, me *claimant, op string) {
	owner, ttl := string(rune('a'+t.Index)), w.ttl
	me.subject = 0
	switch op {
	case "keep":
		ttl = math.MaxInt64
	case "share":
		owner = string(rune('A' + t.Process))
	case "other":
		me.subject = 1
	}
	g, err := w.contests[t.Process].ExposeClaim(labels[me.subject], owner, ttl)
	if !w.Free() {
		w.Unseen(func() { w.claimed(t, me, g, err) })
	}
}

// begin notes what an operation is held to.
func (w *world) begin(c *claimant) {
	c.active = true
	c.met, c.full, c.ever, c.always = false, false, false, true
	w.observe()
}

// claimed checks what came of a claim.
func (w *world) claimed(t *explore.Thread, me *claimant, g *orbit.Guard, err error) {
	var held *orbit.HeldError
	switch {
	case err == nil:
		me.guard = g
		me.given = append(me.given, g)
		w.wins[me.subject] = true
		w.handedOut(t, g)
	case errors.As(err, &held):
		w.lost[me.subject] = true
		if !me.met {
			w.Fail("%s: %v, though no other claim was there", t.Name, err)
		}
		w.whole(t, held.Holder, labels[me.subject])
	case errors.Is(err, orbit.ErrTableFull):
		if !me.full {
			w.Fail("%s: %v, though it was not", t.Name, err)
		}
	case errors.Is(err, orbit.ErrLapsed):
		if w.Calm() {
			w.Fail("%s: %v, though the clock stood still", t.Name, err)
		}
	case errors.Is(err, orbit.ErrClosed), errors.Is(err, orbit.ErrBusy):
		if !w.shared {
			w.Fail("%s: %v", t.Name, err)
		}
	default:
		w.Fail("%s: %v", t.Name, err)
	}
}

// handedOut checks that the guards of a subject have tokens in the order in
// which they came to hold it.
func (w *world) handedOut(t *explore.Thread, g *orbit.Guard) {
	_, word := g.ExposeWord()
	at := -1
	for i := range w.held[:w.n] {
		if w.held[i].word == word {
			at = i
		}
	}
	if at < 0 {
		w.Fail("%s: was handed a guard that never held", t.Name)
		return
	}
	token := g.Token()
	w.held[at].token = token
	w.oneGuard()
	for i := range w.held[:w.n] {
		other := w.held[i].token
		if w.held[i].subject == w.held[at].subject && i != at && other != 0 && (i < at) != (other < token) {
			w.Fail("%s: was handed out token %d, and a guard that held the subject %s token %d", t.Name, token, order(i < at), other)
		}
	}
}

func order(before bool) string {
	if before {
		return "before it"
	}
	return "after it"
}

// whole checks that what is said of a holder is what some claim was made with.
func (w *world) whole(t *explore.Thread, h orbit.Holder, label string) {
	p := int(h.Node) - 1
	owner := ""
	for i := range w.claims {
		if w.World.Scripts[i].Process == p {
			owner += string(rune('a' + i))
		}
	}
	owner += string(rune('A' + p))
	if h.Label != label || p < 0 || p >= w.survivor || len(h.Owner) != 1 || !strings.Contains(owner, h.Owner) || h.Token > w.memory[w.table.Token] {
		w.Fail("%s: is told of a holder that never was: %+v", t.Name, h)
	}
}

func (w *world) looked(t *explore.Thread, me *claimant, h orbit.Holder, held bool, err error) {
	switch {
	case err != nil:
		w.Fail("%s: %v", t.Name, err)
	case held:
		w.whole(t, h, labels[0])
		if !me.ever {
			w.Fail("%s: found a holder, and there was none: %+v", t.Name, h)
		}
	case me.always:
		w.Fail("%s: found nobody, though somebody held the subject all the time", t.Name)
	}
}

// closed checks that nothing is left of a contest that was closed.
func (w *world) closed(t *explore.Thread) {
	for i := range entries {
		if word := w.entry(i); word != 0 && w.owner(orbit.ExposeEntry(word)) == t.Process {
			w.Fail("%s: closed, and entry %d is still %+v", t.Name, i, orbit.ExposeEntry(word))
		}
	}
}

// use does something with the thread's guard. What is true when it returns can
// be said of processes with one thread only: others may have more steps to make
// after the one that counted.
func (w *world) use(t *explore.Thread, me *claimant, op string) {
	g := me.guard
	var err error
	var valid bool
	switch op {
	case "renew":
		err = g.Renew(w.ttl)
	case "release":
		err = g.Release()
	case "valid":
		valid = g.Valid()
	default:
		panic("no operation " + op)
	}
	if w.Free() {
		return
	}
	w.Unseen(func() {
		i, word := g.ExposeWord()
		there := word != 0 && w.entry(i) == word
		private := w.Private(t.Process)
		switch {
		case err != nil && (!errors.Is(err, orbit.ErrLapsed) || w.Calm() && private):
			w.Fail("%s: %v", t.Name, err)
		case err != nil:
		case op == "release" && there:
			w.Fail("%s: released, and entry %d is as it was", t.Name, i)
		case !private:
		case op == "renew" && !there:
			w.Fail("%s: renewed, and entry %d has another claim", t.Name, i)
		case op == "valid" && valid && !there:
			w.Fail("%s: valid, and entry %d has another claim", t.Name, i)
		case op == "valid" && !valid && w.Calm():
			w.Fail("%s: not valid, though nothing ended it", t.Name)
		}
	})
}

// ---- A world at rest ----

// end checks a world in which every thread that did not die is done.
func (w *world) end() {
	if w.Calm() {
		for s := range labels {
			if w.lost[s] && !w.wins[s] {
				w.Fail("everybody yielded and nobody got subject %q", labels[s])
			}
		}
	}
	survivor := w.contests[w.survivor]
	for s := range labels {
		w.claimable(survivor, s)
	}
	for i, c := range w.claims {
		if p := w.World.Scripts[i].Process; c.guard != nil && !w.Dead(p) {
			if err := c.guard.Release(); err != nil && w.Calm() && w.Private(p) {
				w.Fail("process %d releases: %v", p, err)
			}
		}
	}
	for p, c := range w.contests[:w.survivor] {
		if !w.Dead(p) {
			if !c.ExposeArmed() {
				w.Fail("process %d has a guard whose end no timer will signal", p)
			}
			c.ExposeClose()
		}
	}
	w.empty(survivor)
}

// claimable has the survivor claim a subject, and lets it go again. It must get
// it with a larger token than any before, unless somebody holds it.
func (w *world) claimable(c *orbit.Contest, subject int) {
	stand, taken := false, 0
	for i := range entries {
		word := w.entry(i)
		if word == 0 {
			continue
		}
		e := orbit.ExposeEntry(word)
		p := w.owner(e)
		over := w.Now() >= int64(w.record(e.Record, orbit.ExposeDeadline)) || p < w.survivor && w.Dead(p)
		if !over {
			taken++
			stand = stand || w.subjectOf(e) == hashes[subject]
			if e.Phase != orbit.ExposeHeld {
				w.Fail("entry %d is left as %+v", i, e)
			}
		}
	}
	largest := w.memory[w.table.Token]
	g, err := c.ExposeClaim(labels[subject], "survivor", math.MaxInt64)
	switch {
	case stand && errors.Is(err, orbit.ErrHeld):
	case !stand && err == nil && g.Token() > largest:
		if err := g.Release(); err != nil {
			w.Fail("the survivor releases: %v", err)
		}
	case !stand && errors.Is(err, orbit.ErrTableFull) && (taken == entries || w.living() == w.records):
	default:
		w.Fail("the survivor claims subject %q: %v; there is a holder: %v", labels[subject], err, stand)
	}
}

// living returns how many records belong to those who live.
func (w *world) living() (n int) {
	for r := range w.records {
		if d := w.deed(r); d.Taken && (d.Member >= w.survivor || !w.Dead(d.Member)) {
			n++
		}
	}
	return n
}

// empty checks that with every guard released nothing is left in the table,
// and that there is as much room in it as before. What the dead left is found
// when it is in the way.
func (w *world) empty(c *orbit.Contest) {
	if n := w.living(); n != w.filled {
		w.Fail("%d records are taken by the living, want %d", n, w.filled)
	}
	room := min(entries, w.records) - w.filled
	if w.died() {
		var guards []*orbit.Guard
		for i := range room {
			g, err := c.ExposeClaim("room "+strconv.Itoa(i), "survivor", math.MaxInt64)
			if err != nil {
				w.Fail("the survivor finds room for %d claims, want %d: %v", i, room, err)
				return
			}
			guards = append(guards, g)
		}
		for _, g := range guards {
			if err := g.Release(); err != nil {
				w.Fail("the survivor releases: %v", err)
			}
		}
	}
	for i := range entries {
		if word := w.entry(i); word != 0 && w.owner(orbit.ExposeEntry(word)) != w.survivor {
			w.Fail("entry %d is left as %+v", i, orbit.ExposeEntry(word))
		}
	}
}

func (w *world) died() bool {
	for p := range w.survivor {
		if w.Dead(p) {
			return true
		}
	}
	return false
}
