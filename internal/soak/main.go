// Soak is a storm of real processes that do everything a fleet can do, and are
// killed, stopped, resumed and replaced at random meanwhile. Every payload
// verifies itself, every cursor accounts for every counter, every guard is
// held against a fence, and what is left at the end is looked at. It prints a
// table, a row for each scenario, and fails if anything in it must not be.
//
//	go run ./internal/soak -for 10m
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"orbit"
)

func main() {
	if os.Getenv(roleEnv) != "" {
		os.Exit(play())
	}
	length := flag.Duration("for", time.Minute, "how long to run")
	each := flag.Int("n", 2, "processes of each scenario at a time")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the storm")
	flag.Parse()
	if err := soak(*length, *each, *seed, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// rings are the ones the storm passes over, by kind: tiny ones, where writers
// lap each other at once, and larger ones with payloads that take time to copy.
var rings = map[uint8]orbit.Geometry{
	1: {Capacity: 2, PayloadLimit: 64},
	2: {Capacity: 8, PayloadLimit: 1 << 10},
	3: {Capacity: 64, PayloadLimit: 16 << 10},
	4: {Capacity: 1024, PayloadLimit: 256},
}

func options() orbit.Options {
	all := map[uint8]orbit.Geometry{
		orbit.KindCache:  {Capacity: 256, PayloadLimit: 1 << 10},
		orbit.KindEvents: {Capacity: 64, PayloadLimit: 512},
	}
	for kind, g := range rings {
		all[kind] = g
	}
	return orbit.Options{Size: 64, Rings: all}
}

// soak runs a storm and prints what came of it.
func soak(length time.Duration, each int, seed uint64, out io.Writer) error {
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s := &storm{
		fleet:  fmt.Sprintf("soak%d", os.Getpid()),
		board:  filepath.Join(dir, "board"),
		random: rand.New(rand.NewPCG(seed, 0)),
	}
	board, err := mapBoard(s.board)
	if err != nil {
		return err
	}
	f, err := orbit.Join(s.fleet, options())
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		orbit.Remove(s.fleet)
	}()
	err = s.blow(length, each)
	s.calm()
	if err != nil {
		return err
	}
	for i := range s.rows {
		s.rows[i].operations = *board.done(i)
	}
	after := inspect(f)
	f.Close()
	if err := orbit.Remove(s.fleet); err != nil {
		after = append(after, fmt.Errorf("remove: %w", err))
	}
	if left, _ := filepath.Glob("/dev/shm/orbit-" + s.fleet + "-*"); len(left) > 0 {
		after = append(after, fmt.Errorf("left in shared memory: %v", left))
	}
	fmt.Fprintf(out, "storm of %v, seed %d\n\n", length, seed)
	return s.print(out, after)
}

// print draws the table, and fails if anything in it must not be.
func (s *storm) print(out io.Writer, after []error) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "scenario\tprocesses\toperations\tkills\tstops\ttorn\twedged\tunaccounted\tviolations\t")
	var sum row
	line := func(name string, r *row) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", name, r.processes, r.operations, r.kills, r.stops, r.torn, r.wedged, r.unaccounted, len(r.violations))
		sum.add(r)
	}
	for i := range s.rows {
		line(scenarios[i].name, &s.rows[i])
	}
	end := row{}
	for _, err := range after {
		end.violations = append(end.violations, err.Error())
		if errors.Is(err, errWedged) {
			end.wedged++
		}
	}
	line("what was left", &end)
	line("total", &sum)
	w.Flush()
	for _, v := range sum.violations {
		fmt.Fprintln(out, "violation:", v)
	}
	if sum.torn+sum.wedged+sum.unaccounted > 0 || len(sum.violations) > 0 {
		return errors.New("the storm did damage")
	}
	return nil
}

var errWedged = errors.New("a slot is wedged")

// inspect looks at what the storm left. After two laps every slot must be free
// again, every subject must be free to claim, and nobody but this process may
// be a member.
func inspect(f *orbit.Fleet) (failed []error) {
	check := func(what string, err error) {
		if err != nil {
			failed = append(failed, fmt.Errorf("%s after the storm: %w", what, err))
		}
	}
	for kind, g := range rings {
		r, err := f.Ring(kind)
		check("ring", err)
		for range 2 * g.Capacity {
			_, err = r.Publish(0, 0, nil)
		}
		check("publish", err)
		check("ring", sound(r))
	}
	bus, err := orbit.Events(f)
	check("events", err)
	for range 2 * bus.Ring().Geometry().Capacity {
		_, err = bus.Publish("end", nil)
	}
	check("publish of an event", err)
	check("events", sound(bus.Ring()))
	cache, err := orbit.OpenCache(f, "")
	check("cache", err)
	for range 2 * cache.Ring().Geometry().Capacity {
		err = cache.Put("end", []byte("end"), 0)
	}
	check("put", err)
	check("cache", sound(cache.Ring()))
	contest, err := orbit.OpenContest(f)
	check("contest", err)
	for range contest.Ring().Geometry().Capacity { // each claim and its release make a frame
		g, err := orbit.Claim[subject](contest, "end", "end", time.Minute)
		if err == nil {
			err = g.Release()
		}
		if err != nil {
			check("claim", err)
			break
		}
	}
	check("contest", sound(contest.Ring()))
	heart, err := orbit.Heartbeats(f)
	check("heartbeats", err)
	for range 2 * heart.Ring().Geometry().Capacity {
		err = heart.Beat()
	}
	check("beat", err)
	check("heartbeats", sound(heart.Ring()))
	holders, err := contest.Holders()
	check("holders", err)
	for _, h := range holders {
		check("holder", fmt.Errorf("%q is held by %q of node %d", h.Label, h.Owner, h.Node))
	}
	for i := range labels {
		g, err := orbit.Claim[subject](contest, label(i), "end", time.Minute)
		check("claim", err)
		if err == nil {
			check("release", g.Release())
		}
	}
	members, err := f.Members()
	check("members", err)
	if len(members) != 1 {
		check("members", fmt.Errorf("got %v, want this process alone", members))
	}
	return failed
}

// sound tells whether all slots of a ring are free.
func sound(r *orbit.Ring) error {
	s, err := r.Stats()
	if err == nil && s.Pending+s.Lost+s.Holes > 0 {
		err = fmt.Errorf("%w: ring %d has %+v", errWedged, r.Kind(), s)
	}
	return err
}
