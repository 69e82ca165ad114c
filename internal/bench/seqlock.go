package main

import (
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// seqlock is the floor: a shared ring without safety, with slots of the same
// size. A writer that is lapped while it writes tears a frame, one that is
// killed leaves a slot that nobody can explain.
type seqlock struct {
	name string
	mem  []byte
}

const (
	seqStride = 320
	seqHeader = 4096
)

func openSeqlock(name string) (*seqlock, error) {
	f, err := os.OpenFile("/dev/shm/orbit-"+name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const size = seqHeader + slots*seqStride
	if err := f.Truncate(size); err != nil {
		return nil, err
	}
	mem, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	return &seqlock{name, mem}, err
}

func (q *seqlock) remove() { os.Remove("/dev/shm/orbit-" + q.name) }

func (q *seqlock) word(off uint64) *uint64 { return (*uint64)(unsafe.Pointer(&q.mem[off])) }

func (q *seqlock) publish(p []byte) {
	c := atomic.AddUint64(q.word(256), 1) - 1
	s := seqHeader + c%slots*seqStride
	seq := q.word(s)
	atomic.StoreUint64(seq, c<<1)
	*q.word(s + 8) = uint64(len(p))
	*q.word(s + 16) = c
	copy(q.mem[s+24:], p)
	atomic.StoreUint64(seq, c<<1|1)
}
