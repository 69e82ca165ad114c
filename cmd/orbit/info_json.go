package main

import "orbit"

// What "orbit info -json" prints.

func statsOf(v *view, r *ringView, n orbit.RingStats) ringJSON {
	j := ringOf(v, r)
	if r.ring != nil {
		j.Head, j.Oldest = &n.Head, &n.Oldest
		j.Frames, j.Pending, j.Holes, j.Lost = &n.Frames, &n.Pending, &n.Holes, &n.Lost
		j.Asleep = &n.Waiting
	}
	return j
}

func fleetObjects(v *view, d *detail) (lines []any) {
	lines = append(lines, fleetOf(v))
	for _, m := range v.members {
		lines = append(lines, memberOf(v, m, d.pulses))
	}
	for _, r := range v.rings {
		lines = append(lines, statsOf(v, r, d.stats[r]))
	}
	lines = append(lines, d.objects(v)...)
	if event := d.newest[orbit.KindEvents]; event != nil {
		lines = append(lines, event.object(v.name, orbit.KindEvents))
	}
	return lines
}

func ringObjects(v *view, r *ringView, d *detail, newest orbit.Frame, found bool) (lines []any) {
	lines = append(lines, statsOf(v, r, d.stats[r]))
	lines = append(lines, d.objects(v)...)
	if found {
		lines = append(lines, frameOf(v.name, newest.ID, newest.Kind, newest.Version, newest.Payload))
	}
	if item := d.newest[r.kind]; item != nil {
		lines = append(lines, item.object(v.name, r.kind))
	}
	return lines
}

// objects are what the substrates keep, as far as it was read.
func (d *detail) objects(v *view) (lines []any) {
	for _, p := range d.pulses {
		lines = append(lines, pulseOf(v, p))
	}
	for _, h := range d.holders {
		lines = append(lines, holderOf(v.name, &h))
	}
	for _, p := range d.keys {
		lines = append(lines, cacheOf(v, p))
	}
	return lines
}
