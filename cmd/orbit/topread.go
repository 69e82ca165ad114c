package main

import (
	"context"
	"maps"
	"slices"
	"time"

	"orbit"
)

// A topReader takes snapshots of whatever fleet has a name, one after the
// other, and keeps what a snapshot cannot tell by itself: how fast the heads
// move, and the events that came.
type topReader struct {
	place attachment
	fresh time.Duration // how old a fresh heartbeat may be

	heads  map[uint8][]headSample // by kind, the newest last
	feed   *feed                  // of events, nil while there are none
	events []string
	caches map[string]*orbit.Cache // by prefix
	absent bool                    // the fleet, after it was there
}

// A headSample is what the head of a ring was at a time.
type headSample struct {
	at   orbit.Stamp
	head uint64
}

const (
	keptSamples = 61  // of heads, for 60 rates
	keptEvents  = 200 // lines
	rateOver    = time.Second
)

func newTopReader(fleet string, fresh time.Duration) *topReader {
	r := &topReader{place: attachment{name: fleet}, fresh: fresh}
	r.place.leave = r.readEvents
	r.forget()
	return r
}

// open attaches to the fleet, which must exist.
func (r *topReader) open() (err error) {
	r.place.fleet, err = observe(r.place.name)
	return err
}

// forget begins anew, but for the events.
func (r *topReader) forget() {
	r.heads = map[uint8][]headSample{}
	r.caches = map[string]*orbit.Cache{}
	r.feed = nil
}

// clear forgets the samples, but for the newest, and the events.
func (r *topReader) clear() {
	for kind, samples := range r.heads {
		r.heads[kind] = samples[len(samples)-1:]
	}
	r.events = nil
}

// read takes a snapshot.
func (r *topReader) read() *topSnapshot {
	s := &topSnapshot{fleet: r.place.name, at: time.Now()}
	switch turn, err := r.place.look(); {
	case err != nil:
		s.trouble = plain(err)
	case turn == ends:
		r.forget()
		r.absent = true
		r.say("-- the fleet ends --")
	case turn == begins:
		r.forget()
		r.absent = false
		r.say("-- the fleet begins --")
	}
	if r.absent {
		s.trouble = "The fleet was removed. Waiting for another one of this name."
	} else if r.place.fleet != nil {
		r.readFleet(s)
	}
	s.events = slices.Clone(r.events)
	return s
}

func (r *topReader) say(line string) {
	r.events = append(r.events, line)
	r.events = r.events[max(len(r.events)-keptEvents, 0):]
}

func (r *topReader) readFleet(s *topSnapshot) {
	steps := []func(*topSnapshot) error{r.readMembers, r.readRings, r.readHolders, r.readCache}
	for _, step := range steps {
		if err := notYet(step(s)); err != nil && s.trouble == "" {
			s.trouble = plain(err)
		}
	}
	if len(s.members) == 0 && s.trouble == "" {
		s.trouble = "No member lives. What they left is still there."
	}
	r.readEvents()
}

func (r *topReader) readMembers(s *topSnapshot) error {
	members, err := r.place.fleet.Members()
	if err != nil {
		return err
	}
	for _, m := range members {
		s.members = append(s.members, topMember{node: m.Node, pid: m.PID, age: m.Since.Age(), pulse: orbit.Pulse{State: orbit.Missing}})
	}
	pulses, err := pulsesOf(r.place.fleet, members, r.fresh)
	for _, p := range pulses {
		if i := slices.IndexFunc(s.members, func(m topMember) bool { return m.node == p.Node }); i >= 0 {
			s.members[i].pulse = p
		} else {
			s.strays++
		}
	}
	return err
}

func (r *topReader) readRings(s *topSnapshot) error {
	kinds, err := kindsOf(r.place.fleet)
	for _, kind := range kinds {
		ring, err := r.place.fleet.Ring(kind)
		if err != nil {
			s.rings = append(s.rings, topRing{kind: kind, trouble: plain(err)})
			continue
		}
		now := headSample{orbit.Now(), ring.Head()}
		past := append(r.heads[kind], now)
		past = past[max(len(past)-keptSamples, 0):]
		r.heads[kind] = past
		s.rings = append(s.rings, topRing{kind: kind, geometry: ring.Geometry(), head: now.head, rate: lately(past), history: rates(past)})
	}
	return err
}

// rates returns what each sample is over the one before, per second.
func rates(samples []headSample) (list []float64) {
	for i := 1; i < len(samples); i++ {
		list = append(list, rateBetween(samples[i-1], samples[i]))
	}
	return list
}

// lately returns the rate over the last second, or the last two samples if
// they are further apart.
func lately(samples []headSample) float64 {
	if len(samples) < 2 {
		return 0
	}
	last := samples[len(samples)-1]
	i := len(samples) - 2
	for i > 0 && time.Duration(last.at-samples[i].at) < rateOver {
		i--
	}
	return rateBetween(samples[i], last)
}

func rateBetween(a, b headSample) float64 {
	return float64(b.head-a.head) / max(time.Duration(b.at-a.at), 1).Seconds()
}

func (r *topReader) readHolders(s *topSnapshot) (err error) {
	s.holders, _, err = holdersOf(r.place.fleet)
	return err
}

func (r *topReader) readCache(s *topSnapshot) error {
	ring, err := r.place.fleet.Ring(orbit.KindCache)
	if err != nil {
		return err
	}
	capacity := ring.Geometry().Capacity
	s.cache = &topCache{rate: lately(r.heads[orbit.KindCache]), capacity: capacity}
	prefixes, err := prefixesOf(ring)
	if err != nil {
		return err
	}
	watched := prefixes[:min(len(prefixes), max(watchedSlots/capacity, 1))]
	s.cache.unwatched = len(prefixes) - len(watched)
	maps.DeleteFunc(r.caches, func(p string, _ *orbit.Cache) bool { return !slices.Contains(watched, p) })
	for _, prefix := range watched {
		stats, err := r.cacheStats(prefix)
		if err != nil {
			return err
		}
		s.cache.prefixes = append(s.cache.prefixes, topPrefix{prefix, stats.Entries, stats.Evictions})
	}
	return nil
}

func (r *topReader) cacheStats(prefix string) (orbit.CacheStats, error) {
	if cache := r.caches[prefix]; cache != nil {
		return cache.Stats()
	}
	cache, err := orbit.OpenCache(r.place.fleet, prefix)
	if err != nil {
		return orbit.CacheStats{}, err
	}
	r.caches[prefix] = cache
	return cache.Stats()
}

// watchedSlots limits the memory that it takes to watch the cache: the handle
// of a prefix has some 90 bytes for every slot of the ring.
const watchedSlots = 1 << 18

// readEvents reads what was published by now, as far as it is to be shown.
func (r *topReader) readEvents() {
	if r.feed == nil {
		var err error
		if r.feed, err = openFeed(r.place.fleet, orbit.KindEvents); err != nil {
			r.feed = nil
			return
		}
	}
	for head := r.feed.ring.Head(); int64(head-r.feed.at()) > 0; {
		var item feedItem
		if more, err := r.feed.next(&item); err != nil || !more {
			return
		}
		if item.passed.Total() == 0 && head-r.feed.at() > keptEvents {
			continue // it would scroll out at once
		}
		for _, line := range item.lines(orbit.KindEvents, false) {
			r.say(line)
		}
	}
}

// watchFor reads several times within a while, so that there are rates to show,
// and returns the last snapshot.
func (r *topReader) watchFor(ctx context.Context, d time.Duration) *topSnapshot {
	const reads = 20
	for range reads {
		r.read()
		sleep(ctx, d/reads)
	}
	return r.read()
}
