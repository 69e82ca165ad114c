//go:build linux

package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

func init() {
	proc.Helper("ratelimit", func([]string) error { main(); return nil })
}

func TestMain(m *testing.M) { proc.Main(m) }

func TestProgramUsesEveryWindowUpToTheLimit(t *testing.T) {
	t.Parallel()
	fleet := proc.Fleet(t)
	p := proc.Start(t, "ratelimit", "-fleet", fleet, "-n", "3", "-limit", "50", "-period", "500ms", "-for", "3s")
	line := regexp.MustCompile(`^window \d+: +(\d+) +(\d+) +(\d+)  together (\d+) of 50$`)
	full := 0
	for p.Stdout.Scan() {
		m := line.FindStringSubmatch(p.Stdout.Text())
		if m == nil {
			t.Fatalf("got line %q, want one like %q", p.Stdout.Text(), line)
		}
		sum := 0
		for i, n := range numbers(t, m[1:]) {
			if i < 3 {
				sum += n
			} else if n != sum || n > 50 {
				t.Errorf("got %q, want the sum, and at most 50", m[0])
			}
		}
		if sum == 50 {
			full++
		}
	}
	p.Finish()
	if full < 3 {
		t.Errorf("got %d full windows, want at least 3 in 3s", full)
	}
	if _, err := orbit.Observe(fleet); !errors.Is(err, orbit.ErrNotExist) {
		t.Errorf("got error %v, want that the fleet does not exist", err)
	}
}

func numbers(t *testing.T, texts []string) (all []int) {
	for _, text := range texts {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
	}
	return all
}

// Workers are stopped in the middle of whatever they do, for longer than a
// window, and killed, and others come in the middle of a window.
func TestLimitIsExactThroughKillsAndStops(t *testing.T) {
	t.Parallel()
	const limit, period = 300, 200 * time.Millisecond
	fleet := proc.Fleet(t)
	var workers []*proc.Process
	admitted := make(chan map[string]int)
	startOne := func() *proc.Process {
		p := proc.Start(t, "ratelimit", "-worker", "-fleet", fleet, "-limit", fmt.Sprint(limit), "-period", period.String())
		workers = append(workers, p)
		go func() {
			windows := map[string]int{}
			for p.Stdout.Scan() {
				windows[p.Stdout.Text()]++
			}
			admitted <- windows
		}()
		return p
	}
	for range 3 {
		startOne()
	}
	for round := range 8 {
		victim, stopped := startOne(), workers[round%3]
		time.Sleep(period / 3)
		stopped.Stop()
		victim.Kill()
		time.Sleep(period * 5 / 4)
		stopped.Continue()
	}
	for _, p := range workers {
		p.Stdin.Close()
	}
	total := map[string]int{}
	for range workers {
		for window, n := range <-admitted {
			total[window] += n
		}
	}
	full := 0
	for window, n := range total {
		if n > limit {
			t.Errorf("window %s admitted %d requests, want at most %d", window, n, limit)
		}
		if n == limit {
			full++
		}
	}
	if full == 0 {
		t.Errorf("no window was used up to the limit of %d: %v", limit, total)
	}
}

// join returns a limiter of a member of its own, and the member.
func join(t *testing.T, fleet string, limit int) (*Limiter, *orbit.Fleet) {
	t.Helper()
	f, err := orbit.Join(fleet, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	l, err := NewLimiter(f, limit, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	l.clock = func() orbit.Stamp { return orbit.Stamp(7 * time.Second) }
	return l, f
}

func TestEachKeyHasTheLimitForItself(t *testing.T) {
	fleet := proc.Fleet(t)
	a, _ := join(t, fleet, 3)
	b, _ := join(t, fleet, 3)
	for _, key := range []string{"alice", "bob"} {
		for i := range 6 {
			_, ok, err := []*Limiter{a, b}[i%2].Allow(key)
			if want := i < 3; ok != want || err != nil {
				t.Errorf("request %d of %s: got %v, error %v, want %v", i+1, key, ok, err, want)
			}
		}
	}
}

// The clock moves on between the look at it and the claim, as it does when the
// process is stopped there.
func TestSlotOfAPastWindowIsNotUsed(t *testing.T) {
	l, _ := join(t, proc.Fleet(t), 1)
	looks := 0
	l.clock = func() orbit.Stamp {
		if looks++; looks == 1 {
			return orbit.Stamp(7 * time.Second)
		}
		return orbit.Stamp(60 * time.Second)
	}
	for _, want := range []bool{true, false} {
		if window, ok, err := l.Allow("alice"); window != 60 || ok != want || err != nil {
			t.Errorf("got window %d, %v, error %v, want window 60, %v", window, ok, err, want)
		}
	}
}

func TestForgottenSlotsAreNotGivenOutAgain(t *testing.T) {
	fleet := proc.Fleet(t)
	first, f := join(t, fleet, 3)
	window, ok, err := first.Allow("alice")
	if !ok || err != nil {
		t.Fatalf("first request: got %v, error %v", ok, err)
	}
	others, err := orbit.OpenCache(f, "others")
	if err != nil {
		t.Fatal(err)
	}
	for range others.Ring().Geometry().Capacity {
		if err := others.Put("key", nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	slot := fmt.Sprintf("%d/0/alice", window)
	if meta, err := first.slots.Stat(slot); meta.Hit || err != nil {
		t.Fatalf("the cache still has slot %q: %+v, error %v", slot, meta, err)
	}
	newcomer, _ := join(t, fleet, 3)
	for _, l := range []*Limiter{first, newcomer} {
		if _, ok, err := l.Allow("alice"); ok || !errors.Is(err, ErrOverrun) {
			t.Errorf("got %v, error %v, want error %v", ok, err, ErrOverrun)
		}
	}
}
