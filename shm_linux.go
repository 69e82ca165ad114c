//go:build !mips && !mipsle && (!arm || arm.7)

package orbit

import (
	"errors"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// POSIX shared memory on Linux: files of a tmpfs, created without a name and
// linked once they are whole, mapped shared. A member proves that it lives by
// a lock on one byte of the roster, which the kernel drops when it dies.

// shmDir is where shm_open of every Linux libc keeps its objects.
const shmDir = "/dev/shm"

// maxSegmentName is the longest name of a segment, in bytes, without slash.
const maxSegmentName = 255

// Locks lie far behind the data: a lock on a byte needs no byte to be there.
const (
	seatLocks int64 = 1 << 41
	nodeLocks int64 = 1 << 42
)

// nodeTableLen is the room in the roster for marks of taken node ids. The
// kernel's locks need none.
const nodeTableLen = 0

// shmFile is an open segment.
type shmFile struct {
	fd   int
	size int64
}

// shmCreate makes the segment name, an empty ring as h says, and only then
// links the name: it appears complete or not at all. It returns errExists if
// the name is taken.
func shmCreate(name string, h *segmentHeader) error {
	fd, err := syscall.Open(shmDir, oTmpfile|syscall.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err == syscall.ENOSPC {
		return noRoom("one more file")
	}
	if err != nil {
		return problem("cannot create in "+shmDir, err)
	}
	defer syscall.Close(fd)
	// The umask may have taken bits away that siblings need.
	if err := syscall.Fchmod(fd, 0o600); err != nil {
		return err
	}
	// Without fallocate a full tmpfs shows only at the first touch, as SIGBUS.
	err = retryEINTR(func() error { return syscall.Fallocate(fd, 0, 0, int64(h.size)) })
	if err == syscall.ENOSPC || err == syscall.EFBIG {
		return noRoom(itoa(h.size) + " bytes")
	}
	if err != nil {
		return problem("cannot allocate "+itoa(h.size)+" bytes in "+shmDir, err)
	}
	f := shmFile{fd, int64(h.size)}
	b, err := f.mapSegment(h.size, true)
	if err != nil {
		return err
	}
	formatRing(b, h, 0)
	b.unmap()
	err = linkFile(fd, shmPath(name))
	if err == syscall.EEXIST {
		return errExists
	}
	if err != nil {
		return problem("cannot name the segment (is /proc mounted?)", err)
	}
	return nil
}

func noRoom(what string) error { return problem(shmDir+" has no room for "+what, ErrNoSpace) }

// shmOpen opens the segment name after checking that it is a plain file that
// only its owner, and the owner is us, can touch. It changes nothing.
func shmOpen(name string, write bool) (*shmFile, error) {
	// O_NOFOLLOW: a link is foreign. O_NONBLOCK: a FIFO must not hang us.
	mode := syscall.O_RDONLY
	if write {
		mode = syscall.O_RDWR
	}
	fd, err := syscall.Open(shmPath(name), mode|syscall.O_CLOEXEC|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	switch err {
	case nil:
	case syscall.ENOENT:
		return nil, ErrNotExist
	case syscall.ELOOP, syscall.EACCES, syscall.EPERM, syscall.EISDIR, syscall.ENXIO:
		var st syscall.Stat_t
		if syscall.Lstat(shmPath(name), &st) == nil {
			if err := checkObject(&st); err != nil {
				return nil, err
			}
		}
		fallthrough
	default:
		return nil, problem("cannot open", err)
	}
	f := &shmFile{fd: fd}
	if err := f.check(); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *shmFile) check() error {
	var st syscall.Stat_t
	if err := syscall.Fstat(f.fd, &st); err != nil {
		return err
	}
	f.size = st.Size
	return checkObject(&st)
}

// checkObject tells whether an object is a plain file that only its owner, and
// the owner is us, can touch.
func checkObject(st *syscall.Stat_t) error {
	uid := syscall.Geteuid()
	switch {
	case st.Mode&syscall.S_IFMT != syscall.S_IFREG:
		return foreign(fileType(st.Mode) + ", want a plain file")
	case int(st.Uid) != uid:
		return foreign("owned by uid " + itoa(int(st.Uid)) + ", want " + itoa(uid))
	case st.Nlink > 1:
		return foreign("an object with " + itoa(int(st.Nlink)) + " names, want one")
	case st.Mode&0o7777 != 0o600:
		return foreign("mode 0" + strconv.FormatUint(uint64(st.Mode&0o7777), 8) + ", want 0600")
	}
	return nil
}

func fileType(mode uint32) string {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFLNK:
		return "a symbolic link"
	case syscall.S_IFDIR:
		return "a directory"
	case syscall.S_IFIFO:
		return "a FIFO"
	case syscall.S_IFSOCK:
		return "a socket"
	}
	return "a device"
}

// readHeader copies the header out of the file, so that it is validated on
// bytes nobody can change any more.
func (f *shmFile) readHeader(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		m, err := syscall.Pread(f.fd, b[n:], int64(n))
		if err == syscall.EINTR {
			continue
		}
		if err != nil || m == 0 {
			return n, err
		}
		n += m
	}
	return n, nil
}

// mapSegment maps the first size bytes, faulted in ahead of the hot path.
func (f *shmFile) mapSegment(size int, write bool) (block, error) {
	prot := syscall.PROT_READ
	if write {
		prot |= syscall.PROT_WRITE
	}
	mem, err := mapMemory(f.fd, size, prot, mapPopulateFlags)
	if err != nil {
		return block{}, problem("cannot map "+itoa(size)+" bytes", err)
	}
	return block{base: mem, size: size, shared: true}, nil
}

// linked tells whether the file still has a name. A segment without one was
// removed, and nobody will meet us there.
func (f *shmFile) linked() bool {
	var st syscall.Stat_t
	return syscall.Fstat(f.fd, &st) == nil && st.Nlink > 0
}

// close closes the file once: another may have its number by the next time.
func (f *shmFile) close() {
	if f.fd >= 0 {
		syscall.Close(f.fd)
		f.fd = -1
	}
}

// lockSeat takes seat i for this handle; the kernel frees it when the process
// dies. The mark in shared memory is for systems whose kernel offers less.
// Closing the file frees nothing while it is mapped: locks belong to the open
// file, and the mapping keeps it open.
func (f *shmFile) lockSeat(i int, _ *uint64) (bool, error) {
	return tryLock(f.fd, seatLocks+int64(i), 1)
}

func (f *shmFile) unlockSeat(i int, _ *uint64) { unlock(f.fd, seatLocks+int64(i), 1) }

// seatHeld tells whether a live handle other than this one holds seat i.
func (f *shmFile) seatHeld(i int, _ *uint64) (bool, error) {
	return locked(f.fd, seatLocks+int64(i), 1)
}

// lockNode takes node id n, as lockSeat takes a seat.
func (f *shmFile) lockNode(n uint16, _ *uint64) (bool, error) {
	return tryLock(f.fd, nodeLocks+int64(n), 1)
}

func (f *shmFile) unlockNode(n uint16, _ *uint64) { unlock(f.fd, nodeLocks+int64(n), 1) }

// lockFleet takes every seat at once: it succeeds only while no member lives,
// and keeps joiners out until unlockFleet.
func (f *shmFile) lockFleet(seats int, _ func(i int) *uint64) (bool, error) {
	return tryLock(f.fd, seatLocks, int64(seats))
}

func (f *shmFile) unlockFleet(seats int, _ func(i int) *uint64) {
	unlock(f.fd, seatLocks, int64(seats))
}

func shmUnlink(name string) error {
	err := syscall.Unlink(shmPath(name))
	if err == syscall.ENOENT {
		return ErrNotExist
	}
	return err
}

// shmSize reports the present size of a segment by name, for error texts.
func shmSize(name string) (int64, bool) {
	var st syscall.Stat_t
	if err := syscall.Lstat(shmPath(name), &st); err != nil {
		return 0, false
	}
	return st.Size, true
}

// shmList returns the names of the objects in shared memory that begin with
// prefix, in no order.
func shmList(prefix string) ([]string, error) {
	fd, err := syscall.Open(shmDir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, problem("cannot list "+shmDir, err)
	}
	defer syscall.Close(fd)
	var names, all []string
	buf := make([]byte, 16<<10)
	for {
		n, err := syscall.ReadDirent(fd, buf)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return nil, problem("cannot list "+shmDir, err)
		}
		if n == 0 {
			break
		}
		_, _, all = syscall.ParseDirent(buf[:n], -1, all[:0])
		for _, s := range all {
			if strings.HasPrefix(s, prefix) {
				names = append(names, s)
			}
		}
	}
	return names, nil
}

func shmPath(name string) string { return shmDir + "/" + name }

// detach replaces shared pages by private zero pages in one system call, so
// that the segment is let go at once while a reader may still be at it: what
// it reads there, no recheck accepts.
func (b *block) detach() error {
	prot := syscall.PROT_READ | syscall.PROT_WRITE
	zero, err := mapMemory(-1, b.size, prot, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return err
	}
	return moveMapping(b.base, zero, uintptr(b.size))
}

// unmap gives the address range back. Nothing may hold a pointer into it.
func (b *block) unmap() { unmapMemory(b.base, b.size) }

func sleepOnWord(addr *uint32, val uint32, d time.Duration) { futexWait(addr, val, d) }
func wakeWord(addr *uint32)                                 { futexWake(addr) }

func processID() int { return syscall.Getpid() }
func userID() int    { return syscall.Geteuid() }

func retryEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
