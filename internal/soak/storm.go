package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A row is what became of the processes of a scenario.
type row struct {
	processes, kills, stops int
	operations              uint64
	torn                    uint64
	wedged                  uint64
	unaccounted             uint64
	violations              []string
}

func (r *row) add(o *row) {
	r.processes += o.processes
	r.kills += o.kills
	r.stops += o.stops
	r.operations += o.operations
	r.torn += o.torn
	r.wedged += o.wedged
	r.unaccounted += o.unaccounted
	r.violations = append(r.violations, o.violations...)
}

func (r *row) violate(format string, args ...any) {
	r.violations = append(r.violations, fmt.Sprintf(format, args...))
}

// A storm is the processes that are up, and what became of all there were.
type storm struct {
	fleet  string
	board  string // the file that all of them map
	random *rand.Rand
	rows   [len(scenarios)]row
	procs  []*actor
}

// An actor is a process that is up.
type actor struct {
	*exec.Cmd
	scenario int
	stdin    interface{ Close() error }
	output   *bytes.Buffer
	stopped  bool
}

func (s *storm) start(scenario int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	a := &actor{Cmd: exec.Command(self), scenario: scenario, output: &bytes.Buffer{}}
	if prefix := strings.Fields(os.Getenv("ORBIT_TEST_EXEC")); len(prefix) > 0 {
		a.Cmd = exec.Command(prefix[0], append(prefix[1:], self)...)
	}
	a.Env = append(os.Environ(), roleEnv+"="+scenarios[scenario].name, fleetEnv+"="+s.fleet, boardEnv+"="+s.board)
	a.Cmd.Stdout, a.Cmd.Stderr = a.output, os.Stderr
	if a.stdin, err = a.StdinPipe(); err != nil {
		return err
	}
	if err := a.Start(); err != nil {
		return err
	}
	// The actors never rest; who kills and starts them must get its turn.
	syscall.Setpriority(syscall.PRIO_PROCESS, a.Process.Pid, 5)
	s.rows[scenario].processes++
	s.procs = append(s.procs, a)
	return nil
}

// blow starts the processes and kills, stops and resumes them at random.
func (s *storm) blow(length time.Duration, each int) error {
	for i := range each * len(scenarios) {
		if err := s.start(i % len(scenarios)); err != nil {
			return err
		}
	}
	for start := time.Now(); time.Since(start) < length; {
		time.Sleep(time.Duration(s.random.IntN(int(5 * time.Millisecond))))
		i := s.random.IntN(len(s.procs))
		a := s.procs[i]
		switch s.random.IntN(6) {
		case 0, 1:
			s.procs = append(s.procs[:i], s.procs[i+1:]...)
			s.kill(a)
			if err := s.start(a.scenario); err != nil {
				return err
			}
		case 2, 3:
			if !a.stopped {
				a.Process.Signal(syscall.SIGSTOP)
				a.stopped = true
				s.rows[a.scenario].stops++
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

// kill ends a process, which may have found a violation before, or have ended
// by itself, as none may.
func (s *storm) kill(a *actor) {
	a.Process.Kill()
	err := a.Wait()
	r := &s.rows[a.scenario]
	r.kills++
	if status, ok := a.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		r.violate("%s: ended before it was killed: %v", scenarios[a.scenario].name, err)
	}
	r.hear(a)
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
		err := a.Wait()
		overdue.Stop()
		r := &s.rows[a.scenario]
		if err != nil {
			r.violate("%s: %v", scenarios[a.scenario].name, err)
		}
		if !r.hear(a) {
			r.violate("%s: it does not say that it came to its end", scenarios[a.scenario].name)
		}
	}
}

// hear adds what an actor told of, and returns whether it came to its end.
func (r *row) hear(a *actor) (ended bool) {
	for lines := bufio.NewScanner(a.output); lines.Scan(); {
		switch what, _, _ := strings.Cut(lines.Text(), ":"); what {
		case wellDone:
			ended = true
			continue
		case torn:
			r.torn++
		case unaccounted:
			r.unaccounted++
		}
		r.violate("%s: %s", scenarios[a.scenario].name, lines.Text())
	}
	return ended
}
