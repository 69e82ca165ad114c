package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
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
	Hits    uint64  // what it found in the cache
	Misses  uint64  // and what it did not
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
	name: "sibling",
	long: "One of the processes that \"orbit demo\" starts. It leaves when its standard\ninput ends, and clears the fleet away if it was the last.\n",
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
	s, err := newSibling(fleet, uint32(siblingFlags.number))
	if err != nil {
		return err
	}
	return s.live(ctx)
}

// A sibling is one member of the demo's fleet, at work.
type sibling struct {
	fleet  *orbit.Fleet
	number uint32

	load    *orbit.Orbital[Load]
	bus     *orbit.EventBus
	cache   *orbit.Cache
	contest *orbit.Contest
	heart   *orbit.Heartbeat

	stored uint64
	last   time.Time     // when the value before was stored
	worked time.Duration // since then
}

func newSibling(fleet *orbit.Fleet, number uint32) (s *sibling, err error) {
	s = &sibling{fleet: fleet, number: number, last: time.Now()}
	if s.load, err = orbit.Bind[Load](fleet); err != nil {
		return nil, err
	}
	if s.bus, err = orbit.Events(fleet); err != nil {
		return nil, err
	}
	if s.cache, err = orbit.OpenCache(fleet, cachePrefix); err != nil {
		return nil, err
	}
	if s.contest, err = orbit.OpenContest(fleet); err != nil {
		return nil, err
	}
	if s.heart, err = orbit.Heartbeats(fleet); err != nil {
		return nil, err
	}
	return s, nil
}

// live works, in rounds, until the context ends.
func (s *sibling) live(ctx context.Context) error {
	scheduled := make(chan error, 1)
	go func() { scheduled <- s.schedule(ctx) }()
	if err := s.announce(topicJoined, ""); err != nil {
		return err
	}
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	for {
		for _, step := range []func() error{s.heart.Beat, s.storeLoad, s.useReport} {
			if err := step(); err != nil {
				return err
			}
		}
		s.work()
		select {
		case <-tick.C:
		case err := <-scheduled: // when the context ends, or it failed
			return errors.Join(err, s.announce(topicLeft, ""))
		}
	}
}

// Topics of the events.
const (
	topicJoined = "sibling.joined"
	topicLeft   = "sibling.left"
	topicTaken  = "scheduler.taken" // the office changed hands
	topicReport = "report.made"     // the cache had none
)

// tokenFormat is the payload of topicTaken.
const tokenFormat = "token %d"

// announce publishes an event.
func (s *sibling) announce(topic, payload string) error {
	_, err := s.bus.Publish(topic, []byte(payload))
	return err
}

// ---- Typed values ----

// storeLoad publishes this sibling's load.
func (s *sibling) storeLoad() error {
	loads, err := s.loads()
	if err != nil {
		return err
	}
	delete(loads, s.fleet.Node())
	stats, err := s.cache.Stats()
	if err != nil {
		return err
	}
	now := time.Now()
	busy := float64(s.worked) / float64(max(now.Sub(s.last), 1))
	s.last, s.worked = now, 0
	s.stored++
	_, err = s.load.Store(Load{
		Sibling: s.number, Seen: uint32(len(loads)), Stored: s.stored, Busy: busy,
		Hits: stats.Hits, Misses: stats.Misses,
	})
	return err
}

// loads returns the newest loads of the live members, by node.
func (s *sibling) loads() (map[uint16]Load, error) {
	members, err := s.fleet.Members()
	if err != nil {
		return nil, err
	}
	loads := map[uint16]Load{}
	for _, m := range members {
		load, _, err := s.load.LoadNode(m.Node)
		switch {
		case err == nil:
			loads[m.Node] = load
		case !errors.Is(err, orbit.ErrNoFrame):
			return nil, err
		}
	}
	return loads, nil
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

// ---- Cache ----

// What the siblings keep in the cache: a report of all loads, made by whoever
// misses it, for all.
const (
	cachePrefix = "demo"
	reportKey   = "total load"
	reportTTL   = time.Second
)

// useReport finds the report in the cache, or makes it.
func (s *sibling) useReport() error {
	_, found, err := s.cache.Get(reportKey)
	if found || err != nil {
		return err
	}
	loads, err := s.loads()
	if err != nil {
		return err
	}
	total := 0.0
	for _, load := range loads {
		total += load.Busy
	}
	report := fmt.Sprintf("%.0f%% of a processor", 100*total)
	first, err := s.cache.Add(reportKey, []byte(report), reportTTL)
	if !first || err != nil {
		return err // or somebody else was first
	}
	return s.announce(topicReport, report)
}

// ---- Contest ----

// Scheduler is the subject the siblings contend for.
type Scheduler struct{}

// OrbitKind tells this subject from those of other types.
func (Scheduler) OrbitKind() uint8 { return 8 }

// schedulerTTL is how long a holder that hangs would keep the others out.
const schedulerTTL = 2 * time.Second

// schedule holds the office of the scheduler whenever nobody else does.
func (s *sibling) schedule(ctx context.Context) error {
	owner := fmt.Sprintf("sibling %d", s.number)
	for ctx.Err() == nil {
		guard, err := orbit.Claim[Scheduler](s.contest, "", owner, schedulerTTL)
		switch {
		case err == nil:
			err = s.hold(ctx, guard)
		case errors.Is(err, orbit.ErrHeld):
			err = orbit.WaitFree[Scheduler](ctx, s.contest, "")
		case errors.Is(err, orbit.ErrLapsed):
			err = nil // this process was stopped while it claimed: again
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// hold renews the guard until the context ends or the guard does.
func (s *sibling) hold(ctx context.Context, guard *orbit.Guard) error {
	defer guard.Release()
	if err := s.announce(topicTaken, fmt.Sprintf(tokenFormat, guard.Token())); err != nil {
		return err
	}
	tick := time.NewTicker(schedulerTTL / 4)
	defer tick.Stop()
	for guard.Valid() {
		select {
		case <-tick.C:
			guard.Renew(schedulerTTL)
		case <-guard.Context().Done():
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}
