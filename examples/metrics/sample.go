package main

import (
	"net/http"
	"os"
	"sync"
	"time"

	"orbit"
)

// bounds are the upper bounds of the histogram's buckets, in seconds. Above the
// last is one more bucket.
var bounds = [...]float64{0.01, 0.05, 0.1, 0.5, 1}

// A Sample is all that a process has counted so far. The layout is fixed, and
// every process must have the same.
type Sample struct {
	Started  orbit.Stamp // tells a process from the next one with its node id
	PID      int64
	Requests uint64
	Failures uint64
	InFlight int64
	Seconds  float64 // the sum over all requests
	Buckets  [len(bounds) + 1]uint64
}

// OrbitKind names the ring that samples travel in.
func (Sample) OrbitKind() uint8 { return 32 }

// OrbitGeometry has the ring remember the dead for long.
func (Sample) OrbitGeometry() orbit.Geometry { return orbit.Geometry{Capacity: 1 << 14} }

// Counts are the numbers of this process.
type Counts struct {
	mu     sync.Mutex
	sample Sample
}

func newCounts() *Counts {
	return &Counts{sample: Sample{Started: orbit.Now(), PID: int64(os.Getpid())}}
}

// Sample returns the present numbers.
func (c *Counts) Sample() Sample {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sample
}

// Count wraps a handler, which returns the status it answered with.
func (c *Counts) Count(handle func(http.ResponseWriter, *http.Request) int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		status := http.StatusInternalServerError // unless the handler returns
		c.begin()
		defer func() { c.end(time.Since(start).Seconds(), status >= 500) }()
		status = handle(w, r)
	}
}

func (c *Counts) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sample.InFlight++
}

func (c *Counts) end(seconds float64, failed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.sample
	s.InFlight--
	s.Requests++
	if failed {
		s.Failures++
	}
	s.Seconds += seconds
	bucket := 0
	for bucket < len(bounds) && seconds > bounds[bucket] {
		bucket++
	}
	s.Buckets[bucket]++
}

// add adds what another process has counted.
func (s *Sample) add(other Sample) {
	s.Requests += other.Requests
	s.Failures += other.Failures
	s.InFlight += other.InFlight
	s.Seconds += other.Seconds
	for i, n := range other.Buckets {
		s.Buckets[i] += n
	}
}
