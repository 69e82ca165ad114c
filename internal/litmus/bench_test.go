package litmus

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// A bench is the memory in which threads run a shape, many instances a round:
// a shared mapping between processes, or the memory of one process. It is all
// zeros at the start.
type bench struct {
	round    word // of which the threads run the instances
	finished word // how many threads have, of all rounds
	arrived  word // how many threads have come to an instance, of this round
	stop     word
	runs     [instances]instance
}

const instances = 1024

// work is one thread: it runs its part of every instance of every round.
func (b *bench) work(s *shape, thread int) {
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	pin(thread)
	// Threads that have a processor each meet before every instance, others
	// would sleep more than they run.
	stride := 1
	if len(s.threads) > runtime.NumCPU() {
		stride = 128
	}
	noise := uint64(thread)*0x9e3779b97f4a7c15 + 1
	for round := uint64(1); ; round++ {
		for tries := 0; atomic.LoadUint64(&b.round.v) != round; tries++ {
			if atomic.LoadUint64(&b.stop.v) != 0 {
				return
			}
			rest(tries)
		}
		for i := range b.runs {
			if i%stride == 0 {
				b.meet(uint64(i/stride+1) * uint64(len(s.threads)))
			}
			// Processors that leave the same spin loop are some cycles apart:
			// a little noise has every thread be the first, now and then.
			noise = noise*6364136223846793005 + 1442695040888963407
			for range noise >> 58 {
				spin()
			}
			m := &b.runs[i]
			s.threads[thread](m, &m.saw[thread])
		}
		atomic.AddUint64(&b.finished.v, 1)
	}
}

//go:noinline
func spin() {}

// meet waits until all threads have come to the same instance.
func (b *bench) meet(all uint64) {
	atomic.AddUint64(&b.arrived.v, 1)
	for tries := 0; atomic.LoadUint64(&b.arrived.v) < all; tries++ {
		rest(tries)
	}
}

// rest is a turn of a loop that waits for another thread: a short while it
// spins, then it leaves the processor to others.
func rest(tries int) {
	if tries > 500 {
		yield()
	}
}

// lead runs rounds on threads that are at work, until the time is over or
// enough says so of what was seen so far. It returns in how many instances the
// forbidden was seen, and of how many.
func (b *bench) lead(s *shape, limit time.Duration, enough func(seen int) bool) (seen, ran int, err error) {
	defer atomic.StoreUint64(&b.stop.v, 1)
	var start time.Time // of the second round: until then threads may have to start
	for round := uint64(1); round <= 2 || time.Since(start) < limit && !enough(seen); round++ {
		clear(b.runs[:])
		atomic.StoreUint64(&b.arrived.v, 0)
		atomic.StoreUint64(&b.round.v, round)
		began := time.Now()
		for atomic.LoadUint64(&b.finished.v) != round*uint64(len(s.threads)) {
			if time.Sleep(50 * time.Microsecond); time.Since(began) > 30*time.Second {
				return seen, ran, fmt.Errorf("a thread of %q did not come to the end of round %d", s.name, round)
			}
		}
		for i := range b.runs {
			if s.seen(&b.runs[i]) {
				seen++
			}
		}
		ran += len(b.runs)
		if round == 1 {
			start = time.Now()
		}
	}
	return seen, ran, nil
}

func never(int) bool { return false }
