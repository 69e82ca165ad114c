//go:build linux

package fleettest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// A crew is goroutines that use a ring in every way at once, until the ring
// fails for good.
type crew struct {
	fleet *orbit.Fleet
	ring  *orbit.Ring
	wg    sync.WaitGroup
	mu    sync.Mutex
	ends  map[string]error // what each ended with
	turns map[string]*atomic.Int64
	// damaged rings deliver damaged bytes: their payloads are not verified
	damaged bool
	quit    atomic.Bool
}

// final tells whether an error is one after which a ring is of no more use.
func final(err error) bool {
	return errors.Is(err, orbit.ErrClosed) || errors.Is(err, orbit.ErrDamaged) || errors.Is(err, errUnsound)
}

// start sets the crew to work.
func (w *crew) start(f *orbit.Fleet, r *orbit.Ring) {
	w.fleet, w.ring = f, r
	w.ends = map[string]error{}
	w.turns = map[string]*atomic.Int64{}
	tasks := map[string]func(i int) error{
		"publish": func(i int) error { return w.publish(i) },
		"batch":   func(i int) error { return w.batch(i) },
		"mint":    func(i int) error { return w.mint(i) },
		"newest":  func(i int) error { return w.verified(r.Newest(nil)) },
		"read":    func(i int) error { return w.readBack(i) },
		"stats":   func(i int) error { time.Sleep(time.Millisecond); _, err := r.Stats(); return err },
	}
	oldest, tail, waiting := audit(r, r.Oldest()), audit(r, r.Tail()), audit(r, r.Tail())
	tasks["follow"] = func(int) error { return w.follow(tail) }
	tasks["wait"] = func(int) error { return w.wait(waiting) }
	tasks["poll"] = func(int) error { return w.poll(oldest) }
	tasks["range"] = func(int) error { return w.rangeOver(r.Tail()) }
	for name := range tasks {
		w.turns[name] = new(atomic.Int64)
	}
	for name, task := range tasks {
		w.wg.Add(1)
		go w.run(name, task)
	}
}

func (w *crew) run(name string, task func(i int) error) {
	defer w.wg.Done()
	for i := 0; !w.quit.Load(); i++ {
		err := task(i)
		w.turns[name].Add(1)
		if final(err) && (!w.damaged || w.closed()) || errors.Is(err, errUnsound) {
			w.mu.Lock()
			w.ends[name] = err
			w.mu.Unlock()
			return
		}
		if i%16 == 0 {
			runtime.Gosched()
		}
	}
}

// closed tells whether the ring is closed for good: a damaged frame is an
// error of its own, and not the end.
func (w *crew) closed() bool {
	_, err := w.ring.Stats()
	return final(err)
}

func (w *crew) verified(f orbit.Frame, err error) error {
	if err == nil && !w.damaged {
		if err := verify(f); err != nil {
			return fmt.Errorf("%w: %w", errUnsound, err)
		}
	}
	return err
}

func (w *crew) publish(i int) error {
	p, version := payload(nil, uint64(i), (i*37)%(w.ring.Geometry().PayloadLimit+1))
	_, err := w.ring.Publish(1, version, p)
	return err
}

func (w *crew) batch(i int) error {
	frames := make([]orbit.Frame, 1+i%5)
	for j := range frames {
		p, version := payload(nil, uint64(i*100+j), min(16, w.ring.Geometry().PayloadLimit))
		frames[j] = orbit.Frame{Kind: 2, Version: version, Payload: p}
	}
	_, err := w.ring.PublishBatch(frames)
	time.Sleep(50 * time.Microsecond)
	return err
}

func (w *crew) mint(i int) error {
	time.Sleep(100 * time.Microsecond)
	if i%64 == 0 {
		if err := w.ring.Reset(); err != nil {
			return err
		}
	}
	_, err := w.ring.Mint()
	return err
}

func (w *crew) readBack(i int) error {
	f, err := w.ring.ReadAt(w.ring.Head()-uint64(1+i%w.ring.Geometry().Capacity), nil)
	if err := w.verified(f, err); err != nil {
		return err
	}
	return w.verified(w.ring.Read(f.ID, nil))
}

func (w *crew) audited(c *audited) error {
	if !w.damaged {
		_, err := c.next(nil)
		return err
	}
	_, gap, err := c.Next(nil)
	c.sum.Overwritten += gap.Overwritten
	c.sum.Holes += gap.Holes
	c.sum.Lost += gap.Lost
	if err == nil {
		c.sum.Delivered++
	}
	if final(err) {
		return err
	}
	if bad := c.balance(); bad != nil {
		return bad
	}
	return err
}

func (w *crew) follow(c *audited) error { return w.audited(c) }

func (w *crew) wait(c *audited) error {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := c.Wait(ctx); err != nil {
		return err
	}
	return w.audited(c)
}

func (w *crew) poll(c *audited) error {
	frames := make([]orbit.Frame, 8)
	n, _, err := c.Poll(frames)
	for _, f := range frames[:n] {
		if err := w.verified(f, nil); err != nil {
			return err
		}
	}
	if t := c.Tally(); !final(err) && t.Delivered+t.Total() != c.Position()-c.start {
		return fmt.Errorf("%w: after Poll: %+v, %d passed", errUnsound, t, c.Position()-c.start)
	}
	return err
}

func (w *crew) rangeOver(c *orbit.Cursor) (last error) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	for f, err := range c.Frames(ctx) {
		if last = w.verified(f, err); errors.Is(last, errUnsound) {
			return last
		}
	}
	return last
}

// join waits for the crew and says what each ended with.
func (w *crew) join(limit time.Duration) (map[string]error, error) {
	done := make(chan struct{})
	go func() { w.wg.Wait(); close(done) }()
	select {
	case <-done:
		return w.ends, nil
	case <-time.After(limit):
		w.mu.Lock()
		defer w.mu.Unlock()
		stuck := ""
		for name := range w.turns {
			if _, ended := w.ends[name]; !ended {
				stuck += " " + name
			}
		}
		return nil, fmt.Errorf("still at work after %v:%s\n%s", limit, stuck, stacks())
	}
}

// moves fails if one of the crew does not come to an end with what it does.
func (w *crew) moves(limit time.Duration) error {
	for name, n := range w.turns {
		before := n.Load()
		for end := time.Now().Add(limit); n.Load() == before; time.Sleep(time.Millisecond) {
			w.mu.Lock()
			_, ended := w.ends[name]
			w.mu.Unlock()
			if ended {
				break
			}
			if time.Now().After(end) {
				return fmt.Errorf("%s makes no move in %v\n%s", name, limit, stacks())
			}
		}
	}
	return nil
}

func stacks() string {
	buf := make([]byte, 1<<16)
	return string(buf[:runtime.Stack(buf, true)])
}

// summary counts how the crew ended, by sentinel.
func summary(ends map[string]error) string {
	counts := map[string]int{}
	for _, err := range ends {
		counts[classify(err)]++
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprint(k, " ", counts[k]))
	}
	return strings.Join(parts, ", ")
}

// line returns the next line a helper prints. A helper that is silent for too
// long is asked where it hangs.
func line(t testing.TB, p *proc.Process, limit time.Duration) string {
	t.Helper()
	got := make(chan string, 1)
	go func() {
		if p.Stdout.Scan() {
			got <- p.Stdout.Text()
		} else {
			got <- "the helper ended"
		}
	}()
	select {
	case s := <-got:
		if s == "the helper ended" {
			p.Finish() // says why, if it ended badly
		}
		return s
	case <-time.After(limit):
		p.Process.Signal(syscall.SIGQUIT)
		p.Finish()
		t.Fatalf("the helper was silent for %v", limit)
		return ""
	}
}
