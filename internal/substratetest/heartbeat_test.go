//go:build linux

package substratetest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

func init() {
	proc.Helper("beater", beater)
	proc.Helper("worker", worker)
	proc.Helper("comer", comer)
}

const fleetSize = 4 // how many members the fleets here expect

func openHeart(name string, node uint16) (*orbit.Fleet, *orbit.Heartbeat, error) {
	f, err := orbit.Join(name, orbit.Options{Size: fleetSize, Node: node})
	if err != nil {
		return nil, nil, err
	}
	h, err := orbit.Heartbeats(f)
	return f, h, err
}

// onlooker is a member that looks at the hearts of the others.
func onlooker(t testing.TB, name string) (*orbit.Fleet, *orbit.Heartbeat) {
	t.Helper()
	f, h, err := openHeart(name, 100)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, h
}

// pulses takes a snapshot, which must agree with itself: nodes in order, each
// once, and each in the state that its age says.
func pulses(t testing.TB, h *orbit.Heartbeat, maxAge time.Duration, expected ...uint16) map[uint16]orbit.Pulse {
	t.Helper()
	all, err := h.Snapshot(maxAge, expected...)
	if err != nil {
		t.Fatal(err)
	}
	byNode := map[uint16]orbit.Pulse{}
	for i, p := range all {
		want := orbit.Fresh
		switch {
		case p.Last == 0:
			want = orbit.Missing
		case p.Age > maxAge:
			want = orbit.Stale
		}
		if p.State != want || p.Age < 0 || i > 0 && all[i-1].Node >= p.Node {
			t.Fatalf("snapshot for %v: %+v", maxAge, all)
		}
		byNode[p.Node] = p
	}
	return byNode
}

func isMember(t testing.TB, f *orbit.Fleet, node uint16, pid int) bool {
	t.Helper()
	members, err := f.Members()
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(members, func(m orbit.Member) bool { return m.Node == node && m.PID == pid })
}

// ---- A quiet one beside chatty ones ----

// beater beats until it is told to end: fleet, node, ledger, and how many times
// it beats at once before it pauses for how long. The ledger has, by node, how
// often it beat, and a moment just before the last beat that it finished.
func beater(args []string) error {
	told := untilTold(proc.WatchParent())
	node, _ := strconv.Atoi(args[1])
	burst, _ := strconv.Atoi(args[3])
	pause, err := time.ParseDuration(args[4])
	if err != nil {
		return err
	}
	l, err := openLedger(args[2])
	if err != nil {
		return err
	}
	f, h, err := openHeart(args[0], uint16(node))
	if err != nil {
		return err
	}
	for !told() {
		for range burst {
			before := orbit.Now()
			if err := h.Beat(); err != nil {
				return err
			}
			l[2*node].Add(1)
			l[2*node+1].Store(uint64(before))
		}
		time.Sleep(pause)
	}
	return f.Close()
}

// TestChattySiblingsHideNobodysBeat has a node that beats once a second beside
// three that beat ten thousand times a second each, for as long as it takes to
// push its last beat out of the ring some times over.
func TestChattySiblingsHideNobodysBeat(t *testing.T) {
	const quiet = 1
	name := proc.Fleet(t)
	_, h := onlooker(t, name)
	l, path := newLedger(t)
	procs := []*proc.Process{proc.Start(t, "beater", name, "1", path, "1", "1s")}
	for node := 2; node <= 4; node++ {
		procs = append(procs, proc.Start(t, "beater", name, strconv.Itoa(node), path, "10", "1ms"))
	}
	eventually(t, "all have beaten", func() bool {
		return l[2].Load() > 0 && l[4].Load() > 0 && l[6].Load() > 0 && l[8].Load() > 0
	})
	seen := map[uint16]orbit.Stamp{}
	laps := uint64(h.Ring().Geometry().Capacity)
	hidden := 0 // how often the ring itself had forgotten the quiet one
	newest := h.Ring().Head()
	deadline := time.Now().Add(30 * time.Second)
	for beats := uint64(0); l[2*quiet].Load() < 3 || hidden < 2; {
		if time.Now().After(deadline) {
			t.Fatalf("after 30 s the quiet one beat %d times, and was out of the ring %d times", l[2*quiet].Load(), hidden)
		}
		if now := l[2*quiet].Load(); now != beats {
			beats, newest = now, h.Ring().Head()
		} else if h.Ring().Head() > newest+laps {
			hidden, newest = hidden+1, h.Ring().Head()
		}
		var told [5]orbit.Stamp
		for node := 1; node <= 4; node++ {
			told[node] = orbit.Stamp(l[2*node+1].Load())
		}
		all := pulses(t, h, patience)
		for node := uint16(1); node <= 4; node++ {
			p := all[node]
			last, err := h.Last(node)
			if p.State != orbit.Fresh || p.Last < told[node] || p.Last < seen[node] || err != nil || last < p.Last {
				t.Fatalf("node %d: snapshot %+v, then last beat %d, %v; it had beaten at %d, and %d was seen", node, p, last, err, told[node], seen[node])
			}
			seen[node] = last
		}
		time.Sleep(time.Millisecond)
	}
	for _, p := range procs {
		p.Say("end")
		p.Finish()
	}
	// The quiet one's last word stands, whatever came after.
	if p := pulses(t, h, patience)[quiet]; p.Last != seen[quiet] && uint64(p.Last) < l[2*quiet+1].Load() {
		t.Errorf("when all were done: %+v, want a beat not before %d", p, l[2*quiet+1].Load())
	}
}

// ---- Stopped, hanging, dead ----

// worker beats from its work loop, every 5 ms, and hangs in it for as long as
// it is told to; what it is told is heard by another goroutine: fleet, node,
// and "silent" if it hangs from the start.
func worker(args []string) error {
	read := proc.WatchParent()
	node, _ := strconv.ParseUint(args[1], 10, 16)
	f, h, err := openHeart(args[0], uint16(node))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	gate := make(chan struct{}, 1)
	if len(args) < 3 {
		gate <- struct{}{}
	}
	go func() {
		for {
			<-gate
			if h.Beat() != nil {
				return
			}
			gate <- struct{}{}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	for {
		switch read() {
		case "hang":
			<-gate
		case "go on":
			gate <- struct{}{}
		case "":
			return f.Close()
		}
		fmt.Println("yes")
	}
}

// TestWhoDoesNotBeatGoesStale has nodes that stop beating for different
// reasons. What members says differs, what the heart says does not.
func TestWhoDoesNotBeatGoesStale(t *testing.T) {
	const maxAge = 200 * time.Millisecond
	for i, c := range []struct {
		name    string
		end     func(t *testing.T, p *proc.Process)
		member  bool
		recover func(p *proc.Process)
	}{
		{"stopped", stopProcess, true, func(p *proc.Process) { p.Continue() }},
		{"hanging", func(t *testing.T, p *proc.Process) { ask(p, "hang") }, true, func(p *proc.Process) { ask(p, "go on") }},
		{"killed", func(t *testing.T, p *proc.Process) { kill(t, p) }, false, nil},
		{"gone", func(t *testing.T, p *proc.Process) { p.Stdin.Close(); p.Finish() }, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := proc.Fleet(t)
			f, h := onlooker(t, name)
			node := uint16(10 + i)
			p := proc.Start(t, "worker", name, strconv.Itoa(int(node)))
			line(p)
			state := func() orbit.PulseState { return pulses(t, h, maxAge, node)[node].State }
			for range 2 {
				eventually(t, "the node beats", func() bool { return state() == orbit.Fresh })
				if !isMember(t, f, node, p.Process.Pid) {
					t.Errorf("node %d, process %d, beats and is no member", node, p.Process.Pid)
				}
				c.end(t, p)
				eventually(t, "the node is stale", func() bool { return state() == orbit.Stale })
				last, err := h.Last(node)
				if err != nil {
					t.Fatal(err)
				}
				if got := isMember(t, f, node, p.Process.Pid); got != c.member {
					t.Errorf("stale and a member: %v, want %v", got, c.member)
				}
				if c.name == "hanging" && ask(p, "well?") != "yes" {
					t.Error("it is not only its work that hangs")
				}
				if again, err := h.Last(node); err != nil || again != last {
					t.Errorf("a beat of a node that does not: %d after %d, %v", again, last, err)
				}
				if p := pulses(t, h, maxAge, 5)[node]; p.State != orbit.Stale || p.Last != last {
					t.Errorf("in a snapshot that expects others: %+v, want stale since %d", p, last)
				}
				if c.recover == nil {
					return
				}
				c.recover(p)
			}
		})
	}
}

func stopProcess(t *testing.T, p *proc.Process) { stop(t, p) }

// TestExpectedAndNeverSeenIsMissing has a node that beats, one that beat and
// died, one that joined and never beat, and some that never were.
func TestExpectedAndNeverSeenIsMissing(t *testing.T) {
	name := proc.Fleet(t)
	f, h := onlooker(t, name) // does not beat, and nobody expects it to
	lively, dead, silent := proc.Start(t, "worker", name, "1"), proc.Start(t, "worker", name, "2"), proc.Start(t, "worker", name, "3", "silent")
	for _, p := range []*proc.Process{lively, dead, silent} {
		line(p)
	}
	eventually(t, "two have beaten", func() bool {
		all := pulses(t, h, patience)
		return all[1].State == orbit.Fresh && all[2].State == orbit.Fresh
	})
	kill(t, dead)
	want := func(what string, got map[uint16]orbit.Pulse, states map[uint16]orbit.PulseState) {
		t.Helper()
		found := map[uint16]orbit.PulseState{}
		for node, p := range got {
			found[node] = p.State
		}
		if !maps.Equal(found, states) {
			t.Errorf("%s: got %v, want %v", what, found, states)
		}
	}
	const fresh, missing = orbit.Fresh, orbit.Missing
	want("by size", pulses(t, h, patience), map[uint16]orbit.PulseState{1: fresh, 2: fresh, 3: missing, 4: missing})
	want("by name", pulses(t, h, patience, 3, 77, 65535), map[uint16]orbit.PulseState{1: fresh, 2: fresh, 3: missing, 77: missing, 65535: missing})
	if !isMember(t, f, 3, silent.Process.Pid) || isMember(t, f, 2, dead.Process.Pid) {
		t.Error("the silent one is no member, or the dead one is")
	}
	ask(silent, "go on")
	eventually(t, "the silent one has beaten", func() bool { return pulses(t, h, patience)[3].State == fresh })
	want("in the end", pulses(t, h, patience), map[uint16]orbit.PulseState{1: fresh, 2: fresh, 3: fresh, 4: missing})
}

// ---- Coming and going ----

const (
	firstNode = 20
	comerIDs  = 3
)

// comer takes one of a few node ids, beats, and leaves, again and again, until
// it is told to end: fleet, ledger. While it has an id nobody else beats under
// it. The ledger has, by node, the newest beat that was finished.
func comer(args []string) error {
	told := untilTold(proc.WatchParent())
	l, err := openLedger(args[1])
	if err != nil {
		return err
	}
	visits := 0
	for !told() {
		node := firstNode + uint16(rand.IntN(comerIDs))
		f, h, err := openHeart(args[0], node)
		if errors.Is(err, orbit.ErrNode) {
			time.Sleep(100 * time.Microsecond)
			continue
		}
		if err != nil {
			return err
		}
		for range 1 + rand.IntN(5) {
			if err := beatAlone(h, node, l); err != nil {
				return err
			}
			time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
		}
		visits++
		if err := f.Close(); err != nil {
			return err
		}
	}
	fmt.Println(visits)
	return nil
}

func beatAlone(h *orbit.Heartbeat, node uint16, l ledger) error {
	before := orbit.Now()
	if err := h.Beat(); err != nil {
		return err
	}
	after := orbit.Now()
	last, err := h.Last(node)
	if err != nil || last < before-orbit.Stamp(clockSkew) || last > after+orbit.Stamp(clockSkew) {
		return fmt.Errorf("node %d beat between %d and %d, last %d, %v", node, before, after, last, err)
	}
	time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond)
	if again, err := h.Last(node); err != nil || again != last {
		return fmt.Errorf("node %d beat at %d, and somebody else at %d, %v", node, last, again, err)
	}
	l[node].Store(uint64(last))
	return nil
}

// TestSnapshotWhileNodesComeAndGo has processes take turns under a few node
// ids, some of them killed, and looks on.
func TestSnapshotWhileNodesComeAndGo(t *testing.T) {
	name := proc.Fleet(t)
	f, h := onlooker(t, name)
	l, path := newLedger(t)
	start := func() *proc.Process { return proc.Start(t, "comer", name, path) }
	procs := []*proc.Process{start(), start(), start(), start(), start()}
	seen := map[uint16]orbit.Stamp{}
	look := func() {
		t.Helper()
		var told [comerIDs]orbit.Stamp
		for i := range told {
			told[i] = orbit.Stamp(l[firstNode+i].Load())
		}
		all := pulses(t, h, patience, firstNode, firstNode+1, firstNode+2, 99)
		if len(all) != comerIDs+1 || all[99].State != orbit.Missing {
			t.Fatalf("got %+v, want the nodes from %d on, and 99 missing", all, firstNode)
		}
		for i := range told {
			node := firstNode + uint16(i)
			if p := all[node]; p.Last < told[i] || p.Last < seen[node] {
				t.Fatalf("node %d: %+v, after a beat at %d was finished and %d was seen", node, p, told[i], seen[node])
			}
			seen[node] = all[node].Last
		}
		members, err := f.Members()
		if err != nil {
			t.Fatal(err)
		}
		here := map[uint16]int{}
		for _, m := range members {
			if here[m.Node]++; here[m.Node] > 1 {
				t.Fatalf("two members have node %d: %+v", m.Node, members)
			}
		}
	}
	for range 25 {
		for end := time.Now().Add(time.Duration(rand.IntN(20)) * time.Millisecond); time.Now().Before(end); {
			look()
			time.Sleep(200 * time.Microsecond)
		}
		i := rand.IntN(len(procs))
		kill(t, procs[i])
		procs[i] = start()
	}
	eventually(t, "every node has beaten", func() bool {
		look()
		return len(seen) == comerIDs && seen[firstNode] > 0 && seen[firstNode+1] > 0 && seen[firstNode+2] > 0
	})
	visits := 0
	for _, p := range procs {
		p.Say("end")
		n, err := strconv.Atoi(line(p))
		if err != nil {
			t.Fatal(err)
		}
		visits += n
		p.Finish()
	}
	look()
	if m, err := f.Members(); err != nil || len(m) != 1 {
		t.Errorf("when all have left: members %+v, %v, want this process", m, err)
	}
	// Who comes next under an id of old shows its predecessor's beat until its
	// own first one.
	before := seen[firstNode]
	successor, mine, err := openHeart(name, firstNode)
	if err != nil {
		t.Fatal(err)
	}
	defer successor.Close()
	if p := pulses(t, h, patience, firstNode)[firstNode]; p.Last != before {
		t.Errorf("before the first beat of a successor: %+v, want the last one at %d", p, before)
	}
	now := orbit.Now()
	if err := mine.Beat(); err != nil {
		t.Fatal(err)
	}
	if p := pulses(t, h, patience, firstNode)[firstNode]; p.Last < now || p.State != orbit.Fresh {
		t.Errorf("after the first beat of a successor: %+v, want one not before %d", p, now)
	}
	t.Logf("%d visits of those that lived", visits)
}
