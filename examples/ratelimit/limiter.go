package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"orbit"
)

// A Limiter admits at most limit requests per key and window, over all
// processes of the fleet together. It is safe for concurrent use.
type Limiter struct {
	limit  int
	period time.Duration
	clock  func() orbit.Stamp // [orbit.Now], except in tests
	slots  *orbit.Cache
	starts *orbit.Orbital[Start]

	mu     sync.Mutex
	window int64
	start  uint64         // no slot of the window lies before this frame
	tried  map[string]int // how many slots of a key are known to be taken
}

// Start tells where the cache's ring was before a process claimed its first
// slot of a window.
type Start struct {
	Window int64
	Head   uint64
}

// OrbitKind names the ring that starts travel in.
func (Start) OrbitKind() uint8 { return 31 }

// ErrOverrun: so much was written to the cache in this window that it may have
// forgotten slots. Nothing more is admitted until the next window.
var ErrOverrun = errors.New("ratelimit: the window is too busy for the cache")

// NewLimiter returns a limiter. All processes must give it the same limit and
// period.
func NewLimiter(fleet *orbit.Fleet, limit int, period time.Duration) (*Limiter, error) {
	slots, err := orbit.OpenCache(fleet, "ratelimit")
	if err != nil {
		return nil, err
	}
	starts, err := orbit.Bind[Start](fleet)
	if err != nil {
		return nil, err
	}
	return &Limiter{limit: limit, period: period, clock: orbit.Now, slots: slots, starts: starts, window: -1}, nil
}

// Allow tells whether a request of the key is admitted, and in which window. A
// request that it fails for is not admitted.
func (l *Limiter) Allow(key string) (window int64, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if err := l.enter(l.now()); err != nil {
			return l.window, false, err
		}
		if ok, err = l.claim(key); err != nil {
			return l.window, false, err
		}
		// The process may have been stopped meanwhile. A slot of a window that
		// is over is not used.
		if l.now() == l.window {
			return l.window, ok, nil
		}
	}
}

// now returns the number of the present window. It is the same in all
// processes: they share a clock that nobody can set.
func (l *Limiter) now() int64 { return int64(l.clock()) / int64(l.period) }

// enter begins a window, unless the limiter is in it already.
func (l *Limiter) enter(window int64) error {
	if window == l.window {
		return nil
	}
	// All store their start before they read those of the others. So whoever
	// is not found below claims its first slot after the head read here.
	start := l.slots.Ring().Head()
	if _, err := l.starts.Store(Start{window, start}); err != nil {
		return err
	}
	for _, other := range l.starts.Recent() {
		if other.Window == window {
			start = min(start, other.Head)
		}
	}
	l.window, l.start, l.tried = window, start, map[string]int{}
	return nil
}

// claim claims the first slot of the key that nobody has, if there is one.
func (l *Limiter) claim(key string) (bool, error) {
	for l.tried[key] < l.limit {
		if err := l.check(); err != nil {
			return false, err
		}
		// A slot outlives its window: within that, it never comes free again.
		slot := fmt.Sprintf("%d/%d/%s", l.window, l.tried[key], key)
		added, err := l.slots.Add(slot, nil, 2*l.period)
		if err != nil {
			return false, err
		}
		l.tried[key]++
		if added {
			return true, l.check()
		}
	}
	return false, nil
}

// check fails if the ring may have pushed out a slot of the window. An added
// key can go before its frame does, but not within half a lap.
func (l *Limiter) check() error {
	ring := l.slots.Ring()
	if ring.Head()-l.start > uint64(ring.Geometry().Capacity/2) {
		return ErrOverrun
	}
	return nil
}
