//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"orbit"
)

// An order tells a sibling what to do. It is the program's only argument
// behind the word sibling.
type order struct {
	Role    string
	Peer    string
	Place   place
	Rate    float64  // operations per second, idle or flatOut
	Batch   int      // messages sent at once
	Count   int      // how often to join
	Command []string // of a server
}

const (
	idle    = 0.0
	flatOut = -1.0
)

// A report is what a sibling answers: at first, when it is ready, and to each
// line it gets.
type report struct {
	Count     uint64 // operations done
	Tries     uint64 // operations tried
	Lost      uint64 // messages that were sent and never came
	Torn      uint64 // messages that were never sent in this form
	At        int64
	Mallocs   uint64
	Latencies []int64 // by message, 0 for one that never came; only in the last report
	Text      string
	Error     string
}

// A sibling is another process at work, or a goroutine if the peer is local.
type sibling struct {
	in   io.WriteCloser
	out  *json.Decoder
	kill func()
	once sync.Once
}

// spawn starts a sibling and waits until it is ready.
func (b *bench) spawn(o order) (*sibling, report, error) {
	start := startProcess
	if p := findPeer(o.Peer); p != nil && p.local() {
		start = startGoroutine
	}
	s, err := b.track(start, o)
	if err != nil {
		return nil, report{}, err
	}
	ready, err := s.hear()
	if err != nil {
		s.end()
		return nil, report{}, fmt.Errorf("sibling %q: %w", o.Role, err)
	}
	return s, ready, nil
}

func startProcess(o order) (*sibling, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	argument, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "sibling", string(argument))
	cmd.Stderr = os.Stderr
	// A Ctrl-C is for the parent alone, who ends its siblings in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	end := func() {
		in.Close()
		late := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		late.Stop()
	}
	return &sibling{in: in, out: json.NewDecoder(out), kill: end}, nil
}

func startGoroutine(o order) (*sibling, error) {
	inRead, inWrite := io.Pipe()
	outRead, outWrite := io.Pipe()
	gone := make(chan struct{})
	go func() {
		attend(o, inRead, outWrite)
		inRead.Close()
		outWrite.Close()
		close(gone)
	}()
	end := func() {
		inWrite.Close()
		outRead.Close()
		<-gone
	}
	return &sibling{in: inWrite, out: json.NewDecoder(outRead), kill: end}, nil
}

func (s *sibling) hear() (r report, err error) {
	if err := s.out.Decode(&r); err != nil {
		return r, err
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

// tally asks siblings how far they are: all of them first, for one that works
// flat out may take a while to answer.
func tally(siblings ...*sibling) ([]report, error) { return ask("tally", siblings) }

// stop asks siblings for their last reports.
func stop(siblings ...*sibling) ([]report, error) { return ask("stop", siblings) }

func ask(line string, siblings []*sibling) (reports []report, err error) {
	for _, s := range siblings {
		if _, err := fmt.Fprintln(s.in, line); err != nil {
			return nil, err
		}
	}
	reports = make([]report, len(siblings))
	for i, s := range siblings {
		if reports[i], err = s.hear(); err != nil {
			return nil, err
		}
	}
	return reports, nil
}

// end makes sure that the process is gone.
func (s *sibling) end() { s.once.Do(s.kill) }

// work is an order being carried out.
type work struct {
	order
	peer    *peer
	count   atomic.Uint64
	tries   atomic.Uint64
	lost    atomic.Uint64
	torn    atomic.Uint64
	stopped atomic.Bool
	ready   func()
	text    string // before ready

	mu        sync.Mutex
	latencies []int64
}

// attend carries out an order and answers the parent, until it says stop or is
// gone.
func attend(o order, in io.Reader, out io.Writer) error {
	ready, ended := make(chan struct{}), make(chan error, 1)
	w := &work{order: o, peer: findPeer(o.Peer), ready: sync.OnceFunc(func() { close(ready) })}
	answer := json.NewEncoder(out)
	go func() {
		err := roles[o.Role](w)
		if err == nil {
			w.ready()
		}
		ended <- err
	}()
	select {
	case <-ready:
	case err := <-ended:
		return answer.Encode(report{Error: err.Error()})
	}
	answer.Encode(w.report(nil))
	var err error
	lines := bufio.NewScanner(in)
	for lines.Scan() && lines.Text() != "stop" {
		select {
		case err = <-ended:
			ended <- err
		default:
		}
		answer.Encode(w.report(err))
	}
	w.stopped.Store(true)
	if !receives[o.Role] {
		err = <-ended
	}
	return answer.Encode(w.last(err))
}

func (w *work) report(err error) report {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r := report{
		Count: w.count.Load(), Tries: w.tries.Load(), Lost: w.lost.Load(), Torn: w.torn.Load(),
		At: int64(orbit.Now()), Mallocs: m.Mallocs, Text: w.text,
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

func (w *work) last(err error) report {
	r := w.report(err)
	w.mu.Lock()
	defer w.mu.Unlock()
	r.Latencies = append([]int64(nil), w.latencies...)
	return r
}
