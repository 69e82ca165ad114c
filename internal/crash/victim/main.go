//go:build orbit_overlay

// Victim is built against the instrumented copy of package orbit by the tests
// of orbit/internal/crash. It does one operation and sends itself a signal
// right before one of its steps.
//
//	victim FLEET OPERATION STEP SIGNAL
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"orbit"
	"orbit/internal/overlay/step"
)

// node is the victim's node id: that it can be had again shows that a dead
// one's is free.
const node = 7

// options must be those of the survivors.
var options = orbit.Options{Size: 2, Node: node, Rings: map[uint8]orbit.Geometry{
	1:                 {Capacity: 8, PayloadLimit: 64},
	orbit.KindEvents:  {Capacity: 16, PayloadLimit: 64},
	orbit.KindCache:   {Capacity: 16, PayloadLimit: 64},
	orbit.KindContest: {Capacity: 16, PayloadLimit: 512},
}}

type value struct{ A, B uint64 }

func (value) OrbitKind() uint8 { return 2 }

// A doing is an operation: prepare is done unharmed, and act a step at a time.
type doing struct {
	name    string
	prepare func(v *victim) error
	act     func(v *victim) error
}

// victim is what operations need.
type victim struct {
	name    string
	fleet   *orbit.Fleet
	ring    *orbit.Ring
	values  *orbit.Orbital[value]
	bus     *orbit.EventBus
	cache   *orbit.Cache
	contest *orbit.Contest
	guard   *orbit.Guard
	heart   *orbit.Heartbeat
}

func (v *victim) join() (err error) {
	v.fleet, err = orbit.Join(v.name, options)
	return err
}

func (v *victim) open() (err error) {
	if err = v.join(); err == nil {
		v.ring, err = v.fleet.Ring(1)
	}
	return err
}

func (v *victim) openCache() (err error) {
	if err = v.join(); err == nil {
		v.cache, err = orbit.OpenCache(v.fleet, "p")
	}
	return err
}

func (v *victim) openContest() (err error) {
	if err = v.join(); err == nil {
		v.contest, err = orbit.OpenContest(v.fleet)
	}
	return err
}

func (v *victim) claim() (err error) {
	v.guard, err = orbit.Claim[value](v.contest, "label", "victim", time.Minute)
	return err
}

func (v *victim) openAndClaim() error {
	if err := v.openContest(); err != nil {
		return err
	}
	return v.claim()
}

// payload verifies itself: see the tests.
func payload(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(n)
	}
	return p
}

var doings = []doing{
	{"join", nil, (*victim).join},
	{"ring", (*victim).join, func(v *victim) error { _, err := v.fleet.Ring(1); return err }},
	{"leave", (*victim).open, func(v *victim) error { return v.fleet.Close() }},
	{"publish", (*victim).open, func(v *victim) error { _, err := v.ring.Publish(1, 1, payload(40)); return err }},
	{"batch", (*victim).open, func(v *victim) error {
		_, err := v.ring.PublishBatch([]orbit.Frame{{Payload: payload(8)}, {Payload: payload(16)}, {Payload: payload(24)}})
		return err
	}},
	{"mint", (*victim).open, func(v *victim) error { _, err := v.ring.Mint(); return err }},
	{"reset", (*victim).open, func(v *victim) error { return v.ring.Reset() }},
	{"store", func(v *victim) (err error) {
		if err = v.join(); err == nil {
			v.values, err = orbit.Bind[value](v.fleet)
		}
		return err
	}, func(v *victim) error { _, err := v.values.Store(value{1, 1}); return err }},
	{"event", func(v *victim) (err error) {
		if err = v.join(); err == nil {
			v.bus, err = orbit.Events(v.fleet)
		}
		return err
	}, func(v *victim) error { _, err := v.bus.Publish("topic", payload(20)); return err }},
	{"put", (*victim).openCache, func(v *victim) error { return v.cache.Put("key", payload(20), 0) }},
	{"add", (*victim).openCache, func(v *victim) error { _, err := v.cache.Add("key", payload(20), 0); return err }},
	{"delete", (*victim).openCache, func(v *victim) error { return v.cache.Delete("key") }},
	{"claim", (*victim).openContest, (*victim).claim},
	{"renew", (*victim).openAndClaim, func(v *victim) error { return v.guard.Renew(time.Hour) }},
	{"release", (*victim).openAndClaim, func(v *victim) error { v.guard.Release(); return nil }},
	{"beat", func(v *victim) (err error) {
		if err = v.join(); err == nil {
			v.heart, err = orbit.Heartbeats(v.fleet)
		}
		return err
	}, func(v *victim) error { return v.heart.Beat() }},
}

// looks are operations that leave nothing behind, and are not listed.
var looks = []doing{
	{"members", (*victim).observe, (*victim).members},
}

func (v *victim) observe() (err error) {
	v.fleet, err = orbit.Observe(v.name)
	return err
}

// members prints who is in the fleet: the node, and the moment it joined.
func (v *victim) members() error {
	members, err := v.fleet.Members()
	for _, m := range members {
		fmt.Println("member", m.Node, int64(m.Since))
	}
	return err
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "list" {
		for _, d := range doings {
			fmt.Println(d.name)
		}
		return
	}
	fatal := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "victim:", err)
			os.Exit(1)
		}
	}
	all := slices.Concat(doings, looks)
	i := slices.IndexFunc(all, func(d doing) bool { return d.name == os.Args[2] })
	last, err := strconv.Atoi(os.Args[3])
	fatal(err)
	sig, err := strconv.Atoi(os.Args[4])
	fatal(err)
	v := &victim{name: os.Args[1]}
	if d := all[i]; d.prepare != nil {
		fatal(d.prepare(v))
	}
	steps := 0
	next := func(what string) {
		if steps++; steps == last {
			fmt.Println(what, step.Where())
			syscall.Kill(os.Getpid(), syscall.Signal(sig))
			<-context.Background().Done() // a signal may take a moment
		}
	}
	if syscall.Signal(sig) == syscall.SIGSTOP {
		next = func(what string) {
			if steps++; steps == last {
				fmt.Println(what, step.Where())
				// Sent to the process it might find another thread first, and this
				// one would go on for a while.
				runtime.LockOSThread()
				syscall.Tgkill(os.Getpid(), syscall.Gettid(), syscall.SIGSTOP)
				runtime.UnlockOSThread()
			}
		}
	}
	step.Before = func(k step.Kind, _ unsafe.Pointer) { next(k.String()) }
	step.System = next
	fatal(all[i].act(v))
	step.Before, step.System = nil, nil
	fmt.Println("done", steps)
	if syscall.Signal(sig) == syscall.SIGSTOP && v.fleet != nil {
		fatal(v.fleet.Close())
	}
}
