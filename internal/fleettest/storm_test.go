//go:build linux

package fleettest

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"syscall"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// A storm of kills and stops over crews that do everything at once.

func init() { proc.Helper("stormer", stormer) }

const kindStorm = 90

var stormRings = []orbit.Geometry{
	{Capacity: 1, PayloadLimit: 64}, {Capacity: 2, PayloadLimit: 9},
	{Capacity: 8, PayloadLimit: 4096}, {Capacity: 16, PayloadLimit: 1 << 18}, {Capacity: 256, PayloadLimit: 255},
}

func stormOptions() orbit.Options {
	opts := orbit.Options{Size: 16, Rings: map[uint8]orbit.Geometry{}}
	for i, g := range stormRings {
		opts.Rings[kindStorm+uint8(i)] = g
	}
	return opts
}

// stormer sets a crew to work on one ring until it is told to stop.
func stormer(args []string) error {
	read := proc.WatchParent()
	i, _ := strconv.Atoi(args[1])
	f, err := orbit.Join(args[0], stormOptions())
	if err != nil {
		return err
	}
	r, err := f.Ring(kindStorm + uint8(i))
	if err != nil {
		return err
	}
	var w crew
	w.start(f, r)
	read()
	if err := f.Close(); err != nil {
		return err
	}
	ends, err := w.join(20 * time.Second)
	if err != nil {
		return err
	}
	for name, err := range ends {
		if classify(err) != "ErrClosed" {
			return fmt.Errorf("%s on %v ended with %w", name, stormRings[i], err)
		}
	}
	fmt.Println("sound")
	return nil
}

func TestStormOfKillsAndStops(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 9))
	name := proc.Fleet(t)
	f := join(t, name, stormOptions())
	var crews []*proc.Process
	start := func(i int) *proc.Process {
		return proc.Start(t, "stormer", name, strconv.Itoa(i%len(stormRings)))
	}
	for i := range 2 * len(stormRings) {
		crews = append(crews, start(i))
	}
	kills, stops := 0, 0
	halted := map[int]bool{}
	for end := time.Now().Add(long(4 * time.Second)); time.Now().Before(end); {
		time.Sleep(time.Duration(rng.IntN(20_000)) * time.Microsecond)
		i := rng.IntN(len(crews))
		switch p := crews[i]; {
		case rng.IntN(3) == 0:
			p.Kill()
			p.Died(syscall.SIGKILL)
			crews[i], halted[i] = start(i), false
			kills++
		case halted[i]:
			p.Continue()
			halted[i] = false
		default:
			p.Stop()
			halted[i] = true
			stops++
		}
	}
	for _, p := range crews {
		p.Continue()
		p.Say("stop")
	}
	for _, p := range crews {
		if got := line(t, p, 60*time.Second); got != "sound" {
			t.Errorf("got %q, want sound", got)
		}
		p.Finish()
	}
	t.Logf("%d kills, %d stops", kills, stops)
	for i, g := range stormRings {
		checkCalm(t, ring(t, f, kindStorm+uint8(i)), g)
	}
	if m, err := f.Members(); err != nil || len(m) != 1 {
		t.Errorf("members after the storm: %+v, %v; want one", m, err)
	}
	checkSeats(t, name, 1)
	f.Close()
	proc.RemoveFleet(t, name)
}

// checkCalm publishes two laps at full speed: no slot may be out of use.
func checkCalm(t *testing.T, r *orbit.Ring, g orbit.Geometry) {
	t.Helper()
	c := audit(r, r.Tail())
	for i := range uint64(2 * g.Capacity) {
		publish(t, r, i, g.PayloadLimit)
		if err := c.drain(nil); err != nil {
			t.Fatal(err)
		}
	}
	// A slot left by the dead may have been stepped round, once.
	if got := c.Tally(); got.Delivered != uint64(2*g.Capacity) || got.Lost+got.Overwritten > 0 {
		t.Errorf("ring of %v: two laps after the storm: %+v, want %d frames", g, got, 2*g.Capacity)
	}
	if s, err := r.Stats(); err != nil || s.Frames != g.Capacity || s.Pending+s.Lost+s.Holes > 0 {
		t.Errorf("ring of %v: stats after two laps: %+v, %v; want %d frames and nothing else", g, s, err, g.Capacity)
	}
}

// checkSeats looks at the roster's own words: that many seats are taken.
func checkSeats(t *testing.T, name string, want int) {
	t.Helper()
	m := load(t, proc.Segment(name, 0))
	taken := 0
	for seat := pageSize; seat < pageSize+rosterSeats; seat += 64 {
		if m.word(seat)&1 != 0 {
			taken++
		}
	}
	if taken != want {
		t.Errorf("%d seats are taken, want %d", taken, want)
	}
}
