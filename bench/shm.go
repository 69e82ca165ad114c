//go:build linux

package main

import (
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// shm is bare shared memory, on which the floors stand.
type shm []byte

// openShm maps a file of a size, made if it is not there, with every page
// present from the start, as Orbit's are.
func openShm(path string, size int) (shm, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, int64(size)); err != nil {
		return nil, &os.PathError{Op: "fallocate", Path: path, Err: err}
	}
	return syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED|syscall.MAP_POPULATE)
}

func (m shm) Close() error { return syscall.Munmap(m) }

func (m shm) at(off int) *uint64           { return (*uint64)(unsafe.Pointer(&m[off])) }
func (m shm) load(off int) uint64          { return atomic.LoadUint64(m.at(off)) }
func (m shm) storeAt(off int, v uint64)    { atomic.StoreUint64(m.at(off), v) }
func (m shm) add(off int, n uint64) uint64 { return atomic.AddUint64(m.at(off), n) }

// slots are of equal size and follow a page of header.
type slots struct {
	shm
	stride, capacity int
}

const (
	slotHeader = 16
	shmHeader  = 4096
	headOffset = 256
)

func openSlots(at place, suffix string) (slots, error) {
	stride := (slotHeader + at.Payload + 63) &^ 63
	m, err := openShm(at.file(suffix), shmHeader+at.Capacity*stride)
	return slots{m, stride, at.Capacity}, err
}

// slot returns where the slot of a counter begins.
func (s slots) slot(counter uint64) int {
	return shmHeader + int(counter&uint64(s.capacity-1))*s.stride
}
