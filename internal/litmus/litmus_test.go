package litmus

import (
	"flag"
	"runtime"
	"sync"
	"testing"
	"time"
)

var long = flag.Duration("litmus.time", 0, "how long each shape runs, such as 1m")

// timeOf returns how long a shape runs.
func timeOf(short time.Duration) time.Duration {
	if *long > 0 {
		return *long
	}
	return short
}

// run runs a shape on goroutines that have a thread of their own each.
func run(t *testing.T, s *shape, limit time.Duration, enough func(seen int) bool) (seen, ran int) {
	t.Helper()
	b := new(bench)
	var threads sync.WaitGroup
	for i := range s.threads {
		threads.Add(1)
		go func() {
			defer threads.Done()
			b.work(s, i)
		}()
	}
	seen, ran, err := b.lead(s, limit, enough)
	if err != nil {
		t.Fatal(err)
	}
	threads.Wait()
	return seen, ran
}

func TestThreadsSeeNothingForbidden(t *testing.T) {
	for i := range shapes {
		s := &shapes[i]
		t.Run(s.name, func(t *testing.T) {
			seen, ran := run(t, s, timeOf(50*time.Millisecond), never)
			t.Logf("%d runs", ran)
			if seen != 0 {
				t.Errorf("got %d of %d runs with %s, want none", seen, ran, s.forbidden)
			}
		})
	}
}

// What a broken shape shows depends on the processor: amd64 delays stores, and
// no more; arm64 reorders nearly everything, but only real processors do, not
// an emulator on amd64. So this reports, except where it is certain: without
// it, that the other tests see nothing would say nothing about them.
func TestBrokenShapesShowTheForbidden(t *testing.T) {
	for i := range broken {
		s := &broken[i]
		t.Run(s.name, func(t *testing.T) {
			certain := s.name == "wake" && totalOrder && runtime.GOMAXPROCS(0) > 1 && runtime.NumCPU() > 1
			limit := timeOf(100 * time.Millisecond)
			if certain {
				limit = max(limit, 20*time.Second)
			}
			seen, ran := run(t, s, limit, func(seen int) bool { return certain && seen > 0 && *long == 0 })
			t.Logf("%s in %d of %d runs", s.forbidden, seen, ran)
			if certain && seen == 0 {
				t.Errorf("got no run of %d with %s, want some: the threads do not meet", ran, s.forbidden)
			}
		})
	}
}
