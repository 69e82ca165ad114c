package main

import (
	"errors"
	"flag"
	"iter"
	"slices"
	"strings"
	"time"

	"orbit"
)

var infoFlags struct {
	json   bool
	fresh  time.Duration
	recent int
}

var infoCommand = &command{
	name:  "info",
	args:  "[-json] [-fresh duration] [-n number] FLEET [KIND]",
	short: "show what is in a fleet, or in one ring of it",
	long: `Shows the members of FLEET with their heartbeats, what is in the slots of its
rings, who holds which subject of the contest, the newest event, and how much is
in the cache. With KIND, which is 1 to 255, cache, events, heartbeat or contest,
it shows more of that ring: the newest frame, or the newest events, claims or
beats.

Looking joins no fleet, maps everything read-only and changes nothing. What is
shown was read one after the other, while members went on.

  pending  frames that live members are writing
  holes    counters that carry no frame, such as ids minted alone
  lost     frames whose writers died before they were done
  asleep   whether some process may be asleep until the next frame

With -json each line is one object, whose type says what it describes: fleet,
member, ring, frame, cache, event, holder, claim or beat. All keys of a type are
always there; what is not known is null. A payload is in payload if it is text,
and in payload_hex otherwise.
`,
	flags: func(f *flag.FlagSet) {
		f.BoolVar(&infoFlags.json, "json", false, "print JSON, one object a line")
		f.DurationVar(&infoFlags.fresh, "fresh", 3*orbit.DefaultBeat, "how old the newest beat of a fresh node may be")
		f.IntVar(&infoFlags.recent, "n", 10, "`number` of newest events or claims shown of their rings")
	},
	run: runInfo,
}

func runInfo(args []string) error {
	switch {
	case len(args) == 0:
		return usagef("which fleet? \"orbit ls\" lists them")
	case len(args) > 2:
		return usagef("it takes a fleet and a kind, found also %q", args[2])
	case infoFlags.fresh < 0:
		return usagef("-fresh %v: want no negative time", infoFlags.fresh)
	case infoFlags.recent < 0:
		return usagef("-n %d: want no negative number", infoFlags.recent)
	}
	var kind uint8
	if len(args) == 2 {
		var err error
		if kind, err = parseKind(args[1]); err != nil {
			return err
		}
	}
	v, err := lookAt(args[0])
	if err != nil {
		return err
	}
	defer v.close()
	if v.fleet == nil {
		return v.err
	}
	if kind != 0 {
		r, err := v.ring(kind)
		if err != nil {
			return err
		}
		return infoRing(v, r)
	}
	return infoFleet(v)
}

// A detail is what both forms of output show of a fleet beside its rings'
// geometry. What could not be read is in failed.
type detail struct {
	stats   map[*ringView]orbit.RingStats
	pulses  []orbit.Pulse
	holders []orbit.Holder
	claims  int           // the contest has room for
	keys    []prefixCount // in the cache
	event   *orbit.Event
	failed  []error
}

// read looks into the rings and the substrates on them.
func (v *view) read() *detail {
	d := &detail{stats: map[*ringView]orbit.RingStats{}}
	for _, r := range v.rings {
		if r.ring == nil {
			continue
		}
		stats, err := r.ring.Stats()
		if err != nil {
			r.ring, r.err = nil, err
			continue
		}
		d.stats[r] = stats
		if err := d.readSubstrate(v, r); err != nil {
			d.failed = append(d.failed, err)
		}
	}
	return d
}

func (d *detail) readSubstrate(v *view, r *ringView) (err error) {
	switch r.kind {
	case orbit.KindHeartbeat:
		d.pulses, err = pulses(v)
	case orbit.KindContest:
		d.holders, d.claims, err = holders(v)
	case orbit.KindCache:
		d.keys, err = countKeys(v.fleet, r.ring)
	case orbit.KindEvents:
		var list []*orbit.Event
		if list, err = recentEvents(v, r, 1); len(list) > 0 {
			d.event = list[0]
		}
	}
	return err
}

// pulses returns the newest beat of every node that beat or is a member.
func pulses(v *view) ([]orbit.Pulse, error) {
	h, err := orbit.Heartbeats(v.fleet)
	if err != nil {
		return nil, err
	}
	// Without any expected node, some are expected by default: 0 is none.
	nodes := []uint16{0}
	for _, m := range v.members {
		nodes = append(nodes, m.Node)
	}
	all, err := h.Snapshot(infoFlags.fresh, nodes...)
	return slices.DeleteFunc(all, func(p orbit.Pulse) bool { return p.Node == 0 }), err
}

func holders(v *view) (list []orbit.Holder, room int, err error) {
	c, err := orbit.OpenContest(v.fleet)
	if err != nil {
		return nil, 0, err
	}
	list, err = c.Holders()
	slices.SortFunc(list, func(a, b orbit.Holder) int {
		if a.Kind != b.Kind {
			return int(a.Kind) - int(b.Kind)
		}
		return strings.Compare(a.Label, b.Label)
	})
	return list, c.Capacity(), err
}

// recentEvents returns the newest n events, the newest first. It goes back
// from the head, where a subscriber would stay at an unfinished event.
func recentEvents(v *view, r *ringView, n int) (list []*orbit.Event, err error) {
	bus, err := orbit.Events(v.fleet)
	if err != nil {
		return nil, err
	}
	place := bus.SubscribeNow().Position()
	for c := range back(r.ring) {
		if len(list) == n {
			break
		}
		place.Counter = c
		s, err := bus.SubscribeAt(place)
		if err != nil {
			return list, err
		}
		ev := new(orbit.Event)
		if s.Poll(ev) == nil && s.Position().Counter == c+1 {
			list = append(list, ev)
		}
	}
	return list, nil
}

// A claimed is a claim event with the id of its frame.
type claimed struct {
	id orbit.NetID64
	orbit.ClaimEvent
}

// recentClaims returns the newest n claim events, the newest first.
func recentClaims(r *ringView, n int) (list []claimed, err error) {
	for c := range back(r.ring) {
		if len(list) == n {
			break
		}
		f, err := r.ring.ReadAt(c, nil)
		if errors.Is(err, orbit.ErrNoFrame) {
			continue
		}
		if err != nil {
			return list, err
		}
		if ev, err := orbit.DecodeClaim(f); err == nil {
			list = append(list, claimed{f.ID, ev})
		}
	}
	return list, nil
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
