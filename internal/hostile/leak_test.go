//go:build linux

package hostile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// What a process holds of the system's stays the same over thousands of
// rounds. Package fleettest has those of joining, binding and forgetting.

// footprint is what a process holds.
type footprint struct{ descriptors, mappings, segments, threads, goroutines int }

func measure() footprint {
	fds, _ := os.ReadDir("/proc/self/fd")
	tasks, _ := os.ReadDir("/proc/self/task")
	maps, _ := os.ReadFile("/proc/self/maps")
	return footprint{len(fds), strings.Count(string(maps), "\n"), strings.Count(string(maps), "/orbit-"), len(tasks), runtime.NumGoroutine()}
}

// within tells whether a footprint is no larger than another. Mappings and
// threads are the runtime's, too, which may want a few more.
func (f footprint) within(o footprint) bool {
	return f.descriptors <= o.descriptors && f.segments <= o.segments && f.goroutines <= o.goroutines &&
		f.mappings <= o.mappings+10 && f.threads <= o.threads+4
}

// settle has the collector give back what it can.
func settle() {
	for range 4 {
		runtime.GC()
		runtime.Gosched()
	}
}

// TestRoundsLeaveNothingBehind does one thing thousands of times, after it
// has been done a few dozen times to warm up.
func TestRoundsLeaveNothingBehind(t *testing.T) {
	fleet := proc.Fleet(t)
	stay := join(t, fleet, crewOptions()) // the fleet stays the same
	c := contest(t, stay)
	bus, err := orbit.Events(stay)
	if err != nil {
		t.Fatal(err)
	}
	r := ring(t, stay, kindFrames)
	for name, open := range openers {
		if err := open(stay); err != nil {
			t.Fatal(name, err)
		}
	}
	broken := proc.Fleet(t)
	if err := os.WriteFile(proc.Segment(broken, 0), []byte("no roster"), 0o600); err != nil {
		t.Fatal(err)
	}

	for what, round := range map[string]func(i int) error{
		"join, open everything, close": func(int) error {
			f, err := orbit.Join(fleet, crewOptions())
			if err != nil {
				return err
			}
			defer f.Close()
			for name, open := range openers {
				if err := open(f); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			return nil
		},
		"observe, look, close": func(int) error {
			o, err := orbit.Observe(fleet)
			if err != nil {
				return err
			}
			defer o.Close()
			seen, err := o.Ring(kindFrames)
			if err != nil {
				return err
			}
			if _, err := seen.Stats(); err != nil {
				return err
			}
			_, err = o.Members()
			return err
		},
		"subscribe, wait, give up": func(i int) error {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := bus.SubscribeNow(orbit.TopicPrefix("a"))
			done := make(chan error, 1)
			go func() {
				var ev orbit.Event
				done <- s.Next(ctx, &ev)
			}()
			if i%2 == 0 { // it hears something before it can be told to stop
				for n := 0; len(done) == 0; n++ {
					if _, err := bus.Publish("abc", nil); err != nil {
						return err
					}
					runtime.Gosched()
				}
			}
			cancel()
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		},
		"range over frames, break": func(int) error {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			c := r.Tail()
			if _, err := r.Publish(1, 0, nil); err != nil {
				return err
			}
			for _, err := range c.Frames(ctx) {
				return err
			}
			return errors.New("no frame")
		},
		"claim, watch, release": func(i int) error {
			g, err := orbit.Claim[task](c, fmt.Sprint("subject ", i%100), "owner", time.Hour)
			if err != nil {
				return err
			}
			ctx := g.Context()
			if err := g.Renew(time.Minute); err != nil {
				return err
			}
			if err := g.Release(); err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		},
		"claim, lapse": func(i int) error {
			g, err := orbit.Claim[task](c, fmt.Sprint("lapse ", i%100), "", 100*time.Microsecond)
			if errors.Is(err, orbit.ErrLapsed) {
				return nil
			}
			if err != nil {
				return err
			}
			<-g.Context().Done()
			return nil
		},
		"wait for a subject, give up": func(int) error {
			g, err := orbit.Claim[task](c, "waited for", "", time.Hour)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Microsecond)
			defer cancel()
			if err := orbit.WaitFree[task](ctx, c, "waited for"); !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			return g.Release()
		},
		"be refused": func(int) error {
			_, joined := orbit.Join(broken, crewOptions())
			_, observed := orbit.Observe(broken)
			_, taken := orbit.Join(fleet, orbit.Options{Size: 1, Node: stay.Node()})
			_, other := orbit.RingOf[wrongType](stay)
			if !errors.Is(joined, orbit.ErrForeign) || !errors.Is(observed, orbit.ErrForeign) || !errors.Is(taken, orbit.ErrNode) || !errors.Is(other, orbit.ErrType) {
				return fmt.Errorf("Join %v, Observe %v, Join with a node id that is taken %v, RingOf %v", joined, observed, taken, other)
			}
			if err := orbit.Remove(fleet); !errors.Is(err, orbit.ErrInUse) {
				return fmt.Errorf("Remove: %v", err)
			}
			return nil
		},
	} {
		t.Run(what, func(t *testing.T) {
			rounds := 2000
			if testing.Short() {
				rounds = 100
			}
			do := func(n int) {
				for i := range n {
					if err := round(i); err != nil {
						t.Fatalf("round %d: %v", i, err)
					}
					if i%100 == 0 {
						settle()
					}
				}
			}
			do(50)
			time.Sleep(250 * time.Millisecond) // who sleeps for waiters goes when nobody waited for a while
			settle()
			before := measure()
			do(rounds)
			var after footprint
			for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
				settle()
				if after = measure(); after.within(before) {
					return
				}
				if time.Now().After(end) {
					t.Fatalf("after %d rounds: %+v, before them %+v\n%s", rounds, after, before, stacks())
				}
			}
		})
	}
	if n := members(t, stay); n != 1 {
		t.Errorf("%d members, want 1", n)
	}
	stay.Close()
	proc.RemoveFleet(t, fleet)
}

// wrongType claims the kind of another type.
type wrongType struct{ A, B uint64 }

func (wrongType) OrbitKind() uint8 { return kindValues }
