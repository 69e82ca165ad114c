//go:build linux

package hostile

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// What damage once did, each with the least that shows it.

// TestTruncatedRingGivesCursors: whoever is the first to meet the damage, it
// is no crash.
func TestTruncatedRingGivesCursors(t *testing.T) {
	fleet := proc.Fleet(t)
	f := join(t, fleet, crewOptions())
	r := ring(t, f, kindFrames)
	b, err := orbit.Events(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []int{kindFrames, int(orbit.KindEvents)} {
		openSegment(t, fleet, kind).truncate(0)
	}
	if c := r.Oldest(); c == nil {
		t.Error("Oldest returned nil, want a cursor")
	} else {
		_, _, err := c.Next(nil)
		proc.MustBe(t, "Next", err, orbit.ErrDamaged)
	}
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("SubscribeOldest: %v, want a subscriber", p)
		}
	}()
	var ev orbit.Event
	proc.MustBe(t, "Poll", b.SubscribeOldest().Poll(&ev), orbit.ErrDamaged)
}

// pagedOptions spreads eight slots over pages of their own.
func pagedOptions() orbit.Options {
	g := orbit.Geometry{Capacity: 8, PayloadLimit: page - 64}
	return orbit.Options{Size: 2, Rings: map[uint8]orbit.Geometry{kindFrames: g, orbit.KindEvents: g}}
}

// TestBatchEndsBeforeWhatIsDamaged: an error comes alone, so that whoever looks
// at it first loses no frame, and what a cursor passes is in some gap.
func TestBatchEndsBeforeWhatIsDamaged(t *testing.T) {
	batchEnds(t, func(s *segment) { s.put(s.slot(3)+8, 1<<31) }) // an impossible length
}

func TestBatchEndsBeforeWhatIsTruncated(t *testing.T) {
	batchEnds(t, func(s *segment) { s.truncate(s.slot(3)) })
}

// batchEnds damages the fourth of six frames, of a ring and of a bus.
func batchEnds(t *testing.T, damage func(s *segment)) {
	fleet := proc.Fleet(t)
	f := join(t, fleet, pagedOptions())
	r := ring(t, f, kindFrames)
	b, err := orbit.Events(f)
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		if _, err := r.Publish(1, 0, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Publish("topic", nil); err != nil {
			t.Fatal(err)
		}
	}
	c, sub := r.Oldest(), b.SubscribeOldest()
	damage(openSegment(t, fleet, kindFrames))
	damage(openSegment(t, fleet, int(orbit.KindEvents)))
	for how, poll := range map[string]func() (n int, lag uint64, err error){
		"Cursor.Poll": func() (int, uint64, error) {
			n, gap, err := c.Poll(make([]orbit.Frame, 8))
			return n, gap.Total(), err
		},
		"Subscriber.PollBatch": func() (n int, lag uint64, err error) {
			events := make([]orbit.Event, 8)
			n, err = sub.PollBatch(events)
			for _, ev := range events[:n] {
				lag += ev.Lag.Total()
			}
			return n, lag, err
		},
	} {
		n, lag, err := poll()
		if n != 3 || lag != 0 || err != nil {
			t.Errorf("%s: got %d, lag %d, error %v; want the 3 before the damage", how, n, lag, err)
		}
		n, _, err = poll()
		if n != 0 {
			t.Errorf("%s once more: got %d, error %v; want the error alone", how, n, err)
		}
		proc.MustBe(t, how, err, orbit.ErrDamaged)
	}
}

func TestTruncatedBusIsNoOtherIncarnation(t *testing.T) {
	fleet := proc.Fleet(t)
	b, err := orbit.Events(join(t, fleet, crewOptions()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Publish("topic", nil); err != nil {
		t.Fatal(err)
	}
	place := b.SubscribeNow().Position()
	openSegment(t, fleet, int(orbit.KindEvents)).truncate(0)
	_, err = b.SubscribeAt(place)
	proc.MustBe(t, "SubscribeAt", err, orbit.ErrDamaged)
}

// TestLoadNodeSaysWhyItFails: no value of the node is not the same as no ring.
func TestLoadNodeSaysWhyItFails(t *testing.T) {
	fleet := proc.Fleet(t)
	f := join(t, fleet, crewOptions())
	o, err := orbit.Bind[value](f)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	_, _, err = o.LoadNode(1)
	proc.MustBe(t, "LoadNode after Close", err, orbit.ErrClosed)
}

// TestContextEndsThoughItsDeedIsDamaged: a guard ends with its TTL, whatever
// became of the table, and whoever waits for its context is told.
func TestContextEndsThoughItsDeedIsDamaged(t *testing.T) {
	fleet := proc.Fleet(t)
	c := contest(t, join(t, fleet, crewOptions()))
	g, err := orbit.Claim[task](c, "x", "", 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	ctx := g.Context()
	// Every record is free, says the damage, and the next claim gets the same.
	s := openSegment(t, fleet, int(orbit.KindContest))
	deeds := s.table + 8*(16+2*c.Capacity())
	s.write(deeds, make([]byte, 8*c.Capacity()))
	orbit.Claim[task](c, "y", "", time.Hour) // it may be refused, as its own record is in its way
	select {
	case <-ctx.Done():
	case <-time.After(patience):
		t.Errorf("the context has not ended %v after a TTL of 50 ms; the guard is valid: %v", patience, g.Valid())
	}
}

// TestWaitForAClaimantThatWasStopped: a claim that is only being made is in the
// way of others, and who waits for it to end must sleep.
func TestWaitForAClaimantThatWasStopped(t *testing.T) {
	fleet := proc.Fleet(t)
	c, other := contest(t, join(t, fleet, crewOptions())), contest(t, join(t, fleet, crewOptions()))
	const ttl = 400 * time.Millisecond
	start := time.Now()
	if _, err := orbit.Claim[task](c, "x", "stopped", ttl); err != nil {
		t.Fatal(err)
	}
	// As it is when the claimant is stopped before it looked round once more.
	s := openSegment(t, fleet, int(orbit.KindContest))
	for i := range 2 * c.Capacity() {
		if at := s.table + 8*(16+i); s.word(at) != 0 {
			s.put(at, s.word(at)&^3|1)
		}
	}
	if _, held, err := orbit.HolderOf[task](other, "x"); held || err != nil {
		t.Errorf("held %v, error %v; want nobody to hold it", held, err)
	}
	for tries := 1; ; tries++ {
		g, err := orbit.Claim[task](other, "x", "next", time.Hour)
		if err == nil {
			if took := time.Since(start); tries > 3 || took < ttl/2 || !g.Valid() {
				t.Errorf("claimed at try %d after %v; want few tries, and the TTL of %v waited for", tries, took, ttl)
			}
			return
		}
		proc.MustBe(t, "Claim", err, orbit.ErrHeld, "stopped")
		if tries > 100 {
			t.Fatalf("WaitFree returned %d times in %v, and the subject cannot be claimed", tries, time.Since(start))
		}
		if err := orbit.WaitFree[task](t.Context(), other, "x"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKeepOutlastsABusyRing: a stopped sibling that holds the only slot of the
// ring keeps no beat out of its node's place.
func TestKeepOutlastsABusyRing(t *testing.T) {
	fleet := proc.Fleet(t)
	opts := orbit.Options{Size: 2, Rings: map[uint8]orbit.Geometry{orbit.KindHeartbeat: {Capacity: 1}}}
	f, stopped := join(t, fleet, opts), join(t, fleet, opts)
	h, err := orbit.Heartbeats(f)
	if err != nil {
		t.Fatal(err)
	}
	roster, s := openSegment(t, fleet, 0), openSegment(t, fleet, int(orbit.KindHeartbeat))
	seat := uint64(stopped.Node() - 1)
	owner := seat<<12 | roster.word(roster.seat(int(seat)))>>1&0xfff
	s.put(offHead, 1)
	s.put(s.slot(0), 0<<24|owner<<2|2) // it is writing frame 0
	proc.MustBe(t, "Beat", h.Beat(), orbit.ErrBusy)
	before, _ := h.Last(f.Node())
	ctx, cancel := context.WithCancel(t.Context())
	kept := make(chan error, 1)
	go func() { kept <- h.Keep(ctx, 10*time.Millisecond) }()
	for range 2 {
		proc.Eventually(t, "a node beats on", func() bool {
			last, err := h.Last(f.Node())
			if err != nil || last == before {
				return false
			}
			before = last
			return true
		})
	}
	cancel()
	if err := <-kept; err != context.Canceled {
		t.Errorf("Keep = %v, want the context's error", err)
	}
}

const (
	kindHuge = 63
	hugeSize = 32 << 20
)

func hugeOptions() orbit.Options {
	return orbit.Options{Size: 2, Rings: map[uint8]orbit.Geometry{kindHuge: {Capacity: 2, PayloadLimit: hugeSize}}}
}

func init() { roles["huge"] = huge }

// huge publishes a frame that takes long to copy, or reads one, at each line it
// reads.
func huge(args []string) error {
	read := proc.WatchParent()
	f, err := orbit.Join(args[0], hugeOptions())
	if err != nil {
		return err
	}
	r, err := f.Ring(kindHuge)
	if err != nil {
		return err
	}
	p := bytes.Repeat([]byte{1}, hugeSize)
	fmt.Println("node", f.Node())
	for line := read(); line != ""; line = read() {
		switch line {
		case "publish":
			if _, err := r.Publish(1, 0, p); err != nil {
				return err
			}
			fmt.Println("published")
		case "read":
			f, err := r.Newest(p[:0:hugeSize])
			fmt.Println(nameOf(err), bytes.Count(f.Payload, []byte{1}), bytes.Count(f.Payload, []byte{2}))
		}
	}
	return nil
}

// TestFrameIsWholeThoughASeatIsDamaged: a member whose seat was overwritten
// lives, as its lock says, and nobody may write into a slot that it is writing.
func TestFrameIsWholeThoughASeatIsDamaged(t *testing.T) {
	fleet := proc.Fleet(t)
	f := join(t, fleet, hugeOptions())
	r := ring(t, f, kindHuge)
	p := start(t, "huge", fleet)
	hear(t, p, "node 2")
	for caught := false; !caught; {
		p.Say("publish")
		time.Sleep(time.Duration(r.Head()*997%4000) * time.Microsecond)
		p.Stop()
		waitStopped(t, p.Process.Pid)
		s, err := r.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if caught = s.Pending > 0; !caught {
			p.Continue()
			hear(t, p, "published")
		}
	}
	roster := openSegment(t, fleet, 0)
	roster.put(roster.seat(1), 0)
	var ids []orbit.NetID64
	mine := bytes.Repeat([]byte{2}, hugeSize)
	for range 2 {
		id, err := r.Publish(1, 0, mine)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	p.Continue()
	hear(t, p, "published") // it wrote into its slot to the end, and then into another
	for _, id := range ids {
		if f, err := r.Read(id, nil); err == nil && !bytes.Equal(f.Payload, mine) {
			t.Errorf("frame %v is torn: %d of its %d bytes are the other writer's", id, bytes.Count(f.Payload, []byte{1}), hugeSize)
		}
	}
}

// waitStopped waits until every thread of a process has stopped.
func waitStopped(t *testing.T, pid int) {
	t.Helper()
	proc.Eventually(t, "a process is stopped", func() bool { return proc.Stopped(pid) })
}

// TestBeatOfTheFutureIsOvercome: a cell damaged once, or set by a member in
// another time namespace, must not make a node look alive for ever.
func TestBeatOfTheFutureIsOvercome(t *testing.T) {
	fleet := proc.Fleet(t)
	f := join(t, fleet, crewOptions())
	h, err := orbit.Heartbeats(f)
	if err != nil {
		t.Fatal(err)
	}
	s := openSegment(t, fleet, int(orbit.KindHeartbeat))
	s.put(s.table+8*int(f.Node()), uint64(orbit.Now())+uint64(time.Hour))
	if err := h.Beat(); err != nil {
		t.Fatal(err)
	}
	all, err := h.SnapshotAt(orbit.Now()+orbit.Stamp(30*time.Minute), time.Second, f.Node())
	if err != nil || len(all) != 1 || all[0].State != orbit.Stale {
		t.Errorf("half an hour after its only beat a node is %+v, %v; want it stale", all, err)
	}
}

// TestSecondNameOfARosterIsForeign: where a user may link files of others, as
// kernels allow by default, somebody else can give one fleet's roster the name
// of another's. One segment has one name.
func TestSecondNameOfARosterIsForeign(t *testing.T) {
	one, two := proc.Fleet(t), proc.Fleet(t)
	f := join(t, one, crewOptions())
	if err := os.Link(proc.Segment(one, 0), proc.Segment(two, 0)); err != nil {
		t.Fatal(err)
	}
	g, err := orbit.Join(two, crewOptions())
	if err == nil {
		t.Errorf("Join of %q: node %d, beside %d members of %q; want an error", two, g.Node(), members(t, f), one)
		g.Close()
		return
	}
	proc.MustBe(t, "Join under a second name", err, orbit.ErrForeign, two)
}

// shortContest truncates a contest so that the last records are gone, and has
// this process find out. It returns a guard from before, and the contest.
func shortContest(t *testing.T) (*orbit.Guard, *orbit.Contest) {
	t.Helper()
	fleet := proc.Fleet(t)
	c := contest(t, join(t, fleet, crewOptions()))
	g, err := orbit.Claim[task](c, "early", "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	s := openSegment(t, fleet, int(orbit.KindContest))
	s.truncate(s.size - page)
	for i := 0; err == nil; i++ {
		_, err = orbit.Claim[task](c, strconv.Itoa(i), "", time.Hour)
	}
	proc.MustBe(t, "Claim once the records that are left are taken", err, orbit.ErrDamaged)
	return g, c
}

func TestTruncatedContestGrantsNothing(t *testing.T) {
	g, c := shortContest(t)
	g.Release() // it gives back a record that is still there
	h, err := orbit.Claim[task](c, "late", "", time.Hour)
	proc.MustBe(t, "Claim", err, orbit.ErrDamaged)
	if err == nil {
		t.Logf("the guard is valid: %v", h.Valid())
	}
}

func TestTruncatedContestEndsContexts(t *testing.T) {
	g, _ := shortContest(t)
	select {
	case <-g.Context().Done():
	case <-time.After(patience):
		t.Errorf("%v after the damage was found the context has not ended; the guard is valid: %v", patience, g.Valid())
	}
}
