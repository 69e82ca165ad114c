//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"orbit"
	"orbit/internal/overlay/step"
)

// roleEnv makes a process an actor: "SCENARIO SLOT FLEET STEPPED FAULT", the
// last the name of a fault to commit or nothing.
const roleEnv = "ORBIT_LINEAR_ROLE"

// An actor is a process of a crew.
type actor struct {
	slot   int
	book   *notebook
	player player
	steps  atomic.Int64
	kill   int64 // the step before which it kills itself, 0 for none
	stop   int64 // the step before which it stops itself
	drag   int   // at how many of 1024 steps it is held up
	acting atomic.Bool
}

// play is the life of an actor: it plays a part in one history after the
// other until its standard input ends.
func play(role string) error {
	var name, fleet string
	var stepped bool
	a := &actor{}
	if _, err := fmt.Sscan(role, &name, &a.slot, &fleet, &stepped); err != nil {
		return err
	}
	step.Fault = strings.TrimSpace(strings.SplitN(role, " ", 5)[4])
	s := find(name)
	f, err := orbit.Join(fleet, s.options(stepped))
	if err != nil {
		return err
	}
	defer f.Close()
	if a.player, err = s.open(f); err != nil {
		return err
	}
	if a.book, err = mapNotebook(os.NewFile(3, "notebook")); err != nil {
		return err
	}
	step.Before = func(k step.Kind, _ unsafe.Pointer) { a.hinder(k) }
	step.System = func(string) { a.hinder(step.Call) }
	fmt.Println("ready", orbitAhead())
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var round, seed uint64
		var ops int
		if _, err := fmt.Sscan(in.Text(), &round, &seed, &ops, &a.kill, &a.stop); err != nil {
			return err
		}
		if err := a.playHistory(round, seed, ops); err != nil {
			return err
		}
		fmt.Println("done")
	}
	return nil
}

func (a *actor) playHistory(round, seed uint64, ops int) error {
	a.player.forget()
	a.drag = 8 << (seed % 6)
	a.steps.Store(0)
	a.acting.Store(true)
	var errs [lanesEach]error
	var wait sync.WaitGroup
	for i := range lanesEach {
		n := a.slot*lanesEach + i
		l := &lane{Rand: rand.New(rand.NewPCG(seed, uint64(n))), page: &a.book.pages[n], number: n, round: round}
		wait.Add(1)
		go func() {
			defer wait.Done()
			for range ops {
				if errs[i] = a.player.act(l); errs[i] != nil {
					return
				}
				dawdle(l.Rand)
			}
		}()
	}
	wait.Wait()
	a.acting.Store(false)
	atomic.StoreUint64(&a.book.steps[a.slot], uint64(a.steps.Load()))
	return errors.Join(errs[:]...)
}

// dawdle lets others go first now and then, so that lanes meet.
func dawdle(r *rand.Rand) {
	switch n := r.IntN(16); {
	case n < 2:
		nap(20 + r.IntN(80))
	case n < 6:
		runtime.Gosched()
	case n < 10:
		syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0)
	}
}

func nap(microseconds int) {
	t := syscall.NsecToTimespec(int64(microseconds) * 1000)
	syscall.Nanosleep(&t, nil)
}

// hinder is called before every step that an instrumented copy of package
// orbit makes in shared memory or in the kernel. What was read before a
// compare-and-swap is what others may change meanwhile: there the process is
// held up most.
func (a *actor) hinder(k step.Kind) {
	if !a.acting.Load() {
		return
	}
	switch n := a.steps.Add(1); n {
	case a.kill:
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case a.stop:
		atomic.AddUint64(&a.book.stops, 1)
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	}
	drag := a.drag
	if k == step.Compare {
		drag *= 8
	}
	switch n := rand.IntN(1024); {
	case n < drag/8:
		nap(20 + rand.IntN(100))
	case n < drag:
		syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0)
	}
}
