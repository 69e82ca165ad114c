//go:build linux

package main

import (
	"errors"
	"strconv"
	"time"

	"orbit"
)

// A contest is a lock for each of a few subjects. Every history has subjects of
// its own.

const subjects = 2

// clockSlack is how long after its end a claim may still stand for others.
const clockSlack = int64(50 * time.Microsecond)

type job struct{}

func (job) OrbitKind() uint8 { return 3 }

// A rush is a contest for one subject that is claimed, asked about and released
// without a pause: nothing else ends a claim but a death.
func lockScenario(name string, rush bool) scenario {
	return scenario{
		name: name,
		rings: func(int) map[uint8]orbit.Geometry {
			return map[uint8]orbit.Geometry{orbit.KindContest: {Capacity: 64}}
		},
		open: func(f *orbit.Fleet) (player, error) {
			c, err := orbit.OpenContest(f)
			return &contest{Contest: c, rush: rush}, err
		},
		parts: func(h *history) (parts []part) {
			h.halves()
			h.expire(func(o *op) bool {
				return (o.Action == claim || o.Action == renew || o.Action == extend) && (o.Outcome == done || o.Outcome == unknown)
			}, clockSlack)
			for key := range subjects {
				h.die(key)
				ops := h.of(key)
				excuseHolders(ops)
				parts = append(parts, part{ops: ops, step: stepLock, start: lock{}})
			}
			return parts
		},
	}
}

type contest struct {
	*orbit.Contest
	rush   bool
	guards [lanes][subjects]*orbit.Guard
}

func (p *contest) begin(*lane) error { return nil }

// forget gives back what the lanes still hold of subjects that nobody claims
// any more.
func (p *contest) forget() {
	for _, guards := range p.guards {
		for _, g := range guards {
			if g != nil {
				g.Release()
			}
		}
	}
	p.guards = [lanes][subjects]*orbit.Guard{}
}

func (p *contest) act(l *lane) error {
	r := p.choose(l)
	return l.do(p.Ring(), r, func(r *record) error {
		switch r.Action {
		case holder:
			return p.holder(r, l.round)
		case claim:
			return p.claim(l, r)
		}
		return p.use(l, r, p.guards[l.number][r.Key])
	})
}

// choose returns what to do next.
func (p *contest) choose(l *lane) (r record) {
	if !p.rush {
		r.Key = int64(l.IntN(subjects))
	}
	g := p.guards[l.number][r.Key]
	switch n := l.IntN(100); {
	case g == nil && p.rush:
		r.Action, r.TTL = claim, time.Hour
	case n < 25:
		r.Action = holder
	case g == nil:
		r.Action, r.TTL, r.Value = claim, ttl(l), uint64(l.IntN(2))
	case n < 45:
		r.Action, r.Value = valid, g.Token()
	case n < 60 && !p.rush:
		r.Action, r.TTL, r.Value = renew, ttl(l), g.Token()
	default:
		r.Action, r.Value = release, g.Token()
	}
	return r
}

// ttl returns times that are often too short, and sometimes so long that only
// a release or a death ends the claim.
func ttl(l *lane) time.Duration {
	if l.IntN(4) == 0 {
		return time.Hour
	}
	return time.Duration(50+l.IntN(3000)) * time.Microsecond
}

func label(round uint64, key int64) string {
	return strconv.FormatUint(round, 10) + "." + strconv.FormatInt(key, 10)
}

// owners are the owner labels: without one a claim is never taken up.
var owners = [2]string{"", "again"}

func (p *contest) claim(l *lane, r *record) error {
	g, err := orbit.Claim[job](p.Contest, label(l.round, r.Key), owners[r.Value], r.TTL)
	var held *orbit.HeldError
	switch {
	case errors.As(err, &held):
		r.Outcome, r.Got, r.Holder = refused, held.Holder.Token, int64(held.Holder.PID)
	case errors.Is(err, orbit.ErrLapsed):
		r.Outcome = lapsed
	case errors.Is(err, orbit.ErrBusy):
		r.Outcome = busy
	case err != nil:
		return err
	default:
		r.Outcome, r.Got = done, g.Token()
		p.guards[l.number][r.Key] = g
	}
	return nil
}

func (p *contest) holder(r *record, round uint64) error {
	h, held, err := orbit.HolderOf[job](p.Contest, label(round, r.Key))
	r.Outcome = missed
	if held {
		r.Outcome, r.Got, r.Holder = done, h.Token, int64(h.PID)
	}
	return err
}

func (p *contest) use(l *lane, r *record, g *orbit.Guard) (err error) {
	r.Outcome = done
	switch r.Action {
	case valid:
		if !g.Valid() {
			r.Outcome = refused
		}
	case renew:
		err = g.Renew(r.TTL)
	case release:
		err = g.Release()
	}
	if errors.Is(err, orbit.ErrLapsed) {
		r.Outcome, err = refused, nil
	}
	if r.Outcome == refused || r.Action == release {
		p.guards[l.number][r.Key] = nil
	}
	return err
}

// lock is the state of a subject.
type lock struct {
	process int    // who holds it, 0 if nobody does
	token   uint64 // of the holder, 0 if its process died before it could say
	again   bool   // whether the same process may take the claim up
	born    int    // the operation that claimed
	epoch   int    // the operation that set the time
	over    bool   // its time is over: others may claim, or its owner renew
	shaky   bool   // it got another time when it was over: others may not have seen that
	last    uint64 // the largest token seen
}

func (s lock) held() bool         { return s.process != 0 && !s.over }
func (s lock) free() lock         { return lock{last: s.last} }
func (s lock) by(o *op) bool      { return s.process == o.process && s.token == o.Value }
func (s lock) renewed(o *op) lock { s.epoch, s.over, s.shaky = o.id, false, false; return s }
func (s lock) open(o *op) bool    { return !s.held() || s.mine(o) }
func (s lock) mine(o *op) bool    { return s.held() && s.process == o.process && s.again && o.Value == 1 }
func (s lock) claimed(o *op) lock {
	return lock{process: o.process, token: o.Got, again: o.Value == 1, born: o.id, epoch: o.id, last: max(s.last, o.Got)}
}

// meant tells whether an extend or a drop is about the claim that holds, and not
// about the very claim that it belongs to.
func (s lock) meant(o *op) bool {
	return s.process == o.process && s.born != o.of && (s.token == o.Value || o.Value == 0 && s.again)
}

// stepLock is a lock whose tokens grow. Claims fall by expire, die and drop.
func stepLock(state any, o *op) []any {
	st := state.(lock)
	switch o.Action {
	case claim:
		return st.claim(o)
	case holder:
		if o.Outcome == missed {
			return only(!st.held(), st)
		}
		return st.named(o)
	case valid:
		return only((st.held() && st.by(o)) == (o.Outcome == done), st)
	case renew:
		switch {
		case o.Outcome == refused:
			return only(!(st.held() && st.by(o)), st)
		case o.Outcome == unknown: // its halves are operations by themselves
			return []any{st}
		}
		return only(st.by(o), st.renewed(o))
	case release:
		switch {
		case o.Outcome == refused && st.by(o):
			return only(st.over, st.free())
		case o.Outcome == refused:
			return []any{st}
		case o.Outcome == unknown:
			return append(only(st.by(o), st.free()), st)
		}
		return only(st.held() && st.by(o), st.free())
	case expire:
		st.over = st.over || st.epoch == o.of
		return []any{st}
	case extend:
		next := st.renewed(o)
		next.shaky = st.over
		return append(only(st.meant(o), next), st)
	case drop:
		return append(only(st.meant(o) && (o.excused || st.shaky), st.free()), st)
	case die:
		if st.process == o.process {
			st = st.free()
		}
		return []any{st}
	}
	return nil
}

func only(ok bool, next lock) []any {
	if ok {
		return []any{next}
	}
	return nil
}

func (s lock) claim(o *op) []any {
	switch o.Outcome {
	case done:
		return only(s.open(o) && o.Got > s.last, s.claimed(o))
	case unknown:
		return append(only(s.open(o), s.claimed(o)), s)
	case lapsed:
		return []any{s}
	}
	return s.named(o)
}

// named is the state after somebody was told who holds the subject. That tells
// the token of a holder that died before it could.
func (s lock) named(o *op) []any {
	next := s
	if next.token == 0 && o.Got > next.last {
		next.token, next.last = o.Got, o.Got
	}
	if s.held() && s.process == int(o.Holder) && next.token == o.Got {
		return []any{next}
	}
	return only(o.excused, s)
}

// excuseHolders finds the answers that name a claim in the making, which has no
// token or one that never came to be a guard's.
func excuseHolders(ops []*op) {
	granted := map[uint64]bool{}
	for _, o := range ops {
		if o.Action == claim && o.Outcome == done {
			granted[o.Got] = true
		}
	}
	for _, o := range ops {
		if o.Holder == 0 || granted[o.Got] {
			continue
		}
		for _, c := range ops {
			if c != o && c.Action == claim && c.process == int(o.Holder) && c.Call <= o.Return && o.Call <= c.Return {
				o.excused = true
			}
		}
	}
}
