//go:build !linux

package litmus

import "time"

// yield leaves the processor to whoever else wants it.
func yield() { time.Sleep(20 * time.Microsecond) }

// pin would bind this thread to a processor.
func pin(int) {}
