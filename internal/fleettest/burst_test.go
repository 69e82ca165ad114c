//go:build linux

package fleettest

import (
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

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
		time.Sleep(pause)
		s := bus.SubscribeNow()
		if _, err := bus.Publish("later", nil); err != nil {
			t.Fatal(err)
		}
		var ev orbit.Event
		if err := s.Poll(&ev); err != nil {
			t.Fatal(err)
		}
		if age := ev.Age(); age > pause/2 {
			t.Errorf("an event published %v after a burst claims to be %v old", pause, age)
		}
	}
}
