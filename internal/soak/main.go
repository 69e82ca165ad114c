// Soak is a storm of real processes over the rings of one fleet: writers and
// readers that are killed, stopped, resumed and replaced at random, while every
// payload verifies itself and every cursor accounts for every counter. It
// prints a table and fails if anything in it must not be there.
//
//	go run ./internal/soak -for 10m
package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"orbit"
)

func main() {
	length := flag.Duration("for", time.Minute, "how long to run")
	processes := flag.Int("n", 9, "processes at a time, a third of them readers")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the storm")
	flag.Parse()
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(play(role))
	}
	if err := soak(*length, *processes, *seed, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// rings are what the storm passes over, by kind: tiny rings, where writers lap
// each other at once, and larger ones with payloads that take time to copy.
var rings = map[uint8]orbit.Geometry{
	1: {Capacity: 2, PayloadLimit: 64},
	2: {Capacity: 8, PayloadLimit: 1 << 10},
	3: {Capacity: 64, PayloadLimit: 16 << 10},
	4: {Capacity: 1024, PayloadLimit: 256},
}

func options() orbit.Options { return orbit.Options{Size: 64, Rings: rings} }

// totals is what came out of a storm.
type totals struct {
	processes, kills, stops int
	writers, readers        int // that lived to report
	published, delivered    uint64
	overwritten             uint64
	holes, lost             uint64
	torn, unaccounted       uint64
	wedged                  int
	violations              []string
}

func (t *totals) violate(format string, args ...any) {
	t.violations = append(t.violations, fmt.Sprintf(format, args...))
}

// soak runs a storm and prints what came of it.
func soak(length time.Duration, processes int, seed uint64, out interface{ Write([]byte) (int, error) }) error {
	fleet := fmt.Sprintf("soak%d", os.Getpid())
	f, err := orbit.Join(fleet, options())
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		orbit.Remove(fleet)
	}()
	var t totals
	storm := &storm{fleet: fleet, totals: &t, random: rand.New(rand.NewPCG(seed, 0))}
	err = storm.blow(length, processes)
	storm.calm()
	if err != nil {
		return err
	}
	if err := t.inspect(f); err != nil {
		return err
	}
	f.Close()
	if err := orbit.Remove(fleet); err != nil {
		t.violate("remove: %v", err)
	}
	t.print(out, length, seed)
	if t.torn+t.unaccounted+uint64(t.wedged) > 0 || len(t.violations) > 0 {
		return errors.New("the storm did damage")
	}
	return nil
}

// inspect looks at what the storm left: every slot must be free again after
// two laps, and nobody but this process may be a member.
func (t *totals) inspect(f *orbit.Fleet) error {
	for kind, g := range rings {
		r, err := f.Ring(kind)
		if err != nil {
			return err
		}
		for range 2 * g.Capacity {
			if _, err := r.Publish(0, 0, nil); err != nil {
				t.violate("ring %d: publish after the storm: %v", kind, err)
				break
			}
		}
		s, err := r.Stats()
		if err != nil {
			return err
		}
		t.wedged += s.Pending + s.Lost + s.Holes
	}
	members, err := f.Members()
	if len(members) != 1 || err != nil {
		t.violate("members after the storm: %v, %v", members, err)
	}
	return nil
}

func (t *totals) print(out interface{ Write([]byte) (int, error) }, length time.Duration, seed uint64) {
	row := func(name string, n any) { fmt.Fprintf(out, "%-28s %12v\n", name, n) }
	fmt.Fprintf(out, "storm of %v, seed %d\n", length, seed)
	row("processes", t.processes)
	row("kills", t.kills)
	row("stops", t.stops)
	row("writers that reported", t.writers)
	row("readers that reported", t.readers)
	row("published by those", t.published)
	row("delivered to those", t.delivered)
	row("overwritten", t.overwritten)
	row("holes", t.holes)
	row("lost", t.lost)
	row("torn", t.torn)
	row("unaccounted", t.unaccounted)
	row("wedged slots", t.wedged)
	row("violations", len(t.violations))
	for _, v := range t.violations {
		fmt.Fprintln(out, "  ", v)
	}
}

// ---- The storm ----

type storm struct {
	fleet  string
	totals *totals
	random *rand.Rand
	procs  []*actor
}

// An actor is a running writer or reader.
type actor struct {
	*exec.Cmd
	role    string
	stdin   interface{ Close() error }
	output  *strings.Builder
	stopped bool
}

func (s *storm) start(role string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	a := &actor{Cmd: exec.Command(self), role: role, output: &strings.Builder{}}
	if prefix := strings.Fields(os.Getenv("ORBIT_TEST_EXEC")); len(prefix) > 0 {
		a.Cmd = exec.Command(prefix[0], append(prefix[1:], self)...)
	}
	a.Env = append(os.Environ(), roleEnv+"="+role+" "+s.fleet)
	a.Cmd.Stdout, a.Cmd.Stderr = a.output, os.Stderr
	if a.stdin, err = a.StdinPipe(); err != nil {
		return err
	}
	if err := a.Start(); err != nil {
		return err
	}
	s.totals.processes++
	s.procs = append(s.procs, a)
	return nil
}

// blow starts the processes and kills, stops and resumes them at random.
func (s *storm) blow(length time.Duration, n int) error {
	for i := range n {
		if err := s.start(roles[min(i%3, 1)]); err != nil {
			return err
		}
	}
	for start := time.Now(); time.Since(start) < length; {
		time.Sleep(time.Duration(s.random.IntN(int(10 * time.Millisecond))))
		i := s.random.IntN(len(s.procs))
		a := s.procs[i]
		switch s.random.IntN(5) {
		case 0:
			a.Process.Signal(syscall.SIGKILL)
			a.Wait()
			s.totals.kills++
			s.procs = append(s.procs[:i], s.procs[i+1:]...)
			if err := s.start(a.role); err != nil {
				return err
			}
		case 1, 2:
			if !a.stopped {
				a.Process.Signal(syscall.SIGSTOP)
				a.stopped = true
				s.totals.stops++
			}
		default:
			if a.stopped {
				a.Process.Signal(syscall.SIGCONT)
				a.stopped = false
			}
		}
	}
	return nil
}

// calm lets all who live end by themselves, and adds up what they report.
func (s *storm) calm() {
	for _, a := range s.procs {
		a.Process.Signal(syscall.SIGCONT)
	}
	for _, a := range s.procs {
		a.stdin.Close()
	}
	for _, a := range s.procs {
		overdue := time.AfterFunc(30*time.Second, func() {
			a.Process.Signal(syscall.SIGQUIT) // with a picture of where it hangs
		})
		if err := a.Wait(); err != nil {
			s.totals.violate("%s: %v: %s", a.role, err, a.output)
		}
		overdue.Stop()
		s.totals.add(a)
	}
}

func (t *totals) add(a *actor) {
	var r report
	if _, err := fmt.Sscan(a.output.String(), &r.published, &r.delivered, &r.overwritten, &r.holes, &r.lost, &r.torn, &r.unaccounted); err != nil {
		t.violate("%s reported %q", a.role, a.output)
		return
	}
	if a.role == roles[0] {
		t.readers++
	} else {
		t.writers++
	}
	t.published += r.published
	t.delivered += r.delivered
	t.overwritten += r.overwritten
	t.holes += r.holes
	t.lost += r.lost
	t.torn += r.torn
	t.unaccounted += r.unaccounted
}
