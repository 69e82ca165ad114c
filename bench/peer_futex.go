//go:build linux

package main

import (
	"math"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// mailbox is the floor of waking: one message in shared memory, and a futex
// that every sender wakes.
var mailbox = &peer{
	name:    "bare futex mailbox",
	class:   classFloor,
	notes:   []string{"one slot and a futex woken by each send; the next message overwrites the last; no safety"},
	sender:  func(at place) (sender, error) { return openMailbox(at) },
	sleeper: func(at place) (receiver, error) { return openMailbox(at) },
}

type futexBox struct {
	slots
	seen uint32
	buf  []byte
}

func openMailbox(at place) (*futexBox, error) {
	at.Capacity = 1
	s, err := openSlots(at, ".mailbox")
	if err != nil {
		return nil, err
	}
	m := &futexBox{slots: s, buf: make([]byte, at.Payload)}
	m.seen = atomic.LoadUint32(m.count())
	return m, nil
}

const (
	futexWait = 0
	futexWake = 1
)

// count is the word that sleepers wait to see change.
func (m *futexBox) count() *uint32 { return (*uint32)(unsafe.Pointer(m.at(headOffset))) }

func (m *futexBox) futex(op, value uintptr) (syscall.Errno, bool) {
	_, _, e := syscall.Syscall6(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(m.count())), op, value, 0, 0, 0)
	return e, e == 0 || e == syscall.EAGAIN || e == syscall.EINTR
}

func (m *futexBox) send(message []byte) error {
	copy(m.shm[m.slot(0)+slotHeader:], message)
	atomic.AddUint32(m.count(), 1)
	if e, fine := m.futex(futexWake, math.MaxInt32); !fine {
		return os.NewSyscallError("futex", e)
	}
	return nil
}

func (m *futexBox) receive(got func(message []byte)) error {
	for atomic.LoadUint32(m.count()) == m.seen {
		if e, fine := m.futex(futexWait, uintptr(m.seen)); !fine {
			return os.NewSyscallError("futex", e)
		}
	}
	m.seen = atomic.LoadUint32(m.count())
	s := m.slot(0) + slotHeader
	copy(m.buf, m.shm[s:s+len(m.buf)])
	got(m.buf)
	return nil
}
