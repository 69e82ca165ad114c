package orbit

import (
	"encoding/binary"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// POSIX shared memory on macOS. The kernel offers less than Linux does, so a
// segment shows its name before it is whole, a member proves that it lives by
// its process id and start time, and sleepers poll.
//
// This file is compiled and vetted for every change but has never been run. It
// relies on these behaviours of the kernel, taken from its published source:
//
//   - Objects are not files. shm_open (266) and shm_unlink (267) are plain
//     system calls; the variadic mode of shm_open is their third argument. The
//     umask does not apply. A descriptor is close-on-exec from the start.
//   - A name is at most 31 bytes with the leading slash. There is no list of
//     names, and a name cannot be a link.
//   - fstat knows the size, the permission bits and the owner. It reports
//     neither a file type, nor an inode, nor how many names there are.
//   - ftruncate succeeds once per object, and rounds up to pages: of 16 KiB on
//     arm64, of 4 KiB for an amd64 process. So nobody can truncate a segment
//     that is in use. It reserves no memory; when there is none, the system
//     swaps and then kills.
//   - read, write, fchmod and fcntl locks fail on objects; mmap works.
//   - The sysctl kern.proc.pid fills a struct kinfo_proc of 648 bytes, also for
//     a zombie, or nothing if there is no such process. A process keeps its
//     start time to the microsecond, whatever happens to the wall clock.
//   - mmap with MAP_FIXED replaces a mapping without a gap. If there were one,
//     a reader would fault in it, behind a gate that is shut: an error.
//   - The runtime's nanotime is mach_absolute_time in nanoseconds: one clock
//     for all processes of a boot, which stands still while the machine sleeps.
//
// What is weaker than on Linux:
//
//   - A process that dies while it creates a segment leaves it half-made. Its
//     siblings get an error that says so; Remove clears it away.
//   - A seat is free when its process is gone. A handle that is dropped without
//     Close keeps its seat that long, also through an exec.
//   - A sleeping reader looks at the ring every 1 to 5 ms. The kernel's
//     __ulock_wait with UL_COMPARE_AND_WAIT_SHARED would sleep as a futex does;
//     it is not documented.

// maxSegmentName is the longest name of a segment, in bytes, without slash.
const maxSegmentName = 30

// nodeTableLen is the room in the roster for the marks of taken node ids.
const nodeTableLen = maxNodes * wordSize

const (
	// largestPage is the largest unit that sizes of objects are rounded to.
	largestPage = 16 << 10
	// halfMade is how long an attacher waits for a creator to finish.
	halfMade = time.Second
)

// shmFile is an open segment.
type shmFile struct {
	fd    int
	size  int64
	name  string
	fixed [offChecksum + 8]byte // of the header, once it was read
}

// shmCreate makes the segment name of h.size bytes. The name shows at once, so
// fill writes private memory, and the magic, without which a segment is not
// whole, is copied last. It returns errExists if the name is taken.
func shmCreate(name string, h *segmentHeader) (err error) {
	fd, err := shmOpenCall(name, syscall.O_RDWR|syscall.O_CREAT|syscall.O_EXCL)
	if err == syscall.EEXIST {
		return errExists
	}
	if err != nil {
		return problem("cannot create in shared memory", err)
	}
	f := shmFile{fd: fd}
	defer f.close()
	defer func() {
		if err != nil {
			shmUnlink(name)
		}
	}()
	if err := syscall.Ftruncate(fd, int64(h.size)); err != nil {
		if err == syscall.ENOMEM {
			err = errors.Join(ErrNoSpace, err)
		}
		return within("cannot allocate "+itoa(h.size)+" bytes of shared memory", err)
	}
	mem, err := f.mapSegment(h.size, true)
	if err != nil {
		return err
	}
	defer mem.unmap()
	draft := localBlock(h.size)
	formatRing(draft, h, 0)
	copy(mem.bytes()[wordSize:], draft.bytes()[wordSize:])
	atomic.StoreUint64(mem.word(0), *draft.word(0))
	return nil
}

// shmOpen opens the segment name after checking that only its owner, and the
// owner is us, can touch it. It changes nothing.
func shmOpen(name string, write bool) (*shmFile, error) {
	mode := syscall.O_RDONLY
	if write {
		mode = syscall.O_RDWR
	}
	fd, err := shmOpenCall(name, mode)
	switch err {
	case nil:
	case syscall.ENOENT:
		return nil, ErrNotExist
	case syscall.EACCES, syscall.EPERM:
		return nil, problem("permission denied: it belongs to another user or has another mode", errors.Join(ErrForeign, err))
	default:
		return nil, problem("cannot open", err)
	}
	f := &shmFile{fd: fd, name: name}
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
	uid := syscall.Geteuid()
	switch {
	case int(st.Uid) != uid:
		return foreign("owned by uid " + itoa(int(st.Uid)) + ", want " + itoa(uid))
	case st.Mode&0o7777 != 0o600:
		return foreign("mode 0" + strconv.FormatUint(uint64(st.Mode&0o7777), 8) + ", want 0600")
	}
	return nil
}

// readHeader copies the header, so that it is validated on bytes nobody can
// change any more. It waits a moment for a creator that has not finished.
func (f *shmFile) readHeader(b []byte) (int, error) {
	for start := clockNow(); ; time.Sleep(time.Millisecond) {
		whole, err := f.copyHeader(b)
		if err != nil {
			return 0, err
		}
		if whole {
			copy(f.fixed[:], b)
			f.trimSize(b)
			return len(b), nil
		}
		if clockNow()-start > int64(halfMade) {
			// Not there yet, for one who wants to remove the fleet.
			return 0, problem("segment "+f.name+" is half-made: its creator has not finished for 1 s; if it died, remove the fleet", errors.Join(ErrForeign, ErrNotExist))
		}
	}
}

// copyHeader copies the header if the segment has one yet.
func (f *shmFile) copyHeader(b []byte) (whole bool, err error) {
	if err := f.check(); err != nil || f.size < int64(len(b)) {
		return false, err
	}
	page, err := f.mapSegment(len(b), false)
	if err != nil {
		return false, err
	}
	defer page.unmap()
	if atomic.LoadUint64(page.word(0)) == 0 {
		return false, nil
	}
	copy(b, page.bytes())
	return true, nil
}

// trimSize takes back what the kernel rounded the size up by, if that explains
// the difference to what the header says. What the header says is trusted no
// further: a mapping of that size lies within the object.
func (f *shmFile) trimSize(header []byte) {
	said := binary.NativeEndian.Uint64(header[offSize:])
	if size := uint64(f.size); said <= size && size-said < largestPage {
		f.size = int64(said)
	}
}

// offSize is where a header has the size of its segment.
const offSize = 16

// mapSegment maps the first size bytes.
func (f *shmFile) mapSegment(size int, write bool) (block, error) {
	prot := syscall.PROT_READ
	if write {
		prot |= syscall.PROT_WRITE
	}
	mem, err := syscall.Mmap(f.fd, 0, size, prot, syscall.MAP_SHARED)
	if err != nil {
		return block{}, problem("cannot map "+itoa(size)+" bytes", err)
	}
	return block{base: unsafe.Pointer(unsafe.SliceData(mem)), size: size, shared: true}, nil
}

// linked tells whether the segment still has its name: whether what now has
// the name carries the same header, which names the incarnation of the fleet
// and the time of creation. The kernel does not say.
func (f *shmFile) linked() bool {
	g, err := shmOpen(f.name, false)
	if err != nil {
		return false
	}
	defer g.close()
	var page [headerSize]byte
	whole, err := g.copyHeader(page[:])
	return whole && err == nil && [len(f.fixed)]byte(page[:len(f.fixed)]) == f.fixed
}

// close closes the file once: another may have its number by the next time.
func (f *shmFile) close() {
	if f.fd >= 0 {
		syscall.Close(f.fd)
		f.fd = -1
	}
}

// lockSeat takes seat i for this handle by putting this process's mark into
// the roster. It succeeds if there is no mark, or a dead process's. A mark
// does not say which handle of its process has it, so a taken one stays taken
// for the others too.
func (f *shmFile) lockSeat(_ int, mark *uint64) (bool, error) { return takeMark(mark) }

func (f *shmFile) unlockSeat(_ int, mark *uint64) { dropMark(mark) }

// seatHeld tells whether a live process holds seat i.
func (f *shmFile) seatHeld(_ int, mark *uint64) (bool, error) {
	return markAlive(atomic.LoadUint64(mark))
}

// lockNode takes node id n, as lockSeat takes a seat.
func (f *shmFile) lockNode(_ uint16, mark *uint64) (bool, error) { return takeMark(mark) }

func (f *shmFile) unlockNode(_ uint16, mark *uint64) { dropMark(mark) }

// lockFleet takes every seat, one after the other, and backs out if a live
// process has one: it succeeds only while no member lives, and keeps joiners
// out until unlockFleet.
func (f *shmFile) lockFleet(seats int, mark func(i int) *uint64) (bool, error) {
	for i := range seats {
		if ok, err := takeMark(mark(i)); !ok {
			f.unlockFleet(i, mark)
			return false, err
		}
	}
	return true, nil
}

func (f *shmFile) unlockFleet(seats int, mark func(i int) *uint64) {
	for i := range seats {
		dropMark(mark(i))
	}
}

func shmUnlink(name string) error {
	path, err := syscall.BytePtrFromString("/" + name)
	if err != nil {
		return err
	}
	switch _, _, e := syscall.Syscall(syscall.SYS_SHM_UNLINK, uintptr(unsafe.Pointer(path)), 0, 0); e {
	case 0:
		return nil
	case syscall.ENOENT:
		return ErrNotExist
	default:
		return e
	}
}

// shmSize reports the present size of a segment by name, for error texts.
func shmSize(name string) (int64, bool) {
	fd, err := shmOpenCall(name, syscall.O_RDONLY)
	if err != nil {
		return 0, false
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	err = syscall.Fstat(fd, &st)
	return st.Size, err == nil
}

func shmList(string) ([]string, error) {
	return nil, problem("macOS cannot list shared memory", errors.ErrUnsupported)
}

// ---- Marks ----

// A mark in the roster stands for the lock that this kernel does not have:
//
//	pid : 32 | hash of the process's start time : 32
//
// It holds while a process with that id and start time is there and no zombie.

// takeMark puts this process's mark in place of none or a dead process's.
func takeMark(mark *uint64) (bool, error) {
	own, err := ownMark()
	if err != nil {
		return false, err
	}
	found := atomic.LoadUint64(mark)
	if held, err := markAlive(found); held || err != nil {
		return false, err
	}
	return atomic.CompareAndSwapUint64(mark, found, own), nil
}

// dropMark takes away a mark that this handle has put there.
func dropMark(mark *uint64) {
	if own, err := ownMark(); err == nil {
		atomic.CompareAndSwapUint64(mark, own, 0)
	}
}

func markAlive(mark uint64) (bool, error) {
	pid := int32(mark >> 32)
	if pid <= 0 {
		return false, nil
	}
	now, err := markOf(pid)
	return now == mark, err
}

var ownMark = sync.OnceValues(func() (uint64, error) {
	own, err := markOf(int32(syscall.Getpid()))
	if own == 0 && err == nil {
		err = errNoProcess
	}
	return own, err
})

var errNoProcess error = problem("the kernel does not tell when this process started", errors.ErrUnsupported)

// What kern.proc.pid answers: a struct kinfo_proc, of which these are used.
const (
	kinfoSize    = 648
	kinfoSeconds = 0  // start time, i64
	kinfoMicros  = 8  // and microseconds, i32
	kinfoStatus  = 36 // u8
	kinfoPID     = 40 // i32
	statusZombie = 5
)

// markOf asks the kernel for the mark of a process. It is 0 for one that is
// not there any more.
func markOf(pid int32) (uint64, error) {
	const ctlKern, kernProc, kernProcPID = 1, 14, 1
	mib := [4]int32{ctlKern, kernProc, kernProcPID, pid}
	var info [kinfoSize]byte
	n := uintptr(len(info))
	_, _, e := syscall.Syscall6(syscall.SYS___SYSCTL, uintptr(unsafe.Pointer(&mib)), uintptr(len(mib)), uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&n)), 0, 0)
	o := binary.NativeEndian
	switch {
	case e == syscall.ESRCH, e == 0 && n == 0:
		return 0, nil
	case e != 0:
		return 0, e
	case n != kinfoSize || o.Uint32(info[kinfoPID:]) != uint32(pid):
		return 0, errNoProcess
	case info[kinfoStatus] == statusZombie:
		return 0, nil
	}
	start := checksum(info[kinfoSeconds : kinfoMicros+4])
	return uint64(pid)<<32 | uint64(uint32(start^start>>32)), nil
}

// ---- Memory and waiting ----

// detach replaces shared pages by private zero pages in one system call, so
// that the segment is let go at once while a reader may still be at it: what
// it reads there, no recheck accepts.
func (b *block) detach() error {
	const prot, flags = syscall.PROT_READ | syscall.PROT_WRITE, syscall.MAP_FIXED | syscall.MAP_PRIVATE | syscall.MAP_ANON
	_, _, e := syscall.Syscall6(syscall.SYS_MMAP, uintptr(b.base), uintptr(b.size), prot, flags, ^uintptr(0), 0)
	if e != 0 {
		return e
	}
	return nil
}

func (b *block) bytes() []byte { return unsafe.Slice((*byte)(b.base), b.size) }

// unmap gives the address range back. Nothing may hold a pointer into it.
func (b *block) unmap() { syscall.Munmap(b.bytes()) }

// sleepOnWord polls, with naps of 1 to 5 ms, until *addr is not val or d is
// over.
func sleepOnWord(addr *uint32, val uint32, d time.Duration) {
	nap := time.Millisecond
	for end := clockNow() + int64(d); atomic.LoadUint32(addr) == val; {
		left := time.Duration(end - clockNow())
		if left <= 0 {
			return
		}
		time.Sleep(min(nap, left))
		nap = min(nap*2, 5*time.Millisecond)
	}
}

// wakeWord has nothing to do: sleepers look for themselves.
func wakeWord(*uint32) {}

// nanotime is the clock under the monotonic readings of package time, which
// are relative to the start of a process. Here the absolute value is needed.
//
//go:linkname nanotime runtime.nanotime
func nanotime() int64

// clockNow reads, in nanoseconds, the clock that TTLs and ages run on: shared
// by the processes of one boot, and never stepped.
func clockNow() int64 { return nanotime() }

func processID() int { return syscall.Getpid() }
func userID() int    { return syscall.Geteuid() }

// shmOpenCall makes the system call, which no package wraps.
func shmOpenCall(name string, mode int) (int, error) {
	path, err := syscall.BytePtrFromString("/" + name)
	if err != nil {
		return -1, err
	}
	fd, _, e := syscall.Syscall(syscall.SYS_SHM_OPEN, uintptr(unsafe.Pointer(path)), uintptr(mode), 0o600)
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}
