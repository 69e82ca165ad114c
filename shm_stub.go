//go:build !darwin && (!linux || mips || mipsle || (arm && !arm.7))

package orbit

import (
	"errors"
	"syscall"
	"time"
)

// Systems without POSIX shared memory that this package knows how to use, and
// processors whose 64-bit atomics take a lock in the memory of the process:
// shared fleets are an error, process-local fleets work.

const (
	maxSegmentName = 255
	nodeTableLen   = 0
)

// errNoShared matches errors.ErrUnsupported.
var errNoShared error = problem("shared fleets need Linux or macOS; Local works everywhere", errors.ErrUnsupported)

type shmFile struct{ size int64 }

func shmCreate(string, *segmentHeader) error { return errNoShared }
func shmOpen(string, bool) (*shmFile, error) { return nil, errNoShared }
func shmUnlink(string) error                 { return errNoShared }
func shmList(string) ([]string, error)       { return nil, errNoShared }
func shmSize(string) (int64, bool)           { return 0, false }

// No shmFile is ever opened, so nothing calls these.

func (f *shmFile) readHeader([]byte) (int, error)      { return 0, errNoShared }
func (f *shmFile) mapSegment(int, bool) (block, error) { return block{}, errNoShared }
func (f *shmFile) linked() bool                        { return false }
func (f *shmFile) close()                              {}

func (f *shmFile) lockSeat(int, *uint64) (bool, error)            { return false, errNoShared }
func (f *shmFile) unlockSeat(int, *uint64)                        {}
func (f *shmFile) seatHeld(int, *uint64) (bool, error)            { return false, errNoShared }
func (f *shmFile) lockNode(uint16, *uint64) (bool, error)         { return false, errNoShared }
func (f *shmFile) unlockNode(uint16, *uint64)                     {}
func (f *shmFile) lockFleet(int, func(int) *uint64) (bool, error) { return false, errNoShared }
func (f *shmFile) unlockFleet(int, func(int) *uint64)             {}

func (b *block) detach() error                   { return errNoShared }
func (b *block) unmap()                          {}
func sleepOnWord(*uint32, uint32, time.Duration) {}
func wakeWord(*uint32)                           {}

func processID() int { return syscall.Getpid() }

// userID is 0 on systems that number no users.
func userID() int { return max(syscall.Geteuid(), 0) }

// clockStart anchors the clock of this process: no other shares it here.
var clockStart = time.Now()

func clockNow() int64 { return int64(time.Since(clockStart)) + 1 }
