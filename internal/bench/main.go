// Bench measures the kernel on this machine and prints one table: each figure
// in nanoseconds and as a ratio to one uncontended atomic add of the same run,
// beside a ring that is not safe: the plain seqlock, which claims by a
// fetch-and-add and takes no care of writers that are lapped, stopped or
// killed. Run it with
//
//	go run ./internal/bench
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"orbit"
)

// value is a small typed value.
type value struct{ A, B uint64 }

func (value) OrbitKind() uint8 { return 2 }

const (
	ringKind = 1
	slots    = 1024
	payload  = 64
)

func main() {
	rounds := flag.Int("rounds", 7, "rounds of each measurement; the best counts")
	writers := flag.Int("writers", 4, "writer processes that contend")
	writer := flag.String("writer", "", "internal: be a writer of this fleet or file")
	seconds := flag.Duration("for", time.Second, "how long writers contend")
	flag.Parse()
	if *writer != "" {
		check(write(*writer, *seconds))
		return
	}
	fmt.Printf("%s %s/%s, %d processors, best of %d rounds\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), *rounds)
	check(single(*rounds))
	check(contended(*writers, *rounds, *seconds))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// best returns the shortest time per call of op over some rounds.
func best(rounds int, op func()) float64 {
	const n = 500_000
	fastest := time.Duration(1 << 62)
	for range rounds {
		start := time.Now()
		for range n {
			op()
		}
		fastest = min(fastest, time.Since(start))
	}
	return float64(fastest) / n
}

// single measures one process that has the rings to itself.
func single(rounds int) error {
	var word atomic.Uint64
	add := best(rounds, func() { word.Add(1) })
	row := func(name string, ns float64) { fmt.Printf("%-44s %8.2f ns %7.2fx\n", name, ns, ns/add) }
	row("atomic add", add)
	sq, err := openSeqlock(fmt.Sprintf("bench%d.seq", os.Getpid()))
	if err != nil {
		return err
	}
	defer sq.remove()
	p := make([]byte, payload)
	row("unsafe seqlock: publish 64 B", best(rounds, func() { sq.publish(p) }))
	for _, mode := range []struct {
		name  string
		join  func(string, orbit.Options) (*orbit.Fleet, error)
		guard bool
	}{{"local", orbit.Local, false}, {"shared", orbit.Join, true}, {"shared, no fault guard", orbit.Join, false}} {
		if err := measure(mode.name, mode.join, !mode.guard, rounds, row); err != nil {
			return err
		}
	}
	return nil
}

func measure(name string, join func(string, orbit.Options) (*orbit.Fleet, error), noGuard bool, rounds int, row func(string, float64)) error {
	fleet := fmt.Sprintf("bench%d", os.Getpid())
	f, err := join(fleet, orbit.Options{Size: 1, NoFaultGuard: noGuard})
	if err != nil {
		return err
	}
	defer orbit.Remove(fleet)
	defer f.Close()
	r, err := f.Ring(ringKind)
	if err != nil {
		return err
	}
	o, err := orbit.Bind[value](f)
	if err != nil {
		return err
	}
	p, buf := make([]byte, payload), make([]byte, 0, 256)
	batch := make([]orbit.Frame, 64)
	for i := range batch {
		batch[i].Payload = make([]byte, payload)
	}
	c := r.Oldest()
	row(name+": publish 64 B", best(rounds, func() { r.Publish(1, 2, p) }))
	row(name+": publish 64 B in batches of 64", best(rounds/4+1, func() { r.PublishBatch(batch) })/64)
	row(name+": newest 64 B", best(rounds, func() { r.Newest(buf) }))
	row(name+": next of a cursor, 64 B", best(rounds, func() {
		if _, _, err := c.Next(buf); err != nil {
			c = r.Oldest()
		}
	}))
	row(name+": poll in batches of 64, 64 B", best(rounds/4+1, func() {
		if _, _, err := c.Poll(batch); err != nil {
			c = r.Oldest()
		}
	})/64)
	row(name+": store 16 B value", best(rounds, func() { o.Store(value{1, 2}) }))
	row(name+": load 16 B value", best(rounds, func() { o.Load() }))
	return nil
}

// contended measures processes that write one ring as fast as they can.
func contended(writers, rounds int, d time.Duration) error {
	fleet := fmt.Sprintf("bench%d", os.Getpid())
	f, err := orbit.Join(fleet, orbit.Options{Size: writers})
	if err != nil {
		return err
	}
	defer orbit.Remove(fleet)
	defer f.Close()
	if _, err := f.Ring(ringKind); err != nil {
		return err
	}
	sq, err := openSeqlock(fleet + ".seq")
	if err != nil {
		return err
	}
	defer sq.remove()
	fmt.Println()
	for _, target := range []string{fleet, "unguarded:" + fleet, "seqlock:" + sq.name} {
		fastest := 0.0
		for range min(rounds, 3) {
			total, err := race(writers, target, d)
			if err != nil {
				return err
			}
			fastest = max(fastest, total/d.Seconds()/1e6)
		}
		kind, _, named := strings.Cut(target, ":")
		if !named {
			kind = "shared"
		}
		fmt.Printf("%d writer processes, 64 B, %-20s %8.2f M/s in total\n", writers, kind, fastest)
	}
	return nil
}

// race runs the writers and adds up what they count.
func race(writers int, target string, d time.Duration) (total float64, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	outs := make([]*bufio.Scanner, writers)
	cmds := make([]*exec.Cmd, writers)
	for i := range cmds {
		cmds[i] = exec.Command(self, "-writer", target, "-for", d.String())
		cmds[i].Stderr = os.Stderr
		out, err := cmds[i].StdoutPipe()
		if err != nil {
			return 0, err
		}
		outs[i] = bufio.NewScanner(out)
		if err := cmds[i].Start(); err != nil {
			return 0, err
		}
	}
	for i, c := range cmds {
		if outs[i].Scan() {
			n, _ := strconv.ParseFloat(outs[i].Text(), 64)
			total += n
		}
		if err := c.Wait(); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// write publishes for a while and prints how many frames it published.
func write(target string, d time.Duration) error {
	kind, name, named := strings.Cut(target, ":")
	if !named {
		name = target
	}
	p := make([]byte, payload)
	var publish func()
	if kind == "seqlock" {
		sq, err := openSeqlock(name)
		if err != nil {
			return err
		}
		publish = func() { sq.publish(p) }
	} else {
		f, err := orbit.Join(name, orbit.Options{Size: 1, NoFaultGuard: kind == "unguarded"})
		if err != nil {
			return err
		}
		defer f.Close()
		r, err := f.Ring(ringKind)
		if err != nil {
			return err
		}
		publish = func() { r.Publish(1, 2, p) }
	}
	n := 0
	for start := time.Now(); time.Since(start) < d; {
		for range 1000 {
			publish()
		}
		n += 1000
	}
	fmt.Println(n)
	return nil
}
