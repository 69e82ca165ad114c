//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"orbit"
)

// A crew is the processes of a scenario, and the parent that sets the scene,
// kills, stops and resumes them, and collects what they wrote down.
type crew struct {
	*trial
	random *rand.Rand
	name   string
	fleet  *orbit.Fleet
	player player
	book   *notebook
	file   *os.File
	news   chan event
	hands  [processes]*hand
	round  uint64
	ahead  int64 // the parent's clock of the kernel's
	kills  int
	stops  int
}

// A hand is a process of the crew as its parent sees it.
type hand struct {
	*exec.Cmd
	slot   int
	stdin  io.WriteCloser
	stderr strings.Builder
	killed bool
	ahead  int64 // its clock of the kernel's
}

// An event is a line that a process printed, or its end.
type event struct {
	from *hand
	line string
	end  bool
}

var fleets atomic.Int64

func fleetPrefix() string { return fmt.Sprintf("linear%d", os.Getpid()) }

func newCrew(t *trial, seed uint64) (c *crew, err error) {
	c = &crew{
		trial:  t,
		random: rand.New(rand.NewPCG(seed, 1)),
		name:   fmt.Sprintf("%s.%d", fleetPrefix(), fleets.Add(1)),
		news:   make(chan event, 4*processes),
		ahead:  orbitAhead(),
	}
	if c.fleet, err = orbit.Join(c.name, t.scenario.options(t.stepped)); err != nil {
		return nil, err
	}
	if c.player, err = t.scenario.open(c.fleet); err == nil {
		c.book, c.file, err = newNotebook()
	}
	for slot := 0; slot < processes && err == nil; slot++ {
		err = c.start(slot)
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// start starts the process of a slot and waits until it has joined.
func (c *crew) start(slot int) (err error) {
	h := &hand{Cmd: exec.Command(c.binary), slot: slot}
	h.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %s %v %s", roleEnv, c.scenario.name, slot, c.name, c.stepped, c.fault))
	h.ExtraFiles = []*os.File{c.file}
	h.Stderr = &h.stderr
	if h.stdin, err = h.StdinPipe(); err != nil {
		return err
	}
	out, err := h.StdoutPipe()
	if err != nil {
		return err
	}
	if err := h.Start(); err != nil {
		return err
	}
	c.hands[slot] = h
	go func() {
		for in := bufio.NewScanner(out); in.Scan(); {
			c.news <- event{from: h, line: in.Text()}
		}
		c.news <- event{from: h, end: true}
	}()
	e := <-c.news
	if _, err := fmt.Sscanf(e.line, "ready %d", &h.ahead); err != nil || e.from != h {
		return fmt.Errorf("process %d did not get ready: %s", slot, &h.stderr)
	}
	return nil
}

// close ends all processes and removes the fleet.
func (c *crew) close() (err error) {
	for _, h := range c.hands {
		if h != nil {
			h.Process.Kill()
			h.Wait()
		}
	}
	if c.file != nil {
		c.file.Close()
		unmapNotebook(c.book)
	}
	c.fleet.Close()
	return orbit.Remove(c.name)
}

// play has the crew play one history of so many operations a lane.
func (c *crew) play(ops int) (*history, error) {
	for slot, h := range c.hands {
		if h == nil {
			if err := c.start(slot); err != nil {
				return nil, err
			}
		}
	}
	c.round++
	c.book.clear()
	l := &lane{Rand: c.random, page: &c.book.pages[setter], number: setter, round: c.round}
	if err := c.player.begin(l); err != nil {
		return nil, fmt.Errorf("set the scene: %w", err)
	}
	stops := atomic.LoadUint64(&c.book.stops)
	var ids [processes]int
	ahead := map[int]int64{os.Getpid(): c.ahead}
	doomed := -1 // who is to die in this history
	if c.round%3 == 2 {
		doomed = c.random.IntN(processes)
	}
	for slot, h := range c.hands {
		ids[slot] = h.Process.Pid
		ahead[ids[slot]] = h.ahead
		kill, stop := uint64(0), uint64(0)
		if steps := atomic.LoadUint64(&c.book.steps[slot]); steps > 0 {
			if c.random.IntN(3) == 0 {
				stop = 1 + c.random.Uint64N(steps)
			}
			if slot == doomed {
				kill = 1 + c.random.Uint64N(steps)
			}
		}
		fmt.Fprintln(h.stdin, c.round, c.random.Uint64(), ops, kill, stop)
	}
	died, err := c.storm(doomed)
	c.stops += int(atomic.LoadUint64(&c.book.stops) - stops)
	if err != nil {
		return nil, err
	}
	return c.book.history(c.round, ids, died, ahead)
}

// storm kills, stops and resumes processes until all have played their part,
// and returns when those died that did. In the instrumented program it is the
// processes that kill themselves, in the middle of an operation.
func (c *crew) storm(doomed int) (died map[int]int64, err error) {
	died = map[int]int64{}
	var at [processes]bool // who is at it still
	for i := range at {
		at[i] = true
	}
	start := time.Now()
	deathAt := time.Duration(100+c.random.IntN(6000)) * time.Microsecond
	tick := time.NewTimer(0)
	defer tick.Stop()
	for at != [processes]bool{} {
		select {
		case e := <-c.news:
			if e.end {
				err = errors.Join(err, c.bury(e.from, died))
			}
			at[e.from.slot] = e.from.killed && !e.end // the end of the killed is still to come
		case <-tick.C:
			tick.Reset(time.Duration(200+c.random.IntN(4000)) * time.Microsecond)
			slot := c.random.IntN(processes)
			switch elapsed := time.Since(start); {
			case elapsed > patience:
				c.signal(at, syscall.SIGCONT)
				c.signal(at, syscall.SIGQUIT) // with a picture of where they hang
			case !c.stepped && doomed >= 0 && at[doomed] && elapsed > deathAt:
				c.hands[doomed].killed = true
				c.hands[doomed].Process.Kill()
				doomed = -1
			case at[slot] && elapsed < 20*time.Millisecond && c.random.IntN(3) == 0:
				c.hands[slot].Process.Signal(syscall.SIGSTOP)
				c.stops++
			default:
				c.signal(at, syscall.SIGCONT)
			}
		}
	}
	// Some may have been stopped when they had played their part already.
	c.signal([processes]bool{true, true, true, true}, syscall.SIGCONT)
	return died, err
}

// patience is how long a history may take.
const patience = 30 * time.Second

func (c *crew) signal(to [processes]bool, s syscall.Signal) {
	for slot, h := range c.hands {
		if h != nil && to[slot] {
			h.Process.Signal(s)
		}
	}
}

// bury waits for a process that ended, which must have been killed.
func (c *crew) bury(h *hand, died map[int]int64) error {
	h.Wait()
	died[h.Process.Pid] = now()
	c.hands[h.slot] = nil
	status, ok := h.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		return fmt.Errorf("process %d: %v: %s", h.slot, h.ProcessState, &h.stderr)
	}
	c.kills++
	return nil
}
