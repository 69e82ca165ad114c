package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"orbit"
)

// What commands do with a fleet that have nothing else in common.

// observe opens a fleet for reading: it maps read-only and never joins.
func observe(fleet string) (*orbit.Fleet, error) {
	f, err := orbit.Observe(fleet)
	if errors.Is(err, orbit.ErrNotExist) {
		return nil, fmt.Errorf("%w: \"orbit ls\" lists the fleets of this host", err)
	}
	return f, err
}

// notYet passes over the error of what nobody has made yet.
func notYet(err error) error {
	if errors.Is(err, orbit.ErrNotExist) {
		return nil
	}
	return err
}

// useOf names what a ring is for.
func useOf(kind uint8) string {
	switch kind {
	case orbit.KindCache:
		return "cache"
	case orbit.KindEvents:
		return "events"
	case orbit.KindHeartbeat:
		return "heartbeat"
	case orbit.KindContest:
		return "contest"
	}
	if kind == 0 || kind > 199 {
		return "reserved"
	}
	return "user"
}

// kindsOf lists the rings of a fleet. Not every system can list them, but each
// can say that one does not exist.
func kindsOf(f *orbit.Fleet) ([]uint8, error) {
	kinds, err := f.Kinds()
	if !errors.Is(err, errors.ErrUnsupported) {
		return kinds, err
	}
	for kind := 1; kind <= 255; kind++ {
		if _, err := f.Ring(uint8(kind)); !errors.Is(err, orbit.ErrNotExist) {
			kinds = append(kinds, uint8(kind))
		}
	}
	return kinds, nil
}

// back iterates over the counters a ring can still hold, from the newest on.
func back(r *orbit.Ring) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		oldest, c := r.Oldest().Position(), r.Head()
		for range r.Geometry().Capacity {
			if c == oldest || !yield(c-1) {
				return
			}
			c--
		}
	}
}

// pulsesOf returns the newest beat of every node that beat or is a member.
func pulsesOf(f *orbit.Fleet, members []orbit.Member, fresh time.Duration) ([]orbit.Pulse, error) {
	h, err := orbit.Heartbeats(f)
	if err != nil {
		return nil, err
	}
	// Without any expected node, some are expected by default: 0 is none.
	nodes := []uint16{0}
	for _, m := range members {
		nodes = append(nodes, m.Node)
	}
	all, err := h.Snapshot(fresh, nodes...)
	return slices.DeleteFunc(all, func(p orbit.Pulse) bool { return p.Node == 0 }), err
}

func isMember(members []orbit.Member, node uint16) bool {
	return slices.ContainsFunc(members, func(m orbit.Member) bool { return m.Node == node })
}

// holdersOf returns who holds what in the contest, in order, and for how many
// claims it has room.
func holdersOf(f *orbit.Fleet) (list []orbit.Holder, room int, err error) {
	c, err := orbit.OpenContest(f)
	if err != nil {
		return nil, 0, err
	}
	list, err = c.Holders()
	slices.SortFunc(list, func(a, b orbit.Holder) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Label, b.Label))
	})
	return list, c.Capacity(), err
}

// endless tells whether a claim ends only by release or death: its time left
// is then that to the end of the clock.
func endless(left time.Duration) bool { return left > 1<<62 }

// untilSignal returns a context that ends when this process is asked to.
func untilSignal() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
}

// sleep waits, but not longer than until the context ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
