//go:build linux

package fleettest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// A writer is stopped in the middle of a frame, others lap it, it resumes.

func init() { proc.Helper("bigWriter", bigWriter) }

const (
	kindBig = 50
	bigSize = 1 << 20
)

// bigFrame makes a payload that takes long to copy, and fast to verify: one
// word, again and again.
func bigFrame(word uint64) []byte {
	p := make([]byte, bigSize)
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], word)
	}
	return p
}

func verifyBig(f orbit.Frame) error {
	if len(f.Payload) != bigSize {
		return fmt.Errorf("frame %v: %d bytes, want %d", f.ID, len(f.Payload), bigSize)
	}
	for i := 0; i < len(f.Payload); i += 8 {
		if got := binary.LittleEndian.Uint64(f.Payload[i:]); got != f.Version {
			return fmt.Errorf("frame %v is torn at byte %d: %#x, want %#x", f.ID, i, got, f.Version)
		}
	}
	return nil
}

// bigWriter publishes big frames without a pause until it reads a line.
func bigWriter(args []string) error {
	read := proc.WatchParent()
	capacity, _ := strconv.Atoi(args[1])
	f, err := orbit.Join(args[0], one(kindBig, capacity, bigSize))
	if err != nil {
		return err
	}
	r, err := f.Ring(kindBig)
	if err != nil {
		return err
	}
	var frames [4]orbit.Frame
	for i := range frames {
		frames[i].Version = uint64(f.Node())<<32 | uint64(i)
		frames[i].Payload = bigFrame(frames[i].Version)
	}
	fmt.Println("node", f.Node())
	stop := make(chan string, 1)
	go func() { stop <- read() }()
	for i := 0; ; i++ {
		select {
		case <-stop:
			fmt.Println("published", i)
			return f.Close()
		default:
		}
		frame := frames[i%len(frames)]
		if _, err := r.Publish(2, frame.Version, frame.Payload); err != nil && !errors.Is(err, orbit.ErrBusy) {
			return err
		}
	}
}

// besideWriter joins a new fleet in which a process writes large frames.
func besideWriter(t *testing.T, capacity int) (name string, f *orbit.Fleet, r *orbit.Ring, p *proc.Process) {
	t.Helper()
	name = proc.Fleet(t)
	f = join(t, name, one(kindBig, capacity, bigSize))
	r = ring(t, f, kindBig)
	p = proc.Start(t, "bigWriter", name, strconv.Itoa(capacity))
	p.Line()
	return name, f, r, p
}

// catch stops the only writer of a ring in the middle of a frame, as can be
// seen from the outside, and returns the frame's counter.
func catch(t *testing.T, p *proc.Process, r *orbit.Ring) uint64 {
	t.Helper()
	for range 1000 {
		p.Stop()
		stopped(t, p.Process.Pid)
		s, err := r.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if s.Pending > 0 {
			// It may have taken a counter and not begun with it: that one is a
			// hole when it is looked at.
			for c := s.Head - 1; int64(c-s.Oldest) >= 0; c-- {
				if _, err := r.ReadAt(c, nil); err == orbit.ErrPending {
					return c
				}
			}
		}
		p.Continue()
		time.Sleep(time.Duration(200+37*s.Head%1000) * time.Microsecond)
	}
	t.Fatal("the writer was never caught in the middle of a frame")
	return 0
}

// publishBig publishes n frames that only this process makes, and checks after
// each that it is the newest.
func publishBig(t *testing.T, r *orbit.Ring, n int) (ids []orbit.NetID64) {
	t.Helper()
	buf := make([]byte, 0, bigSize)
	for i := range n {
		word := 0xabcd<<32 | uint64(i)
		id, err := r.Publish(2, word, bigFrame(word))
		if err != nil {
			t.Fatalf("Publish beside a stopped writer: %v", err)
		}
		got, err := r.Newest(buf)
		if err == nil {
			err = verifyBig(got)
		}
		if err != nil || got.ID != id || got.Version != word {
			t.Fatalf("Newest = %v, version %#x, %v; want the frame just published, %v, version %#x", got.ID, got.Version, err, id, word)
		}
		ids = append(ids, id)
	}
	return ids
}

func TestStoppedWriterIsLappedAndResumes(t *testing.T) {
	for _, capacity := range []int{2, 4, 8} {
		t.Run(strconv.Itoa(capacity), func(t *testing.T) {
			name, f, r, p := besideWriter(t, capacity)
			for range 5 {
				c := catch(t, p, r)
				late := r.At(c)
				late.Grace = 50 * time.Millisecond
				passStoppedWriter(t, r, late)

				ids := publishBig(t, r, 5*capacity)
				if s, err := r.Stats(); err != nil || s.Pending != 0 || s.Frames < capacity-1 || s.Lost != 0 {
					t.Errorf("lapped: stats %+v, %v; want %d frames, none pending or lost", s, err, capacity-1)
				}
				if _, err := r.ReadAt(c, nil); err != orbit.ErrOverwritten {
					t.Errorf("the lapped frame: %v, want %v", err, orbit.ErrOverwritten)
				}
				p.Continue()
				watchResumed(t, r, ids)
			}
			p.Say("stop")
			t.Log(p.Line())
			p.Finish()
			publishBig(t, r, 2*capacity)
			if s, err := r.Stats(); err != nil || s.Frames != capacity {
				t.Errorf("at the end: stats %+v, %v; want %d frames", s, err, capacity)
			}
			f.Close()
			proc.RemoveFleet(t, name)
		})
	}
}

// passStoppedWriter has a cursor that stands at the frame of a stopped writer
// go on after its grace, with the loss reported.
func passStoppedWriter(t *testing.T, r *orbit.Ring, c *orbit.Cursor) {
	t.Helper()
	if _, gap, err := c.Next(nil); err != orbit.ErrPending || gap.Total() != 0 {
		t.Fatalf("at a frame being written: %+v, %v; want %v", gap, err, orbit.ErrPending)
	}
	id := publishBig(t, r, 1)[0]
	if err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, gap, err := c.Next(nil)
	if err == nil {
		err = verifyBig(f)
	}
	if err != nil || f.ID != id || gap != (orbit.Gap{Lost: 1}) {
		t.Fatalf("after the grace: frame %v, gap %+v, %v; want %v after the loss of one", f.ID, gap, err, id)
	}
}

// watchResumed reads all that a resumed writer's ring holds until it has moved
// on by some laps: every frame is whole, and those that others published while
// it slept stay themselves until newer ones take their places.
func watchResumed(t *testing.T, r *orbit.Ring, ids []orbit.NetID64) {
	t.Helper()
	end := r.Head() + uint64(4*r.Geometry().Capacity)
	buf := make([]byte, 0, bigSize)
	newest := uint64(0)
	for deadline := time.Now().Add(20 * time.Second); r.Head() < end; {
		if time.Now().After(deadline) {
			t.Fatalf("the resumed writer does not move: head %d, want %d", r.Head(), end)
		}
		for i, id := range ids {
			switch f, err := r.Read(id, buf); {
			case err == nil && (f.Version != 0xabcd<<32|uint64(i) || verifyBig(f) != nil):
				t.Fatalf("frame %v became version %#x, %v", id, f.Version, verifyBig(f))
			case err != nil && err != orbit.ErrOverwritten:
				t.Fatalf("frame %v: %v; want it, or %v", id, err, orbit.ErrOverwritten)
			}
		}
		f, err := r.Newest(buf)
		if err == nil {
			err = verifyBig(f)
		}
		if err != nil && !errors.Is(err, orbit.ErrNoFrame) && !errors.Is(err, orbit.ErrBusy) {
			t.Fatal(err)
		}
		if err == nil && f.ID.Counter() < newest {
			t.Fatalf("Newest went back from counter %d to %d", newest, f.ID.Counter())
		}
		newest = max(newest, f.ID.Counter())
	}
}

func TestOneSlotHeldByAStoppedWriter(t *testing.T) {
	name, f, r, p := besideWriter(t, 1)
	for range 3 {
		c := catch(t, p, r)
		sub := r.At(c)
		sub.Grace = 50 * time.Millisecond
		within(t, 20*time.Second, "Publish into the one slot that a stopped writer holds", func() {
			_, err := r.Publish(2, 1, nil)
			proc.MustBe(t, "Publish into a held slot", err, orbit.ErrBusy, name, strconv.Itoa(kindBig))
			n, err := r.PublishBatch(make([]orbit.Frame, 3))
			proc.MustBe(t, "PublishBatch into a held slot", err, orbit.ErrBusy)
			if n != 0 {
				t.Errorf("PublishBatch published %d frames, want none", n)
			}
			if _, err = r.Mint(); err != nil { // it passes the slot by, as its counter carries no frame
				t.Errorf("Mint in a held slot: %v", err)
			}
		})
		_, err := r.Newest(nil)
		proc.MustBe(t, "Newest of a held slot", err, orbit.ErrNoFrame)
		within(t, 20*time.Second, "a cursor at a stopped writer", func() {
			if err := sub.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			_, gap, err := sub.Next(nil)
			proc.MustBe(t, "Next after the grace", err, orbit.ErrNoFrame)
			// Whether the frame is lost or overwritten is a matter of who came
			// by since: whoever fails leaves a counter behind.
			if passed := sub.Position() - c; passed == 0 || gap.Total() != passed || sub.Tally() != (orbit.Tally{Gap: gap}) {
				t.Errorf("after the grace: gap %+v, tally %+v, %d counters passed; want all of them in the gap, and some", gap, sub.Tally(), passed)
			}
		})
		p.Continue()
		within(t, 20*time.Second, "Publish after the writer resumed", func() {
			for {
				_, err := r.Publish(2, 1, nil)
				if err == nil {
					return
				}
				proc.MustBe(t, "Publish after the writer resumed", err, orbit.ErrBusy)
			}
		})
	}
	catch(t, p, r)
	p.Kill()
	p.Died(9)
	proc.Eventually(t, "the kernel has let the dead writer's locks go", func() bool { m, err := f.Members(); return err == nil && len(m) == 1 })
	publishBig(t, r, 3)
	f.Close()
	proc.RemoveFleet(t, name)
}

// TestAllWhoWaitForAWriterHearOfItsDeath, which nobody tells them.
func TestAllWhoWaitForAWriterHearOfItsDeath(t *testing.T) {
	name, f, r, p := besideWriter(t, 8)
	_, awake := threeWait(t, r, catch(t, p, r), time.Hour)
	p.Kill()
	p.Died(9)
	awake("who waits for the frame of a writer that was killed")
	f.Close()
	proc.RemoveFleet(t, name)
}

// TestWriterKilledInMidFrame leaves a frame that nobody will finish.
func TestWriterKilledInMidFrame(t *testing.T) {
	for _, capacity := range []int{1, 2, 8} {
		t.Run(strconv.Itoa(capacity), func(t *testing.T) {
			name := proc.Fleet(t)
			f := join(t, name, one(kindBig, capacity, bigSize))
			r := ring(t, f, kindBig)
			for range 3 {
				p := proc.Start(t, "bigWriter", name, strconv.Itoa(capacity))
				p.Line()
				lost := catch(t, p, r)
				sub := audit(r, r.At(lost))
				sub.Grace = time.Hour // it is the kernel that says it is dead
				p.Kill()
				p.Died(9)
				within(t, 20*time.Second, "a cursor at a dead writer's frame", func() {
					if err := sub.Wait(t.Context()); err != nil {
						t.Error(err)
					}
				})
				if _, gap, err := sub.Next(nil); !errors.Is(err, orbit.ErrNoFrame) || gap != (orbit.Gap{Lost: 1}) {
					t.Errorf("at a dead writer's frame: %+v, %v; want one lost", gap, err)
				}
				if _, err := r.ReadAt(lost, nil); err != orbit.ErrLost {
					t.Errorf("ReadAt(%d) = %v, want %v", lost, err, orbit.ErrLost)
				}
				publishBig(t, r, 2*capacity)
				if s, err := r.Stats(); err != nil || s.Frames != capacity {
					t.Errorf("two laps later: stats %+v, %v; want %d frames and nothing else", s, err, capacity)
				}
			}
			f.Close()
			proc.RemoveFleet(t, name)
		})
	}
}
