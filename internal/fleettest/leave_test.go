//go:build linux

package fleettest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// What members leave behind: nothing.

func init() {
	proc.Helper("parenting", parenting)
	proc.Helper("bystander", bystander)
	proc.Helper("observing", observing)
}

const kindLeft = 130

// parenting joins, starts a child that outlives it, and waits to be killed.
func parenting(args []string) error {
	read := proc.WatchParent()
	f, err := orbit.Join(args[0], one(kindLeft, 8, 64))
	if err != nil {
		return err
	}
	r, err := f.Ring(kindLeft)
	if err != nil {
		return err
	}
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		return err
	}
	if _, err := r.Publish(1, 1, nil); err != nil {
		return err
	}
	fmt.Println(cmd.Process.Pid)
	read()
	return nil
}

// TestChildrenHoldNothing: a child of a member that dies does not keep the
// member's seat, nor its memory.
func TestChildrenHoldNothing(t *testing.T) {
	name := proc.Fleet(t)
	f := join(t, name, one(kindLeft, 8, 64))
	p := proc.Start(t, "parenting", name)
	child, err := strconv.Atoi(p.Line())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(child, syscall.SIGKILL) })
	if m, err := f.Members(); err != nil || len(m) != 2 {
		t.Fatalf("members: %+v, %v; want two", m, err)
	}
	p.Kill()
	p.Died(syscall.SIGKILL)
	proc.Eventually(t, "the parent is gone", func() bool { m, err := f.Members(); return err == nil && len(m) == 1 })
	if err := syscall.Kill(child, 0); err != nil {
		t.Errorf("the child is gone, too: %v; the test shows nothing", err)
	}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", child))
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "/dev/shm") {
			t.Errorf("the child has %s open", to)
		}
	}
	if maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", child)); err != nil || strings.Contains(string(maps), "orbit-") {
		t.Errorf("the child has segments mapped: %v\n%s", err, maps)
	}
	f.Close()
	proc.RemoveFleet(t, name)
}

// footprint is what a process holds of the system's.
type footprint struct{ descriptors, mappings, threads, goroutines int }

func measure() footprint {
	fds, _ := os.ReadDir("/proc/self/fd")
	tasks, _ := os.ReadDir("/proc/self/task")
	maps, _ := os.ReadFile("/proc/self/maps")
	return footprint{len(fds), strings.Count(string(maps), "/orbit-"), len(tasks), runtime.NumGoroutine()}
}

func TestManyRoundsLeaveNothingBehind(t *testing.T) {
	name := proc.Fleet(t)
	keep := join(t, name, orbit.Options{Size: 2}) // the fleet stays the same
	if _, err := orbit.Bind[reading](keep); err != nil {
		t.Fatal(err)
	}
	rounds := 2000
	if testing.Short() {
		rounds = 200
	}
	round := func(i int) {
		f, err := orbit.Join(name, orbit.Options{Size: 2})
		if err != nil {
			t.Fatal(err)
		}
		if i%10 != 9 {
			defer f.Close()
		} // else it is forgotten, and the collector closes it
		o, err := orbit.Bind[reading](f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Store(reading{N: uint64(i)}); err != nil {
			t.Fatal(err)
		}
		if v, _, err := o.Load(); err != nil || v.N != uint64(i) {
			t.Fatalf("round %d: got %+v, %v", i, v, err)
		}
		if i%50 == 0 {
			waitBriefly(t, o.Ring())
		}
	}
	for i := range 50 {
		round(i)
	}
	settle()
	before := measure()
	for i := range rounds {
		round(i)
		if i%200 == 0 {
			settle()
		}
	}
	var after footprint
	for end := time.Now().Add(10 * time.Second); ; {
		settle()
		after = measure()
		if after.descriptors <= before.descriptors && after.mappings <= before.mappings && after.goroutines <= before.goroutines || time.Now().After(end) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if after.descriptors > before.descriptors || after.mappings > before.mappings || after.goroutines > before.goroutines || after.threads > before.threads+4 {
		t.Errorf("after %d rounds: %+v, before them %+v", rounds, after, before)
	}
	if m, err := keep.Members(); err != nil || len(m) != 1 {
		t.Errorf("members: %+v, %v; want one", m, err)
	}
	checkSeats(t, name, 1)
	keep.Close()
	proc.RemoveFleet(t, name)
}

// waitBriefly has a goroutine sleep for the ring in the kernel.
func waitBriefly(t *testing.T, r *orbit.Ring) {
	t.Helper()
	c := r.Tail()
	done := make(chan error, 1)
	go func() { done <- c.Wait(t.Context()) }()
	proc.Eventually(t, "somebody waits", func() bool { s, err := r.Stats(); return err == nil && s.Waiting })
	if _, err := r.Mint(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// bystander reads all of a ring that others write and close, until it is told
// to stop.
func bystander(args []string) error {
	read := proc.WatchParent()
	f, err := orbit.Join(args[0], one(kindLeft, 32, 2000))
	if err != nil {
		return err
	}
	r, err := f.Ring(kindLeft)
	if err != nil {
		return err
	}
	stop := make(chan bool)
	go func() { read(); close(stop) }()
	c := audit(r, r.Tail())
	fmt.Println("reading")
	for {
		select {
		case <-stop:
			// A claim that came too late left a counter that is soon a hole.
			for deadline := time.Now().Add(20 * time.Second); c.Position() != r.Head(); time.Sleep(time.Millisecond) {
				if err := c.drain(nil); err != nil || time.Now().After(deadline) {
					return fmt.Errorf("at %d, the head is %d: %v", c.Position(), r.Head(), err)
				}
			}
			s, err := r.Stats()
			if err != nil || s.Pending+s.Lost > 0 {
				return fmt.Errorf("stats at the end: %+v, %v", s, err)
			}
			fmt.Printf("delivered %t\n", c.Tally().Delivered > 0)
			return f.Close()
		default:
		}
		if err := c.drain(nil); err != nil {
			return err
		}
		if got, err := r.Newest(nil); err == nil {
			if err := verify(got); err != nil {
				return err
			}
		}
	}
}

// TestPublishesThatCloseRefusesCostNoFrame: Close waits for a frame that this
// member is writing, and who publishes meanwhile is refused.
func TestPublishesThatCloseRefusesCostNoFrame(t *testing.T) {
	name, opts := proc.Fleet(t), one(kindLeft, 64, 64)
	r := ring(t, join(t, name, opts), kindLeft)
	f := join(t, name, opts)
	closing := ring(t, f, kindLeft)
	path := proc.Segment(name, kindLeft)
	for i := range uint64(64) {
		publish(t, r, i, 8)
	}
	h := r.Head()
	slot := load(t, path).slot(h)
	overwriteWord(t, path, slot, state(h, liveOwner, phaseWriting))
	overwriteWord(t, path, offHead, h+1)
	closed := make(chan error, 1)
	go func() { closed <- f.Close() }()
	ways := map[string]func() error{
		"Publish":      func() error { _, err := closing.Publish(1, 1, nil); return err },
		"PublishBatch": func() error { _, err := closing.PublishBatch(make([]orbit.Frame, 9)); return err },
		"Mint":         func() error { _, err := closing.Mint(); return err },
	}
	proc.Eventually(t, "the fleet is about to close", func() bool { return ways["Publish"]() != nil })
	head := r.Head()
	for how, publish := range ways {
		for range 50 {
			if err := publish(); !errors.Is(err, orbit.ErrClosed) {
				t.Errorf("%s while the fleet closes: %v, want %v", how, err, orbit.ErrClosed)
			}
		}
		if got := r.Head(); got != head {
			t.Errorf("%s refused by Close took %d counters", how, got-head)
			head = got
		}
	}
	overwriteWord(t, path, slot, state(h, 0, phaseSkipped))
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestCloseMakesNothingUp: whoever reads while the fleet is closed is told that,
// or what there is, and never that there is nothing.
func TestCloseMakesNothingUp(t *testing.T) {
	name, opts := proc.Fleet(t), one(kindLeft, 1, 64)
	publish(t, ring(t, join(t, name, opts), kindLeft), 0, 8)
	ways := map[string]func(r *orbit.Ring) error{
		"ReadAt": func(r *orbit.Ring) error { _, err := r.ReadAt(0, nil); return err },
		"Newest": func(r *orbit.Ring) error { _, err := r.Newest(nil); return err },
		"Stats": func(r *orbit.Ring) error {
			s, err := r.Stats()
			if err == nil && s.Frames != 1 {
				err = fmt.Errorf("%+v, want one frame", s)
			}
			return err
		},
		"Next": func(r *orbit.Ring) error {
			_, gap, err := r.At(0).Next(nil)
			if gap.Total() > 0 {
				err = fmt.Errorf("passed %+v", gap)
			}
			return err
		},
	}
	for range 300 {
		f := join(t, name, opts)
		r := ring(t, f, kindLeft)
		var readers sync.WaitGroup
		for how, read := range ways {
			readers.Add(1)
			go func() {
				defer readers.Done()
				for err := error(nil); !errors.Is(err, orbit.ErrClosed); {
					if err = read(r); err != nil && !errors.Is(err, orbit.ErrClosed) {
						t.Errorf("%s while the fleet closes: %v", how, err)
						return
					}
				}
			}()
		}
		runtime.Gosched()
		f.Close()
		readers.Wait()
	}
}

// TestResetDoesWhatItSays also while the fleet is closed.
func TestResetDoesWhatItSays(t *testing.T) {
	name, opts := proc.Fleet(t), one(kindLeft, 1, 64)
	stays := ring(t, join(t, name, opts), kindLeft)
	for range 1500 {
		f := join(t, name, opts)
		r := ring(t, f, kindLeft)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for n := uint64(0); ; n++ {
				id := publish(t, stays, n, 8)
				if r.Reset() != nil {
					return
				}
				if _, err := stays.Read(id, nil); !errors.Is(err, orbit.ErrNoFrame) {
					t.Errorf("the frame from before a reset: %v, want it gone", err)
				}
			}
		}()
		runtime.Gosched()
		f.Close()
		<-done
	}
}

// TestCloseWhileAtWork closes a fleet under a crew that uses it, again and
// again, beside a process that watches the ring.
func TestCloseWhileAtWork(t *testing.T) {
	name := proc.Fleet(t)
	p := proc.Start(t, "bystander", name)
	p.Line()
	for round := range 40 {
		f := join(t, name, one(kindLeft, 32, 2000))
		var w crew
		w.start(f, ring(t, f, kindLeft))
		time.Sleep(time.Duration(round*97%5000) * time.Microsecond)
		within(t, 20*time.Second, "Close", func() {
			if err := f.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		ends, err := w.join(20 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if got := summary(ends); got != "ErrClosed 10" {
			t.Errorf("round %d: the crew ended with %s, want ErrClosed for all 10: %v", round, got, ends)
		}
		if _, err := f.Ring(kindLeft); classify(err) != "ErrClosed" {
			t.Errorf("Ring after Close: %v, want %v", err, orbit.ErrClosed)
		}
		if _, err := f.Members(); classify(err) != "ErrClosed" {
			t.Errorf("Members after Close: %v, want %v", err, orbit.ErrClosed)
		}
	}
	p.Say("stop")
	// It may count a claim that came too late, and was taken back, as lost.
	if got := line(t, p, 20*time.Second); got != "delivered true" {
		t.Errorf("the bystander says %q, want frames", got)
	}
	p.Finish()
	proc.RemoveFleet(t, name)
}

func TestRemoveIsRefusedWhileAProcessIsIn(t *testing.T) {
	name := proc.Fleet(t)
	p := proc.Start(t, "member", name)
	node := strings.TrimPrefix(p.Line(), "node ")
	before := proc.Segments(name)
	for range 3 {
		proc.MustBe(t, "Remove", orbit.Remove(name), orbit.ErrInUse, name, "node "+node, strconv.Itoa(p.Process.Pid))
		p.Stop()
		stopped(t, p.Process.Pid)
	}
	if got := proc.Segments(name); len(got) != len(before) {
		t.Errorf("segments %v, before Remove %v", got, before)
	}
	p.Continue()
	p.Say("publish")
	if got := p.Line(); !strings.HasPrefix(got, "published ") {
		t.Errorf("got %q, want published", got)
	}
	p.Kill()
	p.Died(syscall.SIGKILL)
	proc.Eventually(t, "it can be removed", func() bool { return orbit.Remove(name) == nil })
	if left := proc.Segments(name); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	proc.MustBe(t, "Remove again", orbit.Remove(name), orbit.ErrNotExist, name)
}

// observing looks at a fleet in every way an observer can, and shows how its
// segments are mapped.
func observing(args []string) error {
	read := proc.WatchParent()
	f, err := orbit.Observe(args[0])
	if err != nil {
		return err
	}
	r, err := f.Ring(kindLeft)
	if err != nil {
		return err
	}
	w := crew{fleet: f, ring: r}
	for range 50 {
		for _, look := range []func() error{
			func() error { return w.verified(r.Newest(nil)) },
			func() error { return w.readBack(0) },
			func() error { _, err := r.Stats(); return err },
			func() error { _, err := f.Members(); return err },
			func() error { _, err := f.Kinds(); return err },
			func() error { return audit(r, r.Oldest()).drain(nil) },
			func() error { return w.poll(audit(r, r.Oldest())) },
		} {
			if err := look(); err != nil {
				return err
			}
		}
	}
	w.wait(audit(r, r.Tail()))
	w.rangeOver(r.Tail())
	p, version := payload(nil, 1, 8)
	_, publishErr := r.Publish(1, version, p)
	_, batchErr := r.PublishBatch(make([]orbit.Frame, 2))
	_, mintErr := r.Mint()
	for how, err := range map[string]error{"Publish": publishErr, "PublishBatch": batchErr, "Mint": mintErr, "Reset": r.Reset()} {
		if classify(err) != "ErrReadOnly" {
			return fmt.Errorf("%s: %v, want %v", how, err, orbit.ErrReadOnly)
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	for l := range strings.Lines(string(maps)) {
		if strings.Contains(l, "orbit-"+args[0]) {
			fmt.Print(strings.Fields(l)[1], " ", filepath.Base(strings.Fields(l)[5]), "\n")
		}
	}
	fmt.Println("done")
	read()
	return f.Close()
}

func TestObserversChangeNothing(t *testing.T) {
	name := proc.Fleet(t)
	f := join(t, name, one(kindLeft, 8, 64))
	r := ring(t, f, kindLeft)
	for i := range uint64(20) {
		publish(t, r, i, 64)
	}
	// A dead member's seat is there to be tidied up, but not by an observer.
	dead := proc.Start(t, "member", name)
	dead.Line()
	dead.Kill()
	dead.Died(syscall.SIGKILL)

	paths := []string{proc.Segment(name, 0), proc.Segment(name, kindLeft)}
	before := []string{snapshot(paths[0]), snapshot(paths[1])}
	p := proc.Start(t, "observing", name)
	mapped := 0
	for got := p.Line(); got != "done"; got = p.Line() {
		if !strings.HasPrefix(got, "r--s orbit-"+name) {
			t.Errorf("an observer has mapped %s, want r--s", got)
		}
		mapped++
	}
	if mapped != 2 {
		t.Errorf("an observer has %d segments mapped, want the roster and the ring", mapped)
	}
	for i, path := range paths {
		if after := snapshot(path); after != before[i] {
			t.Errorf("an observer changed %s\nfrom %s\nto   %s", path, before[i], after)
		}
	}
	if m, err := f.Members(); err != nil || len(m) != 1 {
		t.Errorf("members beside an observer: %+v, %v; want one", m, err)
	}
	f.Close()
	proc.RemoveFleet(t, name) // which observers do not prevent
	p.Say("stop")
	p.Finish()
}
