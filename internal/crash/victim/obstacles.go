//go:build orbit_overlay

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
	"unsafe"

	"orbit"
	"orbit/internal/overlay/step"
)

// obstacles are operations that meet what others left half done: those of
// doings never come to the steps by which that is dealt with.
var obstacles = []doing{
	{"open", (*victim).join, (*victim).openAll},
	{"wait", (*victim).bind, func(v *victim) error {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond) // in which a loaded machine comes to sleep, too
		defer cancel()
		return unless(context.DeadlineExceeded, v.values.Ring().Tail().Wait(ctx))
	}},
	{"members beside a dead one", func(v *victim) error {
		options.Node++ // and before: who joins after a death takes the seat
		return errors.Join(v.join(), v.dying("leave", "1"))
	}, func(v *victim) error { _, err := v.fleet.Members(); return err }},
	{"publish, lapped", (*victim).openTwice, (*victim).publish},
	{"publish past a stopped writer", func(v *victim) error {
		if err := v.openTwice(); err != nil {
			return err
		}
		v.puppet = &puppet{act: func() { v.other.Publish(2, 2, payload(30)) }}
		v.puppet.to(step.Store)
		return lap(v.ring)
	}, (*victim).publish},
	{"publish over a dead writer", func(v *victim) error {
		if err := errors.Join(v.dying("publish", "store"), v.open()); err != nil {
			return err
		}
		return lap(v.ring)
	}, (*victim).publish},
	{"publish where a dead one took a counter", func(v *victim) error {
		if err := errors.Join(v.dying("publish", "compare-and-swap"), v.open()); err != nil {
			return err
		}
		return lap(v.ring)
	}, (*victim).publish},
	{"batch over a hole", func(v *victim) error {
		if err := v.open(); err != nil {
			return err
		}
		if _, err := v.ring.Mint(); err != nil {
			return err
		}
		return lap(v.ring)
	}, (*victim).batch},
	{"add beside a counter that a dead one took", func(v *victim) error {
		return errors.Join(v.dying("put", "compare-and-swap"), v.openCache())
	}, func(v *victim) error { _, err := v.cache.Add("key", payload(20), 0); return err }},
	{"add beside an unfinished put", func(v *victim) error {
		if err := v.openCache(); err != nil {
			return err
		}
		cache, err := v.otherCache()
		v.puppet = &puppet{act: func() { cache.Put("key", payload(10), 0) }}
		v.puppet.to(step.Store)
		return err
	}, func(v *victim) error { _, err := v.cache.Add("key", payload(20), 0); return err }},
	{"claim again", (*victim).openAndClaim, (*victim).claim},
	{"claim for too short", (*victim).openContest, func(v *victim) error {
		_, err := orbit.Claim[value](v.contest, "label", "victim", 1)
		return unless(orbit.ErrLapsed, err)
	}},
	{"claim of a dead one's", func(v *victim) error {
		return errors.Join(v.dying("release", "1"), v.openContest())
	}, (*victim).claim},
	{"claim where the dead have all", func(v *victim) error {
		return errors.Join(v.dying("hoard", "1"), v.openContest())
	}, (*victim).claim},
	{"claim before a younger one", func(v *victim) error {
		if err := v.openContest(); err != nil {
			return err
		}
		contest, err := v.otherContest()
		if err != nil {
			return err
		}
		// With another claim in the way it chooses another entry than the victim.
		way, err := orbit.Claim[value](v.contest, "way", "", time.Minute)
		if err != nil {
			return err
		}
		v.puppet = &puppet{act: func() { orbit.Claim[value](contest, "label", "younger", time.Minute) }}
		v.puppet.to(step.Add) // it has looked round, and has no number yet
		return way.Release()
	}, (*victim).claim},
}

// meanwhile is what happens in the middle of some: it is called before every
// step, until it returns true.
var meanwhile = map[string]func(v *victim, next string) bool{
	// The first store is after the claim.
	"publish, lapped": func(v *victim, next string) bool {
		if next != step.Store.String() {
			return false
		}
		aside(func() {
			for range 8 {
				v.other.Publish(2, 2, payload(30))
			}
		})
		return true
	},
	// Between its number and the load after that it puts its claim into an entry:
	// the younger one has not seen it, and is there to be seen from then on.
	"claim before a younger one": func(v *victim, next string) bool {
		v.numbered = v.numbered || next == step.Add.String()
		if !v.numbered || next != step.Load.String() {
			return false
		}
		v.puppet.to(step.Compare)
		v.puppet.to(step.Load)
		return true
	},
}

func unless(expected, err error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return fmt.Errorf("got %v, want %v", err, expected)
}

// lap brings the ring to the slot that was taken last but by this call.
func lap(r *orbit.Ring) error {
	for range r.Geometry().Capacity - 1 {
		if _, err := r.Publish(2, 2, payload(30)); err != nil {
			return err
		}
	}
	return nil
}

func (v *victim) openAll() (err error) {
	_, ring := v.fleet.Ring(1)
	_, values := orbit.Bind[value](v.fleet)
	_, bus := orbit.Events(v.fleet)
	_, cache := orbit.OpenCache(v.fleet, "p")
	_, contest := orbit.OpenContest(v.fleet)
	_, heart := orbit.Heartbeats(v.fleet)
	return errors.Join(ring, values, bus, cache, contest, heart)
}

// joinTwice makes another member of this process.
func (v *victim) joinTwice() (*orbit.Fleet, error) {
	again := options
	again.Node = 0
	return orbit.Join(v.name, again)
}

func (v *victim) openTwice() error {
	if err := v.open(); err != nil {
		return err
	}
	f, err := v.joinTwice()
	if err == nil {
		v.other, err = f.Ring(1)
	}
	return err
}

func (v *victim) otherCache() (*orbit.Cache, error) {
	f, err := v.joinTwice()
	if err != nil {
		return nil, err
	}
	return orbit.OpenCache(f, "p")
}

func (v *victim) otherContest() (*orbit.Contest, error) {
	f, err := v.joinTwice()
	if err != nil {
		return nil, err
	}
	return orbit.OpenContest(f)
}

// hoard claims whatever there is to claim.
func (v *victim) hoard() error {
	err := v.openContest()
	for i := 0; err == nil; i++ {
		var g *orbit.Guard
		if g, err = orbit.Claim[value](v.contest, fmt.Sprint("hoarded ", i), "victim", time.Hour); err == nil {
			v.guard = g
		}
	}
	return unless(orbit.ErrTableFull, err)
}

// dying has another process do an operation and die before a step of it.
func (v *victim) dying(operation, at string) error {
	c := exec.Command(os.Args[0], v.name, operation, at, "9")
	if out, err := c.CombinedOutput(); err == nil || c.ProcessState.ExitCode() != -1 {
		return fmt.Errorf("%s did not die: %v: %s", operation, err, out)
	}
	return nil
}

// A puppet does something in a goroutine of its own, step by step: it goes on
// only as far as it is let, and not at the end.
type puppet struct {
	act  func()
	goOn chan bool
}

// to lets the puppet go on until it is about to make a step of a kind.
func (p *puppet) to(kind step.Kind) {
	aside(func() {
		there, goOn, held := make(chan bool), make(chan bool), false
		step.Before = func(k step.Kind, _ unsafe.Pointer) {
			if k == kind && !held {
				held = true
				close(there)
				<-goOn
			}
		}
		if p.goOn == nil {
			go p.act()
		} else {
			close(p.goOn)
		}
		p.goOn = goOn
		<-there
	})
}

// aside runs something whose steps are not those of the operation.
func aside(run func()) {
	before, system := step.Before, step.System
	step.Before, step.System = nil, nil
	run()
	step.Before, step.System = before, system
}
