//go:build linux

package substratetest

import (
	"syscall"
	"time"
	"unsafe"
)

// monotonic reads the clock that all processes share, from the kernel itself.
func monotonic() int64 {
	var ts syscall.Timespec
	const clock = 1
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}

// clockSkew is more than the clocks of two processes can differ: each is set by
// two readings one after the other, between which a busy machine may pause.
const clockSkew = time.Second
