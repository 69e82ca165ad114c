//go:build orbit_overlay && linux

// Duel has two members of a fleet claim one subject at once, in every order of
// their moves with at most five changes of turn. A move is what a claimant does
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
	"strings"
	"time"
	"unsafe"

	"orbit"
	"orbit/internal/overlay/step"
)

type prize struct{}

func (prize) OrbitKind() uint8 { return 1 }

const (
	// slots is the capacity of the contest's ring. With one a claimant would
	// wait for the other to finish its announcement.
	slots = 8
	// The table lies behind the header and the slots. It is the smallest there
	// is, and begins with two counters.
	tableAt = 4096 + slots*256
	entries = 128
	entryAt = tableAt + 16*8
)

func main() {
	if err := duel(os.Args[1]); err != nil {
		fmt.Println("violation:", err)
		os.Exit(1)
	}
}

func segment(fleet string) string {
	return fmt.Sprintf("/dev/shm/orbit-%s-%d-%d", fleet, orbit.KindContest, os.Geteuid())
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
	if err := findTables(segment(name)); err != nil {
		return err
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
		for first := range 2 {
			orders, err := every(meet.begin, first)
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
	next  func() (struct{}, bool)
	yield func(struct{}) bool
	last  step.Kind // what its last step in the table did
}

// moving is whose turn it is.
var moving *duelist

// before ends a move before a step that changes the table, and before the first
// look at it after that. Stores in a row, as those of a record, are one step.
func before(k step.Kind, addr unsafe.Pointer) {
	d := moving
	if d == nil || !inTable(uintptr(addr)) {
		return
	}
	if k != d.last || k != step.Load && k != step.Store {
		d.pause()
	}
	d.last = k
}

// tables are the tables of the contest, as the members have them mapped.
var tables []struct{ from, to uintptr }

func inTable(addr uintptr) bool {
	for _, t := range tables {
		if addr >= t.from && addr < t.to {
			return true
		}
	}
	return false
}

// findTables looks for what is mapped of the contest's segment.
func findTables(path string) error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(maps)) {
		var from, to uintptr
		if strings.HasSuffix(line, path+"\n") {
			if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
				return err
			}
			tables = append(tables, struct{ from, to uintptr }{from + tableAt, to})
		}
	}
	if len(tables) != 2 {
		return fmt.Errorf("%s is mapped %d times, want once for each member", path, len(tables))
	}
	return nil
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

// turns is how many turns of so many moves the duelists take, before one goes
// to its end and then the other.
const turns = 4

// every has two duelists meet in every order with so many turns. Which of the
// two begins is to be told.
func every(begin func() bout, first int) (orders int, err error) {
	var moves [turns]int
	for {
		b := begin()
		s := b.scripts()
		duelists := [2]*duelist{enter(s[first]), enter(s[1-first])}
		var ended [turns]bool
		for i, n := range moves {
			ended[i] = !duelists[i%2].move(n)
		}
		duelists[0].move(toTheEnd)
		duelists[1].move(toTheEnd)
		orders++
		if err := b.end(); err != nil {
			return orders, fmt.Errorf("after turns of %d moves: %w", moves, err)
		}
		// The next order: one more move in the last turn that had it.
		i := turns - 1
		for ; i >= 0 && ended[i]; i-- {
			moves[i] = 0
		}
		if i < 0 {
			return orders, nil
		}
		moves[i]++
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
	b, err := os.ReadFile(segment(name))
	if err != nil {
		return 0, err
	}
	for i := range entries {
		if binary.NativeEndian.Uint64(b[entryAt+8*i:]) != 0 {
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
	until    int64 // when its time is over, unless it is renewed
	late     bool  // whether the renewal began when its time was over
	renewed  error
	taken    *orbit.Guard
	failed   error
}

func newRenewal(contests [2]*orbit.Contest) *renewal {
	r := &renewal{contests: contests, until: now + int64(time.Hour)}
	r.held, r.failed = orbit.Claim[prize](contests[0], "x", "", time.Hour)
	return r
}

func (r *renewal) scripts() [2]func(d *duelist) {
	if r.failed != nil {
		return [2]func(d *duelist){func(*duelist) {}, func(*duelist) {}}
	}
	return [2]func(d *duelist){
		func(*duelist) {
			r.late = now >= r.until
			r.renewed = r.held.Renew(1000 * time.Hour)
		},
		func(*duelist) {
			now = r.until + int64(time.Minute)
			r.taken, r.failed = orbit.Claim[prize](r.contests[1], "x", "", time.Hour)
		},
	}
}

func (r *renewal) end() error {
	switch {
	case r.held == nil:
		return r.failed
	case r.renewed == nil && r.late:
		return errors.New("a guard was renewed after its time was over")
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
