//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// bench is one run: its effort, the peers that are there, and what must be
// cleared away at its end, whenever that comes.
type bench struct {
	effort
	dir       string
	addresses map[string]string // of servers, by peer
	progress  io.Writer

	mu       sync.Mutex
	siblings []*sibling
	places   []func()
	serial   int
	closed   bool
}

// newBench makes a directory in shared memory, so that the peers that keep
// files write to memory as Orbit does.
func newBench(e effort, progress io.Writer) (*bench, error) {
	dir, err := os.MkdirTemp("/dev/shm", "bench-")
	if err != nil {
		return nil, err
	}
	return &bench{effort: e, dir: dir, addresses: map[string]string{}, progress: progress}, nil
}

// prefix begins the names of all places of this run.
func (b *bench) prefix() string { return filepath.Base(b.dir) }

func (b *bench) track(start func(order) (*sibling, error), o order) (*sibling, error) {
	b.open()
	defer b.mu.Unlock()
	s, err := start(o)
	if err == nil {
		b.siblings = append(b.siblings, s)
	}
	return s, err
}

// enter returns a fresh place for a peer, and the function that removes it.
func (b *bench) enter(p *peer) (place, func()) {
	b.open()
	defer b.mu.Unlock()
	b.serial++
	at := place{
		Dir: b.dir, Address: b.addresses[p.name], Name: fmt.Sprintf("%s.%d", b.prefix(), b.serial),
		Payload: value, Capacity: 4096, Subscribers: 1,
	}
	remove := sync.OnceFunc(func() {
		if p.remove != nil {
			p.remove(at)
		}
		files, _ := filepath.Glob(at.file(".*"))
		for _, f := range files {
			os.Remove(f)
		}
	})
	b.places = append(b.places, remove)
	return at, remove
}

// open locks the run to make something. Once the run is closed nothing is made
// any more: who would make it waits for the end of the process.
func (b *bench) open() {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		select {}
	}
}

// close ends the siblings and servers, and removes all that the run made.
func (b *bench) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.closed = true
	var ends sync.WaitGroup
	for _, s := range b.siblings {
		ends.Go(s.end)
	}
	ends.Wait()
	for _, remove := range b.places {
		remove()
	}
	b.sweep()
}

// sweep removes the segments and files of this run whoever uses them. A run
// that is interrupted is still a member of its fleets, which then cannot be
// removed by name.
func (b *bench) sweep() {
	segments, _ := filepath.Glob("/dev/shm/orbit-" + b.prefix() + ".*")
	for _, s := range segments {
		os.Remove(s)
	}
	os.RemoveAll(b.dir)
}

// closeWhenInterrupted closes the run and ends the process if a signal says
// so, until it is undone.
func (b *bench) closeWhenInterrupted() (undo func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		if _, interrupted := <-signals; interrupted {
			b.close()
			time.Sleep(50 * time.Millisecond) // for a job in the midst of making something
			b.sweep()
			os.Exit(130)
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}

// guard runs a server under a guard, waits until its socket answers, and
// returns its version, which stands behind a label in what it says of it.
func (b *bench) guard(socket, label string, command ...string) (version string, err error) {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return "", fmt.Errorf("no program %q", command[0])
	}
	said, _ := exec.Command(path, "--version").Output()
	if _, rest, found := strings.Cut(string(said), label); found {
		version, _, _ = strings.Cut(strings.TrimSpace(rest), " ")
	}
	guard, _, err := b.spawn(order{Role: "guard", Command: append([]string{path}, command[1:]...)})
	if err != nil {
		return "", err
	}
	for range 500 {
		if c, err := net.Dial("unix", socket); err == nil {
			return version, c.Close()
		}
		if _, err := tally(guard); err != nil {
			return "", err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "", fmt.Errorf("%s does not answer at %s", command[0], socket)
}

// serve starts the servers of the peers that are wanted, and sorts the peers
// into those that are there and those that are missing.
func (b *bench) serve(wanted *regexp.Regexp, r *results) (there []*peer) {
	for _, p := range peers {
		if !wanted.MatchString(p.name) {
			continue
		}
		n := peerNotes{Name: p.name, Class: p.class, Does: p.does(), Notes: p.notes}
		if p.serve != nil {
			address, version, err := p.serve(b)
			if err != nil {
				r.Missing = append(r.Missing, missing{p.name, err.Error()})
				continue
			}
			b.addresses[p.name] = address
			n.Version = version
		}
		r.Peers = append(r.Peers, n)
		there = append(there, p)
	}
	return there
}

// run does the jobs that are wanted for every peer that can do them.
func (b *bench) run(list []job, peers []*peer, r *results) error {
	before, err := b.atomicAdd()
	if err != nil {
		return err
	}
	for _, j := range list {
		g := group{Name: j.name, Title: j.title, Rate: j.shows&asRate != 0, Chart: j.shows&inChart != 0}
		for _, p := range peers {
			if !j.can(p) {
				continue
			}
			start := time.Now()
			f, err := j.run(b, p)
			f.Job, f.Peer = j.name, p.name
			if err != nil {
				f = figure{Job: j.name, Peer: p.name, Error: err.Error()}
				r.Failed++
			}
			g.Figures = append(g.Figures, f)
			fmt.Fprintf(b.progress, "%-28s %-24s %10s %6.1fs %s\n", j.name, p.name, duration(f.Nanos), time.Since(start).Seconds(), f.Error)
		}
		r.Groups = append(r.Groups, g)
	}
	after, err := b.atomicAdd()
	r.relate(before.Nanos, after.Nanos)
	if r.Failed > 0 {
		return errors.Join(err, fmt.Errorf("%d measurements failed", r.Failed))
	}
	return err
}
