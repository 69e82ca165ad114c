//go:build linux

package fleettest

import (
	"slices"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

// TestEventSaysWhatCameBeforeIt: with every event a subscriber is told how many
// it was not interested in since the one before, and how many it missed, each
// by its own name and once.
func TestEventSaysWhatCameBeforeIt(t *testing.T) {
	opts := one(orbit.KindEvents, 8, 64)
	f := join(t, proc.Fleet(t), opts)
	bus, err := orbit.Events(f)
	if err != nil {
		t.Fatal(err)
	}
	s := bus.SubscribeNow(orbit.Topic("wanted"))
	type told struct {
		filtered uint64
		lag      orbit.Gap
	}
	// A batch is a letter for each event: w is wanted, o another, h a hole.
	for _, c := range []struct {
		published string
		want      []told
	}{
		{"w", []told{{}}},
		{"oow", []told{{filtered: 2}}},
		{"owoww", []told{{filtered: 1}, {filtered: 1}, {}}},
		{"ohhw", []told{{filtered: 1, lag: orbit.Gap{Holes: 2}}}},
		{"wwwwwwwwoooooow", []told{{lag: orbit.Gap{Overwritten: 7}}, {filtered: 6}}},
		{"w", []told{{}}},
		{"oo", nil},
		{"ow", []told{{filtered: 3}}},
	} {
		for _, letter := range c.published {
			switch letter {
			case 'w':
				_, err = bus.Publish("wanted", nil)
			case 'o':
				_, err = bus.Publish("other", nil)
			case 'h':
				_, err = bus.Ring().Mint()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		var got []told
		var ev orbit.Event
		for err = s.Poll(&ev); err == nil; err = s.Poll(&ev) {
			got = append(got, told{ev.Filtered, ev.Lag})
		}
		if err != orbit.ErrNoFrame || !slices.Equal(got, c.want) {
			t.Errorf("after %q: told %+v, %v; want %+v", c.published, got, err, c.want)
		}
	}
}

// TestEventAfterABurstHasItsOwnTime: events published in a burst share a
// reading of the clock, but nothing published later does.
func TestEventAfterABurstHasItsOwnTime(t *testing.T) {
	const pause = 200 * time.Millisecond
	f := join(t, proc.Fleet(t), orbit.Options{Size: 1})
	bus, err := orbit.Events(f)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		for range 2000 + round {
			if _, err := bus.Publish("burst", nil); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 { // what is due in a pause is done, though the process be stopped
			time.Sleep(pause / 10)
		}
		s := bus.SubscribeNow()
		before := orbit.Now()
		if _, err := bus.Publish("later", nil); err != nil {
			t.Fatal(err)
		}
		var ev orbit.Event
		if err := s.Poll(&ev); err != nil {
			t.Fatal(err)
		}
		if early := time.Duration(before - ev.Stamp); early > pause/2 {
			t.Errorf("an event published %v after a burst claims to be %v older than it is", pause, early)
		}
	}
}
