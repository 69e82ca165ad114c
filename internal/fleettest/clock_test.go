//go:build linux

package fleettest

import (
	"syscall"
	"testing"
	"time"
	"unsafe"

	"orbit"
)

// TestStampsAreOfTheMonotonicClock: stamps are compared between processes, so
// each must read the clock that all have in common, and not one of its own.
func TestStampsAreOfTheMonotonicClock(t *testing.T) {
	monotonic := func() orbit.Stamp {
		const clockMonotonic = 1
		var ts syscall.Timespec
		if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
			t.Fatal(errno)
		}
		return orbit.Stamp(ts.Nano())
	}
	// What the package promises is less: two readings of its own clock are off
	// by the moment between the two that it began with.
	const slack = orbit.Stamp(100 * time.Millisecond)
	before := monotonic()
	got := orbit.Now()
	after := monotonic()
	if got < before-slack || got > after+slack {
		t.Errorf("Now is %v, between %v and %v of CLOCK_MONOTONIC", time.Duration(got), time.Duration(before), time.Duration(after))
	}
}
