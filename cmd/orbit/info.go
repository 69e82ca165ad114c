package main

import (
	"errors"
	"flag"
	"time"

	"orbit"
)

var infoFlags struct {
	json  bool
	fresh time.Duration
	kind  uint8 // 0 for the whole fleet
}

var infoCommand = &command{
	name:     "info",
	operands: "FLEET",
	short:    "show what is in a fleet, or in one ring of it",
	long: `Shows the members of FLEET with their heartbeats, what is in the slots of its
rings, who holds which subject of the contest, the newest event, and how many
keys have a value in the cache. With -kind it shows more of one ring.

What is shown was read one after the other, while members went on.

  pending  frames that live members are writing
  holes    counters that carry no frame, such as ids minted alone
  lost     frames whose writers died before they were done
  asleep   whether some process may be asleep until the next frame

  orbit info web
  orbit info -kind cache web
`,
	flags: func(f *flag.FlagSet) {
		jsonFlag(f, &infoFlags.json)
		freshFlag(f, &infoFlags.fresh)
		kindFlag(f, &infoFlags.kind, "show only the ring of this `kind`")
	},
	run: runInfo,
}

func runInfo(args []string) error {
	v, err := lookAt(args[0])
	if err != nil {
		return err
	}
	defer v.close()
	if v.fleet == nil {
		return v.err
	}
	if infoFlags.kind == 0 {
		d := v.read()
		if infoFlags.json {
			return errors.Join(append(d.failed, printLines(fleetObjects(v, d)))...)
		}
		return showFleet(v, d)
	}
	r, err := v.ring(infoFlags.kind)
	if err != nil {
		return err
	}
	v.rings = []*ringView{r}
	d := v.read()
	if r.err != nil {
		return r.err
	}
	newest, err := r.ring.Newest(nil)
	found := err == nil
	if err != nil && !errors.Is(err, orbit.ErrNoFrame) {
		return err
	}
	if infoFlags.json {
		return errors.Join(append(d.failed, printLines(ringObjects(v, r, d, newest, found)))...)
	}
	return showRing(v, r, d, newest, found)
}

// A detail is what both forms of output show of rings beside their geometry.
// What could not be read is in failed.
type detail struct {
	stats   map[*ringView]orbit.RingStats
	pulses  []orbit.Pulse
	holders []orbit.Holder
	claims  int                 // the contest has room for
	keys    []prefixCount       // in the cache
	newest  map[uint8]*feedItem // by kind of substrate
	failed  []error
}

// read looks into the rings and the substrates on them.
func (v *view) read() *detail {
	d := &detail{stats: map[*ringView]orbit.RingStats{}, newest: map[uint8]*feedItem{}}
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
		d.pulses, err = pulsesOf(v.fleet, v.members, infoFlags.fresh)
	case orbit.KindContest:
		d.holders, d.claims, err = holdersOf(v.fleet)
	case orbit.KindCache:
		d.keys, err = countKeys(v.fleet, r.ring)
	case orbit.KindEvents:
	default:
		return nil
	}
	newest, newestErr := newestItem(v.fleet, r.ring)
	if newest != nil {
		d.newest[r.kind] = newest
	}
	return errors.Join(err, newestErr)
}

// newestItem returns what came last through the ring of a substrate and reads
// as that wants it. It goes back from the head, where a feed would stay at an
// unfinished frame.
func newestItem(f *orbit.Fleet, ring *orbit.Ring) (*feedItem, error) {
	for c := range back(ring) {
		feed, err := openFeedAt(f, ring.Kind(), c)
		if err != nil {
			return nil, err
		}
		var item feedItem
		if more, err := feed.next(&item); err != nil {
			return nil, err
		} else if more && item.isFrame() && item.decoded && item.id.Counter() == c {
			return &item, nil
		}
	}
	return nil, nil
}
