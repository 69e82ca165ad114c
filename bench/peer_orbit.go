//go:build linux

package main

import (
	"context"
	"errors"
	"io"
	"time"

	"orbit"
)

const orbitKind = 1

// orbitPeer is Orbit as one would use it: a ring for the latest value, the
// cache, the event bus and the contest.
func orbitPeer(name string, noFaultGuard bool) *peer {
	o := &orbitFleets{noFaultGuard}
	p := &peer{
		name:     name,
		class:    classOrbit,
		notes:    []string{"in memory only; holds no sender up: newer frames overwrite older ones, and a reader that falls a lap behind is told how many it missed"},
		latest:   o.latest,
		store:    o.store,
		sender:   func(at place) (sender, error) { return o.bus(at) },
		receiver: func(at place) (receiver, error) { return o.subscribe(at, false) },
		sleeper:  func(at place) (receiver, error) { return o.subscribe(at, true) },
		claimer:  o.claimer,
		join:     o.join,
		remove:   removeFleet,
		crowd:    true,
		scale:    true,
		sweep:    true,
	}
	if noFaultGuard {
		p.notes = []string{"a segment truncated while in use crashes the process"}
		p.sleeper, p.join, p.crowd = nil, nil, false // the guard makes no difference there
	}
	return p
}

// orbitRing is the ring under the event bus, which has batches.
var orbitRing = &peer{
	name:     "orbit ring",
	class:    classOrbit,
	notes:    []string{"frames without topic or time: Ring.Publish, PublishBatch and Cursor.Poll"},
	sender:   func(at place) (sender, error) { return openOrbitRing(at) },
	receiver: func(at place) (receiver, error) { return openOrbitRing(at) },
	batches:  true,
	remove:   removeFleet,
}

// orbitValue is the latest value as a Go type.
var orbitValue = &peer{
	name:   "orbit typed value",
	class:  classOrbit,
	notes:  []string{"Bind, Store and Load of a struct of the same size"},
	latest: openOrbitValue,
	remove: removeFleet,
}

type orbitFleets struct{ noFaultGuard bool }

func (o *orbitFleets) joinFleet(at place) (*orbit.Fleet, error) {
	return orbit.Join(at.Name, orbit.Options{
		Size:         1,
		NoFaultGuard: o.noFaultGuard,
		Rings:        map[uint8]orbit.Geometry{orbitKind: {Capacity: at.Capacity, PayloadLimit: at.Payload}},
	})
}

func (o *orbitFleets) join(at place) (io.Closer, error) { return o.joinFleet(at) }

func removeFleet(at place) { orbit.Remove(at.Name) }

type orbitLatest struct {
	*orbit.Fleet
	ring *orbit.Ring
}

func (o *orbitFleets) latest(at place) (latest, error) {
	f, err := o.joinFleet(at)
	if err != nil {
		return nil, err
	}
	r, err := f.Ring(orbitKind)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &orbitLatest{f, r}, nil
}

func (l *orbitLatest) write(value []byte) error {
	_, err := l.ring.Publish(1, 1, value)
	return err
}

func (l *orbitLatest) read(dst []byte) ([]byte, error) {
	f, err := l.ring.Newest(dst[:0])
	return f.Payload, err
}

type typedValue [value]byte

func (typedValue) OrbitKind() uint8 { return orbitKind + 1 }

type orbitTyped struct {
	*orbit.Fleet
	bound *orbit.Orbital[typedValue]
}

func openOrbitValue(at place) (latest, error) {
	f, err := orbit.Join(at.Name, orbit.Options{Size: 1})
	if err != nil {
		return nil, err
	}
	bound, err := orbit.Bind[typedValue](f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &orbitTyped{f, bound}, nil
}

func (t *orbitTyped) write(value []byte) error {
	_, err := t.bound.Store(typedValue(value))
	return err
}

func (t *orbitTyped) read(dst []byte) ([]byte, error) {
	v, _, err := t.bound.Load()
	return append(dst[:0], v[:]...), err
}

type orbitStore struct {
	*orbit.Fleet
	cache *orbit.Cache
}

func (o *orbitFleets) store(at place) (store, error) {
	f, err := o.joinFleet(at)
	if err != nil {
		return nil, err
	}
	c, err := orbit.OpenCache(f, "user")
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &orbitStore{f, c}, nil
}

func (s *orbitStore) put(key string, value []byte) error {
	return s.cache.Put(key, value, ttl*time.Second)
}

func (s *orbitStore) get(key string, dst []byte) ([]byte, bool, error) {
	return s.cache.AppendGet(dst[:0], key)
}

type orbitBus struct {
	*orbit.Fleet
	bus *orbit.EventBus
}

func (o *orbitFleets) bus(at place) (*orbitBus, error) {
	f, err := o.joinFleet(at)
	if err != nil {
		return nil, err
	}
	bus, err := orbit.Events(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &orbitBus{f, bus}, nil
}

func (b *orbitBus) send(message []byte) error {
	_, err := b.bus.Publish("job.done", message)
	return err
}

type orbitSubscriber struct {
	*orbitBus
	sub    *orbit.Subscriber
	events []orbit.Event
	sleeps bool
	ctx    context.Context // one that can end, as it is in most programs
	cancel func()
}

func (o *orbitFleets) subscribe(at place, sleeps bool) (receiver, error) {
	b, err := o.bus(at)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &orbitSubscriber{b, b.bus.SubscribeNow(), make([]orbit.Event, 64), sleeps, ctx, cancel}, nil
}

func (s *orbitSubscriber) Close() error {
	s.cancel()
	return s.orbitBus.Close()
}

func (s *orbitSubscriber) receive(got func(message []byte)) error {
	if s.sleeps {
		err := s.sub.Next(s.ctx, &s.events[0])
		if err == nil {
			got(s.events[0].Payload)
		}
		return err
	}
	n, err := s.sub.PollBatch(s.events)
	for _, ev := range s.events[:n] {
		got(ev.Payload)
	}
	if errors.Is(err, orbit.ErrNoFrame) {
		return nil
	}
	return err
}

type orbitFrames struct {
	*orbit.Fleet
	ring   *orbit.Ring
	cursor *orbit.Cursor
	frames []orbit.Frame
}

func openOrbitRing(at place) (*orbitFrames, error) {
	f, err := (&orbitFleets{}).joinFleet(at)
	if err != nil {
		return nil, err
	}
	r, err := f.Ring(orbitKind)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &orbitFrames{f, r, r.Tail(), make([]orbit.Frame, 64)}, nil
}

func (r *orbitFrames) send(message []byte) error {
	_, err := r.ring.Publish(1, 1, message)
	return err
}

func (r *orbitFrames) sendBatch(messages [][]byte) error {
	for i, m := range messages {
		r.frames[i] = orbit.Frame{Kind: 1, Version: 1, Payload: m}
	}
	_, err := r.ring.PublishBatch(r.frames[:len(messages)])
	return err
}

func (r *orbitFrames) receive(got func(message []byte)) error {
	n, _, err := r.cursor.Poll(r.frames)
	for _, f := range r.frames[:n] {
		got(f.Payload)
	}
	if errors.Is(err, orbit.ErrNoFrame) {
		return nil
	}
	return err
}

type nightly struct{}

func (nightly) OrbitKind() uint8 { return orbitKind + 2 }

type orbitClaimer struct {
	*orbit.Fleet
	contest *orbit.Contest
	guard   *orbit.Guard
}

func (o *orbitFleets) claimer(at place) (claimer, error) {
	f, err := o.joinFleet(at)
	if err != nil {
		return nil, err
	}
	c, err := orbit.OpenContest(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &orbitClaimer{Fleet: f, contest: c}, nil
}

func (c *orbitClaimer) claim() (won bool, err error) {
	c.guard, err = orbit.Claim[nightly](c.contest, "nightly", "worker", ttl*time.Second)
	if errors.Is(err, orbit.ErrHeld) {
		return false, nil
	}
	return err == nil, err
}

func (c *orbitClaimer) release() error { return c.guard.Release() }
