//go:build linux

// Package crash kills, and stops, a real process before every single step of
// every operation that changes shared memory, and looks at what its siblings
// make of it. A step is an operation on shared memory or a system call; they
// are not listed anywhere but found in the code itself, in a copy of it that
// package orbit/internal/overlay makes: a new step is a new test, and one that
// no operation comes to fails a test.
package crash

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"orbit"
	"orbit/internal/overlay"
	"orbit/internal/proc"
)

func TestMain(m *testing.M) { proc.Main(m) }

const (
	ringKind   = 1
	victimNode = 7
)

var options = orbit.Options{Size: 2, Rings: map[uint8]orbit.Geometry{
	ringKind:          {Capacity: 8, PayloadLimit: 64},
	orbit.KindEvents:  {Capacity: 16, PayloadLimit: 64},
	orbit.KindCache:   {Capacity: 16, PayloadLimit: 64},
	orbit.KindContest: {Capacity: 16, PayloadLimit: 512},
}}

type value struct{ A, B uint64 }

func (value) OrbitKind() uint8 { return 2 }

func buildVictim(t *testing.T) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "victim")
	overlay.Build(t, overlay.Variant{}, "build", "-tags=orbit_overlay", "-o", binary, "./internal/crash/victim")
	return binary
}

// list returns the operations of a victim, of both kinds: "doings" that nothing
// is in the way of, and those with "obstacles".
func list(t *testing.T, binary string, kinds ...string) (operations []string) {
	t.Helper()
	for _, kind := range kinds {
		out, err := exec.Command(binary, kind).Output()
		if err != nil || len(out) == 0 {
			t.Fatalf("no %s: %v", kind, err)
		}
		operations = append(operations, strings.Split(strings.TrimSpace(string(out)), "\n")...)
	}
	return operations
}

// A survivor is the sibling of a victim: it has all there is in a fleet open,
// and a reader asleep on the ring.
type survivor struct {
	t       *testing.T
	name    string
	fleet   *orbit.Fleet
	ring    *orbit.Ring
	cursor  *orbit.Cursor
	start   uint64
	values  *orbit.Orbital[value]
	bus     *orbit.EventBus
	events  *orbit.Subscriber
	cache   *orbit.Cache
	contest *orbit.Contest
	heart   *orbit.Heartbeat
	asleep  uint64     // what the sleeper waits for
	woken   chan error // what became of its wait
}

func newSurvivor(t *testing.T) *survivor {
	t.Helper()
	return survive(t, proc.Fleet(t), options)
}

// survive joins a fleet, and opens all there is in it or makes it.
func survive(t *testing.T, name string, options orbit.Options) *survivor {
	t.Helper()
	s := &survivor{t: t, name: name}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	s.fleet, err = orbit.Join(s.name, options)
	must(err)
	t.Cleanup(func() { s.fleet.Close() })
	s.ring, err = s.fleet.Ring(ringKind)
	must(err)
	s.values, err = orbit.Bind[value](s.fleet)
	must(err)
	s.bus, err = orbit.Events(s.fleet)
	must(err)
	s.cache, err = orbit.OpenCache(s.fleet, "p")
	must(err)
	s.contest, err = orbit.OpenContest(s.fleet)
	must(err)
	s.heart, err = orbit.Heartbeats(s.fleet)
	must(err)
	s.cursor = s.ring.Oldest()
	s.cursor.Grace = time.Minute // what the kernel calls dead is not waited for
	s.start = s.cursor.Position()
	s.events = s.bus.SubscribeOldest()
	s.events.Grace = time.Minute
	return s
}

// sleep has a reader sleep in the kernel for the next frame.
func (s *survivor) sleep() {
	s.t.Helper()
	s.asleep, s.woken = s.ring.Head(), make(chan error, 1)
	c, woken := s.ring.Tail(), s.woken
	c.Grace = time.Minute
	go func() { woken <- c.Wait(s.t.Context()) }()
	proc.Eventually(s.t, "a reader sleeps", func() bool { st, err := s.ring.Stats(); return err != nil || st.Waiting })
}

// wakes fails the test if the sleeper sleeps on.
func (s *survivor) wakes(where string) {
	s.t.Helper()
	select {
	case err := <-s.woken:
		if err != nil {
			s.t.Errorf("%s: a sleeper woke with %v", where, err)
		}
		s.woken <- err
	case <-time.After(wakeLimit):
		s.t.Fatalf("%s: a sleeper was not woken", where)
	}
}

// wakeLimit is how long it may take until a sleeper is awake, on a busy
// machine. It looks for itself every 100 ms.
const wakeLimit = 20 * time.Second

// run starts the victim and returns its output and how it ended.
func (s *survivor) run(binary, operation string, step int) (text string, status syscall.WaitStatus) {
	s.t.Helper()
	var out, errs bytes.Buffer
	c := exec.Command(binary, s.name, operation, fmt.Sprint(step), fmt.Sprint(int(syscall.SIGKILL)))
	c.Stdout, c.Stderr = &out, &errs
	c.Run()
	if errs.Len() > 0 {
		s.t.Fatalf("%s, step %d: %s", operation, step, &errs)
	}
	return strings.TrimSpace(out.String()), c.ProcessState.Sys().(syscall.WaitStatus)
}

// wholeFrame tells whether the payload is one that a victim or a survivor
// published: all its bytes are its length.
func wholeFrame(p []byte) bool {
	return len(p) == bytes.Count(p, []byte{byte(len(p))})
}

func payload(n int) []byte { return bytes.Repeat([]byte{byte(n)}, n) }

// check holds the fleet to everything that a death may not change.
func (s *survivor) check(where string) {
	t := s.t
	t.Helper()
	if s.woken == nil {
		s.sleep()
	}
	// What the sleeper waits for may be there: then it wakes, though who made it
	// may have died before it woke anybody.
	if s.ring.Head() != s.asleep {
		s.wakes(where)
	}
	members, err := s.fleet.Members()
	if err != nil || len(members) != 1 || members[0].Node != s.fleet.Node() {
		t.Errorf("%s: members %v, %v, want the survivor alone", where, members, err)
	}
	// Two laps at once: no slot may be in the way.
	for lap := range 2 {
		for i := range 8 {
			if _, err := s.ring.Publish(byte(lap), 0, payload(i*9)); err != nil {
				t.Fatalf("%s: publish: %v", where, err)
			}
		}
		s.drain(where)
	}
	s.wakes(where)
	s.woken = nil
	if st, err := s.ring.Stats(); err != nil || st.Frames != 8 {
		t.Errorf("%s: after two laps: %+v, %v, want 8 frames", where, st, err)
	}
	if _, err := s.values.Store(value{3, 3}); err != nil {
		t.Errorf("%s: store: %v", where, err)
	}
	if v, _, err := s.values.Load(); err != nil || v != (value{3, 3}) {
		t.Errorf("%s: load: %v, %v", where, v, err)
	}
	s.substrates(where)
}

// drain reads all there is and holds the cursor to its account.
func (s *survivor) drain(where string) {
	s.t.Helper()
	for start := time.Now(); ; {
		f, _, err := s.cursor.Next(nil)
		if err == orbit.ErrNoFrame {
			break
		}
		if soon(err, start) {
			continue
		}
		if err != nil {
			s.t.Fatalf("%s: next: %v", where, err)
		}
		if !wholeFrame(f.Payload) {
			s.t.Fatalf("%s: torn frame %v: %x", where, f.ID, f.Payload)
		}
	}
	if tally := s.cursor.Tally(); tally.Delivered+tally.Total() != s.cursor.Position()-s.start || s.cursor.Position() != s.ring.Head() {
		s.t.Fatalf("%s: %+v from %d to %d, head %d", where, tally, s.start, s.cursor.Position(), s.ring.Head())
	}
}

// soon waits a moment at a counter that a dead one took, and for which it had no
// slot yet: readers may not be held by that for long.
func soon(err error, start time.Time) bool {
	if err != orbit.ErrPending || time.Since(start) > wakeLimit {
		return false
	}
	time.Sleep(time.Millisecond)
	return true
}

func (s *survivor) substrates(where string) {
	t := s.t
	t.Helper()
	if _, err := s.bus.Publish("topic", payload(9)); err != nil {
		t.Errorf("%s: event: %v", where, err)
	}
	var ev orbit.Event
	for start := time.Now(); ; {
		err := s.events.Poll(&ev)
		if err == orbit.ErrNoFrame {
			break
		}
		if soon(err, start) {
			continue
		}
		if err != nil || string(ev.Topic) != "topic" || !wholeFrame(ev.Payload) {
			t.Fatalf("%s: event %q %x, %v", where, ev.Topic, ev.Payload, err)
		}
	}
	if err := s.cache.Put("key", payload(11), 0); err != nil {
		t.Errorf("%s: put: %v", where, err)
	}
	if v, ok, err := s.cache.Get("key"); err != nil || !ok || len(v) != 11 || !wholeFrame(v) {
		t.Errorf("%s: get: %x, %v, %v", where, v, ok, err)
	}
	if err := s.cache.Delete("key"); err != nil {
		t.Errorf("%s: delete: %v", where, err)
	}
	if won, err := s.cache.Add("key", payload(12), 0); err != nil || !won {
		t.Errorf("%s: add after delete: %v, %v", where, won, err)
	}
	g, err := orbit.Claim[value](s.contest, "label", "survivor", time.Minute)
	if err != nil {
		t.Fatalf("%s: claim: %v", where, err)
	}
	if !g.Valid() {
		t.Errorf("%s: the survivor's guard is not valid", where)
	}
	g.Release()
	before := orbit.Now()
	if err := s.heart.Beat(); err != nil {
		t.Errorf("%s: beat: %v", where, err)
	}
	if last, err := s.heart.Last(s.fleet.Node()); err != nil || last < before {
		t.Errorf("%s: after a beat at %d or later: %d, %v", where, before, last, err)
	}
}

// gone checks that nothing but the fleet's own segments is in shared memory,
// and that they can be removed.
func (s *survivor) gone(where string) {
	s.t.Helper()
	s.fleet.Close()
	if err := orbit.Remove(s.name); err != nil {
		s.t.Errorf("%s: remove: %v", where, err)
	}
	if left, _ := filepath.Glob("/dev/shm/*" + s.name + "-*"); len(left) > 0 {
		s.t.Errorf("%s: left %v", where, left)
	}
}

// TestDeathBeforeEveryStep kills a process before every step of every operation,
// as it goes by itself and as it goes beside what others left half done.
func TestDeathBeforeEveryStep(t *testing.T) {
	binary := buildVictim(t)
	for _, operation := range list(t, binary, "doings", "obstacles") {
		t.Run(operation, func(t *testing.T) {
			s := newSurvivor(t)
			steps, last, same := 0, "", 0
			for step := 1; same < 32; step++ { // at 32, it is a look at one seat after the other
				s.sleep()
				text, status := s.run(binary, operation, step)
				if strings.HasPrefix(text, "done") {
					break
				}
				if same++; text != last {
					last, same = text, 0
				}
				if !status.Signaled() || status.Signal() != syscall.SIGKILL {
					t.Fatalf("step %d: the victim ended with %v: %s", step, status, text)
				}
				s.check(fmt.Sprintf("death before step %d (%s)", step, text))
				if t.Failed() {
					return
				}
				steps++
			}
			if steps < 4 {
				t.Errorf("got %d steps: too few to be true", steps)
			}
			t.Logf("%d steps", steps)
			s.check("in the end")
			s.gone("in the end")
		})
	}
}

// TestDeathWhileMakingAFleet kills the first member of a fleet before every
// step on the way to all there is in one.
func TestDeathWhileMakingAFleet(t *testing.T) {
	binary := buildVictim(t)
	first := options
	first.Node = victimNode
	for _, operation := range []string{"join", "ring", "open"} {
		t.Run(operation, func(t *testing.T) {
			for step := 1; ; step++ {
				s := &survivor{t: t, name: proc.Fleet(t)}
				text, _ := s.run(binary, operation, step)
				if strings.HasPrefix(text, "done") {
					return
				}
				if !comesAfter(t, s.name, first, step, text) {
					return
				}
			}
		})
	}
}

// TestDeathWhileRemovingAFleet kills who removes a fleet before every step of
// that: who comes then has a whole fleet, and can remove it.
func TestDeathWhileRemovingAFleet(t *testing.T) {
	binary := buildVictim(t)
	for step := 1; ; step++ {
		s := newSurvivor(t)
		s.check("before")
		s.fleet.Close()
		text, _ := s.run(binary, "remove", step)
		if strings.HasPrefix(text, "done") {
			if left := proc.Segments(s.name); len(left) > 0 {
				t.Errorf("Remove left %v", left)
			}
			return
		}
		if !comesAfter(t, s.name, options, step, text) {
			return
		}
	}
}

// comesAfter has a new member look at all a fleet has after a death on the way
// to it or from it, and tells whether that is well.
func comesAfter(t *testing.T, fleet string, options orbit.Options, step int, text string) bool {
	t.Helper()
	where := fmt.Sprintf("death before step %d (%s)", step, text)
	s := survive(t, fleet, options)
	s.check(where)
	s.gone(where)
	return !t.Failed()
}

// unmet are functions whose steps no victim comes to, and why.
var unmet = map[string]string{
	"Contest.evict": "frees what damage left without meaning, where no entry is free",
	"mapMemory":     "has a call for each kind of processor",
	"monotonic":     "is asked before the program begins",
}

// TestEveryChangeIsAStepOfAVictim holds the operations to the code: wherever it
// changes shared memory or enters the kernel, some operation comes by, and is
// killed there by the tests above.
func TestEveryChangeIsAStepOfAVictim(t *testing.T) {
	binary := buildVictim(t)
	root, err := overlay.Root()
	if err != nil {
		t.Fatal(err)
	}
	places, err := overlay.Changes(root)
	if err != nil || len(places) < 50 {
		t.Fatalf("%d places, %v: too few to be true", len(places), err)
	}
	trace := func(fleet, operation string) {
		t.Helper()
		out, err := exec.Command(binary, fleet, operation, "trace").CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", operation, err, out)
		}
		for line := range strings.Lines(string(out)) {
			words := strings.Fields(line)
			delete(places, words[len(words)-1])
		}
	}
	s := newSurvivor(t)
	for _, operation := range list(t, binary, "doings", "obstacles") {
		s.sleep()
		trace(s.name, operation)
		s.check("after " + operation)
	}
	s.gone("in the end")
	trace(s.name, "open")
	trace(s.name, "remove")
	for place, function := range places {
		if unmet[function] == "" {
			t.Errorf("no operation of a victim comes to %s, in %s", place, function)
		}
	}
}

// TestSegmentsTruncatedBeforeEveryStep truncates the rings, or the roster,
// before every step of every operation that nothing is in the way of: it
// succeeds or fails with an error that says so, and the fleet can be left and
// removed.
func TestSegmentsTruncatedBeforeEveryStep(t *testing.T) {
	binary := buildVictim(t)
	for _, operation := range append(list(t, binary, "doings"), "open", "members beside a dead one") {
		t.Run(operation, func(t *testing.T) {
			out, err := exec.Command(binary, proc.Fleet(t), operation, "truncate").CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var times, failed int
			if _, err := fmt.Sscanf(string(out), "truncated %d damaged %d", &times, &failed); err != nil || times < 12 {
				t.Errorf("truncated %d times, %v: too few to be true", times, err)
			}
			t.Logf("%s", bytes.TrimSpace(out))
		})
	}
}

// TestStopBeforeEveryStep stops a writer before every step of its operations,
// laps it, and lets it go on: it may damage nothing.
func TestStopBeforeEveryStep(t *testing.T) {
	binary := buildVictim(t)
	for _, operation := range []string{"publish", "batch", "mint", "reset", "leave"} {
		t.Run(operation, func(t *testing.T) {
			s := newSurvivor(t)
			s.cursor.Grace = time.Millisecond // the stopped one is not waited for
			for step := 1; ; step++ {
				var out, errs bytes.Buffer
				c := exec.Command(binary, s.name, operation, fmt.Sprint(step), fmt.Sprint(int(syscall.SIGSTOP)))
				c.Stdout, c.Stderr = &out, &errs
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				stopped := waitStopped(t, c.Process.Pid)
				last := s.lap(step)
				if stopped {
					c.Process.Signal(syscall.SIGCONT)
				}
				if err := c.Wait(); err != nil {
					t.Fatalf("step %d: %v\n%s%s", step, err, &out, &errs)
				}
				s.drainStopped(fmt.Sprintf("stop before step %d: %s", step, &out))
				if f, err := s.ring.Read(last, nil); stopped && operation != "reset" && operation != "batch" && (err != nil || !wholeFrame(f.Payload)) {
					t.Fatalf("step %d: the survivor's last frame: %v", step, err)
				}
				if !stopped {
					break
				}
			}
			s.gone("in the end")
		})
	}
}

// TestMemberIsListedWholeOrNotAtAll stops an observer before every step of its
// look at a seat, in which meanwhile one member follows another: it lists the
// one or the other or none, and never the node of one with what is the other's.
func TestMemberIsListedWholeOrNotAtAll(t *testing.T) {
	binary := buildVictim(t)
	s := newSurvivor(t)
	before, after := 0, 0
	for step := 1; step <= 24; step++ {
		first, one := s.sibling(20)
		var second *orbit.Fleet
		var other string
		listed := s.listed(binary, step, func() {
			first.Close()
			second, other = s.sibling(21)
		})
		second.Close()
		switch n := strings.Count(listed, "\nmember "); {
		case n == 2 && strings.Contains(listed, one):
			before++
		case n == 2 && strings.Contains(listed, other):
			after++
		case n != 1:
			t.Errorf("stop before step %d: listed\n%swant\n%sor\n%s", step, listed, one, other)
		}
	}
	if before == 0 || after == 0 {
		t.Errorf("the first was listed %d times, the second %d times", before, after)
	}
	s.gone("in the end")
}

// TestNodePassedOnIsListedOnce stops an observer before every step of its look at
// a seat, whose node id meanwhile passes to a member in the seat behind it: it
// lists one member of that node, the later one if it saw both.
func TestNodePassedOnIsListedOnce(t *testing.T) {
	binary := buildVictim(t)
	s := newSurvivor(t)
	sawBoth := 0
	for step := 1; step <= 24; step++ {
		first, _ := s.sibling(20)
		var between, second *orbit.Fleet
		var seated, other string
		listed := s.listed(binary, step, func() {
			first.Close()
			between, seated = s.sibling(21) // in the seat of the first
			second, other = s.sibling(20)
		})
		between.Close()
		second.Close()
		if strings.Count(listed, "\nmember 20 ") != 1 {
			t.Errorf("stop before step %d: listed\n%swant node 20 once", step, listed)
		}
		if strings.Contains(listed, other) && !strings.Contains(listed, seated) {
			sawBoth++ // for it saw the first where the one between is
		}
	}
	if sawBoth == 0 {
		t.Errorf("no stop was between the looks at the two")
	}
	s.gone("in the end")
}

// sibling joins a node, and returns also the line that lists it.
func (s *survivor) sibling(node uint16) (*orbit.Fleet, string) {
	s.t.Helper()
	f, err := orbit.Join(s.name, orbit.Options{Size: 2, Node: node})
	if err != nil {
		s.t.Fatal(err)
	}
	members, err := s.fleet.Members()
	for _, m := range members {
		if m.Node == node {
			return f, fmt.Sprintln("member", node, int64(m.Since))
		}
	}
	s.t.Fatalf("members %v, %v: node %d is not among them", members, err, node)
	return nil, ""
}

// listed is what an observer lists that is stopped before a step of its, and goes
// on when something was done meanwhile.
func (s *survivor) listed(binary string, step int, meanwhile func()) string {
	s.t.Helper()
	var out, errs bytes.Buffer
	c := exec.Command(binary, s.name, "members", fmt.Sprint(step), fmt.Sprint(int(syscall.SIGSTOP)))
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	if !waitStopped(s.t, c.Process.Pid) {
		s.t.Fatalf("step %d: the observer ended: %s%s", step, &out, &errs)
	}
	meanwhile()
	c.Process.Signal(syscall.SIGCONT)
	if err := c.Wait(); err != nil {
		s.t.Fatalf("step %d: %v\n%s%s", step, err, &out, &errs)
	}
	return out.String()
}

// lap publishes three laps and returns the last id.
func (s *survivor) lap(step int) (last orbit.NetID64) {
	s.t.Helper()
	for i := range 24 {
		id, err := s.ring.Publish(0, 0, payload(i))
		if err != nil {
			s.t.Fatalf("step %d: publish beside a stopped writer: %v", step, err)
		}
		last = id
	}
	return last
}

// drainStopped is drain, where a frame may be pending for a moment.
func (s *survivor) drainStopped(where string) {
	s.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for s.cursor.Position() != s.ring.Head() {
		f, _, err := s.cursor.Next(nil)
		if err != nil && !errors.Is(err, orbit.ErrNoFrame) {
			s.t.Fatalf("%s: next: %v", where, err)
		}
		if err == nil && !wholeFrame(f.Payload) {
			s.t.Fatalf("%s: torn frame %v: %x", where, f.ID, f.Payload)
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: the cursor stays at %d, head %d", where, s.cursor.Position(), s.ring.Head())
		}
	}
	s.drain(where)
}

// waitStopped waits until a process is stopped, or has ended.
func waitStopped(t *testing.T, pid int) bool {
	t.Helper()
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		_, after, _ := strings.Cut(string(stat), ") ")
		switch after[0] {
		case 'T':
			return true
		case 'Z', 'X':
			return false
		}
		time.Sleep(200 * time.Microsecond)
	}
}
