package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"

	"orbit"
)

var lsFlags struct {
	json bool
	over time.Duration
}

var lsCommand = &command{
	name:  "ls",
	args:  "[-json] [-over duration] [FLEET]",
	short: "list fleets and their rings",
	long: `Lists the fleets of this user on this host, or FLEET alone, ring by ring: kind
and use, slots, payload limit, size in memory, head, how many frames a second
were published while it looked, members of the fleet, and format version. It
joins no fleet, maps everything read-only and changes nothing.

In place of its format version, a segment that is foreign, damaged or of another
version has the reason. "orbit doctor" says what to do about it.

With -json each line is one object: {"type":"fleet",...} followed by one
{"type":"ring",...} for every ring of it. All keys are always there; what is not
known is null.
`,
	flags: func(f *flag.FlagSet) {
		f.BoolVar(&lsFlags.json, "json", false, "print JSON, one object a line")
		f.DurationVar(&lsFlags.over, "over", 200*time.Millisecond, "time over which frames are counted, 0 for not at all")
	},
	run: runLs,
}

func runLs(args []string) error {
	if len(args) > 1 {
		return usagef("it takes at most one fleet, found %q", args[1])
	}
	if lsFlags.over < 0 {
		return usagef("-over %v: want no negative time", lsFlags.over)
	}
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
	t, s := newTable(), newScreen(os.Stdout)
	fmt.Fprintln(t, "FLEET\tKIND\tWHAT\tSLOTS\tPAYLOAD\tSIZE\tHEAD\tFRAMES/S\tMEMBERS\tFORMAT")
	for _, v := range views {
		members, format := strconv.Itoa(len(v.members)), strconv.Itoa(orbit.FormatVersion)
		switch {
		case v.fleet == nil:
			members = "-"
			fmt.Fprintf(t, "%s\t0\troster\t-\t-\t%s\t-\t-\t-\t%s\n", v.name, sizeText(v.roster), s.style(red, plain(v.err)))
		case len(v.rings) == 0:
			fmt.Fprintf(t, "%s\t-\tno rings\t-\t-\t%s\t-\t-\t%s\t%s\n", v.name, sizeText(v.roster), members, format)
		}
		for _, r := range v.rings {
			fmt.Fprintf(t, "%s\t%d\t%s\t", v.name, r.kind, what(r.kind))
			if r.ring == nil {
				fmt.Fprintf(t, "-\t-\t%s\t-\t-\t%s\t%s\n", sizeText(r.size), members, s.style(red, plain(r.err)))
				continue
			}
			g := r.ring.Geometry()
			fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%s\t%s\t%s\n", g.Capacity, bytesText(int64(g.PayloadLimit)), sizeText(r.size),
				rates[r].head, rateCell(rates[r].second), members, format)
		}
	}
	return t.Flush()
}

func rateCell(perSecond float64) string {
	if lsFlags.over == 0 {
		return "-"
	}
	if perSecond == 0 || perSecond >= 100 {
		return strconv.FormatFloat(perSecond, 'f', 0, 64)
	}
	return strconv.FormatFloat(perSecond, 'f', 1, 64)
}

// A fleetJSON is a fleet as -json shows it.
type fleetJSON struct {
	Type          string  `json:"type"` // "fleet"
	Fleet         string  `json:"fleet"`
	Members       *int    `json:"members"`
	Rings         int     `json:"rings"`
	RosterBytes   *int64  `json:"roster_bytes"`
	SegmentBytes  *int64  `json:"segment_bytes"` // of the roster and all rings
	FormatVersion *int    `json:"format_version"`
	Error         *string `json:"error"`
}

func (v *view) toJSON() fleetJSON {
	sound := v.fleet != nil
	return fleetJSON{
		Type:          "fleet",
		Fleet:         v.name,
		Members:       known(len(v.members), sound),
		Rings:         len(v.rings),
		RosterBytes:   known(v.roster, v.roster >= 0),
		SegmentBytes:  known(v.size(), v.size() > 0),
		FormatVersion: known(orbit.FormatVersion, sound),
		Error:         errorText(v.err),
	}
}

// A ringJSON is what -json shows of every ring.
type ringJSON struct {
	Type          string  `json:"type"` // "ring"
	Fleet         string  `json:"fleet"`
	Kind          uint8   `json:"kind"`
	What          string  `json:"what"`
	Capacity      *int    `json:"capacity"`
	PayloadLimit  *int    `json:"payload_limit"`
	SegmentBytes  *int64  `json:"segment_bytes"`
	FormatVersion *int    `json:"format_version"`
	Error         *string `json:"error"`
}

func (r *ringView) toJSON(fleet string) ringJSON {
	var g orbit.Geometry
	sound := r.ring != nil
	if sound {
		g = r.ring.Geometry()
	}
	return ringJSON{
		Type:          "ring",
		Fleet:         fleet,
		Kind:          r.kind,
		What:          what(r.kind),
		Capacity:      known(g.Capacity, sound),
		PayloadLimit:  known(g.PayloadLimit, sound),
		SegmentBytes:  known(r.size, r.size >= 0),
		FormatVersion: known(orbit.FormatVersion, sound),
		Error:         errorText(r.err),
	}
}

// A listedJSON is a ring as "orbit ls -json" shows it.
type listedJSON struct {
	ringJSON
	Members *int     `json:"members"` // of its fleet
	Head    *uint64  `json:"head"`
	Rate    *float64 `json:"frames_per_second"`
}

func listJSON(views []*view, rates map[*ringView]rate) error {
	for _, v := range views {
		if err := printJSON(v.toJSON()); err != nil {
			return err
		}
		for _, r := range v.rings {
			seen, sound := rates[r]
			if err := printJSON(listedJSON{
				ringJSON: r.toJSON(v.name),
				Members:  known(len(v.members), v.fleet != nil),
				Head:     known(seen.head, sound),
				Rate:     known(seen.second, sound && lsFlags.over > 0),
			}); err != nil {
				return err
			}
		}
	}
	return nil
}
