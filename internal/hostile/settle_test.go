//go:build linux

package hostile

import (
	"runtime"
	"time"
)

// settle lets the collector find what is no longer used, and the cleanups run.
func settle() {
	for range 5 {
		runtime.GC()
		time.Sleep(10 * time.Millisecond)
	}
}
