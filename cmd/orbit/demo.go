package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"orbit"
)

// demo starts real sibling processes that share one fleet, shows what they say
// of themselves, kills one of them, and starts another in its place.
func demo(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("orbit demo", flag.ContinueOnError)
	n := flags.Int("n", 3, "siblings to start, at least 2")
	length := flags.Duration("for", 10*time.Second, "how long to run, at least 4s")
	name := flags.String("fleet", fmt.Sprintf("demo-%d", os.Getpid()), "name of the fleet")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return errUsage
	}
	if *n < 2 || *n > 64 || *length < 4*time.Second || flags.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "orbit demo: want 2 to 64 siblings, at least 4s, and no arguments")
		return errUsage
	}
	d := &director{name: *name, siblings: *n, screen: newScreen(out), procs: map[int]*process{}}
	return d.run(ctx, *length)
}

// A director runs the demo: it is a member of the fleet that starts, kills and
// watches the others.
type director struct {
	name     string
	siblings int
	screen   *screen

	fleet   *orbit.Fleet
	facts   *facts
	procs   map[int]*process
	started int
	killed  killing
}

// A killing is what happened to the sibling that was killed.
type killing struct {
	pid      int
	node     uint16
	at       time.Time
	goneIn   time.Duration // from the signal until it was no member any more
	stored   uint64        // what its siblings had stored by then
	replaced int           // the process that took its place
}

// A process is a running sibling. It ends when its standard input does.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

func (d *director) run(ctx context.Context, length time.Duration) (err error) {
	fleet, err := orbit.Join(d.name, orbit.Options{Size: d.siblings + 1})
	if err != nil {
		return err
	}
	d.fleet = fleet
	defer func() { err = errors.Join(err, d.end()) }()
	if d.facts, err = bindFacts(fleet); err != nil {
		return err
	}
	d.screen.say("fleet %s: starting %d siblings for %v", d.screen.bold(d.name), d.siblings, length)
	cursor := d.facts.loads.Ring().Tail()
	before := cursor.Position()
	for range d.siblings {
		if _, err := d.start(); err != nil {
			return err
		}
	}
	if err := d.watch(ctx, cursor, length); err != nil {
		return err
	}
	if err := d.stop(); err != nil {
		return err
	}
	d.facts.count(cursor)
	d.summary(cursor, before, length)
	return nil
}

func (d *director) start() (pid int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, siblingCommand, d.name, fmt.Sprint(d.siblings+1))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	ready, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	d.procs[cmd.Process.Pid] = &process{cmd, stdin}
	d.started++
	if !bufio.NewScanner(ready).Scan() {
		return 0, fmt.Errorf("orbit: sibling %d did not join", cmd.Process.Pid)
	}
	return cmd.Process.Pid, nil
}

// watch shows the fleet until the time is over. A third of the way it kills a
// sibling, and half way it starts another.
func (d *director) watch(ctx context.Context, cursor *orbit.Cursor, length time.Duration) error {
	start := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for time.Since(start) < length {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if d.killed.pid == 0 && time.Since(start) > length/3 {
			if err := d.kill(); err != nil {
				return err
			}
		}
		if d.killed.pid != 0 && d.killed.replaced == 0 && time.Since(start) > length/2 {
			pid, err := d.start()
			if err != nil {
				return err
			}
			d.killed.replaced = pid
			d.screen.say("started process %d in its place", pid)
		}
		d.facts.count(cursor)
		members, err := d.fleet.Members()
		if err != nil {
			return err
		}
		d.screen.show(d.picture(members, time.Since(start)))
	}
	return nil
}

// kill kills one sibling as nothing can be caught, and measures how long the
// fleet takes it for a member.
func (d *director) kill() error {
	pid := d.victim()
	node, err := d.memberOf(pid)
	if err != nil {
		return err
	}
	d.killed = killing{pid: pid, node: node, at: time.Now(), stored: d.facts.totalBut(node)}
	if err := d.procs[pid].cmd.Process.Kill(); err != nil {
		return err
	}
	for node != 0 {
		if time.Since(d.killed.at) > 5*time.Second {
			return fmt.Errorf("orbit: process %d was killed 5 s ago and is still a member", pid)
		}
		time.Sleep(50 * time.Microsecond)
		if node, err = d.memberOf(pid); err != nil {
			return err
		}
	}
	d.killed.goneIn = time.Since(d.killed.at)
	d.procs[pid].cmd.Wait()
	delete(d.procs, pid)
	d.screen.say("killed process %d, node %d: no member any more after %v", pid, d.killed.node, d.killed.goneIn.Round(10*time.Microsecond))
	return nil
}

// memberOf returns the node of a process, 0 if it is no member.
func (d *director) memberOf(pid int) (uint16, error) {
	members, err := d.fleet.Members()
	for _, m := range members {
		if m.PID == pid {
			return m.Node, nil
		}
	}
	return 0, err
}

// victim chooses who is killed.
func (d *director) victim() int { return slices.Min(slices.Collect(maps.Keys(d.procs))) }

// stop has the siblings end by themselves.
func (d *director) stop() error {
	var failed error
	for pid, p := range d.procs {
		p.stdin.Close()
		if err := p.cmd.Wait(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("orbit: sibling %d: %w", pid, err))
		}
		delete(d.procs, pid)
	}
	return failed
}

// end leaves nothing behind, however the demo went.
func (d *director) end() error {
	for _, p := range d.procs {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	}
	d.fleet.Close()
	err := orbit.Remove(d.name)
	if errors.Is(err, orbit.ErrInUse) {
		return fmt.Errorf("%w (others joined the demo; remove the fleet when they have left)", err)
	}
	return err
}

func (d *director) picture(members []orbit.Member, elapsed time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%4.1fs  %d members, ring head %d\n", elapsed.Seconds(), len(members), d.facts.loads.Ring().Head())
	fmt.Fprintf(&b, "%6s %8s %10s %6s %8s %6s %8s\n", "node", "process", "since", "load", "stored", "sees", "age")
	for _, m := range members {
		if m.Node == d.fleet.Node() {
			continue
		}
		fmt.Fprintf(&b, "%6d %8d %10s %s\n", m.Node, m.PID, m.Since.Format("15:04:05"), d.facts.row(m.Node))
	}
	return b.String()
}

func (d *director) summary(cursor *orbit.Cursor, before uint64, length time.Duration) {
	tally, moved := cursor.Tally(), cursor.Position()-before
	say := d.screen.say
	say("")
	say("in %v:", length)
	say("  %6d values stored by %d processes, %d delivered here", moved, d.started, tally.Delivered)
	say("  %6d overwritten, %d holes, %d lost: %d accounted for of %d", tally.Overwritten, tally.Holes, tally.Lost, tally.Delivered+tally.Total(), moved)
	say("  process %d was killed with SIGKILL and no member %v later; its siblings went on: %d values since", d.killed.pid, d.killed.goneIn.Round(10*time.Microsecond), d.facts.totalBut(d.killed.node)-d.killed.stored)
	say("  process %d took its place; nothing is left in shared memory", d.killed.replaced)
}
