package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	"orbit"
)

// siblingCommand is the hidden command that the demo starts its siblings with.
const siblingCommand = "demo-sibling"

// Load is what a sibling says of itself. Everything in it is measured.
type Load struct {
	Busy   float64 // share of the last period spent at work
	Stored uint64  // values stored so far
	Sees   uint32  // siblings heard of in the last second
	_      uint32
	Time   int64 // when, in nanoseconds since 1970
}

// OrbitKind names the ring of loads.
func (Load) OrbitKind() uint8 { return 12 }

// facts is what the members of the demo share, and what one of them has
// counted of it.
type facts struct {
	loads *orbit.Orbital[Load]
	nodes map[uint16]*tallied
}

// tallied is what was delivered from one node.
type tallied struct {
	values uint64
	newest Load
}

func bindFacts(fleet *orbit.Fleet) (*facts, error) {
	loads, err := orbit.Bind[Load](fleet)
	return &facts{loads: loads, nodes: map[uint16]*tallied{}}, err
}

// count reads what the cursor has not seen yet.
func (f *facts) count(cursor *orbit.Cursor) {
	for {
		frame, _, err := cursor.Next(nil)
		if err != nil {
			return
		}
		node := frame.ID.Node()
		if f.nodes[node] == nil {
			f.nodes[node] = &tallied{}
		}
		f.nodes[node].values++
		if v, err := f.loads.LoadID(frame.ID); err == nil {
			f.nodes[node].newest = v
		}
	}
}

// totalBut returns how many values were delivered from all nodes but one.
func (f *facts) totalBut(node uint16) (n uint64) {
	for of, t := range f.nodes {
		if of != node {
			n += t.values
		}
	}
	return n
}

func (f *facts) row(node uint16) string {
	t := f.nodes[node]
	if t == nil {
		return fmt.Sprintf("%6s", "-")
	}
	age := time.Since(time.Unix(0, t.newest.Time)).Round(time.Millisecond)
	return fmt.Sprintf("%5.0f%% %8d %6d %8v", 100*t.newest.Busy, t.newest.Stored, t.newest.Sees, age)
}

// sibling is the other side of the demo: a process that works in bursts and
// shares how busy it was, ten times a second, until its standard input ends.
func sibling(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 2 {
		return errUsage
	}
	size, err := strconv.Atoi(args[1])
	if err != nil {
		return errUsage
	}
	fleet, err := orbit.Join(args[0], orbit.Options{Size: size})
	if err != nil {
		return err
	}
	defer fleet.Close()
	shared, err := bindFacts(fleet)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "joined")
	// The pipe ends when whoever started this process ends, even by SIGKILL.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return shared.keepStoring(ctx)
}

const period = 100 * time.Millisecond

func (f *facts) keepStoring(ctx context.Context) error {
	for stored := uint64(1); ; stored++ {
		start := time.Now()
		busy := work(time.Duration(rand.Int64N(int64(period) / 4)))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(period - busy):
		}
		now := time.Now()
		load := Load{
			Busy:   float64(busy) / float64(now.Sub(start)),
			Stored: stored,
			Sees:   f.sees(now),
			Time:   now.UnixNano(),
		}
		if _, err := f.loads.Store(load); err != nil {
			return err
		}
	}
}

// work keeps a processor busy and returns for how long it did.
func work(d time.Duration) time.Duration {
	start := time.Now()
	for time.Since(start) < d {
	}
	return time.Since(start)
}

// sees counts the nodes that stored a value in the last second.
func (f *facts) sees(now time.Time) uint32 {
	nodes := map[uint16]bool{}
	for id, v := range f.loads.Recent() {
		if now.UnixNano()-v.Time > int64(time.Second) {
			break
		}
		nodes[id.Node()] = true
	}
	return uint32(len(nodes))
}
