//go:build linux

package main

import (
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// effort says how long to measure, and how often.
type effort struct {
	rounds  int           // of which the median counts
	round   time.Duration // how long each takes at least
	crowds  int           // rounds of jobs of several processes
	crowd   time.Duration // how long each of those takes
	samples int           // operations timed one by one
	wakes   int           // messages to those who sleep
}

// Rounds of one process are many and short, so that the median leaves out
// those in which something else had the processor. In rounds of several
// processes each must have had its turns.
var (
	thorough = effort{rounds: 41, round: 5 * time.Millisecond, crowds: 9, crowd: 60 * time.Millisecond, samples: 3000, wakes: 1000}
	quick    = effort{rounds: 15, round: 2 * time.Millisecond, crowds: 5, crowd: 20 * time.Millisecond, samples: 500, wakes: 100}
)

// A figure is what one job found for one peer.
type figure struct {
	Job    string    `json:"job"`
	Peer   string    `json:"peer"`
	Nanos  float64   `json:"ns"`               // per operation, the median of the rounds
	P99    float64   `json:"p99_ns,omitempty"` // of operations timed one by one
	Ratio  float64   `json:"atomic_adds"`      // Nanos, in uncontended atomic adds
	Allocs *float64  `json:"allocs,omitempty"` // per operation, in the process that measures
	Rounds []float64 `json:"rounds_ns,omitempty"`
	Remark string    `json:"remark,omitempty"` // what else was counted
	Error  string    `json:"error,omitempty"`
}

func (f *figure) allocates(perOperation float64) { f.Allocs = &perOperation }

// batch does an operation n times.
type batch func(n int) error

// measure finds what an operation costs. Finding out how many fill a round is
// the warm-up.
func (e effort) measure(op batch) (figure, error) {
	n, err := e.fill(op)
	if err != nil {
		return figure{}, err
	}
	var f figure
	var allocs []float64
	for range e.rounds {
		before := mallocs()
		took, err := timed(op, n)
		if err != nil {
			return figure{}, err
		}
		allocs = append(allocs, float64(mallocs()-before)/float64(n))
		f.Rounds = append(f.Rounds, float64(took)/float64(n))
	}
	f.Nanos = median(f.Rounds)
	f.allocates(median(allocs))
	f.P99, err = e.sample(op)
	return f, err
}

// fill returns how many operations take a round.
func (e effort) fill(op batch) (int, error) {
	for n := 1; ; {
		took, err := timed(op, n)
		if err != nil || took >= e.round {
			return n, err
		}
		wanted := float64(n) * 1.2 * float64(e.round) / float64(max(took, 1))
		n = int(min(max(wanted, float64(n)*2), float64(n)*50))
	}
}

// sample returns the 99th percentile of operations timed one by one, without
// the time that reading the clock takes.
func (e effort) sample(op batch) (float64, error) {
	nothing := func(int) error { return nil }
	times := make([]float64, 0, e.samples)
	for deadline := time.Now().Add(time.Duration(e.rounds) * e.round); len(times) < e.samples && time.Now().Before(deadline); {
		took, err := timed(op, 1)
		if err != nil {
			return 0, err
		}
		times = append(times, float64(took))
	}
	idle := make([]float64, 501)
	for i := range idle {
		took, _ := timed(nothing, 1)
		idle[i] = float64(took)
	}
	return max(0, quantile(times, 0.99)-median(idle)), nil
}

func timed(op batch, n int) (time.Duration, error) {
	start := time.Now()
	err := op(n)
	return time.Since(start), err
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

func median(of []float64) float64 { return quantile(of, 0.5) }

// quantile returns the smallest value that a share q of all does not exceed.
func quantile(of []float64, q float64) float64 {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// atomicAdd measures the unit of all ratios.
func (e effort) atomicAdd() (figure, error) {
	var word atomic.Uint64
	return e.measure(func(n int) error {
		for range n {
			word.Add(1)
		}
		return nil
	})
}
