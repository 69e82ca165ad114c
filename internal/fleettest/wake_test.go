//go:build linux

package fleettest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"orbit"
	"orbit/internal/proc"
)

// Who sleeps is woken, by every way to publish, and nobody else is.

// wakeWord maps the wake word of a ring, as any process could.
func wakeWord(t *testing.T, path string) *uint32 {
	t.Helper()
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	mem, err := syscall.Mmap(fd, 0, pageSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(mem) })
	return (*uint32)(unsafe.Pointer(&mem[offWake]))
}

// futexSleep sleeps in the kernel while the word has this value, for at most
// limit. It returns 0 if somebody woke it, EAGAIN if the word had another
// value, and ETIMEDOUT.
func futexSleep(word *uint32, value uint32, limit time.Duration) syscall.Errno {
	ts := syscall.NsecToTimespec(int64(limit))
	_, _, errno := syscall.Syscall6(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(word)), 0, uintptr(value), uintptr(unsafe.Pointer(&ts)), 0, 0)
	return errno
}

// TestPublishWakesAllWhoSleepOnTheWakeWord sleeps in the kernel as processes
// that wait for a ring do, and not, as they do, for 100 ms at most: so it is
// the wake that ends the sleep, or nothing does.
func TestPublishWakesAllWhoSleepOnTheWakeWord(t *testing.T) {
	name := proc.Fleet(t)
	r := ring(t, join(t, name, one(kindThere, 8, 64)), kindThere)
	word := wakeWord(t, proc.Segment(name, kindThere))
	const sleepers = 3
	ends := make(chan syscall.Errno, sleepers)
	for i := range 1000 {
		value := atomic.OrUint32(word, 1) | 1
		for range sleepers {
			go func() { ends <- futexSleep(word, value, 10*time.Second) }()
		}
		time.Sleep(time.Duration(1+i) * time.Millisecond)
		publish(t, r, uint64(i), 8)
		woken := 0
		for range sleepers {
			switch errno := <-ends; errno {
			case 0:
				woken++
			case syscall.ETIMEDOUT:
				t.Fatalf("a publish did not wake all of %d sleepers", sleepers)
			case syscall.EAGAIN, syscall.EINTR: // not asleep yet, or woken by a signal: once more
			default:
				t.Fatalf("futex: %v", errno)
			}
		}
		if woken == sleepers {
			return
		}
	}
	t.Fatalf("%d sleepers were never all asleep before a publish", sleepers)
}

// TestPublishAsksTheKernelOnlyForSleepers: once nobody waits, a publish must
// not go on making system calls for those who did.
func TestPublishAsksTheKernelOnlyForSleepers(t *testing.T) {
	shared := proc.Fleet(t)
	own, err := orbit.Local("own", one(kindThere, 8, 64))
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	for _, f := range []*orbit.Fleet{own, join(t, shared, one(kindThere, 8, 64))} {
		r := ring(t, f, kindThere)
		done := make(chan error, 1)
		c := r.Tail()
		go func() { done <- c.Wait(t.Context()) }()
		proc.Eventually(t, "the reader waits", func() bool { return someWait(t, r) })
		publish(t, r, 1, 8)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		// The reader may have asked once more before it saw the frame.
		publish(t, r, 2, 8)
		if someWait(t, r) {
			t.Errorf("shared %v: two frames after the last reader slept, publishers are still asked to wake", f.Shared())
		}
	}
}

func someWait(t *testing.T, r *orbit.Ring) bool {
	t.Helper()
	s, err := r.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return s.Waiting
}

type woken struct{ N uint64 }

func (woken) OrbitKind() uint8 { return kindThere }

// TestEveryWayToPublishWakes runs in a fleet of this process alone, where no
// sleeper looks by itself: who is not woken sleeps for ever.
func TestEveryWayToPublishWakes(t *testing.T) {
	f, err := orbit.Local("sleepers", orbit.Options{Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	values, err := orbit.Bind[woken](f)
	must(err)
	bus, err := orbit.Events(f)
	must(err)
	cache, err := orbit.OpenCache(f, "")
	must(err)
	heart, err := orbit.Heartbeats(f)
	must(err)
	contest, err := orbit.OpenContest(f)
	must(err)
	plain := values.Ring()
	var guard *orbit.Guard
	ways := []struct {
		name string
		ring *orbit.Ring
		run  func() error
	}{
		{"Publish", plain, func() error { _, err := plain.Publish(1, 0, nil); return err }},
		{"PublishBatch", plain, func() error { _, err := plain.PublishBatch(make([]orbit.Frame, 3)); return err }},
		{"Store", plain, func() error { _, err := values.Store(woken{1}); return err }},
		{"an event", bus.Ring(), func() error { _, err := bus.Publish("topic", nil); return err }},
		{"Put", cache.Ring(), func() error { return cache.Put("key", nil, 0) }},
		{"Delete", cache.Ring(), func() error { return cache.Delete("key") }},
		{"Add", cache.Ring(), func() error { _, err := cache.Add("key", nil, 0); return err }},
		{"Reset of the cache", cache.Ring(), cache.Reset},
		{"a beat", heart.Ring(), heart.Beat},
		{"a claim", contest.Ring(), func() (err error) { guard, err = orbit.Claim[woken](contest, "", "", time.Hour); return err }},
		{"a renewal", contest.Ring(), func() error { return guard.Renew(time.Hour) }},
		{"a release", contest.Ring(), func() error { return guard.Release() }},
	}
	for _, way := range ways {
		c := way.ring.Tail()
		done := make(chan error, 1)
		go func() { done <- c.Wait(t.Context()) }()
		proc.Eventually(t, "the reader waits", func() bool { return someWait(t, way.ring) })
		time.Sleep(10 * time.Millisecond) // it looks once more, and lies down
		must(way.run())
		var err error
		within(t, 20*time.Second, "a reader that "+way.name+" should wake", func() { err = <-done })
		if err != nil {
			t.Error(err)
		}
	}
}

// TestFrameBesideTheWaitIsSeen publishes at every moment of the beginning of a
// wait. The ring is the process's own, where only a wake ends a sleep: who does
// not look once more after saying that he waits sleeps over a frame that came
// just before.
func TestFrameBesideTheWaitIsSeen(t *testing.T) {
	f, err := orbit.Local("beside", one(kindThere, 8, 64))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := ring(t, f, kindThere)
	const rounds = 50_000
	var about atomic.Int64 // the round whose wait begins
	go func() {
		for i := range int64(rounds) {
			for about.Load() <= i {
				runtime.Gosched()
			}
			r.Publish(1, 0, nil)
		}
	}()
	within(t, 30*time.Second, "a wait beside a publish", func() {
		c := r.Tail()
		for i := int64(1); i <= rounds && err == nil; i++ {
			about.Store(i)
			for range rand.N(500) {
				about.Load()
			}
			err = orbit.ErrNoFrame
			for errors.Is(err, orbit.ErrNoFrame) { // after a hole, of a publisher that was late
				if err = c.Wait(t.Context()); err == nil {
					_, _, err = c.Next(nil)
				}
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// TestWhoSleepsForAllIsInterrupted: a context that ends and a fleet that closes
// change the word on which a goroutine sleeps in the kernel, so that it wakes at
// once. At a deadline it wakes by itself, and disturbs no other process.
func TestWhoSleepsForAllIsInterrupted(t *testing.T) {
	soon := func() (context.Context, context.CancelFunc) {
		return context.WithDeadline(t.Context(), time.Now().Add(50*time.Millisecond))
	}
	for _, by := range []struct {
		name    string
		context func() (context.Context, context.CancelFunc)
		end     func(f *orbit.Fleet, cancel func())
		want    error
		changes uint32
	}{
		{"cancel", func() (context.Context, context.CancelFunc) { return context.WithCancel(t.Context()) },
			func(_ *orbit.Fleet, cancel func()) { cancel() }, context.Canceled, 1},
		{"cancel before the deadline", func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), time.Hour)
		}, func(_ *orbit.Fleet, cancel func()) { cancel() }, context.Canceled, 1},
		{"deadline", soon, func(*orbit.Fleet, func()) {}, context.DeadlineExceeded, 0},
		{"Close", func() (context.Context, context.CancelFunc) { return t.Context(), func() {} },
			func(f *orbit.Fleet, _ func()) { f.Close() }, orbit.ErrClosed, 1},
	} {
		// Who was about to wake by itself, or had not lain down yet, needs nobody: on a
		// busy machine that happens, but not again and again.
		changes := uint32(0)
		for tries := 0; tries < 20 && (tries == 0 || changes < by.changes); tries++ {
			f := join(t, proc.Fleet(t), one(kindThere, 8, 64))
			ctx, cancel := by.context()
			changes = changesBy(t, f, ctx, by.name, by.want, func() { by.end(f, cancel) })
			cancel()
			f.Close()
		}
		if changes != by.changes {
			t.Errorf("%s: the word changed %d times, want %d", by.name, changes, by.changes)
		}
	}
}

// changesBy has a goroutine wait until that is ended, and returns how often the
// wake word changed meanwhile.
func changesBy(t *testing.T, f *orbit.Fleet, ctx context.Context, what string, want error, end func()) uint32 {
	t.Helper()
	r := ring(t, f, kindThere)
	word := wakeWord(t, proc.Segment(f.Name(), kindThere))
	before := atomic.LoadUint32(word) >> 1
	done := make(chan error, 1)
	c := r.Tail()
	go func() { done <- c.Wait(ctx) }()
	proc.Eventually(t, "the reader waits", func() bool { return atomic.LoadUint32(word)&1 != 0 })
	time.Sleep(10 * time.Millisecond) // it looks once more, and lies down
	end()
	var err error
	within(t, 20*time.Second, "a wait ended by "+what, func() { err = <-done })
	if !errors.Is(err, want) {
		t.Errorf("%s: a wait ended with %v, want %v", what, err, want)
	}
	return atomic.LoadUint32(word)>>1 - before
}

// TestAnotherSleepsWhenTheFirstLeaves: the goroutine that sleeps in the kernel
// for all of its process gives up, and nothing happens that would wake the
// rest; the frames of others reach them as before.
func TestAnotherSleepsWhenTheFirstLeaves(t *testing.T) {
	name := proc.Fleet(t)
	here := ring(t, join(t, name, one(kindThere, 8, 64)), kindThere)
	other := ring(t, join(t, name, one(kindThere, 8, 64)), kindThere)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
	defer cancel()
	first, rest := make(chan error, 1), make(chan error, 10)
	leader := here.Tail()
	go func() { first <- leader.Wait(ctx) }()
	proc.Eventually(t, "the first waits", func() bool { return someWait(t, here) })
	for range cap(rest) {
		c := here.Tail()
		go func() { rest <- c.Wait(t.Context()) }()
	}
	within(t, 20*time.Second, "the first to leave", func() {
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the first ended with %v", err)
		}
	})
	publish(t, other, 1, 8)
	within(t, 20*time.Second, "the wait of those who stayed", func() {
		for range cap(rest) {
			if err := <-rest; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestEndedContextIsNotSleptOn waits with a context whose end nobody announces,
// as when it came just before there was a sleeper to interrupt.
func TestEndedContextIsNotSleptOn(t *testing.T) {
	name := proc.Fleet(t)
	r := ring(t, join(t, name, one(kindThere, 8, 64)), kindThere)
	c := r.Tail()
	ctx := &silent{Context: t.Context(), done: make(chan struct{})}
	var err error
	within(t, 20*time.Second, "a wait with a context that has ended", func() { err = c.Wait(ctx) })
	if !errors.Is(err, context.Canceled) || ctx.asked != 1 {
		t.Errorf("a wait with a context that has ended: %v after it was asked %d times, want %v at once", err, ctx.asked, context.Canceled)
	}
}

// silent is a context that ended without closing its channel.
type silent struct {
	context.Context
	done  chan struct{}
	asked int
}

func (s *silent) Done() <-chan struct{} { return s.done }
func (s *silent) Err() error            { s.asked++; return context.Canceled }

// TestClosedFleetForgetsItsContexts: a context outlives the fleets that were
// waited in with it, and must not keep them.
func TestClosedFleetForgetsItsContexts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := watchers()
	for _, end := range []string{"Close", "another context"} {
		f := join(t, proc.Fleet(t), one(kindThere, 8, 64))
		r := ring(t, f, kindThere)
		c := r.Tail()
		for range 3 {
			done := make(chan error, 1)
			go func() { done <- c.Wait(ctx) }()
			proc.Eventually(t, "the reader waits", func() bool { return someWait(t, r) })
			time.Sleep(5 * time.Millisecond) // it looks once more, and lies down
			publish(t, r, 1, 8)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if _, err := await(ctx, c); err != nil { // after a hole, of a publisher that was late
				t.Fatal(err)
			}
		}
		if n := watchers() - before; n > 1 {
			t.Errorf("%d goroutines watch the context after three waits, want at most 1", n)
		}
		if end != "Close" {
			soon, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			c.Wait(soon)
			proc.Eventually(t, "nobody watches a context that was waited with no longer", func() bool { return watchers() <= before })
		}
		f.Close()
		proc.Eventually(t, "nobody watches a context for a closed fleet", func() bool { return watchers() <= before })
	}
}

// watchers counts the goroutines of this process that watch a context for
// those who wait.
func watchers() int {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return bytes.Count(stacks, []byte("orbit.(*hub).outlive("))
}

// TestSleepAllocatesNothing counts what a process allocates while it waits again
// and again with the same context.
func TestSleepAllocatesNothing(t *testing.T) {
	name := proc.Fleet(t)
	r := ring(t, join(t, name, one(kindThere, 8, 64)), kindThere)
	word := wakeWord(t, proc.Segment(name, kindThere))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const rounds = 500
	go func() {
		for range rounds {
			for atomic.LoadUint32(word)&1 == 0 {
				time.Sleep(100 * time.Microsecond)
			}
			r.Publish(1, 0, nil)
		}
	}()
	var before, after runtime.MemStats
	c := r.Tail()
	runtime.ReadMemStats(&before)
	for n := 0; n < rounds; { // a wait can end at a hole, after which the frame is to come
		if err := c.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Next(nil); err == nil {
			n++
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.Mallocs - before.Mallocs; n > rounds/2 {
		t.Errorf("%d allocations in %d waits", n, rounds)
	}
}
