//go:build linux

package main

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// A job is a piece of work that is measured for every peer that can do it.
type job struct {
	name  string
	title string
	shows shows
	can   func(*peer) bool
	run   func(*bench, *peer) (figure, error)
}

// shows says how a job's figures are shown.
type shows uint8

const (
	asTime  shows = 1 << iota // of one operation
	asRate                    // of all processes together
	inChart                   // too
)

// points are the values of what some jobs vary.
type points struct {
	subscribers, writers, payloads, capacities, members []int
}

var (
	allPoints = points{
		subscribers: []int{8, 64},
		writers:     []int{1, 2, 4, 8, 16},
		payloads:    []int{8, 64, 512, 4 << 10, 16 << 10, 64 << 10},
		capacities:  []int{64, 1 << 10, 16 << 10, 256 << 10, 1 << 20},
		members:     []int{1, 8, 64, 511},
	}
	fewPoints = points{
		subscribers: []int{8},
		writers:     []int{1, 4},
		payloads:    []int{64, 4 << 10},
		capacities:  []int{1 << 10, 64 << 10},
		members:     []int{1, 64},
	}
)

// jobs are all of them, in the order of the report.
func jobs(at points) []job {
	list := []job{
		{"latest/write", "write the latest value, 64 bytes", asTime | inChart, hasLatest, writeLatest},
		{"latest/read", "read the latest value, 64 bytes, which another process wrote", asTime | inChart, hasLatest, readLatest},
		{"cache/get", "get one of 1000 keys, 64 bytes, which another process put", asTime | inChart, hasStore, getBeside(idle)},
		{"cache/put", "put one of 1000 keys, 64 bytes", asTime | inChart, hasStore, putStore},
		{"cache/get+10k", "get while another process puts 10,000 a second", asTime | inChart, hasStore, getBeside(10_000)},
		{"cache/get+max", "get while another process puts as fast as it can", asTime, hasStore, getBeside(flatOut)},
		{"event/publish", "publish 64 bytes, nobody asleep", asTime | inChart, hasReceiver, publish},
		{"event/deliver", "deliver 64 bytes to another process that polls", asRate | inChart, hasReceiver, deliver(1)},
		{"event/deliver64", "deliver 64 bytes in batches of 64", asRate | inChart, hasBatches, deliver(64)},
		{"event/wake", "wake another process that sleeps: from the send to its code", asTime | inChart, hasSleeper, fanOut(1)},
	}
	for _, n := range at.subscribers {
		list = append(list, job{fmt.Sprintf("event/fanout%d", n), fmt.Sprintf("until the last of %d sleeping processes has it", n), asTime | inChart, hasSleeper, fanOut(n)})
	}
	list = append(list,
		job{"claim/free", "claim and release a subject that nobody else wants", asTime | inChart, hasClaimer, claimFree},
		job{"claim/contended", "claim and release, 4 processes after one subject", asRate | inChart, hasClaimer, claimContended},
		job{"member/join", "join and leave", asTime | inChart, hasJoin, joinAmong(1)},
		job{"member/join+512", "join and leave with 511 others there", asTime, hasCrowd, joinAmong(511)})
	for _, n := range at.writers {
		list = append(list, job{fmt.Sprintf("writers/%d", n), fmt.Sprintf("write the latest value, 64 bytes, writing processes: %d", n), asRate, hasScale, writers(n)})
	}
	for _, n := range at.payloads {
		list = append(list, sweep(fmt.Sprintf("payload/%d", n), fmt.Sprintf("latest value, %d bytes, 1024 slots", n), sweeps,
			func(p *place) { p.Payload, p.Capacity = n, 1024 })...)
	}
	for _, n := range at.capacities {
		list = append(list, sweep(fmt.Sprintf("capacity/%d", n), fmt.Sprintf("latest value, 64 bytes, %d slots", n), hasSlots,
			func(p *place) { p.Capacity = n })...)
	}
	for _, n := range at.members {
		list = append(list, sweep(fmt.Sprintf("members/%d", n), fmt.Sprintf("latest value, 64 bytes, beside %d idle members", n), hasMembers,
			func(p *place) { p.Members = n })...)
	}
	return list
}

func hasLatest(p *peer) bool   { return p.latest != nil }
func hasStore(p *peer) bool    { return p.store != nil }
func hasReceiver(p *peer) bool { return p.receiver != nil }
func hasBatches(p *peer) bool  { return p.receiver != nil && p.batches }
func hasSleeper(p *peer) bool  { return p.sleeper != nil }
func hasClaimer(p *peer) bool  { return p.claimer != nil }
func hasJoin(p *peer) bool     { return p.join != nil }
func hasCrowd(p *peer) bool    { return p.join != nil && p.crowd }
func sweeps(p *peer) bool      { return p.latest != nil && p.sweep }
func hasScale(p *peer) bool    { return p.latest != nil && p.scale }
func hasSlots(p *peer) bool    { return sweeps(p) && (p.class == classOrbit || p.class == classFloor) }
func hasMembers(p *peer) bool  { return hasCrowd(p) && p.class == classOrbit }

func writeLatest(b *bench, p *peer) (figure, error) {
	at, leave := b.enter(p)
	defer leave()
	return b.latestWrite(p, at)
}

func (b *bench) latestWrite(p *peer, at place) (figure, error) {
	l, err := p.latest(at)
	if err != nil {
		return figure{}, err
	}
	defer l.Close()
	value := make([]byte, at.Payload)
	return b.measure(func(n int) error {
		for range n {
			if err := l.write(value); err != nil {
				return err
			}
		}
		return nil
	})
}

func readLatest(b *bench, p *peer) (figure, error) {
	at, leave := b.enter(p)
	defer leave()
	return b.latestRead(p, at)
}

// latestRead measures reads of a value that a sibling wrote, and left.
func (b *bench) latestRead(p *peer, at place) (figure, error) {
	writer, _, err := b.spawn(order{Role: "write", Peer: p.name, Place: at, Rate: idle})
	if err != nil {
		return figure{}, err
	}
	defer writer.end()
	l, err := p.latest(at)
	if err != nil {
		return figure{}, err
	}
	defer l.Close()
	dst := make([]byte, at.Payload)
	if err := checkLatest(l, dst); err != nil {
		return figure{}, err
	}
	return b.measure(func(n int) error {
		for range n {
			if _, err := l.read(dst); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkLatest wants the value that role write wrote.
func checkLatest(l latest, dst []byte) error {
	got, err := l.read(dst)
	if err != nil {
		return err
	}
	return checkPattern(got, len(dst))
}

func putStore(b *bench, p *peer) (figure, error) {
	at, leave := b.enter(p)
	defer leave()
	s, err := p.store(at)
	if err != nil {
		return figure{}, err
	}
	defer s.Close()
	value, turn := pattern(at.Payload), 0
	f, err := b.measure(func(n int) error {
		for range n {
			turn++
			if err := s.put(keys[turn%len(keys)], value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return f, err
	}
	return f, checkStore(s, keys[turn%len(keys)], value)
}

func checkStore(s store, key string, dst []byte) error {
	got, hit, err := s.get(key, dst)
	if err != nil {
		return err
	}
	if !hit {
		return errMiss
	}
	return checkPattern(got, len(dst))
}

// getBeside measures hits while another process puts at a rate.
func getBeside(rate float64) func(*bench, *peer) (figure, error) {
	return func(b *bench, p *peer) (figure, error) {
		at, leave := b.enter(p)
		defer leave()
		writer, before, err := b.spawn(order{Role: "put", Peer: p.name, Place: at, Rate: rate})
		if err != nil {
			return figure{}, err
		}
		defer writer.end()
		s, err := p.store(at)
		if err != nil {
			return figure{}, err
		}
		defer s.Close()
		f, misses, err := b.hits(s, at.Payload)
		if err != nil {
			return f, err
		}
		if rate == idle && misses > 0 {
			return f, errMiss
		}
		after, err := tally(writer)
		if err != nil {
			return f, err
		}
		if rate != idle {
			f.Remark = "beside " + perSecond(rateOf(before, after[0])) + " puts"
		}
		if misses > 0 {
			f.Remark += fmt.Sprintf("; %d misses of keys that are always there", misses)
		}
		return f, err
	}
}

// hits measures gets of keys that are always there, and counts those that miss
// all the same.
func (b *bench) hits(s store, size int) (f figure, misses int, err error) {
	dst, turn := make([]byte, size), 0
	if err := checkStore(s, keys[0], dst); err != nil {
		return f, 0, err
	}
	f, err = b.measure(func(n int) error {
		for range n {
			turn++
			_, hit, err := s.get(keys[turn%len(keys)], dst)
			if err != nil {
				return err
			}
			if !hit {
				misses++
			}
		}
		return nil
	})
	return f, misses, err
}

func rateOf(before, after report) float64 {
	return float64(after.Count-before.Count) / float64(after.At-before.At) * 1e9
}

func claimFree(b *bench, p *peer) (figure, error) {
	at, leave := b.enter(p)
	defer leave()
	c, err := p.claimer(at)
	if err != nil {
		return figure{}, err
	}
	defer c.Close()
	return b.measure(func(n int) error {
		for range n {
			won, err := c.claim()
			if err != nil {
				return err
			}
			if !won {
				return errors.New("a claim that nobody contends was refused")
			}
			if err := c.release(); err != nil {
				return err
			}
		}
		return nil
	})
}

func claimContended(b *bench, p *peer) (figure, error) {
	f, last, err := b.together(p, order{Role: "claim"}, 4)
	if err != nil {
		return f, err
	}
	var won, tries uint64
	least, most := uint64(math.MaxUint64), uint64(0)
	for _, r := range last {
		won, tries = won+r.Count, tries+r.Tries
		least, most = min(least, r.Count), max(most, r.Count)
	}
	f.Remark = fmt.Sprintf("%.0f%% of tries won; the luckiest process had %.0f%%, the unluckiest %.0f%%",
		share(won, tries), share(most, won), share(least, won))
	return f, nil
}

func share(part, whole uint64) float64 { return 100 * float64(part) / float64(max(whole, 1)) }

// writers measures n processes that write as fast as they can.
func writers(n int) func(*bench, *peer) (figure, error) {
	return func(b *bench, p *peer) (figure, error) {
		f, _, err := b.together(p, order{Role: "write", Rate: flatOut}, n)
		return f, err
	}
}

// together measures what n siblings do at once, in total.
func (b *bench) together(p *peer, o order, n int) (figure, []report, error) {
	at, leave := b.enter(p)
	defer leave()
	o.Peer, o.Place = p.name, at
	siblings := make([]*sibling, n)
	for i := range siblings {
		s, _, err := b.spawn(o)
		if err != nil {
			return figure{}, nil, err
		}
		defer s.end()
		siblings[i] = s
	}
	return b.tallies(siblings)
}

// tallies asks siblings again and again how far they are. The figure is the
// time for one operation, whichever sibling does it. The first round is the
// warm-up, and a round in which nothing was done goes on.
func (b *bench) tallies(siblings []*sibling) (f figure, last []report, err error) {
	before, err := tally(siblings...)
	for idle := 0; err == nil && len(f.Rounds) <= b.crowds; {
		time.Sleep(b.crowd)
		if last, err = tally(siblings...); err != nil {
			break
		}
		total := 0.0
		for i := range last {
			total += rateOf(before[i], last[i])
		}
		if total == 0 {
			if idle++; idle > 100 {
				return f, last, errors.New("siblings at work get nothing done")
			}
			continue
		}
		before = last
		f.Rounds = append(f.Rounds, 1e9/total)
	}
	if err != nil {
		return f, last, err
	}
	f.Rounds = f.Rounds[1:]
	f.Nanos = median(f.Rounds)
	return f, last, nil
}

// joinAmong measures joining with others there, who are all in one process.
// There is always one, or each join would have to make what it joins.
func joinAmong(others int) func(*bench, *peer) (figure, error) {
	return func(b *bench, p *peer) (figure, error) {
		at, leave := b.enter(p)
		defer leave()
		crowd, _, err := b.spawn(order{Role: "crowd", Peer: p.name, Place: at, Count: others})
		if err != nil {
			return figure{}, err
		}
		defer crowd.end()
		return b.measure(func(n int) error {
			for range n {
				member, err := p.join(at)
				if err != nil {
					return err
				}
				if err := member.Close(); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// sweep makes the jobs of writing and of reading in a place of some shape.
func sweep(name, title string, can func(*peer) bool, shape func(*place)) []job {
	in := func(measure func(*bench, *peer, place) (figure, error)) func(*bench, *peer) (figure, error) {
		return func(b *bench, p *peer) (figure, error) {
			at, leave := b.enter(p)
			defer leave()
			shape(&at)
			if at.Members > 0 {
				crowd, _, err := b.spawn(order{Role: "crowd", Peer: p.name, Place: at, Count: at.Members})
				if err != nil {
					return figure{}, err
				}
				defer crowd.end()
			}
			return measure(b, p, at)
		}
	}
	return []job{
		{name + "/write", "write the " + title, asTime, can, in((*bench).latestWrite)},
		{name + "/read", "read the " + title, asTime, can, in((*bench).latestRead)},
	}
}
