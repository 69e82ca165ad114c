package main

import (
	"context"
	"errors"
	"math"
	"runtime"
	"sync/atomic"
	"time"

	"orbit"
)

// What calls cost in one process that has the fleet to itself.

// benchValue is a small typed value.
type benchValue struct{ A, B uint64 }

func (benchValue) OrbitKind() uint8 { return 2 }

// benchJob is the subject of a claim.
type benchJob struct{}

func (benchJob) OrbitKind() uint8 { return 3 }

const (
	benchKind    = 1 // of the ring of frames
	benchPayload = 64
	benchRounds  = 5 // at least
	benchRound   = time.Millisecond
)

// A benchCall is an operation to measure.
type benchCall struct {
	name string
	call func() error
}

// measureCalls measures all calls within a time, the atomic add first.
func (b *bench) measureCalls(ctx context.Context, d time.Duration) error {
	calls, err := benchCalls(b.fleet)
	if err != nil {
		return err
	}
	for _, c := range calls {
		if ctx.Err() != nil {
			return errInterrupted
		}
		row, err := measureCall(c.call, d/time.Duration(len(calls)))
		if err != nil {
			return err
		}
		row.Name = c.name
		b.add(row)
	}
	return nil
}

// measureCall returns how long a call takes in the best of many short rounds,
// and how often it allocates, to a hundredth. A round is shorter than the time
// for which a busy system lets a process run, so the best ones were not
// interrupted.
func measureCall(call func() error, d time.Duration) (row benchRow, err error) {
	start := time.Now()
	n, err := callsPerRound(call)
	if err != nil {
		return row, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	best, rounds := time.Duration(math.MaxInt64), 0
	for ; rounds < benchRounds || time.Since(start) < d; rounds++ {
		took, err := repeat(n, call)
		if err != nil {
			return row, err
		}
		best = min(best, took)
	}
	runtime.ReadMemStats(&after)
	allocs := float64(after.Mallocs-before.Mallocs) / float64(n*rounds)
	allocs = math.Round(100*allocs) / 100
	return benchRow{Nanos: float64(best) / float64(n), Allocs: &allocs, Rounds: &rounds}, nil
}

// callsPerRound finds how many calls a round takes.
func callsPerRound(call func() error) (int, error) {
	for n := 16; ; n *= 2 {
		best := time.Duration(math.MaxInt64)
		for range 3 {
			took, err := repeat(n, call)
			if err != nil {
				return 0, err
			}
			best = min(best, took)
		}
		if best >= benchRound/2 {
			return n, nil
		}
	}
}

func repeat(n int, call func() error) (time.Duration, error) {
	start := time.Now()
	for range n {
		if err := call(); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// benchCalls returns the calls to measure, each of which finds what those
// before it left.
func benchCalls(f *orbit.Fleet) (calls []benchCall, err error) {
	var word atomic.Uint64
	calls = []benchCall{{"atomic add", func() error { word.Add(1); return nil }}}
	for _, more := range []func(*orbit.Fleet) ([]benchCall, error){
		frameCalls, valueCalls, eventCalls, cacheCalls, contestCalls, heartbeatCalls,
	} {
		part, err := more(f)
		if err != nil {
			return nil, err
		}
		calls = append(calls, part...)
	}
	return calls, nil
}

func frameCalls(f *orbit.Fleet) ([]benchCall, error) {
	r, err := f.Ring(benchKind)
	if err != nil {
		return nil, err
	}
	payload, buf := make([]byte, benchPayload), make([]byte, 0, benchPayload)
	publish := func() error {
		_, err := r.Publish(1, 1, payload)
		return err
	}
	if _, err := repeat(r.Geometry().Capacity, publish); err != nil {
		return nil, err
	}
	newest := func() error {
		_, err := r.Newest(buf)
		return err
	}
	c := r.Oldest()
	next := func() error {
		_, _, err := c.Next(buf)
		if errors.Is(err, orbit.ErrNoFrame) { // once per lap
			c, err = r.Oldest(), nil
		}
		return err
	}
	return []benchCall{{"publish 64 B", publish}, {"newest 64 B", newest}, {"next of a cursor 64 B", next}}, nil
}

func valueCalls(f *orbit.Fleet) ([]benchCall, error) {
	o, err := orbit.Bind[benchValue](f)
	if err != nil {
		return nil, err
	}
	store := func() error {
		_, err := o.Store(benchValue{1, 2})
		return err
	}
	load := func() error {
		_, _, err := o.Load()
		return err
	}
	return []benchCall{{"store a value of 16 B", store}, {"load a value of 16 B", load}}, store()
}

func eventCalls(f *orbit.Fleet) ([]benchCall, error) {
	bus, err := orbit.Events(f)
	if err != nil {
		return nil, err
	}
	payload := make([]byte, benchPayload)
	publish := func() error {
		_, err := bus.Publish("bench.event", payload)
		return err
	}
	if _, err := repeat(bus.Ring().Geometry().Capacity, publish); err != nil {
		return nil, err
	}
	var ev orbit.Event
	s := bus.SubscribeOldest()
	poll := func() error {
		err := s.Poll(&ev)
		if errors.Is(err, orbit.ErrNoFrame) { // once per lap
			s, err = bus.SubscribeOldest(), nil
		}
		return err
	}
	return []benchCall{{"publish an event of 64 B", publish}, {"poll an event of 64 B", poll}}, nil
}

func cacheCalls(f *orbit.Fleet) ([]benchCall, error) {
	c, err := orbit.OpenCache(f, "bench")
	if err != nil {
		return nil, err
	}
	value, buf := make([]byte, benchPayload), make([]byte, 0, benchPayload)
	put := func() error { return c.Put("key", value, time.Hour) }
	get := func() error {
		_, hit, err := c.AppendGet(buf, "key")
		if err == nil && !hit {
			err = errors.New("the cache lost a value that nobody pushed out")
		}
		return err
	}
	return []benchCall{{"put 64 B into the cache", put}, {"get 64 B from the cache", get}}, put()
}

func contestCalls(f *orbit.Fleet) ([]benchCall, error) {
	c, err := orbit.OpenContest(f)
	if err != nil {
		return nil, err
	}
	claim := func() error {
		g, err := orbit.Claim[benchJob](c, "job", "bench", time.Minute)
		if err != nil {
			return err
		}
		return g.Release()
	}
	return []benchCall{{"claim and release", claim}}, nil
}

func heartbeatCalls(f *orbit.Fleet) ([]benchCall, error) {
	h, err := orbit.Heartbeats(f)
	if err != nil {
		return nil, err
	}
	return []benchCall{{"beat", h.Beat}}, nil
}
