package litmus

import (
	"syscall"
	"unsafe"
)

// yield leaves the processor to whoever else wants it. The shortest sleep of
// an idle Go process is a millisecond.
func yield() { syscall.Syscall(syscall.SYS_SCHED_YIELD, 0, 0, 0) }

// pin binds this thread to one of the processors that it may use. Two threads
// on one processor do not race, and may be left so for long.
func pin(n int) {
	var allowed, one [128]uint64
	size, _, err := syscall.Syscall(syscall.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(allowed), uintptr(unsafe.Pointer(&allowed)))
	if err != 0 {
		return
	}
	var processors []int
	for i := range int(size) * 8 {
		if allowed[i/64]>>(i%64)&1 != 0 {
			processors = append(processors, i)
		}
	}
	i := processors[n%len(processors)]
	one[i/64] = 1 << (i % 64)
	syscall.Syscall(syscall.SYS_SCHED_SETAFFINITY, 0, size, uintptr(unsafe.Pointer(&one)))
}
