package main

import (
	"errors"
	"slices"

	"orbit"
)

// An attachment observes whatever fleet has a name. A fleet can be removed, and
// another one can begin under its name; the mapping of an observer then stays
// what it was, and so the attachment looks now and then.
type attachment struct {
	name  string
	fleet *orbit.Fleet // nil while no fleet has the name

	// leave, if set, is called before the view of a fleet that is over is
	// closed: what was published last can still be read in it.
	leave func()
}

// A turn is what became of the fleet between two looks.
type turn int

const (
	stays  turn = iota
	begins      // a fleet has the name that had not before
	ends        // no fleet has the name any more
)

// look attaches to the fleet that has the name now.
func (a *attachment) look() (turn, error) {
	if a.fleet != nil {
		// With a member in it, a fleet cannot be removed.
		if members, err := a.fleet.Members(); err == nil && len(members) > 0 {
			return stays, nil
		}
	}
	now, err := orbit.Observe(a.name)
	switch {
	case errors.Is(err, orbit.ErrNotExist):
		if a.fleet == nil {
			return stays, nil
		}
		a.part()
		return ends, nil
	case err != nil:
		return stays, err
	case a.fleet != nil && sameFleet(a.fleet, now):
		now.Close()
		return stays, nil
	}
	a.part()
	a.fleet = now
	return begins, nil
}

// part closes the view of a fleet that is over.
func (a *attachment) part() {
	if a.fleet != nil && a.leave != nil {
		a.leave()
	}
	a.close()
}

func (a *attachment) close() {
	if a.fleet != nil {
		a.fleet.Close()
		a.fleet = nil
	}
}

// sameFleet tells whether two observers with the same name see one fleet.
// Whoever is a member in one all the while is then a member in the other as
// well. With no members nothing moves, and what the rings say can be compared.
func sameFleet(old, now *orbit.Fleet) bool {
	before, err1 := now.Members()
	there, err2 := old.Members()
	after, err3 := now.Members()
	if errors.Join(err1, err2, err3) != nil {
		return false
	}
	for _, m := range before {
		if hasMember(after, m) {
			return hasMember(there, m)
		}
	}
	return sameHeads(old, now)
}

func hasMember(list []orbit.Member, m orbit.Member) bool {
	return slices.ContainsFunc(list, func(o orbit.Member) bool { return o.Node == m.Node && o.PID == m.PID })
}

func sameHeads(old, now *orbit.Fleet) bool {
	kinds, err := now.Kinds()
	if err != nil {
		return true // nothing can be listed here, and so it cannot be told
	}
	for _, kind := range kinds {
		a, err1 := old.Ring(kind)
		b, err2 := now.Ring(kind)
		if (err1 == nil) != (err2 == nil) || err1 == nil && a.Head() != b.Head() {
			return false
		}
	}
	return true
}
