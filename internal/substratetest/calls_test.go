//go:build linux

package substratetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

func init() {
	proc.Helper("traced", traced)
	proc.Helper("sleepers", sleepers)
}

// operations are what makes no system call unless somebody sleeps, by name.
var operations = map[string]struct {
	kind uint8
	open func(f *orbit.Fleet) (run func() error, err error)
}{
	"publish": {orbit.KindEvents, func(f *orbit.Fleet) (func() error, error) {
		b, err := orbit.Events(f)
		return func() error { _, err := b.Publish("wake", []byte("up")); return err }, err
	}},
	"put": {orbit.KindCache, func(f *orbit.Fleet) (func() error, error) {
		c, err := orbit.OpenCache(f, "p")
		return func() error { return c.Put("key", []byte("value"), time.Hour) }, err
	}},
	"get": {orbit.KindCache, func(f *orbit.Fleet) (func() error, error) {
		c, err := orbit.OpenCache(f, "p")
		buf := make([]byte, 0, 64)
		return func() error { _, _, err := c.AppendGet(buf, "key"); return err }, err
	}},
	"beat": {orbit.KindHeartbeat, func(f *orbit.Fleet) (func() error, error) {
		h, err := orbit.Heartbeats(f)
		return func() error { return h.Beat() }, err
	}},
}

// traced does an operation as often as it is told, between two marks, on one
// thread, whose number it prints: fleet, operation.
func traced(args []string) (err error) {
	read := proc.WatchParent()
	f, err := orbit.Join(args[0], orbit.Options{Size: 2})
	if err != nil {
		return err
	}
	run, err := operations[args[1]].open(f)
	if err != nil {
		return err
	}
	offMainThread(func() {
		fmt.Println(syscall.Gettid())
		for err == nil {
			n, _ := strconv.Atoi(read())
			if n == 0 {
				return
			}
			markTrace(markBegin)
			for range n {
				if err = run(); err != nil {
					return
				}
			}
			markTrace(markEnd)
		}
	})
	return errors.Join(err, f.Close())
}

// startTraced starts a helper that does an operation, and follows it.
func startTraced(t *testing.T, name, operation string) (p *proc.Process, rounds <-chan []call) {
	t.Helper()
	proc.NeedNative(t)
	p = proc.StartEnv(t, []string{"GOGC=off"}, "traced", name, operation)
	tid, err := strconv.Atoi(line(p))
	if err != nil {
		t.Fatal(err)
	}
	return p, trace(t, tid)
}

// round has the operation done n times and returns the system calls of it.
func round(t *testing.T, p *proc.Process, rounds <-chan []call, n int) []call {
	t.Helper()
	p.Say(strconv.Itoa(n))
	calls, ok := <-rounds
	if !ok {
		t.Fatal("the traced thread ended")
	}
	return calls
}

// TestNothingIsAskedOfTheKernelWhileNobodySleeps counts the system calls of
// publishing, writing and reading. The runtime may make calls of its own on
// the same thread, in some rounds: so there is one without any call, and none
// with a call of another kind, or about the ring.
func TestNothingIsAskedOfTheKernelWhileNobodySleeps(t *testing.T) {
	for operation, o := range operations {
		t.Run(operation, func(t *testing.T) {
			name := proc.Fleet(t)
			p, rounds := startTraced(t, name, operation)
			ring := mapped(t, p.Process.Pid, proc.Segment(name, int(o.kind)))
			silent := 0
			for i := 0; silent < 5; i++ {
				calls := round(t, p, rounds, 50)
				if bad := foreign(calls, ring); len(bad) > 0 {
					t.Fatalf("with nobody asleep, 50 times: %v", bad)
				}
				if len(calls) == 0 {
					silent++
				}
				if i == 500 {
					t.Fatalf("of %d rounds of 50, %d were without a system call; the last had %v", i, silent, calls)
				}
			}
			p.Say("0")
			p.Finish()
		})
	}
}

// ---- Sleepers ----

// sleepers has many goroutines wait for one event each, every time it is told
// to: fleet, how many. It prints a line when all wait, and one when each has
// its event.
func sleepers(args []string) error {
	read := proc.WatchParent()
	n, _ := strconv.Atoi(args[1])
	f, err := orbit.Join(args[0], orbit.Options{Size: 2})
	if err != nil {
		return err
	}
	b, err := orbit.Events(f)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for read() == "sleep" {
		var woken sync.WaitGroup
		ended := make([]error, n)
		for i := range n {
			s := b.SubscribeNow()
			woken.Add(1)
			go func() {
				defer woken.Done()
				var ev orbit.Event
				if ended[i] = s.Next(context.Background(), &ev); ended[i] == nil && string(ev.Topic) != "wake" {
					ended[i] = fmt.Errorf("got topic %q", ev.Topic)
				}
			}()
		}
		for waiting() < n {
			time.Sleep(10 * time.Millisecond)
		}
		fmt.Println("asleep")
		woken.Wait()
		if err := errors.Join(ended...); err != nil {
			return err
		}
		fmt.Println("woken")
	}
	return f.Close()
}

// waiting counts the goroutines that are in Cursor.Wait.
func waiting() (n int) {
	var text strings.Builder
	pprof.Lookup("goroutine").WriteTo(&text, 1)
	for _, stack := range strings.Split(text.String(), "\n\n") {
		if !strings.Contains(stack, "orbit.(*Cursor).Wait+") {
			continue
		}
		for line := range strings.Lines(stack) {
			if count, _, ok := strings.Cut(line, " @ "); ok {
				k, _ := strconv.Atoi(count)
				n += k
			}
		}
	}
	return n
}

func startSleepers(t *testing.T, name string, n int) *proc.Process {
	t.Helper()
	p := proc.Start(t, "sleepers", name, strconv.Itoa(n))
	if got := line(p); got != "ready" {
		t.Fatalf("the sleepers say %q, want ready", got)
	}
	return p
}

// fallAsleep has all of them wait, and returns when a thread of each process
// sleeps in the kernel, and no more than one.
func fallAsleep(t *testing.T, name string, procs ...*proc.Process) {
	t.Helper()
	proc.NeedNative(t)
	for _, p := range procs {
		if got := ask(p, "sleep"); got != "asleep" {
			t.Fatalf("the sleepers say %q, want asleep", got)
		}
		ring := mapped(t, p.Process.Pid, proc.Segment(name, int(orbit.KindEvents)))
		eventually(t, "a thread sleeps on the ring", func() bool {
			n := asleep(t, p.Process.Pid, ring)
			// Who wakes and sleeps again on another thread, during the look, is seen
			// twice, but not at one look after the other.
			for looks := 1; n > 1; looks++ {
				if looks == 5 {
					t.Fatalf("%d threads of one process sleep on the ring, want 1", n)
				}
				n = asleep(t, p.Process.Pid, ring)
			}
			return n == 1
		})
	}
}

func wakeUp(t *testing.T, procs ...*proc.Process) {
	t.Helper()
	for _, p := range procs {
		if got := line(p); got != "woken" {
			t.Fatalf("the sleepers say %q, want woken", got)
		}
	}
}

// TestOneWakeReachesEverySleeper counts the system calls of a publisher with
// subscribers asleep in other processes: one, however many they are.
func TestOneWakeReachesEverySleeper(t *testing.T) {
	name := proc.Fleet(t)
	p, rounds := startTraced(t, name, "publish")
	ring := mapped(t, p.Process.Pid, proc.Segment(name, int(orbit.KindEvents)))
	procs := []*proc.Process{startSleepers(t, name, 1), startSleepers(t, name, 10), startSleepers(t, name, 100)}
	for i := range 8 {
		some := procs[:1+i%len(procs)]
		fallAsleep(t, name, some...)
		calls := round(t, p, rounds, 1)
		if n := wakes(calls, ring); n != 1 || len(foreign(calls, ring)) != 1 {
			t.Errorf("with sleepers in %d processes: %d wakes, calls %v; want one wake and no other call", len(some), n, foreign(calls, ring))
		}
		wakeUp(t, some...)
		// One that was late to wait may have asked once more before it saw the event.
		round(t, p, rounds, 1)
		if calls := round(t, p, rounds, 5); len(foreign(calls, ring)) > 0 {
			t.Errorf("with nobody waiting: calls %v, want none", foreign(calls, ring))
		}
	}
	p.Say("0")
	p.Finish()
}

// TestTenThousandSleepersOfAProcessCostOneThread has ten thousand subscribers
// of a process asleep, and wakes them from another.
func TestTenThousandSleepersOfAProcessCostOneThread(t *testing.T) {
	const n = 10_000
	name := proc.Fleet(t)
	b := bus(t, name, "default")
	p := startSleepers(t, name, n)
	before := threads(t, p)
	for range 2 {
		fallAsleep(t, name, p)
		// The runtime has some threads of its own, and starts others as it
		// likes, but in their number there is no trace of ten thousand.
		if now := threads(t, p); now > before+16+runtime.GOMAXPROCS(0) {
			t.Errorf("%d threads with %d subscribers asleep, %d before", now, n, before)
		}
		if _, err := b.Publish("wake", nil); err != nil {
			t.Fatal(err)
		}
		wakeUp(t, p)
	}
	p.Say("end")
	p.Finish()
}
