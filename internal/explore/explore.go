package explore

import (
	"fmt"
	"iter"
	"math"
	"math/bits"
	"strings"
	"time"
	"unsafe"

	"orbit/internal/overlay/step"
)

// A Script is what one thread of the explored program does, with everything
// that it decides depending on the results of its steps alone. It runs once in
// every execution.
type Script struct {
	Name     string
	Process  int  // scripts of one process die together
	Observes bool // its checks look at watched words: see World.Watch
	Run      func(t *Thread)
}

// A World is the program explored: its threads, the memory they share, and
// what must hold. Memory is put back to what it was when the search began
// before every execution; Reset does the same for everything else.
type World struct {
	Name    string
	Memory  []uint64
	Scripts []Script
	Deaths  int   // how many processes may die
	Jumps   int   // how often the clock may jump
	Jump    int64 // how far, if not by JumpLength

	// Settled leaves out what makes no difference: questions that can have one
	// answer only, with nobody left to die or no jump left to come, are no
	// steps; and what the dead have seen is forgotten.
	Settled bool

	Beyond func() bool // tells whether a state is too far off to go on from, if any is
	Limit  int         // how many states to go through at most, or 0

	// Watch tells how the checks look at a word of memory, and Group which
	// group of words it belongs to: the check of a write may look at its whole
	// group.
	Watch func(word int) Watch
	Group func(word int) int

	// Process tells which process an owner names. One without scripts lives.
	Process func(owner uint64) int
	// Clock, if there is one, is how a process reads the time.
	Clock func(process int, now int64) int64
	Reset func()
	// Step checks what the thread has just done to memory.
	Step func(t *Thread, e Event)
	// Turned, if there is one, hears that a process died or the clock jumped,
	// if the checks look at that.
	Turned func()
	// Waited, if there is one, hears that a thread waits no longer for others.
	Waited func(t *Thread)
	// Ghost sums up what the checks remember beyond memory and histories.
	Ghost func() uint64
	// End checks a state in which no thread can move. Its own operations are
	// no steps any more.
	End func()
}

// Watch is how the checks look at a word of memory.
type Watch uint8

const (
	Unwatched  Watch = iota
	Observed         // by the checks of scripts that observe
	Remembered       // and the order of changes of such words is remembered
)

// JumpLength is how far the clock jumps when it does, in nanoseconds: longer
// than any grace.
const JumpLength = int64(time.Hour)

// An Event is a step made.
type Event struct {
	Kind     step.Kind
	Word     int // the index in memory, or Outside
	Old, New uint64
	Result   uint64
}

// Outside is the word of an Event that was not in the world's memory: in that
// of the thread's process. To a process with one script that is no step.
const Outside = -1

// A Result is what a search went through.
type Result struct {
	States     int // different states
	Executions int // runs of the scripts, each for one new path
	Steps      int // steps made in them, repeated ones included
	Ends       int // states in which no thread could move
	Cut        int // states too far off to go on from
	Deepest    int // steps in the longest execution
	Violation  string
}

// A Search runs all executions of a world.
type Search struct {
	World
	Result

	threads  []*Thread
	current  *Thread
	chosen   *Thread
	starting bool
	free     bool // steps are not scheduled: the execution is being wound up
	freed    int
	ended    bool // no thread can move
	ending   bool // the world's end is being checked

	path   []node
	depth  int
	asleep uint16 // the threads that need not move in the present state
	seen   table
	watch  []Watch
	group  []int

	// Plain has the search take no notice of which steps are independent.
	Plain bool

	pristin []uint64

	written []bool // by word; behind those of memory is one for each process's own
	private []bool // by process: it has a single script
	watched []int  // the words written
	again   bool   // a word was found written that was taken for constant

	dead  []bool
	died  int
	now   int64
	jumps int
	moves int // changes of memory, and deaths

	trace []string
	tell  bool
}

// A node is a state on the path of the present execution, and the actions
// that are to follow it. All before cur have been explored.
type node struct {
	hash    uint64
	asleep  uint16 // the threads whose steps here are explored elsewhere
	cur, n  uint8
	actions [maxActions]action
}

const (
	maxActions = 12
	maxDepth   = 400
	maxFree    = 100000
	maxTold    = 100
)

// An action is a thread's next step, in one of the ways it can turn out.
type action struct{ thread, way uint8 }

// Ways of a step that asks the world around.
const (
	wayPlain = iota
	wayDie   // the process asked about dies now
	wayLate  // the clock jumps, or the pause was the last
)

// pending is the step a thread is about to make.
type pending struct {
	kind    question
	proc    int // asked about
	word    int
	writes  bool
	patient bool // pauses until nobody else can move
	lock    *step.Lock
	shared  bool // wants the lock only shared
}

// patience is how long a thread must be ready to pause for to be taken as one
// that waits until nobody else can move.
const patience = time.Second

type question uint8

const (
	askMemory question = iota
	askMuch            // several operations at once
	askAlive
	askPause
	askClock
	askLock
)

// A Thread is a script in execution.
type Thread struct {
	Index   int
	Process int
	Name    string

	run      func(t *Thread)
	observes bool
	search   *Search
	next     func() (struct{}, bool)
	yield    func(struct{}) bool
	done     bool
	way      uint8
	pending  pending
	history  uint64 // of the results of all steps: it determines the thread's state
	loops    []entry
	onStart  func()

	atomic   bool   // all it does now is one step
	constant bool   // the operation under way is no step: a load of what nobody writes, or private
	at       int    // the word of the operation under way
	old      uint64 // the word before it

	moves  int // its own changes of memory
	paused int // pauses since the last Begin
	looked int // changes made by others until the last pause
}

// news tells whether others have changed anything since the last pause.
func (t *Thread) news() bool { return t.search.moves-t.moves != t.looked }

// An entry is a loop that a thread is in, and its history before.
type entry struct {
	loop    int
	history uint64
}

// abandon unwinds a thread that goes on and on.
type abandon struct{}

// NewSearch prepares a search of w.
func NewSearch(w World) *Search {
	s := &Search{World: w}
	s.pristin = append([]uint64(nil), w.Memory...)
	processes := 0
	for i, script := range w.Scripts {
		t := &Thread{Index: i, Process: script.Process, Name: script.Name, run: script.Run, observes: script.Observes, search: s}
		s.threads = append(s.threads, t)
		processes = max(processes, script.Process+1)
	}
	s.dead = make([]bool, processes)
	s.private = make([]bool, processes)
	for p := range s.private {
		s.private[p] = s.scripts(p) == 1
	}
	if s.Jump == 0 {
		s.Jump = JumpLength
	}
	for i := range w.Memory {
		watch := Observed
		if w.Watch != nil {
			watch = w.Watch(i)
		}
		s.watch = append(s.watch, watch)
		group := -1
		if w.Group != nil {
			group = w.Group(i)
		}
		s.group = append(s.group, group)
	}
	for p := range processes {
		s.watch = append(s.watch, Observed)
		s.group = append(s.group, math.MinInt+p)
	}
	s.written = make([]bool, len(s.watch))
	return s
}

// scripts returns how many scripts a process has.
func (s *Search) scripts(process int) (n int) {
	for _, t := range s.threads {
		if t.Process == process {
			n++
		}
	}
	return n
}

// Run explores every execution, or those until the first violation.
func (s *Search) Run() Result {
	step.Before, step.After = s.before, s.after
	step.Alive, step.Pause, step.Clock = s.alive, s.pause, s.clock
	step.Enter, step.Again = s.enterLoop, s.againInLoop
	step.Acquire, step.Try, step.Release = s.acquire, s.try, s.release
	defer func() {
		step.Before, step.After = nil, nil
		step.Alive, step.Pause, step.Clock = nil, nil, nil
		step.Enter, step.Again = nil, nil
		step.Acquire, step.Try, step.Release = nil, nil, nil
	}()
	for _, t := range s.threads {
		var stop func()
		t.next, stop = iter.Pull(t.loop)
		defer stop()
		t.next()
	}
	for {
		s.Result = Result{}
		s.seen.clear()
		s.path = s.path[:0]
		s.again = false
		for {
			s.execute()
			if s.again || s.Violation != "" || !s.backtrack() {
				break
			}
		}
		if !s.again {
			break
		}
	}
	s.States = s.seen.used
	if s.Violation != "" {
		s.explain()
	}
	return s.Result
}

// backtrack goes back to the last state with an action not yet taken.
func (s *Search) backtrack() bool {
	for len(s.path) > 0 {
		n := &s.path[len(s.path)-1]
		if n.cur++; n.cur < n.n {
			return true
		}
		s.path = s.path[:len(s.path)-1]
	}
	return false
}

// execute runs the scripts along the path, and on from its end until nothing
// new comes.
func (s *Search) execute() {
	s.Executions++
	copy(s.Memory, s.pristin)
	clear(s.dead)
	s.died, s.now, s.jumps, s.moves, s.depth = 0, JumpLength, 0, 0, 0
	s.free, s.freed, s.ended, s.chosen, s.asleep = false, 0, false, nil, 0
	s.World.Reset()
	s.starting = true
	for _, t := range s.threads {
		t.loops = t.loops[:0]
		t.done, t.atomic, t.history, t.onStart, t.paused, t.moves = false, false, uint64(t.Index), nil, 0, 0
		s.resume(t)
	}
	s.starting = false
	s.chosen = s.choose()
	for s.chosen != nil {
		t := s.chosen
		s.resume(t)
		if t.done && !s.free {
			s.chosen = s.choose()
		}
	}
	s.free, s.current = true, nil
	if s.ended && s.Violation == "" && s.World.End != nil {
		s.ending = true
		s.World.End()
		s.ending = false
	}
	// One may hold a lock that others want, so they come to their ends in turns.
	for left := true; left; {
		left = false
		for _, t := range s.threads {
			if !t.done {
				s.resume(t)
				left = left || !t.done
			}
		}
	}
	s.current = nil
}

// resume runs a thread until it yields or ends.
func (s *Search) resume(t *Thread) {
	s.current = t
	t.next()
}

func (t *Thread) loop(yield func(struct{}) bool) {
	t.yield = yield
	for yield(struct{}{}) {
		t.once()
		t.done = true
	}
}

func (t *Thread) once() {
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(abandon); !ok {
				t.search.Fail("%s panics: %v", t.Name, p)
			}
		}
	}()
	t.run(t)
}

// Begin has f called at the moment the thread makes its next step: an
// operation begins no earlier than with its first.
func (t *Thread) Begin(f func()) {
	t.onStart = f
	t.paused = 0
}

// Atomically has the thread do all of f in one step.
func (t *Thread) Atomically(f func()) {
	if !t.wait(pending{kind: askMuch}) {
		return
	}
	t.atomic = true
	f()
	t.atomic = false
}

// Become says that all that the thread holds in variables follows from sum:
// what it has seen is forgotten.
func (t *Thread) Become(sum uint64) { t.history = mix(uint64(t.Index), sum) }

// Free tells whether the execution is over, so that results mean nothing.
func (s *Search) Free() bool { return s.free }

// Calm tells whether no process died and the clock did not jump.
func (s *Search) Calm() bool { return s.died == 0 && s.jumps == 0 }

// Now returns the time.
func (s *Search) Now() int64 { return s.now }

// Private tells whether a process has a single script.
func (s *Search) Private(process int) bool { return s.private[process] }

// Ending tells whether it is End that runs.
func (s *Search) Ending() bool { return s.ending }

// Dead tells whether a process died.
func (s *Search) Dead(process int) bool { return s.dead[process] }

// Fail reports a violation.
func (s *Search) Fail(format string, args ...any) {
	if s.Violation != "" || s.again {
		return
	}
	s.Violation = fmt.Sprintf(format, args...)
	s.free = true
	s.chosen = nil
}

// choose returns the thread to make the next step, or nil if the execution is
// over.
func (s *Search) choose() *Thread {
	if s.free {
		return nil
	}
	if s.depth == len(s.path) && !s.extend() {
		s.free = true
		return nil
	}
	n := &s.path[s.depth]
	a := n.actions[n.cur]
	s.depth++
	s.Deepest = max(s.Deepest, s.depth)
	s.Steps++
	t := s.threads[a.thread]
	t.way = a.way
	s.asleep = 0
	for set := n.asleep | n.before(); set != 0; set &= set - 1 {
		if u := bits.TrailingZeros16(set); !s.dependent(t, s.threads[u]) {
			s.asleep |= 1 << u
		}
	}
	return t
}

// before returns the threads whose actions come before the present one.
func (n *node) before() (set uint16) {
	for _, a := range n.actions[:n.cur] {
		if a.thread != n.actions[n.cur].thread {
			set |= 1 << a.thread
		}
	}
	return set
}

// extend puts the present state on the path, unless it was seen before or is
// an end.
//
// Two steps are independent if their order makes no difference. When the steps
// of a thread from a state have been explored, and then those of another
// thread, the first need not move after an independent step of the other: it
// comes to the same state as the other after the first. It is asleep, until a
// step is made that does depend on its own. (Godefroid's sleep sets: every
// state is still reached, by fewer ways. A state reached again with a thread
// awake that was asleep before is explored for that thread.)
func (s *Search) extend() bool {
	n := node{hash: s.hash(), asleep: s.asleep}
	if s.Plain {
		n.asleep = 0
	}
	awake := ^n.asleep
	old, seen := s.seen.add(n.hash, n.asleep)
	if seen && !s.tell {
		for i := range s.path {
			if s.path[i].hash == n.hash {
				s.Fail("the execution comes round to the state after %d steps: it can go on like this for ever", i)
			}
		}
		awake &= old
		if awake == 0 {
			return false
		}
		n.asleep &= old
	}
	if s.Limit > 0 && s.seen.used > s.Limit {
		s.Fail("more than %d states", s.Limit)
		return false
	}
	if s.depth >= maxDepth {
		s.Fail("an execution of %d steps without an end", maxDepth)
		return false
	}
	if s.World.Beyond != nil && s.World.Beyond() {
		if !seen {
			s.Cut++
		}
		return false
	}
	moves := false
	last := s.current
	if last != nil {
		moves = s.offer(&n, last, awake)
	}
	for _, t := range s.threads {
		if t != last {
			moves = s.offer(&n, t, awake) || moves
		}
	}
	if !moves && (!seen || s.tell) {
		s.Ends++
		s.ended = true
		s.stuck()
	}
	if n.n == 0 {
		return false
	}
	s.path = append(s.path, n)
	return true
}

// stuck fails if a thread is left that waits for a lock.
func (s *Search) stuck() {
	for _, t := range s.threads {
		if !t.done && !s.dead[t.Process] {
			s.Fail("%s waits for a lock that nobody lets go", t.Name)
		}
	}
}

// offer adds the ways in which a thread can go on, if it is awake, and tells
// whether there are any.
func (s *Search) offer(n *node, t *Thread, awake uint16) bool {
	if t.done || s.dead[t.Process] {
		return false
	}
	if t.pending.kind == askLock && !free(t.pending.lock, t.pending.shared) {
		return false
	}
	if awake&(1<<t.Index) == 0 {
		return true
	}
	add := func(way uint8) {
		n.actions[n.n] = action{uint8(t.Index), way}
		n.n++
	}
	switch t.pending.kind {
	case askPause:
		if t.pending.patient && s.busy(t) {
			return true
		}
		// A pause ends when something has changed: to look again before is to
		// see the same again. If nothing changes it was the last, but never
		// the first.
		if t.paused == 0 || t.news() {
			add(wayPlain)
		} else {
			add(wayLate)
		}
	case askAlive:
		add(wayPlain)
		if !s.dead[t.pending.proc] && s.died < s.Deaths {
			add(wayDie)
		}
	case askClock:
		add(wayPlain)
		if s.jumps < s.Jumps {
			add(wayLate)
		}
	default:
		add(wayPlain)
	}
	return true
}

// busy tells whether a thread other than t can move.
func (s *Search) busy(t *Thread) bool {
	for _, u := range s.threads {
		if u != t && !u.done && !s.dead[u.Process] {
			return true
		}
	}
	return false
}

// dependent tells whether the order of the next steps of two threads can make
// a difference, to them or to the checks.
func (s *Search) dependent(t, u *Thread) bool {
	if s.Plain || t == u {
		return true
	}
	a, b := &t.pending, &u.pending
	for range 2 {
		switch a.kind {
		case askMuch, askPause:
			return true
		case askAlive:
			if b.kind == askAlive || u.observes || u.Process == a.proc || u.paused > 0 {
				return true
			}
		case askClock:
			if b.kind == askClock || s.World.Turned != nil && s.jumps < s.Jumps && u.observes && !s.blind(u) {
				return true
			}
		case askMemory, askLock:
			if a.writes && s.watch[a.word] != Unwatched && u.observes && !s.blind(u) {
				return true
			}
		}
		a, b, t, u = b, a, u, t
	}
	if !a.touches() || !b.touches() {
		return false
	}
	if !a.writes || !b.writes {
		return a.word == b.word && (a.writes || b.writes)
	}
	return s.group[a.word] == s.group[b.word] ||
		s.watch[a.word] == Remembered && s.watch[b.word] == Remembered && s.observed()
}

// touches tells whether a step reads or writes the word it names.
func (p *pending) touches() bool { return p.kind == askMemory || p.kind == askLock }

// blind tells whether no check follows the next step of a thread that observes:
// no operation begins or ends with an unwatched word.
func (s *Search) blind(t *Thread) bool {
	return t.pending.touches() && s.watch[t.pending.word] == Unwatched && t.onStart == nil
}

// Over is for scripts that observe to call when an operation is over: it fails
// if that ended with an unwatched word.
func (t *Thread) Over() {
	if s := t.search; !s.free && s.blind(t) {
		s.Fail("%s ends an operation with word %d, which the checks do not watch", t.Name, t.pending.word)
	}
}

// observed tells whether a script that observes is under way.
func (s *Search) observed() bool {
	for _, t := range s.threads {
		if t.observes && !t.done && !s.dead[t.Process] {
			return true
		}
	}
	return false
}

// hash sums up the state: memory, what every thread has seen, and what
// happened around them.
func (s *Search) hash() uint64 {
	h := uint64(len(s.watched))
	for _, w := range s.watched {
		h = mix(h, s.Memory[w])
	}
	for _, t := range s.threads {
		x := t.history<<1 | b2u(t.done)
		if s.Settled && s.dead[t.Process] {
			x = 0
		}
		if t.paused > 0 {
			x = mix(x, 1+b2u(t.news()))
		}
		h = mix(h, x)
	}
	around := uint64(s.jumps)
	for _, d := range s.dead {
		around = around<<1 | b2u(d)
	}
	s.Unseen(func() { h = mix(mix(h, around), s.World.Ghost()) })
	return h
}

// Unseen calls f, whose operations are no steps.
func (s *Search) Unseen(f func()) {
	t := s.current
	s.current = nil
	f()
	s.current = t
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// mix is a step of a hash: the two halves of a product, of factors that are
// not known to be related.
func mix(h, v uint64) uint64 {
	hi, lo := bits.Mul64(h^0x2d358dccaa6c78a5, v^0x8bb84b93962eacc9)
	return hi ^ lo
}

// ---- Steps ----

// wait lets the scheduler decide when the thread makes the step it is about
// to make. It returns false if steps are not scheduled any more.
func (t *Thread) wait(p pending) bool {
	s := t.search
	if t.atomic {
		t.way = wayLate
		return !s.free
	}
	t.pending = p
	if s.starting {
		t.yield(struct{}{})
	} else if s.chosen = s.choose(); s.chosen != t {
		t.yield(struct{}{})
	}
	if s.free {
		return false
	}
	if f := t.onStart; f != nil {
		t.onStart = nil
		s.Unseen(f)
	}
	return true
}

// windUp counts the steps of a thread that is only to come to its end.
func (s *Search) windUp() {
	if s.freed++; s.freed > maxFree {
		panic(abandon{})
	}
}

// word returns the index of an address in memory, or that for all of the
// process's own.
func (s *Search) word(addr unsafe.Pointer, process int) int {
	off := uintptr(addr) - uintptr(unsafe.Pointer(unsafe.SliceData(s.Memory)))
	if off < uintptr(len(s.Memory))*8 {
		return int(off / 8)
	}
	return s.own(process)
}

func (s *Search) own(process int) int { return len(s.Memory) + process }

func (s *Search) before(k step.Kind, addr unsafe.Pointer) {
	t := s.current
	if t == nil || s.free {
		if t != nil {
			s.windUp()
		}
		return
	}
	t.at = s.word(addr, t.Process)
	inside := t.at < len(s.Memory)
	t.constant = k == step.Load && !s.written[t.at] || !inside && s.private[t.Process]
	if t.constant {
		return
	}
	if t.wait(pending{word: t.at, writes: k != step.Load}) && inside {
		t.old = s.Memory[t.at]
	}
	if s.tell {
		s.trace = append(s.trace, fmt.Sprintf("%-8s %s: %v", t.Name, step.Where(), k))
	}
}

func (s *Search) after(k step.Kind, addr unsafe.Pointer, result uint64) {
	t := s.current
	if t == nil || s.free || t.constant {
		return
	}
	t.history = mix(t.history, result)
	e := Event{Kind: k, Word: t.at, Result: result, Old: t.old}
	changes := k == step.Store || k == step.Add || k == step.Swap || k == step.Compare && result == 1
	if changes && !s.written[e.Word] {
		// Loads of it were not scheduled: from the beginning, with them.
		s.written[e.Word] = true
		if e.Word < len(s.Memory) {
			s.watched = append(s.watched, e.Word)
		}
		s.again, s.free, s.chosen = true, true, nil
		return
	}
	if e.Word >= len(s.Memory) {
		e.Word, e.Old = Outside, 0
	} else {
		e.New = s.Memory[e.Word]
	}
	if changes {
		s.moves++
		t.moves++
	}
	if s.tell {
		s.trace[len(s.trace)-1] += fmt.Sprintf(" = %#x", result)
		if e.Old != e.New {
			s.trace[len(s.trace)-1] += fmt.Sprintf(" (%#x -> %#x)", e.Old, e.New)
		}
	}
	s.Unseen(func() { s.World.Step(t, e) })
}

// alive answers whether an owner lives. A death is decided when somebody asks:
// between its last step and the first question a dead process differs from a
// stopped one in nothing.
func (s *Search) alive(owner uint64) bool {
	t := s.current
	p := s.World.Process(owner)
	if p >= len(s.dead) || t != nil && t.Process == p {
		return true
	}
	if t == nil || s.free {
		return p < 0 || !s.dead[p]
	}
	if p < 0 {
		s.Fail("%s asks about owner %#x, which nobody is", t.Name, owner)
		return true
	}
	if s.Settled && (s.dead[p] || s.died == s.Deaths) {
		t.history = mix(t.history, 2+b2u(s.dead[p]))
		return !s.dead[p]
	}
	if !t.wait(pending{kind: askAlive, proc: p}) {
		return true
	}
	if t.way == wayDie && !s.dead[p] {
		s.dead[p] = true
		s.died++
		s.moves++
		s.turned()
	}
	t.history = mix(t.history, 2+b2u(s.dead[p]))
	if s.tell {
		s.trace = append(s.trace, fmt.Sprintf("%-8s %s: process %d lives: %v", t.Name, step.Where(), p, !s.dead[p]))
	}
	return !s.dead[p]
}

func (s *Search) turned() {
	if s.World.Turned != nil {
		s.Unseen(s.World.Turned)
	}
}

// pause stands for a short sleep of a thread that has to wait for others.
func (s *Search) pause(limit time.Duration) bool {
	t := s.current
	if t == nil || s.free {
		if t != nil {
			s.windUp()
		}
		return false
	}
	first := t.paused == 0
	if !t.wait(pending{kind: askPause, patient: limit >= patience}) {
		return false
	}
	if !first && t.way == wayLate {
		t.history = mix(t.history, 5)
		if s.tell {
			s.trace = append(s.trace, fmt.Sprintf("%-8s %s: waits no longer", t.Name, step.Where()))
		}
		if s.World.Waited != nil {
			s.Unseen(func() { s.World.Waited(t) })
		}
		return false
	}
	t.paused++
	t.looked = s.moves - t.moves
	t.history = mix(t.history, 4)
	if s.tell {
		s.trace = append(s.trace, fmt.Sprintf("%-8s %s: waits", t.Name, step.Where()))
	}
	return true
}

// enterLoop and againInLoop take the history of a thread back to what it was
// before a loop when a try has failed: nothing of it but what is carried makes
// a difference any more. A try that fails although nothing changed then comes
// round to a state that is on the path.
func (s *Search) enterLoop(loop int) {
	if t := s.current; t != nil {
		t.loops = append(t.loops, entry{loop, t.history})
	}
}

func (s *Search) againInLoop(loop int, carried ...uint64) {
	t := s.current
	if t == nil {
		return
	}
	for t.loops[len(t.loops)-1].loop != loop {
		t.loops = t.loops[:len(t.loops)-1]
	}
	t.history = mix(t.loops[len(t.loops)-1].history, uint64(loop))
	for _, v := range carried {
		t.history = mix(t.history, v)
	}
}

func (s *Search) clock() int64 {
	t := s.current
	if t == nil || s.free {
		return s.now
	}
	if step := !s.Settled || s.jumps < s.Jumps; step && !t.wait(pending{kind: askClock}) {
		return s.now
	} else if step && t.way == wayLate && !t.atomic {
		s.jumps++
		s.now += s.Jump
		s.turned()
	}
	t.history = mix(t.history, uint64(s.now))
	now := s.now
	if s.World.Clock != nil {
		now = s.World.Clock(t.Process, now)
	}
	return now
}

// ---- Locks ----

// Those of a process with one script are never in its way, and no steps. Of
// the others each operation is one, on the memory of the process.

func free(l *step.Lock, shared bool) bool { return !l.Writer && (shared || l.Readers == 0) }

func take(l *step.Lock, shared bool) {
	if shared {
		l.Readers++
	} else {
		l.Writer = true
	}
}

func (s *Search) acquire(l *step.Lock, shared bool) {
	t := s.current
	if t != nil && !s.free && !s.private[t.Process] {
		t.wait(pending{kind: askLock, word: s.own(t.Process), writes: true, lock: l, shared: shared})
		s.locked(t, "locks")
	}
	for !free(l, shared) {
		if t == nil || s.private[t.Process] {
			panic("waits for a lock of its own")
		}
		s.windUp()
		t.yield(struct{}{})
	}
	take(l, shared)
}

func (s *Search) try(l *step.Lock) bool {
	s.lockStep("tries a lock")
	ok := free(l, false)
	if ok {
		take(l, false)
	}
	if t := s.current; t != nil {
		t.history = mix(t.history, 6+b2u(ok))
	}
	return ok
}

func (s *Search) release(l *step.Lock, shared bool) {
	s.lockStep("unlocks")
	if shared {
		l.Readers--
	} else {
		l.Writer = false
	}
}

// lockStep makes a step of an operation on a lock that never waits.
func (s *Search) lockStep(does string) {
	t := s.current
	if t != nil && !s.free && !s.private[t.Process] && t.wait(pending{word: s.own(t.Process), writes: true}) {
		s.locked(t, does)
	}
}

func (s *Search) locked(t *Thread, does string) {
	s.moves++
	t.moves++
	t.history = mix(t.history, 8)
	if s.tell && !s.free {
		s.trace = append(s.trace, fmt.Sprintf("%-8s %s: %s", t.Name, step.Where(), does))
	}
}

// explain makes the execution of the violation once more, and tells it.
func (s *Search) explain() {
	found := s.Result
	s.tell, s.Violation = true, ""
	s.execute()
	s.tell = false
	again := s.Violation
	s.Result = found
	if again != found.Violation {
		s.trace = append(s.trace, fmt.Sprintf("(once more it ended with %q: the scripts are not deterministic)", again))
	}
	if cut := len(s.trace) - maxTold; cut > 0 {
		s.trace = append(s.trace[:maxTold], fmt.Sprintf("(and %d steps more)", cut))
	}
	s.Violation += "\n\t" + strings.Join(s.trace, "\n\t")
}

// A table is a set of hashes, each with the set of threads that were asleep in
// its state whenever it was reached.
type table struct {
	slots  []uint64
	asleep []uint16
	used   int
}

func (t *table) clear() {
	if t.slots == nil {
		t.slots, t.asleep = make([]uint64, 1<<12), make([]uint16, 1<<12)
	}
	clear(t.slots)
	t.used = 0
}

// add puts h into the table. If it was there, it returns the threads that were
// asleep before.
func (t *table) add(h uint64, asleep uint16) (old uint16, seen bool) {
	if h == 0 {
		h = 1
	}
	if t.used*2 >= len(t.slots) {
		t.grow()
	}
	mask := uint64(len(t.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch t.slots[i] {
		case 0:
			t.slots[i], t.asleep[i] = h, asleep
			t.used++
			return 0, false
		case h:
			old = t.asleep[i]
			t.asleep[i] &= asleep
			return old, true
		}
	}
}

func (t *table) grow() {
	slots, asleep := t.slots, t.asleep
	t.slots, t.asleep = make([]uint64, 2*len(slots)), make([]uint16, 2*len(slots))
	t.used = 0
	for i, h := range slots {
		if h != 0 {
			t.add(h, asleep[i])
		}
	}
}
