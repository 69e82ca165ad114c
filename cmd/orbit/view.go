package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
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
	case errors.Is(v.err, orbit.ErrName):
		return nil, usagef("%s", plain(v.err))
	case errors.Is(v.err, errors.ErrUnsupported):
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
	v.open(sizes)
	members, err := v.fleet.Members()
	if err != nil {
		v.fleet, v.err = nil, err
	}
	v.members = members
	return v, nil
}

// open opens all rings that there are. Not every system can list them, but
// each can say that one does not exist.
func (v *view) open(sizes map[uint8]int64) {
	for kind := 1; kind <= 255; kind++ {
		ring, err := v.fleet.Ring(uint8(kind))
		if errors.Is(err, orbit.ErrNotExist) {
			continue
		}
		r := &ringView{kind: uint8(kind), ring: ring, err: err, size: -1}
		if size, ok := sizes[r.kind]; ok {
			r.size = size
		}
		v.rings = append(v.rings, r)
	}
}

func (v *view) close() {
	if v.fleet != nil {
		v.fleet.Close()
	}
}

// ring returns the view of one ring.
func (v *view) ring(kind uint8) (*ringView, error) {
	i := slices.IndexFunc(v.rings, func(r *ringView) bool { return r.kind == kind })
	if i < 0 {
		return nil, fmt.Errorf("ring %d of fleet %q: %w", kind, v.name, orbit.ErrNotExist)
	}
	return v.rings[i], nil
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

// plain writes an error without the name of the library in front.
func plain(err error) string { return strings.TrimPrefix(err.Error(), "orbit: ") }

// sizeText is bytesText for a size that may be unknown.
func sizeText(size int64) string {
	if size < 0 {
		return "-"
	}
	return bytesText(size)
}

// counted writes a number of things, as in "1 ring" or "2 rings".
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// known is nil for what is not known, which is null in JSON.
func known[T any](v T, ok bool) *T {
	if !ok {
		return nil
	}
	return &v
}

// errorText is what JSON says of an error.
func errorText(err error) *string {
	if err == nil {
		return nil
	}
	text := plain(err)
	return &text
}
