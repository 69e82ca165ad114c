package orbit

import (
	"math/rand/v2"
	"os"
	"strconv"
	"time"
	"unsafe"

	"orbit/internal/overlay/step"
)

// This file is added to the instrumented copy of the package that the suites run
// over: see package orbit/internal/stumble.

// meanStumble: most are shorter than the time for which a processor is away, and
// some are longer than a cursor waits for a claimant.
const meanStumble = 4 * time.Millisecond

func init() {
	one, _ := strconv.Atoi(os.Getenv("ORBIT_STUMBLE"))
	if one < 1 {
		return
	}
	step.Before = func(k step.Kind, _ unsafe.Pointer) { stumble(one, k) }
	step.After = func(k step.Kind, _ unsafe.Pointer, _ uint64) { stumble(one, k) }
	step.System = func(string) { stumble(one, step.Call) }
}

// stumble sleeps at one of so many steps of a kind. Payloads are read and written
// word by word in the copy: most loads and stores are of them.
func stumble(one int, k step.Kind) {
	switch k {
	case step.Load, step.Store:
		one *= 80
	case step.Call:
		one = max(one/10, 1)
	}
	if rand.IntN(one) == 0 {
		time.Sleep(time.Duration(rand.ExpFloat64() * float64(meanStumble)))
	}
}
