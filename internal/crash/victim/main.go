//go:build orbit_overlay

// Victim is built against the instrumented copy of package orbit by the tests
// of orbit/internal/crash. It does one operation and sends itself a signal
// right before one of its steps, given by its number or as the first of a kind.
//
//	victim doings                      lists operations that nothing is in the way of
//	victim obstacles                   lists those that meet something in their way
//	victim FLEET OPERATION STEP SIGNAL
//	victim FLEET OPERATION trace       prints where its steps are, and makes all
//	victim FLEET OPERATION truncate    does it anew for every step, with segments
//	                                   truncated right before that
package main

import (
	"context"
	"errors"
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

	other    *orbit.Ring // of another member in the same process
	puppet   *puppet
	numbered bool // the claim has its order number
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

func (v *victim) publish() error { _, err := v.ring.Publish(1, 1, payload(40)); return err }

func (v *victim) batch() error {
	_, err := v.ring.PublishBatch([]orbit.Frame{{Payload: payload(8)}, {Payload: payload(64)}, {Payload: payload(24)}})
	return err
}

func (v *victim) bind() (err error) {
	if err = v.join(); err == nil {
		v.values, err = orbit.Bind[value](v.fleet)
	}
	return err
}

// doings are the operations as they go where nothing is in their way; more, and
// what may be in their way, are in obstacles.go.
var doings = []doing{
	{"join", nil, (*victim).join},
	{"ring", (*victim).join, func(v *victim) error { _, err := v.fleet.Ring(1); return err }},
	{"leave", (*victim).open, func(v *victim) error { return v.fleet.Close() }},
	{"publish", (*victim).open, (*victim).publish},
	{"batch", (*victim).open, (*victim).batch},
	{"mint", (*victim).open, func(v *victim) error { _, err := v.ring.Mint(); return err }},
	{"reset", (*victim).open, func(v *victim) error { return v.ring.Reset() }},
	{"store", (*victim).bind, func(v *victim) error { _, err := v.values.Store(value{1, 1}); return err }},
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

// others are operations that are not listed: what they leave behind is looked
// at by tests of their own.
var others = []doing{
	{"members", (*victim).observe, (*victim).members},
	{"remove", nil, func(v *victim) error { return orbit.Remove(v.name) }},
	{"hoard", (*victim).hoard, func(v *victim) error { return v.guard.Release() }},
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
	if len(os.Args) == 2 {
		for _, d := range map[string][]doing{"doings": doings, "obstacles": obstacles}[os.Args[1]] {
			fmt.Println(d.name)
		}
		return
	}
	all := slices.Concat(doings, obstacles, others)
	d := all[slices.IndexFunc(all, func(d doing) bool { return d.name == os.Args[2] })]
	switch how := os.Args[3]; how {
	case "truncate":
		fatal(truncate(os.Args[1], d))
	case "trace":
		fatal(trace(os.Args[1], d))
	default:
		sig, err := strconv.Atoi(os.Args[4])
		fatal(err)
		fatal(fall(os.Args[1], d, how, syscall.Signal(sig)))
	}
}

func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "victim:", err)
		os.Exit(1)
	}
}

// run does an operation, and calls next before each of its steps.
func (d doing) run(v *victim, next func(what string)) (prepared, done error) {
	if d.prepare != nil {
		if err := d.prepare(v); err != nil {
			return err, nil
		}
	}
	amid := meanwhile[d.name]
	before := func(what string) {
		if amid != nil && amid(v, what) {
			amid = nil
		}
		next(what)
	}
	step.Before, step.System = func(k step.Kind, _ unsafe.Pointer) { before(k.String()) }, before
	defer func() { step.Before, step.System = nil, nil }()
	return nil, d.act(v)
}

// fall sends this process a signal before a step of an operation.
func fall(fleet string, d doing, last string, sig syscall.Signal) error {
	v := &victim{name: fleet}
	steps := 0
	here := func(what string) bool {
		steps++
		return last == what || last == strconv.Itoa(steps)
	}
	next := func(what string) {
		if here(what) {
			fmt.Println(what, step.Where())
			syscall.Kill(os.Getpid(), sig)
			<-context.Background().Done() // a signal may take a moment
		}
	}
	if sig == syscall.SIGSTOP {
		next = func(what string) {
			if here(what) {
				fmt.Println(what, step.Where())
				// Sent to the process it might find another thread first, and this
				// one would go on for a while.
				runtime.LockOSThread()
				syscall.Tgkill(os.Getpid(), syscall.Gettid(), syscall.SIGSTOP)
				runtime.UnlockOSThread()
			}
		}
	}
	if err := errors.Join(d.run(v, next)); err != nil {
		return err
	}
	fmt.Println("done", steps)
	if sig == syscall.SIGSTOP && v.fleet != nil {
		return v.fleet.Close()
	}
	return nil
}

// trace prints where the steps of an operation are.
func trace(fleet string, d doing) error {
	return errors.Join(d.run(&victim{name: fleet}, func(what string) { fmt.Println(what, step.Where()) }))
}
