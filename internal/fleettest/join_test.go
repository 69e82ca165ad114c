//go:build linux

package fleettest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// Many processes come and go at once.

func init() {
	proc.Helper("joiner", joiner)
	proc.Helper("member", member)
	proc.Helper("churn", churn)
}

// crowd is the geometry of the ring that the joiners fight over. It takes a
// while to make, so that many are at it at once.
var crowd = orbit.Geometry{Capacity: 1024, PayloadLimit: 200}

const kindCrowd = 40

// joiner joins the fleet of each line it reads, publishes, and leaves at the
// next line.
func joiner(args []string) error {
	read := proc.WatchParent()
	fmt.Println("ready")
	for name := read(); name != ""; name = read() {
		f, err := orbit.Join(name, orbit.Options{Size: 64, Rings: map[uint8]orbit.Geometry{kindCrowd: crowd}})
		if err != nil {
			return err
		}
		r, err := f.Ring(kindCrowd)
		if err != nil {
			return err
		}
		p, version := payload(nil, uint64(f.Node()), 100)
		id, err := r.Publish(1, version, p)
		if err != nil {
			return err
		}
		fmt.Println("in", uint64(id))
		read()
		if err := f.Close(); err != nil {
			return err
		}
		fmt.Println("out")
	}
	return nil
}

func TestManyProcessesCreateAndJoinAtOnce(t *testing.T) {
	const size = 64
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	rng := rand.New(rand.NewPCG(1, 2))
	crew := make([]*proc.Process, size)
	for i := range crew {
		crew[i] = proc.Start(t, "joiner")
	}
	for round := range rounds {
		name := proc.Fleet(t)
		for _, p := range crew {
			if got := p.Line(); got != "ready" && got != "out" {
				t.Fatalf("round %d: got %q from a helper, want ready", round, got)
			}
		}
		watch := watchSegments(t, name)
		for _, p := range crew {
			p.Say(name)
		}
		killed := map[int]bool{}
		for range 8 + rng.IntN(8) {
			time.Sleep(time.Duration(rng.IntN(2000)) * time.Microsecond)
			i := rng.IntN(size)
			crew[i].Kill()
			killed[i] = true
		}
		nodes := map[uint16]int{}
		ids := map[orbit.NetID64]bool{}
		for i, p := range crew {
			if killed[i] {
				continue
			}
			raw, err := strconv.ParseUint(strings.TrimPrefix(p.Line(), "in "), 10, 64)
			if err != nil {
				t.Fatalf("round %d, process %d: %v", round, i, err)
			}
			id := orbit.NetID64(raw)
			if other, taken := nodes[id.Node()]; taken {
				t.Errorf("round %d: processes %d and %d both are node %d", round, other, i, id.Node())
			}
			nodes[id.Node()] = i
			ids[id] = true
		}
		checkCrowd(t, name, ids)
		watch()
		for i := range killed {
			crew[i].Died(syscall.SIGKILL)
			crew[i] = proc.Start(t, "joiner")
		}
		for i, p := range crew {
			if !killed[i] {
				p.Say("leave")
			}
		}
		if round == rounds-1 {
			for i, p := range crew {
				if !killed[i] {
					p.Line()
				}
			}
			proc.RemoveFleet(t, name)
		}
	}
}

// checkCrowd looks at a fleet in which every live member has published once.
func checkCrowd(t *testing.T, name string, ids map[orbit.NetID64]bool) {
	t.Helper()
	f, err := orbit.Observe(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := f.Ring(kindCrowd)
	if err != nil {
		t.Fatal(err)
	}
	if g := r.Geometry(); g != crowd {
		t.Errorf("the ring has %v, want %v", g, crowd)
	}
	c := audit(r, r.At(0))
	for id := range ids {
		if f, err := r.Read(id, nil); err != nil || verify(f) != nil {
			t.Errorf("frame %v of a live member: %v, %v", id, err, verify(f))
		}
	}
	// Who was killed may have taken a counter and marked no slot: an observer waits
	// there for a moment.
	proc.Eventually(t, "an observer comes to the head", func() bool {
		if err := c.drain(nil); err != nil {
			t.Fatal(err)
		}
		return c.Position() == r.Head()
	})
	if got := c.Tally(); got.Delivered < uint64(len(ids)) || got.Overwritten > 0 {
		t.Errorf("a new cursor got %+v, want at least %d frames", got, len(ids))
	}
	members, err := f.Members()
	if err != nil {
		t.Fatal(err)
	}
	live := map[uint16]bool{}
	for _, m := range members {
		live[m.Node] = true
	}
	for id := range ids {
		if !live[id.Node()] {
			t.Errorf("node %d has joined and is not among the %d members", id.Node(), len(members))
		}
	}
}

// watchSegments looks at everything that appears under a fleet's name, until
// the returned function is called: nothing must ever be seen half made.
func watchSegments(t *testing.T, name string) (stop func()) {
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Add(1)
	looks := 0
	go func() {
		defer wg.Done()
		// Once more after the end, when the fleet is still there.
		for last := false; !last; {
			last = done.Load()
			for _, path := range proc.Segments(name) {
				if err := wholeSegment(path); err != nil {
					t.Errorf("seen under way: %v", err)
					return
				}
				looks++
			}
		}
	}()
	return func() {
		done.Store(true)
		wg.Wait()
		if looks == 0 {
			t.Error("nobody saw a segment")
		}
	}
}

// wholeSegment tells what is wrong with a segment that a live fleet uses.
func wholeSegment(path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	m, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b := image(m)
	switch {
	case st.Mode() != 0o600:
		return fmt.Errorf("%s: mode %v", path, st.Mode())
	case len(b) < pageSize || string(b[:8]) != "ORBITSHM":
		return fmt.Errorf("%s: %d bytes without a header", path, len(b))
	case b.word(offSize) != uint64(len(b)):
		return fmt.Errorf("%s: %d bytes, its header says %d", path, len(b), b.word(offSize))
	case b.word(offChecksum) != append(image(nil), b...).seal().word(offChecksum):
		return fmt.Errorf("%s: its checksum is wrong", path)
	}
	for i := range b.capacity() {
		// Zero is the state of a slot that nobody wrote yet, and of no other.
		st := b.word(b.slot(uint64(i)))
		if c := st >> 24; c%uint64(b.capacity()) != uint64(i) || st == 0 && b.word(offHead) == 0 {
			return fmt.Errorf("%s: slot %d names counter %d", path, i, c)
		}
	}
	return nil
}

// churn joins and leaves a fleet that others remove whenever nobody is in it.
func churn(args []string) error {
	read := proc.WatchParent()
	fmt.Println("ready")
	var stop atomic.Bool
	go func() { read(); stop.Store(true) }()
	n := 0
	for ; !stop.Load(); n++ {
		f, err := orbit.Join(args[0], one(kindCrowd, 8, 64))
		if errors.Is(err, orbit.ErrFull) {
			continue // who removes the fleet has all seats, and lost the processor for a second
		}
		if err != nil {
			return fmt.Errorf("Join: %w", err)
		}
		r, err := f.Ring(kindCrowd)
		if err != nil {
			return fmt.Errorf("Ring: %w", err)
		}
		p, version := payload(nil, uint64(n), n%64)
		id, err := r.Publish(1, version, p)
		if err != nil {
			return fmt.Errorf("Publish: %w", err)
		}
		if frame, err := r.Newest(nil); err != nil || verify(frame) != nil {
			return fmt.Errorf("Newest after %v: %w, %w", id, err, verify(frame))
		}
		f.Close()
	}
	fmt.Println("rounds", n)
	return nil
}

// TestFleetIsRemovedUnderTheFeetOfJoiners has processes join and leave a fleet
// while others remove it: nobody must end in rings without a name.
func TestFleetIsRemovedUnderTheFeetOfJoiners(t *testing.T) {
	name := proc.Fleet(t)
	crew := make([]*proc.Process, 4)
	for i := range crew {
		crew[i] = proc.Start(t, "churn", name)
		crew[i].Line()
	}
	outcomes := map[string]int{}
	// On a slow machine it takes longer until a moment without members is met.
	goOn := proc.Chance(long(2*time.Second), 30*time.Second, func() bool { return outcomes["removed"] > 0 })
	for goOn() {
		switch err := orbit.Remove(name); {
		case err == nil:
			outcomes["removed"]++
		case errors.Is(err, orbit.ErrInUse):
			outcomes["in use"]++
		case errors.Is(err, orbit.ErrNotExist):
			outcomes["did not exist"]++
		default:
			t.Fatalf("Remove: %v", err)
		}
		time.Sleep(100 * time.Microsecond)
	}
	for _, p := range crew {
		p.Say("stop")
		t.Log(p.Line())
		p.Finish()
	}
	t.Logf("Remove: %v", outcomes)
	if outcomes["removed"] == 0 {
		t.Error("the fleet was never removed: the test shows nothing")
	}
	if err := orbit.Remove(name); err != nil && !errors.Is(err, orbit.ErrNotExist) {
		t.Error(err)
	}
	if left := proc.Segments(name); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// member joins a fleet, with a node id if there is a second argument, says
// which it got, and answers questions until its input ends.
func member(args []string) error {
	read := proc.WatchParent()
	opts := one(kindCrowd, 64, 64)
	if len(args) > 1 {
		n, err := strconv.ParseUint(args[1], 10, 16)
		if err != nil {
			return err
		}
		opts.Node = uint16(n)
	}
	f, err := orbit.Join(args[0], opts)
	if err != nil {
		fmt.Println("error", err)
		return nil
	}
	r, err := f.Ring(kindCrowd)
	if err != nil {
		return err
	}
	fmt.Println("node", f.Node())
	for q := read(); q != ""; q = read() {
		switch q {
		case "members":
			m, err := f.Members()
			if err != nil {
				return err
			}
			text := ""
			for _, m := range m {
				text += fmt.Sprint(" ", m.Node)
			}
			fmt.Println("members" + text)
		case "publish":
			p, version := payload(nil, 5, 50)
			id, err := r.Publish(1, version, p)
			if err != nil {
				return err
			}
			fmt.Println("published", id)
		case "newest":
			frame, err := r.Newest(nil)
			if err == nil {
				err = verify(frame)
			}
			if err != nil {
				return err
			}
			fmt.Println("newest", frame.ID)
		case "close":
			fmt.Println("closed", f.Close())
			return nil
		}
	}
	return nil
}

func TestGivenNodeIDIsHeldUntilItsHolderDies(t *testing.T) {
	name := proc.Fleet(t)
	f := join(t, name, orbit.Options{Size: 2, Node: 3})
	if f.Node() != 3 {
		t.Fatalf("got node %d, want the given 3", f.Node())
	}
	p := proc.Start(t, "member", name, "500")
	if got := p.Line(); got != "node 500" {
		t.Fatalf("got %q, want node 500", got)
	}
	_, err := orbit.Join(name, orbit.Options{Size: 2, Node: 500})
	proc.MustBe(t, "Join with a live member's node id", err, orbit.ErrNode, name, "500", strconv.Itoa(p.Process.Pid))
	q := proc.Start(t, "member", name, "3")
	if got := q.Line(); !strings.HasPrefix(got, "error ") || !strings.Contains(got, "node 3 is taken") || !strings.Contains(got, strconv.Itoa(os.Getpid())) {
		t.Errorf("another process with our node id: got %q, want an error that names node 3 and our process", got)
	}
	q.Finish()

	p.Stop() // a stopped holder lives
	stopped(t, p.Process.Pid)
	_, err = orbit.Join(name, orbit.Options{Size: 2, Node: 500})
	proc.MustBe(t, "Join with a stopped member's node id", err, orbit.ErrNode)
	p.Kill()
	p.Died(syscall.SIGKILL)
	proc.Eventually(t, "node 500 is free again", func() bool {
		g, err := orbit.Join(name, orbit.Options{Size: 2, Node: 500})
		if err != nil {
			proc.MustBe(t, "Join with a dead member's node id", err, orbit.ErrNode)
			return false
		}
		defer g.Close()
		return g.Node() == 500
	})
	g := join(t, name, orbit.Options{Size: 2, Node: 500}) // and so it is after Close
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	f.Close()
	proc.RemoveFleet(t, name)
}

// TestReplacementTakesOverTheIDOfTheDead as long as no more live than the fleet is
// expected to have: then what is expected of ids 1 to Size stays true.
func TestReplacementTakesOverTheIDOfTheDead(t *testing.T) {
	name := proc.Fleet(t)
	members := map[string]*proc.Process{}
	start := func() (node string) {
		p := proc.Start(t, "member", name, "0")
		node = p.Line()
		if members[node] != nil {
			t.Fatalf("%s was given out twice", node)
		}
		members[node] = p
		return node
	}
	join(t, name, orbit.Options{Size: 4}) // node 1, and the helpers expect as many
	for range 3 {
		start()
	}
	for _, node := range []string{"node 2", "node 4", "node 3", "node 3", "node 2"} {
		members[node].Kill()
		members[node].Died(syscall.SIGKILL)
		delete(members, node)
		if got := start(); got != node {
			t.Errorf("who came for the dead %s is %s", node, got)
		}
	}
	if got := start(); got != "node 5" {
		t.Errorf("one more than are expected is %s, want node 5", got)
	}
}

// TestChosenNodeIDsAvoidGivenOnes lets members take the ids that others would
// have been assigned.
func TestChosenNodeIDsAvoidGivenOnes(t *testing.T) {
	name := proc.Fleet(t)
	nodes := map[uint16]bool{}
	for i := range 12 {
		opts := orbit.Options{Size: 12}
		if i%3 == 0 {
			opts.Node = uint16(i + 2)
		}
		f := join(t, name, opts)
		if nodes[f.Node()] {
			t.Fatalf("node %d was given out twice", f.Node())
		}
		nodes[f.Node()] = true
	}
}

// TestMembersSeeEachOtherAcrossPIDNamespaces: process ids mean nothing there,
// and one namespace's member 1 is another's member 1.
func TestMembersSeeEachOtherAcrossPIDNamespaces(t *testing.T) {
	name := proc.Fleet(t)
	f := join(t, name, one(kindCrowd, 64, 64))
	p, first := launched(t, "pid", "member", name)
	q, second := launched(t, "pid", "member", name)
	if first != "node 2" || second != "node 3" {
		t.Fatalf("got %q and %q, want nodes 2 and 3", first, second)
	}
	members, err := f.Members()
	if err != nil || len(members) != 3 || members[1].PID != 1 || members[2].PID != 1 {
		t.Fatalf("Members = %+v, %v; want three, two of them process 1 of their namespaces", members, err)
	}
	for _, m := range []*proc.Process{p, q} {
		m.Say("members")
		if got := m.Line(); got != "members 1 2 3" {
			t.Errorf("got %q in a namespace, want members 1 2 3", got)
		}
	}
	p.Say("publish")
	id := strings.TrimPrefix(p.Line(), "published ")
	q.Say("newest")
	if got := q.Line(); got != "newest "+id {
		t.Errorf("got %q in the other namespace, want newest %s", got, id)
	}
	q.Say("close")
	if got := q.Line(); got != "closed <nil>" {
		t.Errorf("got %q, want closed", got)
	}
	p.Kill() // and its child with it
	proc.Eventually(t, "both are gone", func() bool { m, err := f.Members(); return err == nil && len(m) == 1 })
	f.Close()
	proc.RemoveFleet(t, name)
}
