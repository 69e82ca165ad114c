package orbit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"orbit"
)

// ---------------------------------------------------------------------------
// Events

func events(t testing.TB, f *orbit.Fleet) *orbit.EventBus {
	t.Helper()
	b, err := orbit.Events(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tinyBus has eight slots of 64 bytes.
var tinyBus = orbit.Options{Rings: map[uint8]orbit.Geometry{orbit.KindEvents: {Capacity: 8, PayloadLimit: 64}}}

func TestEventArrivesWithTopicTimeAndPayload(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		b := events(t, f)
		s := b.SubscribeNow()
		for n := range 70 {
			topic, payload := strings.Repeat("t", 1+n), strings.Repeat("p", n)
			before := orbit.Now()
			id, err := b.Publish(topic, []byte(payload))
			if err != nil {
				t.Fatal(err)
			}
			var ev orbit.Event
			if err := s.Poll(&ev); err != nil {
				t.Fatal(err)
			}
			if ev.ID != id || string(ev.Topic) != topic || string(ev.Payload) != payload || ev.Lag.Total() != 0 || ev.Filtered != 0 {
				t.Fatalf("got %v %q %q, lag %+v", ev.ID, ev.Topic, ev.Payload, ev.Lag)
			}
			if early := time.Duration(before - ev.Stamp); early > 2*time.Millisecond || ev.Age() < 0 {
				t.Errorf("stamped %v before it was published, age %v", early, ev.Age())
			}
		}
		if err := s.Poll(new(orbit.Event)); !errors.Is(err, orbit.ErrNoFrame) {
			t.Errorf("got %v at the end", err)
		}
	})
}

func TestEventLimitsAreNamed(t *testing.T) {
	eachFleet(t, tinyBus, func(t *testing.T, f *orbit.Fleet) {
		b := events(t, f)
		_, err := b.Publish("", nil)
		wantErr(t, "empty topic", err, orbit.ErrTopic)
		_, err = b.Publish(strings.Repeat("x", 256), nil)
		wantErr(t, "long topic", err, orbit.ErrTopic)
		wantErr(t, "long topic", err, orbit.ErrTooLarge)
		_, err = b.Publish("topic", make([]byte, 60))
		wantErr(t, "long payload", err, orbit.ErrTooLarge)
		if !strings.Contains(err.Error(), "65 bytes, limit 64") {
			t.Errorf("got %q, want the sizes", err)
		}
		if _, err := b.Publish("topic", make([]byte, 59)); err != nil {
			t.Errorf("the longest event: %v", err)
		}
	})
}

func TestSubscriberReportsLagWhereItHappened(t *testing.T) {
	eachFleet(t, tinyBus, func(t *testing.T, f *orbit.Fleet) {
		b := events(t, f)
		s := b.SubscribeOldest()
		for i := range 20 {
			b.Publish("n", fmt.Append(nil, i))
		}
		b.Ring().Mint()
		b.Publish("n", []byte("20")) // 8 slots: 14 to 19, the hole, 20
		var ev orbit.Event
		for want := 14; want <= 20; want++ {
			if err := s.Poll(&ev); err != nil {
				t.Fatal(err)
			}
			lag := orbit.Gap{}
			if want == 14 {
				lag.Overwritten = 14
			}
			if want == 20 {
				lag.Holes = 1
			}
			if string(ev.Payload) != fmt.Sprint(want) || ev.Lag != lag {
				t.Fatalf("got %q after %+v, want %d after %+v", ev.Payload, ev.Lag, want, lag)
			}
		}
		if tally := s.Tally(); tally.Delivered != 7 || tally.Total() != 15 || s.Position().Counter != 22 {
			t.Errorf("got tally %+v at %d", tally, s.Position().Counter)
		}
	})
}

func TestFiltersSelectTopicsAndCountTheRest(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		b := events(t, f)
		exact, prefix, either := b.SubscribeNow(orbit.Topic("job.done")), b.SubscribeNow(orbit.TopicPrefix("job.")), b.SubscribeNow(orbit.Topic("load"), orbit.TopicPrefix("job.d"))
		topics := []string{"job.start", "load", "job.done", "job", "job.done.2", "job.done"}
		for _, topic := range topics {
			b.Publish(topic, nil)
		}
		for _, c := range []struct {
			sub      *orbit.Subscriber
			want     string
			filtered uint64
		}{
			{exact, "job.done job.done", 4},
			{prefix, "job.start job.done job.done.2 job.done", 2},
			{either, "load job.done job.done.2 job.done", 2},
		} {
			var got []string
			var ev orbit.Event
			for c.sub.Poll(&ev) == nil {
				got = append(got, string(ev.Topic))
			}
			tally := c.sub.Tally()
			if strings.Join(got, " ") != c.want || tally.Filtered != c.filtered || tally.Delivered+tally.Filtered+tally.Total() != uint64(len(topics)) {
				t.Errorf("got %q, tally %+v, want %q and %d filtered", got, tally, c.want, c.filtered)
			}
		}
	})
}

func TestSubscriberGoesOnFromASavedPosition(t *testing.T) {
	name := fleetName(t)
	f := join(t, name, orbit.Options{})
	b := events(t, f)
	s := b.SubscribeOldest()
	b.Publish("a", []byte("1"))
	b.Publish("a", []byte("2"))
	var ev orbit.Event
	s.Poll(&ev)
	saved := s.Position()
	sibling := events(t, join(t, name, orbit.Options{}))
	again, err := sibling.SubscribeAt(saved)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Poll(&ev); err != nil || string(ev.Payload) != "2" || ev.Lag.Total() != 0 {
		t.Errorf("got %q after %+v, error %v, want 2", ev.Payload, ev.Lag, err)
	}
	_, err = sibling.SubscribeAt(orbit.Position{Fleet: saved.Fleet + 1, Counter: saved.Counter})
	wantErr(t, "another fleet's position", err, orbit.ErrNotExist)
}

func TestForeignFrameAmongEventsIsReported(t *testing.T) {
	name := fleetName(t)
	f := join(t, name, tinyBus)
	b := events(t, f)
	s := b.SubscribeNow()
	b.Ring().Publish(200, 0, []byte("short"))
	b.Publish("ok", nil)
	var ev orbit.Event
	wantErr(t, "a frame that is no event", s.Poll(&ev), orbit.ErrDamaged)
	if err := s.Poll(&ev); err != nil || string(ev.Topic) != "ok" || ev.Lag != (orbit.Gap{Lost: 1}) {
		t.Errorf("got %q after %+v, error %v, want ok after one lost", ev.Topic, ev.Lag, err)
	}
}

func TestEventsStreamAcrossFleets(t *testing.T) {
	name := fleetName(t)
	publisher, reader := events(t, join(t, name, orbit.Options{})), events(t, join(t, name, orbit.Options{}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := reader.SubscribeNow()
	go func() {
		for i := range 50 {
			publisher.Publish("n", fmt.Append(nil, i))
			time.Sleep(100 * time.Microsecond)
		}
	}()
	n := 0
	var last error
	for ev, err := range s.Events(ctx) {
		if last = err; err != nil {
			continue
		}
		if string(ev.Payload) != fmt.Sprint(n) {
			t.Fatalf("got %q, want %d", ev.Payload, n)
		}
		if n++; n == 50 {
			cancel()
		}
	}
	if n != 50 || !errors.Is(last, context.Canceled) {
		t.Errorf("got %d events, last error %v", n, last)
	}
}

// TestTenThousandSleepersCostGoroutines has ten thousand subscribers asleep
// on one shared bus, and wakes them all with one event.
func TestTenThousandSleepersCostGoroutines(t *testing.T) {
	b := events(t, join(t, fleetName(t), orbit.Options{}))
	before := threads(t)
	var asleep, woken sync.WaitGroup
	for range 10_000 {
		s := b.SubscribeNow()
		asleep.Add(1)
		spawn(&woken, func() {
			asleep.Done()
			var ev orbit.Event
			if err := s.Next(t.Context(), &ev); err != nil || string(ev.Topic) != "wake" {
				t.Errorf("got %q, error %v", ev.Topic, err)
			}
		})
	}
	asleep.Wait()
	time.Sleep(50 * time.Millisecond)
	if now := threads(t); now > before+8 {
		t.Errorf("got %d threads, %d before", now, before)
	}
	b.Publish("wake", nil)
	woken.Wait()
}

func TestEventPathsDoNotAllocate(t *testing.T) {
	eachFleet(t, orbit.Options{}, func(t *testing.T, f *orbit.Fleet) {
		b := events(t, f)
		s, payload := b.SubscribeNow(), make([]byte, 64)
		var ev orbit.Event
		batch := make([]orbit.Event, 8)
		work := func() {
			for range 9 {
				b.Publish("topic", payload)
			}
			s.Poll(&ev)
			s.PollBatch(batch)
		}
		work()
		if n := testing.AllocsPerRun(100, work); n != 0 {
			t.Errorf("got %v allocations", n)
		}
	})
}

// What just happened, for whoever wants to know.
func ExampleEventBus() {
	fleet, _ := orbit.Local("web", orbit.Options{Size: 4})
	defer fleet.Close()
	bus, _ := orbit.Events(fleet)
	jobs := bus.SubscribeNow(orbit.TopicPrefix("job."))
	bus.Publish("job.started", []byte("backup"))
	bus.Publish("config.changed", nil)
	bus.Publish("job.done", []byte("backup"))
	var ev orbit.Event
	for jobs.Poll(&ev) == nil {
		fmt.Printf("%s %s (missed %d)\n", ev.Topic, ev.Payload, ev.Lag.Total())
	}
	// Output:
	// job.started backup (missed 0)
	// job.done backup (missed 0)
}

func BenchmarkEventPublish64(b *testing.B) {
	benchFleets(b, func(b *testing.B, f *orbit.Fleet) {
		bus, payload := events(b, f), make([]byte, 64)
		b.ReportAllocs()
		for b.Loop() {
			bus.Publish("topic", payload)
		}
	})
}

func BenchmarkEventPoll64(b *testing.B) {
	benchFleets(b, func(b *testing.B, f *orbit.Fleet) {
		bus, payload := events(b, f), make([]byte, 64)
		for range bus.Ring().Geometry().Capacity {
			bus.Publish("topic", payload)
		}
		s, batch, left := bus.SubscribeOldest(), make([]orbit.Event, 64), 0
		b.ReportAllocs()
		for b.Loop() {
			if left == 0 {
				if left, _ = s.PollBatch(batch); left == 0 {
					s = bus.SubscribeOldest()
				}
			} else {
				left--
			}
		}
	})
}
