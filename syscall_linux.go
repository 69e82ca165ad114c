//go:build !mips && !mipsle && (!arm || arm.7)

package orbit

import (
	"math"
	"runtime"
	"syscall"
	"time"
	"unsafe"
)

// This file holds the system calls that package syscall does not wrap, and
// nothing else.

const (
	futexWaitOp = 0
	futexWakeOp = 1

	fcntlOFDGetLock = 36
	fcntlOFDSetLock = 37

	oTmpfile         = 0x400000 | syscall.O_DIRECTORY
	atFDCWD          = -100
	atSymlinkFollow  = 0x400
	mremapMayMove    = 1
	mremapFixed      = 2
	clockMonotonic   = 1
	mapPopulateFlags = syscall.MAP_SHARED | syscall.MAP_POPULATE
)

// futexWait sleeps while *addr == val, at most for d. It may return early.
// It must tell the scheduler that it blocks, hence Syscall6: with the raw
// call a garbage collection would wait for the sleeper.
func futexWait(addr *uint32, val uint32, d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	syscall.Syscall6(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(addr)), futexWaitOp, uintptr(val), uintptr(unsafe.Pointer(&ts)), 0, 0)
}

// futexWake wakes every process and thread that sleeps on addr.
func futexWake(addr *uint32) {
	syscall.RawSyscall6(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(addr)), futexWakeOp, 1<<31-1, 0, 0, 0)
}

// tryLock takes the write lock on n bytes from off for the open file
// description of fd, and tells whether it got it.
func tryLock(fd int, off, n int64) (bool, error) {
	fl := syscall.Flock_t{Type: syscall.F_WRLCK, Start: off, Len: n}
	switch err := syscall.FcntlFlock(uintptr(fd), fcntlOFDSetLock, &fl); err {
	case nil:
		return true, nil
	case syscall.EAGAIN, syscall.EACCES:
		return false, nil
	default:
		return false, err
	}
}

// unlock gives up the lock on n bytes from off.
func unlock(fd int, off, n int64) {
	fl := syscall.Flock_t{Type: syscall.F_UNLCK, Start: off, Len: n}
	syscall.FcntlFlock(uintptr(fd), fcntlOFDSetLock, &fl)
}

// locked tells whether another open file description holds a lock in the n
// bytes from off.
func locked(fd int, off, n int64) (bool, error) {
	fl := syscall.Flock_t{Type: syscall.F_WRLCK, Start: off, Len: n}
	err := syscall.FcntlFlock(uintptr(fd), fcntlOFDGetLock, &fl)
	return fl.Type != syscall.F_UNLCK, err
}

// linkFile gives the open, nameless file fd the name path. It fails with
// EEXIST if the name is taken: whoever links first wins.
func linkFile(fd int, path string) error {
	from, err := syscall.BytePtrFromString("/proc/self/fd/" + itoa(fd))
	if err != nil {
		return err
	}
	to, err := syscall.BytePtrFromString(path)
	if err != nil {
		return err
	}
	cwd := atFDCWD
	_, _, e := syscall.Syscall6(syscall.SYS_LINKAT, uintptr(cwd), uintptr(unsafe.Pointer(from)), uintptr(cwd), uintptr(unsafe.Pointer(to)), atSymlinkFollow, 0)
	if e != 0 {
		return e
	}
	return nil
}

// mapMemory maps the first n bytes of the file fd, or zeros if that is -1. It is
// not syscall.Mmap, because that keeps a table of all mappings, which brings
// 10 kB into a small program and an entry for good for a mapping that moved.
func mapMemory(fd, n, prot, flags int) (unsafe.Pointer, error) {
	var addr uintptr
	var e syscall.Errno
	switch runtime.GOARCH {
	case "386", "arm":
		const mmap2 = 192 // counts the offset in pages
		addr, _, e = syscall.Syscall6(mmap2, 0, uintptr(n), uintptr(prot), uintptr(flags), uintptr(fd), 0)
	case "s390x": // takes its arguments in memory
		args := [6]uintptr{0, uintptr(n), uintptr(prot), uintptr(flags), uintptr(fd), 0}
		addr, _, e = syscall.Syscall6(syscall.SYS_MMAP, uintptr(unsafe.Pointer(&args)), 0, 0, 0, 0, 0)
	default:
		addr, _, e = syscall.Syscall6(syscall.SYS_MMAP, 0, uintptr(n), uintptr(prot), uintptr(flags), uintptr(fd), 0)
	}
	if e != 0 {
		return nil, e
	}
	return *(*unsafe.Pointer)(unsafe.Pointer(&addr)), nil
}

// unmapMemory takes back what mapMemory did.
func unmapMemory(mem unsafe.Pointer, n int) {
	syscall.Syscall6(syscall.SYS_MUNMAP, uintptr(mem), uintptr(n), 0, 0, 0, 0)
}

// moveMapping moves the mapping src over dst, both n bytes, atomically
// replacing what was mapped there.
func moveMapping(dst, src unsafe.Pointer, n uintptr) error {
	_, _, e := syscall.Syscall6(syscall.SYS_MREMAP, uintptr(src), n, n, mremapMayMove|mremapFixed, uintptr(dst), 0)
	if e != 0 {
		return e
	}
	return nil
}

// clockStart and clockBase are one moment, on Go's monotonic clock, whose
// readings are relative, and on the kernel's CLOCK_MONOTONIC, which every
// process of this boot shares.
var clockStart, clockBase = clockOrigin()

// clockOrigin takes the reading of the one that lies between the two closest of
// the other: a process may be held up between any two.
func clockOrigin() (start time.Time, base int64) {
	for least, i := int64(math.MaxInt64), 0; i < 8; i++ {
		before := monotonic()
		at := time.Now()
		if d := monotonic() - before; d < least {
			least, start, base = d, at, before+d/2
		}
	}
	return start, base
}

func monotonic() int64 {
	var ts syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}

// clockNow reads, in nanoseconds, the clock that TTLs and ages run on: shared
// by the processes of one boot, and never stepped.
func clockNow() int64 {
	return clockBase + int64(time.Since(clockStart))
}
