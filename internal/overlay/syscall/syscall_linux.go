// Package syscall stands in for the system calls of package syscall in the
// instrumented copy of package orbit: each reports to package step before it
// is made.
package syscall

import (
	"syscall"

	"orbit/internal/overlay/step"
)

func before(name string) {
	if step.System != nil {
		step.System(name)
	}
}

func Open(path string, mode int, perm uint32) (int, error) {
	before("open")
	return syscall.Open(path, mode, perm)
}

func Close(fd int) error {
	before("close")
	return syscall.Close(fd)
}

func Fchmod(fd int, mode uint32) error {
	before("fchmod")
	return syscall.Fchmod(fd, mode)
}

func Fallocate(fd int, mode uint32, off, n int64) error {
	before("fallocate")
	return syscall.Fallocate(fd, mode, off, n)
}

func Fstat(fd int, st *syscall.Stat_t) error {
	before("fstat")
	return syscall.Fstat(fd, st)
}

func Lstat(path string, st *syscall.Stat_t) error {
	before("lstat")
	return syscall.Lstat(path, st)
}

func Pread(fd int, p []byte, off int64) (int, error) {
	before("pread")
	return syscall.Pread(fd, p, off)
}

func ReadDirent(fd int, buf []byte) (int, error) {
	before("getdents")
	return syscall.ReadDirent(fd, buf)
}

func Unlink(path string) error {
	before("unlink")
	return syscall.Unlink(path)
}

func FcntlFlock(fd uintptr, cmd int, lk *syscall.Flock_t) error {
	before("fcntl lock")
	return syscall.FcntlFlock(fd, cmd, lk)
}

// The raw calls keep the memory alive that their arguments point to, as those
// of package syscall do.

var names = map[uintptr]string{
	syscall.SYS_FUTEX:         "futex",
	syscall.SYS_LINKAT:        "linkat",
	syscall.SYS_MMAP:          "mmap",
	syscall.SYS_MUNMAP:        "munmap",
	syscall.SYS_MREMAP:        "mremap",
	syscall.SYS_CLOCK_GETTIME: "clock_gettime",
}

func beforeRaw(trap uintptr) {
	name := names[trap]
	if name == "" {
		name = "other call"
	}
	before(name)
}

//go:uintptrescapes
func Syscall6(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err syscall.Errno) {
	beforeRaw(trap)
	return syscall.Syscall6(trap, a1, a2, a3, a4, a5, a6)
}

//go:uintptrescapes
func RawSyscall6(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err syscall.Errno) {
	beforeRaw(trap)
	return syscall.RawSyscall6(trap, a1, a2, a3, a4, a5, a6)
}

//go:uintptrescapes
func RawSyscall(trap, a1, a2, a3 uintptr) (r1, r2 uintptr, err syscall.Errno) {
	beforeRaw(trap)
	return syscall.RawSyscall(trap, a1, a2, a3)
}
