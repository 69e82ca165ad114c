package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"orbit"
)

// labels is how many subjects are contended for.
const labels = 3

func label(i int) string { return fmt.Sprintf("subject %d", i) }

// subject is what is contended for.
type subject struct{}

func (subject) OrbitKind() uint8 { return 5 }

// A board is a file that all processes of the storm map. On it are the fence,
// which is what the guards guard: for each subject the largest token that a
// holder has shown; and what each scenario has done, of which the killed cannot
// tell in another way.
type board []uint64

const boardSize = (labels + len(scenarios)) * 8

func mapBoard(path string) (board, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(int64(boardSize)); err != nil {
		return nil, err
	}
	mem, err := syscall.Mmap(int(f.Fd()), 0, boardSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(mem))), boardSize/8), nil
}

func (b board) fence() []uint64           { return b[:labels] }
func (b board) done(scenario int) *uint64 { return &b[labels+scenario] }

// contend claims subjects for a while, shows the fence its tokens, renews,
// and lets go, or lets its time run out.
func (a *actorState) contend() error {
	c, err := orbit.OpenContest(a.fleet)
	if err != nil {
		return err
	}
	fence := a.board.fence()
	for !a.done.Load() {
		i := rand.IntN(labels)
		ttl := time.Duration(1+rand.IntN(20)) * time.Millisecond
		g, err := orbit.Claim[subject](c, label(i), fmt.Sprintf("process %d", os.Getpid()), ttl)
		a.did(1)
		if errors.Is(err, orbit.ErrHeld) || errors.Is(err, orbit.ErrLapsed) || errors.Is(err, orbit.ErrBusy) {
			continue // it is held, or this process was stopped for too long meanwhile
		}
		if err != nil {
			return err
		}
		show(&fence[i], g)
		for range rand.IntN(50) {
			guarded(&fence[i], g)
		}
		if rand.IntN(2) == 0 {
			if err := g.Renew(ttl); err != nil && !errors.Is(err, orbit.ErrLapsed) {
				return err
			}
			guarded(&fence[i], g)
		}
		if rand.IntN(4) == 0 {
			time.Sleep(ttl) // let it lapse
		}
		guarded(&fence[i], g)
		if err := g.Release(); err != nil && !errors.Is(err, orbit.ErrLapsed) {
			return err
		}
	}
	return nil
}

// show raises the fence to a guard's token, as its first use of the resource.
func show(word *uint64, g *orbit.Guard) {
	for {
		seen := atomic.LoadUint64(word)
		if seen == g.Token() {
			violation("contest: token %d was handed out twice", seen)
		}
		if seen >= g.Token() {
			break
		}
		if atomic.CompareAndSwapUint64(word, seen, g.Token()) {
			return
		}
	}
	guarded(word, g)
}

// guarded checks that a guard is not valid once the fence has seen a later one:
// then two would be valid at once. The fence is looked at first.
func guarded(word *uint64, g *orbit.Guard) {
	if seen := atomic.LoadUint64(word); seen > g.Token() && g.Valid() {
		violation("contest: the guard with token %d is valid after one with token %d was", g.Token(), seen)
	}
}
