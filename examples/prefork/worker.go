package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"orbit"
)

// options must be alike in all workers. The cache has room for 16384 changes
// of sessions: a session is forgotten when so many came after it.
func options() orbit.Options {
	return orbit.Options{
		Size:  *count,
		Rings: map[uint8]orbit.Geometry{orbit.KindCache: {Capacity: 1 << 14, PayloadLimit: 128}},
	}
}

// A worker is one process that serves.
type worker struct {
	fleet    *orbit.Fleet
	sessions *orbit.Cache
	bus      *orbit.EventBus
	loads    *orbit.Orbital[Load]
	reports  *orbit.Orbital[Report]
	contest  *orbit.Contest
	heart    *orbit.Heartbeat
	changes  *orbit.Subscriber // of the configuration

	greeting atomic.Pointer[string] // the present configuration
	requests atomic.Uint64
	busy     atomic.Int64
}

// Load is what each worker tells of itself with every beat.
type Load struct {
	Requests uint64 // answered so far
	Busy     int64  // at work now
}

// OrbitKind names the ring that loads travel in.
func (Load) OrbitKind() uint8 { return 33 }

// beat is the time between two beats.
const beat = 250 * time.Millisecond

// work is the life of a worker.
func work() error {
	// A Ctrl-C reaches every process of a terminal. The supervisor decides.
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	ctx, supervisorGone := context.WithCancel(context.Background())
	defer supervisorGone()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		supervisorGone()
	}()
	fleet, err := orbit.Join(*fleetName, options())
	if err != nil {
		return err
	}
	defer func() {
		fleet.Close()
		if ctx.Err() != nil {
			// A supervisor that was killed cannot clear up. While others are
			// members this fails, as it should: the last one does it.
			orbit.Remove(*fleetName)
		}
	}()
	w, err := newWorker(fleet)
	if err != nil {
		return err
	}
	return w.live(ctx)
}

func newWorker(fleet *orbit.Fleet) (*worker, error) {
	w := &worker{fleet: fleet}
	var errs [6]error
	w.sessions, errs[0] = orbit.OpenCache(fleet, "session")
	w.bus, errs[1] = orbit.Events(fleet)
	w.loads, errs[2] = orbit.Bind[Load](fleet)
	w.reports, errs[3] = orbit.Bind[Report](fleet)
	w.contest, errs[4] = orbit.OpenContest(fleet)
	w.heart, errs[5] = orbit.Heartbeats(fleet)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	w.changes = w.bus.SubscribeOldest(orbit.Topic(topicConfig))
	w.takeOver(&orbit.Event{Payload: []byte("Hello")})
	return w, w.catchUp()
}

// live serves and does all else that a worker does until ctx ends, or one part
// of it fails. Then it finishes the requests it is at.
func (w *worker) live(ctx context.Context) error {
	listener, err := listen(*addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	server := &http.Server{Handler: w.handler()}
	var parts sync.WaitGroup
	for _, part := range []func(context.Context) error{
		func(context.Context) error { return server.Serve(listener) },
		w.followConfig, w.keepBeating, w.schedule,
	} {
		parts.Add(1)
		go func() {
			defer parts.Done()
			cancel(part(ctx)) // the first cause counts
		}()
	}
	<-ctx.Done()
	finish, giveUp := context.WithTimeout(context.Background(), patience)
	defer giveUp()
	err = server.Shutdown(finish)
	parts.Wait()
	if cause := context.Cause(ctx); cause != context.Canceled {
		return cause
	}
	return err
}

// topicConfig is the topic of changes of the configuration. Nothing else goes
// over the bus, and so the newest change is there for those who come later.
const topicConfig = "config"

// takeOver takes over a change of the configuration.
func (w *worker) takeOver(change *orbit.Event) {
	greeting := string(change.Payload)
	w.greeting.Store(&greeting)
}

// catchUp takes over the changes from before this worker.
func (w *worker) catchUp() error {
	for {
		var change orbit.Event
		switch err := w.changes.Poll(&change); {
		case errors.Is(err, orbit.ErrNoFrame):
			return nil
		case err != nil:
			return err
		}
		w.takeOver(&change)
	}
}

// followConfig takes over each change as it comes. The order is the same for
// all workers.
func (w *worker) followConfig(ctx context.Context) error {
	var change orbit.Event
	for {
		if err := w.changes.Next(ctx, &change); err != nil {
			return err
		}
		w.takeOver(&change)
	}
}

// keepBeating stores the load and beats until ctx ends.
func (w *worker) keepBeating(ctx context.Context) error {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		if _, err := w.loads.Store(Load{w.requests.Load(), w.busy.Load()}); err != nil {
			return err
		}
		if err := w.heart.Beat(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
