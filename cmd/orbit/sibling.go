package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"io"
	"math"
	"os"
	"os/signal"
	"syscall"
	"time"

	"orbit"
)

// Load is the value each sibling publishes several times a second.
type Load struct {
	Sibling uint32  // its number in the demo
	Seen    uint32  // how many other live members' loads it sees
	Stored  uint64  // how many values it has stored, this one included
	Busy    float64 // which share of the time since the value before it worked
}

// OrbitKind names the ring that loads travel in.
func (Load) OrbitKind() uint8 { return 7 }

// loadEvery is the time between two values of a sibling.
const loadEvery = 200 * time.Millisecond

var siblingFlags struct {
	fleet  string
	size   int
	number uint
}

var siblingCommand = &command{
	name:   "sibling",
	args:   "-fleet name -size n -number n",
	long:   "One of the processes that \"orbit demo\" starts. It leaves when its standard\ninput ends, and clears the fleet away if it was the last.\n",
	hidden: true,
	flags: func(f *flag.FlagSet) {
		f.StringVar(&siblingFlags.fleet, "fleet", "", "`name` of the fleet")
		f.IntVar(&siblingFlags.size, "size", 1, "expected `number` of members")
		f.UintVar(&siblingFlags.number, "number", 0, "`number` in the demo")
	},
	run: func([]string) error { return runSibling() },
}

// runSibling is the life of a sibling: it joins, works until the demo's
// process ends the pipe it holds, by intent or by its death, and leaves.
func runSibling() error {
	// A Ctrl-C reaches the whole foreground of a terminal. The demo decides.
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	ctx, parentGone := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		parentGone()
	}()
	fleet, err := orbit.Join(siblingFlags.fleet, orbit.Options{Size: siblingFlags.size})
	if err != nil {
		return err
	}
	// Whoever leaves last takes the fleet with it, also if the demo's process
	// was killed. For all others Remove fails, as it should.
	defer orbit.Remove(siblingFlags.fleet)
	defer fleet.Close()
	s := &sibling{fleet: fleet, number: uint32(siblingFlags.number)}
	for _, open := range []func() error{s.openLoad} {
		if err := open(); err != nil {
			return err
		}
	}
	return s.live(ctx)
}

// A sibling is one member of the demo's fleet, at work.
type sibling struct {
	fleet  *orbit.Fleet
	number uint32

	load   *orbit.Orbital[Load]
	stored uint64
	last   time.Time     // when the value before was stored
	worked time.Duration // since then
}

// live does one round of everything, and works, until the context ends.
func (s *sibling) live(ctx context.Context) error {
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		for _, step := range []func() error{s.storeLoad} {
			if err := step(); err != nil {
				return err
			}
		}
		s.work()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

func (s *sibling) openLoad() (err error) {
	s.load, err = orbit.Bind[Load](s.fleet)
	s.last = time.Now()
	return err
}

// storeLoad publishes this sibling's load.
func (s *sibling) storeLoad() error {
	seen, err := s.see()
	if err != nil {
		return err
	}
	now := time.Now()
	busy := float64(s.worked) / float64(max(now.Sub(s.last), 1))
	s.last, s.worked = now, 0
	if _, err = s.load.Store(Load{s.number, seen, s.stored + 1, busy}); err == nil {
		s.stored++
	}
	return err
}

// see counts the other live members whose loads are in sight.
func (s *sibling) see() (seen uint32, err error) {
	members, err := s.fleet.Members()
	if err != nil {
		return 0, err
	}
	unseen := map[uint16]bool{}
	for _, m := range members {
		unseen[m.Node] = m.Node != s.fleet.Node()
	}
	for id := range s.load.Recent() {
		if unseen[id.Node()] {
			unseen[id.Node()] = false
			seen++
		}
	}
	return seen, nil
}

// work keeps a processor busy for a share of the time that swings, so that
// there is a load to report.
func (s *sibling) work() {
	phase := float64(time.Now().UnixMilli()%4000)/4000 + float64(s.number)/3
	share := 0.10 + 0.08*math.Sin(2*math.Pi*phase)
	start := time.Now()
	var sum [sha256.Size]byte
	for time.Since(start) < time.Duration(share*float64(loadEvery)) {
		for range 100 {
			sum = sha256.Sum256(sum[:])
		}
	}
	s.worked += time.Since(start)
}
