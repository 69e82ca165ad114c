//go:build linux

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"orbit"
)

// publish measures what a message costs who sends it, with nobody to receive,
// or with somebody who drains the queue if the peer is one.
func publish(b *bench, p *peer) (figure, error) {
	at, leave := b.enter(p)
	defer leave()
	if p.queue {
		drain, _, err := b.spawn(order{Role: "read", Peer: p.name, Place: at})
		if err != nil {
			return figure{}, err
		}
		defer drain.end()
	}
	s, err := p.sender(at)
	if err != nil {
		return figure{}, err
	}
	defer s.Close()
	message := make([]byte, at.Payload)
	return b.measure(func(n int) error {
		for range n {
			if err := s.send(message); err != nil {
				return err
			}
		}
		return nil
	})
}

// deliver measures how many messages reach a process that only receives, from
// one that only sends.
func deliver(batch int) func(*bench, *peer) (figure, error) {
	return func(b *bench, p *peer) (figure, error) {
		at, leave := b.enter(p)
		defer leave()
		reader, first, err := b.spawn(order{Role: "read", Peer: p.name, Place: at})
		if err != nil {
			return figure{}, err
		}
		defer reader.end()
		writer, _, err := b.spawn(order{Role: "send", Peer: p.name, Place: at, Rate: flatOut, Batch: batch})
		if err != nil {
			return figure{}, err
		}
		defer writer.end()
		f, last, err := b.tallies([]*sibling{reader})
		if err != nil {
			return f, err
		}
		r := last[0]
		f.allocates(float64(r.Mallocs-first.Mallocs) / float64(max(r.Count, 1)))
		if r.Lost > 0 {
			f.Remark = fmt.Sprintf("%.1f%% overwritten or dropped", 100*float64(r.Lost)/float64(r.Lost+r.Count))
		}
		if r.Torn > 0 {
			f.Remark += fmt.Sprintf("; %d torn", r.Torn)
		}
		return f, err
	}
}

// fanOut measures how long it takes until the last of n sleeping processes has
// a message.
func fanOut(n int) func(*bench, *peer) (figure, error) {
	return func(b *bench, p *peer) (figure, error) {
		at, leave := b.enter(p)
		defer leave()
		at.Subscribers = n
		sleepers := make([]*sibling, n)
		for i := range sleepers {
			at.Index = i
			s, _, err := b.spawn(order{Role: "listen", Peer: p.name, Place: at})
			if err != nil {
				return figure{}, err
			}
			defer s.end()
			sleepers[i] = s
		}
		s, err := p.sender(at)
		if err != nil {
			return figure{}, err
		}
		defer s.Close()
		costs, err := b.sendSlowly(s, n)
		if err != nil {
			return figure{}, err
		}
		last := make([]int64, len(costs))
		reports, err := stop(sleepers...)
		if err != nil {
			return figure{}, err
		}
		for _, r := range reports {
			raise(last, r.Latencies)
		}
		return summary(last, costs)
	}
}

// sendSlowly sends messages so far apart that everybody sleeps again, and
// returns what each cost.
func (b *bench) sendSlowly(s sender, subscribers int) (costs []float64, err error) {
	message := make([]byte, value)
	pause := time.Millisecond + time.Duration(subscribers)*150*time.Microsecond
	count := max(b.wakes/(1+subscribers/4), 20)
	for i := range count {
		time.Sleep(pause + rand.N(pause/2))
		start := orbit.Now()
		mark(message, uint64(i+1), int64(start))
		if err := s.send(message); err != nil {
			return nil, err
		}
		costs = append(costs, float64(orbit.Now()-start))
	}
	time.Sleep(pause + 50*time.Millisecond)
	return costs, nil
}

// raise raises what is known of the last to have each message by one more
// subscriber. Whoever never got one makes it -1 for good.
func raise(last, latencies []int64) {
	for i := range last {
		switch {
		case i >= len(latencies) || latencies[i] == 0:
			last[i] = -1
		case last[i] >= 0:
			last[i] = max(last[i], latencies[i])
		}
	}
}

func summary(last []int64, costs []float64) (f figure, err error) {
	var times []float64
	for _, t := range last {
		if t >= 0 {
			times = append(times, float64(t))
		}
	}
	if len(times) == 0 {
		return f, errors.New("no message came")
	}
	f.Nanos, f.P99 = median(times), quantile(times, 0.99)
	f.Remark = "send " + duration(median(costs))
	if missed := len(last) - len(times); missed > 0 {
		f.Remark += fmt.Sprintf("; %d of %d not by all", missed, len(last))
	}
	return f, nil
}
