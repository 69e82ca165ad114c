package main

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// What the kernel offers is tried, as the library uses it, in a file that has
// no name. What an emulation or a filter of system calls leaves out shows here
// and nowhere else.

const (
	openTmpfile = 0x400000 | syscall.O_DIRECTORY
	getOFDLock  = 36
	setOFDLock  = 37
	futexWait   = 0
	futexWake   = 1
	cwdFD       = -100
	followLinks = 0x400
	trialSize   = 8192
)

// tryKernel tries, one after the other, what the library needs in dir, and ends
// where something does not work.
func tryKernel(dir string) []finding {
	fd, err := syscall.Open(dir, openTmpfile|syscall.O_RDWR|syscall.O_CLOEXEC, 0o600)
	list := []finding{tried("tmpfile", dir, "a file without a name (O_TMPFILE)", err)}
	if err != nil {
		return list
	}
	defer syscall.Close(fd)
	for _, trial := range []struct {
		check, what string
		try         func(fd int) error
	}{
		{"fallocate", "reserving memory (fallocate)", func(fd int) error { return syscall.Fallocate(fd, 0, 0, trialSize) }},
		{"mmap", "sharing memory (mmap)", tryMapping},
		{"futex", "waking who sleeps in shared memory (futex)", tryFutex},
		{"ofd_lock", "locks that belong to open files (F_OFD_SETLK)", tryLocks},
		{"linkat", "giving a finished file its name (linkat)", func(fd int) error { return tryLink(fd, dir) }},
	} {
		err := trial.try(fd)
		list = append(list, tried(trial.check, dir, trial.what, err))
		if err != nil {
			break
		}
	}
	return list
}

// tried says how a trial ended.
func tried(check, dir, what string, err error) finding {
	if err == nil {
		return found(fine, check, "", "tried in %s, works: %s", dir, what)
	}
	remedy := "The kernel, an emulation of it, or a filter of system calls does not allow it: run on Linux 3.15 or later, and allow it in the seccomp profile of the container."
	switch {
	case check == "tmpfile" && errors.Is(err, os.ErrNotExist), check == "fallocate" && errors.Is(err, syscall.EOPNOTSUPP):
		remedy = mounting
	case check == "linkat":
		remedy = "Mount /proc, and allow hard links to files of one's own."
	case errors.Is(err, syscall.ENOSPC):
		remedy = "Make room in it. " + moreRoom
	case errors.Is(err, syscall.EFBIG):
		remedy = "Raise the limit on the size of files."
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS):
		remedy = "Let this user write there: \"chmod 1777 /dev/shm\", and no read-only mount."
	}
	return found(problem, check, remedy, "tried in %s, does not work: %s: %v", dir, what, err)
}

// mapTwice maps the file at two places.
func mapTwice(fd int, use func(a, b []byte) error) error {
	var maps [2][]byte
	for i := range maps {
		mem, err := syscall.Mmap(fd, 0, trialSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
		if err != nil {
			return err
		}
		defer syscall.Munmap(mem)
		maps[i] = mem
	}
	return use(maps[0], maps[1])
}

func word(mem []byte) *uint32 { return (*uint32)(unsafe.Pointer(unsafe.SliceData(mem))) }

func tryMapping(fd int) error {
	return mapTwice(fd, func(a, b []byte) error {
		const mark = 0x6f726269
		atomic.StoreUint32(word(a), mark)
		if seen := atomic.LoadUint32(word(b)); seen != mark {
			return fmt.Errorf("wrote 0x%x in one mapping, read 0x%x in the other", mark, seen)
		}
		atomic.StoreUint32(word(a), 0)
		return nil
	})
}

// tryFutex sleeps on a word in one mapping, and wakes in the other.
func tryFutex(fd int) error {
	const patience = time.Second
	return mapTwice(fd, func(a, b []byte) error {
		slept := make(chan error, 1)
		go func() { slept <- sleepOn(word(a), 2*patience) }()
		for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			woken, _, e := syscall.Syscall6(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(word(b))), futexWake, 1, 0, 0, 0)
			switch {
			case e != 0:
				<-slept
				return fmt.Errorf("wake: %w", e)
			case woken == 1:
				return <-slept
			case time.Now().After(end):
				return errors.Join(fmt.Errorf("nobody was woken in %v", patience), <-slept)
			}
		}
	})
}

func sleepOn(word *uint32, limit time.Duration) error {
	for {
		ts := syscall.NsecToTimespec(int64(limit))
		_, _, e := syscall.Syscall6(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait, 0, uintptr(unsafe.Pointer(&ts)), 0, 0)
		switch e {
		case 0:
			return nil
		case syscall.EINTR:
			continue
		}
		return fmt.Errorf("wait: %w", e)
	}
}

// tryLocks locks a byte far behind the data through one open file, and asks
// for it through another.
func tryLocks(fd int) error {
	other, err := syscall.Open(fmt.Sprintf("/proc/self/fd/%d", fd), syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /proc/self/fd/%d: %w", fd, err)
	}
	defer syscall.Close(other)
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Start: 1 << 41, Len: 1}
	if err := syscall.FcntlFlock(uintptr(fd), setOFDLock, &lock); err != nil {
		return err
	}
	seen := syscall.Flock_t{Type: syscall.F_WRLCK, Start: 1 << 41, Len: 1}
	if err := syscall.FcntlFlock(uintptr(other), getOFDLock, &seen); err != nil {
		return err
	}
	if seen.Type == syscall.F_UNLCK {
		return errors.New("the lock of one open file is not seen through another")
	}
	return nil
}

// tryLink names the file, and takes the name away again.
func tryLink(fd int, dir string) error {
	path := fmt.Sprintf("%s/.orbit-doctor-%d", dir, os.Getpid())
	from, err := syscall.BytePtrFromString(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return err
	}
	to, err := syscall.BytePtrFromString(path)
	if err != nil {
		return err
	}
	cwd := cwdFD
	_, _, e := syscall.Syscall6(syscall.SYS_LINKAT, uintptr(cwd), uintptr(unsafe.Pointer(from)), uintptr(cwd), uintptr(unsafe.Pointer(to)), followLinks, 0)
	if e != 0 {
		return e
	}
	return os.Remove(path)
}
