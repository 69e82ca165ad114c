package main

import (
	"errors"
	"flag"
	"fmt"
	"time"

	"orbit"
)

var lsFlags struct {
	json bool
	over time.Duration
}

var lsCommand = &command{
	name:     "ls",
	operands: "[FLEET]",
	short:    "list fleets and their rings",
	long: `Lists the fleets of this user on this host, or FLEET alone, ring by ring: kind
and use, slots, payload limit, size in memory, head, how many frames a second
were published while it looked, members of the fleet, and format version.

In place of its format version, a segment that is foreign, damaged or of another
version has the reason. "orbit doctor" says what to do about it.

  orbit ls
  orbit ls -json web | jq -r 'select(.type == "ring") | "\(.kind) \(.head)"'
`,
	flags: func(f *flag.FlagSet) {
		jsonFlag(f, &lsFlags.json)
		spanFlag(f, &lsFlags.over, "over", 200*time.Millisecond, 0, "the `duration` over which frames are counted, 0 for not at all")
	},
	run: runLs,
}

func runLs(args []string) error {
	views, err := lookAtAll(args)
	if err != nil {
		return err
	}
	rates := measure(views, lsFlags.over)
	if lsFlags.json {
		return listJSON(views, rates)
	}
	if len(views) == 0 {
		fmt.Println("no fleets on this host")
		return nil
	}
	return listText(views, rates)
}

// lookAtAll observes the fleets named, or all there are.
func lookAtAll(names []string) (views []*view, err error) {
	all := len(names) == 0
	if all {
		if names, err = orbit.Fleets(); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		v, err := lookAt(name)
		if all && errors.Is(err, orbit.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			return nil, err
		}
		views = append(views, v)
	}
	return views, nil
}

// A rate is what a ring did while it was looked at.
type rate struct {
	head   uint64  // at the end
	second float64 // frames per second, if measured
}

// measure reads the heads of all sound rings, and once more after a while.
func measure(views []*view, over time.Duration) map[*ringView]rate {
	heads, start := map[*ringView]uint64{}, time.Now()
	for _, v := range views {
		for _, r := range v.rings {
			if r.ring != nil {
				heads[r] = r.ring.Head()
			}
		}
	}
	if over > 0 {
		time.Sleep(over)
	}
	rates := map[*ringView]rate{}
	for r, before := range heads {
		now := r.ring.Head()
		if now < before || now == 0 {
			// A ring that was damaged meanwhile has head 0.
			if _, err := r.ring.Stats(); err != nil {
				r.ring, r.err = nil, err
				continue
			}
		}
		rates[r] = rate{now, float64(now-before) / time.Since(start).Seconds()}
	}
	return rates
}

func listText(views []*view, rates map[*ringView]rate) error {
	s := newSheet()
	s.row("FLEET", "KIND", "USE", "SLOTS", "PAYLOAD", "SIZE", "HEAD", "FRAMES/S", "MEMBERS", "FORMAT")
	for _, v := range views {
		var members any = len(v.members)
		switch {
		case v.fleet == nil:
			members = "-"
			s.row(v.name, 0, "roster", "-", "-", sizeText(v.roster), "-", "-", members, s.style(red, plain(v.err)))
		case len(v.rings) == 0:
			s.row(v.name, "-", "no rings", "-", "-", sizeText(v.roster), "-", "-", members, orbit.FormatVersion)
		}
		for _, r := range v.rings {
			if r.ring == nil {
				s.row(v.name, r.kind, useOf(r.kind), "-", "-", sizeText(r.size), "-", "-", members, s.style(red, plain(r.err)))
				continue
			}
			perSecond := "-"
			if lsFlags.over > 0 {
				perSecond = rateText(rates[r].second)
			}
			g := r.ring.Geometry()
			s.row(v.name, r.kind, useOf(r.kind), g.Capacity, bytesText(int64(g.PayloadLimit)), sizeText(r.size),
				rates[r].head, perSecond, members, orbit.FormatVersion)
		}
	}
	return s.close()
}

func listJSON(views []*view, rates map[*ringView]rate) error {
	var lines []any
	for _, v := range views {
		lines = append(lines, fleetOf(v))
		for _, r := range v.rings {
			seen, sound := rates[r]
			j := ringOf(v, r)
			j.Head, j.Rate = known(seen.head, sound), known(seen.second, sound && lsFlags.over > 0)
			lines = append(lines, j)
		}
	}
	return printLines(lines)
}
