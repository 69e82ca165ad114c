package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"orbit"
)

// A view is what an observer finds of a fleet, sound or not. Taking it joins
// nothing and changes nothing.
type view struct {
	name    string
	fleet   *orbit.Fleet // nil if the roster is not sound, and err says why
	err     error
	members []orbit.Member
	rings   []*ringView
	roster  int64     // size of the roster's segment, -1 if unknown
	opened  time.Time // when a segment was last opened to write, zero if unknown
}

// A ringView is one ring of a view.
type ringView struct {
	kind uint8
	ring *orbit.Ring // nil if the segment is not sound, and err says why
	err  error
	size int64 // of the segment, -1 if unknown
}

// errNoRoster says why rings cannot be opened: the roster vouches for who
// wrote what.
var errNoRoster = errors.New("the roster of the fleet is not sound")

// lookAt observes a fleet and all its rings. Close the view after use.
func lookAt(name string) (*view, error) {
	v := &view{name: name, roster: -1}
	v.fleet, v.err = observe(name)
	found := segments(name)
	switch {
	case errors.Is(v.err, orbit.ErrName), errors.Is(v.err, errors.ErrUnsupported):
		return nil, v.err
	case errors.Is(v.err, orbit.ErrNotExist) && len(found) > 0:
		v.err = fmt.Errorf("fleet %q has segments of rings, but no roster", name)
	case errors.Is(v.err, orbit.ErrNotExist):
		return nil, v.err
	}
	sizes := map[uint8]int64{}
	for _, s := range found {
		sizes[s.kind] = s.size
		if s.opened.After(v.opened) {
			v.opened = s.opened
		}
	}
	if size, ok := sizes[0]; ok {
		v.roster = size
	}
	if v.fleet == nil {
		for _, s := range found {
			if s.kind != 0 {
				v.rings = append(v.rings, &ringView{kind: s.kind, err: errNoRoster, size: s.size})
			}
		}
		return v, nil
	}
	err := v.open(sizes)
	if err == nil {
		v.members, err = v.fleet.Members()
	}
	if err != nil {
		v.fleet, v.err = nil, err
	}
	return v, nil
}

// open opens all rings that there are.
func (v *view) open(sizes map[uint8]int64) error {
	kinds, err := kindsOf(v.fleet)
	for _, kind := range kinds {
		ring, err := v.fleet.Ring(kind)
		if errors.Is(err, orbit.ErrNotExist) {
			continue // removed since
		}
		r := &ringView{kind: kind, ring: ring, err: err, size: -1}
		if size, ok := sizes[kind]; ok {
			r.size = size
		}
		v.rings = append(v.rings, r)
	}
	return err
}

func (v *view) close() {
	if v.fleet != nil {
		v.fleet.Close()
	}
}

// ring returns the view of one ring, which must be sound.
func (v *view) ring(kind uint8) (*ringView, error) {
	if v.fleet == nil {
		return nil, v.err
	}
	i := slices.IndexFunc(v.rings, func(r *ringView) bool { return r.kind == kind })
	if i < 0 {
		return nil, within(fmt.Sprintf("ring %d of fleet %q", kind, v.name), orbit.ErrNotExist)
	}
	return v.rings[i], v.rings[i].err
}

// size adds up what is known of the sizes of the segments.
func (v *view) size() (sum int64) {
	for _, r := range v.rings {
		sum += max(r.size, 0)
	}
	return sum + max(v.roster, 0)
}

// A segment is an object in shared memory under the name of one of a fleet's.
type segment struct {
	kind   uint8
	size   int64
	opened time.Time // when it was last opened to write
	stays  string    // why [orbit.Remove] leaves it where it is, "" if it goes
}
