//go:build orbit_overlay && linux

// Duel has two members of a fleet claim one subject at once, in every order of
// their moves with at most four changes of turn. A move is what a claimant does
// from one change of the contest's table to the next. It is built against the
// instrumented copy of package orbit that package orbit/internal/overlay makes,
// by the test in the directory above: what moves is the real code.
//
// Many goroutines or processes hardly ever meet inside a claim, which takes a
// microsecond. Here they always do.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"time"
	"unsafe"

	"orbit"
	"orbit/internal/overlay/step"
)

type prize struct{}

func (prize) OrbitKind() uint8 { return 1 }

// slots is the capacity of the contest's ring: with fewer a claimant would wait
// for the other to finish its announcement.
const slots = 8

func main() {
	if err := duel(os.Args[1]); err != nil {
		fmt.Println("violation:", err)
		os.Exit(1)
	}
}

func duel(name string) error {
	var contests [2]*orbit.Contest
	for i := range contests {
		f, err := orbit.Join(name, orbit.Options{Size: 2, Rings: map[uint8]orbit.Geometry{orbit.KindContest: {Capacity: slots}}})
		if err != nil {
			return err
		}
		defer f.Close()
		if contests[i], err = orbit.OpenContest(f); err != nil {
			return err
		}
	}
	step.Clock = func() int64 { return now }
	step.Before = before
	obstacle, err := findObstacle(name, contests[1])
	if err != nil {
		return err
	}
	for _, meet := range []struct {
		what  string
		begin func() bout
	}{
		{"two claims", func() bout { return newClaims(contests, obstacle) }},
		{"a renewal and a claim", func() bout { return newRenewal(contests) }},
	} {
		for second := range 2 {
			orders, err := every(meet.begin, second)
			if err != nil {
				return fmt.Errorf("%s: %w", meet.what, err)
			}
			fmt.Printf("%s: %d orders\n", meet.what, orders)
		}
	}
	return nil
}

// ---- Turns ----

// now is the time of the clock that the members read.
var now = int64(time.Hour)

// A duelist is a member that moves only when it is its turn.
type duelist struct {
	next    func() (struct{}, bool)
	yield   func(struct{}) bool
	changed bool // whether its last step changed memory
}

// moving is whose turn it is.
var moving *duelist

// before ends a move before a step that may change the table, and after one.
func before(k step.Kind, _ unsafe.Pointer) {
	d := moving
	if d == nil {
		return
	}
	change := k == step.Compare || k == step.Add || k == step.Swap
	if change || d.changed {
		d.pause()
	}
	d.changed = change
}

func (d *duelist) pause() { d.yield(struct{}{}) }

func enter(script func(d *duelist)) *duelist {
	d := &duelist{}
	d.next, _ = iter.Pull(func(yield func(struct{}) bool) {
		d.yield = yield
		script(d)
	})
	return d
}

// move makes up to n moves of the duelist and tells whether it made them all.
func (d *duelist) move(n int) bool {
	moving = d
	defer func() { moving = nil }()
	for range n {
		if _, more := d.next(); !more {
			return false
		}
	}
	return true
}

const toTheEnd = 1 << 30

// A bout is one meeting of two scripts.
type bout interface {
	scripts() [2]func(d *duelist)
	end() error // when both have ended
}

// every has two duelists meet in every order of i moves of the first, j of the
// second, k of the first, then the second to its end, then the first. Which of
// the two is the second is to be told.
func every(begin func() bout, second int) (orders int, err error) {
	for i := 0; ; i++ {
		for j := 0; ; j++ {
			var firstGoesOn, secondGoesOn bool
			for k := 0; ; k++ {
				b := begin()
				s := b.scripts()
				one, two := enter(s[1-second]), enter(s[second])
				firstGoesOn, secondGoesOn = one.move(i), two.move(j)
				thirdGoesOn := one.move(k)
				two.move(toTheEnd)
				one.move(toTheEnd)
				orders++
				if err := b.end(); err != nil {
					return orders, fmt.Errorf("after %d, %d and %d moves: %w", i, j, k, err)
				}
				if !thirdGoesOn {
					break
				}
			}
			if !firstGoesOn {
				return orders, nil
			}
			if !secondGoesOn {
				break
			}
		}
	}
}

// ---- Two claims ----

// Two claimants that see the same table choose the same entry for their claims,
// and there one of them fails. So that they can get past each other, the second
// has, when it begins, another subject in that entry, and lets that go first.
type claims struct {
	contests [2]*orbit.Contest
	obstacle *orbit.Guard
	inside   int
	token    uint64 // the largest so far
	won      int
	err      error
}

func newClaims(contests [2]*orbit.Contest, obstacle string) *claims {
	c := &claims{contests: contests}
	c.obstacle, c.err = orbit.Claim[prize](contests[1], obstacle, "", time.Hour)
	return c
}

// findObstacle returns a label whose claim takes the entry that one of the
// prize would take.
func findObstacle(name string, c *orbit.Contest) (string, error) {
	want, err := entryOf(name, c, "x")
	for i := 0; err == nil && i < 10000; i++ {
		label := fmt.Sprint("obstacle ", i)
		if got, failed := entryOf(name, c, label); got == want || failed != nil {
			return label, failed
		}
	}
	return "", errors.Join(err, errors.New("no label meets that of the prize"))
}

// entryOf returns which entry of an empty table a claim takes.
func entryOf(name string, c *orbit.Contest, label string) (int, error) {
	g, err := orbit.Claim[prize](c, label, "", time.Hour)
	if err != nil {
		return 0, err
	}
	defer g.Release()
	b, err := os.ReadFile(fmt.Sprintf("/dev/shm/orbit-%s-%d-%d", name, orbit.KindContest, os.Geteuid()))
	if err != nil {
		return 0, err
	}
	// The smallest table has 128 entries, behind the header, the slots and two
	// counters.
	const first, entries = 4096 + slots*256 + 16*8, 128
	for i := range entries {
		if binary.NativeEndian.Uint64(b[first+8*i:]) != 0 {
			return i, nil
		}
	}
	return 0, errors.New("a claim takes no entry of the table")
}

func (c *claims) scripts() [2]func(d *duelist) {
	return [2]func(d *duelist){
		func(d *duelist) { c.claim(d, c.contests[0]) },
		func(d *duelist) {
			if c.obstacle != nil {
				c.obstacle.Release()
			}
			c.claim(d, c.contests[1])
		},
	}
}

func (c *claims) fail(format string, args ...any) {
	c.err = errors.Join(c.err, fmt.Errorf(format, args...))
}

// claim claims the subject, and lets it go some time later.
func (c *claims) claim(d *duelist, contest *orbit.Contest) {
	g, err := orbit.Claim[prize](contest, "x", "", time.Hour)
	if err != nil {
		if !errors.Is(err, orbit.ErrHeld) {
			c.fail("a claim: %v", err)
		}
		return
	}
	c.won++
	if c.inside++; c.inside != 1 {
		c.fail("%d guards at once", c.inside)
	}
	if g.Token() <= c.token {
		c.fail("token %d after %d", g.Token(), c.token)
	}
	c.token = max(c.token, g.Token())
	d.pause()
	if !g.Valid() {
		c.fail("the guard of token %d ended by itself", g.Token())
	}
	c.inside--
	if err := g.Release(); err != nil {
		c.fail("release: %v", err)
	}
}

func (c *claims) end() error {
	if c.won == 0 {
		c.fail("nobody won")
	}
	return c.err
}

// ---- A claim beside a renewal ----

type renewal struct {
	contests [2]*orbit.Contest
	held     *orbit.Guard
	renewed  error
	taken    *orbit.Guard
	failed   error
}

func newRenewal(contests [2]*orbit.Contest) *renewal {
	r := &renewal{contests: contests}
	r.held, r.failed = orbit.Claim[prize](contests[0], "x", "", time.Hour)
	return r
}

func (r *renewal) scripts() [2]func(d *duelist) {
	if r.failed != nil {
		return [2]func(d *duelist){func(*duelist) {}, func(*duelist) {}}
	}
	return [2]func(d *duelist){
		func(*duelist) { r.renewed = r.held.Renew(1000 * time.Hour) },
		func(*duelist) {
			now += int64(2 * time.Hour) // the time of the guard is over, unless it was renewed
			r.taken, r.failed = orbit.Claim[prize](r.contests[1], "x", "", time.Hour)
		},
	}
}

func (r *renewal) end() error {
	switch {
	case r.held == nil:
		return r.failed
	case r.renewed == nil && r.taken != nil:
		return errors.New("a guard was renewed and its subject taken")
	case r.renewed == nil && !r.held.Valid():
		return errors.New("a guard was renewed and does not hold")
	case r.renewed != nil && r.taken == nil:
		return fmt.Errorf("a guard ended (%v) and nobody can have its subject (%v)", r.renewed, r.failed)
	}
	r.held.Release()
	if r.taken != nil {
		return r.taken.Release()
	}
	return nil
}
